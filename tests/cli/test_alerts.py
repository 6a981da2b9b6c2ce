"""The commands on alerts."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click.testing
import pytest

from flask_knitperf.cli.commands import knitperf
from flask_knitperf.core.errors import ConfigurationError
from tests.conftest import Mill


@pytest.fixture
def written(make_app: Callable[..., Mill]) -> Mill:
    """An application whose history has requests and one evaluation."""
    mill = make_app(KNITPERF_ALERT_CHANNELS={
        "log": {"kind": "log"}, "ops": {"kind": "webhook", "url": "http://127.0.0.1:9/hook"},
    })  # fmt: skip
    mill.get("/")
    history = mill.session.history
    assert history is not None
    with history._lock:
        history._write(0)
    return mill


def run(mill: Mill, *arguments: str) -> click.testing.Result:
    return mill.app.test_cli_runner().invoke(knitperf, ["alerts", *arguments])


def test_rules_are_listed_in_eighty_columns(written: Mill) -> None:
    shown = run(written, "list")
    assert shown.exit_code == 0 and "Nothing fires." in shown.output
    assert "Endpoint became slow" in shown.output and "Channels: log, ops." in shown.output
    assert max(map(len, shown.output.splitlines())) <= 80
    figures = json.loads(run(written, "list", "--json").output)
    assert len(figures["rules"]) == 9 and figures["evaluated_at"]


def test_a_test_message_shows_which_channel_takes_it(written: Mill) -> None:
    shown = run(written, "test")
    assert shown.exit_code == 1 and "1 channel failed." in shown.output
    assert "refused" in shown.output
    shown = run(written, "test", "log")
    assert shown.exit_code == 0 and "All channels took it." in shown.output
    assert "there is no channel 'other'" in run(written, "test", "other").output


def test_a_silence_is_begun_listed_and_ended(written: Mill) -> None:
    shown = run(written, "silence", "Failures", "--for", "8h", "--reason", "deploying")
    assert shown.output == "Failures: silent for 8 hours. Alerts are still recorded.\n"
    assert "Silence 1: Failures until" in run(written, "list").output
    assert run(written, "silence", "--end", "1").output == "The silence has ended.\n"
    assert "there is no silence 1" in run(written, "silence", "--end", "1").output
    assert run(written, "silence").output.startswith("All rules: silent for 2 hours")


def test_a_silence_of_an_unknown_rule_is_refused(written: Mill) -> None:
    shown = run(written, "silence", "Failure")
    assert shown.exit_code == 1 and "there is no rule 'Failure'" in shown.output


def test_a_backtest_states_how_often_a_rule_would_have_fired(written: Mill) -> None:
    shown = run(written, "backtest", "Failures")
    assert shown.exit_code == 0 and "it would have fired never" in shown.output
    assert "More than" not in shown.output and "more than 5 % of all requests" in shown.output


@pytest.mark.parametrize(("rule", "reason"), [("No data", "does not have"), ("x", "rules are")])
def test_a_backtest_that_cannot_be_done_is_refused(written: Mill, rule: str, reason: str) -> None:
    shown = run(written, "backtest", rule)
    assert shown.exit_code == 1 and reason in shown.output


def test_an_application_without_alerts_has_nothing_to_show(make_app: Callable[..., Mill]) -> None:
    shown = run(make_app(KNITPERF_ALERTS=False), "list")
    assert shown.exit_code == 1 and "KNITPERF_ALERTS" in shown.output


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("RULES", [{"name": "a"}], r"KNITPERF_ALERT_RULES\[0\]\['metric'\]"),
        ("RULES", "x", "must be a list of mappings"),
        ("RULES", [{"name": "a", "metric": "slow", "channels": ["pager"]}], "must be one of log"),
        ("CHANNELS", {"ops": {"kind": "pager"}}, r"\['ops'\]\['kind'\].*must be one of log"),
        ("CHANNELS", {"ops": {"kind": "mail"}}, r"\['host'\]"),
        ("CHANNELS", [], "must be a mapping of name to channel"),
    ],
)
def test_a_wrong_setting_is_refused_when_the_application_starts(
    make_app: Callable[..., Mill], setting: str, value: Any, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make_app(**{f"KNITPERF_ALERT_{setting}": value})
