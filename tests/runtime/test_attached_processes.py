"""Processes that serve no request: they record in the run of a live server, and never start a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flask_knitperf.core.errors import StateError
from flask_knitperf.reports.offline import Offline
from flask_knitperf.storage import runs

from .applications import counts, in_child, needs_fork, our_threads, run_of, without_thread

MakeApp = Callable[..., Any]


@pytest.fixture
def processes(make_app: MakeApp) -> Callable[..., Any]:
    """Return a maker of processes of one application, whose housekeeping is done by the test."""
    return lambda release="1": without_thread(make_app(KNITPERF_RELEASE=release))


def explode(mill: Any, times: int = 1) -> None:
    """Call a profiled function outside of requests."""
    called = mill.perf.profile(lambda: None)
    for _ in range(times):
        called()


def calls(mill: Any, window: str = "run") -> int:
    """Return the number of calls of profiled functions in a window, as a worker reports it."""
    return sum(row["count"] for row in mill.report(window)["functions"])


def state_of(mill: Any) -> Path:
    return Path(mill.session.settings.state_dir)


# -- without a server ------------------------------------------------------------------------------


def test_without_a_server_no_run_is_kept(mill: Any) -> None:
    explode(mill)
    assert calls(mill) == 1
    mill.session.close()
    assert runs.runs(state_of(mill)) == []
    with pytest.raises(StateError, match="no measurements"):
        Offline(state_of(mill))


def test_a_report_outside_of_requests_starts_no_run(mill: Any) -> None:
    assert mill.perf.report("run")["endpoints"] == []
    assert runs.runs(state_of(mill)) == []


def test_it_runs_a_housekeeper_but_no_sampler(mill: Any) -> None:
    explode(mill)
    assert our_threads() == ["flask_knitperf"]


def test_a_run_that_has_ended_is_not_joined(processes: Any) -> None:
    server, command = processes(), processes()
    server.get("/")
    server.session.close()
    explode(command)
    assert run_of(command) is None


# -- with a server ---------------------------------------------------------------------------------


def test_it_records_in_the_newest_run_with_a_live_server(processes: Any) -> None:
    old, server, command = processes("1"), processes("2"), processes("3")
    old.get("/"), server.get("/")
    explode(command, 3)
    assert run_of(command) == run_of(server)
    assert (calls(server), calls(command), counts(server)) == (3, 3, {"index": 1})
    assert runs.runs(state_of(server)) == [run_of(old), run_of(server)]


def test_many_commands_leave_the_current_and_the_previous_run_as_they_are(processes: Any) -> None:
    old, server = processes("1"), processes("2")
    old.get("/"), old.session.jobs.fold(), old.session.close()
    server.get("/"), server.get("/")
    for number in range(8):
        command = processes(f"command {number}")
        explode(command)
        command.session.jobs.fold()
        command.session.close()
        server.session.jobs.publish_heartbeat()
        assert counts(server) == {"index": 2}
        assert counts(server, "previous") == {"index": 1}
    assert calls(server) == 8
    offline = Offline(state_of(server)).report("run")
    assert {row["endpoint"]: row["count"] for row in offline["endpoints"]} == {"index": 2}


def test_a_job_that_makes_requests_itself_is_no_server(processes: Any) -> None:
    server = processes("1")
    server.get("/")
    for number in range(8):  # such as a command that warms caches, or writes a static site
        command = processes(f"command {number}")
        with command.perf.job("warm"):
            for path in ("/", "/perf/"):
                command.app.test_client().get(path)
        assert run_of(command) == run_of(server)
        command.session.close()
    assert runs.runs(state_of(server)) == [run_of(server)]
    assert counts(server) == {"index": 9}


def test_a_process_is_a_server_from_its_first_request_after_such_a_job(processes: Any) -> None:
    old, server = processes("1"), processes("2")
    old.get("/")
    with server.perf.job("warm"):
        server.app.test_client().get("/")
    server.get("/")
    assert (run_of(server) != run_of(old), counts(server)) == (True, {"index": 1})


def test_a_command_that_is_the_server_itself_starts_a_run(processes: Any) -> None:
    server = processes()
    with server.perf.job("serve"):  # as of a command that calls a server of one thread
        server.get("/", SERVER_SOFTWARE="WSGIServer/0.2")
    assert runs.runs(state_of(server)) == [run_of(server)]


def test_it_is_not_a_worker_and_takes_no_commands(processes: Any) -> None:
    server, command = processes(), processes()
    server.get("/")
    explode(command)
    assert [row["alive"] for row in server.report()["workers"]] == [True]
    (alive,) = Offline(state_of(server)).alive()
    assert alive == server.session.recorder.worker.name


def test_a_run_in_which_only_it_is_left_has_no_server(processes: Any) -> None:
    server, command, later = processes(), processes(), processes()
    server.get("/")
    explode(command)
    server.session.close()
    explode(later)
    assert (run_of(command) is None, run_of(later)) == (False, None)


def test_it_takes_no_snapshots_and_removes_no_runs(make_app: MakeApp) -> None:
    servers = [make_app(KNITPERF_RELEASE=f"{number}") for number in range(3)]
    for server in servers:
        without_thread(server).get("/")
    for server in servers[:2]:
        server.session.close()
    command = without_thread(make_app(KNITPERF_RUNS_KEPT=1))
    explode(command)
    command.session.jobs.fold()
    assert len(runs.runs(state_of(command))) == 3
    assert not (run_of(command) / "points").exists()


def test_servers_that_overlap_are_named_and_commands_are_not(processes: Any) -> None:
    one, two, command = processes("1"), processes("2"), processes()
    one.get("/")
    explode(command)
    assert one.degraded() == ""
    two.get("/")
    assert f"other servers of this application are running, in {run_of(two).name}" in one.degraded()
    two.session.close()
    assert one.degraded() == ""


# -- servers that come and go ----------------------------------------------------------------------


def test_what_it_recorded_before_there_was_a_server_counts_in_the_first_run(processes: Any) -> None:
    command, server = processes(), processes()
    explode(command, 4)
    command.session.jobs.follow_server()
    server.get("/")
    command.session.jobs.follow_server()
    explode(command)
    assert (run_of(command), calls(server)) == (run_of(server), 5)
    command.session.jobs.follow_server()
    command.session.close()
    assert calls(server) == 5


def test_it_follows_the_server_to_the_next_run(processes: Any) -> None:
    old, new, command = processes("1"), processes("2"), processes()
    old.get("/")
    explode(command, 2)
    command.session.jobs.follow_server()
    assert run_of(command) == run_of(old)
    new.get("/")
    command.session.jobs.follow_server()
    assert run_of(command) == run_of(old)  # its server still runs
    old.session.close()
    command.session.jobs.follow_server()
    explode(command, 3)
    assert (run_of(command), calls(new), calls(new, "previous")) == (run_of(new), 3, 2)


def test_without_a_next_server_it_stays_in_its_run(processes: Any) -> None:
    server, command = processes(), processes()
    server.get("/")
    explode(command)
    server.session.close()
    command.session.jobs.follow_server()
    explode(command)
    assert calls(command) == 2


def test_a_worker_is_not_moved_by_a_run_that_was_chosen_before_it_served(processes: Any) -> None:
    server, mill = processes("1"), processes("2")
    explode(mill)
    server.get("/")
    worker = mill.session.recorder.worker
    earlier = run_of(server), dict(worker.identity)
    mill.get("/")
    mill.session.recorder.join(worker, *earlier)
    assert run_of(mill) != run_of(server)


# -- processes that serve later --------------------------------------------------------------------


def test_what_a_server_recorded_before_its_first_request_counts_in_its_run(mill: Any) -> None:
    explode(mill, 2)
    mill.get("/")
    explode(mill)
    assert (calls(mill), counts(mill), len(mill.report()["workers"])) == (3, {"index": 1}, 1)
    assert len(runs.runs(state_of(mill))) == 1
    assert {"flask_knitperf"} <= set(our_threads())
    mill.session.close()
    assert Offline(state_of(mill)).report("run")["functions"][0]["count"] == 3


def test_a_server_that_was_attached_to_another_one_starts_its_own_run(processes: Any) -> None:
    server, mill = processes("1"), processes("2")
    server.get("/")
    explode(mill, 2)
    mill.get("/")
    explode(mill)
    assert (calls(server), calls(mill), counts(mill)) == (2, 1, {"index": 1})


def test_a_page_makes_a_process_a_server_too(make_app: MakeApp) -> None:
    mill = make_app(KNITPERF_ACCESS=lambda _: True)
    explode(mill)
    assert mill.get("/perf/report").code == 200
    assert run_of(mill) is not None


def test_where_its_run_cannot_be_joined_a_server_continues_in_memory(
    mill: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    explode(mill)

    def full() -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mill.session.recorder, "_locate", full)
    mill.get("/")
    assert (calls(mill), counts(mill)) == (1, {"index": 1})
    assert "No space left on device" in mill.degraded()


def test_a_failure_while_it_becomes_a_server_does_not_reach_the_request(
    mill: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    explode(mill)

    def failing() -> Any:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(mill.session.recorder, "_promote", failing)
    assert mill.get("/").body == b"ok"
    assert "state failed" in mill.degraded()


@needs_fork
def test_a_forked_child_that_serves_nothing_records_in_the_run_of_its_parent(mill: Any) -> None:
    mill.get("/")

    def work() -> Any:
        explode(mill, 2)
        return mill.session.recorder.serving, str(run_of(mill))

    assert in_child(work) == [False, str(run_of(mill))]
    assert calls(mill) == 2
