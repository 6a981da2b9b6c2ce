"""Lifetimes that tune themselves, beside the best fixed one with the same share of outdated hits.

A day of 325,000 requests for 200 keys (Zipf 1.0), whose values change once in five minutes to once in a
week (log-uniform), and whose loads take 0.6 s in the middle (log-normal, sigma 1). Requests and changes
are at random times; the cache is the real one, with the clock of the simulation, and one hit in a
thousand is verified. The fixed lifetime is the one with the same share of outdated hits, by bisection.
"""

from __future__ import annotations

import bisect
import math
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

from flask_knitperf.caching.function_cache import FunctionCache
from flask_knitperf.caching.invalidation import Invalidation
from flask_knitperf.caching.options import Options
from flask_knitperf.caching.region import counts
from flask_knitperf.caching.store import Store
from flask_knitperf.caching.ttl_tuning import DEFAULT_BUDGET, StalePrice

from ..harness.outcome import Grid, Outcome

SEEDS = 5
KEYS = 200
REQUESTS = 325_000
SPAN_S = 86_400.0
CHANGES_S = (300.0, 7 * 86_400.0)
MEDIAN_LOAD_S = 0.6
MIN_HITS = 0.84
MAX_STALE = 0.05
MAX_LOAD_RATIO = 0.5
VERIFY = 1_000


class Result(NamedTuple):
    """Outcome of one day.

    Attributes:
        hits: share of requests that were answered from the cache.
        stale: share of the hits that were out of date.
        load_s: seconds of all loads.
    """

    hits: float
    stale: float
    load_s: float


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome, lines = Outcome(), []
    tuned: list[Result] = []
    fixed: list[Result] = []
    for seed in range(1 if quick else SEEDS):
        day = _Day(seed, REQUESTS // (10 if quick else 1))
        own = day.tuned()
        ttl, other = day.best_fixed(own.stale)
        tuned.append(own)
        fixed.append(other)
        lines.append((
            str(seed), f"{own.hits:.1%}", f"{own.stale:.1%}", f"{own.load_s:,.0f}", f"{ttl:.0f} s",
            f"{other.hits:.1%}", f"{other.load_s:,.0f}",
        ))  # fmt: skip
    hits = min(one.hits for one in tuned)
    stale = sum(one.stale for one in tuned) / len(tuned)
    ratio = sum(one.load_s for one in tuned) / sum(one.load_s for one in fixed)
    outcome.judge(
        "cache_ttl.hits", "hits with tuned lifetimes, the worst of five days", f"≥ {MIN_HITS:.0%}",
        f"{hits:.1%}", hits >= MIN_HITS,
    )  # fmt: skip
    outcome.judge(
        "cache_ttl.stale", "share of the hits that were out of date, mean of five days",
        f"≤ {MAX_STALE:.0%}", f"{stale:.1%}", stale <= MAX_STALE,
    )  # fmt: skip
    outcome.judge(
        "cache_ttl.loads", "load seconds beside the fixed lifetime with equal staleness",
        f"≤ {MAX_LOAD_RATIO:g} ×", f"{ratio:.2f} ×", ratio <= MAX_LOAD_RATIO,
    )  # fmt: skip
    heads = (
        "day", "tuned: hits", "outdated", "load s", "fixed lifetime", "hits", "load s",
    )  # fmt: skip
    outcome.grids.append(Grid("A day of 200 keys", heads, tuple(lines)))
    return outcome


class _Day:
    """Requests and changes of one day."""

    def __init__(self, seed: int, requests: int) -> None:
        self.random = random.Random(seed)
        self.now, self.loaded_s = 0.0, 0.0
        weights = [1 / (rank + 1) for rank in range(KEYS)]
        rates = [requests / SPAN_S * weight / sum(weights) for weight in weights]
        self.random.shuffle(rates)
        low, high = map(math.log, CHANGES_S)
        self.changes = [
            list(self._times(1 / math.exp(self.random.uniform(low, high)))) for _ in range(KEYS)
        ]
        self.costs = [self.random.lognormvariate(math.log(MEDIAN_LOAD_S), 1.0) for _ in range(KEYS)]
        self.requests = sorted((t, key) for key in range(KEYS) for t in self._times(rates[key]))

    def _times(self, rate: float) -> Iterator[float]:
        now = self.random.expovariate(rate)
        while now < SPAN_S:
            yield now
            now += self.random.expovariate(rate)

    def version(self, key: int, at: float) -> int:
        """Return the number of changes of a key until a moment."""
        return bisect.bisect(self.changes[key], at)

    def tuned(self) -> Result:
        """Send the requests to a cache with tuned lifetimes."""
        price = StalePrice(lambda: DEFAULT_BUDGET)
        cache = self._cache(Options("day", auto_ttl=True), price)
        hits = stale = 0
        draw = random.Random(7).random
        self.loaded_s = 0.0
        for now, key in self.requests:
            self.now = now
            before = cache.region.entries.get((key,))
            is_hit = before is not None and now < before.until
            version = cache.wrapper(key)
            if not is_hit or before is None:
                continue
            hits += 1
            differs = version != self.version(key, now)
            stale += differs
            if draw() < 1 / VERIFY:
                cache.lifetimes.check((key,), cache.age(before), changed=differs)
                if differs:
                    cache.discard(before)
        assert counts([cache.region])["hits"] == hits
        return Result(hits / len(self.requests), stale / hits, self.loaded_s)

    def _cache(self, options: Options, price: StalePrice) -> FunctionCache:
        def load(key: int) -> int:
            version = self.version(key, self.now)
            self.loaded_s += self.costs[key]
            self.now += self.costs[key]
            return version

        store = Store(1 << 30, clock=lambda: self.now, seed=1)
        return FunctionCache(
            load, options, store, Invalidation(), [], lambda: False, lambda: self.now,
            prices=(price, StalePrice()),
        )  # fmt: skip

    def fixed(self, ttl: float) -> Result:
        """Return the outcome with one lifetime for all."""
        born: dict[Any, float] = {}
        hits, stale, load_s = 0, 0, 0.0
        for now, key in self.requests:
            since = born.get(key)
            if since is not None and now < since + self.costs[key] + ttl:
                hits += 1
                stale += self.version(key, now) != self.version(key, since)
            else:
                born[key] = now
                load_s += self.costs[key]
        return Result(hits / len(self.requests), stale / max(hits, 1), load_s)

    def best_fixed(self, stale: float) -> tuple[float, Result]:
        """Return the lifetime whose hits are outdated as often, and its outcome."""
        low, high = 1.0, SPAN_S
        for _ in range(12):
            middle = math.sqrt(low * high)
            if self.fixed(middle).stale < stale:
                low = middle
            else:
                high = middle
        return low, self.fixed(low)
