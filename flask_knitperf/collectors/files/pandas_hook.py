"""The readers of pandas: replaced by functions that call them and take the time.

So are their names in modules of the application that imported them one by one. Outside of a request
they only call. Of a reader in pieces (``chunksize``) only the opening is seen.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

from ...core.code_locations import OURS_ELSEWHERE, caller, is_own_file
from ...core.locks import Lock
from ...core.provenance import ORIGINS
from ...recording.recorder import Recorder
from ...recording.span import Notes, Part, Span, current
from .file_reads import PART, READS, SQL_PART, Read


class _Reader(NamedTuple):
    """A function of pandas that reads.

    Attributes:
        part: what it is a part of a request as.
        name: its own.
        parameter: the name of the parameter that says what to read.
        position: of that parameter.
    """

    part: str
    name: str
    parameter: str
    position: int = 0


_Began = tuple[Span, Read, Part | Notes, int, int, int | None]
"""A request, a read, what is around it, what that had summed up (wall and CPU), and the CPU clock."""
_FAILED = object()
"""In the place of a result that never came."""
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
METHODS_OF_WORKBOOKS = (
    _Reader(PART, "__init__", "path_or_buffer", 1),
    _Reader(PART, "parse", "self"),  # which reads from the workbook that it is called on
)


def rows_of(result: Any) -> int:
    """Return how many rows were read, -1 where that is not known (a reader in pieces)."""
    if isinstance(result, dict):
        return sum(len(each) for each in result.values())
    return len(result) if hasattr(result, "columns") or hasattr(result, "index") else -1


def told(result: Any, reader: _Reader, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Remember where a table came from; return it."""
    try:
        where = caller(2)
        what = "read_excel" if reader.name == "parse" else reader.name  # a sheet of a workbook
        if reader.part == PART:
            source = args[reader.position :][:1] or [kwargs.get(reader.parameter)]
            if isinstance(source[0], str | os.PathLike):
                what += f" {os.path.basename(os.fspath(source[0]))[:200]}"
        for each in result.values() if isinstance(result, dict) else (result,):
            if hasattr(each, "columns"):
                ORIGINS.remember(each, what, where)
    except Exception:  # an odd argument: where it came from stays unknown
        return result
    return result


class Watch:
    """Puts itself in front of pandas' readers while at least one application wants it."""

    def __init__(self) -> None:
        self._users = 0
        self._turn = Lock()
        self._replaced: list[tuple[Any, str, Any]] = []

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
        folder = os.path.dirname(str(pandas.__file__)) + os.sep
        for reader in READERS:
            original = getattr(pandas, reader.name, None)
            if original is not None:
                watched[id(original)] = original, self._watched(original, reader, folder)
        self._swap(pandas, watched)
        for module in list(sys.modules.values()):
            name = getattr(module, "__file__", None)
            if isinstance(name, str) and is_own_file(name):
                self._swap(module, watched)
        for reader in METHODS_OF_WORKBOOKS:
            original = getattr(pandas.ExcelFile, reader.name)
            self._replaced.append((pandas.ExcelFile, reader.name, original))
            setattr(pandas.ExcelFile, reader.name, self._watched(original, reader, folder))

    def _swap(self, module: Any, watched: dict[int, tuple[Any, Any]]) -> None:
        for name, value in list(vars(module).items()):
            found = watched.get(id(value))
            if found is not None:
                self._replaced.append((module, name, value))
                setattr(module, name, found[1])

    def _watched(self, original: Callable[..., Any], reader: _Reader, folder: str) -> Any:
        begin, end = self._begin, self._end

        def read(*args: Any, **kwargs: Any) -> Any:
            began = begin(reader, args, kwargs)
            if began is None:
                return told(original(*args, **kwargs), reader, args, kwargs)
            result = _FAILED
            try:
                result = original(*args, **kwargs)
                return told(result, reader, args, kwargs)
            finally:
                end(began, result)

        # pandas names whoever called it in its warnings: the first that is not in its own folder
        read.__code__ = read.__code__.replace(co_filename=folder + OURS_ELSEWHERE)
        made: Any = functools.wraps(original)(read)
        made.__knitperf_reads__ = original
        return made

    def _begin(
        self, reader: _Reader, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> _Began | None:
        """Begin to take the time; return ``None`` where nothing is to be taken.

        What can be found out before reading is: afterwards all that is ours lies far away.
        """
        span = current()
        if span is None:
            return None
        notes = span.notes or span.note()
        if notes.reading:  # readers call each other
            return None
        recorder: Recorder = span.owner
        try:
            part, name, parameter, position = reader
            read = Read(part, name, caller(2))
            if part == PART:
                read.look(args[position] if len(args) > position else kwargs.get(parameter))
                if kwargs or len(args) > position + 1:
                    read.how = _how(args[position + 1 :], kwargs, parameter)
        except Exception as error:
            recorder.failed("file reads", error)
            return None
        notes.reading = True
        clock, around = recorder.clock, span.around()
        cpu = clock.runnable_ns() if span.cpu_began is not None else None
        inside, cpu_inside = around.inside, around.cpu_inside
        read.began = clock.monotonic_ns()
        return span, read, around, inside, cpu_inside, cpu

    def _end(self, began: _Began, result: Any) -> None:
        """Take the time."""
        span, read, around, inside, cpu_inside, cpu = began
        span.notes.reading = False
        clock = span.owner.clock
        read.ended = clock.monotonic_ns()
        wall = read.took = read.ended - read.began
        used = 0 if cpu is None else clock.runnable_ns() - cpu
        read.own = wall - around.inside + inside
        read.cpu = used - around.cpu_inside + cpu_inside
        around.inside, around.cpu_inside = inside + wall, cpu_inside + used
        if not span.ended:
            try:
                read.rows = None if result is _FAILED else rows_of(result)
                READS.add(span, read)
            except Exception as error:
                span.owner.failed("file reads", error)


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
