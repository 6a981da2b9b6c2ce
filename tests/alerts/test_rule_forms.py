"""Rules as forms: what a form has, a rule has, and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_knitperf.alerts.rule_forms import (
    FIELDS,
    NAMES,
    form_of,
    known_texts,
    new_form,
    values_of,
)
from flask_knitperf.alerts.rules import DEFAULT_RULES, Metric, Rule, rule_of
from flask_knitperf.core.errors import ConfigurationError


def read(form: dict[str, str], *channels: str) -> Rule:
    return rule_of("rule", values_of(form, channels))


def test_every_metric_has_a_form_and_a_name() -> None:
    assert set(FIELDS) == set(NAMES) == set(Metric)


@pytest.mark.parametrize("metric", Metric)
def test_a_new_form_is_a_rule_once_it_has_a_name(metric: Metric) -> None:
    rule = read({**new_form(metric), "name": "Mine"})
    assert (rule.name, rule.metric) == ("Mine", metric)


@pytest.mark.parametrize("rule", DEFAULT_RULES, ids=lambda rule: rule.name)
def test_the_form_of_a_rule_leads_to_its_condition_and_limit(rule: Rule) -> None:
    again = read(form_of(rule))
    assert again.condition == rule.condition and again.limit_ms == rule.limit_ms
    assert again.timing.for_s == rule.timing.for_s and again.severity == rule.severity
    assert (again.endpoint, again.is_new) == (rule.endpoint, rule.is_new)


def test_an_objective_takes_the_place_of_a_share() -> None:
    rule = read({**new_form(Metric.SLOW), "name": "Mine", "objective": "99.9", "limit_ms": "300"})
    assert getattr(rule.condition, "objective", None) == pytest.approx(0.999)


def test_channels_are_those_that_are_chosen() -> None:
    form = {**new_form(Metric.FAILED), "name": "Mine"}
    assert read(form, "mail", "log").channels == ("mail", "log") and read(form).channels == ()


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("metric", "none"), ("share", "many"), ("share", "nan"), ("share", "200"), ("share", "-1"),
        ("min_events", "0"), ("window_s", "1e99"), ("for_s", "-1"), ("severity", "x"), ("name", " "),
        ("endpoint", ""), ("share", "٪"),
    ],
)  # fmt: skip
def test_what_is_no_rule_is_refused_and_an_empty_endpoint_is_all(field: str, text: str) -> None:
    form = {**new_form(Metric.SLOW), "name": "Mine", field: text}
    if field == "endpoint":
        assert read(form).endpoint == "all"
        return
    with pytest.raises(ConfigurationError):
        read(form)


@given(
    st.dictionaries(
        st.sampled_from(["name", "metric", "share", "endpoint", "x", "test"]), st.text()
    )
)
def test_no_text_of_a_form_raises_anything_else(form: dict[str, str]) -> None:
    try:
        read(form)
        assert set(known_texts(form)) <= {"name", "metric", "share", "endpoint"}
    except ConfigurationError:
        pass
