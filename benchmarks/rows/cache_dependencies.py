"""A cached value follows the files and tables that its load reads, without a declaration.

The ways of reading and the operations are by an author who had not seen the cache, and were committed
before it ran on them (`corpus/file_reading_ways.py`, `corpus/dependency_operations.py`). A way is seen
if its value is cached and, after each change of its files, not returned. The operations read and change
files and tables; each answer is compared with that of the load itself, once the cache has checked its
files. They change a file every few milliseconds, so the age below which a file is not cached is set to
12 ms for them, which is more than the grain of the clock here.
"""

from __future__ import annotations

import importlib
import logging
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from flask import Flask

from flask_knitperf import CacheOptimizer, KnitPerf, QueryOptimizer
from flask_knitperf.caching import file_state
from flask_knitperf.caching.dependencies import CHECK_S
from flask_knitperf.caching.file_state import MIN_AGE_S
from flask_knitperf.caching.function_cache import FunctionCache
from flask_knitperf.caching.region import counts

from ..corpus import dependency_operations, file_reading_ways
from ..corpus.file_reading_ways import Trial
from ..harness.blocks import added_by_first
from ..harness.outcome import Grid, Outcome, Spread

MIN_SEEN = 31
MAX_COST_US = 15.0
OPERATIONS = 20_000
SEEDS = (1, 2, 3)
LOADS = 4000
ROUNDS = 41
SETTLED_S = max(CHECK_S, MIN_AGE_S) + 0.2


def run(quick: bool = False) -> Outcome:
    """Measure."""
    logging.getLogger("flask_knitperf").setLevel(logging.CRITICAL)
    outcome = Outcome()
    trials = _ways()
    usual = {way.name for way in file_reading_ways.ways() if way.usual and way.available()}
    seen = {name: _is_seen(name, trials) for name in dict.fromkeys(trial.way for trial in trials)}
    number = sum(seen[name] for name in usual)
    outcome.judge("cache_dependencies.ways", "usual ways of reading whose changes are seen",
                  f"≥ {MIN_SEEN} of {len(usual)}", f"{number} of {len(usual)}",
                  number >= MIN_SEEN)  # fmt: skip
    reads, changes, hits, stale = _operations(
        2000 if quick else OPERATIONS, SEEDS[:1] if quick else SEEDS
    )
    outcome.judge("cache_dependencies.operations",
                  f"stale answers, {reads:,} reads with {changes:,} changes",
                  "0, and hits", f"{stale}, with {hits:,} hits", not stale and hits > 0)  # fmt: skip
    cost = _cost(5 if quick else ROUNDS)
    outcome.judge("cache_dependencies.cost", "CPU time that detection adds to a load",
                  f"≤ {MAX_COST_US:g} µs", f"{cost.text()} µs", cost.median <= MAX_COST_US)  # fmt: skip
    outcome.grids.append(Grid("Ways of reading", ("way", "usual", "read by", "change"), tuple(
        (way.name, "yes" if way.usual else "", _SIGHTS[way.sight], _verdict(way.name, trials))
        for way in file_reading_ways.ways() if way.name in seen
    )))  # fmt: skip
    return outcome


_SIGHTS = {
    "call": "a function looked up at the call", "held": "a function bound at an import",
    "metadata": "its status alone", "native": "C code or another process",
    "earlier": "a file opened before the load",
}  # fmt: skip


def _ways() -> list[Trial]:
    """Return the trials of all ways, within a request of an application that has imported pandas."""
    importlib.import_module("pandas")
    perf, app, trials = KnitPerf(), Flask("mill"), list[Trial]()
    app.config["TESTING"] = True
    perf.init_app(app)
    caches: dict[Any, FunctionCache] = {}

    def cached(read: Callable[[str], object]) -> Callable[[str], object]:
        wrapper = perf.cache.cached(read)
        caches[wrapper] = wrapper.__knitperf_cache__  # type: ignore[attr-defined]
        return wrapper

    @app.get("/")
    def page() -> str:
        with tempfile.TemporaryDirectory() as folder:
            trials.extend(file_reading_ways.trials(
                cached, Path(folder), lambda: time.sleep(SETTLED_S),
                lambda read: counts([caches[read].region])["hits"],
            ))  # fmt: skip
        return ""

    app.test_client().get("/")
    app.extensions["knitperf"].close()
    return trials


def _is_seen(way: str, trials: list[Trial]) -> bool:
    return all(trial.kept and trial.noticed for trial in trials if trial.way == way)


def _verdict(way: str, trials: list[Trial]) -> str:
    of_way = [trial for trial in trials if trial.way == way]
    if not all(trial.noticed for trial in of_way):
        return "not seen: " + ", ".join(trial.change for trial in of_way if not trial.noticed)
    return "seen" if all(trial.kept for trial in of_way) else "not cached"


def _operations(count: int, seeds: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return the numbers of reads, changes, hits and stale answers."""
    reads = changes = hits = stale = 0
    for seed in seeds:
        cache, caches = CacheOptimizer(), list[FunctionCache]()

        def cached(
            load: Callable[..., Any],
            cache: CacheOptimizer = cache,
            caches: list[FunctionCache] = caches,
        ) -> Callable[..., Any]:
            wrapper = cache.cached(load)
            caches.append(wrapper.__knitperf_cache__)  # type: ignore[attr-defined]
            return wrapper

        def settle(caches: list[FunctionCache] = caches) -> None:
            """Have the files of all values checked at their next use, as they are a second later."""
            for function in caches:
                for entry in function.region.entries.values():
                    if entry.sources is not None:
                        entry.check_again(0.0)

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "mill.db"
            connect = QueryOptimizer().wrap_connect(lambda path=path: sqlite3.connect(path))
            files = Path(folder) / "files"
            files.mkdir()
            with mock.patch.object(file_state, "MIN_AGE_S", dependency_operations.PAUSE_S):
                tally = dependency_operations.tally(cached, connect, files, seed, count, settle)
        reads += tally.reads
        changes += tally.changes.total()
        hits += counts([function.region for function in caches])["hits"]
        stale += len(tally.stale)
    return reads, changes, hits, stale


def _cost(rounds: int) -> Spread:
    """Return the microseconds that detecting adds to a load which reads nothing."""
    cache = CacheOptimizer()
    loads = [cache.cached(depends=depends)(lambda number: number) for depends in ("auto", ())]
    return added_by_first(loads, rounds, LOADS, after=cache.clear)
