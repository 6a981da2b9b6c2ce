"""The state of an alert, and how judgements change it.

===================== ========= ===================== ==================== ===================
state                 breach    between               clear                no data
===================== ========= ===================== ==================== ===================
ok                    pending   ok                    ok                   ok
pending               firing a  ok                    ok                   ok
firing                firing    firing                resolving            firing
resolving             firing    firing                ok b                 resolving
===================== ========= ===================== ==================== ===================

a: once it was a breach for ``for_s`` without a break. b: once it was clear for ``keep_firing_s`` without
a break. Neither duration has time in it that was not evaluated, or had no data: missing data never
resolves an alert. Where the clock is set back, a phase that lies ahead begins at present.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from .conditions import Judged, Judgement

MAX_GAP_S = 60.0
"""Time between two evaluations that counts; a longer one was not evaluated."""


class Phase(StrEnum):
    """Phase of an alert."""

    OK = "ok"
    PENDING = "pending"
    FIRING = "firing"
    RESOLVING = "resolving"  # still firing; its condition is clear


class Event(StrEnum):
    """A change of an alert that people are informed of."""

    FIRING = "firing"
    RESOLVED = "resolved"
    REPEAT = "repeat"  # still firing


class Timing(NamedTuple):
    """Durations of a rule, in seconds.

    Attributes:
        for_s: duration of a breach before it fires.
        keep_firing_s: duration for which it is clear before it is resolved.
        repeat_s: time between two messages while it fires, 0 for one message.
    """

    for_s: float = 30.0
    keep_firing_s: float = 600.0
    repeat_s: float = 14_400.0


DEFAULT_TIMING = Timing()


class State(NamedTuple):
    """State of a rule for one subject. Times are in seconds since the epoch.

    Attributes:
        phase: the phase.
        since: start of the phase, moved on by the time that was not evaluated or had no data.
        fired_at: time at which it fired, 0 while it does not.
        informed_at: time of the latest message of this alert, or of its omission; 0 before it.
        is_informed: whether a message was sent since it fired.
        has_data: whether there was data at the latest evaluation.
        evaluated_at: time of that.
        data_at: time of the latest evaluation that had data.
        observed: value of the condition at the latest evaluation that had data.
        events: number of events that were judged then.
    """

    phase: Phase = Phase.OK
    since: float = 0.0
    fired_at: float = 0.0
    informed_at: float = 0.0
    has_data: bool = False
    evaluated_at: float = 0.0
    data_at: float = 0.0
    observed: float | None = None
    events: int = 0
    is_informed: bool = False

    @property
    def is_firing(self) -> bool:
        """Whether it fires, also while its condition is clear again."""
        return self.phase in (Phase.FIRING, Phase.RESOLVING)


def step(state: State, judged: Judged, now: float, timing: Timing) -> tuple[State, Event | None]:
    """Return the next state and the change that it is, ``None`` for none.

    Args:
        state: the present state.
        judged: result of the condition.
        now: time of the evaluation, in seconds since the epoch.
        timing: durations of the rule.
    """
    has_data = judged.judgement is not Judgement.NO_DATA
    passed = now - state.evaluated_at
    unknown = passed if passed > MAX_GAP_S or not has_data else 0.0
    state = state._replace(
        since=min(now, state.since + unknown), informed_at=min(now, state.informed_at),
        has_data=has_data, evaluated_at=now, data_at=now if has_data else min(now, state.data_at),
        observed=judged.observed if has_data else state.observed,
        events=judged.events if has_data else state.events,
    )  # fmt: skip
    if state.is_firing:
        return _active(state, judged.judgement, now, timing)
    return _inactive(state, judged.judgement, now, timing)


def _inactive(
    state: State, judgement: Judgement, now: float, timing: Timing
) -> tuple[State, Event | None]:
    if judgement is not Judgement.BREACH:
        if state.phase is Phase.PENDING:
            state = state._replace(phase=Phase.OK, since=now)
        return state, None
    if state.phase is Phase.OK:
        state = state._replace(phase=Phase.PENDING, since=now)
    if now - state.since < timing.for_s:
        return state, None
    state = state._replace(
        phase=Phase.FIRING, since=now, fired_at=now, informed_at=now, is_informed=False
    )
    return state, Event.FIRING


def _active(
    state: State, judgement: Judgement, now: float, timing: Timing
) -> tuple[State, Event | None]:
    if judgement is Judgement.CLEAR:
        if state.phase is Phase.FIRING:
            state = state._replace(phase=Phase.RESOLVING, since=now)
        if now - state.since >= timing.keep_firing_s:
            return state._replace(phase=Phase.OK, since=now, fired_at=0.0), Event.RESOLVED
    elif judgement is not Judgement.NO_DATA and state.phase is Phase.RESOLVING:
        state = state._replace(phase=Phase.FIRING, since=now)
    if not state.informed_at or (timing.repeat_s and now - state.informed_at >= timing.repeat_s):
        return state._replace(informed_at=now), Event.REPEAT
    return state, None
