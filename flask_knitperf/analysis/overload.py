"""Overload of the machine: time that requests spend on the run queue, ready to run and without a core.

It depends on what else runs on the machine, not on the code of an endpoint. So in a window in which it
is a notable share, endpoints are judged by their time without it: the measured durations of sampled slow
requests, with and without their run-queue time, show which share of those above a threshold is above it
by themselves.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ..core.clock import NS_PER_S
from ..metrics.catalogue import MIN_QUEUEING_NS
from .endpoints import Endpoint

MIN_QUEUED_SHARE = 0.1  # of the time of all requests, below which a machine is not overloaded
MIN_QUEUED_OF_RUNNABLE = 0.25  # of their CPU plus run-queue time, below which neither
MIN_SAMPLES = 20  # requests with a CPU sample, below which nothing is judged


class Overload(NamedTuple):
    """Run-queue time of the requests of a window.

    Attributes:
        share: of the time of all requests, 0 to 1.
        queued_s: total in seconds.
        requests: number of requests that it is estimated for.
    """

    share: float
    queued_s: float
    requests: int


def overload(rows: Iterable[Endpoint]) -> Overload | None:
    """Return the overload of the machine, ``None`` where it is not overloaded or that is not known."""
    readings = [row.reading for row in rows]
    queued, cpu, wall = (
        sum(tally.total for tally in tallies)
        for tallies in (
            [reading.run_queue for reading in readings],
            [reading.cpu for reading in readings],
            [reading.sampled_wall for reading in readings],
        )
    )
    requests = sum(reading.sampled_wall.count for reading in readings)
    if requests < MIN_SAMPLES or queued <= 0 or wall <= 0:
        return None
    share = min(1.0, queued / wall)
    if share < MIN_QUEUED_SHARE or queued < MIN_QUEUED_OF_RUNNABLE * (queued + cpu):
        return None
    whole = sum(row.total for row in (reading.requests.every for reading in readings))
    return Overload(share, share * whole / NS_PER_S, requests)


def share_above(row: Endpoint, limit_ns: float) -> float:
    """Return the share of the requests above a limit that exceed it without their run-queue time.

    Where that was not measured (fast requests, async views) it is 1: they are judged as they are.
    """
    measured = row.reading.queueing
    if measured is None or limit_ns < MIN_QUEUEING_NS:
        return 1.0
    included = measured.included.above(limit_ns)
    return measured.excluded.above(limit_ns) / included if included else 1.0
