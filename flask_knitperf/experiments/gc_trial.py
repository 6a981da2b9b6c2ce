"""Trial of garbage collector settings: the pauses per request as it is, frozen, and less frequent.

One request is replayed in blocks. The settings alternate from block to block, so that a slow second of
the machine affects all of them. The collector's callback adds up the pauses. Results are medians over
blocks, with the largest amount of uncollected garbage, which is the price of a setting.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..collectors.memory.allocators import allocated_bytes
from ..core.clock import SYSTEM, Clock
from ..recording.gc_pauses import GCWatch

ROUNDS = 7
"""Blocks per setting."""
THRESHOLD_FACTOR = 20
"""Multiple of the youngest generation's threshold that the trial sets."""
_READINGS_PER_BLOCK = 8
"""Readings of allocated memory, for the largest amount of garbage."""


class Setting(NamedTuple):
    """Setting of the garbage collector.

    Attributes:
        name: its label.
        code: statements that apply it, empty for the present setting.
        frozen: whether the objects of the application are frozen.
        threshold: of the youngest generation.
    """

    name: str
    code: str
    frozen: bool
    threshold: int


class SettingCost(NamedTuple):
    """Cost of requests under one setting.

    Attributes:
        setting: the setting.
        pause_ms: time in collections, per request.
        request_ms: total time, per request.
        collections: of all generations, per request.
        max_garbage: largest amount of memory that waits for a collection, bytes.
    """

    setting: Setting
    pause_ms: float
    request_ms: float
    collections: float
    max_garbage: int


def settings() -> list[Setting]:
    """Return the settings of a trial, the present one first."""
    present = gc.get_threshold()[0]
    raised = present * THRESHOLD_FACTOR
    freeze, raise_threshold = "gc.freeze()", f"gc.set_threshold({raised})"
    return [
        Setting("as it is", "", False, present),
        Setting("frozen once warm", freeze, True, present),
        Setting(f"threshold {raised:,}", raise_threshold, False, raised),
        Setting("both", f"{freeze}; {raise_threshold}", True, raised),
    ]


def trial(
    serve: Callable[[], object], requests: int, clock: Clock = SYSTEM, rounds: int = ROUNDS,
    on_progress: Callable[[float], None] = lambda _: None,
) -> list[SettingCost]:  # fmt: skip
    """Replay a request under each setting in turns, and return the costs in the order of the settings.

    Afterwards the collector has its previous thresholds, and nothing is frozen.

    Args:
        serve: serves the request once.
        requests: per block; a fifth of them are served before the first block to warm up.
        clock: time.
        rounds: blocks per setting.
        on_progress: called with the completed share, 0 to 1.
    """
    candidates = settings()
    blocks: list[list[SettingCost]] = [[] for _ in candidates]
    thresholds, watch = gc.get_threshold(), GCWatch()
    watch.hold()
    try:
        for _ in range(max(1, requests // 5)):
            serve()
        total = rounds * len(candidates)
        for number in range(total):
            position = number % len(candidates)
            cost = _run_block(serve, requests, candidates[position], watch, clock)
            blocks[position].append(cost)
            on_progress((number + 1) / total)
    finally:
        watch.let_go()
        gc.set_threshold(*thresholds)
        gc.unfreeze()
    return [_medians(costs) for costs in blocks]


def _run_block(
    serve: Callable[[], object], requests: int, setting: Setting, watch: GCWatch, clock: Clock
) -> SettingCost:
    """Serve one block under one setting."""
    gc.unfreeze()
    gc.collect()
    gc.set_threshold(setting.threshold, *gc.get_threshold()[1:])
    if setting.frozen:
        gc.freeze()
    used, max_garbage, step = allocated_bytes(), 0, max(1, requests // _READINGS_PER_BLOCK)
    paused_before, collections_before = watch.total, _collections(watch)
    started = clock.monotonic_ns()
    for number in range(requests):
        serve()
        if used is not None and number % step == step - 1:
            used_now = allocated_bytes()
            if used_now is not None:
                max_garbage = max(max_garbage, sum(used_now) - sum(used))
    duration_ns = clock.monotonic_ns() - started
    return SettingCost(
        setting, (watch.total - paused_before) / requests / 1e6, duration_ns / requests / 1e6,
        (_collections(watch) - collections_before) / requests, max_garbage,
    )  # fmt: skip


def _collections(watch: GCWatch) -> int:
    return sum(count for count, _ in watch.pauses)


def _medians(blocks: Sequence[SettingCost]) -> SettingCost:
    """Return the median of each figure over the blocks of a setting."""
    return SettingCost(
        blocks[0].setting,
        statistics.median(block.pause_ms for block in blocks),
        statistics.median(block.request_ms for block in blocks),
        statistics.median(block.collections for block in blocks),
        round(statistics.median(block.max_garbage for block in blocks)),
    )
