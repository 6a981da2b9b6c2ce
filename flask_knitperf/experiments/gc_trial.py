"""What the collector costs a request, and what freezing or a higher threshold would spare: measured.

One request is served again and again in blocks, each block under other settings, in turns, so that a
slow second of the machine falls on all of them. Each block's pauses are added up by the collector's own
callback. What is told is the median over blocks, and how much more memory waits for the collector under
that setting, since that is its price.
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
_READINGS = 8
HIGHER = 20
"""The youngest generation's threshold is tried at so many times what it is."""


class Setting(NamedTuple):
    """How the collector is set.

    Attributes:
        name: how it is shown.
        code: what sets it so, empty for how it is.
        frozen: whether what is there is frozen.
        threshold: of the youngest generation.
    """

    name: str
    code: str
    frozen: bool
    threshold: int


class Tried(NamedTuple):
    """What requests cost under one setting.

    Attributes:
        setting: it.
        pause_ms: the collector's pauses, per request.
        request_ms: a request altogether.
        collections: per request, of all generations.
        waiting: bytes of garbage that wait for the collector at most.
    """

    setting: Setting
    pause_ms: float
    request_ms: float
    collections: float
    waiting: int


def settings() -> list[Setting]:
    """Return the settings that are tried, the present one first."""
    young = gc.get_threshold()[0]
    higher = young * HIGHER
    freeze, raised = "gc.freeze()", f"gc.set_threshold({higher})"
    return [
        Setting("as it is", "", False, young),
        Setting("frozen once warm", freeze, True, young),
        Setting(f"threshold {higher:,}", raised, False, higher),
        Setting("both", f"{freeze}; {raised}", True, higher),
    ]


def trial(
    serve: Callable[[], object], requests: int, clock: Clock = SYSTEM, rounds: int = ROUNDS,
    tell: Callable[[float], None] = lambda _: None,
) -> list[Tried]:  # fmt: skip
    """Serve a request under each setting in turns; return what it cost, in the order of the settings.

    The collector is left as it was.

    Args:
        serve: serves the request once.
        requests: of one block; a fifth of them go before the first one to warm up.
        clock: time.
        rounds: blocks of each setting.
        tell: told how far it is, 0 to 1.
    """
    tried = settings()
    blocks: list[list[Tried]] = [[] for _ in tried]
    thresholds, watch = gc.get_threshold(), GCWatch()
    watch.hold()
    try:
        for _ in range(max(1, requests // 5)):
            serve()
        for number in range(rounds):
            for place, setting in enumerate(tried):
                blocks[place].append(_block(serve, requests, setting, watch, clock))
                tell((number * len(tried) + place + 1) / (rounds * len(tried)))
    finally:
        watch.let_go()
        gc.set_threshold(*thresholds)
        gc.unfreeze()
    return [_middle(each) for each in blocks]


def _block(
    serve: Callable[[], object], requests: int, setting: Setting, watch: GCWatch, clock: Clock
) -> Tried:
    """Serve one block under one setting."""
    gc.unfreeze()
    gc.collect()
    gc.set_threshold(setting.threshold, *gc.get_threshold()[1:])
    if setting.frozen:
        gc.freeze()
    used, most, step = allocated_bytes(), 0, max(1, requests // _READINGS)
    paused, count = watch.total, _collections(watch)
    began = clock.monotonic_ns()
    for number in range(requests):
        serve()
        if used is not None and number % step == step - 1:
            now = allocated_bytes()
            if now is not None:
                most = max(most, sum(now) - sum(used))
    took = clock.monotonic_ns() - began
    return Tried(
        setting, (watch.total - paused) / requests / 1e6, took / requests / 1e6,
        (_collections(watch) - count) / requests, most,
    )  # fmt: skip


def _collections(watch: GCWatch) -> int:
    return sum(count for count, _ in watch.pauses)


def _middle(blocks: Sequence[Tried]) -> Tried:
    """Return the median of each figure."""
    return Tried(
        blocks[0].setting,
        statistics.median(each.pause_ms for each in blocks),
        statistics.median(each.request_ms for each in blocks),
        statistics.median(each.collections for each in blocks),
        round(statistics.median(each.waiting for each in blocks)),
    )
