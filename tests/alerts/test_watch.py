"""Evaluation over a history: each change once, whatever happens to its process."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from flask_knitperf.alerts.alert_store import DeliveryState
from flask_knitperf.alerts.channels import LogChannel, Receiver
from flask_knitperf.alerts.conditions import CountAbove, ShareAbove, ValueAbove
from flask_knitperf.alerts.evaluator import AlertKey
from flask_knitperf.alerts.quiet_hours import QuietHours
from flask_knitperf.alerts.report import alerts_report
from flask_knitperf.alerts.rules import EVERY, Metric, Rule, RuleSource
from flask_knitperf.alerts.states import Phase, Timing
from flask_knitperf.alerts.watch import BURST_S, EXPIRE_S, MAX_IN_BURST, Application
from flask_knitperf.core.errors import HistoryError
from flask_knitperf.core.units import MB
from flask_knitperf.history.databases import Database
from flask_knitperf.history.resolutions import DAY, HOUR
from flask_knitperf.history.store import Mark, Store
from flask_knitperf.metrics.catalogue import CACHE_EVENT, CACHE_HIT, KILLED, LEAK, QUEUE, REQUEST
from tests.history.harness import Host, Run
from tests.history.test_writer import KilledError, kill_at

from .harness import FINE_NS, SLOT_S, SLOW_NS, Mill

TIMING = Timing(for_s=30, keep_firing_s=120, repeat_s=3600)
SLOW = Rule("Slow", Metric.SLOW, ShareAbove(0.05), EVERY, timing=TIMING)
LOTS = AlertKey("Slow", "GET lots")
FINE, BAD = (FINE_NS,) * 10, (FINE_NS,) * 5 + (SLOW_NS,) * 5


@pytest.fixture
def mill(database: Database, host: Host) -> Mill:
    """A mill with one rule, that has served for ten minutes."""
    mill = Mill(database, host, [SLOW])
    mill.serve(600, *FINE)
    return mill


@pytest.mark.slow
def test_a_slow_endpoint_fires_and_is_resolved_with_one_message_each(mill: Mill) -> None:
    assert mill.events() == []
    mill.serve(180, *BAD)
    assert mill.events() == [("firing", LOTS)]
    mill.serve(600, *FINE)
    assert mill.kinds() == ["firing", "resolved"]
    first, second = mill.bodies()
    assert first["text"].endswith(
        "took longer than its threshold within 5 minutes, the limit is 5 %"
    )
    assert first["key"] != second["key"] and first["since"] == second["since"]
    assert mill.alerts.states() == {}


@pytest.mark.slow
def test_a_message_has_the_finding_the_release_and_a_link(database: Database, host: Host) -> None:
    mill = Mill(database, host, [SLOW])
    mill.application = Application(
        "mill", "https://erp.example/perf", lambda _: 200.0, lambda subject: f"finding of {subject}"
    )
    mill.watch = mill.evaluator()
    mill.serve(600, *FINE)
    store = Store(database.connection())
    store.add_mark(store.source("host"), Mark(host.now, "deploy", {"release": "2.14.0"}))
    mill.serve(300, *BAD)
    [body] = mill.bodies()
    assert body["finding"] == "finding of GET lots" and body["release"] == "2.14.0"
    assert body["link"] == "https://erp.example/perf/alerts"
    assert body["began"] in ("1 minute after release 2.14.0", "2 minutes after release 2.14.0")


def test_each_channel_of_a_rule_receives_a_message(mill: Mill) -> None:
    mill.receivers[:] = [Receiver(name, LogChannel(), None) for name in ("log", "ops", "mail")]
    mill.rules[:] = [SLOW, SLOW.__class__("Other", Metric.SLOW, ShareAbove(0.05), timing=TIMING,
                                          channels=("ops", "unknown"))]  # fmt: skip
    mill.watch = mill.evaluator()
    mill.serve(300, *BAD)
    sent = [(one.body["rule"], one.channel) for one in mill.messages()]
    assert sorted(sent) == [("Other", "ops"), ("Slow", "log"), ("Slow", "mail"), ("Slow", "ops")]
    assert len({one.key for one in mill.messages()}) == 4


@pytest.mark.slow
def test_another_process_goes_on_where_one_ended(mill: Mill) -> None:
    mill.serve(180, *BAD)
    mill.watch.close(mill.database.connection())
    mill.watch = mill.evaluator("second")
    mill.serve(180, *BAD)
    mill.serve(600, *FINE)
    assert mill.kinds() == ["firing", "resolved"] and mill.watch.leads


def test_only_the_holder_of_the_lease_evaluates(
    mill: Mill, another: Callable[[], Database]
) -> None:
    second, database = mill.evaluator("second"), another()
    for _ in range(30):
        mill.serve(SLOT_S, *BAD)
        assert not second.tick(database.connection(), mill.host.now) or mill.watch.leads
        assert not second.leads
    assert mill.kinds() == ["firing"]


def test_one_that_was_suspended_writes_nothing_beside_its_successor(
    mill: Mill, another: Callable[[], Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    second, database = mill.evaluator("second"), another()
    mill.serve(120, *BAD, evaluate=False)
    publish = mill.watch._publish

    def take_over(*args: object) -> None:
        raise AssertionError("the suspended one wrote")

    def suspended(*args: object) -> dict[str, object]:
        database.connection().execute(
            "UPDATE knitperf_leases SET expires = 1 WHERE name = 'alerts'"
        )
        second.tick(database.connection(), mill.host.now)
        return {}

    mill.serve(SLOT_S, *BAD)
    mill.serve(SLOT_S, *BAD)
    monkeypatch.setattr(mill.watch, "_context", suspended)
    monkeypatch.setattr(mill.watch, "_publish", take_over)
    mill.serve(SLOT_S, *BAD)
    if not second.leads:  # nothing had changed in that slot
        mill.serve(30, *BAD)
    monkeypatch.setattr(mill.watch, "_publish", publish)
    assert second.leads and not mill.watch.leads
    mill.watch = second
    mill.serve(60, *BAD)
    assert mill.kinds() == ["firing"] and len(mill.messages()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_an_evaluator_that_is_killed_at_any_statement_loses_and_doubles_nothing(
    database: Database, host: Host, another: Callable[[], Database], seed: int
) -> None:
    generator = random.Random(seed)
    mill = Mill(database, host, [SLOW])
    mill.serve(600, *FINE)
    for slot in range(80):
        mill.serve(SLOT_S, *(BAD if slot < 30 else FINE), evaluate=False)
        killed = another()
        connection = killed.connection()
        kill_at(connection, generator.randrange(25))
        with contextlib.suppress(KilledError):
            mill.evaluator(f"killed {slot}").tick(connection, host.now)
        killed.close()
        database.connection().execute("UPDATE knitperf_leases SET expires = 0")
        mill.evaluator(f"live {slot}").tick(database.connection(), host.now)
        database.connection().execute("UPDATE knitperf_leases SET expires = 0")
    assert mill.kinds() == ["firing", "resolved"]
    assert [one["event"] for one in mill.bodies()] == ["firing", "resolved"]


def test_what_fails_to_be_stored_is_evaluated_again(
    mill: Mill, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = mill.database.connection()
    change_many = connection.change_many

    def refuse(*_: object) -> int:
        raise HistoryError("the disk is full")

    mill.serve(60, *BAD)
    failed = 0
    for _ in range(10):
        mill.serve(SLOT_S, *BAD, evaluate=False)
        with monkeypatch.context() as patched:
            patched.setattr(connection, "change_many", refuse)
            try:
                mill.watch.tick(connection, mill.host.now)
            except HistoryError:
                failed += 1
    assert failed and mill.kinds() == []
    assert change_many
    mill.serve(60, *BAD)
    assert mill.kinds() == ["firing"] and len(mill.messages()) == 1


@pytest.mark.slow
def test_a_clock_that_is_set_back_loses_no_alert(mill: Mill) -> None:
    mill.serve(300, *BAD)
    mill.host.now -= HOUR
    mill.serve(600, *BAD)
    assert mill.kinds() == ["firing"]
    mill.serve(1200, *FINE)
    assert sorted(mill.kinds()) == ["firing", "resolved"]  # the end lies before the start


@pytest.mark.slow
def test_after_a_gap_all_windows_are_read_anew(mill: Mill) -> None:
    mill.serve(180, *BAD)
    mill.serve(1200, *FINE, evaluate=False)
    mill.serve(180, *FINE)
    assert mill.kinds() == ["firing", "resolved"]


@pytest.mark.slow
def test_a_night_without_requests_resolves_nothing(mill: Mill) -> None:
    mill.serve(180, *BAD)
    mill.serve(7200)
    assert mill.kinds() == ["firing"]
    [state] = mill.alerts.states().values()
    assert state.phase is Phase.FIRING and not state.has_data


def test_an_alert_whose_endpoint_is_gone_expires(mill: Mill) -> None:
    mill.serve(180, *BAD)
    mill.host.now += EXPIRE_S
    mill.serve(30)
    assert mill.kinds() == ["firing", "expired"] and mill.alerts.states() == {}
    assert len(mill.messages()) == 1


@pytest.mark.slow
def test_a_silenced_alert_is_recorded_and_sends_its_message_afterwards(mill: Mill) -> None:
    until = mill.host.now + 300
    mill.alerts.silence(AlertKey("Slow", ""), until, "deploying", mill.host.now)
    mill.serve(280, *BAD)
    assert mill.kinds() == ["silenced", "firing"] and mill.messages() == []
    mill.serve(120, *BAD)
    [body] = mill.bodies()
    assert body["event"] == "repeat" and mill.kinds() == ["silenced", "firing"]
    mill.serve(600, *FINE)
    assert [one["event"] for one in mill.bodies()] == ["repeat", "resolved"]


@pytest.mark.slow
def test_an_alert_that_fires_and_ends_within_a_silence_sends_nothing(mill: Mill) -> None:
    mill.alerts.silence(AlertKey("", "GET lots"), mill.host.now + 5000, "", mill.host.now)
    mill.serve(180, *BAD)
    mill.serve(600, *FINE)
    assert mill.kinds() == ["silenced", "firing", "resolved"] and mill.messages() == []


def test_a_silence_of_another_alert_changes_nothing(mill: Mill) -> None:
    mill.alerts.silence(AlertKey("Slow", "GET other"), mill.host.now + 5000, "", mill.host.now)
    mill.serve(180, *BAD)
    assert len(mill.messages()) == 1
    [silence] = mill.alerts.silences(mill.host.now)
    assert mill.alerts.end_silence(silence.number, mill.host.now)
    assert not mill.alerts.end_silence(silence.number, mill.host.now)
    assert mill.kinds()[-1] == "unsilenced"


@pytest.mark.slow
def test_in_quiet_hours_messages_wait(database: Database, host: Host) -> None:
    always = QuietHours(0, 24 * 60 - 1)
    mill = Mill(database, host, [SLOW], [Receiver("mail", LogChannel(), always)])
    mill.serve(600, *FINE)
    mill.serve(180, *BAD)
    [message] = mill.messages()
    assert message.due > message.created and message.state is DeliveryState.QUEUED
    assert mill.alerts.next_due() == message.due and mill.alerts.due(mill.host.now, 10) == []


def test_a_rule_that_changes_keeps_the_alerts_of_others(mill: Mill) -> None:
    mill.serve(180, *BAD)
    mill.rules.append(Rule("Killed", Metric.KILLED, CountAbove(0), timing=Timing(for_s=0)))
    mill.run._add(KILLED, ("lots", "GET"), (5e9,))
    mill.serve(30, *BAD)
    assert mill.events() == [("firing", LOTS), ("firing", AlertKey("Killed", ""))]
    mill.rules.clear()
    mill.serve(30, *BAD)
    assert mill.alerts.states().keys() == {LOTS, AlertKey("Killed", "")}


def test_an_endpoint_that_was_always_slow_does_not_fire_as_new(
    database: Database, host: Host
) -> None:
    became = Rule("Became", Metric.SLOW, ShareAbove(0.05), EVERY, timing=TIMING, is_new=True)
    mill = Mill(database, host, [became])
    for _ in range(3):
        mill.host.now += HOUR
        mill.serve(20, *((FINE_NS,) * 100), evaluate=False)
    mill.run.observe(*[SLOW_NS] * 50, endpoint="reports")
    mill.host.now += HOUR
    mill.serve(10, evaluate=False)
    for _ in range(30):
        mill.run.observe(*BAD, endpoint="reports")
        mill.serve(SLOT_S, *BAD)
    assert mill.events() == [("firing", AlertKey("Became", "GET lots"))]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("metric", "meter", "labels", "value"),
    [
        (Metric.SLOW, REQUEST, ("a", "GET", "2xx", "warm"), SLOW_NS),
        (Metric.FAILED, REQUEST, ("a", "GET", "500", "warm"), FINE_NS),
        (Metric.FAILED, REQUEST, ("a", "GET", "5xx", "warm"), FINE_NS),
        (Metric.FAILED, REQUEST, ("a", "POST", "503", "first"), FINE_NS),
        (Metric.QUEUED, QUEUE, (), SLOW_NS),
        (Metric.CACHE_MISSES, CACHE_EVENT, ("prices", "cold"), 1.0),
    ],
)
def test_a_share_rule_observes_its_metric(
    database: Database, host: Host, metric: Metric, meter: object, labels: tuple[str, ...],
    value: float,
) -> None:  # fmt: skip
    rule = Rule("R", metric, ShareAbove(0.05), limit_ms=50.0, timing=TIMING)
    mill = Mill(database, host, [rule])
    for number in range(60):
        if number > 30:
            mill.run._add(meter, labels, (value,) * 4)  # type: ignore[arg-type]
        for fine in ((REQUEST, ("b", "GET", "2xx", "warm")), (QUEUE, ()), (CACHE_HIT, ("prices",))):
            mill.run._add(*fine, (FINE_NS,) * 4)
        mill.serve(SLOT_S)
        assert mill.kinds() == [] or number > 31
    assert mill.events() == [("firing", AlertKey("R", ""))]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("metric", "meter", "labels"),
    [
        (Metric.SLOW, REQUEST, ("a", "GET", "2xx", "first")),  # a cold start
        (Metric.FAILED, REQUEST, ("a", "GET", "404", "warm")),
        (Metric.CACHE_MISSES, CACHE_EVENT, ("prices", "bypassed")),
    ],
)
def test_what_a_share_rule_does_not_count(
    database: Database, host: Host, metric: Metric, meter: object, labels: tuple[str, ...]
) -> None:
    mill = Mill(database, host, [Rule("R", metric, ShareAbove(0.05), limit_ms=50.0, timing=TIMING)])
    for _ in range(60):
        mill.run._add(meter, labels, (SLOW_NS,) * 9)  # type: ignore[arg-type]
        mill.serve(SLOT_S)
    assert mill.kinds() == []


@pytest.mark.slow
def test_memory_of_the_largest_worker_fires(database: Database, host: Host) -> None:
    rule = Rule("Memory", Metric.MEMORY_MB, ValueAbove(500, 475), timing=TIMING)
    mill = Mill(database, host, [rule])
    for resident, seconds in ((400, 120), (600, 120), (480, 300), (470, 300)):
        mill.run.gauge(a=100.0 * MB, b=resident * MB)
        mill.serve(seconds, FINE_NS)
        if resident == 480:
            assert mill.kinds() == ["firing"]
    assert mill.kinds() == ["firing", "resolved"]
    assert mill.bodies()[0]["text"] == "a worker takes 600 MB"


def test_a_suspected_leak_fires_for_its_endpoint(database: Database, host: Host) -> None:
    rule = Rule("Leak", Metric.LEAKS, ValueAbove(0), timing=TIMING)
    mill = Mill(database, host, [rule])
    mill.serve(60, FINE_NS)
    mill.run._series(LEAK, ("lots", "GET", "grown_bytes")).gauge = {"a": 5.0 * MB}
    mill.run._series(LEAK, ("lots", "GET", "pairs")).gauge = {"a": 50.0}
    mill.serve(120, FINE_NS)
    assert mill.events() == [("firing", AlertKey("Leak", "GET lots"))]
    assert mill.bodies()[0]["text"] == "its requests have retained 5.0 MB"


@pytest.mark.slow
def test_a_leak_of_workers_that_were_replaced_is_resolved(database: Database, host: Host) -> None:
    rule = Rule("Leak", Metric.LEAKS, ValueAbove(0), timing=TIMING)
    mill = Mill(database, host, [rule])
    mill.run.gauge(a=100.0 * MB)
    leak = mill.run._series(LEAK, ("lots", "GET", "grown_bytes"))
    leak.gauge = {"a": 5.0 * MB}
    mill.serve(120, FINE_NS)
    leak.gauge = {}
    mill.serve(400, FINE_NS)
    assert mill.kinds() == ["firing", "resolved"]


def test_a_host_that_was_killed_is_silent_and_one_that_ended_is_not(
    database: Database, host: Host, tmp_path: Path, another: Callable[[], Database]
) -> None:
    rule = Rule("No data", Metric.SILENCE_S, ValueAbove(120), timing=TIMING)
    mill = Mill(database, host, [rule])
    writers = [host.writer("k", another(), "killed"), host.writer("e", another(), "ended")]
    for writer in writers:
        writer._state = tmp_path / "none"
        writer.tick()
    writers[1].close()
    mill.serve(120, FINE_NS)
    assert mill.kinds() == []
    mill.serve(180, FINE_NS)
    assert mill.events() == [("firing", AlertKey("No data", "killed"))]


def test_old_events_and_messages_are_deleted(mill: Mill) -> None:
    mill.serve(180, *BAD)
    [message] = mill.messages()
    mill.alerts.tried(message, DeliveryState.SENT, "", 0, mill.host.now)
    mill.alerts.trim(mill.host.now + 31 * DAY)
    assert mill.messages() == [] and mill.kinds() == ["firing"]
    mill.alerts.trim(mill.host.now + 401 * DAY)
    assert mill.kinds() == []


@pytest.mark.slow
def test_of_many_endpoints_that_become_slow_at_once_a_few_send_messages(
    database: Database, host: Host
) -> None:
    mill = Mill(database, host, [SLOW])
    for seconds, durations in ((600, FINE), (180, BAD), (600, FINE)):
        for _ in range(seconds // 10):
            for number in range(20):
                mill.run.observe(*durations, endpoint=f"e{number}")
            mill.serve(SLOT_S)
    assert mill.kinds().count("firing") == mill.kinds().count("resolved") == 20
    events = [body["event"] for body in mill.bodies()]
    assert events == ["firing"] * MAX_IN_BURST + ["resolved"] * MAX_IN_BURST
    fired, resolved = ({one["subject"] for one in mill.bodies() if one["event"] == event}
                       for event in ("firing", "resolved"))  # fmt: skip
    assert fired == resolved


@pytest.mark.slow
def test_memory_of_a_host_that_writes_after_the_evaluation_fires(
    database: Database, host: Host, tmp_path: Path, another: Callable[[], Database]
) -> None:
    rule = Rule("Memory", Metric.MEMORY_MB, ValueAbove(500, 475), timing=TIMING)
    mill = Mill(database, host, [rule])
    other = Host(another(), tmp_path / "other", Run(tmp_path / "other"))
    writer = other.writer("other", source="other")
    for resident in (600, 100):
        for _ in range(30):
            mill.run.gauge(a=100.0 * MB)
            other.run.gauge(b=resident * MB)
            mill.serve(SLOT_S)
            other.now = host.now
            writer.tick()
        assert mill.kinds() == (["firing"] if resident == 600 else ["firing", "resolved"])


@pytest.mark.slow
def test_the_first_evaluation_of_several_hosts_counts_what_later_ones_count(
    database: Database, host: Host, tmp_path: Path, another: Callable[[], Database]
) -> None:
    mill = Mill(database, host, [SLOW])
    other = Host(another(), tmp_path / "other", Run(tmp_path / "other"))
    writer = other.writer("other", source="other")
    steady = mill.watch
    fresh = mill.evaluator("first")
    for slot in range(60):
        mill.watch = steady
        mill.serve(SLOT_S, *(BAD if slot > 30 else FINE))
        other.now = host.now
        writer.tick()
        if slot in range(45, 60):
            fresh.tick(database.connection(), host.now)
            [one, two] = (watch._evaluator.states[LOTS] for watch in (steady, fresh))
            assert (one.observed, one.events) == (two.observed, two.events)


@pytest.mark.slow
def test_slow_requests_of_one_moment_do_not_fire_because_of_a_start(mill: Mill) -> None:
    mill.serve(300, FINE_NS)
    mill.serve(SLOT_S, *(SLOW_NS,) * 12)
    mill.serve(90, FINE_NS)
    mill.watch.close(mill.database.connection())
    mill.watch = mill.evaluator("second")
    mill.serve(120, FINE_NS)
    assert mill.kinds() == []


def many(mill: Mill, seconds: float, *durations: float, names: Iterable[str]) -> None:
    """Serve requests to many endpoints."""
    for _ in range(round(seconds / SLOT_S)):
        for name in names:
            mill.run.observe(*durations, endpoint=name)
        mill.serve(SLOT_S)


@pytest.mark.slow
def test_of_many_alerts_at_the_end_of_a_silence_a_few_send_messages(
    database: Database, host: Host
) -> None:
    mill = Mill(database, host, [replace(SLOW, timing=Timing(30, 120, 900))])
    names = [f"e{number:02}" for number in range(12)]
    mill.alerts.silence(AlertKey("", ""), host.now + 600, "deploying", host.now)
    many(mill, 900, *BAD, names=names)
    assert mill.kinds().count("firing") == 12
    assert [body["event"] for body in mill.bodies()] == ["repeat"] * MAX_IN_BURST
    many(mill, 1800, *BAD, names=names)  # those that sent none are first
    assert len({body["subject"] for body in mill.bodies()}) == 12
    times = [moment.created for moment in mill.messages()]
    assert all(sum(at <= one < at + BURST_S for one in times) <= MAX_IN_BURST for at in times)


@pytest.mark.slow
def test_an_endless_flow_of_alerts_sends_a_few_messages_and_not_none(
    database: Database, host: Host
) -> None:
    rule = replace(SLOW, condition=ShareAbove(0.05, 60), timing=Timing(0, 30, 0))
    mill = Mill(database, host, [rule])
    for number in range(30):
        many(mill, 60, *BAD, names=[f"e{number:02}"])
    assert mill.kinds().count("firing") == 30
    sent = [one.created for one in mill.messages() if one.body["event"] == "firing"]
    assert len(sent) == 3 * MAX_IN_BURST


def test_silent_alerts_leave_the_messages_of_others_alone(database: Database, host: Host) -> None:
    mill = Mill(database, host, [SLOW])
    names = [f"e{number}" for number in range(MAX_IN_BURST)]
    for name in names:
        mill.alerts.silence(AlertKey("", f"GET {name}"), host.now + 5000, "", host.now)
    many(mill, 120, *BAD, names=names)
    assert mill.messages() == []
    many(mill, 120, *BAD, names=["other"])
    assert [body["subject"] for body in mill.bodies()] == ["GET other"]


def test_only_an_alert_that_sends_a_message_is_looked_up_in_the_report(mill: Mill) -> None:
    looked_up: list[str] = []
    mill.application = mill.application._replace(finding=looked_up.append)  # type: ignore[arg-type]
    mill.watch.close(mill.database.connection())
    mill.watch = mill.evaluator()
    mill.alerts.silence(AlertKey("Slow", ""), mill.host.now + 300, "", mill.host.now)
    mill.serve(280, *BAD)
    assert mill.kinds() == ["silenced", "firing"] and looked_up == []
    mill.serve(60, *BAD)
    assert looked_up == ["GET lots"]


def test_a_silence_covers_an_endpoint_under_the_name_that_a_page_shows(
    database: Database, host: Host
) -> None:
    mill = Mill(database, host, [SLOW])
    many(mill, 120, *BAD, names=["lots\u202e\ud800\n of <b>"])
    [body] = mill.bodies()
    mill.alerts.silence(AlertKey("Slow", body["subject"]), host.now + 5000, "", host.now)
    [silence], [key] = mill.alerts.silences(host.now), mill.alerts.states()
    assert silence.covers(key, host.now) and not silence.covers(LOTS, host.now)


@pytest.mark.slow
def test_an_alert_goes_on_where_its_rule_is_back_and_is_dropped_where_it_stays_away(
    mill: Mill,
) -> None:
    mill.serve(180, *BAD)
    other = Rule("Other", Metric.SLOW, ShareAbove(0.5), timing=TIMING)
    mill.rules[:] = [other]
    mill.serve(30, *BAD)
    mill.rules[:] = [SLOW, other]
    mill.serve(120, *BAD)
    assert mill.kinds() == ["firing"] and len(mill.messages()) == 1
    mill.rules[:] = [other]
    mill.serve(30, *BAD)
    mill.host.now += EXPIRE_S
    mill.serve(900, *FINE)
    assert mill.events() == [("firing", LOTS), ("expired", LOTS)] and mill.alerts.states() == {}


def test_an_alert_whose_clock_was_ahead_expires_a_week_after_it_was_set_back(mill: Mill) -> None:
    mill.host.now += 400 * DAY
    mill.serve(300, *BAD)
    mill.host.now -= 400 * DAY
    mill.serve(600)
    mill.host.now += EXPIRE_S
    mill.serve(60)
    assert mill.kinds().count("expired") == 1 and mill.alerts.states() == {}


@pytest.mark.slow
def test_a_host_that_was_killed_stays_silent_after_another_has_finished_its_slots(
    database: Database, host: Host, tmp_path: Path, another: Callable[[], Database]
) -> None:
    rule = Rule("No data", Metric.SILENCE_S, ValueAbove(1200), timing=TIMING)
    mill = Mill(database, host, [rule])
    for name in ("killed", "ended"):
        other = Host(another(), tmp_path / name, Run(tmp_path / name))
        writer = other.writer(name, source=name)
        for _ in range(3):
            other.run.observe(FINE_NS)
            other.now += SLOT_S
            writer.tick()
        if name == "ended":
            writer.close()
    database.connection().execute("UPDATE knitperf_leases SET expires = 2 WHERE expires > 0")
    mill.serve(1400, FINE_NS)
    assert mill.events() == [("firing", AlertKey("No data", "killed"))]
    assert "no data" not in [body["text"] for body in mill.bodies()]


def strips(mill: Mill) -> list[tuple[float, float | None]]:
    """Return begins and ends of alerts on the page, in seconds before the present."""
    now = mill.host.now
    rules = {rule.name: (rule, RuleSource.DEFAULT) for rule in mill.rules}
    report = alerts_report(mill.alerts, rules, ["log"], now - DAY, now)
    [row] = report["rules"]
    assert row["fired"] == len(row["stretches"])
    return [
        tuple(
            None if at is None else now - datetime.fromisoformat(at).timestamp()
            for at in (one["begins"], one["ends"])
        )
        for one in row["stretches"]
    ]  # type: ignore[misc]


@pytest.mark.slow
def test_an_alert_that_began_long_before_the_window_has_a_strip(mill: Mill) -> None:
    mill.serve(180, *BAD)
    fired = mill.host.now - next(iter(mill.alerts.states().values())).fired_at
    for _ in range(8):
        mill.host.now += 5 * DAY
        fired += 5 * DAY + 400
        mill.serve(400, *BAD)
    [(begins, ends)] = strips(mill)
    assert begins == pytest.approx(fired, abs=1) and ends is None
    mill.serve(1200, *FINE)
    [(begins, ends)] = strips(mill)
    assert begins == pytest.approx(fired + 1200, abs=1) and ends is not None and ends < 1200


@pytest.mark.slow
def test_an_alert_that_was_resolved_while_the_clock_was_set_back_does_not_fire_on_the_page(
    mill: Mill,
) -> None:
    mill.serve(300, *BAD)
    mill.host.now -= HOUR
    mill.serve(1200, *FINE)
    mill.host.now += HOUR
    mill.serve(60, *FINE)
    assert [begins == ends for begins, ends in strips(mill)] == [True]


def test_alerts_that_a_changed_rule_is_not_about_any_more_end(mill: Mill) -> None:
    mill.serve(180, *BAD)
    mill.rules[:] = [Rule("Slow", Metric.SLOW, ShareAbove(0.05), timing=TIMING)]
    mill.serve(180, *BAD)
    assert mill.events() == [
        ("firing", LOTS), ("expired", LOTS), ("firing", AlertKey("Slow", "")),
    ]  # fmt: skip
    mill.rules[:] = [Rule("Slow", Metric.SLOW, ShareAbove(0.05), "lots", timing=TIMING)]
    mill.serve(60, *BAD)
    assert mill.alerts.states().keys() == {LOTS}


def test_one_that_cannot_evaluate_lets_another_process_try(
    mill: Mill, another: Callable[[], Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("cannot")

    mill.serve(180, *BAD, evaluate=False)
    monkeypatch.setattr(mill.watch, "_evaluate", fail)
    with pytest.raises(ValueError, match="cannot"):
        mill.watch.tick(mill.database.connection(), mill.host.now)
    second = mill.evaluator("second")
    second.tick(another().connection(), mill.host.now)
    assert second.leads and not mill.watch.leads
