"""Alerts: a thousand simulated days of one endpoint through the evaluator of the application.

The days (:mod:`benchmarks.corpus.alert_days`) were written by an author who had not seen the detector:
traffic and response times of a mill, whose level wobbles, with oddities that must not page, and planted
incidents. Slots of ten seconds are evaluated as in an application, with the rule "more than 5 % of
requests take longer than the limit". An alert is true if it fires within an incident, or less than five
minutes after it; incidents of 1.5 × are counted apart, since their p95 is 9 % above the limit. Beside it
stand two common rules over the same days.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from flask_knitperf.alerts.conditions import ShareAbove, Tally
from flask_knitperf.alerts.evaluator import Evaluator, Slot
from flask_knitperf.alerts.rules import ALL, Metric, Rule
from flask_knitperf.alerts.states import Event, Timing

from ..corpus.alert_days import DAY_S, LIMIT_MS, Day, days
from ..harness.outcome import Grid, Outcome

SEED = 20_261_130
DAYS = 1000
SLOT_S = 10
DELAY_S = 10
"""Time between the end of a slot and its evaluation, as in an application."""
AFTER_S = 300
"""Time after an incident in which its requests are still in the window."""
RULE = Rule("slow", Metric.SLOW, ShareAbove(0.05), limit_ms=LIMIT_MS, timing=Timing(repeat_s=0))
MILD = 1.5
MAX_HALF_S, MAX_MOST_S = 180, 300


class _Counts(NamedTuple):
    """Requests of the slots of a day, and those above the limit."""

    total: list[int]
    bad: list[int]


def run(quick: bool) -> Outcome:
    """Simulate the days, and judge what fired."""
    outcome, number = Outcome(), 50 if quick else DAYS
    score, requests = _Score(), 0
    naive = {"p95 of the last minute over the limit": 0, "p95 of five minutes, for 5 minutes": 0}
    evaluator, fires = Evaluator([RULE], {}), False
    for day in days(SEED, number):
        counts = _counts(day)
        requests += len(day.times_s)
        changes = list(_changes(evaluator, day, counts))
        score.add(day, changes, fires=fires)
        fires = any(state.is_firing for state in evaluator.states.values())
        calm = _calm(day)
        naive["p95 of the last minute over the limit"] += _crossings(counts, calm, 6, 1)
        naive["p95 of five minutes, for 5 minutes"] += _crossings(counts, calm, 30, 30)
    score.judge(outcome, number, requests)
    outcome.grids.append(Grid(
        "Alerts outside of incidents, by rule", ("rule", "false alerts"),
        (("binomial test over five minutes, at least 30 requests, for 30 seconds", str(score.false)),
         *((name, f"{times:,}") for name, times in naive.items())),
    ))  # fmt: skip
    return outcome


def _counts(day: Day) -> _Counts:
    slots = (day.times_s // SLOT_S).astype(np.int64)
    number = DAY_S // SLOT_S
    is_bad = day.latencies_ms > LIMIT_MS
    return _Counts(
        np.bincount(slots, minlength=number).tolist(),
        np.bincount(slots[is_bad], minlength=number).tolist(),
    )


def _changes(evaluator: Evaluator, day: Day, counts: _Counts) -> Iterator[tuple[float, Event]]:
    """Yield the changes of a day with their time, in seconds from its start."""
    begins = day.index * DAY_S
    for number, tally in enumerate(map(Tally, *counts)):
        at = begins + number * SLOT_S
        if tally.total:
            evaluator.add(Slot(at, SLOT_S, {RULE.name: {ALL: tally}}))
        now = at + SLOT_S + DELAY_S
        for change in evaluator.evaluate(now, at + SLOT_S, {}):
            yield now - begins, change.event


def _calm(day: Day) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return for each slot whether it lies outside of incidents, and of the time after them."""
    calm = np.ones(DAY_S // SLOT_S, np.bool_)
    for incident in day.incidents:
        calm[int(incident.start_s // SLOT_S) : int((incident.end_s + 2 * AFTER_S) // SLOT_S)] = (
            False
        )
    return calm


def _crossings(
    counts: _Counts, calm: np.ndarray[tuple[int], np.dtype[np.bool_]], window: int, lasting: int
) -> int:
    """Return the number of times that a share of 5 % was crossed in calm slots.

    Args:
        counts: by slot.
        calm: which slots are calm.
        window: length of the window in slots.
        lasting: slots for which it has to last.
    """
    kernel = np.ones(window, np.int64)
    total, bad = (np.convolve(values, kernel)[: len(calm)] for values in counts)
    over = (bad * 20 > total) & (total > 0)
    runs = np.convolve(over, np.ones(lasting, np.int64))[: len(calm)] >= lasting
    starts = runs & ~np.append(False, runs[:-1])
    return int((starts & calm).sum())


class _Score:
    """Counts of what fired.

    Attributes:
        false: alerts outside of incidents.
    """

    def __init__(self) -> None:
        self.false = 0
        self._planted = self._mild = self._mild_seen = 0
        self._delays: list[float] = []
        self._flapping = 0

    def add(self, day: Day, changes: list[tuple[float, Event]], *, fires: bool) -> None:
        """Add a day.

        Args:
            day: with its incidents.
            changes: with their times.
            fires: whether an alert fires at its start.
        """
        fired = [at for at, event in changes if event is Event.FIRING]
        explained = 0
        for incident in day.incidents:
            inside = [at for at in fired if incident.start_s <= at < incident.end_s + AFTER_S]
            explained += len(inside)
            self._flapping += max(0, len(inside) - 1)
            if incident.factor == MILD:
                self._mild += 1
                self._mild_seen += bool(inside)
            else:
                self._planted += 1
                if inside and inside[0] < incident.end_s:
                    self._delays.append(inside[0] - incident.start_s)
                elif fires and not inside:
                    self._delays.append(0.0)
        self.false += len(fired) - explained

    def judge(self, outcome: Outcome, number: int, requests: int) -> None:
        """Add the rows."""
        what = f"{number:,} days, {requests / 1e6:.1f} M requests"
        fired, planted = len(self._delays), self._planted
        outcome.judge(
            "alerts.found", f"doublings and triplings of response times that fire, {what}",
            "all", f"{fired} of {planted}", fired == planted,
        )  # fmt: skip
        half, most = (float(np.quantile(self._delays, share)) for share in (0.5, 0.95))
        outcome.judge(
            "alerts.delay", "time from the start of an incident to its alert, p50 and p95",
            f"≤ {MAX_HALF_S} s, ≤ {MAX_MOST_S} s", f"{half:.0f} s, {most:.0f} s",
            half <= MAX_HALF_S and most <= MAX_MOST_S,
        )  # fmt: skip
        outcome.judge(
            "alerts.false", f"alerts outside of incidents, {what}", "≤ 1", str(self.false),
            self.false <= 1,
        )  # fmt: skip
        outcome.judge(
            "alerts.flapping", "second alerts of one incident", "0", str(self._flapping),
            not self._flapping,
        )  # fmt: skip
        outcome.notes.append(
            f"Of {self._mild} incidents of {MILD} ×, {self._mild_seen} fired; neither is judged. The "
            f"mean delay is {statistics.fmean(self._delays):.0f} s, the longest "
            f"{max(self._delays):.0f} s."
        )
