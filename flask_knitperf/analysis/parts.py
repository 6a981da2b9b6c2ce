"""Parts of requests: exclusive times of sections, hooks, statements, file reads, connection waits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..core.clock import NS_PER_MS
from ..metrics.catalogue import PartKind
from ..metrics.readings.rows import EndpointReading, PartReading


@dataclass(slots=True)
class Part:
    """Exclusive time of one part within the requests of an endpoint.

    Attributes:
        name: e.g. ``sql`` or ``section:explode bom``.
        ms: mean per request of the endpoint.
        share: of the endpoint's wall time, 0 to 1; the shares of one endpoint sum to at most 1.
        count: number of times that it ran.
        cpu: share of its time on a core or on the run queue, ``None`` if not measured.
        where: ``file:line`` of the function or of its most expensive caller, if known.
    """

    name: str
    ms: float
    share: float
    count: int
    cpu: float | None = None
    where: str | None = None


def parts(reading: EndpointReading, places: Mapping[str, str]) -> list[Part]:
    """Return the parts of an endpoint, largest first, scaled down where they exceed its wall time.

    Args:
        reading: of the endpoint.
        places: ``file:line`` of profiled functions, by name.
    """
    every = reading.requests.every
    if not every.count or every.total <= 0:
        return []
    whole = max(every.total, sum(part.wall.total for part in reading.parts))
    mean_ms = every.total / every.count / NS_PER_MS
    rows = []
    for part in reading.parts:
        if part.wall.count and part.wall.total >= 0:
            share, where = part.wall.total / whole, places.get(part.name.partition(":")[2])
            cpu = _cpu_share(part)
            rows.append(Part(part.name, share * mean_ms, share, part.wall.count, cpu, where))
    return sorted(rows, key=lambda part: (-part.share, part.name))


def _cpu_share(part: PartReading) -> float | None:
    if not part.sampled_cpu.count or part.sampled_wall.total <= 0:
        return None
    return min(1.0, max(0.0, part.sampled_cpu.total / part.sampled_wall.total))


def locate(rows: list[Part], kind: PartKind, where: str) -> None:
    """Set the line that takes most of the time of one kind of part."""
    for part in rows:
        if part.name == kind:
            part.where = where or None
