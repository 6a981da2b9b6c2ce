"""File reads of one endpoint by file and line, with the share that re-reads unchanged files."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.clock import NS_PER_S
from ..metrics.catalogue import FileState
from ..metrics.readings.rows import EndpointReading
from ..metrics.totals import NOTHING


@dataclass(slots=True)
class FileRead:
    """One file that an endpoint reads at one line.

    Attributes:
        path: as it is displayed, or ``<memory>`` for a buffer.
        where: ``file:line`` of own code, empty where none is on the stack.
        count: number of reads.
        unchanged: number of those that returned the same content as the worker's previous read.
        reused: number of those that the cache answered (``KNITPERF_REUSE_READS``).
        seconds: total time of all reads.
        avoidable_s: total time of the unchanged ones.
        reusable_s: total time of those of them that ``KNITPERF_REUSE_READS`` would answer.
        size: mean bytes of the file, ``None`` where unknown.
        rows: mean rows, ``None`` where unknown.
    """

    path: str
    where: str
    count: int = 0
    unchanged: int = 0
    reused: int = 0
    seconds: float = 0.0
    avoidable_s: float = 0.0
    reusable_s: float = 0.0
    size: float | None = None
    rows: float | None = None


def file_reads(reading: EndpointReading) -> list[FileRead]:
    """Return the files that one endpoint reads, largest total time first."""
    rows: dict[tuple[str, str], FileRead] = {}
    for path, where, state, time in reading.file_reads:
        if not time.count:
            continue
        row = rows.setdefault((path, where), FileRead(path, where))
        row.count += time.count
        row.seconds += time.total / NS_PER_S
        if state in (FileState.UNCHANGED, FileState.REUSABLE):
            row.unchanged += time.count
            row.avoidable_s += time.total / NS_PER_S
        if state == FileState.REUSABLE:
            row.reusable_s += time.total / NS_PER_S
        if state == FileState.REUSED:
            row.reused += time.count
    for row in rows.values():
        row.size = reading.file_bytes.get(row.path, NOTHING).mean
        row.rows = reading.file_rows.get(row.path, NOTHING).mean
    return sorted(rows.values(), key=lambda row: (-row.seconds, row.path, row.where))
