"""Sleeps of a request's tasks: they have only the time in which nothing else of the request runs.

A moment belongs to the part that ends first (:mod:`.span`). So a sleep that ends while another task
waits for a statement has the time of both until then, though the request waits for it. When the
statement ends, it takes that time back (:meth:`Sleeps.take`). Sleeps are counted when the request ends.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from typing import Any

MAX_SLEEPS = 200
"""Sleeps that are remembered of a request; a further one has the earliest counted."""
MAX_STRETCHES = 1000
"""Stretches of work that are remembered of a request; of further ones the earliest two are joined."""


class TakenTime:
    """The time that some parts have taken, as disjoint stretches in order; times are nanoseconds."""

    __slots__ = ("_ends", "_starts")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def add(self, began: int, ended: int) -> None:
        """Take a stretch of time."""
        starts, ends = self._starts, self._ends
        first, last = bisect_left(ends, began), bisect_right(starts, ended)
        if first < last:
            began, ended = min(began, starts[first]), max(ended, ends[last - 1])
        starts[first:last], ends[first:last] = [began], [ended]
        if len(starts) > MAX_STRETCHES:
            del starts[1], ends[0]

    def within(self, began: int, ended: int) -> int:
        """Return the time that was taken of a stretch."""
        first, last = bisect_left(self._ends, began), bisect_right(self._starts, ended)
        return sum(
            min(ended, self._ends[number]) - max(began, self._starts[number])
            for number in range(first, last)
        )

    def gaps(self, began: int, ended: int) -> list[tuple[int, int]]:
        """Return the stretches of a stretch that were not taken, as starts and ends."""
        first, last = bisect_left(self._ends, began), bisect_right(self._starts, ended)
        starts = [began, *self._ends[first:last]]
        ends = [*self._starts[first:last], ended]
        return [gap for gap in zip(starts, ends, strict=True) if gap[0] < gap[1]]


class EndedSleep:
    """A sleep that is over.

    Args:
        began: its start, in nanoseconds on the recorder's clock.
        ended: its end.
        own: time that it has taken, in nanoseconds; work beside it that ends later reduces it.
        data: what its caller needs to count it.

    Attributes:
        stretches: those of its time in which no sleep slept that ended before it, as starts and ends.
    """

    __slots__ = ("began", "data", "ended", "own", "stretches")

    def __init__(self, began: int, ended: int, own: int, data: Any) -> None:
        self.began, self.ended, self.own, self.data = began, ended, own, data
        self.stretches = [(began, ended)]

    def within(self, taken: TakenTime) -> int:
        """Return the part of its stretches that was taken, in nanoseconds."""
        return sum(taken.within(began, ended) for began, ended in self.stretches)


class Sleeps:
    """Sleeps of one request's tasks, and the work beside them."""

    __slots__ = ("_ended", "_slept", "_work")

    def __init__(self) -> None:
        self._work, self._slept = TakenTime(), TakenTime()
        self._ended: deque[EndedSleep] = deque()  # the latest last

    def take(self, began: int, ended: int) -> int:
        """Add work that ends; return the time that it takes from sleeps, in nanoseconds.

        Args:
            began: its start, in nanoseconds on the recorder's clock.
            ended: its end.
        """
        beside = []
        for sleep in reversed(tuple(self._ended)):
            if sleep.ended <= began:
                break
            beside.append((sleep, sleep.within(self._work)))
        self._work.add(began, ended)
        gained = 0
        for sleep, before in beside:
            lost = min(sleep.own, sleep.within(self._work) - before)
            sleep.own -= lost
            gained += lost
        return gained

    def add(self, sleep: EndedSleep) -> list[EndedSleep]:
        """Add a sleep that ends; return those to be counted at once, for which there is no room."""
        sleep.stretches = self._slept.gaps(sleep.began, sleep.ended)
        self._slept.add(sleep.began, sleep.ended)
        self._ended.append(sleep)
        return [self._ended.popleft()] if len(self._ended) > MAX_SLEEPS else []

    def settle(self) -> list[EndedSleep]:
        """Return all sleeps, once."""
        ended, self._ended = self._ended, deque()
        return list(ended)
