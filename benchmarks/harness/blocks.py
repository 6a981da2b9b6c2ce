"""CPU time of variants of one application, in alternating blocks of requests.

The variants live in one process and take turns in blocks, in a new order each round, so that a slow
second of the machine hits all of them. Each block is compared with the base's block of the same round;
the median of these differences is the figure.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Any

from .outcome import Spread
from .wsgi import Get

BARE = "bare"


def measure(
    gets: dict[Any, Get],
    rounds: int,
    requests: int,
    seed: int = 1,
    warm_up: int = 600,
    before: Callable[[Any], object] = lambda _: None,
) -> dict[Any, list[float]]:
    """Return the CPU time of each block of each variant, in the order of the rounds.

    Args:
        gets: variants by name.
        rounds: blocks of each variant.
        requests: in a block.
        seed: of the order within a round.
        warm_up: requests to each variant first. A worker samples its first 256 requests in full, so
            the default begins beyond.
        before: called with the name of a variant before each of its blocks, unmeasured.

    Returns:
        Microseconds of CPU time of the calling thread per request, by variant.
    """
    order, rng = list(gets), random.Random(seed)
    blocks: dict[Any, list[float]] = {name: [] for name in gets}
    for get in gets.values():
        get.times(warm_up)
    for _ in range(rounds):
        rng.shuffle(order)
        for name in order:
            before(name)
            start_ns = time.thread_time_ns()
            gets[name].times(requests)
            blocks[name].append((time.thread_time_ns() - start_ns) / requests / 1000)
    return blocks


def differences(blocks: dict[str, list[float]], base: str = BARE) -> dict[str, Spread]:
    """Return the spread of what each variant adds to the base's block of the same round."""
    return {
        name: Spread.of([a - b for a, b in zip(values, blocks[base], strict=True)])
        for name, values in blocks.items() if name != base
    }  # fmt: skip


def added_by_first(
    calls: Sequence[Callable[[int], object]], rounds: int, number: int,
    after: Callable[[], object] = lambda: None,
) -> Spread:  # fmt: skip
    """Return the microseconds of CPU time per call that the first of two functions takes more.

    Args:
        calls: the two functions; each call gets another number.
        rounds: blocks of each.
        number: of calls in a block.
        after: called after each round, unmeasured.
    """
    added = []
    for first in range(rounds):
        spent = []
        for call in calls:
            began = time.thread_time_ns()
            for argument in range(first * number, (first + 1) * number):
                call(argument)
            spent.append((time.thread_time_ns() - began) / number / 1000)
        added.append(spent[0] - spent[1])
        after()
    return Spread.of(added)
