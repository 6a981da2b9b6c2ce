"""A picture of shades of one colour as PNG, small enough to stand in a page.

Shades are degrees of opacity, so that one picture suits a light and a dark page.

Source: W3C, "Portable Network Graphics (PNG) Specification (Third Edition)".
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence

SHADES = 16
"""Number of shades, the first of which is invisible."""
_COLOR = bytes((0x4F, 0x6F, 0xF0))
_INDEXED = 3  # colour type


def shades_png(rows: Sequence[bytes]) -> bytes:
    """Return a picture.

    Args:
        rows: from top to bottom, a shade below :data:`SHADES` for each pixel.
    """
    opacity = bytes(round(255 * shade / (SHADES - 1)) for shade in range(SHADES))
    size = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, _INDEXED, 0, 0, 0)
    lines = b"".join(b"\0" + row for row in rows)  # each with the filter "none"
    chunks = (
        (b"IHDR", size), (b"PLTE", _COLOR * SHADES), (b"tRNS", opacity),
        (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""),
    )  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    check = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)


def data_url(png: bytes) -> str:
    """Return a picture as the address of an image."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
