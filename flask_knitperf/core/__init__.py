"""Foundations without a dependency: settings, errors, clock, locks, units."""
