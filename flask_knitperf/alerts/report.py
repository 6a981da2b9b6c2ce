"""The report on alerts: what fires, rules with their past, deliveries, and an audit list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..core.printable import printable
from ..history.resolutions import DAY
from ..reports.documents.alerts import (
    AlertsReport,
    DeliveryRow,
    EventRow,
    FiredStretch,
    FiringRow,
    RuleRow,
    SilenceRow,
)
from ..reports.values import moment
from .alert_store import AlertStore, DeliveryState, EventKind, Message, Silence
from .alert_store import EventRow as StoredEvent
from .evaluator import AlertKey
from .messages import observation
from .rules import Rule, RuleSource, Severity, sentence
from .states import Phase, State
from .watch import LEASE, LEASE_S

MAX_EVENTS = 100
MAX_DELIVERIES = 50
_ORDER = list(Severity)

Rules = Mapping[str, tuple[Rule, RuleSource]]


def alerts_report(
    alerts: AlertStore, rules: Rules, channels: Iterable[str], since: float, now: float
) -> AlertsReport:
    """Return the report.

    Args:
        alerts: the tables.
        rules: rules by name, with their source.
        channels: names of the channels.
        since: start of the window of past alerts, in seconds since the epoch.
        now: the present.
    """
    with alerts.connection.reading():
        states, silences = alerts.states(), alerts.silences(now)
        # an alert may have fired before the window, and for long
        events = alerts.events(since - 30 * DAY, now + 1, 10_000)
        messages = alerts.messages(MAX_DELIVERIES)
        off = [one["name"] for one in alerts.rules() if one.get("enabled") is False]
        evaluated = _evaluated_at(alerts)
    stretches = _stretches(events, states, since)
    firing = [
        _firing(rules[key.rule][0], key, state, silences, now) for key, state in states.items()
        if state.is_firing and key.rule in rules
    ]  # fmt: skip
    firing.sort(key=lambda row: row["since"], reverse=True)
    firing.sort(key=lambda row: _ORDER.index(Severity(row["severity"])))
    return printable(AlertsReport(
        {"schema": "flask-knitperf/alerts/1", "generated_at": moment(now),
         "window": {"from": moment(since), "to": moment(now)},
         "evaluated_at": None if evaluated is None else moment(evaluated), "firing": firing,
         "rules": [_rule(rule, source, stretches.get(rule.name, []))
                   for rule, source in rules.values()],
         "switched_off": off,
         "channels": list(channels), "silences": [_silence(silence) for silence in silences],
         "deliveries": [_delivery(one) for one in messages],
         "events": [_event(one) for one in reversed(events) if one.at >= since][:MAX_EVENTS]}
    ))  # fmt: skip


def _evaluated_at(alerts: AlertStore) -> float | None:
    """Return the time of the latest evaluation, ``None`` before the first one."""
    results = alerts.connection.execute(
        "SELECT expires FROM knitperf_leases WHERE name = ? AND expires > 0", (LEASE,)
    )
    return float(results[0][0]) - LEASE_S if results else None


def _stretches(
    events: Sequence[StoredEvent], states: Mapping[AlertKey, State], since: float
) -> dict[str, list[FiredStretch]]:
    """Return the times for which alerts fired, by rule, oldest first.

    Events are taken in the order in which they occurred, which is not that of their times where the
    clock was set back. What still fires may have begun before all of them.
    """
    spans = [(state.fired_at, None, key) for key, state in states.items() if state.is_firing]
    past: list[tuple[float, float | None, AlertKey]] = []
    ends: dict[AlertKey, StoredEvent] = {}
    for event in sorted(events, key=lambda event: event.number, reverse=True):
        if event.kind in (EventKind.RESOLVED, EventKind.EXPIRED):
            ends[event.key] = event
        elif event.kind is EventKind.FIRING and event.key in ends:
            past.append((event.at, max(event.at, ends.pop(event.key).at), event.key))
    for key, event in ends.items():  # it fired before all of them
        begins = float(event.about.get("since", event.at))
        past.append((begins, max(begins, event.at), key))
    stretches: dict[str, list[FiredStretch]] = {}
    for begins, end, key in sorted([*spans, *past], key=lambda span: span[0]):
        if end is None or end >= since:
            stretches.setdefault(key.rule, []).append({
                "subject": key.subject, "begins": moment(begins),
                "ends": None if end is None else moment(end),
            })  # fmt: skip
    return stretches


def _firing(
    rule: Rule, key: AlertKey, state: State, silences: Sequence[Silence], now: float
) -> FiringRow:
    until = max((one.until for one in silences if one.covers(key, now)), default=None)
    return {
        "rule": rule.name, "subject": key.subject, "severity": rule.severity.value,
        "since": moment(state.fired_at), "text": observation(rule, state.observed, state.events),
        "observed": state.observed, "has_data": state.has_data,
        "is_clear": state.phase is Phase.RESOLVING,
        "silent_until": None if until is None else moment(until),
    }  # fmt: skip


def _rule(rule: Rule, source: RuleSource, stretches: list[FiredStretch]) -> RuleRow:
    return {
        "name": rule.name, "condition": sentence(rule), "severity": rule.severity.value,
        "channels": list(rule.channels), "source": source.value, "fired": len(stretches),
        "stretches": stretches,
    }  # fmt: skip


def _silence(silence: Silence) -> SilenceRow:
    return {
        "number": silence.number, "rule": silence.rule, "subject": silence.subject,
        "until": moment(silence.until), "reason": silence.reason,
    }  # fmt: skip


def _delivery(one: Message) -> DeliveryRow:
    is_queued = one.state is DeliveryState.QUEUED
    return {
        "at": moment(one.created), "channel": one.channel, "rule": one.body["rule"],
        "subject": one.body["subject"], "event": one.body["event"], "state": one.state.value,
        "tries": one.tries, "error": one.error or None,
        "ended": None if one.ended is None else moment(one.ended),
        "next_try": moment(one.due) if is_queued else None,
    }  # fmt: skip


def _event(event: StoredEvent) -> EventRow:
    text = event.about.get("text") or event.about.get("reason")
    return {
        "at": moment(event.at), "kind": event.kind.value, "rule": event.key.rule,
        "subject": event.key.subject, "text": text or None,
    }  # fmt: skip
