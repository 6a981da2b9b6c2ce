"""Messages: the texts of a change, and a key that is the same in every try and in every process."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_knitperf.alerts.conditions import (
    BurnRate,
    Condition,
    CountAbove,
    Judged,
    Judgement,
    ShareAbove,
    ValueAbove,
)
from flask_knitperf.alerts.evaluator import AlertKey, Change
from flask_knitperf.alerts.messages import (
    Context,
    body,
    key_of,
    message,
    observation,
    title,
)
from flask_knitperf.alerts.rules import DEFAULT_RULES, Metric, Rule, Severity, sentence
from flask_knitperf.alerts.states import Event, State, Timing
from flask_knitperf.core.printable import printable
from flask_knitperf.reports import json_schema
from flask_knitperf.reports.documents.alerts import AlertMessage

from .receivers import AT, CONTEXT, HOSTILE, RULE, hostile, sample

KEY = AlertKey("Slow", "orders")
TEXTS = st.text(st.characters(), max_size=8)  # half surrogates and NUL among them
KEYS = st.builds(AlertKey, TEXTS, TEXTS)
HOSTILE_TEXTS = pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)


# -- keys ------------------------------------------------------------------------------------------


def test_a_key_stays_the_same_from_release_to_release() -> None:
    assert key_of(KEY, 1_800_000_000.25, "firing", 0.0) == "0d675868d8eb84bd8d27cb3611a676c4"


@pytest.mark.parametrize("event", [Event.FIRING, Event.RESOLVED])
def test_a_change_has_one_key_whenever_it_was_observed(event: Event) -> None:
    assert key_of(KEY, AT, event, AT) == key_of(KEY, AT, event, AT + 10)


def test_each_repeat_has_a_separate_key() -> None:
    assert key_of(KEY, AT, Event.REPEAT, AT + 1) != key_of(KEY, AT, Event.REPEAT, AT + 2)


def test_each_event_of_an_alert_has_a_separate_key() -> None:
    assert len({key_of(KEY, AT, event, AT) for event in Event}) == len(Event)


@given(KEYS, KEYS, st.floats(0, 4e9), st.floats(0, 4e9))
def test_different_alerts_have_different_keys(
    one: AlertKey, other: AlertKey, fired: float, later: float
) -> None:
    are_same = (one, fired) == (other, later)
    assert (key_of(one, fired, "firing", 0) == key_of(other, later, "firing", 0)) == are_same


@given(st.floats(0, 4e9))
def test_a_key_survives_the_storage_of_the_state(fired_at: float) -> None:
    stored = json.loads(json.dumps(fired_at))
    assert key_of(KEY, stored, "firing", 0) == key_of(KEY, fired_at, "firing", 0)


@given(KEYS, st.sampled_from(Event))
def test_a_key_may_stand_in_a_header_and_in_a_message_id(key: AlertKey, event: Event) -> None:
    text = key_of(key, AT, event, AT)
    assert len(text) == 32 and set(text) <= set("0123456789abcdef")


def test_the_key_of_a_message_is_that_of_its_change() -> None:
    assert sample()["key"] == key_of(KEY, AT, Event.FIRING, AT)


def test_names_that_are_shown_alike_have_different_keys() -> None:
    assert sample("a\x1b")["subject"] == sample("a\\x1b")["subject"]
    assert sample("a\x1b")["key"] != sample("a\\x1b")["key"]


# -- observations ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "condition", "observed", "events", "text"),
    [
        (Metric.SLOW, ShareAbove(0.05), 0.12, 400,
         "12 % of 400 requests took longer than 200 ms within 5 minutes, the limit is 5 %"),
        (Metric.SLOW, ShareAbove(0.05), 1.0, 1,
         "100 % of 1 request took longer than 200 ms within 5 minutes, the limit is 5 %"),
        (Metric.FAILED, ShareAbove(0.005, 3600), 0.0071, 12_345,
         "0.7 % of 12,345 requests failed within 1 hour, the limit is 0.5 %"),
        (Metric.QUEUED, ShareAbove(0.05), 0.5, 30,
         ("50 % of 30 requests waited for a worker longer than 200 ms within 5 minutes, "
          "the limit is 5 %")),
        (Metric.CACHE_MISSES, ShareAbove(0.4), 0.6, 200,
         "60 % of 200 look-ups missed within 5 minutes, the limit is 40 %"),
        (Metric.SLOW, BurnRate(0.99), 14.44, 1000,
         "the error budget is used up 14.4 times too fast"),
        (Metric.KILLED, CountAbove(0), 1.0, 1, "1 request ended with their worker within 5 minutes"),
        (Metric.KILLED, CountAbove(0), 3.0, 3,
         "3 requests ended with their worker within 5 minutes"),
        (Metric.MEMORY_MB, ValueAbove(500.0), 612.4, 0, "a worker takes 612 MB"),
        (Metric.LEAKS, ValueAbove(0.0), 5_000_000.0, 0, "its requests have retained 4.8 MB"),
        (Metric.SILENCE_S, ValueAbove(120.0), 300.0, 0, "nothing was written for 5 minutes"),
        (Metric.SILENCE_S, ValueAbove(0.0), 0.2, 0, "nothing was written for 1 second"),
    ],
)  # fmt: skip
def test_an_observation_is_put_in_words(
    metric: Metric, condition: Condition, observed: float, events: int, text: str
) -> None:
    rule = Rule("it", metric, condition, limit_ms=200.0)
    assert observation(rule, observed, events) == text


def test_an_observation_without_a_limit_names_the_threshold_of_the_endpoint() -> None:
    rule = Rule("it", Metric.SLOW, ShareAbove(0.05))
    assert "took longer than its threshold within" in observation(rule, 0.12, 400)


@pytest.mark.parametrize("rule", DEFAULT_RULES, ids=lambda rule: rule.name)
@pytest.mark.parametrize("observed", [None, 0.0, 1e-9, 0.5, 1.0, 1e12])
def test_each_rule_has_a_message_for_each_value(rule: Rule, observed: float | None) -> None:
    change = Change(AlertKey(rule.name, ""), Event.FIRING, AT, State(),
                    Judged(Judgement.BREACH, observed, 50), AT)  # fmt: skip
    built = message(rule, change, AT, Context("mill"))
    assert built["text"] and (built["text"] == "no data") == (observed is None)
    assert "\n" not in built["text"] and body(built)


@pytest.mark.parametrize("seconds", [0.0, 0.2, 0.5, 1.0, 1.5, 90.0])
def test_a_rule_with_a_short_duration_has_a_sentence(seconds: float) -> None:
    rule = Rule("it", Metric.SILENCE_S, ValueAbove(seconds), timing=Timing(for_s=seconds))
    assert sentence(rule).startswith("a host has written nothing for")


# -- the document ----------------------------------------------------------------------------------


def test_a_message_has_the_facts_of_its_change() -> None:
    assert sample() == {
        "schema": "flask-knitperf/alert/1",
        "key": key_of(KEY, AT, "firing", AT),
        "event": "firing",
        "at": "2027-01-15T08:00:00+00:00",
        "app": "mill",
        "release": "1.4",
        "rule": "Slow",
        "severity": "WARNING",
        "subject": "orders",
        "condition": sentence(RULE),
        "text": "12 % of 400 requests took longer than 200 ms within 5 minutes, the limit is 5 %",
        "observed": 0.12,
        "events": 400,
        "since": "2027-01-15T08:00:00+00:00",
        "began": "5 minutes after release 1.4",
        "finding": "N+1 query: 12 × SELECT in each request.",
        "link": "https://mill.example/perf/alerts",
    }


def test_facts_that_are_unknown_are_null() -> None:
    built = sample(context=Context("mill"))
    assert {key for key, value in built.items() if value is None} == {
        "release", "began", "finding", "link",
    }  # fmt: skip


def check_schema(built: AlertMessage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(json_schema.PUBLISHED, "alert", AlertMessage)
    jsonschema.validate(json.loads(json.dumps(built)), json_schema.json_schema("alert"))


@pytest.mark.parametrize("event", Event)
@pytest.mark.parametrize("context", [CONTEXT, Context("mill")], ids=["full", "empty"])
def test_a_message_keeps_to_its_schema(
    event: Event, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_schema(sample(event=event, context=context), monkeypatch)


@HOSTILE_TEXTS
def test_a_hostile_message_keeps_to_its_schema_and_is_printable(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = hostile(text)
    check_schema(built, monkeypatch)
    assert printable(built) == built
    assert built["subject"] == built["rule"] == built["finding"] == printable(text)


@given(TEXTS)
def test_a_message_of_any_name_is_one_line_per_fact(text: str) -> None:
    built = hostile(text)
    assert len(title(built).splitlines()) == 1
    lines = body(built).splitlines()
    assert len(lines) == len(body(built).split("\n")) <= 6
    json.dumps(built, ensure_ascii=False).encode()  # it can be encoded


@pytest.mark.parametrize(
    ("passed", "began"),
    [
        (-1.0, None),
        (0.0, "1 second after release 1.4"),
        (1.0, "1 second after release 1.4"),
        (59.0, "59 seconds after release 1.4"),
        (150.0, "2 minutes after release 1.4"),
        (1800.0, "30 minutes after release 1.4"),
        (7200.0, "2 hours after release 1.4"),
        (20_000.0, "6 hours after release 1.4"),
        (86_399.0, "1 day after release 1.4"),
        (86_400.0, None),
    ],
)
def test_an_alert_soon_after_a_release_is_related_to_it(passed: float, began: str | None) -> None:
    context = CONTEXT._replace(deployed_at=AT - passed)
    assert sample(context=context)["began"] == began


def test_a_release_without_a_name_is_the_start_of_the_server() -> None:
    context = CONTEXT._replace(release=None)
    assert sample(context=context)["began"] == "5 minutes after the start of the server"


# -- texts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("severity", "event", "subject", "text"),
    [
        (Severity.CRITICAL, "firing", "orders", "[mill] Critical: Slow: orders"),
        (Severity.WARNING, "firing", "", "[mill] Warning: Slow"),
        (Severity.INFO, "firing", "", "[mill] Info: Slow"),
        (Severity.CRITICAL, "resolved", "orders", "[mill] Resolved: Slow: orders"),
        (Severity.WARNING, "repeat", "orders", "[mill] Still firing: Slow: orders"),
        (Severity.INFO, "test", "", "[mill] Test: Slow"),
    ],
)
def test_a_title_has_the_application_and_the_alert(
    severity: Severity, event: Any, subject: str, text: str
) -> None:
    built = sample(subject)
    built["severity"], built["event"] = severity.value, event
    assert title(built) == text


def test_a_body_has_one_fact_per_line() -> None:
    assert body(sample()).split("\n") == [
        "12 % of 400 requests took longer than 200 ms within 5 minutes, the limit is 5 %.",
        "N+1 query: 12 × SELECT in each request.",
        "It began 5 minutes after release 1.4.",
        "Firing since 2027-01-15T08:00:00+00:00.",
        f"Rule: {sentence(RULE)}.",
        "https://mill.example/perf/alerts",
    ]


def test_a_body_leaves_out_facts_that_are_unknown() -> None:
    assert len(body(sample(context=Context("mill"))).split("\n")) == 3


def test_a_body_has_the_release_also_long_after_its_deploy() -> None:
    built = sample(context=CONTEXT._replace(deployed_at=AT - 1e6))
    assert built["began"] is None and "Release: 1.4." in body(built).split("\n")


def test_the_body_of_a_resolved_alert_has_its_begin_and_its_end() -> None:
    change = Change(KEY, Event.RESOLVED, AT + 600, State(), Judged(Judgement.CLEAR, 0.01, 400), AT)
    lines = body(message(RULE, change, AT, CONTEXT)).split("\n")
    assert "Fired from 2027-01-15T08:00:00+00:00 to 2027-01-15T08:10:00+00:00." in lines
    assert not [line for line in lines if line.startswith("Firing")]


def test_the_body_of_a_test_has_no_time() -> None:
    built = sample()
    built["event"] = "test"
    assert "2027" not in body(built)
