"""What endpoints read from files: by file and line, and how much of it was read again for nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..metrics.catalogue import FileState
from ..metrics.totals import NOTHING, Row, Totals

SECOND = 1e9


@dataclass(slots=True)
class FileRead:
    """One file that an endpoint reads at one line.

    Attributes:
        path: as it is shown, or ``<memory>`` for what is no file.
        where: file and line of own code that asked for it, empty if none did.
        count: reads.
        unchanged: those that gave what the same worker had read the last time.
        seconds: they all took.
        avoidable_s: the unchanged ones took.
        size: mean bytes of the file, ``None`` where unknown.
        rows: mean rows, ``None`` where unknown.
    """

    path: str
    where: str
    count: int = 0
    unchanged: int = 0
    seconds: float = 0.0
    avoidable_s: float = 0.0
    size: float | None = None
    rows: float | None = None


def file_reads(
    totals: Totals, reads: Iterable[Row], sizes: Iterable[Row], rows: Iterable[Row]
) -> list[FileRead]:
    """Return what one endpoint reads, by the time that takes, the largest first.

    Args:
        totals: of the window.
        reads: series of ``file_read``, with ``(path, where, state)``.
        sizes: series of ``file_read_bytes``, with ``(path,)``.
        rows: series of ``file_read_rows``, with ``(path,)``.
    """
    found: dict[tuple[str, str], FileRead] = {}
    for each in reads:
        (path, where, state), data = each[0], totals.tally((each,))
        if not data.count:
            continue
        one = found.setdefault((path, where), FileRead(path, where))
        one.count += data.count
        one.seconds += data.total / SECOND
        if state == FileState.UNCHANGED:
            one.unchanged += data.count
            one.avoidable_s += data.total / SECOND
    means = [totals.tallies(each) for each in (sizes, rows)]
    for one in found.values():
        one.size, one.rows = (each.get(one.path, NOTHING).mean for each in means)
    return sorted(found.values(), key=lambda one: (-one.seconds, one.path, one.where))
