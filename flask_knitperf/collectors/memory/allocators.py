"""How many bytes this process has allocated, as its allocators count them.

Resident memory tells what the system lent; it moves in pages, and what was freed comes back late or
never. The allocators know to the byte what is in use: the C library's (numpy's arrays and all that is
larger than 512 bytes), Python's own for small objects, which counts blocks, and Arrow's pool. A request
that keeps 2 KB shows there at once. A reading costs some 30 µs, more in a fragmented heap; it is for
the housekeeper and for few requests.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

BLOCK = 96
"""Bytes of a block of Python's allocator, on the average: 97 in a process with Flask and pandas."""


class Used(NamedTuple):
    """Bytes in use.

    Attributes:
        large: what the C library and Arrow's pool have handed out, to the byte.
        small: blocks of Python's own allocator, for objects up to 512 bytes, at their usual size.
    """

    large: int
    small: int


class _Mallinfo2(ctypes.Structure):
    """What glibc from 2.33 on tells of all its arenas."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks",
                     "uordblks", "fordblks", "keepcost")
    ]  # fmt: skip


def malloc_meter() -> Callable[[], int] | None:
    """Return what tells the bytes that ``malloc`` has handed out, ``None`` where nothing does."""
    if sys.platform != "linux":
        return None
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo is None:
        return None
    mallinfo.restype, mallinfo.argtypes = _Mallinfo2, []

    def used() -> int:
        told = mallinfo()
        return int(told.uordblks + told.hblkhd)

    return used


_MALLOC = malloc_meter()


def arrow() -> int:
    """Return the bytes that Arrow's pool has handed out, 0 where it is not loaded."""
    pyarrow: Any = sys.modules.get("pyarrow")
    tell = getattr(pyarrow, "total_allocated_bytes", None)
    return 0 if tell is None else int(tell())


def allocated() -> Used | None:
    """Return the bytes in use, ``None`` where the C library does not tell (other than glibc 2.33)."""
    if _MALLOC is None:
        return None
    return Used(_MALLOC() + arrow(), sys.getallocatedblocks() * BLOCK)
