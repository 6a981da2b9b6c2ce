"""Windows of one run and of runs before it, and clocks that jump."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from flask_knitperf.metrics.catalogue import KILLED
from flask_knitperf.storage.atomic_files import Disk
from flask_knitperf.storage.state_dir import read, retire
from tests.conftest import FakeTime

from .applications import counts, without_thread


def test_windows_of_one_run_count_the_requests_within_them(
    make_app: Callable[..., Any], time: Any
) -> None:
    mill = without_thread(make_app(), time.clock())
    for _ in range(3):
        mill.get("/")
    mill.session.jobs.fold()
    time.pass_(600)
    mill.session.jobs.fold()
    time.pass_(200)
    for _ in range(2):
        mill.get("/")
    assert [counts(mill, name)["index"] for name in ("5m", "1h", "run")] == [2, 5, 5]


def test_a_window_states_its_bounds(make_app: Callable[..., Any], time: Any) -> None:
    mill = without_thread(make_app(), time.clock())
    mill.get("/")
    mill.session.jobs.fold()
    time.pass_(600)
    mill.session.jobs.fold()
    window = mill.report("5m")["window"]
    assert window["from"] < window["to"] == mill.report("5m")["generated_at"]


@pytest.mark.slow
def test_a_new_release_starts_a_new_run_and_the_old_one_is_previous(
    make_app: Callable[..., Any],
) -> None:
    old = make_app(KNITPERF_RELEASE="1.0")
    old.get("/")
    old.session.close()
    new = make_app(KNITPERF_RELEASE="1.1")
    new.get("/"), new.get("/")
    assert (counts(new, "previous"), counts(new)) == ({"index": 1}, {"index": 2})


def test_only_the_newest_runs_are_kept(make_app: Callable[..., Any], time: Any) -> None:
    for number in range(5):
        mill = without_thread(
            make_app(KNITPERF_RELEASE=f"1.{number}", KNITPERF_RUNS_KEPT=2), time.clock()
        )
        mill.get("/")
        mill.session.jobs.fold()
        mill.session.close()
        time.pass_(60)
    kept = {p.name.rsplit("-", 1)[0] for p in Path(mill.session.settings.state_dir).iterdir()
            if p.name.startswith("release-")}  # fmt: skip
    assert kept == {"release-1.3", "release-1.4"}


# -- clocks that jump -------------------------------------------------------------------------------


def test_a_wall_clock_set_back_changes_no_figure(make_app: Callable[..., Any], time: Any) -> None:
    mill = without_thread(make_app(), time.clock())
    mill.app.get("/it", endpoint="it")(lambda: time.pass_(0.1) or "x")
    for _ in range(5):
        mill.get("/it")
        mill.session.jobs.publish_heartbeat(), mill.session.jobs.fold()
        mill.session.profile.in_flight.tick(), mill.session.profile.record_load()
        mill.session.memory_jobs.collector.record_gauges()
        time.epoch -= 3600
    row = mill.row("it")
    assert (row["count"], row["min_ms"], row["max_ms"]) == (5, 100, 100)
    assert [counts(mill, name)["it"] for name in ("5m", "1h")] == [5, 5]


def test_a_trend_has_no_minutes_of_a_clock_that_was_ahead(
    make_app: Callable[..., Any], time: Any
) -> None:
    mill = without_thread(make_app(), time.clock())
    mill.get("/")
    record = mill.session.memory_jobs.collector.record_gauges
    for step in (60, 86_400, 60, -86_460, 60, 0):
        record()
        time.epoch += step
    minutes = [minute for minute, _ in mill.session.recorder.worker.identity["trend"]]
    assert minutes == sorted(set(minutes))
    assert minutes[-1] - minutes[0] == 120


def test_the_age_of_a_killed_request_is_that_of_a_clock_that_does_not_jump(
    make_app: Callable[..., Any], time: Any, tmp_path: Path
) -> None:
    mill = without_thread(make_app(), time.clock())
    run = tmp_path / "as left by a kill"

    @mill.app.get("/it")
    def it() -> str:
        time.pass_(5)
        mill.session.profile.in_flight.tick()
        time.epoch += 86_400
        time.pass_(25)
        mill.session.jobs.publish_heartbeat(), mill.session.jobs.fold()
        shutil.copytree(mill.session.recorder.worker.run, run)
        return "x"

    mill.get("/it")
    retire(run, Disk(), alive=lambda _: False)
    totals = read(run).totals
    assert totals.tally(totals.rows(KILLED.name)).total == 30e9


def test_a_monotonic_clock_that_goes_back_gives_no_negative_time(timed: Any, time: Any) -> None:
    timed.app.get("/it", endpoint="it")(lambda: time.pass_(-5) or "x")
    timed.get("/it")
    row = timed.row("it")
    assert (row["count"], row["min_ms"], row["time_spent_s"]) == (1, 0, 0)


def test_a_cpu_clock_ahead_of_the_wall_clock_is_capped(timed: Any, time: Any) -> None:
    timed.app.get("/it", endpoint="it")(lambda: time.pass_(1, cpu=3) or "x")
    timed.get("/it")
    assert (timed.row("it")["cpu_ms"], timed.row("it")["wait_ms"]) == (1000, 0)


def test_a_request_that_takes_a_week_is_counted(timed: Any, time: Any) -> None:
    timed.app.get("/it", endpoint="it")(lambda: time.pass_(604_800) or "x")
    timed.get("/it")
    assert timed.row("it")["max_ms"] == 604_800_000


# -- changes of a release --------------------------------------------------------------------------


@pytest.fixture
def serve(make_app: Callable[..., Any], time: FakeTime) -> Callable[[str], Any]:
    """Return a function that serves requests with one release, and writes the history of them."""

    def serve(release: str) -> Any:
        mill = without_thread(make_app(KNITPERF_RELEASE=release), time.clock())
        history = mill.session.history
        for _ in range(4):
            for _ in range(40):
                mill.get("/")
            time.pass_(30)
            history._write(0)
        mill.session.recorder.worker.publish()
        return mill

    return serve


def test_a_release_is_compared_with_the_one_before(serve: Callable[[str], Any]) -> None:
    serve("first").session.close()
    serve("second").session.close()
    changes = serve("first").session.documents.release_changes()
    assert changes is not None and changes["against"]["release"] == "second"
    [row] = changes["rows"]
    assert row["endpoint"] == "index" and row["count_before"] == row["count"] == 159
    assert changes["hours"] == "all"  # two minutes of one hour
    marks = changes["against"]["to"], changes["window"]["from"]
    assert marks[0] == marks[1]  # the first release serves again from then on


@pytest.mark.slow
def test_a_release_is_marked_again_only_where_another_one_served_meanwhile(
    serve: Callable[[str], Any], time: FakeTime
) -> None:
    for release in ("first", "first", "second", "first", "first"):
        mill = serve(release)
        mill.session.close()
    shown = serve("first").session.documents.charts("6h")
    assert [row["release"] for row in shown["deploys"]] == ["first", "second", "first"]


def test_a_release_whose_requests_are_gone_is_not_compared(serve: Callable[[str], Any]) -> None:
    serve("first").session.close()
    mill = serve("second")
    with closing(sqlite3.connect(mill.session.settings.history_url, isolation_level=None)) as rows:
        [[last]] = rows.execute("SELECT max(at) FROM knitperf_marks").fetchall()
        rows.execute("DELETE FROM knitperf_rows WHERE slot < ?", (last - 10,))
    assert mill.session.documents.release_changes() is None


def test_changes_are_read_again_after_a_minute_where_the_clock_is_set_back(
    serve: Callable[[str], Any], time: FakeTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    mill, read = serve("first"), list[float]()

    def releases(now: float) -> list[str]:
        read.append(now)
        return []

    monkeypatch.setattr(mill.session.history, "releases", releases)
    for seconds in (0, 30, 31):
        time.pass_(seconds)
        assert mill.session.documents.release_changes() is None
        time.epoch -= 3600
    assert len(read) == 2


def test_a_release_is_found_by_the_name_that_documents_have(serve: Callable[[str], Any]) -> None:
    serve("a\ud834\u202e\x00").session.close()
    documents = serve("second").session.documents
    name = documents.release_changes()["against"]["release"]
    assert name == r"a\ud834\u202e\x00"
    assert documents.compare("run", name)["rows"][0]["count_before"] == 159  # without a cold start


def test_charts_have_the_requests_of_their_window(
    serve: Callable[[str], Any], time: FakeTime
) -> None:
    mill = serve("first")
    for window in ("5m", "1h", "run", "6h", "24h", "7d", "30d"):
        load, shown = mill.report(window)["load"], mill.session.documents.charts(window)
        assert sum(point["count"] for point in shown["points"]) == load["count"] == 160
        assert sum(point["failed"] for point in shown["points"]) == load["failed"]
