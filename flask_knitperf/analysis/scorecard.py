"""Scorecard: targets as a table of criteria, with the measured value and whether it is met.

``ok`` is ``None`` without a measurement: an empty report meets no target.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from ..core.clock import NS_PER_MS
from ..core.units import MB, count, percent, plain
from ..metrics.histogram import Histogram
from ..metrics.readings import Readings
from .caches import cache_uses, total_use
from .endpoints import Coverage, Endpoint
from .judged import MIN_REQUESTS
from .latency import judged_for_latency
from .leaks import leaks

if TYPE_CHECKING:
    from ..core.settings import Settings

TARGET_HIT_RATE = 0.8
MIN_GROWTH_S = 600  # of growth without a suspect, below which it may be that of caches which fill
MIN_LOOKUPS = 100  # of the cache, below which its hit rate is not judged: a new cache is empty


class Measured(NamedTuple):
    """Result of a criterion; ``ok`` is ``None`` where it was not measured."""

    target: str
    actual: str | None
    ok: bool | None


class Seen(NamedTuple):
    """Input of the criteria."""

    readings: Readings
    rows: list[Endpoint]
    coverage: Coverage
    settings: Settings


def scorecard(
    readings: Readings, rows: Iterable[Endpoint], coverage: Coverage, settings: Settings
) -> dict[str, Measured]:
    """Return the result of each criterion, by its name.

    Args:
        readings: of the window, for gauges and leaks.
        rows: of :func:`.endpoints.endpoints`.
        coverage: of :func:`.endpoints.coverage`.
        settings: the targets.
    """
    seen = Seen(readings, list(rows), coverage, settings)
    return {name: test(seen) for name, test in CRITERIA}


def _memory(seen: Seen) -> Measured:
    limit = seen.settings.target_memory_mb
    target = f"< {limit:g} MB per worker"
    rss, pss = seen.readings.gauges.rss, seen.readings.gauges.pss
    if not rss:
        return Measured(target, None, None)
    most = max(rss.values()) / MB
    actual = f"{most:,.0f} MB in the largest of {len(rss)}"
    if pss:
        actual += f"; {sum(pss.values()) / MB:,.0f} MB in total"
    return Measured(target, actual, most < limit)


def _latency(seen: Seen) -> Measured:
    limit = seen.settings.target_p95_ms
    target = f"p95 of every judged endpoint within {limit:g} ms"
    judged = [
        row for row in seen.rows if row.warm.count >= MIN_REQUESTS and judged_for_latency(row)
    ]
    if not judged:
        return Measured(target, None, None)
    good = sum(_p95_within(row.warm, limit * NS_PER_MS) for row in judged)
    return Measured(target, f"{good} of {len(judged)}", good == len(judged))


def _p95_within(requests: Histogram, limit: float) -> bool:
    """Return whether the nearest-rank p95 is within a limit, by counting what is above it."""
    return requests.above(limit) <= requests.count - math.ceil(0.95 * requests.count)


def _cache(seen: Seen) -> Measured:
    target = f"> {TARGET_HIT_RATE:.0%} of look-ups hit".replace("%", " %")
    total = total_use(cache_uses(seen.readings))
    rate = total.hit_rate
    if rate is None or total.lookups < MIN_LOOKUPS:
        return Measured(target, None, None)
    attainable = total.attainable_rate or 0.0
    actual = (
        f"{plain(percent(rate))} of {plain(count(total.lookups, 'look-up'))}; "
        f"{plain(percent(attainable))} with room for all values"
    )
    # where no cache of any size would meet the target, it is one for the look-ups that could hit
    least = TARGET_HIT_RATE if attainable > TARGET_HIT_RATE else TARGET_HIT_RATE * attainable
    return Measured(target, actual, rate > least)


def _leak(seen: Seen) -> Measured:
    target = "no leak suspected"
    judged, suspected = seen.readings.growth, leaks(seen.readings)
    if suspected:
        return Measured(target, f"{len(suspected)} suspected", False)
    if not judged:
        return Measured(target, None, None)
    workers = plain(count(len(judged), "worker"))
    growing = [reading for reading in judged.values() if reading.grown_bytes > 0]
    if growing:  # a new worker may be filling caches
        is_old = any(reading.seconds >= MIN_GROWTH_S for reading in growing)
        actual = f"none, but {len(growing)} of {workers} grew for a reason not found yet"
        return Measured(target, actual, False if is_old else None)
    return Measured(target, f"none in {workers}", True)


def _monitored(seen: Seen) -> Measured:
    total, met = seen.coverage.total, seen.coverage.seen
    target = "every endpoint called"
    if not total or not seen.rows:
        return Measured(target, None, None)
    return Measured(target, f"{met} of {total}", met == total)


CRITERIA: tuple[tuple[str, Callable[[Seen], Measured]], ...] = (
    ("memory per worker", _memory),
    ("response time", _latency),
    ("cache hits", _cache),
    ("memory leaks", _leak),
    ("coverage", _monitored),
)
