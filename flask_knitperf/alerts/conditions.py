"""Conditions of rules: judge tallies of the last minutes or hours.

A share is judged by an exact binomial test: with a limit of 5 %, 3 of 30 slow requests do not show
that more than 5 % are slow, since that many occur by chance in one of five windows. A breach is a number
that would be that high in less than one of a thousand windows of an endpoint exactly at its limit. The
test takes events for independent, and bad ones often come at once: a person clicks five times, a
collection delays all requests of a second. So the bad events of a slot count at most as many times as a
slot has events on average (:func:`without_clusters`).

Burn rates follow "Alerting on SLOs" of the Site Reliability Workbook (B. Beyer et al., 2018): the rate
at which an error budget is spent, over a long window, and over a short one that ends the alert soon.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from ..history.resolutions import DAY, HOUR
from ..metrics.histogram import binomial_tail

MAX_P = 0.001
"""Probability below which an excess is not chance."""
_MINUTE = 60


class Tally(NamedTuple):
    """Events of a window.

    Attributes:
        total: number of events, such as requests.
        bad: number of those that a rule counts, such as slow ones.
    """

    total: int
    bad: int

    @property
    def share(self) -> float:
        """Bad events as a share of all, 0 to 1; 0 without events."""
        return self.bad / self.total if self.total else 0.0


NOTHING = Tally(0, 0)


class TimedTally(NamedTuple):
    """Tally of a slot that has events.

    Attributes:
        at: start of the slot, in seconds since the epoch.
        seconds: its length.
        tally: its events.
    """

    at: int
    seconds: int
    tally: Tally


class Judgement(StrEnum):
    """Result of a condition at one moment."""

    BREACH = "breach"
    BETWEEN = "between"  # neither a breach nor good enough to resolve one
    CLEAR = "clear"
    NO_DATA = "no data"


class Judged(NamedTuple):
    """A judgement with what it rests on.

    Attributes:
        judgement: the result.
        observed: the share, rate, number or value, ``None`` without data.
        events: number of events that were judged; 0 for values.
    """

    judgement: Judgement
    observed: float | None
    events: int


_UNKNOWN = Judged(Judgement.NO_DATA, None, 0)


@dataclass(frozen=True, slots=True)
class ShareAbove:
    """More than a share of all events are bad.

    Args:
        share: the limit, 0 to 1.
        window_s: length of the window.
        min_events: events below which nothing is judged.
        resolve_share: share up to which it is clear again, the limit by default.
    """

    share: float
    window_s: int = 5 * _MINUTE
    min_events: int = 30
    resolve_share: float | None = None

    @property
    def windows(self) -> tuple[int, ...]:
        """Lengths of the windows to judge, in seconds."""
        return (self.window_s,)

    def judge(self, tallies: Mapping[int, Tally]) -> Judged:
        """Judge tallies by the length of their window in seconds."""
        tally = tallies[self.window_s]
        if tally.total < self.min_events:
            return _UNKNOWN._replace(events=tally.total)
        resolve = self.share if self.resolve_share is None else self.resolve_share
        if self.is_breach(tally):
            judgement = Judgement.BREACH
        elif tally.share <= resolve:
            judgement = Judgement.CLEAR
        else:
            judgement = Judgement.BETWEEN
        return Judged(judgement, tally.share, tally.total)

    def is_breach(self, tally: Tally) -> bool:
        """Return whether the bad events of a window are more than chance explains."""
        return tally.bad >= least_significant(tally.total, self.share)


def without_clusters(slots: Sequence[TimedTally]) -> Tally:
    """Return the sum of slots, in order of time, without the bad events that occurred at once."""
    if not slots:
        return NOTHING
    total, bad = sum(one.tally.total for one in slots), sum(one.tally.bad for one in slots)
    mean = total / (slots[-1].at + slots[-1].seconds - slots[0].at)  # events per second
    at_once = sum(max(0, one.tally.bad - math.ceil(mean * one.seconds)) for one in slots)
    return Tally(total - at_once, bad - at_once)


@functools.lru_cache(maxsize=4096)
def least_significant(total: int, share: float) -> int:
    """Return the least number of bad events that chance does not explain; ``total + 1`` if none.

    Args:
        total: number of events.
        share: true share of bad events, 0 to 1.
    """
    low, high = 0, total + 1  # the tail falls as the number rises
    while low < high:
        middle = (low + high) // 2
        if binomial_tail(middle, total, share) < MAX_P:
            high = middle
        else:
            low = middle + 1
    return low


class BurnWindow(NamedTuple):
    """A pair of windows.

    Attributes:
        long_s: length of the window that spends a notable part of the budget.
        short_s: length of the one that shows that it goes on.
        rate: burn rate above which both are a breach.
    """

    long_s: int
    short_s: int
    rate: float


PAGE_WINDOWS = (BurnWindow(HOUR, 5 * _MINUTE, 14.4), BurnWindow(6 * HOUR, 30 * _MINUTE, 6.0))
"""Those that spend 2 % of a month's budget in an hour, or 5 % in six."""
TICKET_WINDOWS = (BurnWindow(3 * DAY, 6 * HOUR, 1.0),)
"""Those that spend 10 % of a month's budget in three days."""


@dataclass(frozen=True, slots=True)
class BurnRate:
    """The error budget of an objective is spent too fast.

    Args:
        objective: share of events that may not be bad, 0 to 1.
        burns: pairs of windows, of which one is enough.
        min_events: events of a short window below which its pair is not judged.
    """

    objective: float
    burns: tuple[BurnWindow, ...] = PAGE_WINDOWS
    min_events: int = 30

    @property
    def windows(self) -> tuple[int, ...]:
        """Lengths of the windows to judge, in seconds."""
        return tuple(sorted({length for burn in self.burns for length in burn[:2]}))

    def judge(self, tallies: Mapping[int, Tally]) -> Judged:
        """Judge tallies by the length of their window in seconds; the rate is the highest of a pair."""
        budget = 1 - self.objective
        judged = [burn for burn in self.burns if tallies[burn.short_s].total >= self.min_events]
        if not judged:
            return _UNKNOWN._replace(events=max(tally.total for tally in tallies.values()))
        rates = {length: tally.share / budget for length, tally in tallies.items()}
        worst = max(
            judged, key=lambda burn: min(rates[burn.long_s], rates[burn.short_s]) / burn.rate
        )
        observed = min(rates[worst.long_s], rates[worst.short_s])
        if any(rates[burn.long_s] > burn.rate < rates[burn.short_s] for burn in judged):
            judgement = Judgement.BREACH
        elif len(judged) == len(self.burns) and all(
            rates[burn.short_s] <= burn.rate for burn in judged
        ):
            judgement = Judgement.CLEAR
        else:
            judgement = Judgement.BETWEEN
        return Judged(judgement, observed, tallies[worst.long_s].total)


@dataclass(frozen=True, slots=True)
class CountAbove:
    """More than a number of bad events in a window. No event is good news.

    Args:
        limit: the number.
        window_s: length of the window.
    """

    limit: int
    window_s: int = 5 * _MINUTE

    @property
    def windows(self) -> tuple[int, ...]:
        """Lengths of the windows to judge, in seconds."""
        return (self.window_s,)

    def judge(self, tallies: Mapping[int, Tally]) -> Judged:
        """Judge tallies by the length of their window in seconds."""
        bad = tallies[self.window_s].bad
        judgement = Judgement.BREACH if bad > self.limit else Judgement.CLEAR
        return Judged(judgement, float(bad), bad)


@dataclass(frozen=True, slots=True)
class ValueAbove:
    """The latest value is above a limit.

    Args:
        limit: in the unit of the metric.
        resolve_limit: value up to which it is clear again, the limit by default.
    """

    limit: float
    resolve_limit: float | None = None

    def judge(self, value: float | None) -> Judged:
        """Judge a value, ``None`` where there is none."""
        if value is None:
            return _UNKNOWN
        resolve = self.limit if self.resolve_limit is None else self.resolve_limit
        if value > self.limit:
            return Judged(Judgement.BREACH, value, 0)
        judgement = Judgement.CLEAR if value <= resolve else Judgement.BETWEEN
        return Judged(judgement, value, 0)


Condition = ShareAbove | BurnRate | CountAbove | ValueAbove
