"""Messages of alerts: what was observed, in words, and the document that channels receive."""

from __future__ import annotations

from typing import NamedTuple

from ..core.printable import printable
from ..core.units import MB, count, duration, number, percent, plain, size, span
from ..reports.documents.alerts import AlertMessage
from ..reports.values import moment
from .alert_store import identity
from .conditions import BurnRate, CountAbove, ShareAbove
from .evaluator import AlertKey, Change
from .rules import Metric, Rule, sentence
from .states import Event

_RECENT_S = 86_400
"""Age of a release up to which it is named beside an alert."""
_HAPPENED = {
    Metric.SLOW: "took longer than {limit}", Metric.FAILED: "failed",
    Metric.QUEUED: "waited for a worker longer than {limit}", Metric.CACHE_MISSES: "missed",
    Metric.KILLED: "ended with their worker",
}  # fmt: skip


class Context(NamedTuple):
    """Facts about the application at the time of a change.

    Attributes:
        app: name of the application.
        release: that serves, ``None`` where releases have no name.
        deployed_at: start of the latest run, in seconds since the epoch, ``None`` without one.
        finding: the most severe finding of the alert's endpoint, ``None`` without one.
        url: public address of the dashboard without a slash at its end, ``None`` where unknown.
    """

    app: str
    release: str | None = None
    deployed_at: float | None = None
    finding: str | None = None
    url: str | None = None


def observation(rule: Rule, observed: float | None, events: int) -> str:
    """Return an observation in words.

    Args:
        rule: the rule.
        observed: value of its condition, ``None`` without data.
        events: number of events that were judged.
    """
    if observed is None:
        return "no data"
    return plain(_observation(rule, observed, events))


def _observation(rule: Rule, observed: float, events: int) -> str:
    condition, metric = rule.condition, rule.metric
    if isinstance(condition, BurnRate):
        return f"the error budget is used up {number(observed)} times too fast"
    if metric is Metric.MEMORY_MB:
        return f"a worker takes {size(observed * MB)}"
    if metric is Metric.LEAKS:
        return f"its requests have retained {size(observed)}"
    if metric is Metric.SILENCE_S:
        return f"nothing was written for {span(max(1, round(observed)))}"
    noun = "look-up" if metric is Metric.CACHE_MISSES else "request"
    if isinstance(condition, CountAbove):
        within = span(condition.window_s)
        return f"{count(round(observed), noun)} {_HAPPENED[metric]} within {within}"
    limit = "its threshold" if rule.limit_ms is None else duration(rule.limit_ms)
    happened = _HAPPENED[metric].format(limit=limit)
    assert isinstance(condition, ShareAbove)
    return (
        f"{percent(observed)} of {count(events, noun)} {happened} within {span(condition.window_s)}, "
        f"the limit is {percent(condition.share)}"
    )


def key_of(key: AlertKey, fired_at: float, event: str, at: float) -> str:
    """Return the idempotency key of a change."""
    parts = ["knitperf", key.rule, key.subject, repr(fired_at), event]
    if event == Event.REPEAT:
        parts.append(repr(at))
    return identity(*parts)[:32]


def message(rule: Rule, change: Change, fired_at: float, context: Context) -> AlertMessage:
    """Return the message of a change, with all texts printable.

    Args:
        rule: the rule.
        change: what happened.
        fired_at: time at which the alert fired, in seconds since the epoch.
        context: facts about the application.
    """
    key, judged = change.key, change.judged
    return printable(AlertMessage(
        schema="flask-knitperf/alert/1",
        key=key_of(key, fired_at, change.event, change.at), event=change.event.value,
        at=moment(change.at), app=context.app, release=context.release, rule=rule.name,
        severity=rule.severity.value, subject=key.subject, condition=sentence(rule),
        text=observation(rule, judged.observed, judged.events), observed=judged.observed,
        events=judged.events, since=moment(fired_at), began=_began(fired_at, context),
        finding=context.finding,
        link=None if context.url is None else f"{context.url}/alerts",
    ))  # fmt: skip


def test_message(app: str, url: str | None, now: float) -> AlertMessage:
    """Return a test message.

    Args:
        app: name of the application.
        url: public address of the dashboard, ``None`` where unknown.
        now: the present, in seconds since the epoch.
    """
    return printable(AlertMessage(
        schema="flask-knitperf/alert/1", key=identity("knitperf test", app, repr(now))[:32],
        event="test", at=moment(now), app=app, release=None, rule="Test", severity="INFO", subject="",
        condition="a person sends a test message", text="this is a test: nothing is wrong",
        observed=None, events=0, since=moment(now), began=None, finding=None,
        link=None if url is None else f"{url}/alerts",
    ))  # fmt: skip


def _began(fired_at: float, context: Context) -> str | None:
    """Return the distance of an alert from the latest release, ``None`` where that is long ago."""
    if context.deployed_at is None or not 0 <= fired_at - context.deployed_at < _RECENT_S:
        return None
    name = "the start of the server" if context.release is None else f"release {context.release}"
    passed = span(max(1, _round(fired_at - context.deployed_at)))
    return plain(f"{passed} after {name}")


def _round(seconds: float) -> int:
    """Return a duration in whole minutes or hours where it is that long, in seconds."""
    unit = 3600 if seconds >= 2 * 3600 else 60 if seconds >= 60 else 1
    return round(seconds / unit) * unit


def title(one: AlertMessage) -> str:
    """Return the title of a message, in one line."""
    prefix = {
        "firing": one["severity"].capitalize(), "resolved": "Resolved", "repeat": "Still firing",
        "test": "Test",
    }[one["event"]]  # fmt: skip
    about = f": {one['subject']}" if one["subject"] else ""
    return f"[{one['app']}] {prefix}: {one['rule']}{about}"


def body(one: AlertMessage) -> str:
    """Return the text of a message, one fact per line."""
    release = f"Release: {one['release']}." if one["release"] else None
    lines = [
        one["text"][:1].upper() + one["text"][1:] + ".",
        one["finding"],
        f"It began {one['began']}." if one["began"] else release,
        _since(one),
        f"Rule: {one['condition']}.",
        one["link"],
    ]
    return "\n".join(line for line in lines if line)


def _since(one: AlertMessage) -> str | None:
    """Return the time for which an alert fires or fired, ``None`` for a test."""
    if one["event"] == "test":
        return None
    if one["event"] == "resolved":
        return f"Fired from {one['since']} to {one['at']}."
    return f"Firing since {one['since']}."
