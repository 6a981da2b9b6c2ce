"""Hook for ``open``: times the reads of files that the application opens itself. Opt-in.

``open`` is replaced by a function that passes the call on, except for files with configured suffixes
that are opened for reading within a request. Those are built from the standard :mod:`io` classes on top
of a raw file that times each read. Time that the application spends on the content is not reading.
"""

from __future__ import annotations

import builtins
import functools
import io
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable
from threading import get_ident
from typing import Any

from ...caching.file_watch import FILE_WATCH
from ...core.code_locations import caller
from ...core.host_exceptions import raise_if_of_host
from ...core.locks import create_lock
from ...recording.span import Span, current
from .file_reads import FILE_READS, PART, Read

_READER = "open"
_PATCHED_MODULES: tuple[Any, ...] = (builtins, io)
_TEXT_MODES = ("r", "rt", "tr")
_BINARY_MODES = ("rb", "br")


class _TimedFile(io.FileIO):
    """Raw file that times reads within the request that opened it."""

    def __init__(self, path: str, span: Span, call_site: str, stat_result: os.stat_result) -> None:
        super().__init__(path, "r")
        self._span, self._call_site, self._stat = span, call_site, stat_result
        self._read: Read | None = None

    def readinto(self, buffer: Any) -> Any:
        return self._timed(super().readinto, buffer)

    def readall(self) -> Any:
        return self._timed(super().readall)

    def _timed(self, read: Callable[..., Any], *args: Any) -> Any:
        span = self._span
        if current() is not span:  # in another thread, or after its request
            return read(*args)
        clock, sampled, before = span.owner.clock, span.cpu_began is not None, span.nested()[0]
        cpu, began = clock.runnable_ns() if sampled else 0, clock.monotonic_ns()
        chunk = read(*args)
        ended = clock.monotonic_ns()
        used = clock.runnable_ns() - cpu if sampled else 0
        try:
            size = chunk if isinstance(chunk, int) else len(chunk or b"")
            own = span.scope().take_work(began, ended, before)
            span.scope().nested_cpu_ns += used
            self._add_chunk(began, ended, own, used, size)
        except Exception as error:
            span.owner.failed("file reads", error)
        return chunk

    def _add_chunk(self, began: int, ended: int, own: int, cpu: int, size: int) -> None:
        read = self._read
        if read is not None and not read.counted:
            read.ended = ended
            read.wall += ended - began
            read.own += own
            read.cpu += cpu
            read.size += size
            return
        first = self._read = Read(PART, _READER, self._call_site)
        first.path, first.stat = os.fsdecode(self.name), self._stat
        first.began, first.ended, first.cpu, first.size = began, ended, cpu, size
        first.wall, first.own = ended - began, own
        # the remainder of a read that was counted already is a part, but not another read
        first.rows = -1 if read is None else None
        FILE_READS.add(self._span, first)


class OpenHook:
    """Replaces ``open`` while at least one application needs it."""

    def __init__(self) -> None:
        self._users: Counter[str] = Counter()  # by suffix
        self._suffixes: tuple[str, ...] = ()
        self._lock = create_lock()
        self._original: Callable[..., Any] | None = None
        self._replacement: Callable[..., Any] | None = None

    @property
    def installed(self) -> bool:
        """Whether ``open`` is replaced at present."""
        return self._original is not None

    def acquire(self, suffixes: Iterable[str]) -> None:
        """Time files with these suffixes; each call needs a :meth:`release`."""
        with self._lock, FILE_WATCH.paused():
            self._users.update(suffixes)
            self._update()

    def release(self, suffixes: Iterable[str]) -> None:
        """Undo one :meth:`acquire`; the last one restores ``open``."""
        with self._lock, FILE_WATCH.paused():
            self._users -= Counter(suffixes)
            self._update()

    def _update(self) -> None:
        self._suffixes = tuple(self._users)
        if self._suffixes and self._original is None:
            original = self._original = builtins.open
            self._replacement = self._wrapped(original)
            for module in _PATCHED_MODULES:
                module.open = self._replacement
        elif not self._suffixes and self._original is not None:
            for module in _PATCHED_MODULES:
                if module.open is self._replacement:
                    module.open = self._original
            self._original = self._replacement = None

    def _wrapped(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def timed_open(
            file: Any, mode: str = "r", buffering: int = -1, encoding: str | None = None,
            errors: str | None = None, newline: str | None = None, closefd: bool = True,
            opener: Any = None,
        ) -> Any:  # fmt: skip
            span = current()
            if span is not None and buffering == -1 and closefd and opener is None:
                text = mode in _TEXT_MODES
                if text or (mode in _BINARY_MODES and encoding is errors is newline is None):
                    raw = self._raw(span, file)
                    if raw is not None:
                        if text:
                            encoding = io.text_encoding(encoding, 2)
                        return _buffered(raw, (encoding, errors, newline) if text else None, mode)
            return original(file, mode, buffering, encoding, errors, newline, closefd, opener)

        return timed_open

    def _raw(self, span: Span, file: Any) -> _TimedFile | None:
        """Return an open raw file, ``None`` for a file that is not timed.

        Raises:
            OSError: it cannot be opened.
        """
        try:
            path = os.fspath(file)
            if not isinstance(path, str) or not path.lower().endswith(self._suffixes):
                return None
            if get_ident() in span.ensure_notes().reading:
                return None  # opened by pandas, whose read is timed as a whole
            stat_result = os.stat(path)
            if not stat.S_ISREG(stat_result.st_mode):
                return None
            call_site = caller(3)
        except (TypeError, OSError, ValueError) as error:
            raise_if_of_host(error)
            return None
        return _TimedFile(path, span, call_site, stat_result)


def _buffered(raw: _TimedFile, text: tuple[Any, Any, Any] | None, mode: str) -> Any:
    """Return the object that ``open`` would return, on top of a raw file.

    Args:
        raw: the file.
        text: encoding, errors and newline of a text file, ``None`` for a binary one.
        mode: of ``open``.
    """
    try:
        size = max(io.DEFAULT_BUFFER_SIZE, getattr(raw._stat, "st_blksize", 0))
        buffered = io.BufferedReader(raw, size)
        if text is None:
            return buffered
        wrapper = io.TextIOWrapper(buffered, *text)
        wrapper.mode = mode  # type: ignore[misc]
        return wrapper
    except BaseException:
        raw.close()
        raise


OPEN_HOOK = OpenHook()
