"""Rules as forms: from the texts of a form to the plain values of a rule, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..core.errors import ConfigurationError
from .conditions import BurnRate, CountAbove, ShareAbove, ValueAbove
from .rules import BY_ENDPOINT, Metric, Rule, Severity


class FormField(NamedTuple):
    """A number of a form.

    Attributes:
        name: of the field, and of the value of the rule.
        label: its name for readers.
        unit: of the number in the form.
        factor: units of the form in one unit of the value.
        default: text that a new form has, empty for none.
    """

    name: str
    label: str
    unit: str
    factor: float = 1.0
    default: str = ""


_SHARE = FormField("share", "More than", "%", 100.0, "5")
_OBJECTIVE = FormField(
    "objective", "or, in place of that, the objective for the share of good ones", "%", 100.0
)
_LEAST = FormField("min_events", "of at least", "requests", 1.0, "30")
_WINDOW = FormField("window_s", "within", "minutes", 1 / 60, "5")
_FOR = FormField("for_s", "for at least", "seconds", 1.0, "30")
_LIMIT_MS = FormField("limit_ms", "take longer than (empty: the threshold of the endpoint)", "ms")

FIELDS: Mapping[Metric, tuple[FormField, ...]] = {
    Metric.SLOW: (_SHARE, _LIMIT_MS, _LEAST, _WINDOW, _FOR, _OBJECTIVE),
    Metric.FAILED: (_SHARE, _LEAST, _WINDOW, _FOR, _OBJECTIVE),
    Metric.KILLED: (
        FormField("limit", "More than", "requests", 1.0, "0"), _WINDOW,
        _FOR._replace(default="0"),
    ),
    Metric.QUEUED: (
        _SHARE, FormField("limit_ms", "wait longer than", "ms", 1.0, "50"), _LEAST, _WINDOW, _FOR
    ),
    Metric.CACHE_MISSES: (
        _SHARE._replace(default="40"), _LEAST._replace(unit="look-ups", default="200"),
        _WINDOW._replace(default="30"), _FOR,
    ),
    Metric.MEMORY_MB: (
        FormField("limit", "More than", "MB", 1.0, "500"),
        FormField("resolve_limit", "until it is below", "MB"), _FOR._replace(default="600"),
    ),
    Metric.LEAKS: (_FOR,),
    Metric.SILENCE_S: (FormField("limit", "Nothing for", "seconds", 1.0, "120"),),
}  # fmt: skip
"""Numbers of a rule by its metric."""
NAMES: Mapping[Metric, str] = {
    Metric.SLOW: "Slow requests", Metric.FAILED: "Failed requests", Metric.KILLED: "Killed requests",
    Metric.QUEUED: "Requests in the queue", Metric.CACHE_MISSES: "Cache misses",
    Metric.MEMORY_MB: "Memory of a worker", Metric.LEAKS: "Suspected leaks",
    Metric.SILENCE_S: "A host without data",
}  # fmt: skip
"""Metrics by their name for readers."""
TEXTS = ("name", "metric", "endpoint", "severity", "unlike_before")
"""Further fields of a form."""
MAX_TEXT = 200
"""Characters of a field that count."""


def values_of(form: Mapping[str, str], channels: Sequence[str] = ()) -> dict[str, Any]:
    """Return the plain values of a rule (:func:`.rules.rule_of`) from the texts of a form.

    Args:
        form: texts by the name of their field.
        channels: names of the channels that are chosen.

    Raises:
        ConfigurationError: a text is not a number, or there is no such metric.
    """
    metric = metric_of(form)
    values: dict[str, Any] = {"name": form.get("name", "")[:MAX_TEXT], "metric": metric.value}
    for field in FIELDS[metric]:
        text = form.get(field.name, "").strip()[:MAX_TEXT]
        if text:
            values[field.name] = _number(field, text)
    if "objective" in values:
        values.pop("share", None)
        values.pop("window_s", None)
    elif metric not in (Metric.KILLED, Metric.MEMORY_MB, Metric.LEAKS, Metric.SILENCE_S):
        values["unlike_before"] = form.get("unlike_before") == "1"
    if metric in BY_ENDPOINT and form.get("endpoint"):
        values["endpoint"] = form["endpoint"]
    if form.get("severity"):
        values["severity"] = form["severity"]
    if channels:
        values["channels"] = list(channels)
    return values


def known_texts(form: Mapping[str, str]) -> dict[str, str]:
    """Return the texts of a form that belong to a rule.

    Raises:
        ConfigurationError: there is no such metric.
    """
    metric = metric_of(form)
    names = (*TEXTS, *(field.name for field in FIELDS[metric]))
    texts = {name: form[name][:MAX_TEXT] for name in names if name in form}
    return {**texts, "metric": metric.value}


def metric_of(form: Mapping[str, str]) -> Metric:
    """Return the metric of a form.

    Raises:
        ConfigurationError: there is no such metric.
    """
    name = form.get("metric", Metric.SLOW)
    if name not in list(Metric):
        raise ConfigurationError("metric", name, f"must be one of {', '.join(Metric)}")
    return Metric(name)


def _number(field: FormField, text: str) -> float:
    try:
        return float(text) / field.factor
    except ValueError:
        raise ConfigurationError(field.name, text, "must be a number") from None


def form_of(rule: Rule) -> dict[str, str]:
    """Return the texts of the form of a rule; channels are left out."""
    condition = rule.condition
    numbers: dict[str, float | None] = {"for_s": rule.timing.for_s, "limit_ms": rule.limit_ms}
    if isinstance(condition, ShareAbove):
        numbers |= {
            "share": condition.share, "min_events": condition.min_events,
            "window_s": condition.window_s,
        }  # fmt: skip
    elif isinstance(condition, BurnRate):
        numbers |= {"objective": condition.objective, "min_events": condition.min_events}
    elif isinstance(condition, CountAbove):
        numbers |= {"limit": condition.limit, "window_s": condition.window_s}
    elif isinstance(condition, ValueAbove):
        numbers |= {"limit": condition.limit, "resolve_limit": condition.resolve_limit}
    texts = {
        field.name: f"{round(value * field.factor, 6):g}"
        for field in FIELDS[rule.metric] if (value := numbers.get(field.name)) is not None
    }  # fmt: skip
    return {
        "name": rule.name, "metric": rule.metric.value, "endpoint": rule.endpoint,
        "severity": rule.severity.value, "unlike_before": "1" if rule.is_new else "", **texts,
    }  # fmt: skip


def new_form(metric: Metric) -> dict[str, str]:
    """Return the texts of the form of a new rule."""
    texts = {field.name: field.default for field in FIELDS[metric]}
    return {"metric": metric.value, "severity": Severity.WARNING.value, "endpoint": "all", **texts}
