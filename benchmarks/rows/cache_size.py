"""Hit rates of larger caches by simulation, beside caches that really have that size.

The store of the cache runs on the traces of ``cache_policy`` with room for a fortieth and a tenth of the
keys, and on those of an ERP with values of 2 KB to 40 MB. A tick of the simulation comes after a hundred
look-ups. Traces with more than 600 values are followed by a part of their keys.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from flask_knitperf.caching.invalidation import Invalidation
from flask_knitperf.caching.region import OVERHEAD_BYTES, Entry, Region
from flask_knitperf.caching.size_simulation import SizeSimulation, size_advice
from flask_knitperf.caching.store import Store

from ..harness.cache_policies import KEYS, erp, traces
from ..harness.outcome import Grid, Outcome

MB = 1024**2
UNIT = 1_000
TICK = 100
ROOMS = (KEYS // 40, KEYS // 10)
ERP_MB = (64, 256)
SEEDS = range(3)
MAX_POINTS = 2.0
Size = Callable[[int], tuple[int, float]]


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome, lines = Outcome(), list[tuple[str, ...]]()
    worst: dict[float, float] = {}
    for name, trace, size, room in _cases(quick):
        real, advice, microseconds = _simulated(trace, size, room)
        for factor, expected in advice.items():
            truth = _truth(trace, size, room * factor)
            error = 100 * (expected - truth)
            worst[factor] = max(worst.get(factor, 0.0), abs(error))
            lines.append((
                name, f"{room // UNIT:,}", f"{factor:g} ×", f"{100 * real:.1f}", f"{100 * truth:.1f}",
                f"{100 * expected:.1f}", f"{error:+.1f}", f"{microseconds:.1f}",
            ))  # fmt: skip
    for factor in (2.0, 4.0):
        outcome.judge(
            f"cache_size.times_{factor:g}",
            f"hit rate at {factor:g} × the size, points beside the truth", f"± {MAX_POINTS:g}",
            f"{worst[factor]:.1f} at most", worst[factor] <= MAX_POINTS,
        )  # fmt: skip
    heads = (
        "trace", "room, KB", "size", "now, %", "really, %", "simulated, %", "points",
        "µs per look-up",
    )  # fmt: skip
    outcome.grids.append(Grid("Hit rates of other sizes", heads, tuple(lines)))
    outcome.notes.append(
        "Half the size is simulated too, and not judged: where values hardly fit into it, the order of "
        "the hits between two ticks decides."
    )
    return outcome


def _cases(quick: bool) -> list[tuple[str, Sequence[int], Size, int]]:
    cases: list[tuple[str, Sequence[int], Size, int]] = []
    for name, trace in traces(requests=20_000 if quick else 200_000).items():
        cases += [(name, trace, lambda _: (UNIT, 1.0), room * UNIT) for room in ROOMS]
    for seed in SEEDS:
        trace, items = erp(seed, 6_000 if quick else 60_000)
        cases += [(f"ERP {seed}", trace, items.__getitem__, room * MB) for room in ERP_MB]
    return cases


def _simulated(
    trace: Sequence[int], size: Size, room: int
) -> tuple[float, dict[float, float], float]:
    """Return the real hit rate, the expected ones by factor, and the cost of the simulation."""
    now = [0.0]
    store = Store(room, clock=lambda: now[0], seed=1)
    simulation = SizeSimulation(store, Invalidation(), lambda: now[0])
    took = 0

    def tick() -> None:
        nonlocal took
        began = time.thread_time_ns()
        simulation.tick()
        took += time.thread_time_ns() - began

    rate = _replay(trace, size, store, now, tick)
    rows = size_advice(simulation.totals, rate, room)
    return rate, {row["factor"]: row["hit_rate"] for row in rows}, took / len(trace) / 1000


def _truth(trace: Sequence[int], size: Size, room: float) -> float:
    now = [0.0]
    store = Store(round(room), clock=lambda: now[0], seed=1)
    return _replay(trace, size, store, now, lambda: None)


def _replay(
    trace: Sequence[int], size: Size, store: Store, now: list[float], tick: Callable[[], None]
) -> float:
    """Return the hit rate of a trace, at a hundred look-ups per second."""
    region, hits = Region("trace"), 0
    for number, key in enumerate(trace):
        now[0] += 0.01
        entry = region.entries.get(key)
        if entry is None:
            length, cost = size(key)
            store.add(Entry(region, key, None, size=length - OVERHEAD_BYTES, cost=cost))
        else:
            entry.uses += 1
            hits += 1
        if number % TICK == 0:
            tick()
    tick()
    return hits / len(trace)
