"""File reads: what is read within a request, how long it takes, and whether it had to be.

A read is a part of its request. It is noted at once, and counted when the request ends, all of them in
one go, for between two reads everything of ours grows cold. It is counted by file and by the line that
asked for it, and told apart: the worker had not read that file in that way before (``first``), the file
had changed since (``changed``), or it is what was read the last time (``unchanged``), which keeping it
would have saved.

What was read in which way is remembered as a hash; no argument of a reader is kept.
"""

from __future__ import annotations

import functools
import os
from collections import OrderedDict
from pathlib import PurePath
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ...core.code_locations import short
from ...core.locks import Lock
from ...metrics.catalogue import (
    FILE_READ,
    FILE_READ_BYTES,
    FILE_READ_ROWS,
    FileState,
    PartKind,
)
from ...metrics.log_format import pack
from ...recording.recorder import Recorder
from ...recording.span import Span
from ..requests.endpoint_series import endpoint_of

PART = PartKind.FILE_READ.value
SQL_PART = PartKind.SQL.value

_REMEMBERED = 4096
_WAITING = 500
"""Reads of one request that may wait for its end."""
_PATH_CHARS = 160
_PATHS = (str, bytes, os.PathLike)


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


class Read:
    """One read, a part of a request.

    Attributes:
        name: what it is called as a part.
        reader: the name of what reads.
        place: the line of own code that asked for it.
        how: a number for how it is read, beyond what is read.
        path: of what is read, or its address, ``None`` where it has neither.
        found: what the system says of that path, ``None`` where it is no file.
        began: when it began, in nanoseconds on the recorder's clock.
        ended: when it ended.
        took: nanoseconds of it.
        own: nanoseconds of it, without the parts inside it.
        cpu: CPU of those.
        size: bytes that were read, -1 for the whole file.
        rows: -1 where unknown, ``None`` where it failed.
        source: what was read, ``None`` for a statement; known once it was counted.
        state: see :class:`Memory`, empty for a statement; likewise.
        counted: whether it was.
    """

    __slots__ = (
        "began", "counted", "cpu", "ended", "found", "how", "name", "own", "path", "place", "reader",
        "rows", "size", "source", "state", "took",
    )  # fmt: skip
    began: int
    ended: int
    took: int
    own: int
    cpu: int
    source: Source | None
    state: str

    def __init__(self, name: str, reader: str, place: str) -> None:
        self.name, self.reader, self.place = name, reader, place
        self.how = 0
        self.size = -1
        self.path: str | None = None
        self.found: os.stat_result | None = None
        self.rows: int | None = None
        self.counted = False

    @property
    def detail(self) -> Read:
        """What is known of it: itself."""
        return self

    def look(self, given: Any) -> None:
        """Look at what is going to be read."""
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
            return FileState.FIRST
        with self._turn:
            before = self._seen.pop(key, None)
            self._seen[key] = state
            if len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)
        if before is None:
            return FileState.FIRST
        return FileState.UNCHANGED if before == state else FileState.CHANGED


class Reads:
    """Counts what requests of this process have read.

    Attributes:
        memory: what was read before.
    """

    def __init__(self) -> None:
        self.memory = Memory()
        self._ids: dict[tuple[str, ...], tuple[int, int, int]] = {}

    def add(self, span: Span, read: Read) -> None:
        """Have a read counted when its request ends."""
        notes = span.note()
        notes.reads.append(read)
        notes.waiting[PART] = self
        if len(notes.reads) >= _WAITING:
            self.settle(span)

    def settle(self, span: Span) -> None:
        """Count what a request has read so far, and record it."""
        try:
            self._count(span)
        except Exception as error:
            span.owner.failed("file reads", error)

    def finish(self, span: Span) -> None:
        """Nothing is left for the end of a request."""

    def tell(self, span: Span) -> None:
        """Its reads are in the timeline already."""

    def _count(self, span: Span) -> None:
        notes = span.note()
        reads, notes.reads = notes.reads, []
        endpoint, method = endpoint_of(span)
        groups: dict[tuple[str, str, str], list[Read]] = {}
        for read in reads:
            read.source, read.state, read.counted = None, "", True
            span.count(read, read.own, read.cpu)
            if read.rows is None:
                continue
            notes.rows += max(0, read.rows)
            if read.name == PART:
                found = source(read.path, read.found)
                key = hash((read.reader, found.name, read.how))
                read.state = self.memory.tell(key, found.state)
                read.source = found if read.size < 0 else found._replace(size=read.size)
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
            ids = (worker.series(FILE_READ, (*file, place, state)), worker.series(FILE_READ_BYTES, file),
                   worker.series(FILE_READ_ROWS, file))  # fmt: skip
            if len(self._ids) >= _REMEMBERED:
                self._ids.clear()
            self._ids[name] = ids
        sizes = [read.source.size for read in those if read.source and read.source.size > 0]
        rows = [read.rows for read in those if read.rows is not None and read.rows > 0]
        values = ([read.took for read in those], sizes, rows)
        group = []
        for series, each in zip(ids, values, strict=True):
            if each:
                group.append((series, 1, float(sum(each))))
            if len(each) > 1:  # the sum is in the first; these only count
                group.append((series, len(each) - 1, 0.0))
        worker.write(pack(group))


READS = Reads()
