"""Steps in daily values: a level that changed and stayed, as after a release.

The median of the last six days is compared with that of the twenty days before. A change counts if it is
at least five percent, and the ranks of the days differ by more than chance explains: the two-sided
p-value of the Mann-Whitney test is below 0.00035. It is exact, by the number of ways in which ranks can
be divided. A single day, however high, changes neither the median nor the ranks by enough.

Source: H. B. Mann and D. R. Whitney, "On a test of whether one of two random variables is stochastically
larger than the other", Ann. Math. Stat. 18 (1947).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

RECENT, BEFORE = 6, 20
"""Days that are compared with those before."""
MIN_CHANGE = 0.05
MAX_P = 0.00035


class Step(NamedTuple):
    """A change of level.

    Attributes:
        day: index of the first day at the new level.
        before: median of the days before.
        after: median of the days since.
        p: probability of ranks that differ as much by chance.
    """

    day: int
    before: float
    after: float
    p: float

    @property
    def change(self) -> float:
        """The new level as a share of the former one, less one."""
        return self.after / self.before - 1


def latest_step(values: Sequence[float]) -> Step | None:
    """Return the step between the last six values and the twenty before, ``None`` without one.

    Args:
        values: one positive value per day, in order of time.
    """
    if len(values) < RECENT + BEFORE:
        return None
    recent, earlier = values[-RECENT:], values[-RECENT - BEFORE : -RECENT]
    before, after = float(np.median(earlier)), float(np.median(recent))
    if before <= 0 or abs(after / before - 1) < MIN_CHANGE:
        return None
    p = rank_test(recent, earlier)
    return Step(len(values) - RECENT, before, after, p) if p < MAX_P else None


def steps(values: Sequence[float]) -> list[Step]:
    """Return all steps: of days on which one is seen, one after another, that with the least chance.

    Args:
        values: one positive value per day, in order of time.
    """
    chosen: list[Step] = []
    for end in range(RECENT + BEFORE, len(values) + 1):
        step = latest_step(values[:end])
        if step is None:
            continue
        if not chosen or step.day - chosen[-1].day > RECENT:
            chosen.append(step)
        elif step.p < chosen[-1].p:
            chosen[-1] = step
    return chosen


def rank_test(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the two-sided p-value of the Mann-Whitney test; equal values share their ranks.

    Args:
        one: values in any order.
        other: further values.
    """
    values = np.array([*one, *other], np.float64)
    order = values.argsort(kind="stable")
    ranks = np.empty(len(values))
    ranks[order] = np.arange(1, len(values) + 1)
    for value in np.unique(values):
        equal = values == value
        ranks[equal] = ranks[equal].mean()
    least = len(one) * (len(one) + 1) / 2
    ways = _ways(len(one), len(other))
    excess = ranks[: len(one)].sum() - least
    tail = int(np.floor(min(excess, len(one) * len(other) - excess)))
    return float(min(1.0, 2 * ways[: tail + 1].sum() / ways.sum()))


@functools.lru_cache(maxsize=64)
def _ways(one: int, other: int) -> npt.NDArray[np.float64]:
    """Return the number of ways to divide ranks, by the excess of the first group's rank sum."""
    ways = np.zeros((one + 1, one * other + 1))
    ways[0, 0] = 1
    for rank in range(1, one + other + 1):
        for chosen in range(min(one, rank), 0, -1):
            step = rank - chosen  # over the least rank that it can have
            if step <= other:
                shifted = ways[chosen - 1, : ways.shape[1] - step]
                ways[chosen, step:] += shifted
    counts: npt.NDArray[np.float64] = ways[one].copy()
    return counts
