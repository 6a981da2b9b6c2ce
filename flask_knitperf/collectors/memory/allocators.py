"""Bytes that the allocators of this process have handed out and not got back.

Resident memory is a poor measure of what a request keeps: it moves in whole pages, and freed memory
returns to the system late or never. The allocators themselves count what is in use: the C library's
(numpy arrays and every block above 512 bytes), Python's own for small objects (it counts blocks), and
Arrow's pool. A request that keeps 2 KB is visible there immediately. One reading costs about 30 µs,
more in a fragmented heap, so only the housekeeper and a few sampled requests take one.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

BYTES_PER_BLOCK = 96
"""Mean size of a pymalloc block in bytes; 97 was measured in a process with Flask and pandas."""


class AllocatedBytes(NamedTuple):
    """Bytes in use in the two heaps of a process.

    Attributes:
        large: bytes in use in the C library's heap and in Arrow's pool; exact.
        small: bytes in use for objects up to 512 bytes (pymalloc); blocks times their mean size.
    """

    large: int
    small: int


class _Mallinfo2(ctypes.Structure):
    """``struct mallinfo2`` of glibc 2.33 and later: totals over all arenas."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks",
                     "uordblks", "fordblks", "keepcost")
    ]  # fmt: skip


def malloc_meter() -> Callable[[], int] | None:
    """Return a function that reads the bytes in use in ``malloc``'s heap.

    Returns:
        ``None`` where the C library does not publish that (anything but glibc 2.33 and later).
    """
    if sys.platform != "linux":
        return None
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo is None:
        return None
    mallinfo.restype, mallinfo.argtypes = _Mallinfo2, []

    def bytes_in_use() -> int:
        info = mallinfo()
        return int(info.uordblks + info.hblkhd)

    return bytes_in_use


_MALLOC = malloc_meter()


def arrow_bytes() -> int:
    """Return the bytes in use in Arrow's default pool, 0 where pyarrow is not loaded."""
    pyarrow: Any = sys.modules.get("pyarrow")
    total_allocated_bytes = getattr(pyarrow, "total_allocated_bytes", None)
    return 0 if total_allocated_bytes is None else int(total_allocated_bytes())


def allocated_bytes() -> AllocatedBytes | None:
    """Return the bytes in use, ``None`` where :func:`malloc_meter` has no reading."""
    if _MALLOC is None:
        return None
    return AllocatedBytes(_MALLOC() + arrow_bytes(), sys.getallocatedblocks() * BYTES_PER_BLOCK)
