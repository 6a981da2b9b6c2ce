"""Rules: what is counted, for which endpoints, when that is a breach, and how it is reported.

A rule is written in words by :func:`sentence`, and from plain values by :func:`rule_of`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ..core.errors import ConfigurationError
from ..core.units import count, duration, percent, plain, span
from .conditions import (
    PAGE_WINDOWS,
    TICKET_WINDOWS,
    BurnRate,
    Condition,
    CountAbove,
    ShareAbove,
    ValueAbove,
)
from .states import DEFAULT_TIMING, Timing

MAX_RULES = 100
EVERY = "every"
"""In place of an endpoint: every endpoint is judged by itself."""
ALL = "all"
"""In place of an endpoint: all endpoints are judged as one."""


class Metric(StrEnum):
    """Quantity that a rule observes."""

    SLOW = "slow"  # requests that took longer than a limit
    FAILED = "failed"  # requests with a status of 500 or more
    KILLED = "killed"  # requests that ended with their worker
    QUEUED = "queued"  # requests that waited for a worker longer than a limit
    CACHE_MISSES = "cache_misses"  # look-ups
    MEMORY_MB = "memory_mb"  # resident memory of the largest worker
    LEAKS = "leaks"  # endpoints suspected of a leak
    SILENCE_S = "silence_s"  # time since a host wrote its history


class Severity(StrEnum):
    """Severity of an alert."""

    CRITICAL = "CRITICAL"
    WARNING = "WARNING"
    INFO = "INFO"


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule.

    Attributes:
        name: identity and title.
        metric: the quantity that it observes.
        condition: when that is a breach.
        endpoint: an endpoint's name, :data:`EVERY` or :data:`ALL`; of metrics without endpoints,
            :data:`ALL`.
        limit_ms: duration above which a request is bad, ``None`` for the threshold of each endpoint.
        timing: its durations.
        severity: of its alerts.
        channels: names of channels that its messages are sent to, empty for all.
        is_new: whether it fires only where the condition held in the day before, so that what has
            always been slow is a finding and no alert.
    """

    name: str
    metric: Metric
    condition: Condition
    endpoint: str = ALL
    limit_ms: float | None = None
    timing: Timing = DEFAULT_TIMING
    severity: Severity = Severity.WARNING
    channels: tuple[str, ...] = ()
    is_new: bool = False


DEFAULT_RULES = (
    Rule(
        "Endpoint became slow", Metric.SLOW, ShareAbove(0.05), endpoint=EVERY, is_new=True,
    ),
    Rule(
        "99 % of requests within 1 s", Metric.SLOW, BurnRate(0.99), limit_ms=1000.0,
        timing=Timing(for_s=60.0), severity=Severity.CRITICAL,
    ),
    Rule("Failures", Metric.FAILED, ShareAbove(0.05), severity=Severity.CRITICAL),
    Rule(
        "Memory of a worker", Metric.MEMORY_MB, ValueAbove(500.0, 475.0),
        timing=Timing(for_s=600.0),
    ),
    Rule("Leak suspected", Metric.LEAKS, ValueAbove(0.0), timing=Timing(repeat_s=86_400.0)),
    Rule("Requests were killed", Metric.KILLED, CountAbove(0), timing=Timing(for_s=0.0)),
    Rule(
        "No data", Metric.SILENCE_S, ValueAbove(120.0), timing=Timing(keep_firing_s=60.0),
        severity=Severity.CRITICAL,
    ),
    Rule("Requests queue", Metric.QUEUED, ShareAbove(0.05), limit_ms=50.0),
    Rule(
        "Cache misses", Metric.CACHE_MISSES, ShareAbove(0.4, 1800, 200), is_new=True,
        timing=Timing(for_s=600.0), severity=Severity.INFO,
    ),
)  # fmt: skip
"""The nine rules that are on from the start."""

_NOUNS = {
    Metric.SLOW: "requests", Metric.FAILED: "requests", Metric.KILLED: "requests",
    Metric.QUEUED: "requests", Metric.CACHE_MISSES: "look-ups",
}  # fmt: skip


def sentence(rule: Rule) -> str:
    """Return a rule in words, without its name."""
    return plain(_sentence(rule))


def _sentence(rule: Rule) -> str:
    condition = rule.condition
    if isinstance(condition, BurnRate):
        return _burn_sentence(rule, condition)
    if isinstance(condition, ValueAbove):
        return f"{_value(rule, condition)}{_lasting(rule)}"
    what = f"{_subject(rule)} {_bad(rule)}"
    window = span(condition.window_s)
    if isinstance(condition, CountAbove):
        number = "any" if condition.limit == 0 else f"more than {condition.limit}"
        return f"{number} of {what} within {window}{_lasting(rule)}"
    least = count(condition.min_events, _NOUNS[rule.metric].removesuffix("s"))
    text = f"more than {percent(condition.share)} of {what}, of at least {least} in {window}"
    unlike = ", unlike in the day before" if rule.is_new else ""
    return f"{text}{unlike}{_lasting(rule)}"


def _subject(rule: Rule) -> str:
    noun = _NOUNS[rule.metric]
    if rule.metric is Metric.CACHE_MISSES:
        return f"{noun} of the cache"
    if rule.endpoint == ALL:
        return f"all {noun}"
    return f"the {noun} to " + ("an endpoint" if rule.endpoint == EVERY else rule.endpoint)


def _bad(rule: Rule) -> str:
    limit = "the threshold of their endpoint" if rule.limit_ms is None else duration(rule.limit_ms)
    return {
        Metric.SLOW: f"take longer than {limit}",
        Metric.FAILED: "fail",
        Metric.KILLED: "end with their worker",
        Metric.QUEUED: f"wait for a worker longer than {limit}",
        Metric.CACHE_MISSES: "miss",
    }[rule.metric]


def _value(rule: Rule, condition: ValueAbove) -> str:
    if rule.metric is Metric.MEMORY_MB:
        return f"a worker takes more than {condition.limit:g} MB"
    if rule.metric is Metric.LEAKS:
        return "an endpoint is suspected of a memory leak"
    return f"a host has written nothing for {_span(condition.limit)}"


def _burn_sentence(rule: Rule, condition: BurnRate) -> str:
    budget = percent(1 - condition.objective)
    burns = " or ".join(
        f"{burn.rate:g} times too fast for {span(burn.long_s)}" for burn in condition.burns
    )
    return (
        f"the {budget} of {_subject(rule)} that may {_bad(rule)} is used up {burns}{_lasting(rule)}"
    )


def _lasting(rule: Rule) -> str:
    return f", for {_span(rule.timing.for_s)}" if rule.timing.for_s else ""


def _span(seconds: float) -> str:
    return span(max(1, round(seconds)))


class RuleSource(StrEnum):
    """Place in which a rule was written; a later one wins."""

    DEFAULT = "default"
    SETTINGS = "settings"
    PAGE = "page"


def combined(
    settings: Iterable[Mapping[str, Any]], page: Iterable[Mapping[str, Any]]
) -> dict[str, tuple[Rule, RuleSource]]:
    """Return the rules of all sources by name; one with ``enabled`` false removes that of its name.

    Args:
        settings: plain values of ``KNITPERF_ALERT_RULES``.
        page: plain values of the rules that were written on the page.

    Raises:
        ConfigurationError: a value is missing, unknown or out of bounds, or there are too many rules.
    """
    rules = {rule.name: (rule, RuleSource.DEFAULT) for rule in DEFAULT_RULES}
    for source, layer in ((RuleSource.SETTINGS, settings), (RuleSource.PAGE, page)):
        for place, values in enumerate(layer):
            name = f"KNITPERF_ALERT_RULES[{place}]" if source is RuleSource.SETTINGS else "rule"
            if values.get("enabled", True) is False:
                rules.pop(str(values.get("name")), None)
                continue
            rule = rule_of(name, values)
            rules[rule.name] = rule, source
    if len(rules) > MAX_RULES:
        raise ConfigurationError(
            "KNITPERF_ALERT_RULES", len(rules), f"must be at most {MAX_RULES} rules"
        )
    return rules


# -- from plain values -----------------------------------------------------------------------------

BY_ENDPOINT = (Metric.SLOW, Metric.FAILED, Metric.KILLED)
"""Metrics whose rules name endpoints."""
_VALUES = (Metric.MEMORY_MB, Metric.LEAKS, Metric.SILENCE_S)
_SECONDS_LIMIT = 3 * 86_400


class _Reader:
    """Reads one rule's values; each is used once, so that the rest are unknown.

    Args:
        name: how errors name the rule.
        values: the values.
    """

    def __init__(self, name: str, values: Mapping[str, Any]) -> None:
        self._name, self._rest = name, dict(values)
        self._known: list[str] = []

    def error(self, key: str, value: Any, allowed: str) -> ConfigurationError:
        return ConfigurationError(f"{self._name}[{key!r}]", value, allowed)

    def take(self, key: str, default: Any = None) -> Any:
        self._known.append(key)
        return self._rest.pop(key, default)

    def number(self, key: str, default: Any, low: float, high: float) -> Any:
        value = self.take(key, default)
        if value is default:
            return value
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not low <= value <= high
        ):
            raise self.error(key, value, f"must be a number from {low:g} to {high:g}")
        return float(value)

    def choice(self, key: str, default: Any, allowed: Any) -> Any:
        value = self.take(key, default)
        if value not in list(allowed):
            raise self.error(key, value, f"must be one of {', '.join(map(str, allowed))}")
        return value

    def end(self) -> None:
        for key, value in self._rest.items():
            near = difflib.get_close_matches(str(key), self._known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise self.error(key, value, f"keys are {', '.join(self._known)}{hint}")


def rule_of(name: str, values: Mapping[str, Any]) -> Rule:
    """Return a rule from plain values, such as those of ``KNITPERF_ALERT_RULES``.

    Args:
        name: how errors name the rule.
        values: ``name`` and ``metric``, and further ones by metric; ``docs/alerts.md`` lists them.

    Raises:
        ConfigurationError: a value is missing, unknown or out of bounds.
    """
    if not isinstance(values, Mapping):
        raise ConfigurationError(name, values, "must be a mapping with name and metric")
    reader = _Reader(name, values)
    title = reader.take("name")
    reader.choice("enabled", default=True, allowed=(True, False))
    if not isinstance(title, str) or not title.strip() or len(title) > 100:
        raise reader.error("name", title, "must be a text of at most 100 characters")
    metric = Metric(reader.choice("metric", None, Metric))
    condition = _condition(reader, metric)
    endpoint, limit_ms = ALL, None
    if metric in BY_ENDPOINT:
        endpoint = reader.take("endpoint", ALL)
        if not isinstance(endpoint, str) or not endpoint:
            raise reader.error("endpoint", endpoint, f"must be an endpoint, {EVERY!r} or {ALL!r}")
    if metric is Metric.SLOW:
        limit_ms = reader.number("limit_ms", None, 0.001, 1e9)
    elif metric is Metric.QUEUED:
        limit_ms = reader.number("limit_ms", 50.0, 0.001, 1e9)
    rule = Rule(
        title.strip(), metric, condition, endpoint, limit_ms, _timing(reader),
        Severity(reader.choice("severity", Severity.WARNING, Severity)), _channels(reader),
        is_new=reader.choice("unlike_before", default=False, allowed=(True, False))
        if isinstance(condition, ShareAbove) else False,
    )  # fmt: skip
    reader.end()
    return rule


def _condition(reader: _Reader, metric: Metric) -> Condition:
    if metric in _VALUES:
        default = {Metric.MEMORY_MB: 500.0, Metric.LEAKS: 0.0, Metric.SILENCE_S: 120.0}[metric]
        limit = reader.number("limit", default, 0, 1e9)
        return ValueAbove(limit, reader.number("resolve_limit", None, 0, limit))
    if metric is Metric.KILLED:
        limit = round(reader.number("limit", 0, 0, 1e9))
        return CountAbove(limit, round(reader.number("window_s", 300, 10, _SECONDS_LIMIT)))
    objective = reader.number("objective", None, 0.5, 0.99999)
    least = round(reader.number("min_events", 30, 1, 1e9))
    if objective is not None:
        burns = {"page": PAGE_WINDOWS, "ticket": TICKET_WINDOWS}
        return BurnRate(objective, burns[reader.choice("burn", "page", burns)], least)
    share = reader.number("share", 0.05, 0.0001, 0.9999)
    window = round(reader.number("window_s", 300, 10, _SECONDS_LIMIT))
    return ShareAbove(share, window, least, reader.number("resolve_share", None, 0, share))


def _timing(reader: _Reader) -> Timing:
    default = DEFAULT_TIMING
    return Timing(
        reader.number("for_s", default.for_s, 0, _SECONDS_LIMIT),
        reader.number("keep_firing_s", default.keep_firing_s, 0, _SECONDS_LIMIT),
        reader.number("repeat_s", default.repeat_s, 0, 30 * 86_400),
    )


def _channels(reader: _Reader) -> tuple[str, ...]:
    value = reader.take("channels", ())
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise reader.error("channels", value, "must be a list of names of channels")
    return tuple(value)
