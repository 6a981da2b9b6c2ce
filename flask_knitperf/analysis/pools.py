"""Pools of connections: what waiting, holding and leaking was measured, and the size that this asks for.

By Little's law the connections in use are, on the average, checkouts per second times seconds that one
is held (Little 1961): both are measured, and neither depends on how long anybody waited. Arrivals that
do not know of each other need more than the average; two square roots above it cover nineteen of
twenty (a Poisson distribution). More than were ever out at once, in a pool that had room, nobody needs:
a worker has so many threads. And far more than a database can work on only move the queue there; eight
for each core, all workers together, still lost less than two percent of its throughput where the
database did all the work, and won six where the application did (``docs/decisions/0023``).
"""

from __future__ import annotations

import math
from typing import Any

from ..metrics.catalogue import POOL_LEAK
from ..metrics.histogram import Histogram
from ..metrics.totals import Row, Totals

SECOND, MS = 1e9, 1e6
WAITED_MS = 1.0
"""From here on a checkout has waited."""
FEW = 20
"""Checkouts below which no size is advised."""
EACH_CORE = 8
"""Connections of all workers that one core of a database may be asked to work for."""


def pools(totals: Totals, seconds: float, workers: int, cores: int) -> list[dict[str, Any]]:
    """Return what is known of each pool, by the time that was waited for it.

    Args:
        totals: of a window.
        seconds: length of the window.
        workers: that serve.
        cores: of the database's machine, as far as it is this one.
    """
    names = list(dict.fromkeys(
        labels[0] for meter in ("pool_hold", "pool_wait", "pool_opened", "pool_timeouts")
        for labels, _ in totals.rows(meter)
    ))  # fmt: skip
    made = [_pool(totals, name, seconds, max(1, workers), cores) for name in names]
    return sorted(
        (row for row in made if row["checkouts"] or row["timeouts"]),
        key=lambda row: (-row["wait"]["total_ms"], row["pool"]),
    )


def _pool(totals: Totals, name: str, seconds: float, workers: int, cores: int) -> dict[str, Any]:
    def rows(meter: str) -> list[Row]:
        return [each for each in totals.rows(meter) if each[0][0] == name]

    wait, hold, busy = (
        totals.histogram(rows(meter)) for meter in ("pool_wait", "pool_hold", "pool_in_use")
    )
    opened, timeouts = totals.tally(rows("pool_opened")), totals.tally(rows("pool_timeouts"))
    invalidated = {labels[1]: totals.tally(((labels, row),)).count
                   for labels, row in rows("pool_invalidated")}  # fmt: skip
    size, limit = (max(totals.gauges(rows(meter)).values(), default=None)
                   for meter in ("pool_size", "pool_limit"))  # fmt: skip
    row = {
        "pool": name,
        "checkouts": wait.count + opened.count,
        "wait": _times(wait),
        "waited_share": round(wait.above(WAITED_MS * MS) / wait.count, 4) if wait.count else None,
        "hold": _times(hold),
        "in_use_p99": None if not busy.count else round(busy.quantile(0.99) or 0),
        "in_use_max": None if busy.high is None else round(busy.high),
        "size": None if size is None else round(size),
        "limit": None if limit is None else round(limit),
        "opened": opened.count,
        "opened_ms": round(opened.total / opened.count / MS, 3) if opened.count else None,
        "timeouts": timeouts.count,
        "invalidated": {why: count for why, count in sorted(invalidated.items()) if count},
        "leaks": _leaks(totals, name),
    }
    seen = None if busy.high is None else round(busy.high)
    if seen is not None and limit is not None and seen >= limit:
        seen = None  # there was no room for more
    row["advice"] = _advice(name, hold, seconds, workers, cores, seen)
    return row


def _times(found: Histogram) -> dict[str, Any]:
    p50, p95, p99 = found.quantiles((0.5, 0.95, 0.99))
    return {
        "count": found.count,
        "total_ms": round(found.total / MS, 3),
        **{f"{name}_ms": None if value is None else round(value / MS, 3) for name, value in
           (("p50", p50), ("p95", p95), ("p99", p99), ("max", found.high))},
    }  # fmt: skip


def _leaks(totals: Totals, name: str) -> list[dict[str, Any]]:
    """Return where connections were taken that did not come back."""
    found: list[dict[str, Any]] = [
        {"where": note.key.where or None, "count": note.count, "stack": note.detail["stack"]}
        for note in totals.notes(POOL_LEAK)
        if note.key.pool == name
    ]
    return sorted(found, key=lambda leak: (-leak["count"], leak["where"] or ""))


def _advice(
    name: str, hold: Histogram, seconds: float, workers: int, cores: int, seen: int | None
) -> dict[str, Any] | None:
    """Return the size that a pool should have, with the figures it follows from."""
    if hold.count < FEW or seconds <= 0 or not hold.mean:
        return None
    rate = hold.count / seconds / workers
    held = hold.mean / SECOND
    mean = rate * held
    need = max(1, math.ceil(mean + 2 * math.sqrt(mean)))
    most = max(1, EACH_CORE * cores // workers) if _is_here(name) else None
    size = min(each for each in (need, most, seen) if each is not None)
    many = f"Each of {workers} workers" if workers > 1 else "The only worker"
    said = (
        f"{many} takes a connection {rate:,.1f} times a second and holds it for "
        f"{held * 1000:,.1f} ms, so {mean:,.2f} are in use on the average; "
    )
    if size == need:
        said += f"a pool of {size} is enough"
    elif size == seen:
        said += f"that asks for {need}, but no worker ever had more than {size} out at once"
    else:
        said += (
            f"that asks for {need}, but for a database on {cores} core{'s' * (cores > 1)} "
            f"{EACH_CORE * cores} connections are plenty, which is {most} for each worker"
        )
    return {
        "size": size, "need": need, "most": most, "seen": seen, "checkouts_per_s": round(rate, 3),
        "held_ms": round(held * 1000, 3), "in_use": round(mean, 3), "workers": workers,
        "text": f"{said}.",
    }  # fmt: skip


def _is_here(name: str) -> bool:
    """Return whether a database runs on this machine, as far as its address tells."""
    host = name.partition("://")[2].partition("/")[0]
    return host in ("", "localhost", "127.0.0.1", "::1") or host.startswith("/")
