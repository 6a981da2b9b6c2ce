"""Traces for cache policies, and reference policies: LRU, S3-FIFO and Belady's optimum."""

from __future__ import annotations

import heapq
import random
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

KEYS = 10_000
REQUESTS = 300_000
LOOP = 1500


class Item(NamedTuple):
    """One key of a trace with sizes.

    Attributes:
        size: bytes of its value.
        cost: seconds that its load takes.
    """

    size: int
    cost: float


def traces(seed: int = 0, requests: int = REQUESTS) -> dict[str, list[int]]:
    """Return traces of keys, by name.

    Zipf is of :data:`KEYS` keys with exponent 1. ``scan`` mixes in one request of eight for other keys
    in order, ``shift`` exchanges all keys five times, ``loop`` mixes in one of two for a loop, and
    ``one-hit`` one of ten for a key that never returns.
    """
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, KEYS + 1)
    zipf = rng.choice(KEYS, size=requests, p=weights / weights.sum())
    result = {"Zipf": zipf}
    for name, share, other in (
        ("scan", 1 / 8, lambda count: KEYS + np.arange(count) % KEYS),
        ("loop", 1 / 2, lambda count: 2 * KEYS + np.arange(count) % LOOP),
        ("one-hit", 1 / 10, lambda count: 3 * KEYS + np.arange(count)),
    ):
        mixed, chosen = zipf.copy(), rng.random(requests) < share
        mixed[chosen] = other(int(chosen.sum()))
        result[name] = mixed
    shifted = zipf.copy()
    for part in range(6):
        where = slice(part * requests // 6, (part + 1) * requests // 6)
        shifted[where] = rng.permutation(KEYS)[zipf[where]]
    result["shift"] = shifted
    return {name: trace.tolist() for name, trace in result.items()}


def erp(seed: int, requests: int = 60_000) -> tuple[list[int], list[Item]]:
    """Return a trace of an ERP, and its items: 500 keys of 2 KB to 40 MB, loaded in 5 ms to 8 s.

    Popularity is by Zipf and moves twice; one request of ten is for a key that never returns, and every
    sixth of the trace an export reads all keys once.
    """
    rng = random.Random(seed)
    items = [_item(rng) for _ in range(500)]
    weights = [1 / rank for rank in range(1, 501)]
    trace: list[int] = []
    for _ in range(3):
        order = rng.sample(range(500), 500)
        trace += [order[place] for place in rng.choices(range(500), weights, k=requests // 3)]
    for place in range(len(trace)):
        if rng.random() < 0.1:
            trace[place] = len(items)
            items.append(_item(rng))
    for part in range(5, 0, -1):
        trace[part * requests // 6 : part * requests // 6] = range(500)
    return trace, items


def _item(rng: random.Random) -> Item:
    return Item(
        round(2_000 * 20_000 ** rng.random()), 0.005 * 1_600 ** rng.random()
    )  # fmt: skip


def lru(trace: Sequence[int], room: int, items: Sequence[Item] | None = None) -> float:
    """Return the share of hits, or of load seconds saved where there are items, of LRU."""
    kept: OrderedDict[int, int] = OrderedDict()
    used, saved, total = 0, 0.0, 0.0
    for key in trace:
        size, cost = (1, 1.0) if items is None else items[key]
        total += cost
        if key in kept:
            saved += cost
            kept.move_to_end(key)
            continue
        if size > room:
            continue
        kept[key] = size
        used += size
        while used > room:
            used -= kept.popitem(last=False)[1]
    return saved / total


def s3_fifo(trace: Sequence[int], room: int) -> float:
    """Return the share of hits of S3-FIFO (Yang et al., SOSP 2023)."""
    small_room = max(1, room // 10)
    small: deque[int] = deque()
    main: deque[int] = deque()
    ghosts: OrderedDict[int, None] = OrderedDict()
    uses: dict[int, int] = {}
    hits = 0

    def evict_main() -> None:
        while main:
            key = main.popleft()
            if not uses[key]:
                del uses[key]
                return
            uses[key] -= 1
            main.append(key)

    for key in trace:
        if key in uses:
            hits += 1
            uses[key] = min(3, uses[key] + 1)
            continue
        while len(uses) >= room:
            if len(small) < small_room and main:
                evict_main()
                continue
            oldest = small.popleft()
            if uses[oldest] > 1:
                uses[oldest] = 0
                main.append(oldest)
                if len(main) > room - small_room:
                    evict_main()
            else:
                del uses[oldest]
                ghosts[oldest] = None
                if len(ghosts) > room:
                    ghosts.popitem(last=False)
        uses[key] = 0
        if key in ghosts:
            del ghosts[key]
            main.append(key)
        else:
            small.append(key)
    return hits / len(trace)


def belady(trace: Sequence[int], room: int) -> float:
    """Return the share of hits of the optimum: the key whose next use is latest goes."""
    following = [len(trace)] * len(trace)
    latest: dict[int, int] = {}
    for place in range(len(trace) - 1, -1, -1):
        following[place] = latest.get(trace[place], len(trace) + place)
        latest[trace[place]] = place
    kept: dict[int, int] = {}
    heap: list[tuple[int, int]] = []
    hits = 0
    for place, key in enumerate(trace):
        if key in kept:
            hits += 1
        elif len(kept) >= room:
            while True:
                use, farthest = heapq.heappop(heap)
                if kept.get(farthest) == -use:
                    del kept[farthest]
                    break
        kept[key] = following[place]
        heapq.heappush(heap, (-following[place], key))
    return hits / len(trace)
