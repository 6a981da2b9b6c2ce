"""Values of the page of alerts: what fires, rules with a strip of the time in which they fired."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from markupsafe import Markup

from ..alerts.rule_forms import FIELDS, NAMES
from ..alerts.rules import BY_ENDPOINT, Metric
from ..core.units import count, joined, span
from ..runtime.documents import RULE_TESTS, SILENCE_S
from . import Values
from .alerts_text import delivery, evaluated, state
from .html_times import dated, minute
from .wording import SEVERITIES
from .wording import window as window_name

if TYPE_CHECKING:
    from ..reports.documents import AlertsReport, RulePreview
    from ..reports.documents.alerts import Bounds, DeliveryRow, FiredStretch, FiringRow, RuleRow

WIDTH = 240.0
"""Width of a strip in its coordinates."""
_LEAST = 2.0  # width of an alert on it, at least
_TONES = {"queued": "none", "sent": "good", "failed": "bad"}


def alerts(document: AlertsReport) -> Values:
    """Return the values of the page."""
    begins, ends = (_seconds(document["window"][key]) for key in ("from", "to"))
    rules = [_rule(rule, begins, ends) for rule in document["rules"]]
    fired = sum(rule["fired"] for rule in document["rules"])
    return {
        "firing": firing(document),
        "rules": rules,
        "summary": f"{count(len(rules), 'rule')}, {count(fired, 'alert')} in this window",
        "evaluated": dated(evaluated(document)),
        "silences": [
            {**row, "until": minute(row["until"]),
             "about": " ".join(filter(None, (row["rule"] or "All rules", row["subject"])))}
            for row in document["silences"]
        ],
        "deliveries": [_delivery(row) for row in document["deliveries"]],
        "events": [{**row, "at": minute(row["at"])} for row in document["events"]],
        "switched_off": document["switched_off"], "metrics": METRICS,
        "channels": ", ".join(document["channels"]),
        "lengths": [(name, span(round(seconds))) for name, seconds in SILENCE_S.items()],
    }  # fmt: skip


METRICS = [(metric.value, NAMES[metric]) for metric in NAMES]
"""Metrics of rules, with their names for readers."""


def rule(document: RulePreview) -> Values:
    """Return the values of the page on which a rule is written."""
    metric, form = Metric(document["metric"]), document["form"]
    condition, window, fired = document["condition"], document["window"], document["fired"]
    endpoint = form.get("endpoint", "all")
    endpoints = [("all", "all endpoints together"), ("every", "every endpoint by itself")]
    endpoints += [(name, name) for name in document["endpoints"]]
    if endpoint not in dict(endpoints):
        endpoints.append((endpoint, endpoint))
    return {
        "title": form.get("name") or "New rule", "metric": NAMES[metric],
        "fields": [{**field._asdict(), "value": form.get(field.name, "")} for field in FIELDS[metric]],
        "endpoints": endpoints if metric in BY_ENDPOINT else [], "endpoint": endpoint,
        "condition": condition and joined(condition[:1].upper() + condition[1:]),
        "tests": [(name, window_name(name)) for name in RULE_TESTS],
        "fired": None if fired is None else {
            "text": f"It would have fired {_times(len(fired))} in this time.",
            "past": [_began(one) for one in fired[:_MAX_PAST]],
            **_strip(fired, window),
        },
        "untested": window is not None and fired is None,
        "can_be_new": any(field.name == "share" for field in FIELDS[metric]),
        "metrics": METRICS,
        "severities": [(name, text) for name, text in SEVERITIES.items()],
    }  # fmt: skip


_MAX_PAST = 20


def _times(n: int) -> str:
    return "never" if n == 0 else "once" if n == 1 else count(n, "time")


def _strip(fired: list[FiredStretch], window: Bounds | None) -> Values:
    if window is None:
        return {"bars": [], "width": WIDTH}
    begins, ends = _seconds(window["from"]), _seconds(window["to"])
    return {"bars": [_bar(one, begins, ends) for one in fired], "width": WIDTH}


def firing(document: AlertsReport) -> list[Values]:
    """Return the alerts that fire."""
    return [_firing(row) for row in document["firing"]]


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def _firing(row: FiringRow) -> Values:
    method, _, endpoint = row["subject"].partition(" ")
    return {
        **row, "css": row["severity"].lower(), "level": SEVERITIES[row["severity"]],
        "method": method, "endpoint": endpoint, "since": minute(row["since"]),
        "text": joined(row["text"][:1].upper() + row["text"][1:]), "state": dated(state(row)),
    }  # fmt: skip


def _rule(rule: RuleRow, begins: float, ends: float) -> Values:
    stretches = [_bar(one, begins, ends) for one in rule["stretches"]]
    is_firing = any(one["ends"] is None for one in rule["stretches"])
    label = f"{rule['name']}: {count(rule['fired'], 'alert')} in this window"
    return {
        **rule, "bars": stretches, "label": label, "is_firing": is_firing, "width": WIDTH,
        "condition": joined(rule["condition"][:1].upper() + rule["condition"][1:]),
        "to": ", ".join(rule["channels"]) or "all channels",
        "past": [_began(one) for one in rule["stretches"]],
    }  # fmt: skip


def _began(one: FiredStretch) -> Markup:
    return Markup("{}, {}").format(one["subject"] or "all", minute(one["begins"]))


def _bar(one: FiredStretch, begins: float, ends: float) -> Values:
    """Return place and width of an alert on the strip of its rule."""
    scale = WIDTH / (ends - begins)
    left = max(0.0, (_seconds(one["begins"]) - begins) * scale)
    right = WIDTH if one["ends"] is None else (_seconds(one["ends"]) - begins) * scale
    width = max(_LEAST, right - left)
    return {"x": round(min(left, WIDTH - width), 1), "width": round(width, 1)}


def _delivery(row: DeliveryRow) -> Values:
    return {
        **row, "at": minute(row["at"]), "result": dated(delivery(row)),
        "tone": "warning" if row["state"] == "queued" and row["error"] else _TONES[row["state"]],
    }  # fmt: skip
