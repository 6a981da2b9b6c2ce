"""Backtest of a rule: the evaluator over stored rows, a minute at a time."""

from __future__ import annotations

from typing import NamedTuple

from ..history.resolutions import DAY, HOUR, HOURS, MINUTES, Stretch
from ..history.store import Store
from .evaluator import AlertKey, Evaluator
from .observations import Observer, Threshold
from .rules import Metric, Rule
from .states import Event


class Fired(NamedTuple):
    """Time for which an alert would have fired.

    Attributes:
        subject: endpoint, empty for all.
        begins: in seconds since the epoch.
        ends: its end, ``None`` if it still fires.
        observed: value of the condition when it fired.
        events: number of events that were judged then.
    """

    subject: str
    begins: float
    ends: float | None
    observed: float | None
    events: int


def can_test(rule: Rule) -> bool:
    """Return whether the history has what a rule observes: it has no silence."""
    return rule.metric is not Metric.SILENCE_S


def backtest(
    store: Store, rule: Rule, threshold: Threshold, since: float, until: float
) -> list[Fired]:
    """Return when a rule would have fired, oldest first.

    Args:
        store: the rows, with their series.
        rule: the rule.
        threshold: returns the threshold of an endpoint in milliseconds.
        since: start of the time that is tested, in seconds since the epoch; rows by the minute are kept
            for a week.
        until: its end.
    """
    begins, ends = MINUTES.slot(since), MINUTES.slot(until)
    evaluator, observer = Evaluator([rule], {}), Observer([rule], threshold)
    stretch = Stretch(MINUTES, begins - evaluator.window_s, ends)
    with store.connection.reading():
        slots = list(observer.slots(store, [stretch]))
        days = Stretch(HOURS, HOURS.slot(begins - DAY - HOUR), HOURS.slot(ends))
        hours = list(observer.slots(store, [days])) if rule.is_new else []
        values = observer.values_by_slot(store, stretch).get(rule.name, {})
    fired: dict[AlertKey, Fired] = {}
    over: list[Fired] = []
    next_slot = next_hour = 0
    for now in range(begins, ends + MINUTES.seconds, MINUTES.seconds):
        while next_slot < len(slots) and slots[next_slot].at < now:
            evaluator.add(slots[next_slot])
            next_slot += 1
        while next_hour < len(hours) and hours[next_hour].at + HOUR <= now:
            evaluator.add_hour(hours[next_hour])
            next_hour += 1
        current = {rule.name: values.get(now - MINUTES.seconds, {})}
        for key, event, at, _, judged, _ in evaluator.evaluate(now, now, current):
            if event is Event.FIRING:
                fired[key] = Fired(key.subject, at, None, judged.observed, judged.events)
            elif event is Event.RESOLVED and key in fired:
                over.append(fired.pop(key)._replace(ends=at))
        evaluator.forget_ok()
    return sorted([*over, *fired.values()], key=lambda one: one.begins)
