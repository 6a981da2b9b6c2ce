"""Collectors: each observes one thing and writes it through the recorder."""
