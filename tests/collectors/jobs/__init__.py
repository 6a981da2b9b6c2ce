"""Tests of :mod:`flask_knitperf.collectors.jobs`."""
