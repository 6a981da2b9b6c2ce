"""Reader of stacks: converts the frames of a thread to stack frames of the profile, outermost first.

A frame of a library becomes a function, a frame of the application a line, and a frame of this package
nothing. The result for each code object is cached, since this runs for every frame of every sample.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import CodeType, FrameType
from typing import NamedTuple

from ...core.code_locations import is_ours, is_own, line_of, loops, short
from ...metrics.stack_trie import StackFrame
from .c_calls import called

MAX_DEPTH = 250
"""Number of frames read from one stack, the innermost."""
_MAX_CODES = 10_000

_POOL = "_WorkItem.run"
"""Function of a thread pool that calls the functions submitted to it."""
_ROOT = StackFrame("", 0, "", False)
"""Stack frame of the code below which a stack belongs to the server."""


class _CachedCode(NamedTuple):
    """Cache entry of a code object.

    Attributes:
        stack_frame: of a library's code, :data:`_ROOT`, or ``None`` for code of this package.
        lines: of application code: stack frames by bytecode offset.
        calls: of application code: stack frames of C functions that it calls, by bytecode offset.
        code: the code object itself: the cache is by id, so the object must live.
    """

    stack_frame: StackFrame | None
    lines: dict[int, StackFrame] | None
    calls: dict[int, StackFrame | None]
    code: CodeType


class StackReader:
    """Reads stacks of one application.

    Args:
        root_frames: code below which a stack belongs to the server, and is not shown.
    """

    def __init__(self, root_frames: Iterable[CodeType]) -> None:
        self._roots = tuple(root_frames)
        self._cache: dict[int, _CachedCode] = {}
        self._clear()

    def _clear(self) -> None:
        self._cache = {id(code): _CachedCode(_ROOT, None, {}, code) for code in self._roots}

    def stack(self, frame: FrameType | None) -> list[StackFrame]:
        """Return the frames of a thread's stack above the root, the outermost first.

        Args:
            frame: the innermost frame of the thread.
        """
        path: list[StackFrame] = []
        cache, append = self._cache, path.append
        for _ in range(MAX_DEPTH):
            if frame is None:
                break
            code = frame.f_code
            stack_frame, lines, calls, _ = cache.get(id(code)) or self._classify(code)
            if lines is not None:
                if not path:  # frames of ours pass a call on
                    _append_called(path, calls, frame)
                stack_frame = lines.get(frame.f_lasti) or self._line(code, lines, frame)
            elif stack_frame is _ROOT:
                break
            if stack_frame is not None:
                append(stack_frame)
            frame = frame.f_back
        path.reverse()
        return path

    def task(self, frame: FrameType) -> list[StackFrame]:
        """Return the frames of a function that a thread pool calls, the outermost first.

        Args:
            frame: the innermost frame of the pool's thread.
        """
        path = self.stack(frame)
        for number in range(len(path) - 1, -1, -1):
            if path[number].function == _POOL:
                return path[number + 1 :]
        return path

    def convert(self, frames: Iterable[FrameType]) -> list[StackFrame]:
        """Return the stack frames of some frames, in their order."""
        path: list[StackFrame] = []
        innermost: tuple[dict[int, StackFrame | None], FrameType] | None = None
        for frame in frames:
            stack_frame, lines, calls, _ = self._cache.get(id(frame.f_code)) or self._classify(
                frame.f_code
            )
            if lines is not None:
                stack_frame = lines.get(frame.f_lasti) or self._line(frame.f_code, lines, frame)
            if stack_frame is not None and stack_frame is not _ROOT:
                path.append(stack_frame)
            if lines is not None:
                innermost = calls, frame
            elif stack_frame is not None:  # a frame of ours passes a call on
                innermost = None
        if innermost is not None:
            _append_called(path, *innermost)
        return path

    def _classify(self, code: CodeType) -> _CachedCode:
        """Return the cache entry of a code object, and store it."""
        if len(self._cache) >= _MAX_CODES:
            self._clear()
        if is_own(code):
            entry = _CachedCode(None, {}, {}, code)
        elif is_ours(code):
            entry = _CachedCode(None, None, {}, code)
        else:
            file, _, _ = short(code.co_filename, 0).rpartition(":")
            entry = _CachedCode(StackFrame(file, 0, code.co_qualname, False), None, {}, code)
        self._cache[id(code)] = entry
        return entry

    def _line(self, code: CodeType, lines: dict[int, StackFrame], frame: FrameType) -> StackFrame:
        """Return the stack frame of a line of application code, and store it."""
        file, _, _ = short(code.co_filename, 0).rpartition(":")
        line, step = line_of(frame), frame.f_lasti
        around = tuple(first for first, last in loops(code) if first <= step <= last)
        stack_frame = lines[step] = StackFrame(file, line, code.co_qualname, True, around)
        return stack_frame


def _append_called(
    path: list[StackFrame], calls: dict[int, StackFrame | None], frame: FrameType
) -> None:
    """Append the C function that an innermost frame of the application is calling, if any.

    Args:
        path: the stack.
        calls: by bytecode offset; extended.
        frame: the innermost frame.
    """
    step = frame.f_lasti
    if step not in calls:
        calls[step] = called(frame)
    stack_frame = calls[step]
    if stack_frame is not None:
        path.append(stack_frame)
