"""Cost of observing a cache that the application already has.

Look-ups and writes of a cache and of an equal one that is observed alternate in blocks within a request,
by the time of the thread; a figure is the median of the differences between two neighbouring blocks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import cachetools
from flask_caching.backends.simplecache import SimpleCache

from flask_knitperf import CacheOptimizer
from flask_knitperf.recording.span import CURRENT, Span

from ..harness.outcome import Grid, Outcome, Spread

ROUNDS = 61
CALLS = 5_000
ENTRIES = 500
MAX_US = 2.0
CACHES: dict[str, Callable[[], Any]] = {
    "dict": dict,
    "cachetools.LRUCache": lambda: cachetools.LRUCache(2 * ENTRIES),
    "cachetools.TTLCache": lambda: cachetools.TTLCache(2 * ENTRIES, 600),
    "backend of Flask-Caching": lambda: SimpleCache(threshold=2 * ENTRIES),
}
KNOWN = [f"yarn:{number}" for number in range(ENTRIES)]
UNKNOWN = [f"cone:{number}" for number in range(ENTRIES)]
Operation = Callable[[Any, int], object]


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome, lines = Outcome(), []
    worst: dict[str, float] = {}
    for name, make in CACHES.items():
        plain, observed = make(), CacheOptimizer().observe(make(), name=name)
        write = _writer(name)
        for number, key in enumerate(KNOWN):
            write(plain, number), write(observed, number)
            assert plain.get(key) == observed.get(key)
        operations: dict[str, Operation] = {
            "hit": lambda cache, n: cache.get(KNOWN[n % ENTRIES]),
            "miss": lambda cache, n: cache.get(UNKNOWN[n % ENTRIES]),
            "write": write,
        }
        for what, operation in operations.items():
            added = _added(operation, plain, observed, 5 if quick else ROUNDS)
            worst[what] = max(worst.get(what, 0.0), added.median)
            lines.append((name, what, f"{added.median:.2f} ({added.low:.2f} to {added.high:.2f})"))
    for what, microseconds in worst.items():
        outcome.judge(
            f"cache_observers.{what}", f"added to a {what} of an observed cache, the costliest of "
            f"{len(CACHES)}", f"≤ {MAX_US:g} µs", f"{microseconds:.2f} µs", microseconds <= MAX_US,
        )  # fmt: skip
    heads = ("cache", "call", "µs added (quartiles)")
    outcome.grids.append(Grid("CPU time added to a call", heads, tuple(lines)))
    return outcome


def _writer(name: str) -> Operation:
    if name.startswith("backend"):
        return lambda cache, n: cache.set(KNOWN[n % ENTRIES], n)
    return lambda cache, n: cache.__setitem__(KNOWN[n % ENTRIES], n)


def _added(operation: Operation, plain: Any, observed: Any, rounds: int) -> Spread:
    """Return the microseconds that observing adds to a call."""
    differences = []
    token = CURRENT.set(Span(None, {}, 0))
    try:
        for number in range(rounds):
            order = (plain, observed) if number % 2 else (observed, plain)
            took = {id(cache): _block(operation, cache) for cache in order}
            differences.append((took[id(observed)] - took[id(plain)]) / CALLS / 1000)
    finally:
        CURRENT.reset(token)
    return Spread.of(differences)


def _block(operation: Operation, cache: Any) -> int:
    """Return the nanoseconds of CPU time of a block of calls."""
    began = time.thread_time_ns()
    for number in range(CALLS):
        operation(cache, number)
    return time.thread_time_ns() - began
