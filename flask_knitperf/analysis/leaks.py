"""Endpoints that are suspected of a memory leak, merged over workers.

Each worker judges its own memory (see :mod:`..collectors.memory.leak_detector`) and publishes its growth
and its suspects. Here they are summed; the p-value is the lowest of the workers that suspect the
endpoint, times the number of judged workers (Bonferroni).
"""

from __future__ import annotations

from dataclasses import dataclass

from ..metrics.readings import Readings
from ..metrics.totals import Pair


@dataclass(frozen=True, slots=True)
class Leak:
    """Memory that requests of one endpoint are suspected to retain.

    Attributes:
        bytes_per_request: mean over workers, weighted by their growth.
        grown_bytes: total of all workers over all of their requests, if each retains as much.
        workers: number of workers that suspect it.
        pairs: number of measured requests, 0 where it was inferred from request counts.
        p_value: probability that memory only seems to grow.
    """

    bytes_per_request: float
    grown_bytes: float
    workers: int
    pairs: int
    p_value: float


def leaks(readings: Readings) -> dict[Pair, Leak]:
    """Return the suspected leaks by endpoint and method."""
    growth, suspected = readings.growth, dict[Pair, Leak]()
    for pair, by_worker in readings.leaks.items():
        leaking = {name: row for name, row in by_worker.items() if row.grown_bytes > 0}
        if not leaking:
            continue
        total = sum(row.grown_bytes for row in leaking.values())
        weighted = sum(row.bytes_per_request * row.grown_bytes for row in leaking.values())
        lowest = min((growth[name].p_value for name in leaking if name in growth), default=1.0)
        suspected[pair] = Leak(
            bytes_per_request=weighted / total,
            grown_bytes=total,
            workers=len(leaking),
            pairs=round(sum(row.pairs for row in leaking.values())),
            p_value=min(1.0, lowest * max(1, len(growth))),
        )
    return suspected
