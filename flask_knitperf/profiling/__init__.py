"""Collectors of what the application does: requests, sections, functions, hooks, collections."""
