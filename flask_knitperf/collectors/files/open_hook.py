"""Files that the application opens itself: what reading them takes, where that is asked for.

``open`` is replaced by a function that calls it, but for files with certain endings that are opened for
reading within a request. Those are put together from the same classes as ever, above a raw file that
takes the time of each piece that is read. What the application makes of the pieces is not reading.
"""

from __future__ import annotations

import builtins
import functools
import io
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from ...core.code_locations import caller
from ...core.locks import Lock
from ...recording.span import Span, current
from .file_reads import PART, READS, Read

_NAME = "open"
_PLACES: tuple[Any, ...] = (builtins, io)
_TEXT, _BINARY = ("r", "rt", "tr"), ("rb", "br")


class _Raw(io.FileIO):
    """A file that takes the time of what is read within the request that opened it."""

    def __init__(self, path: str, span: Span, place: str, found: os.stat_result) -> None:
        super().__init__(path, "r")
        self._span, self._place, self._found = span, place, found
        self._read: Read | None = None

    def readinto(self, buffer: Any) -> Any:
        return self._timed(super().readinto, buffer)

    def readall(self) -> Any:
        return self._timed(super().readall)

    def _timed(self, read: Callable[..., Any], *args: Any) -> Any:
        span = self._span
        if current() is not span:  # in another thread, or after its request
            return read(*args)
        clock, sampled = span.owner.clock, span.cpu_began is not None
        cpu, began = clock.runnable_ns() if sampled else 0, clock.monotonic_ns()
        piece = read(*args)
        ended = clock.monotonic_ns()
        used = clock.runnable_ns() - cpu if sampled else 0
        try:
            size = piece if isinstance(piece, int) else len(piece or b"")
            self._note(began, ended, used, size)
        except Exception as error:
            span.owner.failed("file reads", error)
        return piece

    def _note(self, began: int, ended: int, cpu: int, size: int) -> None:
        around = self._span.around()
        around.inside += ended - began
        around.cpu_inside += cpu
        read = self._read
        if read is not None and not read.counted:
            read.ended = ended
            read.took += ended - began
            read.own += ended - began
            read.cpu += cpu
            read.size += size
            return
        fresh = self._read = Read(PART, _NAME, self._place)
        fresh.path, fresh.found = os.fsdecode(self.name), self._found
        fresh.began, fresh.ended, fresh.cpu, fresh.size = began, ended, cpu, size
        fresh.took = fresh.own = ended - began
        fresh.rows = -1 if read is None else None  # the rest of what was counted is no other read
        READS.add(self._span, fresh)


class Watch:
    """Puts itself in front of ``open`` while at least one application wants it."""

    def __init__(self) -> None:
        self._wanted: Counter[str] = Counter()
        self._endings: tuple[str, ...] = ()
        self._turn = Lock()
        self._original: Callable[..., Any] | None = None
        self._ours: Callable[..., Any] | None = None

    @property
    def watching(self) -> bool:
        """Whether ``open`` is replaced now."""
        return self._original is not None

    def hold(self, endings: Iterable[str]) -> None:
        """Want files with some endings to be watched."""
        with self._turn:
            self._wanted.update(endings)
            self._turned()

    def let_go(self, endings: Iterable[str]) -> None:
        """Stop wanting it; the last one puts everything back."""
        with self._turn:
            self._wanted -= Counter(endings)
            self._turned()

    def _turned(self) -> None:
        self._endings = tuple(self._wanted)
        if self._endings and self._original is None:
            original = self._original = builtins.open
            self._ours = self._watched(original)
            for module in _PLACES:
                module.open = self._ours
        elif not self._endings and self._original is not None:
            for module in _PLACES:
                if module.open is self._ours:
                    module.open = self._original
            self._original = self._ours = None

    def _watched(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def opened(
            file: Any, mode: str = "r", buffering: int = -1, encoding: str | None = None,
            errors: str | None = None, newline: str | None = None, closefd: bool = True,
            opener: Any = None,
        ) -> Any:  # fmt: skip
            span = current()
            if span is not None and buffering == -1 and closefd and opener is None:
                text = mode in _TEXT
                if text or (mode in _BINARY and encoding is errors is newline is None):
                    raw = self._raw(span, file)
                    if raw is not None:
                        if text:
                            encoding = io.text_encoding(encoding, 2)
                        return _whole(raw, (encoding, errors, newline) if text else None, mode)
            return original(file, mode, buffering, encoding, errors, newline, closefd, opener)

        return opened

    def _raw(self, span: Span, file: Any) -> _Raw | None:
        """Return a file that is to be watched, open; ``None`` for any other.

        Raises:
            OSError: it cannot be opened.
        """
        try:
            path = os.fspath(file)
            if not isinstance(path, str) or not path.lower().endswith(self._endings):
                return None
            if span.note().reading:  # pandas opens it, whose time is taken as a whole
                return None
            found = os.stat(path)
            if not stat.S_ISREG(found.st_mode):
                return None
            place = caller(3)
        except (TypeError, OSError, ValueError):
            return None
        return _Raw(path, span, place, found)


def _whole(raw: _Raw, text: tuple[Any, Any, Any] | None, mode: str) -> Any:
    """Return what ``open`` returns, above a raw file."""
    try:
        size = max(io.DEFAULT_BUFFER_SIZE, getattr(raw._found, "st_blksize", 0))
        buffered = io.BufferedReader(raw, size)
        if text is None:
            return buffered
        made = io.TextIOWrapper(buffered, *text)
        made.mode = mode  # type: ignore[misc]
        return made
    except BaseException:
        raw.close()
        raise


WATCH = Watch()
