"""Which line takes memory that Python does not know of: a figure is read around each line that runs.

The figure is what C's ``malloc`` or Arrow's pool has handed out
(:mod:`...collectors.memory.allocators`), known to the byte.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any

Site = tuple[str, int]


class _Here(threading.local):
    """Where each thread is: the lines of its calls, the innermost last."""

    def __init__(self) -> None:
        self.at: list[Site] = []


class LineMeter:
    """Adds up by line of own code how a figure changes while the line runs.

    A line that takes memory which another gives back counts in full, and the other negatively; what a
    function's variables held is given back on the line that called it.

    Args:
        read: the figure.
        is_own: whether a file is the application's.
    """

    def __init__(self, read: Callable[[], int], is_own: Callable[[str], bool]) -> None:
        self._read = read
        self._is_own = is_own
        self._own: dict[CodeType, bool] = {}
        self._here = _Here()
        self._last = 0
        self.changes: dict[Site, int] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Measure what runs inside, in this thread and in those that it starts."""
        before = sys.gettrace()
        self._here.at.clear()
        self._last = self._read()
        threading.settrace(self._called)
        sys.settrace(self._called)
        try:
            yield
        finally:
            sys.settrace(before)
            threading.settrace(None)
            self._change()

    def _change(self) -> None:
        """Charge what changed since the last time to the line that ran."""
        changed = self._read() - self._last
        if changed and self._here.at:
            site = self._here.at[-1]
            self.changes[site] = self.changes.get(site, 0) + changed

    def _called(self, frame: FrameType, event: str, _: Any) -> Any:
        code = frame.f_code
        own = self._own.get(code)
        if own is None:
            own = self._own[code] = self._is_own(code.co_filename)
        if not own or event != "call":
            return None
        self._change()
        self._here.at.append((code.co_filename, frame.f_lineno))
        self._last = self._read()
        return self._ran

    def _ran(self, frame: FrameType, event: str, _: Any) -> Any:
        self._change()
        at = self._here.at
        if event == "return" and at:
            at.pop()
        elif event == "line" and at:
            at[-1] = (frame.f_code.co_filename, frame.f_lineno)
        self._last = self._read()
        return self._ran


def likeliest(
    changes: dict[Site, int], requests: int, kept: float
) -> list[tuple[Site, float, bool]]:
    """Return lines with bytes per request and whether that is about what is kept, such lines first.

    A line may also have taken what another gave back, so the largest is not always the one.

    Args:
        changes: bytes by line.
        requests: how many were measured.
        kept: bytes of a request that stay.
    """
    found = [(site, size / requests, abs(size / requests - kept) <= kept / 2)
             for site, size in changes.items() if size / requests >= kept / 10]  # fmt: skip
    return sorted(found, key=lambda each: (not each[2], abs(each[1] - kept)))
