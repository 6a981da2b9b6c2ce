"""Evictions: hit ratios on traces, and load seconds saved where sizes and costs differ.

The store of the cache runs on traces of keys, with room for 1 % and 10 % of them, beside LRU (the policy
of cachetools), S3-FIFO and Belady's optimum. Hit ratio is the wrong aim where values differ in size and
load time, so the last rows are of an ERP: 500 keys of 2 KB to 40 MB, loaded in 5 ms to 8 s.
"""

from __future__ import annotations

from collections.abc import Sequence

from flask_knitperf.caching.region import OVERHEAD_BYTES, Entry, Region
from flask_knitperf.caching.store import Store

from ..harness.cache_policies import KEYS, Item, belady, erp, lru, s3_fifo, traces
from ..harness.outcome import Grid, Outcome

ROOMS = {"1 %": KEYS // 100, "10 %": KEYS // 10}
MB = 1024**2
ERP_TARGETS = {64: 0.70, 256: 0.90}
SEEDS = range(4)


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    lines: list[tuple[str, ...]] = []
    for share, room in ROOMS.items():
        for name, trace in traces(requests=20_000 if quick else 300_000).items():
            ours, recent, fifo = worth(trace, room), lru(trace, room), s3_fifo(trace, room)
            best = belady(trace, room)
            tolerated = 0.03 if name == "loop" and share == "1 %" else 0.005
            _judge(outcome, name, share, ours, recent, fifo, tolerated)
            lines.append(
                (name, share, *(f"{100 * ratio:.1f}" for ratio in (ours, recent, fifo, best)))
            )
    heads = ("trace", "room", "flask_knitperf", "LRU", "S3-FIFO", "Belady")
    outcome.grids.append(Grid("Hit ratio, %", heads, tuple(lines)))
    _judge_erp(outcome, 6_000 if quick else 60_000)
    return outcome


def _judge(
    outcome: Outcome,
    name: str,
    share: str,
    ours: float,
    recent: float,
    fifo: float,
    tolerated: float,
) -> None:
    row = f"{name.lower()}_{share.split()[0]}"
    outcome.judge(f"cache_policy.lru_{row}", f"hits beside LRU, {name}, {share} of keys", "≥ +4",
                  f"{100 * (ours - recent):+.1f}", ours >= recent + 0.04)  # fmt: skip
    outcome.judge(f"cache_policy.s3_{row}", f"hits beside S3-FIFO, {name}, {share} of keys",
                  f"≥ -{100 * tolerated:g}", f"{100 * (ours - fifo):+.1f}",
                  ours >= fifo - tolerated)  # fmt: skip


def _judge_erp(outcome: Outcome, requests: int) -> None:
    lines = []
    for megabytes, target in ERP_TARGETS.items():
        saved, recent, unbounded = [], [], []
        for seed in SEEDS:
            trace, items = erp(seed, requests)
            saved.append(worth(trace, megabytes * MB, items))
            recent.append(lru(trace, megabytes * MB, items))
            unbounded.append(lru(trace, sum(item.size for item in items), items))
        ours, theirs = sum(saved) / len(saved), sum(recent) / len(recent)
        outcome.judge(f"cache_policy.erp_{megabytes}", f"load seconds saved in {megabytes} MB, ERP",
                      f"≥ {target:.0%}", f"{ours:.0%}; LRU {theirs:.0%}", ours >= target)  # fmt: skip
        most = sum(unbounded) / len(unbounded)  # each key is loaded once
        lines.append((f"{megabytes} MB", f"{ours:.1%}", f"{theirs:.1%}", f"{most:.1%}"))
    heads = ("room", "flask_knitperf", "LRU", "without a bound")
    outcome.grids.append(Grid("Load seconds saved, ERP, four seeds", heads, tuple(lines)))


def worth(trace: Sequence[int], room: int, items: Sequence[Item] | None = None) -> float:
    """Return the share of hits, or of load seconds saved where there are items, of our store."""
    now = [0.0]
    unit = 1000
    store = Store(room if items is not None else room * unit, clock=lambda: now[0], seed=1)
    region = Region("trace")
    saved = total = 0.0
    for key in trace:
        size, cost = (unit, 1.0) if items is None else items[key]
        now[0] += 1.0
        total += cost
        entry = region.entries.get(key)
        if entry is None:
            store.add(Entry(region, key, None, size=size - OVERHEAD_BYTES, cost=cost))
        else:
            entry.uses += 1
            saved += cost
    return saved / total
