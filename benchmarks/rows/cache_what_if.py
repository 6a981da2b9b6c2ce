"""Simulated caches of a function against really caching it.

Calls follow one another on a clock of the benchmark: keys by Zipf's law, gaps and durations at random,
one call in thirty raises. *Exact*: hits and saved seconds of every TTL, against a real cache with
that TTL. *Stale*: the values of keys change at random times; the true share of stale hits is that of all
results, and the interval that of those which were hashed. *Cost*: CPU time that the watch adds to a call
of a profiled function within a request, in blocks with and without it that alternate, hashing left out;
the time of hashing as a share of the time of the function, with the milliseconds that its first results
have in advance.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from itertools import accumulate
from typing import Any, NamedTuple

from flask import Flask

from flask_knitperf import KnitPerf
from flask_knitperf.caching.call_keys import KeyOptions
from flask_knitperf.caching.function_cache import FunctionCache
from flask_knitperf.caching.function_watch import FunctionWatch
from flask_knitperf.caching.invalidation import Invalidation
from flask_knitperf.caching.load_reads import NO_OBSERVER
from flask_knitperf.caching.options import Options
from flask_knitperf.caching.region import counts
from flask_knitperf.caching.store import Store
from flask_knitperf.caching.what_if import MAX_KEYS, TTLS_S, Simulation
from flask_knitperf.core.intervals import wilson_interval
from flask_knitperf.recording.span import CURRENT, Span

from ..harness.outcome import Grid, Outcome, Spread

NS = 1_000_000_000
KEYS = (1, 40, 400, MAX_KEYS)
CALLS = 20_000
SEEDS = 5
TOOK_MS = (0.3, 3.0, 30.0)
"""Durations of the functions whose results are hashed: half a percent of the first is enough for few
results, that of the last for all of them."""
MIN_IN_INTERVAL = 0.93
"""Share of the intervals of 95 % that must contain the truth: of a few hundred of them."""
MAX_US = 3.0
SHARE = 0.005
ROUNDS = 61
BLOCK = 2_000


class Call(NamedTuple):
    """One call: its key, its start and end in seconds, and whether it raises."""

    key: int
    began: float
    ended: float
    fails: bool


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    calls, seeds = (3_000, 1) if quick else (CALLS, SEEDS)
    _judge_exactness(outcome, calls, seeds)
    _judge_staleness(outcome, calls if quick else 3 * calls, seeds)
    _judge_cost(outcome, 5 if quick else ROUNDS)
    return outcome


def _trace(keys: int, calls: int, seed: int, took_s: float) -> list[Call]:
    """Return calls of a function, with gaps between them by which all TTLs have hits and misses."""
    draw = random.Random(seed)
    weights = list(accumulate(1 / (rank + 1) for rank in range(keys)))
    chosen = draw.choices(range(keys), cum_weights=weights, k=calls)
    now, trace = 1000.0, []
    for key in chosen:
        now += round(draw.expovariate(1 / 3.0), 3)
        took = round(took_s * draw.uniform(0.5, 1.5), 6)
        trace.append(Call(key, now, now + took, draw.random() < 1 / 30))
        now += took
    return trace


def _ns(seconds: float) -> int:
    return round(seconds * NS)


# -- exactness -----------------------------------------------------------------------------------------


def _judge_exactness(outcome: Outcome, calls: int, seeds: int) -> None:
    wrong, compared, lines = 0, 0, []
    for keys in KEYS:
        for seed in range(seeds):
            trace = _trace(keys, calls, seed, 0.5)
            simulation = Simulation()
            for call in trace:
                simulation.call(call.key, _ns(call.began), _ns(call.ended), stores=not call.fails)
            taken = simulation.take()
            for ttl, row in zip(TTLS_S, taken.by_ttl, strict=True):
                hits, saved_ns = _really(trace, ttl)
                compared += 1
                wrong += (row.hits.calls, row.hits.ns) != (hits, saved_ns)
                if not seed:
                    lines.append((f"{keys:,}", f"{ttl:g} s", f"{hits / calls:.1%}"))
    outcome.judge(
        "cache_what_if.exact",
        f"hits and saved seconds of {compared} caches, up to {MAX_KEYS:,} keys, {len(TTLS_S)} TTLs",
        "0 differ from really caching", f"{wrong} differ", not wrong,
    )  # fmt: skip
    outcome.grids.append(Grid("Hit rates of one seed", ("keys", "TTL", "hits"), tuple(lines)))


def _really(trace: list[Call], ttl: float) -> tuple[int, int]:
    """Return the hits of a real cache, and the nanoseconds that they would have taken."""
    now, saved, current = [0.0], 0, trace[0]

    def load(key: int) -> int:
        now[0] = current.ended
        if current.fails:
            raise LookupError(key)
        return key

    store, region = Store(1 << 40, lambda: now[0]), None
    cache = FunctionCache(
        load, Options("n", ttl, keys=KeyOptions()), store, Invalidation(), [], lambda: False,
        lambda: now[0],
    )  # fmt: skip
    region = cache.region
    for current in trace:
        now[0] = current.began
        try:
            cache.wrapper(current.key)
        except LookupError:
            continue
        if now[0] == current.began and current.ended > current.began:
            saved += _ns(current.ended) - _ns(current.began)
    return counts([region])["hits"], saved


# -- stale answers -------------------------------------------------------------------------------------


def _versions(trace: list[Call], seed: int) -> Iterator[int]:
    """Yield the version of each call's value: that of its key changes at random times."""
    draw = random.Random(-seed - 1)
    change_s = [10 ** draw.uniform(1.5, 4) for _ in range(MAX_KEYS)]
    version, due = [0] * MAX_KEYS, [1000 + draw.expovariate(1 / mean) for mean in change_s]
    for call in trace:
        while due[call.key] < call.began:
            version[call.key] += 1
            due[call.key] += draw.expovariate(1 / change_s[call.key])
        yield version[call.key]


def _judge_staleness(outcome: Outcome, calls: int, seeds: int) -> None:
    inside = intervals = 0
    hashing, lines = 0.0, []
    for keys in KEYS:
        for took_ms in TOOK_MS:
            errors, within, judged, hashed, spent, total = [], 0, 0, 0, 0, 0
            for seed in range(seeds):
                trace = _trace(keys, calls, seed, took_ms / 1000)
                truth, watch = Simulation(), _watch(seed)
                for call, version in zip(trace, _versions(trace, seed), strict=True):
                    began, ended = _ns(call.began), _ns(call.ended)
                    value = {"key": call.key, "version": version, "rows": list(range(20))}
                    result = truth.call(call.key, began, ended)
                    truth.compare(call.key, ended, result, b"%d" % version)
                    begun = watch.begin((call.key,), {})
                    assert begun is not None
                    watch.end(begun, began, ended, value)
                    total += ended - began
                spent += watch.hashing_ns
                for true, row in zip(truth.take().by_ttl, watch.take()[0].by_ttl, strict=True):
                    if row.compared < 30 or not true.compared:
                        continue
                    share, real = row.stale / row.compared, true.stale / true.compared
                    low, high = wilson_interval(
                        share, row.compared**2 / max(row.weight, row.compared)
                    )
                    within += low - 1e-12 <= real <= high + 1e-12
                    judged += 1
                    hashed += row.compared
                    errors.append(abs(share - real))
            inside, intervals = inside + within, intervals + judged
            hashing = max(hashing, spent / total)
            if errors:
                lines.append((
                    f"{keys:,}", f"{took_ms:g} ms", f"{hashed / judged:,.0f}", f"{within} of {judged}",
                    f"{100 * sum(errors) / len(errors):.2f}", f"{100 * max(errors):.2f}",
                ))  # fmt: skip
    outcome.judge(
        "cache_what_if.stale", f"stale share within its interval of 95 %, {intervals} intervals",
        f"≥ {MIN_IN_INTERVAL:.0%}", f"{inside / intervals:.1%}", inside / intervals >= MIN_IN_INTERVAL,
    )  # fmt: skip
    outcome.judge(
        "cache_what_if.hashing", "time of hashing results, of that of the function, the worst of "
        f"{len(KEYS) * len(TOOK_MS)}", f"≤ {SHARE:.1%}", f"{hashing:.2%}", hashing <= SHARE * 1.02,
    )  # fmt: skip
    heads = ("keys", "call", "compared, mean", "in the interval", "points off, mean", "most")
    outcome.grids.append(Grid("Share of stale hits", heads, tuple(lines)))


def _watch(seed: int) -> FunctionWatch:
    return FunctionWatch(
        lambda key: key, "f", "f.py:1", share=SHARE, observer=NO_OBSERVER,
        draw=random.Random(seed).random,
    )  # fmt: skip


# -- cost ----------------------------------------------------------------------------------------------


def explode(style: str, quantity: int = 1) -> tuple[str, int]:
    """Return its arguments."""
    return style, quantity


def _judge_cost(outcome: Outcome, rounds: int) -> None:
    worst, lines = 0.0, []
    for keys in KEYS:
        functions = [_profiled(is_watched) for is_watched in (False, True)]
        names = [f"style {number}" for number in range(keys)]
        weights = list(accumulate(1 / (rank + 1) for rank in range(keys)))
        order = random.Random(1).choices(names, cum_weights=weights, k=BLOCK)
        differences = []
        for number in range(rounds):
            chosen = functions if number % 2 else functions[::-1]
            took = {id(function): _block(function, order) for function in chosen}
            plain, watched = (took[id(function)] for function in functions)
            differences.append((watched - plain) / BLOCK / 1000)
        added = Spread.of(differences)
        worst = max(worst, added.median)
        lines.append((f"{keys:,}", f"{added.median:.2f} ({added.low:.2f} to {added.high:.2f})"))
    outcome.judge(
        "cache_what_if.cost", "added to a call of a profiled function, without hashing",
        f"≤ {MAX_US:g} µs", f"{worst:.2f} µs", worst <= MAX_US,
    )  # fmt: skip
    heads = ("keys", "µs added (quartiles)")
    outcome.grids.append(Grid("CPU time added to a call", heads, tuple(lines)))


def _profiled(is_watched: bool) -> Any:
    app = Flask(f"cache_what_if_{is_watched}")
    app.config.update(
        TESTING=True, KNITPERF_CACHE_WHATIF=is_watched, KNITPERF_CACHE_WHATIF_SHARE=0.0
    )
    perf = KnitPerf(app)
    function: Any = perf.profile(explode)
    function.app = app
    return function


def _block(function: Any, order: list[str]) -> int:
    """Return the nanoseconds of CPU time of a block of calls."""
    recorder = function.app.extensions["knitperf"].recorder
    token = CURRENT.set(Span(recorder, {"REQUEST_METHOD": "GET"}, recorder.clock.monotonic_ns()))
    try:
        with function.app.app_context():
            began = time.thread_time_ns()
            for style in order:
                function(style)
            return time.thread_time_ns() - began
    finally:
        CURRENT.reset(token)
