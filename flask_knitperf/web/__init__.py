"""The dashboard: the guard in front of every page, and the blueprint behind it."""
