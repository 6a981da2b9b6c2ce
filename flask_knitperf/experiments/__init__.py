"""Experiments: they run the application on purpose, outside of its workers."""
