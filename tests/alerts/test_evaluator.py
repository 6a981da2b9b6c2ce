"""The evaluator: windows over slots, the day before, and values."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from flask_knitperf.alerts.conditions import Judgement, ShareAbove, Tally, ValueAbove
from flask_knitperf.alerts.evaluator import AlertKey, Change, Evaluator, Series, Slot
from flask_knitperf.alerts.rules import ALL, EVERY, Metric, Rule
from flask_knitperf.alerts.states import Event, Phase, State, Timing
from flask_knitperf.history.resolutions import DAY, HOUR

TIMING = Timing(for_s=20, keep_firing_s=60, repeat_s=0)
SLOW = Rule("slow", Metric.SLOW, ShareAbove(0.05), EVERY, timing=TIMING)
BECAME = Rule("became", Metric.SLOW, ShareAbove(0.05), EVERY, timing=TIMING, is_new=True)
MEMORY = Rule("memory", Metric.MEMORY_MB, ValueAbove(500), ALL, timing=TIMING)
FINE, BAD = Tally(50, 0), Tally(50, 25)
START = 1_000_000 // HOUR * HOUR


def run(
    evaluator: Evaluator, rule: Rule, tallies: Iterable[Tally], begins: int = START
) -> list[Change]:
    changes = []
    for number, tally in enumerate(tallies):
        at = begins + number * 10
        evaluator.add(Slot(at, 10, {rule.name: {"orders": tally}}))
        changes += evaluator.evaluate(at + 15, at + 10, {})
    return changes


def test_a_breach_fires_and_is_resolved_for_one_endpoint_alone() -> None:
    evaluator = Evaluator([SLOW], {})
    evaluator.add(Slot(START, 10, {"slow": {"other": Tally(500, 0)}}))
    changes = run(evaluator, SLOW, [FINE] * 30 + [BAD] * 20 + [FINE] * 60)
    assert [(change.key, change.event) for change in changes] == [
        (AlertKey("slow", "orders"), Event.FIRING), (AlertKey("slow", "orders"), Event.RESOLVED),
    ]  # fmt: skip
    assert evaluator.states.keys() == {("slow", "orders")}


def test_slow_requests_of_one_moment_are_no_breach() -> None:
    slots = [Tally(2, 0)] * 30 + [Tally(8, 8)] + [Tally(2, 0)] * 40
    assert run(Evaluator([SLOW], {}), SLOW, slots) == []


def test_a_slot_that_is_added_again_replaces_what_it_had() -> None:
    evaluator = Evaluator([SLOW], {})
    for tally in (Tally(400, 0), Tally(40, 30)):
        for at in (START, START + 10):
            evaluator.add(Slot(at, 10, {"slow": {"orders": tally}}))
    evaluator.evaluate(START + 25, START + 20, {})
    assert evaluator.states["slow", "orders"].observed == 60 / 80


def test_an_alert_that_fires_is_evaluated_without_any_observation() -> None:
    key = AlertKey("slow", "gone")
    evaluator = Evaluator([SLOW], {key: State(Phase.FIRING, 5.0, 5.0, 5.0, has_data=True)})
    assert evaluator.evaluate(START, START, {}) == []
    assert evaluator.states[key].phase is Phase.FIRING and not evaluator.states[key].has_data


def test_alerts_of_a_rule_that_was_removed_are_dropped() -> None:
    assert Evaluator([SLOW], {AlertKey("removed", ""): State(Phase.FIRING)}).states == {}
    evaluator = Evaluator([SLOW], {})
    evaluator.add(Slot(START, 10, {"removed": {"": BAD}}))
    evaluator.add_hour(Slot(START, HOUR, {"removed": {"": BAD}, "slow": {"": BAD}}))
    assert evaluator.evaluate(START + 10, START + 10, {}) == []


def test_what_was_always_slow_is_no_new_breach() -> None:
    for hour, events in ((Tally(1000, 300), []), (Tally(1000, 10), [Event.FIRING])):
        evaluator = Evaluator([BECAME], {})
        for number in range(24):
            evaluator.add_hour(
                Slot(START - DAY + number * HOUR, HOUR, {"became": {"orders": hour}})
            )
        changes = run(evaluator, BECAME, [FINE] * 30 + [BAD] * 30)
        assert [change.event for change in changes] == events


def test_a_new_breach_needs_a_day_before_that_had_requests() -> None:
    for hours in ([], [Tally(29, 0)]):
        evaluator = Evaluator([BECAME], {})
        for hour in hours:
            evaluator.add_hour(Slot(START - HOUR, HOUR, {"became": {"orders": hour}}))
        assert run(evaluator, BECAME, [BAD] * 30) == []


def test_a_new_breach_goes_on_when_the_day_before_becomes_bad() -> None:
    evaluator = Evaluator([BECAME], {})
    evaluator.add_hour(Slot(START - HOUR, HOUR, {"became": {"orders": Tally(1000, 0)}}))
    changes = run(evaluator, BECAME, [BAD] * 40)
    evaluator.add_hour(Slot(START, HOUR, {"became": {"orders": Tally(10_000, 5000)}}))
    changes += run(evaluator, BECAME, [BAD] * 40, START + 400)
    assert [change.event for change in changes] == [Event.FIRING]


def test_values_are_judged_by_subject() -> None:
    evaluator = Evaluator([MEMORY], {})
    events = []
    for number in range(20):
        value = 600.0 if number < 5 else 400.0
        now = START + number * 10.0
        events += [(change.key.subject, change.event) for change in evaluator.evaluate(
            now, now, {"memory": {"big": value, "small": 100.0}}
        )]  # fmt: skip
    assert events == [("big", Event.FIRING), ("big", Event.RESOLVED)]
    assert evaluator.states.keys() == {("memory", "big")}


def test_a_change_has_the_judgement_that_it_rests_on() -> None:
    [change] = run(Evaluator([SLOW], {}), SLOW, [BAD] * 10)
    assert change.judged.judgement is Judgement.BREACH
    assert change.judged.observed == 0.5 and change.judged.events == 150
    assert change.at == START + 35 and change.state.fired_at == change.at


def test_the_longest_window_is_that_of_all_rules() -> None:
    assert Evaluator([SLOW, MEMORY], {}).window_s == 300 and Evaluator([], {}).window_s == 0


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 50), st.integers(0, 9)), max_size=400),
    st.integers(10, 900), st.integers(0, 50),
)  # fmt: skip
def test_the_sum_of_a_window_is_that_of_its_slots(
    slots: list[tuple[int, int, int]], length: int, ago: int
) -> None:
    series, known, at = Series(1000), {}, 0
    for step, total, bad in slots:
        at += step
        series.add(at - 10, 10, Tally(total, bad))
        known[at] = (total, bad)
    until = at - ago
    assert series.latest == at
    if length + ago <= 1000:
        window = [pair for end, pair in known.items() if until - length < end <= until]
        assert series.sum(until - length, until) == (
            sum(total for total, _ in window), sum(bad for _, bad in window),
        )  # fmt: skip
