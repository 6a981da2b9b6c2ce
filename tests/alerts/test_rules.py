"""Rules: in words, and from plain values."""

from __future__ import annotations

from typing import Any

import pytest

from flask_knitperf.alerts.conditions import (
    PAGE_WINDOWS,
    TICKET_WINDOWS,
    BurnRate,
    CountAbove,
    ShareAbove,
    ValueAbove,
)
from flask_knitperf.alerts.rules import (
    ALL,
    DEFAULT_RULES,
    EVERY,
    Metric,
    Rule,
    Severity,
    rule_of,
    sentence,
)
from flask_knitperf.alerts.states import Timing
from flask_knitperf.core.errors import ConfigurationError


def test_the_nine_default_rules_are_sentences() -> None:
    assert {rule.name: sentence(rule) for rule in DEFAULT_RULES} == {
        "Endpoint became slow":
            "more than 5 % of the requests to an endpoint take longer than the threshold of their "
            "endpoint, of at least 30 requests in 5 minutes, unlike in the day before, for 30 seconds",
        "99 % of requests within 1 s":
            "the 1 % of all requests that may take longer than 1.0 s is used up 14.4 times too fast for "
            "1 hour or 6 times too fast for 6 hours, for 1 minute",
        "Failures":
            "more than 5 % of all requests fail, of at least 30 requests in 5 minutes, for 30 seconds",
        "Memory of a worker": "a worker takes more than 500 MB, for 10 minutes",
        "Leak suspected": "an endpoint is suspected of a memory leak, for 30 seconds",
        "Requests were killed": "any of all requests end with their worker within 5 minutes",
        "No data": "a host has written nothing for 2 minutes, for 30 seconds",
        "Requests queue":
            "more than 5 % of all requests wait for a worker longer than 50 ms, of at least 30 requests "
            "in 5 minutes, for 30 seconds",
        "Cache misses":
            "more than 40 % of look-ups of the cache miss, of at least 200 look-ups in 30 minutes, "
            "unlike in the day before, for 10 minutes",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        (
            {"name": " Orders ", "metric": "slow", "endpoint": "orders", "limit_ms": 250},
            Rule("Orders", Metric.SLOW, ShareAbove(0.05), "orders", 250.0),
        ),
        (
            {"name": "a", "metric": "failed", "share": 0.01, "window_s": 60, "min_events": 100,
             "resolve_share": 0.005, "for_s": 0, "keep_firing_s": 60, "repeat_s": 0,
             "severity": "CRITICAL", "channels": ["ops"], "endpoint": "every", "unlike_before": True},
            Rule("a", Metric.FAILED, ShareAbove(0.01, 60, 100, 0.005), EVERY, None,
                 Timing(0.0, 60.0, 0.0), Severity.CRITICAL, ("ops",), is_new=True),
        ),
        (
            {"name": "a", "metric": "slow", "objective": 0.999, "limit_ms": 100},
            Rule("a", Metric.SLOW, BurnRate(0.999, PAGE_WINDOWS), ALL, 100.0),
        ),
        (
            {"name": "a", "metric": "slow", "objective": 0.999, "burn": "ticket", "min_events": 5},
            Rule("a", Metric.SLOW, BurnRate(0.999, TICKET_WINDOWS, 5)),
        ),
        ({"name": "a", "metric": "queued"}, Rule("a", Metric.QUEUED, ShareAbove(0.05), ALL, 50.0)),
        ({"name": "a", "metric": "killed", "limit": 3, "window_s": 60},
         Rule("a", Metric.KILLED, CountAbove(3, 60))),
        ({"name": "a", "metric": "memory_mb", "limit": 300, "resolve_limit": 280},
         Rule("a", Metric.MEMORY_MB, ValueAbove(300.0, 280.0))),
    ],
)  # fmt: skip
def test_a_rule_is_read_from_plain_values(values: dict[str, Any], rule: Rule) -> None:
    assert rule_of("RULES[0]", values) == rule
    assert sentence(rule)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("x", "must be a mapping with name and metric"),
        ({}, "must be a text of at most 100 characters"),
        ({"name": "a" * 101, "metric": "slow"}, "at most 100 characters"),
        ({"name": "a"}, "must be one of slow, failed, killed"),
        ({"name": "a", "metric": "slow", "limit_msec": 5}, "did you mean limit_ms?"),
        ({"name": "a", "metric": "slow", "share": 5}, r"\['share'\].*from 0.0001 to 0.9999"),
        ({"name": "a", "metric": "slow", "share": True}, r"\['share'\].*must be a number"),
        ({"name": "a", "metric": "slow", "share": 0.1, "resolve_share": 0.2}, "from 0 to 0.1"),
        ({"name": "a", "metric": "slow", "severity": "LOUD"}, "must be one of CRITICAL"),
        ({"name": "a", "metric": "slow", "channels": "ops"}, "must be a list of names"),
        ({"name": "a", "metric": "slow", "endpoint": 5}, "must be an endpoint"),
        ({"name": "a", "metric": "slow", "objective": 0.99, "burn": "x"}, "page, ticket"),
        ({"name": "a", "metric": "slow", "unlike_before": "yes"}, "must be one of True, False"),
        (
            {"name": "a", "metric": "memory_mb", "share": 0.1},
            "keys are name, enabled, metric, limit",
        ),
    ],
)
def test_a_rule_that_is_wrong_is_refused_with_its_value_and_what_is_allowed(
    values: Any, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        rule_of("KNITPERF_ALERT_RULES[0]", values)
