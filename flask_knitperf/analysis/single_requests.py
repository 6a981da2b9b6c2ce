"""Single requests that were kept: selected for a table, and one of them in detail.

A request is slow when it took longer than its endpoint's threshold or than its endpoint's p99. Its
timeline consists of the parts with a start and an end; their nesting follows from those.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..metrics.stack_trie import Trie, as_places, decode
from ..metrics.totals import Pair
from ..storage.exemplars import LATEST, SLOWEST, Exemplar

STREAMING = "streaming"
GC = "gc"
NS_PER_US = 1000


class PartTotal(NamedTuple):
    """Total of one kind of part of a request.

    Attributes:
        name: e.g. ``sql`` or ``section:explode bom``.
        runs: number of runs.
        us: exclusive microseconds.
    """

    name: str
    runs: int
    us: int


class Overlap(NamedTuple):
    """A request that ran concurrently in the same worker, for some microseconds."""

    endpoint: str
    method: str
    us: int


class TimelineEvent(NamedTuple):
    """One part of a request.

    Attributes:
        name: of the part.
        begin_us: microseconds after the start of the request.
        us: inclusive microseconds.
        depth: number of parts that it ran inside of.
        detail: what its collector recorded, ``None`` without detail.
    """

    name: str
    begin_us: int
    us: int
    depth: int
    detail: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class SingleRequest:
    """One request that was kept, with its stored document.

    Attributes:
        exemplar: the request.
        document: the values that the collector stored; times are microseconds.
    """

    exemplar: Exemplar
    document: Mapping[str, Any]

    @classmethod
    def of(cls, exemplar: Exemplar) -> SingleRequest | None:
        """Return a kept request, ``None`` where its document is damaged."""
        document = exemplar.document()
        return None if document is None else cls(exemplar, document)

    @property
    def pair(self) -> Pair:
        """Its endpoint and method."""
        return self.exemplar.endpoint, self.exemplar.method

    @property
    def parts(self) -> list[PartTotal]:
        """Totals of its parts, largest first."""
        return sorted(
            (PartTotal(*row) for row in self.document["parts"]), key=lambda part: -part.us
        )

    @property
    def concurrent(self) -> list[Overlap]:
        """Requests that ran alongside, longest overlap first."""
        return [Overlap(*row) for row in self.document["beside"]]

    @property
    def stacks(self) -> Trie | None:
        """Its stack samples, ``None`` where it ended before it was sampled."""
        stacks = self.document["stacks"]
        return None if stacks is None else decode(stacks["rows"], as_places(stacks["places"]))

    def is_slow(self, threshold_ms: float, p99_ms: float | None) -> bool:
        """Return whether it took longer than its endpoint's threshold or p99."""
        ms = self.exemplar.wall / 1e6
        return ms > threshold_ms or (p99_ms is not None and ms > p99_ms)

    def timeline(self) -> list[TimelineEvent]:
        """Return its parts in order of their start."""
        events: list[TimelineEvent] = []
        ends_us: list[int] = []  # of the parts around the next one
        for begin_us, us, name, detail in sorted(
            self._intervals(), key=lambda row: (row[0], -row[1], row[2])
        ):
            while ends_us and begin_us + us > ends_us[-1]:
                ends_us.pop()
            events.append(TimelineEvent(name, begin_us, us, len(ends_us), detail))
            if detail is None or "calls" not in detail:  # nothing runs inside of several statements
                ends_us.append(begin_us + us)
        return events

    def _intervals(self) -> Iterator[tuple[int, int, str, Mapping[str, Any] | None]]:
        """Yield start, length in microseconds, name and detail of each part."""
        document = self.document
        for name, begin_us, us, detail in document["events"]:
            yield begin_us, us, name, detail
        for begin_us, us in document["pauses"]:
            yield begin_us, us, GC, None
        if (begin_us := document["streaming"]) is not None:
            yield begin_us, self.exemplar.wall // NS_PER_US - begin_us, STREAMING, None


def latest_and_slowest(
    exemplars: Iterable[Exemplar], pair: Pair
) -> tuple[list[SingleRequest], list[SingleRequest]]:
    """Return the newest and the slowest requests of one endpoint; damaged ones are left out.

    Args:
        exemplars: of the window, of any endpoint.
        pair: endpoint and method.
    """
    requests = [
        request for exemplar in exemplars
        if (exemplar.endpoint, exemplar.method) == pair
        and (request := SingleRequest.of(exemplar)) is not None
    ]  # fmt: skip
    latest = sorted(requests, key=lambda one: (-one.exemplar.at, one.exemplar.name))
    slowest = sorted(requests, key=lambda one: (-one.exemplar.wall, one.exemplar.name))
    return latest[:LATEST], slowest[:SLOWEST]
