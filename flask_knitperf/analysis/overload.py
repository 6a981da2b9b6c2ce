"""Overload of the machine: time that requests spend on the run queue, ready to run and without a core.

It depends on what else runs on the machine, not on the code of an endpoint. So in a window in which it
is a notable share, endpoints are judged by their time without it: the measured durations of sampled slow
requests, with and without their run-queue time, show which share of those above a threshold is above it
by themselves. Where too few of them were sampled (each request has another path), the mean share of
run-queue time is taken from all.

CPU time itself grows there: others evict a thread's data from the caches of its core. It grew by up to a
third in measurements, so a computation counts as too long only if it is so by more than that.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ..core.clock import NS_PER_S
from ..metrics.catalogue import MIN_QUEUEING_NS, PartKind
from ..metrics.histogram import Histogram
from .endpoints import Endpoint

MIN_QUEUED_SHARE = 0.1  # of the time of all requests, below which a machine is not overloaded
MIN_QUEUED_OF_RUNNABLE = 0.25  # of their CPU plus run-queue time, below which neither
MIN_SAMPLES = 20  # requests with a CPU sample, below which nothing is judged
MIN_MEASURED = 3  # sampled requests above a threshold, below which means take their place
CPU_GROWTH = 4 / 3  # of CPU time where others use the same cores, at most


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


def above_without_queueing(row: Endpoint, times: Histogram, limit_ns: float) -> int:
    """Return the number of requests that exceed a limit without their run-queue time.

    Where that was not measured at all (async views) these are all that exceed it.

    Args:
        row: their endpoint.
        times: their wall times.
        limit_ns: the limit.
    """
    number = times.above(limit_ns)
    if not number or row.cpu_share is None:
        return number
    lenient_ns = limit_ns * _growth(row)
    measured = row.reading.queueing
    if measured is not None and limit_ns >= MIN_QUEUEING_NS:
        included = measured.included.above(limit_ns)
        if included >= MIN_MEASURED:
            return round(number * measured.excluded.above(lenient_ns) / included)
    remaining = 1 - row.run_queue_share
    return times.above(lenient_ns / remaining) if remaining > 0 else 0


def _growth(row: Endpoint) -> float:
    """Return the factor by which the time of an endpoint without queueing may have grown."""
    remaining = 1 - row.run_queue_share
    computing = min(1.0, (row.cpu_share or 0.0) / remaining) if remaining > 0 else 1.0
    return 1 + (CPU_GROWTH - 1) * computing


def queued_share(row: Endpoint) -> float:
    """Return run-queue time as a share of runnable time."""
    runnable = (row.cpu_share or 0.0) + row.run_queue_share
    return row.run_queue_share / runnable if runnable > 0 else 0.0


def unqueued_share(row: Endpoint, kind: PartKind) -> float:
    """Return the share of the time of an endpoint's parts of one kind that is not run-queue time.

    Returns:
        1.0 where it was not measured.
    """
    part = next((part for part in row.parts if part.name == kind), None)
    return 1 - ((part and part.cpu) or 0.0) * queued_share(row)
