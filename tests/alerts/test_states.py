"""States of an alert: a table of transitions, and laws that hold for any order of judgements."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_knitperf.alerts.conditions import Judged, Judgement
from flask_knitperf.alerts.states import MAX_GAP_S, Event, Phase, State, Timing, step

B, M, C, N = Judgement.BREACH, Judgement.BETWEEN, Judgement.CLEAR, Judgement.NO_DATA
TIMING = Timing(for_s=60, keep_firing_s=600, repeat_s=3600)


def run(
    judgements: list[Judgement], every: float = 10.0, timing: Timing = TIMING
) -> tuple[State, list[tuple[float, Event]]]:
    state, events = State(), []
    for number, judgement in enumerate(judgements):
        now = number * every
        state, event = step(state, Judged(judgement, 0.5, 100), now, timing)
        if event is not None:
            events.append((now, event))
    return state, events


def test_a_breach_fires_once_it_has_lasted() -> None:
    assert run([B] * 6)[0].phase is Phase.PENDING
    state, events = run([B] * 7)
    assert state.phase is Phase.FIRING and events == [(60.0, Event.FIRING)]
    assert run([B], timing=Timing(for_s=0))[1] == [(0.0, Event.FIRING)]


@pytest.mark.parametrize("other", [M, C, N])
def test_any_other_judgement_ends_a_pending_alert(other: Judgement) -> None:
    state, events = run([B] * 6 + [other] + [B] * 6)
    assert state.phase is Phase.PENDING and events == []


def test_it_is_resolved_once_it_was_clear_for_long_without_a_break() -> None:
    state, events = run([B] * 7 + [C] * 61)
    assert state == State(since=670.0, has_data=True, evaluated_at=670.0, observed=0.5,
                          informed_at=60.0, data_at=670.0, events=100)  # fmt: skip
    assert events == [(60.0, Event.FIRING), (670.0, Event.RESOLVED)]
    for other in (B, M):
        state, events = run([B] * 7 + [C] * 60 + [other] + [C] * 60)
        assert state.phase is Phase.RESOLVING and len(events) == 1


def test_missing_data_never_resolves() -> None:
    state, events = run([B] * 7 + [N] * 500, timing=TIMING._replace(repeat_s=0))
    assert state.phase is Phase.FIRING and not state.has_data and len(events) == 1
    state, events = run(
        [B] * 7 + [C] * 30 + [N] * 500 + [C] * 30, timing=TIMING._replace(repeat_s=0)
    )
    assert state.phase is Phase.RESOLVING and len(events) == 1
    state, events = run(
        [B] * 7 + [C] * 30 + [N] * 500 + [C] * 31, timing=TIMING._replace(repeat_s=0)
    )
    assert state.phase is Phase.OK and events[-1][1] is Event.RESOLVED


def test_time_without_evaluations_counts_neither_for_firing_nor_for_resolving() -> None:
    state, _ = step(State(), Judged(B, 1.0, 50), 0, TIMING)
    state, event = step(state, Judged(B, 1.0, 50), 4000, TIMING)
    assert event is None and state.phase is Phase.PENDING
    state, event = step(state, Judged(B, 1.0, 50), 4000 + MAX_GAP_S, TIMING)
    assert event is Event.FIRING
    state, _ = step(state, Judged(C, 0.0, 50), 4070, TIMING)
    state, event = step(state, Judged(C, 0.0, 50), 9000, TIMING)
    assert event is Event.REPEAT and state.phase is Phase.RESOLVING


def test_it_repeats_while_it_fires() -> None:
    _, events = run([B] * 800)
    assert events == [(60.0, Event.FIRING), (3660.0, Event.REPEAT), (7260.0, Event.REPEAT)]
    assert len(run([B] * 800, timing=TIMING._replace(repeat_s=0))[1]) == 1


def test_a_clock_that_is_set_back_delays_nothing_for_long() -> None:
    state = State()
    for now in (10_000.0, 10_010.0, 5000.0, 5030.0, 5060.0):
        state, event = step(state, Judged(B, 1.0, 50), now, TIMING)
    assert event is Event.FIRING
    state, _ = step(state, Judged(B, 1.0, 50), 1000.0, TIMING)
    for now in range(1010, 5000, 10):
        state, event = step(state, Judged(B, 1.0, 50), now, TIMING)
        if event:
            break
    assert event is Event.REPEAT and now == 4600


@given(st.lists(st.tuples(st.sampled_from([B, M, C, N]), st.floats(0.1, 700)), max_size=300))
def test_firing_and_resolved_alternate_and_each_rests_on_long_enough_evidence(
    steps: list[tuple[Judgement, float]],
) -> None:
    state, now, history = State(), 0.0, []
    events: list[Event] = []
    for judgement, passed in steps:
        now += passed
        history.append((now, judgement))
        state, event = step(state, Judged(judgement, 0.5, 10), now, TIMING)
        if event is Event.FIRING:
            recent = [j for at, j in history if at > now - TIMING.for_s]
            assert set(recent) == {B}
        elif event is Event.RESOLVED:
            assert not {j for at, j in history if at > now - TIMING.keep_firing_s} & {B, M}
        if event in (Event.FIRING, Event.RESOLVED):
            events.append(event)
    assert (
        events
        == [Event.FIRING, Event.RESOLVED] * (len(events) // 2) + events[len(events) // 2 * 2 :]
    )
    assert state.is_firing == (len(events) % 2 == 1)
