"""File reads of a request: how many, how long they take, and whether they were necessary.

A read is a part of its request. It is buffered, and all reads of a request are counted in one batch
when the request ends: between two reads the CPU caches have evicted our code. Reads are counted by file,
by call site and by state: the worker had not read that file in that way before (``first``), the file
has changed since then (``changed``), or it has not (``unchanged``), so a cache would have avoided the
read: that of ``KNITPERF_REUSE_READS`` would have (``reusable``), or has done it (``reused``).

The state is found through an LRU of file signatures. The arguments of a reader enter it as a hash only;
no argument is stored.
"""

from __future__ import annotations

import functools
import os
from collections import OrderedDict
from pathlib import PurePath
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ...core.code_locations import short
from ...core.host_exceptions import raise_if_of_host
from ...core.locks import create_lock
from ...metrics.catalogue import (
    FILE_READ,
    FILE_READ_BYTES,
    FILE_READ_ROWS,
    FileState,
    PartKind,
)
from ...metrics.log_format import pack, with_total
from ...recording.recorder import Recorder
from ...recording.span import Span
from ..requests.endpoint_series import endpoint_of

PART = PartKind.FILE_READ.value
SQL_PART = PartKind.SQL.value

_MAX_SIGNATURES = 4096
"""Number of file signatures that a process remembers."""
_MAX_SERIES_IDS = 4096
_MAX_BUFFERED = 500
"""Number of reads of one request that are buffered before they are counted."""
_MAX_PATH_CHARS = 160
_PATH_TYPES = (str, bytes, os.PathLike)

Signature = tuple[int, ...]
"""Device, inode, size and modification time of a file: a change of content changes it."""


class Source(NamedTuple):
    """Origin of the content that a reader reads.

    Attributes:
        name: for the report.
        signature: of the file, ``None`` where it is not a file.
        size: bytes, -1 where unknown.
    """

    name: str
    signature: Signature | None
    size: int


def path_of(target: Any) -> str | None:
    """Return the path of a reader's argument, ``None`` where it has none.

    Args:
        target: a path, an open file, a workbook of pandas, or anything else.
    """
    if isinstance(target, PurePath):  # a common case, and cheaper than os.PathLike
        return str(target)
    for attribute in ("io", "name"):  # of a workbook of pandas, of an open file
        if isinstance(target, _PATH_TYPES):
            break
        target = getattr(target, attribute, target)
    return os.fsdecode(target) if isinstance(target, _PATH_TYPES) else None


def source(path: str | None, stat: os.stat_result | None) -> Source:
    """Return the source that a path names.

    Args:
        path: a path or a URL, ``None`` for content in memory.
        stat: of the file, ``None`` where there is no such file.
    """
    if path is None:
        return _IN_MEMORY
    if stat is None:
        url = urlsplit(path)  # user, password and query are left out
        return Source(f"{url.scheme}://{url.hostname or ''}", None, -1)
    signature = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
    return Source(_short_path(path), signature, stat.st_size)


@functools.lru_cache(maxsize=1024)
def _short_path(path: str) -> str:
    return short(path, 0).rpartition(":")[0][-_MAX_PATH_CHARS:]


_IN_MEMORY = Source("<memory>", None, -1)


class Read:
    """One read: a part of a request, and its own :class:`...recording.span.Detail`.

    Attributes:
        name: name of the part.
        reader: name of the function that reads.
        call_site: ``file:line`` of own code that called it.
        options_hash: hash of the reader's other arguments, 0 without any.
        path: path or URL of the source, ``None`` where it has neither.
        stat: of the path, ``None`` where it is not a file.
        began: start, in nanoseconds on the recorder's clock.
        ended: end, in nanoseconds on that clock.
        wall: duration in nanoseconds.
        own: duration without the parts inside it, in nanoseconds.
        cpu: CPU time of ``own``, in nanoseconds.
        size: bytes read, -1 for the whole file.
        rows: number of rows, -1 where unknown, ``None`` where the read failed.
        source: set when the read is counted; ``None`` for an SQL query.
        state: a :class:`...metrics.catalogue.FileState`, set when the read is counted;
            empty for an SQL query.
        counted: whether it was counted.
        is_reusable: whether ``KNITPERF_REUSE_READS`` is off and would answer it where it is unchanged.
        is_reused: whether the cache answered it.
    """

    __slots__ = (
        "began", "call_site", "counted", "cpu", "ended", "is_reusable", "is_reused", "name",
        "options_hash", "own", "path", "reader", "rows", "size", "source", "stat", "state", "wall",
    )  # fmt: skip
    began: int
    ended: int
    wall: int
    own: int
    cpu: int
    source: Source | None
    state: str

    def __init__(self, name: str, reader: str, call_site: str) -> None:
        self.name, self.reader, self.call_site = name, reader, call_site
        self.options_hash = 0
        self.size = -1
        self.path: str | None = None
        self.stat: os.stat_result | None = None
        self.rows: int | None = None
        self.counted = self.is_reusable = self.is_reused = False

    @property
    def detail(self) -> Read:
        """The read itself."""
        return self

    def resolve(self, target: Any) -> None:
        """Set the path and its stat from the reader's argument, before the read."""
        path = target if type(target) is str else path_of(target)
        if path is None:
            return
        try:
            self.stat = os.stat(path)
        except (OSError, ValueError) as error:  # text that is the content itself, or a lost file
            raise_if_of_host(error)
            if "://" not in path[:12]:
                return
        self.path = path

    def as_dict(self) -> dict[str, Any]:
        """Return the read as JSON values."""
        origin = self.source
        return {
            "path": None if origin is None else origin.name,
            "where": self.call_site or None,
            "state": self.state or None,
            "bytes": None if origin is None or origin.size < 0 else origin.size,
            "rows": None if self.rows is None or self.rows < 0 else self.rows,
        }


class SignatureLRU:
    """LRU of the file signatures that this process has read."""

    def __init__(self) -> None:
        self._signatures: OrderedDict[int, Signature] = OrderedDict()
        self._lock = create_lock()

    def state(self, key: int, signature: Signature | None) -> str:
        """Store the signature of a read, and return its state.

        Args:
            key: hash of the reader, the file and the options.
            signature: of the file; a source without one is always ``FIRST``.
        """
        if signature is None:
            return FileState.FIRST
        with self._lock:
            before = self._signatures.pop(key, None)
            self._signatures[key] = signature
            if len(self._signatures) > _MAX_SIGNATURES:
                self._signatures.popitem(last=False)
        if before is None:
            return FileState.FIRST
        return FileState.UNCHANGED if before == signature else FileState.CHANGED


class FileReads:
    """Counts the file reads of this process's requests.

    Attributes:
        signatures: of the files read so far.
    """

    def __init__(self) -> None:
        self.signatures = SignatureLRU()
        self._ids: dict[tuple[str, ...], tuple[int, int, int]] = {}

    def add(self, span: Span, read: Read) -> None:
        """Buffer a read until its request ends."""
        notes = span.ensure_notes()
        notes.reads.append(read)
        notes.collectors[PART] = self
        if len(notes.reads) >= _MAX_BUFFERED:
            self.settle(span)

    def settle(self, span: Span) -> None:
        """Count and record the buffered reads of a request. Never raises."""
        try:
            self._count(span)
        except Exception as error:
            span.owner.failed("file reads", error)

    def finish(self, span: Span) -> None:
        """Do nothing: :meth:`settle` records everything."""

    def add_events(self, span: Span) -> None:
        """Do nothing: counted reads are in the timeline already."""

    def _count(self, span: Span) -> None:
        notes = span.ensure_notes()
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
                origin = source(read.path, read.stat)
                key = hash((read.reader, origin.name, read.options_hash))
                read.state = self._state(read, key, origin.signature)
                read.source = origin if read.size < 0 else origin._replace(size=read.size)
                groups.setdefault((origin.name, read.call_site, read.state), []).append(read)
        for (path, call_site, state), group in groups.items():
            self._record(span.owner, (endpoint, method, path), call_site, state, group)

    def _state(self, read: Read, key: int, signature: Signature | None) -> str:
        if read.is_reused:
            return FileState.REUSED
        state = self.signatures.state(key, signature)
        is_reusable = state == FileState.UNCHANGED and read.is_reusable and (read.rows or 0) >= 0
        return FileState.REUSABLE if is_reusable else state

    def _record(
        self, recorder: Recorder, file: tuple[str, str, str], call_site: str, state: str,
        reads: list[Read],
    ) -> None:  # fmt: skip
        worker = recorder.worker
        key = (worker.name, *file, call_site, state)
        ids = self._ids.get(key)
        if ids is None:
            ids = (
                worker.series(FILE_READ, (*file, call_site, state)),
                worker.series(FILE_READ_BYTES, file),
                worker.series(FILE_READ_ROWS, file),
            )
            if len(self._ids) >= _MAX_SERIES_IDS:
                self._ids.clear()
            self._ids[key] = ids
        sizes = [read.source.size for read in reads if read.source and read.source.size > 0]
        rows = [read.rows for read in reads if read.rows is not None and read.rows > 0]
        group = []
        for series, values in zip(ids, ([read.wall for read in reads], sizes, rows), strict=True):
            if values:
                group += with_total(series, len(values), sum(values))
        worker.write(pack(group))


FILE_READS = FileReads()
