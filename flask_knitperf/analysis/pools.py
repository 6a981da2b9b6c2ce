"""Pools of connections: what waiting, holding and leaking was measured, and the size that follows.

By Little's law the mean number of connections in use is checkouts per second times seconds that one is
held (Little 1961): both are measured, and neither depends on how long requests waited. Independent
arrivals need more than the mean; two square roots above it cover nineteen of twenty (a Poisson
distribution). More than were ever in use at once, in a pool that had room, are never needed: a worker
has a limited number of threads. And far more than a database can work on only move the queue there;
eight for each core, over all workers, still lost less than two percent of its throughput where the
database did all the work, and won six where the application did (``docs/decisions/0023``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..core.clock import NS_PER_MS, NS_PER_S
from ..metrics.catalogue import POOL_LEAK
from ..metrics.histogram import Histogram
from ..metrics.readings import Readings
from ..metrics.readings.rows import PoolReading
from ..metrics.totals import Tally

WAITED_MS = 1.0
"""From here on a checkout has waited."""
FEW = 20
"""Checkouts below which no size is advised."""
EACH_CORE = 8
"""Connections of all workers that one core of a database serves without loss."""


@dataclass(frozen=True, slots=True)
class PoolLeak:
    """Connections that were not returned.

    Attributes:
        where: the line that checked them out, empty where unknown.
        count: connections.
        stack: lines of the application that led there, innermost first.
    """

    where: str
    count: int
    stack: list[str]


@dataclass(frozen=True, slots=True)
class PoolAdvice:
    """Recommended size of a pool, with the figures it follows from.

    Attributes:
        size: connections of each worker's pool.
        need: connections that Little's law requires.
        most: connections that the database can use, ``None`` where it runs elsewhere.
        seen: most connections checked out at once where the pool had room for more, else ``None``.
        checkouts_per_s: per worker.
        held_s: mean time that a connection is held.
        in_use: mean number of connections in use, per worker.
        workers: processes that serve.
        text: the advice in sentences.
    """

    size: int
    need: int
    most: int | None
    seen: int | None
    checkouts_per_s: float
    held_s: float
    in_use: float
    workers: int
    text: str


@dataclass(frozen=True, slots=True)
class Pool:
    """Measurements of one connection pool.

    Attributes:
        name: kind, host and database.
        wait: times waited for an open connection, in nanoseconds.
        hold: times from checkout to checkin, in nanoseconds.
        in_use: connections checked out, at each checkout.
        opened: connections that had to be opened, with the time that took.
        timeouts: requests that got no connection in time.
        invalidated: invalidated connections by class of exception.
        size: configured size, ``None`` where unknown.
        limit: size plus overflow, ``None`` where unknown.
        leaks: connections that were not returned, most first.
        advice: recommended size, ``None`` where too little was measured.
    """

    name: str
    wait: Histogram
    hold: Histogram
    in_use: Histogram
    opened: Tally
    timeouts: int
    invalidated: dict[str, int]
    size: int | None
    limit: int | None
    leaks: list[PoolLeak]
    advice: PoolAdvice | None

    @property
    def checkouts(self) -> int:
        """Checkouts by requests."""
        return self.wait.count + self.opened.count

    @property
    def waited_share(self) -> float | None:
        """Share of checkouts of an open connection that waited, ``None`` without checkouts."""
        count = self.wait.count
        return self.wait.above(WAITED_MS * NS_PER_MS) / count if count else None


def pools(readings: Readings, seconds: float, workers: int, cores: int) -> list[Pool]:
    """Return the pools that requests used, by total time waited.

    Args:
        readings: of a window.
        seconds: length of the window.
        workers: that serve.
        cores: of the database's machine, as far as it is this one.
    """
    rows = [_pool(readings, pool, seconds, max(1, workers), cores) for pool in readings.pools]
    return sorted(
        (pool for pool in rows if pool.checkouts or pool.timeouts),
        key=lambda pool: (-pool.wait.total, pool.name),
    )


def _pool(
    readings: Readings, reading: PoolReading, seconds: float, workers: int, cores: int
) -> Pool:
    in_use, limit = reading.in_use, reading.limit
    seen = None if in_use.high is None else round(in_use.high)
    if seen is not None and limit is not None and seen >= limit:
        seen = None  # there was no room for more
    return Pool(
        name=reading.name,
        wait=reading.wait,
        hold=reading.hold,
        in_use=in_use,
        opened=reading.opened,
        timeouts=reading.timeouts.count,
        invalidated={why: count for why, count in sorted(reading.invalidated.items()) if count},
        size=None if reading.size is None else round(reading.size),
        limit=None if limit is None else round(limit),
        leaks=_leaks(readings, reading.name),
        advice=_advice(reading.name, reading.hold, seconds, workers, cores, seen),
    )


def _leaks(readings: Readings, name: str) -> list[PoolLeak]:
    """Return the lines that took connections which were not returned."""
    leaks = [
        PoolLeak(note.key.where, note.count, note.detail["stack"])
        for note in readings.notes(POOL_LEAK)
        if note.key.pool == name
    ]
    return sorted(leaks, key=lambda leak: (-leak.count, leak.where))


def _advice(
    name: str, hold: Histogram, seconds: float, workers: int, cores: int, seen: int | None
) -> PoolAdvice | None:
    """Return the size that a pool should have, with the figures it follows from."""
    if hold.count < FEW or seconds <= 0 or not hold.mean:
        return None
    rate = hold.count / seconds / workers
    hold_s = hold.mean / NS_PER_S
    mean = rate * hold_s
    need = max(1, math.ceil(mean + 2 * math.sqrt(mean)))
    most = max(1, EACH_CORE * cores // workers) if _is_here(name) else None
    size = min(bound for bound in (need, most, seen) if bound is not None)
    many = f"Each of {workers} workers" if workers > 1 else "The only worker"
    text = (
        f"{many} takes a connection {rate:,.1f} times a second and holds it for "
        f"{hold_s * 1000:,.1f} ms, so {mean:,.2f} are in use on the average; "
    )
    if size == need:
        text += f"a pool of {size} is enough"
    elif size == seen:
        text += f"that needs {need}, but no worker ever had more than {size} checked out at once"
    else:
        text += (
            f"that needs {need}, but for a database on {cores} core{'s' * (cores > 1)} "
            f"{EACH_CORE * cores} connections are plenty, which is {most} for each worker"
        )
    return PoolAdvice(size, need, most, seen, rate, hold_s, mean, workers, f"{text}.")


def _is_here(name: str) -> bool:
    """Return whether a database runs on this machine, judged by its address."""
    host = name.partition("://")[2].partition("/")[0]
    return host in ("", "localhost", "127.0.0.1", "::1") or host.startswith("/")
