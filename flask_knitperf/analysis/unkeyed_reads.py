"""Cached functions that read data of the request which is not in their key.

One user would get the answer of another, so the cache does not keep their results.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..caching.load_reads import Read, repair, unkeyed
from ..metrics.catalogue import UNKEYED_READ
from ..metrics.readings import Readings


@dataclass(slots=True)
class UnkeyedReads:
    """Reads of request data by one cached function, in requests of one endpoint.

    Attributes:
        endpoint: of the requests, empty outside of one.
        method: of the requests, empty outside of one.
        namespace: of the function.
        function: its module and name.
        reads: the reads that its key lacks, each with the first ``file:line``, empty where unknown;
            those of the longest loads first.
        count: number of results that were not cached.
        seconds: that loading them took.
    """

    endpoint: str
    method: str
    namespace: str
    function: str
    reads: dict[Read, str] = field(default_factory=dict)
    count: int = 0
    seconds: float = 0.0

    @property
    def where(self) -> str:
        """``file:line`` of the first read, empty where unknown."""
        return next(iter(self.reads.values()), "")

    @property
    def text(self) -> str:
        """The reads and their danger, a sentence without a full stop."""
        return f"{self.function} {unkeyed(self.reads)}: one user would see another's data"

    @property
    def repair(self) -> str:
        """The repair that lets the results be cached, a sentence without a full stop."""
        return repair(self.reads)


def unkeyed_reads(readings: Readings) -> list[UnkeyedReads]:
    """Return the reads by function and endpoint, those with the longest loads first."""
    rows: dict[tuple[str, str, str, str], UnkeyedReads] = {}
    for note in sorted(readings.notes(UNKEYED_READ), key=lambda note: (-note.weight, note.key)):
        key = note.key
        place = key.endpoint, key.method, key.namespace, key.function
        row = rows.setdefault(place, UnkeyedReads(*place))
        row.reads.setdefault((key.source, key.name), key.where)
        row.count = max(row.count, note.count)  # one load makes several reads
        row.seconds = max(row.seconds, note.weight)
    return sorted(rows.values(), key=lambda row: (-row.seconds, row.function, row.endpoint))
