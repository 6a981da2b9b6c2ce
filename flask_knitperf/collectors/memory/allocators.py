"""Bytes that the allocators of this process have handed out and not got back.

Resident memory is a poor measure of what a request keeps: it moves in whole pages, and freed memory
returns to the system late or never. The allocators themselves count what is in use: the C library's
(numpy arrays and every block above 512 bytes), Python's own for small objects, and Arrow's pool. A
request that keeps 2 KB is visible there immediately. One reading costs about a tenth of a millisecond,
more in a fragmented heap, so only the housekeeper and a few sampled requests take one.

Python's allocator publishes the number of its blocks cheaply, but their bytes only in a printed table of
its size classes (:func:`sys._debugmallocstats`). It is printed into memory here. Blocks range from 16 to
512 bytes, so that their number times a mean size may be wrong by a factor of three.
"""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

BYTES_PER_BLOCK = 96
"""Assumed mean size of a pymalloc block in bytes where the size classes cannot be read."""
MAX_TABLED_BLOCKS = 50_000_000
"""Number of blocks above which the size classes are not read: that walks all pools, under the GIL."""
_ALLOCATED = re.compile(rb"# bytes in allocated blocks\s*=\s*([\d,]+)")


class AllocatedBytes(NamedTuple):
    """Bytes in use in the two heaps of a process.

    Attributes:
        large: bytes in use in the C library's heap and in Arrow's pool; exact.
        small: bytes in use for objects up to 512 bytes (pymalloc), rounded up to blocks of multiples of
            16 bytes; :data:`BYTES_PER_BLOCK` for each where the size classes cannot be read.
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


def pymalloc_meter() -> Callable[[], int | None] | None:
    """Return a function that reads the bytes in use for small objects.

    The function returns ``None`` in an interpreter that allocates them in another way
    (``PYTHONMALLOC``, free threading).

    Returns:
        ``None`` where the interpreter or the C library lacks the functions for it.
    """
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    print_table = getattr(ctypes.pythonapi, "_PyObject_DebugMallocStats", None)
    open_stream = getattr(libc, "open_memstream", None)
    if print_table is None or open_stream is None:
        return None
    print_table.argtypes = [ctypes.c_void_p]
    open_stream.argtypes, open_stream.restype = [ctypes.c_void_p, ctypes.c_void_p], ctypes.c_void_p
    libc.fclose.argtypes = libc.free.argtypes = [ctypes.c_void_p]

    def bytes_in_use() -> int | None:
        text, length = ctypes.c_void_p(), ctypes.c_size_t()
        stream = open_stream(ctypes.byref(text), ctypes.byref(length))
        if not stream:
            return None
        print_table(stream)
        libc.fclose(stream)
        try:
            match = _ALLOCATED.search(ctypes.string_at(text, length.value))
        finally:
            libc.free(text)
        return None if match is None else int(match[1].replace(b",", b""))

    return bytes_in_use


_PYMALLOC = pymalloc_meter()


def small_bytes() -> int:
    """Return the bytes in use for objects up to 512 bytes."""
    blocks = sys.getallocatedblocks()
    used = _PYMALLOC() if _PYMALLOC is not None and blocks <= MAX_TABLED_BLOCKS else None
    return blocks * BYTES_PER_BLOCK if used is None else used


def arrow_bytes() -> int:
    """Return the bytes in use in Arrow's default pool, 0 where pyarrow is not loaded."""
    pyarrow: Any = sys.modules.get("pyarrow")
    total_allocated_bytes = getattr(pyarrow, "total_allocated_bytes", None)
    return 0 if total_allocated_bytes is None else int(total_allocated_bytes())


def allocated_bytes() -> AllocatedBytes | None:
    """Return the bytes in use, ``None`` where :func:`malloc_meter` has no reading."""
    if _MALLOC is None:
        return None
    small = small_bytes()
    return AllocatedBytes(_MALLOC() + arrow_bytes(), small)
