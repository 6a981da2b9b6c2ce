"""Keys of the application on several hosts (:mod:`.hosts_mill`)."""

KEYS = 16
SIZE = 8 * KEYS
"""Bytes of the file with their numbers."""
