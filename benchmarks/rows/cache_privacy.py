"""Cached loads that depend on the user are found out, and others are not blamed.

The loads are by an author who had not seen the observer, and were committed before it ran on them
(`corpus/user_dependent_loads.py`). Two users visit each in turn, twice. A load is right if both get the
answers that they get without a cache, and is named if the cache refused its values for what it read.
"""

from __future__ import annotations

import logging
from typing import Any

from flask import Flask, request, session

from flask_knitperf import CacheOptimizer, KnitPerf
from flask_knitperf.caching.function_cache import FunctionCache
from flask_knitperf.caching.load_reads import description
from flask_knitperf.instrumentation.cache_reads import FlaskReads

from ..corpus import user_dependent_loads as corpus
from ..harness.blocks import added_by_first
from ..harness.outcome import Grid, Outcome, Spread

LOADS = 4000
ROUNDS = 41
MAX_FALSE = 0.1
TARGET_US = 10.0


def run(quick: bool = False) -> Outcome:
    """Measure."""
    logging.getLogger("flask_knitperf").setLevel(logging.CRITICAL)
    outcome = Outcome()
    results = [_judged(case) for case in corpus.cases() if case.available()]
    dependent = [result for result in results if result["kind"] == "dependent"]
    others = [result for result in results if result["kind"] == "other"]
    wrong = [result for result in dependent + others if not result["right"]]
    unnamed = [result for result in dependent if result["keeps"]]
    named = [result for result in others if result["reads"]]
    outcome.judge("cache_privacy.right", f"wrong answers, {len(dependent + others)} loads", "0",
                  str(len(wrong)), not wrong)  # fmt: skip
    outcome.judge("cache_privacy.named", "loads that depend on the user, not cached or by their route",
                  f"{len(dependent)} of {len(dependent)}",
                  f"{len(dependent) - len(unnamed)} of {len(dependent)}", not unnamed)  # fmt: skip
    outcome.judge("cache_privacy.false", "other loads that are not cached", "1 of 10",
                  f"{len(named)} of {len(others)}", len(named) <= MAX_FALSE * len(others))  # fmt: skip
    cost = _cost(5 if quick else ROUNDS)
    outcome.judge("cache_privacy.cost", "CPU time that the observer adds to a load in a request",
                  f"≤ {TARGET_US:g} µs", f"{cost.text()} µs", cost.median <= TARGET_US)  # fmt: skip
    outcome.grids.append(Grid("Loads", ("load", "kind", "answers", "read, and not in the key"), tuple(
        (result["name"], result["kind"], "right" if result["right"] else "wrong",
         result["reads"] or ("route" if result["routed"] else "none"))
        for result in results
    )))  # fmt: skip
    return outcome


def _judged(case: corpus.Case) -> dict[str, Any]:
    """Serve a case to both users in turn; return the outcome."""
    perf, caches = KnitPerf(), list[FunctionCache]()

    def cached(load: Any) -> Any:
        wrapper = perf.cache.cached(load)
        caches.append(wrapper.__knitperf_cache__)
        return wrapper

    app, plain = corpus.create_app(case, cached), corpus.create_app(case)
    perf.init_app(app)
    answers = [case.visit(app.test_client(), user) for user in corpus.USERS * 2]
    expected = [case.visit(plain.test_client(), user) for user in corpus.USERS * 2]
    app.extensions["knitperf"].close()
    reads = {read: where for cache in caches for read, where in cache.region.unkeyed_reads.items()}
    routed = any(cache.region.routing for cache in caches)
    keeps = not reads and not routed and any(cache.region.entries for cache in caches)
    return {
        "name": case.name, "kind": case.kind, "right": answers == expected, "routed": routed,
        "reads": description(reads) if reads else "", "keeps": keeps,
    }  # fmt: skip


def _cost(rounds: int) -> Spread:
    """Return the microseconds that observing adds to a load which reads nothing."""
    app = Flask("mill")
    app.config.update(TESTING=True, SECRET_KEY="of the benchmark")
    observed, plain = CacheOptimizer(observer=FlaskReads()), CacheOptimizer()
    loads = [optimizer.cached(lambda number: number) for optimizer in (observed, plain)]
    with app.test_request_context("/"):
        assert request
        assert session is not None
        return added_by_first(loads, rounds, LOADS, after=lambda: (observed.clear(), plain.clear()))
