"""Evaluates rules: pure, from tallies and values by time to changes of alerts.

The same evaluator runs every ten seconds over the newest rows of the history, and in a backtest over a
week of them.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ..history.resolutions import DAY, HOUR
from .conditions import (
    NOTHING,
    Judged,
    Judgement,
    ShareAbove,
    Tally,
    TimedTally,
    ValueAbove,
    without_clusters,
)
from .rules import ALL, BY_ENDPOINT, EVERY, Rule
from .states import Event, Phase, State, step

REST = "*"
"""In place of a subject: all subjects without a value."""
MIN_BASELINE = 30
"""Events of the day before that a new breach is compared with."""


class AlertKey(NamedTuple):
    """Identity of an alert: name of its rule, and the endpoint or host, empty for all."""

    rule: str
    subject: str


class Change(NamedTuple):
    """A change of an alert.

    Attributes:
        key: the alert.
        event: what happened.
        at: time, in seconds since the epoch.
        state: the state since then.
        judged: the judgement that changed it.
        fired_at: time at which the alert fired.
    """

    key: AlertKey
    event: Event
    at: float
    state: State
    judged: Judged
    fired_at: float


class Slot(NamedTuple):
    """Observations of one slot of time, by the name of a rule.

    Attributes:
        at: its start, in seconds since the epoch.
        seconds: its length.
        tallies: tallies by rule and subject.
    """

    at: int
    seconds: int
    tallies: Mapping[str, Mapping[str, Tally]]


class Series:
    """Tallies of one rule and subject in order of time, with sums of any window in logarithmic time.

    Args:
        kept_s: time for which they are kept, in seconds.
    """

    def __init__(self, kept_s: int) -> None:
        self._kept_s = kept_s
        self._ends, self._lengths = array("q"), array("q")
        self._totals, self._bads = array("q", (0,)), array("q", (0,))  # sums before each slot

    def add(self, at: int, seconds: int, tally: Tally) -> None:
        """Add the tally of a slot by its start and length; slots of that time or later are replaced."""
        end = at + seconds
        place = bisect_left(self._ends, end)
        del self._ends[place:], self._lengths[place:]
        del self._totals[place + 1 :], self._bads[place + 1 :]
        self._ends.append(end)
        self._lengths.append(seconds)
        self._totals.append(self._totals[-1] + tally.total)
        self._bads.append(self._bads[-1] + tally.bad)
        old = bisect_left(self._ends, end - self._kept_s)
        if old > 64 and old * 2 > len(self._ends):
            del self._ends[:old], self._lengths[:old]
            del self._totals[:old], self._bads[:old]

    def sum(self, since: float, until: float) -> Tally:
        """Return the sum of the slots that end after a time, and at another one or before."""
        first, last = self._places(since, until)
        return self._tally(first, last) if first < last else NOTHING

    def slots(self, since: float, until: float) -> list[TimedTally]:
        """Return each of these slots."""
        first, last = self._places(since, until)
        return [
            TimedTally(end - length, length, self._tally(place, place + 1))
            for place, (end, length) in enumerate(
                zip(self._ends[first:last], self._lengths[first:last], strict=True), first
            )
        ]

    def _places(self, since: float, until: float) -> tuple[int, int]:
        return bisect_right(self._ends, since), bisect_right(self._ends, until)

    def _tally(self, first: int, last: int) -> Tally:
        return Tally(self._totals[last] - self._totals[first], self._bads[last] - self._bads[first])

    @property
    def latest(self) -> int:
        """End of the latest slot, 0 without one."""
        return self._ends[-1] if self._ends else 0


class Evaluator:
    """Evaluates rules over time.

    Args:
        rules: the rules, with different names.
        states: states of alerts from before.

    Attributes:
        states: present states; alerts that are ok, and never were anything else, have none.
        misfits: alerts of a rule that is about other endpoints by now.
    """

    def __init__(self, rules: Sequence[Rule], states: Mapping[AlertKey, State]) -> None:
        self.rules = {rule.name: rule for rule in rules}
        known = {key: state for key, state in states.items() if key.rule in self.rules}
        self.states = {
            key: state for key, state in known.items() if _fits(self.rules[key.rule], key.subject)
        }
        self.misfits = [key for key in known if key not in self.states]
        self._series: dict[str, dict[str, Series]] = {name: {} for name in self.rules}
        self._hours: dict[str, dict[str, Series]] = {name: {} for name in self.rules}

    @property
    def window_s(self) -> int:
        """Length of the longest window of all rules, in seconds."""
        return max((_window_s(rule) for rule in self.rules.values()), default=0)

    def add(self, slot: Slot) -> None:
        """Add the observations of a slot; those of its time or later are replaced."""
        for name, by_subject in slot.tallies.items():
            rule = self.rules.get(name)
            if rule is None:
                continue
            _add(self._series[name], slot, by_subject, _window_s(rule))

    def add_hour(self, slot: Slot) -> None:
        """Add the observations of a whole hour, which later breaches are compared with."""
        for name, by_subject in slot.tallies.items():
            rule = self.rules.get(name)
            if rule is None or not rule.is_new:
                continue
            _add(self._hours[name], slot, by_subject, DAY + HOUR)

    def evaluate(
        self, now: float, until: float, values: Mapping[str, Mapping[str, float]]
    ) -> list[Change]:
        """Evaluate all rules; return the changes.

        Args:
            now: the present, in seconds since the epoch.
            until: time up to which slots are complete, at which windows end.
            values: values by rule and subject; :data:`REST` has that of all others.
        """
        changes: list[Change] = []
        active: dict[str, set[str]] = {name: set() for name in self.rules}
        for key in self.states:
            active[key.rule].add(key.subject)
        for name, rule in self.rules.items():
            current, subjects = values.get(name, {}), active[name]
            if isinstance(rule.condition, ValueAbove):
                subjects.update(current.keys() - {REST})
            else:
                subjects.update(self._suspects(rule, until))
            for subject in sorted(subjects):
                key = AlertKey(name, subject)
                changes += self._step(rule, key, self._judge(rule, key, until, current), now)
        return changes

    def _suspects(self, rule: Rule, until: float) -> Iterable[str]:
        """Return the subjects whose share of bad events may be a breach; most are far from it."""
        condition, series = rule.condition, self._series[rule.name]
        if not isinstance(condition, ShareAbove):
            return series
        begins = until - condition.window_s
        tallies = ((subject, one.sum(begins, until)) for subject, one in series.items())
        return [
            subject for subject, tally in tallies if tally.bad > tally.total * condition.share
        ]  # fmt: skip

    def _judge(
        self, rule: Rule, key: AlertKey, until: float, values: Mapping[str, float]
    ) -> Judged:
        condition = rule.condition
        if isinstance(condition, ValueAbove):
            return condition.judge(values.get(key.subject, values.get(REST)))
        series = self._series[rule.name].get(key.subject)
        tallies = {
            length: NOTHING if series is None else series.sum(until - length, until)
            for length in condition.windows
        }
        judged = condition.judge(tallies)
        if judged.judgement is not Judgement.BREACH or not isinstance(condition, ShareAbove):
            return judged
        assert series is not None
        length, state = condition.window_s, self.states.get(key, State())
        slots = series.slots(until - length, until)
        is_breach = condition.is_breach(without_clusters(slots))
        if rule.is_new and not state.is_firing:
            is_breach = is_breach and self._was_clear(condition, key, until, state)
        return judged if is_breach else judged._replace(judgement=Judgement.BETWEEN)

    def _was_clear(self, condition: ShareAbove, key: AlertKey, until: float, state: State) -> bool:
        """Return whether a condition held in the day before a breach."""
        hours = self._hours[key.rule].get(key.subject)
        if hours is None:
            return False
        begins = state.since if state.phase is Phase.PENDING else until
        before = hours.sum(until - DAY - HOUR, begins - condition.window_s)
        return before.total >= MIN_BASELINE and before.share <= condition.share

    def _step(self, rule: Rule, key: AlertKey, judged: Judged, now: float) -> Iterable[Change]:
        before = self.states.get(key)
        state, event = step(before or State(evaluated_at=now), judged, now, rule.timing)
        if before is not None or state.phase is not Phase.OK:
            self.states[key] = state
        if event is not None:
            fired_at = state.fired_at or (before or state).fired_at
            yield Change(key, event, now, state, judged, fired_at)

    def forget_ok(self) -> None:
        """Forget the states of alerts that are ok; they are kept until they were stored."""
        for key in [key for key, state in self.states.items() if state.phase is Phase.OK]:
            del self.states[key]


def _fits(rule: Rule, subject: str) -> bool:
    """Return whether a rule is about a subject."""
    if rule.metric not in BY_ENDPOINT:
        return True
    if rule.endpoint == ALL:
        return subject == ""
    return subject != "" and rule.endpoint in (EVERY, subject.partition(" ")[2])


def _add(series: dict[str, Series], slot: Slot, tallies: Mapping[str, Tally], kept_s: int) -> None:
    for subject, tally in tallies.items():
        if subject not in series:
            series[subject] = Series(kept_s)
        series[subject].add(slot.at, slot.seconds, tally)


def _window_s(rule: Rule) -> int:
    condition = rule.condition
    return 0 if isinstance(condition, ValueAbove) else max(condition.windows)
