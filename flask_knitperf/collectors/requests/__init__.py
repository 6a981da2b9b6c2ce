"""Requests: their times, status, sections and exemplars."""
