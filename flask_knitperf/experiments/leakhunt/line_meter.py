"""Attribution of native memory to lines: an allocator's counter is read around each line that runs.

The counter is that of C's ``malloc`` or of Arrow's pool (:mod:`...collectors.memory.allocators`), which
are exact to the byte.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any, NamedTuple

CodeLine = tuple[str, int]
"""File and line number."""
_MIN_SHARE = 0.1
"""Share of the retained bytes below which a line is not listed."""
_MATCH_WITHIN = 0.5
"""Relative distance to the retained bytes within which a line matches them."""


class _CallStack(threading.local):
    """Lines that run in a thread, the innermost last."""

    def __init__(self) -> None:
        self.lines: list[CodeLine] = []


class LineMeter:
    """Sums by line of the application how a counter changes while the line runs.

    A line that allocates memory which another one frees counts in full, and the other one negatively;
    the variables of a function are freed on the line that called it.

    Args:
        read: reads the counter.
        is_own: whether a file belongs to the application.
    """

    def __init__(self, read: Callable[[], int], is_own: Callable[[str], bool]) -> None:
        self._read = read
        self._is_own = is_own
        self._own_code: dict[CodeType, bool] = {}
        self._stack = _CallStack()
        self._last = 0
        self.changes: dict[CodeLine, int] = {}

    @contextmanager
    def measure(self) -> Iterator[None]:
        """Measure the body, in this thread and in the threads that it starts."""
        previous = sys.gettrace()
        self._stack.lines.clear()
        self._last = self._read()
        threading.settrace(self._trace_call)
        sys.settrace(self._trace_call)
        try:
            yield
        finally:
            sys.settrace(previous)
            threading.settrace(None)
            self._charge()

    def _charge(self) -> None:
        """Add the change since the last reading to the line that ran."""
        change = self._read() - self._last
        if change and self._stack.lines:
            line = self._stack.lines[-1]
            self.changes[line] = self.changes.get(line, 0) + change

    def _trace_call(self, frame: FrameType, event: str, _: Any) -> Any:
        code = frame.f_code
        is_own = self._own_code.get(code)
        if is_own is None:
            is_own = self._own_code[code] = self._is_own(code.co_filename)
        if not is_own or event != "call":
            return None
        self._charge()
        self._stack.lines.append((code.co_filename, frame.f_lineno))
        self._last = self._read()
        return self._trace_line

    def _trace_line(self, frame: FrameType, event: str, _: Any) -> Any:
        self._charge()
        lines = self._stack.lines
        if event == "return" and lines:
            lines.pop()
        elif event == "line" and lines:
            lines[-1] = (frame.f_code.co_filename, frame.f_lineno)
        self._last = self._read()
        return self._trace_line


class LineAllocation(NamedTuple):
    """Memory that a line allocates per request.

    Attributes:
        line: file and line number.
        bytes_per_request: allocated, less what the line itself frees.
        matches: whether that is about the retained amount.
    """

    line: CodeLine
    bytes_per_request: float
    matches: bool


def likely_lines(
    changes: dict[CodeLine, int], requests: int, retained: float
) -> list[LineAllocation]:
    """Return the lines that may allocate the retained memory, the likeliest first.

    A line may allocate what another one frees, so the largest is not always the right one.

    Args:
        changes: bytes by line.
        requests: number of measured requests.
        retained: bytes per request that are retained.
    """
    lines = []
    for line, total in changes.items():
        allocated = total / requests
        if allocated >= retained * _MIN_SHARE:
            matches = abs(allocated - retained) <= retained * _MATCH_WITHIN
            lines.append(LineAllocation(line, allocated, matches))
    return sorted(
        lines, key=lambda line: (not line.matches, abs(line.bytes_per_request - retained))
    )
