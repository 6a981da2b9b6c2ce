"""Cost of a hit, of a miss with its eviction, and of keys, beside other caches in one run.

A cached function of two text arguments, with expiry, version check, statistics and single flight. Hits
of each cache alternate in blocks; ratios are of medians of one run. Flask-Caching and dogpile keep
values in this process too. Frames are of pandas as installed.
"""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import cachetools
import cachetools.keys
import numpy as np
import pandas as pd
from flask import Flask

from flask_knitperf import CacheOptimizer
from flask_knitperf.caching import array_digest
from flask_knitperf.caching.keys import Encoding
from flask_knitperf.recording.span import CURRENT, Span

from ..harness.outcome import Grid, Outcome, Spread

ROUNDS = 31
COUNTED = "flask_knitperf, in a request"
HITS = {
    "flask_knitperf": 20_000, COUNTED: 20_000, "cachetools": 20_000, "Flask-Caching": 300,
    "dogpile": 1_000,
}  # fmt: skip
ENTRIES = 2000
Timed = dict[str, list[float]]


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    rounds = 5 if quick else ROUNDS
    _judge_hits(outcome, rounds)
    _judge_threads(outcome, rounds)
    _judge_changes(outcome, rounds)
    _judge_misses(outcome, rounds)
    _judge_frames(outcome, rounds, quick)
    return outcome


def _alternate(
    calls: dict[str, tuple[Callable[[], object], int]], rounds: int, in_request: str = ""
) -> dict[str, Spread]:
    """Return the nanoseconds of thread time of each call, in alternating blocks.

    Args:
        calls: by name, with their number in a block.
        rounds: number of blocks of each.
        in_request: name of the calls that are made within a request.
    """
    blocks: Timed = {name: [] for name in calls}
    order, rng = list(calls), random.Random(1)
    for call, _ in calls.values():
        call()
    for _ in range(rounds):
        rng.shuffle(order)
        for name in order:
            call, times = calls[name]
            token = CURRENT.set(Span() if name == in_request else None)
            began = time.thread_time_ns()
            for _ in range(times):
                call()
            blocks[name].append((time.thread_time_ns() - began) / times)
            CURRENT.reset(token)
    return {name: Spread.of(values) for name, values in blocks.items()}


def _price(style: str, quantity: str) -> str:
    return style + quantity


def _peers() -> dict[str, Callable[[], object]]:
    import dogpile.cache
    import flask_caching

    app = Flask("mill")
    cache = flask_caching.Cache(app, config={"CACHE_TYPE": "SimpleCache"})
    region = dogpile.cache.make_region().configure("dogpile.cache.memory", expiration_time=600)
    memoized = cache.memoize(600)(_price)
    app.app_context().push()
    regional = region.cache_on_arguments()(_price)
    timed = cachetools.cached(
        cachetools.TTLCache(ENTRIES, 600), cachetools.keys.hashkey, threading.Lock()
    )(_price)
    return {
        "cachetools": lambda: timed("12/1A", "500"),
        "Flask-Caching": lambda: memoized("12/1A", "500"),
        "dogpile": lambda: regional("12/1A", "500"),
    }


def _judge_hits(outcome: Outcome, rounds: int) -> None:
    ours = CacheOptimizer().cached(ttl=600)(_price)
    calls: dict[str, Callable[[], object]] = {
        name: lambda: ours("12/1A", "500") for name in ("flask_knitperf", COUNTED)
    }
    calls |= _peers()
    sized = {name: (call, HITS[name]) for name, call in calls.items()}
    spent = _alternate(sized, rounds, in_request=COUNTED)
    own = spent["flask_knitperf"].median
    ratio = spent[COUNTED].median / spent["cachetools"].median
    outcome.judge("cache_hits.counted", "the same, counted for its endpoint", "≤ 0.6 ×",
                  f"{ratio:.2f} ×", ratio <= 0.6)  # fmt: skip
    for name, factor in (("cachetools", 0.5), ("Flask-Caching", 1 / 80), ("dogpile", 1 / 20)):
        ratio = own / spent[name].median
        target = f"≤ {factor:g} ×" if factor == 0.5 else f"{1 / factor:.0f} × faster"
        measured = f"{ratio:.2f} ×" if factor == 0.5 else f"{1 / ratio:.0f} × faster"
        outcome.judge(f"cache_hits.{name.lower()}", f"a hit of two arguments, beside {name}", target,
                      measured, ratio <= factor)  # fmt: skip
    lines = tuple((name, spread.text(0)) for name, spread in spent.items())
    outcome.grids.append(Grid("A hit, ns of CPU time", ("cache", "median (quartiles)"), lines))


def _judge_threads(outcome: Outcome, rounds: int) -> None:
    ours = CacheOptimizer().cached(ttl=600)(_price)
    ratios = [_wall(ours, 4) / _wall(ours, 1) for _ in range(rounds)]
    ratio = Spread.of(ratios)
    outcome.judge("cache_hits.threads", "wall time of a hit, four threads beside one", "≤ 1.5 ×",
                  f"{ratio.text(2)} ×", ratio.median <= 1.5)  # fmt: skip


def _wall(function: Callable[[str, str], object], threads: int) -> float:
    """Return the wall time of a hit in nanoseconds, over all threads."""
    times = 20_000

    def work() -> None:
        for _ in range(times):
            function("12/1A", "500")

    workers = [threading.Thread(target=work) for _ in range(threads)]
    began = time.perf_counter_ns()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return (time.perf_counter_ns() - began) / times / threads


def _judge_changes(outcome: Outcome, rounds: int) -> None:
    optimizer = CacheOptimizer()
    ours = optimizer.cached(ttl=600)(_price)

    def changed() -> None:
        optimizer.invalidate("elsewhere")
        ours("12/1A", "500")

    spent = _alternate({
        "change and hit": (changed, 5000),
        "change": (lambda: optimizer.invalidate("elsewhere"), 5000),
    }, rounds)  # fmt: skip
    added = (spent["change and hit"].median - spent["change"].median) / 1000
    outcome.judge("cache_hits.after_change", "the first hit after a change elsewhere", "≤ 1.5 µs",
                  f"{added:.2f} µs", added <= 1.5)  # fmt: skip


def _judge_misses(outcome: Outcome, rounds: int) -> None:
    optimizer = CacheOptimizer(max_mb=ENTRIES * 700 / 1024**2)
    ours = optimizer.cached(depends=())(
        lambda number: number
    )  # their cost is that of cache_dependencies
    for number in range(3 * ENTRIES):
        ours(number)
    blocks = []
    for first in range(rounds):
        began = time.thread_time_ns()
        for number in range((4 + first) * ENTRIES, (5 + first) * ENTRIES):
            ours(number)
        blocks.append((time.thread_time_ns() - began) / ENTRIES / 1000)
    spent = Spread.of(blocks)
    entries = optimizer.get_cache_statistics()["total"]["entries"]
    outcome.judge("cache_hits.miss", f"a miss with its eviction among {entries:,} entries",
                  "≤ 25 µs", f"{spent.text()} µs", spent.median <= 25)  # fmt: skip


def _judge_frames(outcome: Outcome, rounds: int, quick: bool) -> None:
    optimizer = CacheOptimizer(max_mb=1000)
    for name, rows in (("1 MB", 20_000), ("110 MB", 200_000 if quick else 2_200_000)):
        frame = _numbers(rows)
        load = optimizer.cached(namespace=name)(_returning(frame))
        load()
        hit = load()
        spent = _alternate({
            "hit": (load, 500), "copy": (lambda hit=hit: hit.copy(deep=False), 500),
        }, rounds)  # fmt: skip
        ratio = spent["hit"].median / spent["copy"].median
        outcome.judge(f"cache_hits.frame_{name.split()[0]}", f"a hit on a frame of {name}",
                      "≤ 1.5 × copy(deep=False)",
                      f"{ratio:.2f} × ({spent['hit'].median / 1000:.1f} µs)", ratio <= 1.5)  # fmt: skip
    _judge_digests(outcome, min(rounds, 9), 20_000 if quick else 300_000)
    _judge_served(outcome, min(rounds, 9), 20_000 if quick else 300_000)


def _returning(frame: pd.DataFrame) -> Callable[[], pd.DataFrame]:
    return lambda: frame


def _no_cell(cell: Any) -> bytes:
    raise TypeError(f"the frame of the benchmark has a cell that is not of pandas: {cell!r}")


def _judge_digests(outcome: Outcome, rounds: int, rows: int) -> None:
    frame = _numbers(rows, text=True)
    size = frame.memory_usage(deep=True).sum() / 1e6

    def by(make: Callable[[], Any]) -> Callable[[], object]:
        def digest() -> object:
            array_digest.new_hash = make
            return array_digest.array_digest(frame, _no_cell)

        return digest

    import xxhash

    spent = _alternate({
        "pandas": (lambda: hashlib.sha256(pd.util.hash_pandas_object(frame).to_numpy()).digest(), 1),
        "sha256": (by(hashlib.sha256), 1), "xxhash": (by(xxhash.xxh3_128), 1),
    }, rounds)  # fmt: skip
    array_digest.new_hash = xxhash.xxh3_128
    for name, factor in (("sha256", 0.6), ("xxhash", 0.15)):
        ratio = spent[name].median / spent["pandas"].median
        outcome.judge(f"cache_hits.key_{name}", f"key of a frame of {size:.0f} MB, {name}",
                      f"≤ {factor:g} × hash_pandas_object",
                      f"{ratio:.2f} × ({spent[name].median / 1e6:.1f} ms)", ratio <= factor)  # fmt: skip


def _judge_served(outcome: Outcome, rounds: int, rows: int) -> None:
    frame = _numbers(rows, text=True)
    load = CacheOptimizer(max_mb=1000).cached(_returning(frame))
    load()

    def key() -> bytes:
        encoding = Encoding()
        encoding.add(load())
        return encoding.digest()

    spent = _alternate({"served": (key, 50), "hit": (load, 50)}, rounds)
    added = (spent["served"].median - spent["hit"].median) / 1000
    outcome.judge("cache_hits.key_served", "key of such a frame from the cache, without the hit",
                  "≤ 40 µs", f"{added:.1f} µs", added <= 40)  # fmt: skip


def _numbers(rows: int, *, text: bool = False) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({f"n{place}": rng.random(rows) for place in range(6)})
    if text:
        frame["style"] = [f"style {number % 5000}" for number in range(rows)]
    return frame
