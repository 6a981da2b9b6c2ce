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
from ..core.span import Notes, Span, current
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
    """A function of pandas that reads.

    Attributes:
        name: its own.
        parameter: the name of the parameter that says what to read.
        part: what it is a part of a request as.
        position: of that parameter.
    """

    name: str
    parameter: str
    part: str
    position: int = 0


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
METHODS_OF_WORKBOOKS = (
    _Reader("__init__", "path_or_buffer", PART, 1),
    _Reader("parse", "self", PART),  # which reads from the workbook that it is called on
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


def path_of(given: Any) -> str | None:
    """Return the path of what a reader was given: a path, an open file, an opened workbook."""
    if isinstance(given, PurePath):  # cheaper to ask than for any path
        return str(given)
    for attribute in ("io", "name"):  # a workbook of pandas has the first, an open file the second
        if isinstance(given, _PATHS):
            break
        given = getattr(given, attribute, given)
    return os.fsdecode(given) if isinstance(given, _PATHS) else None


def source(path: str | None, found: os.stat_result | None) -> Source:
    """Return what a path names.

    Args:
        path: it, or an address, or ``None`` where there is none.
        found: what the system says of it, ``None`` where there is no such file.
    """
    if path is None:
        return _IN_MEMORY
    if found is None:
        address = urlsplit(path)  # without user, password and query
        return Source(f"{address.scheme}://{address.hostname or ''}", None, -1)
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
    """One read, a part of a request: what is known of it before it begins, and after it.

    Attributes:
        reader: what reads.
        place: the line of own code that asked for it.
        how: a number for how it is read, beyond what is read.
        path: of what is read, or its address, ``None`` where it has neither.
        found: what the system says of that path, ``None`` where it is no file.
        own: nanoseconds that it took, without the parts inside it.
        cpu: CPU of those.
        rows: -1 where unknown, ``None`` where it failed.
        source: what was read, ``None`` for a statement; known once it was counted.
        state: see :class:`Memory`, empty for a statement; likewise.
    """

    __slots__ = (
        "began", "cpu", "ended", "found", "how", "own", "path", "place", "reader", "rows", "source",
        "state",
    )  # fmt: skip
    began: int
    ended: int
    own: int
    cpu: int
    source: Source | None
    state: str

    def __init__(self, reader: _Reader, place: str) -> None:
        self.reader, self.place = reader, place
        self.how = 0
        self.path: str | None = None
        self.found: os.stat_result | None = None
        self.rows: int | None = None

    @property
    def name(self) -> str:
        """What it is called as a part of a request."""
        return self.reader.part

    @property
    def detail(self) -> Read:
        """What is known of it: itself."""
        return self

    def look(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Look at what is going to be read."""
        _, parameter, _, position = self.reader
        given = args[position] if len(args) > position else kwargs.get(parameter)
        if kwargs or len(args) > position + 1:
            self.how = _how(args[position + 1 :], kwargs, parameter)
        path = given if type(given) is str else path_of(given)
        if path is None:
            return
        try:
            self.found = os.stat(path)
        except (OSError, ValueError):  # text that is the content itself, or no file any more
            if "://" not in path[:12]:
                return
        self.path = path

    def as_dict(self) -> dict[str, Any]:
        """Return what is known of it as JSON values."""
        found = self.source
        return {
            "path": None if found is None else found.name,
            "where": self.place or None,
            "state": self.state or None,
            "bytes": None if found is None or found.size < 0 else found.size,
            "rows": None if self.rows is None or self.rows < 0 else self.rows,
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
        for reader in METHODS_OF_WORKBOOKS:
            original = getattr(pandas.ExcelFile, reader.name)
            self._replaced.append((pandas.ExcelFile, reader.name, original))
            setattr(pandas.ExcelFile, reader.name, self._watched(original, reader))

    def _swap(self, module: Any, watched: dict[int, tuple[Any, Any]]) -> None:
        for name, value in list(vars(module).items()):
            found = watched.get(id(value))
            if found is not None:
                self._replaced.append((module, name, value))
                setattr(module, name, found[1])

    def _watched(self, original: Callable[..., Any], reader: _Reader) -> Any:
        @functools.wraps(original)
        def read(*args: Any, **kwargs: Any) -> Any:
            span = current()
            if span is None:
                return original(*args, **kwargs)
            notes = span.notes or span.note()
            if notes.reading:  # readers call each other
                return original(*args, **kwargs)
            notes.reading = True
            try:
                return self._timed(span, notes, reader, original, args, kwargs)
            finally:
                notes.reading = False

        read.__knitperf_reads__ = original  # type: ignore[attr-defined]
        return read

    def _timed(
        self, span: Span, notes: Notes, reader: _Reader, original: Callable[..., Any],
        args: tuple[Any, ...], kwargs: dict[str, Any],
    ) -> Any:  # fmt: skip
        """Read. What can be found out before is: afterwards all that is ours lies far away."""
        recorder: Recorder = span.owner
        try:
            read = Read(reader, caller(2))
            if reader.part == PART:
                read.look(args, kwargs)
        except Exception as error:
            recorder.failed("file reads", error)
            return original(*args, **kwargs)
        clock, around = recorder.clock, span.around()
        inside, cpu_inside = around.inside, around.cpu_inside
        now, cpu = clock.monotonic_ns, wanted_ns(clock) if span.cpu_began is not None else None
        read.began = now()
        try:
            result = original(*args, **kwargs)
            read.rows = 0
            return result
        finally:
            read.ended = now()
            wall, used = read.ended - read.began, 0 if cpu is None else wanted_ns(clock) - cpu
            read.own, read.cpu = (
                wall - around.inside + inside,
                used - around.cpu_inside + cpu_inside,
            )
            around.inside, around.cpu_inside = inside + wall, cpu_inside + used
            if not span.ended:
                try:
                    if read.rows is not None:
                        read.rows = rows_of(result)
                    notes.reads.append(read)
                    notes.settle = self._settle
                    if len(notes.reads) >= _WAITING:
                        self._settle(span)
                except Exception as error:
                    recorder.failed("file reads", error)

    def _settle(self, span: Span) -> None:
        try:
            self._count(span)
        except Exception as error:
            span.owner.failed("file reads", error)

    def _count(self, span: Span) -> None:
        """Count what a request has read, and record it."""
        notes = span.note()
        reads, notes.reads = notes.reads, []
        endpoint, method = endpoint_of(span)
        groups: dict[tuple[str, str, str], list[Read]] = {}
        for read in reads:
            read.source, read.state = None, ""
            span.count(read, read.own, read.cpu)
            if read.rows is None:
                continue
            notes.rows += max(0, read.rows)
            if read.name == PART:
                found = read.source = source(read.path, read.found)
                key = hash((read.reader.name, found.name, read.how))
                read.state = self.memory.tell(key, found.state)
                groups.setdefault((found.name, read.place, read.state), []).append(read)
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
        rows = [read.rows for read in those if read.rows is not None and read.rows > 0]
        values = ([read.ended - read.began for read in those], sizes, rows)
        group = []
        for series, each in zip(ids, values, strict=True):
            if each:
                group.append((series, 1, float(sum(each))))
            if len(each) > 1:  # the sum is in the first; these only count
                group.append((series, len(each) - 1, 0.0))
        worker.write(pack(group))


def _how(args: tuple[Any, ...], kwargs: dict[str, Any], parameter: str) -> int:
    """Return a number for how something is read, beyond what is read."""
    named = [(name, _plain(value)) for name, value in kwargs.items() if name != parameter]
    if not args and not named:
        return 0
    return hash((tuple(map(_plain, args)), tuple(sorted(named))))


def _plain(value: Any) -> int:
    """Return a number for one argument; files and the like count by their kind alone."""
    if isinstance(value, str | bytes | int | float | bool | type(None)):
        return hash(value)
    if isinstance(value, list | tuple | set | frozenset | dict):
        return hash(repr(value)[:2000])
    return hash(type(value).__qualname__)


WATCH = Watch()
