"""Bytes as people say them: one way for pages, terminals, logs and notebooks."""

from __future__ import annotations

MB = 1 << 20
"""Bytes of a megabyte, here and wherever a name ends in ``_mb``."""
_UNITS = (("GB", 1 << 30), ("MB", MB), ("KB", 1 << 10))


def amount(count: float) -> str:
    """Return bytes in units of 1,024 each: ``310 bytes``, ``2.1 KB``, ``340 MB``."""
    for unit, worth in _UNITS:
        if abs(count) >= 0.9995 * worth:
            number = count / worth
            return f"{number:.1f} {unit}" if abs(number) < 99.95 else f"{number:,.0f} {unit}"
    return f"{count:.0f} bytes"
