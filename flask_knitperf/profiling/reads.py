"""File reads: what pandas reads within a request, how long it takes, and whether it had to.

The public readers of pandas are replaced by functions that call them and take the time; so are
their names in modules of the application that imported them one by one. Outside of a request they
only call. A read is a part of its request. What was read is noted at once and recorded when the
request ends, all of it in one go, for between two reads everything of ours grows cold. It is counted by
file and by the line that asked for it, and told apart: the worker had not read that file in that way
before (``first``), the file had changed since (``changed``), or it is what was read the last time
(``unchanged``), which keeping it would have saved. Of a reader in pieces (``chunksize``) only the
opening is seen.

What was read in which way is remembered as a hash of the arguments; no argument is kept.
"""

from __future__ import annotations

import functools
import os
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import PurePath
from types import ModuleType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ..core.locks import Lock
from ..core.log import pack
from ..core.meters import Kind, Meter
from ..core.recorder import Recorder
from ..core.span import Part, Span, current
from .places import caller, is_own_file, short
from .requests import endpoint_of, wanted_ns

READ = Meter(
    "file_read", Kind.COUNTER, "ns", ("endpoint", "method", "path", "where", "state"), 1000
)
READ_BYTES = Meter("file_read_bytes", Kind.COUNTER, "bytes", ("endpoint", "method", "path"), 1000)
READ_ROWS = Meter("file_read_rows", Kind.COUNTER, "1", ("endpoint", "method", "path"), 1000)
FIRST, CHANGED, UNCHANGED = "first", "changed", "unchanged"
PART = "file_read"
SQL_PART = "sql"

_REMEMBERED = 4096
_WAITING = 500
"""Reads of one request that may wait for its end."""
_PATH_CHARS = 160
_PATHS = (str, bytes, os.PathLike)


class _Reader(NamedTuple):
    """A function of pandas that reads: its name, how its first parameter is called, its part."""

    name: str
    parameter: str
    part: str


READERS = (
    _Reader("read_csv", "filepath_or_buffer", PART),
    _Reader("read_table", "filepath_or_buffer", PART),
    _Reader("read_fwf", "filepath_or_buffer", PART),
    _Reader("read_excel", "io", PART),
    _Reader("read_json", "path_or_buf", PART),
    _Reader("read_parquet", "path", PART),
    _Reader("read_feather", "path", PART),
    _Reader("read_pickle", "filepath_or_buffer", PART),
    _Reader("read_sql", "sql", SQL_PART),
    _Reader("read_sql_query", "sql", SQL_PART),
    _Reader("read_sql_table", "table_name", SQL_PART),
)


class Source(NamedTuple):
    """Where something is read from.

    Attributes:
        name: as it is shown.
        state: what tells one content of it from another, ``None`` where nothing does.
        size: bytes, -1 where unknown.
    """

    name: str
    state: tuple[int, ...] | None
    size: int


def source(given: Any) -> Source:
    """Return what a reader was given: a path, an open file, an opened workbook, or something else."""
    if type(given) is str:
        path = given
    elif isinstance(given, PurePath):  # cheaper to ask than for any path
        path = str(given)
    else:
        for attribute in (
            "io",
            "name",
        ):  # a workbook of pandas has the first, an open file the second
            if isinstance(given, _PATHS):
                break
            given = getattr(given, attribute, given)
        if not isinstance(given, _PATHS):
            return _IN_MEMORY
        path = os.fsdecode(given)
    if "://" in path[:12]:
        address = urlsplit(path)  # without user, password and query
        return Source(f"{address.scheme}://{address.hostname or ''}", None, -1)
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return _IN_MEMORY  # text that is the content itself, or no file any more
    state = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
    return Source(_shown(path), state, found.st_size)


@functools.lru_cache(maxsize=1024)
def _shown(path: str) -> str:
    return short(path, 0).rpartition(":")[0][-_PATH_CHARS:]


_IN_MEMORY = Source("<memory>", None, -1)


def rows_of(result: Any) -> int:
    """Return how many rows were read, -1 where that is not known (a reader in pieces)."""
    if isinstance(result, dict):
        return sum(len(each) for each in result.values())
    return len(result) if hasattr(result, "columns") or hasattr(result, "index") else -1


class Read:
    """One read: where it was asked for, what was read, and how.

    Attributes:
        key: a number for what is read in which way.
        source: what was read, ``None`` for a statement.
        place: the line of own code that asked for it.
        took: nanoseconds.
        rows: -1 where unknown.
        part: the part that it was.
        state: see :class:`Memory`; known once the request has ended.
    """

    __slots__ = ("key", "part", "place", "rows", "source", "state", "took")

    def __init__(
        self, key: int, source: Source | None, place: str, took: int, rows: int, part: Part
    ) -> None:
        self.key, self.source, self.place = key, source, place
        self.took, self.rows, self.part = took, rows, part
        self.state = ""

    def as_dict(self) -> dict[str, Any]:
        """Return what is known of it as JSON values."""
        found = self.source
        return {
            "path": None if found is None else found.name,
            "where": self.place or None,
            "state": self.state or None,
            "bytes": None if found is None or found.size < 0 else found.size,
            "rows": None if self.rows < 0 else self.rows,
        }


class Memory:
    """What this process read last, and in which state the file was."""

    def __init__(self) -> None:
        self._seen: OrderedDict[int, tuple[int, ...]] = OrderedDict()
        self._turn = Lock()

    def tell(self, key: int, state: tuple[int, ...] | None) -> str:
        """Note a read; return whether it is the first, of a changed or of an unchanged file."""
        if state is None:
            return FIRST
        with self._turn:
            before = self._seen.pop(key, None)
            self._seen[key] = state
            if len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)
        if before is None:
            return FIRST
        return UNCHANGED if before == state else CHANGED


class Watch:
    """Puts itself in front of pandas' readers while at least one application wants it.

    Attributes:
        memory: what was read before.
    """

    def __init__(self) -> None:
        self.memory = Memory()
        self._users = 0
        self._turn = Lock()
        self._replaced: list[tuple[Any, str, Any]] = []
        self._ids: dict[tuple[str, ...], tuple[int, int, int]] = {}

    @property
    def watching(self) -> bool:
        """Whether the readers are replaced now."""
        return bool(self._replaced)

    def hold(self) -> None:
        """Want the readers to be watched, once pandas is there."""
        with self._turn:
            self._users += 1
        self.look()

    def let_go(self) -> None:
        """Stop wanting it; the last one puts everything back."""
        with self._turn:
            self._users = max(0, self._users - 1)
            if self._users:
                return
            replaced, self._replaced = self._replaced, []
            for owner, name, original in reversed(replaced):
                if getattr(getattr(owner, name, None), "__knitperf_reads__", None) is original:
                    setattr(owner, name, original)

    def look(self) -> None:
        """Replace the readers if pandas was imported meanwhile."""
        pandas = sys.modules.get("pandas")
        if pandas is None or self._replaced or not hasattr(pandas, "ExcelFile"):
            return
        with self._turn:
            if self._users and not self._replaced:
                self._replace(pandas)

    def _replace(self, pandas: ModuleType) -> None:
        watched: dict[int, tuple[Any, Any]] = {}
        for reader in READERS:
            original = getattr(pandas, reader.name, None)
            if original is not None:
                watched[id(original)] = original, self._watched(original, reader)
        self._swap(pandas, watched)
        for module in list(sys.modules.values()):
            name = getattr(module, "__file__", None)
            if isinstance(name, str) and is_own_file(name):
                self._swap(module, watched)
        book, opened = pandas.ExcelFile, _Reader("ExcelFile", "path_or_buffer", PART)
        for method in ("__init__", "parse"):
            original = getattr(book, method)
            self._replaced.append((book, method, original))
            setattr(book, method, self._watched(original, opened, bound=True))

    def _swap(self, module: Any, watched: dict[int, tuple[Any, Any]]) -> None:
        for name, value in list(vars(module).items()):
            found = watched.get(id(value))
            if found is not None:
                self._replaced.append((module, name, value))
                setattr(module, name, found[1])

    def _watched(
        self, original: Callable[..., Any], reader: _Reader, *, bound: bool = False
    ) -> Any:
        @functools.wraps(original)
        def read(*args: Any, **kwargs: Any) -> Any:
            span = current()
            if span is None or _is_reading(span):
                return original(*args, **kwargs)
            return self._timed(span, reader, original, args, kwargs, bound)

        read.__knitperf_reads__ = original  # type: ignore[attr-defined]
        return read

    def _timed(
        self, span: Span, reader: _Reader, original: Callable[..., Any], args: tuple[Any, ...],
        kwargs: dict[str, Any], bound: bool,
    ) -> Any:  # fmt: skip
        recorder: Recorder = span.owner
        clock, sampled = recorder.clock, span.cpu_began is not None
        place = found = None
        try:
            place = caller(2)
            if reader.part == PART:
                found = source(_given(reader, original, args, kwargs, bound))
        except Exception as error:
            recorder.failed("file reads", error)
        began = clock.monotonic_ns()
        part = span.open(reader.part, began, wanted_ns(clock) if sampled else None)
        try:
            result = original(*args, **kwargs)
        finally:
            ended = clock.monotonic_ns()
            span.close(part, ended, wanted_ns(clock) if sampled else None)
        if place is not None and not span.ended:
            try:
                key = 0
                if found is not None:
                    how = _how(reader, original, args, kwargs)
                    key = hash((original.__name__, found.name, how))
                notes = span.note()
                notes.reads.append(Read(key, found, place, ended - began, rows_of(result), part))
                if len(notes.reads) >= _WAITING:
                    self._settle(span)
                notes.settle = self._settle
            except Exception as error:
                recorder.failed("file reads", error)
        return result

    def _settle(self, span: Span) -> None:
        """Record what a request has read."""
        notes = span.note()
        reads, notes.reads = notes.reads, []
        endpoint, method = endpoint_of(span)
        groups: dict[tuple[str, str, str], list[Read]] = {}
        for read in reads:
            read.part.detail = read
            notes.rows += max(0, read.rows)
            if read.source is not None:
                read.state = self.memory.tell(read.key, read.source.state)
                groups.setdefault((read.source.name, read.place, read.state), []).append(read)
        for (path, place, state), those in groups.items():
            self._record(span.owner, (endpoint, method, path), place, state, those)

    def _record(
        self, recorder: Recorder, file: tuple[str, str, str], place: str, state: str,
        those: list[Read],
    ) -> None:  # fmt: skip
        worker = recorder.worker
        name = (worker.name, *file, place, state)
        ids = self._ids.get(name)
        if ids is None:
            ids = (worker.series(READ, (*file, place, state)), worker.series(READ_BYTES, file),
                   worker.series(READ_ROWS, file))  # fmt: skip
            if len(self._ids) >= _REMEMBERED:
                self._ids.clear()
            self._ids[name] = ids
        sizes = [read.source.size for read in those if read.source and read.source.size > 0]
        values = ([r.took for r in those], sizes, [r.rows for r in those if r.rows > 0])
        group = []
        for series, each in zip(ids, values, strict=True):
            if each:
                group.append((series, 1, float(sum(each))))
            if len(each) > 1:  # the sum is in the first; these only count
                group.append((series, len(each) - 1, 0.0))
        worker.write(pack(group))


def _is_reading(span: Span) -> bool:
    """Return whether the innermost part is a read already: readers call each other."""
    return bool(span.stack) and span.stack[-1].name in (PART, SQL_PART)  # type: ignore[index]


def _given(
    reader: _Reader, original: Any, args: tuple[Any, ...], kwargs: dict[str, Any], bound: bool
) -> Any:
    """Return what is read from: the first argument, or the workbook whose method this is."""
    if bound and original.__name__ == "parse":
        return args[0]
    args = args[1:] if bound else args
    return args[0] if args else kwargs.get(reader.parameter)


def _how(reader: _Reader, original: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """Return a number for how something is read, beyond what is read."""
    more = args[2:] if original.__name__ == "__init__" else args[1:]
    if not more and not kwargs:
        return 0
    named = [(name, _plain(value)) for name, value in kwargs.items() if name != reader.parameter]
    return hash((tuple(map(_plain, more)), tuple(sorted(named))))


def _plain(value: Any) -> int:
    """Return a number for one argument; files and the like count by their kind alone."""
    if isinstance(value, str | bytes | int | float | bool | type(None)):
        return hash(value)
    if isinstance(value, list | tuple | set | frozenset | dict):
        return hash(repr(value)[:2000])
    return hash(type(value).__qualname__)


WATCH = Watch()
