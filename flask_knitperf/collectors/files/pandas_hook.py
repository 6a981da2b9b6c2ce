"""Hook for the readers of pandas: wrappers that time each call.

The names of the readers in modules of the application (``from pandas import read_csv``) are replaced
too. Outside a request a wrapper only passes the call on. Of a chunked reader (``chunksize``) only the
opening is timed.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import PurePath
from threading import get_ident
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ...caching import dependencies
from ...caching.file_state import local_path
from ...core.code_locations import OURS_ELSEWHERE, caller, own_modules
from ...core.host_exceptions import raise_if_of_host
from ...core.locks import create_lock
from ...core.provenance import ORIGINS
from ...recording.recorder import Recorder
from ...recording.span import Span, current
from .file_reads import FILE_READS, PART, SQL_PART, Read

if TYPE_CHECKING:
    from ...caching.read_cache import ReadCache

F = TypeVar("F", bound=Callable[..., Any])


class _Reader(NamedTuple):
    """A function of pandas that reads.

    Attributes:
        part: name of the part in a request.
        name: of the function.
        parameter: name of the parameter with the source.
        position: position of that parameter.
    """

    part: str
    name: str
    parameter: str
    position: int = 0


class _Call(NamedTuple):
    """A call of a reader within a request, with the readings taken before it.

    Attributes:
        span: the request.
        read: the read.
        before: :meth:`.Span.nested`.
        cpu: CPU clock of the thread in nanoseconds, ``None`` where it is not sampled.
    """

    span: Span
    read: Read
    before: tuple[int, int]
    cpu: int | None


_IN_READER: ContextVar[bool] = ContextVar("knitperf_in_reader", default=False)
"""Whether a reader whose result is to be cached runs in this context."""


class _Reused(NamedTuple):
    """Result that the cache had."""

    value: Any


_FAILED = object()
"""Result of a reader that raised."""
READERS = (
    _Reader(PART, "read_csv", "filepath_or_buffer"),
    _Reader(PART, "read_table", "filepath_or_buffer"),
    _Reader(PART, "read_fwf", "filepath_or_buffer"),
    _Reader(PART, "read_excel", "io"),
    _Reader(PART, "read_json", "path_or_buf"),
    _Reader(PART, "read_parquet", "path"),
    _Reader(PART, "read_feather", "path"),
    _Reader(PART, "read_pickle", "filepath_or_buffer"),
    _Reader(SQL_PART, "read_sql", "sql"),
    _Reader(SQL_PART, "read_sql_query", "sql"),
    _Reader(SQL_PART, "read_sql_table", "table_name"),
)
REUSED = (
    "read_csv", "read_table", "read_excel", "read_json", "read_parquet", "read_feather", "parse",
)  # fmt: skip
"""Readers whose results are reused on request."""
WORKBOOK_METHODS = (
    _Reader(PART, "__init__", "path_or_buffer", 1),
    _Reader(PART, "parse", "self"),  # reads from the workbook that it is called on
)


def rows_of(result: Any) -> int:
    """Return the number of rows read, -1 where that is unknown (a chunked reader)."""
    if isinstance(result, dict):
        return sum(len(frame) for frame in result.values())
    return len(result) if hasattr(result, "columns") or hasattr(result, "index") else -1


def with_origin(result: Any, reader: _Reader, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Store the origin of the frames in a result, and return the result."""
    try:
        call_site = caller(2)
        # a sheet of a workbook is reported like a call of read_excel
        description = "read_excel" if reader.name == "parse" else reader.name
        if reader.part == PART:
            source = args[reader.position :][:1] or [kwargs.get(reader.parameter)]
            if isinstance(source[0], str | os.PathLike):
                description += f" {os.path.basename(os.fspath(source[0]))[:200]}"
        for frame in result.values() if isinstance(result, dict) else (result,):
            if hasattr(frame, "columns"):
                ORIGINS.remember(frame, description, call_site)
    except Exception as error:  # an argument that misbehaves: the origin stays unknown
        raise_if_of_host(error)
        return result
    return result


def add_source(source: Any) -> None:
    """Add the file that a reader is about to read to the cached values that are loaded by it."""
    try:
        path = local_path(source)
        if path is not None:
            dependencies.add_source(path)
    except Exception as error:  # an argument that misbehaves
        raise_if_of_host(error)
        dependencies.defer(f"a path that it reads is unknown: {error!r}")


class PandasHook:
    """Replaces the readers of pandas while at least one application needs it."""

    def __init__(self) -> None:
        self._users = 0
        self._lock = create_lock()
        self._replaced: list[tuple[Any, str, Any]] = []  # owner, name, original
        self._caches: list[ReadCache] = []  # of the applications that reuse reads

    @property
    def installed(self) -> bool:
        """Whether the readers are replaced at present."""
        return bool(self._replaced)

    def acquire(self) -> None:
        """Time the readers once pandas is imported; each call needs a :meth:`release`."""
        with self._lock:
            self._users += 1
        self.install_if_imported()

    def release(self) -> None:
        """Undo one :meth:`acquire`; the last one restores the readers."""
        with self._lock:
            self._users = max(0, self._users - 1)
            if self._users:
                return
            replaced, self._replaced = self._replaced, []
            for owner, name, original in reversed(replaced):
                if getattr(getattr(owner, name, None), "__knitperf_reads__", None) is original:
                    setattr(owner, name, original)

    def reuse(self, cache: ReadCache) -> None:
        """Answer reads of unchanged files from a cache; each call needs a :meth:`release_reuse`."""
        self._caches.append(cache)
        self.acquire()

    def release_reuse(self, cache: ReadCache) -> None:
        """Undo one :meth:`reuse`."""
        self._caches.remove(cache)
        self.release()

    def install_if_imported(self) -> None:
        """Replace the readers if pandas was imported meanwhile (a housekeeper job)."""
        pandas = sys.modules.get("pandas")
        if pandas is None or self._replaced or not hasattr(pandas, "ExcelFile"):
            return
        with self._lock:
            if self._users and not self._replaced:
                self._install(pandas)

    def _install(self, pandas: ModuleType) -> None:
        replacements: dict[int, tuple[Any, Any]] = {}  # original and wrapper, by id of the original
        folder = os.path.dirname(str(pandas.__file__)) + os.sep
        for reader in READERS:
            original = getattr(pandas, reader.name, None)
            if original is not None:
                replacements[id(original)] = original, self._wrapped(original, reader, folder)
        self._replace(pandas, replacements)
        for module, _ in own_modules():
            self._replace(module, replacements)
        for reader in WORKBOOK_METHODS:
            original = getattr(pandas.ExcelFile, reader.name)
            self._replaced.append((pandas.ExcelFile, reader.name, original))
            setattr(pandas.ExcelFile, reader.name, self._wrapped(original, reader, folder))

    def _replace(self, module: Any, replacements: dict[int, tuple[Any, Any]]) -> None:
        for name, value in list(vars(module).items()):
            pair = replacements.get(id(value))
            if pair is not None:
                self._replaced.append((module, name, value))
                setattr(module, name, pair[1])

    def _wrapped(self, original: Callable[..., Any], reader: _Reader, folder: str) -> Any:
        begin, end = self._begin, self._end
        _, _, parameter, position = reader
        call_reader = original
        if reader.name in REUSED:
            call_reader = self._reusing(original, reader, folder)
        elif reader.name == "__init__":
            call_reader = self._opening(original, folder)

        def read(*args: Any, **kwargs: Any) -> Any:
            if dependencies.RUNNING and reader.part == PART:
                source = args[position] if len(args) > position else kwargs.get(parameter)
                add_source(source)
            call = begin(reader, args, kwargs)
            result = _FAILED
            try:
                result = call_reader(*args, **kwargs)
                if type(result) is _Reused:
                    result = result.value
                    if call is not None:
                        call.read.is_reused = True
                return with_origin(result, reader, args, kwargs)
            finally:
                if call is not None:
                    end(call, result)

        wrapper: Any = functools.wraps(original)(_inside(read, folder))
        wrapper.__knitperf_reads__ = original
        return wrapper

    def _reusing(
        self, original: Callable[..., Any], reader: _Reader, folder: str
    ) -> Callable[..., Any]:
        """Return a reader that answers from the cache where an application reuses reads.

        What the cache had is a ``_Reused``.
        """
        caches, (_, name, parameter, position) = self._caches, reader

        def read(*args: Any, **kwargs: Any) -> Any:
            cached = None
            if caches and not _IN_READER.get() and "dialect" not in kwargs:
                source = args[position] if len(args) > position else kwargs.get(parameter)
                named = sorted(item for item in kwargs.items() if item[0] != parameter)
                cached = caches[0].begin(name, source, (args[position + 1 :], named))
            if cached is None:
                return original(*args, **kwargs)
            try:
                if cached.is_hit:
                    return _Reused(cached.hit())
                token = _IN_READER.set(True)  # readers call one another
                try:
                    result = original(*args, **kwargs)
                finally:
                    _IN_READER.reset(token)
                return cached.end(result)
            except Exception as error:
                cached.failed(error)
                raise
            finally:
                cached.close()

        return _inside(read, folder)

    def _opening(self, original: Callable[..., Any], folder: str) -> Callable[..., Any]:
        """Return the constructor of a workbook, which notes the state of its file."""
        caches = self._caches

        def open_workbook(self: Any, path_or_buffer: Any, *args: Any, **kwargs: Any) -> None:
            plain = bool(caches) and not args and not kwargs
            state = caches[0].file_state(path_or_buffer) if plain else None
            original(self, path_or_buffer, *args, **kwargs)
            if state is not None and caches:
                caches[0].note_opened(self, path_or_buffer, state)

        return _inside(open_workbook, folder)

    def _begin(
        self, reader: _Reader, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> _Call | None:
        """Start timing a call, ``None`` where it is not timed.

        Everything that can be computed before the read is: afterwards our code is out of the CPU caches.
        """
        span = current()
        if span is None:
            return None
        notes = span.ensure_notes()
        if get_ident() in notes.reading:  # readers call one another
            return None
        recorder: Recorder = span.owner
        try:
            part, name, parameter, position = reader
            read = Read(part, name, caller(2))
            if part == PART:
                source = args[position] if len(args) > position else kwargs.get(parameter)
                read.resolve(source)
                if kwargs or len(args) > position + 1:
                    read.options_hash = _options_hash(args[position + 1 :], kwargs, parameter)
                read.is_reusable = (
                    name in REUSED
                    and not self._caches
                    and "dialect" not in kwargs
                    and (name == "parse" or isinstance(source, str | PurePath))
                )
        except Exception as error:
            recorder.failed("file reads", error)
            return None
        notes.reading.add(get_ident())
        clock = recorder.clock
        cpu = clock.runnable_ns() if span.cpu_began is not None else None
        before = span.nested()
        read.began = clock.monotonic_ns()
        return _Call(span, read, before, cpu)

    def _end(self, call: _Call, result: Any) -> None:
        """Finish timing a call."""
        span, read, before, cpu = call
        notes, clock = span.ensure_notes(), span.owner.clock
        notes.reading.discard(get_ident())
        read.ended = clock.monotonic_ns()
        read.wall = read.ended - read.began
        used = 0 if cpu is None else clock.runnable_ns() - cpu
        read.own = notes.take_work(read.began, read.ended, before[0])
        read.cpu = notes.take_cpu(used, before[1])
        if not span.ended:
            try:
                read.rows = None if result is _FAILED else rows_of(result)
                FILE_READS.add(span, read)
            except Exception as error:
                span.owner.failed("file reads", error)


def _inside(function: F, folder: str) -> F:
    """Put the frames of a function into the folder of pandas.

    A warning of pandas names the first frame outside of its folder.
    """
    code: Any = function
    code.__code__ = code.__code__.replace(co_filename=folder + OURS_ELSEWHERE)
    return function


def _options_hash(args: tuple[Any, ...], kwargs: dict[str, Any], parameter: str) -> int:
    """Return a hash of a reader's arguments other than its source, 0 without any."""
    named = [(name, _hash(value)) for name, value in kwargs.items() if name != parameter]
    if not args and not named:
        return 0
    return hash((tuple(map(_hash, args)), tuple(sorted(named))))


def _hash(value: Any) -> int:
    """Return a hash of one argument; open files and the like count by their type only."""
    if isinstance(value, str | bytes | int | float | bool | type(None)):
        return hash(value)
    if isinstance(value, list | tuple | set | frozenset | dict):
        return hash(repr(value)[:2000])
    return hash(type(value).__qualname__)


PANDAS_HOOK = PandasHook()
