"""Instrumentation of Flask and of other extensions, one module each."""
