"""Ids of endpoints on a page."""

from __future__ import annotations

import zlib


def anchor(method: str, endpoint: str) -> str:
    """Return the id of an endpoint's row, unique even where names differ in punctuation only."""
    safe = "".join(c if c.isalnum() else "-" for c in f"{method}-{endpoint}")
    return f"e-{safe}-{zlib.crc32(endpoint.encode()):08x}"
