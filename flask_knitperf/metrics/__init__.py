"""Metrics: what can be observed, and how observations become totals. Pure: no file, no clock."""
