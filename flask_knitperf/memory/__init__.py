"""Collectors of memory: gauges of the process, and the collections that the housekeeper makes."""
