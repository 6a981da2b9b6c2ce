"""A backtest agrees with the alerts that fired."""

from __future__ import annotations

import pytest

from flask_knitperf.alerts.backtest import backtest, can_test
from flask_knitperf.alerts.conditions import ShareAbove, ValueAbove
from flask_knitperf.alerts.rules import EVERY, Metric, Rule
from flask_knitperf.alerts.states import Timing
from flask_knitperf.core.units import MB
from flask_knitperf.history.databases import Database
from flask_knitperf.history.store import Store
from tests.history.harness import START, Host

from .harness import FINE_NS, SLOW_NS, Mill

TIMING = Timing(for_s=30, keep_firing_s=120, repeat_s=0)
SLOW = Rule("Slow", Metric.SLOW, ShareAbove(0.05), EVERY, timing=TIMING)
FINE, BAD = (FINE_NS,) * 10, (SLOW_NS,) * 10


@pytest.mark.slow
def test_a_rule_fires_where_it_fired(database: Database, host: Host) -> None:
    memory = Rule("Memory", Metric.MEMORY_MB, ValueAbove(500, 475), timing=TIMING)
    mill = Mill(database, host, [SLOW, memory])
    for number in range(4):
        mill.run.gauge(a=(600 if number % 2 else 100) * MB)
        mill.serve(600, *(BAD if number % 2 else FINE))
    fired = mill.alerts.events(0, host.now + 1)
    store = Store(database.connection())
    for rule in (SLOW, memory):
        result = backtest(store, rule, lambda _: 200.0, START, host.now)
        real = [one.at for one in fired if one.key.rule == rule.name and one.kind == "firing"]
        assert len(result) == len(real) == 2
        assert all(abs(one.begins - at) <= 120 for one, at in zip(result, real, strict=True))
        assert result[0].ends is not None and result[1].ends is None


@pytest.mark.slow
def test_a_rule_that_never_fired_does_not(database: Database, host: Host) -> None:
    mill = Mill(database, host, [SLOW])
    mill.serve(1200, *FINE)
    assert backtest(Store(database.connection()), SLOW, lambda _: 200.0, START, host.now) == []


@pytest.mark.slow
def test_a_rule_that_compares_with_the_day_before_reads_hours(
    database: Database, host: Host
) -> None:
    became = Rule("Became", Metric.SLOW, ShareAbove(0.05), EVERY, timing=TIMING, is_new=True)
    mill = Mill(database, host, [became])
    # each minute has what six slots have: a backtest reads minutes and hours
    mill.serve(7200, *FINE * 6, evaluate=False, every_s=60)
    mill.serve(600, *BAD * 6, evaluate=False, every_s=60)
    [fired] = backtest(Store(database.connection()), became, lambda _: 200.0, START, host.now)
    assert fired.subject == "GET lots" and fired.ends is None and fired.events >= 30


def test_silence_cannot_be_tested() -> None:
    assert can_test(SLOW)
    assert not can_test(Rule("No data", Metric.SILENCE_S, ValueAbove(120)))
