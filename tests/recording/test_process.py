"""What belongs to one process: recorder, housekeeper, collections, runs, and forks."""

from __future__ import annotations

import gc
import itertools
import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from flask_knitperf.core.clock import SYSTEM, Clock
from flask_knitperf.core.errors import ConfigurationError, NPlusOneError, StateError, Stopped
from flask_knitperf.metrics import columns
from flask_knitperf.metrics.instruments import Key, Kind, Merge, Meter
from flask_knitperf.metrics.log_format import pack, pack_many, parse
from flask_knitperf.recording import gc_pauses
from flask_knitperf.recording.gc_pauses import GCWatch
from flask_knitperf.recording.housekeeper import Housekeeper, Job
from flask_knitperf.recording.recorder import HEARTBEAT, Recorder
from flask_knitperf.recording.span import CURRENT, Span
from flask_knitperf.storage import runs, state_dir
from flask_knitperf.storage.atomic_files import Disk, is_locked
from flask_knitperf.storage.snapshots import at, clear, mark, origin, points
from flask_knitperf.storage.windows import check, window
from flask_knitperf.storage.writer import Worker

REQUESTS = Meter("request", Kind.HISTOGRAM, "ns", ("endpoint",))
SIZE = Meter("size", Kind.GAUGE, "bytes", (), 1, Merge.PER_WORKER)


def recorder(run: Path | None, **more: Any) -> Recorder:
    return Recorder(
        lambda: (run, {"pid": os.getpid(), "host": "here", "started": 1.0}),
        threaded=lambda: False, log_bytes=65536, **more,
    )  # fmt: skip


def count(found: state_dir.Snapshot) -> int:
    return sum(
        s.data.count for key, s in columns.series(found.columns).items() if key.meter == "request"
    )


# -- counting without folding ----------------------------------------------------------------------


COUNTED = Meter("request", Kind.HISTOGRAM, "ns", ("endpoint", "method", "status"))


def count_up(r: Recorder, endpoint: str, number: int, status: str = "2xx") -> None:
    for _ in range(number):
        r.record((r.series(COUNTED, endpoint, "GET", status), 5.0))


@pytest.mark.parametrize("on_disk", [True, False])
def test_observations_are_counted_without_a_fold(tmp_path: Path, on_disk: bool) -> None:
    r = recorder(tmp_path if on_disk else None)
    count_up(r, "a", 5)
    count_up(r, "a", 2, "5xx")
    count_up(r, "b", 1)
    r.record((r.series(SIZE), 7.0))
    assert r.worker.counts("request") == {("a", "GET"): 7, ("b", "GET"): 1}
    assert r.worker.table.offset == 0
    r.close()


def test_weights_count_as_what_they_stand_for(tmp_path: Path) -> None:
    r = recorder(tmp_path)
    r.emit([(r.series(COUNTED, "a", "GET", "2xx"), 64, 5.0)])
    assert r.worker.counts("request") == {("a", "GET"): 64}
    r.close()


def test_counts_are_the_same_over_folds_and_full_logs(tmp_path: Path) -> None:
    r = recorder(tmp_path)
    for turn in range(12):
        count_up(r, "a", 1_500)
        if turn in (3, 7, 8):
            r.worker.fold()
        if turn % 4 != 1:
            assert r.worker.counts("request") == {("a", "GET"): 1_500 * (turn + 1)}
    r.close()


def test_counts_go_on_where_logs_were_folded_and_gone_before_anybody_asked(tmp_path: Path) -> None:
    r = recorder(tmp_path)
    count_up(r, "a", 100)
    assert r.worker.counts("request") == {("a", "GET"): 100}
    for _ in range(4):
        count_up(r, "a", 5_000)
        r.worker.fold()
    count_up(r, "b", 3)
    assert r.worker.counts("request") == {("a", "GET"): 20_100, ("b", "GET"): 3}
    r.close()


# -- the recorder ----------------------------------------------------------------------------------


@pytest.mark.parametrize("on_disk", [True, False])
def test_what_was_recorded_is_in_the_snapshot(tmp_path: Path, on_disk: bool) -> None:
    r = recorder(tmp_path if on_disk else None)
    assert not r.begun
    r.record((r.series(REQUESTS, "a"), 5.0), (r.series(SIZE), 7.0))
    r.note("slow", "a", 3.0)
    found = r.snapshot()
    assert r.begun
    assert count(found) == 1
    assert list(columns.series(found.columns)[Key("size", ())].gauge.values()) == [7.0]
    assert [note["count"] for note in found.totals.evidence.values()] == [1]
    assert found.workers[0]["host"] == "here"
    r.close()


def test_more_observations_than_a_group_holds_go_out_as_several(tmp_path: Path) -> None:
    r = recorder(tmp_path)
    series = r.series(REQUESTS, "a")
    r.emit([(series, 1, float(n)) for n in range(150)])
    assert count(r.snapshot()) == 150
    r.close()


def test_a_place_that_cannot_be_found_keeps_everything_in_memory_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def nowhere() -> tuple[Path, dict[str, Any]]:
        raise StateError("the state directory belongs to another user")

    r = Recorder(nowhere, threaded=lambda: False)
    with caplog.at_level(logging.WARNING):
        r.record((r.series(REQUESTS, "a"), 5.0))
    found = r.snapshot()
    assert count(found) == 1
    assert "belongs to another user" in found.degraded[0]
    r.close()


def test_a_failure_is_logged_once_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    r = recorder(None)
    for _ in range(3):
        r.failed("part", ValueError("x"))
    assert r.failures == {"part": 3}
    assert len(caplog.records) == 1
    r.close()


def test_only_the_recorder_that_began_a_request_finds_it() -> None:
    mine, other = recorder(None), recorder(None)
    span = Span(mine, {}, 0)
    token = CURRENT.set(span)
    assert mine.span() is span
    assert other.span() is None
    CURRENT.reset(token)
    assert mine.span() is None


def test_closing_twice_is_harmless_and_a_later_request_begins_anew(tmp_path: Path) -> None:
    r = recorder(tmp_path)
    r.record((r.series(REQUESTS, "a"), 5.0))
    first = r.worker.name
    r.close()
    r.close()
    r.record((r.series(REQUESTS, "a"), 5.0))
    assert r.worker.name != first
    assert count(r.snapshot()) == 2
    r.close()


def test_threads_that_come_at_once_begin_one_worker(tmp_path: Path) -> None:
    r = recorder(tmp_path)
    names: set[str] = set()
    gate = threading.Barrier(8)

    def first() -> None:
        gate.wait()
        names.add(r.worker.name)

    threads = [threading.Thread(target=first) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names) == 1
    r.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_is_a_worker_of_its_own_and_does_not_keep_the_parent_alive(
    tmp_path: Path,
) -> None:
    r = recorder(tmp_path)
    r.record((r.series(REQUESTS, "a"), 5.0))
    name = r.worker.name
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        r.record((r.series(REQUESTS, "a"), 5.0))
        os.write(writing, b"x" if r.worker.name != name else b"-")
        os._exit(0)
    assert os.read(reading, 1) == b"x"
    os.waitpid(child, 0)
    assert count(r.snapshot()) == 2
    assert is_locked(tmp_path / f"{name}.lock")
    r.close()
    assert not is_locked(tmp_path / f"{name}.lock")
    os.close(reading)
    os.close(writing)


def test_a_recorder_with_a_thread_runs_its_jobs_also_those_that_come_late(tmp_path: Path) -> None:
    ran, late = threading.Event(), threading.Event()
    r = Recorder(lambda: (tmp_path, {"pid": 1}), log_bytes=65536)
    r.every(0.01, ran.set)
    r.series(HEARTBEAT)
    r.every(0.01, late.set)
    assert ran.wait(5)
    assert late.wait(5)
    r.close()


def test_a_job_that_outlived_its_writer_ends_its_housekeeper_and_begins_no_writer(
    tmp_path: Path,
) -> None:
    ran: list[int] = []
    ended = threading.Event()
    r = recorder(tmp_path)

    def job() -> None:
        ran.append(1)
        try:
            r.worker.fold()
        except Stopped:
            ended.set()
            raise

    reservoir = Housekeeper([Job(0.01, job)], lambda *_: None)
    reservoir.start()
    assert ended.wait(5)
    reservoir.stop(5)
    assert ran == [1]
    assert not r.begun
    assert list(tmp_path.iterdir()) == []


def test_who_follows_a_recorder_is_told_when_its_writer_goes(tmp_path: Path) -> None:
    told: list[int] = []
    r = recorder(tmp_path)
    r.on_change.append(lambda: told.append(1))
    r.series(HEARTBEAT)
    r.close()
    r.after_fork()
    assert len(told) == 2


def test_the_append_of_a_worker_writes_one_group_and_says_when_its_log_is_full(
    tmp_path: Path,
) -> None:
    r = recorder(tmp_path)
    group = pack([(r.series(REQUESTS, "a"), 1, 5.0)])
    append = r.worker.quick()
    with pytest.raises(ValueError, match="out of range"):
        deque((append(group) for _ in range(65536)), maxlen=0)
    written = count(r.snapshot())
    assert 65536 // len(group) - 64 < written <= 65536 // len(group)
    r.close()


def test_values_of_one_series_go_out_as_one_group(tmp_path: Path) -> None:
    r = recorder(tmp_path)
    r.worker.write(pack_many(r.series(REQUESTS, "a"), [7, 0, 9]))
    [found] = [
        s.data for key, s in columns.series(r.snapshot().columns).items() if key.meter == "request"
    ]
    assert (found.count, found.total, found.low, found.high) == (3, 16, 0, 9)
    r.close()


# -- the housekeeper -------------------------------------------------------------------------------


def housekeeper(*jobs: Job, errors: list[str] | None = None) -> Housekeeper:
    said = [] if errors is None else errors
    return Housekeeper(list(jobs), lambda name, error: said.append(f"{name}: {error}"), lambda: 0.0)


def test_a_job_runs_when_it_is_due() -> None:
    ran: list[int] = []
    reservoir = housekeeper(Job(10, lambda: ran.append(1)))
    assert reservoir.turn(100) == 10
    reservoir.turn(105)
    reservoir.turn(110)
    assert len(ran) == 2


def test_a_job_that_fails_stops_no_other_and_comes_ever_more_rarely() -> None:
    errors: list[str] = []
    ran: list[int] = []

    def fail() -> None:
        raise ValueError("broken")

    reservoir = housekeeper(Job(1, fail, name="bad"), Job(1, lambda: ran.append(1)), errors=errors)
    now = 0.0
    for _ in range(64):
        reservoir.turn(now)
        now += 1
    assert len(ran) == 64
    assert errors[0] == "bad: broken"
    assert len(errors) == 6


def test_a_job_that_works_again_is_back_on_schedule() -> None:
    broken = [True]
    ran: list[float] = []

    def sometimes() -> None:
        if broken[0]:
            raise ValueError
        ran.append(1)

    reservoir = housekeeper(Job(1, sometimes))
    reservoir.turn(0)
    broken[0] = False
    reservoir.turn(2)
    reservoir.turn(3)
    assert len(ran) == 2


def test_without_jobs_it_waits() -> None:
    assert housekeeper().turn(5) == 1.0


def test_somebody_may_look_before_and_after_each_job() -> None:
    seen: list[str] = []

    def around(run: Callable[[], object]) -> object:
        seen.append("before")
        run()
        seen.append("after")
        return None

    reservoir = Housekeeper([Job(1, lambda: seen.append("job"))], lambda *_: None, around=around)
    reservoir.turn(0)
    assert seen == ["before", "job", "after"]


def test_a_recorders_jobs_are_run_by_whoever_looks(tmp_path: Path) -> None:
    ran = threading.Event()
    r = Recorder(lambda: (tmp_path, {"pid": 1}), log_bytes=65536)
    r.around = lambda run: (run(), ran.set())
    r.every(0.01, lambda: None)
    r.series(HEARTBEAT)
    assert ran.wait(5)
    r.close()


def test_stopping_before_starting_and_from_its_own_thread_is_harmless() -> None:
    stopped = threading.Event()
    reservoir = Housekeeper([], lambda *_: None)
    reservoir.stop()
    own = Housekeeper([], lambda *_: None)

    def stop() -> None:
        own.stop()
        stopped.set()

    own.add(Job(0.01, stop))
    own.start()
    assert stopped.wait(5)
    own.stop()


# -- collections -----------------------------------------------------------------------------------


def test_collections_are_timed_while_somebody_watches() -> None:
    watch = GCWatch()
    watch.hold()
    watch.hold()
    gc.collect()
    watch.let_go()
    gc.collect()
    assert watch.pauses[2][0] == 2
    assert watch.total > 0
    watch.let_go()
    assert watch not in gc.callbacks
    watch.let_go()
    gc.collect()
    assert watch.pauses[2][0] == 2


def test_a_collection_that_began_before_watching_is_not_counted() -> None:
    watch = GCWatch()
    watch("stop", {"generation": 0})
    assert watch.pauses == [[0, 0]] * 3


def test_what_one_threads_objects_brought_about_is_told_by_thread_and_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ms = 1_000_000
    now = iter([10 * ms, 15 * ms, 20 * ms, 20 * ms + 1, 30 * ms, 33 * ms])
    monkeypatch.setattr(gc_pauses, "time", SimpleNamespace(perf_counter_ns=lambda: next(now)))
    watch = GCWatch()
    for _ in range(3):
        watch("start", {"generation": 1})
        watch("stop", {"generation": 1})
    me = threading.get_ident()
    assert watch.pauses[1][0] == 3
    assert len(watch.latest) == 2
    assert watch.own(me, 0) == 8 * ms
    assert watch.own(me, 30 * ms) == 3 * ms
    assert watch.own(me + 1, 0) == 0


# -- runs ------------------------------------------------------------------------------------------


def test_a_release_names_the_run_whatever_it_is_called() -> None:
    hostile = "../../etc/passwd ü"
    name = runs.run_name(hostile, 1, "2")
    assert "/" not in name
    assert name != runs.run_name(hostile + "x", 1, "2")
    assert runs.run_name(None, 1, "2").startswith("server-1-")
    assert runs.run_name(None, 1, "2") != runs.run_name(None, 1, "3")


def test_the_start_of_a_process_does_not_move_with_the_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = psutil.Process()
    before = runs.start_of(own)
    monkeypatch.setattr(psutil.Process, "create_time", lambda _: 5.0)
    if sys.platform == "linux":
        assert runs.start_of(psutil.Process()) == before

    def hidden(_: Path) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", hidden)
    assert runs.start_of(own) == "5.0"


def test_a_process_on_its_own_is_its_own_server() -> None:
    pid, started = runs.server()
    own = psutil.Process()
    parent = own.parent()
    same = parent is not None and parent.cmdline() == own.cmdline()
    assert (pid, started) == ((parent or own).pid if same else own.pid, started)


def test_a_parent_that_cannot_be_seen_is_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden(_: psutil.Process) -> None:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil.Process, "parent", hidden)
    assert runs.server()[0] == os.getpid()


@pytest.mark.parametrize(
    ("line", "program"),
    [(["gunicorn: master [mill]"], ("gunicorn",)), (["gunicorn: worker [mill]"], ("gunicorn",)),
     (["python", "app.py"], ("python", "app.py")), ([], ())],
)  # fmt: skip
def test_a_server_and_its_workers_are_the_same_program(
    line: list[str], program: tuple[str, ...]
) -> None:
    class Process:
        def cmdline(self) -> list[str]:
            return line

    assert runs._program(Process()) == program  # type: ignore[arg-type]


def enter(folder: Path, release: str | None = None, at_: float = 5.0) -> Path:
    clock = Clock(wall=lambda: at_)
    run, identity = runs.join(folder, release, {"routes": []}, clock, Disk())
    assert identity["pid"] == os.getpid()
    return run


def test_entering_a_run_again_keeps_its_beginning(tmp_path: Path) -> None:
    run = enter(tmp_path, "1.0", 5.0)
    assert enter(tmp_path, "1.0", 9.0) == run
    assert runs.describe(run)["began"] == 5.0


def test_a_damaged_description_is_written_anew(tmp_path: Path) -> None:
    run = enter(tmp_path, "1.0")
    for text in ("{broken", "[1]"):
        (run / "app.json").write_text(text)
        assert runs.describe(run) == {}
    enter(tmp_path, "1.0", 9.0)
    assert runs.describe(run)["began"] == 9.0


def test_only_the_last_runs_are_kept_and_never_one_in_which_a_worker_lives(tmp_path: Path) -> None:
    found = [enter(tmp_path, f"1.{n}", float(n)) for n in range(5)]
    (found[1] / "points").mkdir()
    (found[1] / "points" / "5.point").write_bytes(b"x")
    alive = Worker(found[0], {"pid": 1}, clock=SYSTEM, disk=Disk(), log_bytes=65536)
    runs.forget(tmp_path, 2, Disk())
    assert runs.runs(tmp_path) == [found[0], found[3], found[4]]
    alive.close()
    assert runs.runs(tmp_path / "nowhere") == []


def test_a_state_directory_is_made_private(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "state"
    runs.prepare(folder)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_state_directory_others_may_write_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(StateError, match="others may write"):
        runs.prepare(tmp_path)


def test_a_file_in_the_place_of_the_state_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StateError, match=r"cannot be used|is not a directory"):
        runs.prepare(tmp_path / "file")
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(StateError, match="is not a directory"):
        runs.prepare(tmp_path / "link")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [("getuid", lambda: 12345, "another user"), ("access", lambda *_: False, "not writable")],
)
def test_a_state_directory_that_is_not_ours_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: Callable[..., Any], said: str
) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setattr(os, name, value, raising=False)
    with pytest.raises(StateError, match=said):
        runs.prepare(tmp_path)


# -- windows ---------------------------------------------------------------------------------------


def observe(r: Recorder, number: int) -> None:
    for _ in range(number):
        r.record((r.series(REQUESTS, "a"), 5.0))


def test_a_window_is_what_came_after_the_newest_point_before_it(tmp_path: Path) -> None:
    run = enter(tmp_path, "1", 0.0)
    r = recorder(run)
    for moment, number in ((100.0, 1), (5000.0, 2), (8000.0, 4)):
        observe(r, number)
        mark(run, r.snapshot(), moment, Disk())
    observe(r, 8)
    assert count(window(run, "run", 9000.0).snapshot) == 15
    assert count(window(run, "1h", 9000.0).snapshot) == 12
    assert count(window(run, "5m", 9000.0).snapshot) == 8
    assert window(run, "1h", 9000.0).begins == 5000.0
    assert window(run, "1h", 200.0).begins == 0.0
    assert window(run, "5m", 350.0, r.snapshot()).begins == 0.0
    r.close()


def test_points_are_thinned_out_as_they_age(tmp_path: Path) -> None:
    r = recorder(tmp_path)
    observe(r, 1)
    for moment in range(0, 7200, 10):
        mark(tmp_path, r.snapshot(), float(moment), Disk())
    kept = [moment for moment, _ in points(tmp_path)]
    assert len(kept) < 110
    assert min(kept) < 7190 - 65 * 60
    assert sum(1 for moment in kept if moment > 7190 - 360) == 36
    mark(tmp_path, r.snapshot(), 3000.0, Disk())  # the clock went back
    assert max(moment for moment, _ in points(tmp_path)) == 3000.0
    r.close()


def test_a_damaged_point_is_passed_over(tmp_path: Path) -> None:
    r = recorder(tmp_path)
    observe(r, 3)
    mark(tmp_path, r.snapshot(), 10.0, Disk())
    (tmp_path / "points" / "20000.point").write_bytes(b"damaged")
    (tmp_path / "points" / "note.point").write_bytes(b"no number")
    found = at(tmp_path, 25.0)
    assert found is not None
    assert found[1].count.sum() >= 3
    assert at(tmp_path, 5.0) is None
    r.close()


def test_clearing_begins_every_window_anew_and_the_first_worker_counts(tmp_path: Path) -> None:
    run = enter(tmp_path, "1", 0.0)
    r = recorder(run)
    observe(r, 3)
    clear(run, "c1", r.snapshot(), 50.0, Disk())
    observe(r, 2)
    clear(run, "c1", r.snapshot(), 50.0, Disk())
    assert count(window(run, "run", 60.0).snapshot) == 2
    assert window(run, "run", 60.0).begins == 50.0
    clear(run, "c2", r.snapshot(), 70.0, Disk())
    assert count(window(run, "run", 80.0).snapshot) == 0
    assert len(list(run.glob("origin-*"))) == 1
    (next(run.glob("origin-*"))).write_bytes(b"damaged")
    assert origin(run) == (0.0, None)
    r.close()


def test_an_origin_before_the_run_does_not_count(tmp_path: Path) -> None:
    run = enter(tmp_path, "1", 100.0)
    r = recorder(run)
    observe(r, 3)
    clear(run, "c1", r.snapshot(), 50.0, Disk())
    assert count(window(run, "run", 160.0).snapshot) == 3
    r.close()


def test_the_previous_run_is_shown_whole(tmp_path: Path) -> None:
    first, second = enter(tmp_path, "1", 1.0), enter(tmp_path, "2", 2.0)
    r = recorder(first)
    observe(r, 3)
    assert window(second, "previous", 9.0).ends == 1.0
    mark(first, r.snapshot(), 1.5, Disk())
    observe(r, 1)
    found = window(second, "previous", 9.0, r.snapshot())
    assert (found.release, found.ends, count(found.snapshot)) == ("1", 1.5, 4)
    with pytest.raises(StateError, match="no previous run"):
        window(first, "previous", 9.0)
    with pytest.raises(ConfigurationError, match="5m, 1h"):
        check("2h")
    r.close()


def test_evidence_of_a_window_is_what_was_added_in_it(tmp_path: Path) -> None:
    run = enter(tmp_path, "1", 0.0)
    r = recorder(run)
    r.note("error", "a", 1.0)
    r.note("error", "b", 1.0)
    clear(run, "c", r.snapshot(), 5.0, Disk())
    r.note("error", "a", 1.0)
    assert [n["key"] for n in window(run, "run", 9.0).snapshot.totals.evidence.values()] == ["a"]
    r.close()


# -- files -----------------------------------------------------------------------------------------


def test_only_the_first_puts_something_in_a_place(tmp_path: Path) -> None:
    disk = Disk()
    assert disk.place(tmp_path / "x", b"1")
    assert not disk.place(tmp_path / "x", b"2")
    assert (tmp_path / "x").read_bytes() == b"1"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_file_that_is_missing_is_not_locked(tmp_path: Path) -> None:
    assert not is_locked(tmp_path / "nothing")


def test_a_log_that_cannot_be_reserved_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(OSError, match="No space"):
        Disk().create_log(tmp_path / "log", 4096)
    assert not list(tmp_path.iterdir())


def test_a_log_is_made_where_blocks_cannot_be_reserved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    made = Disk().create_log(tmp_path / "log", 4096)
    assert made[:] == bytes(4096)
    made.close()


def test_saving_keeps_the_old_content_when_there_is_no_room(tmp_path: Path) -> None:
    class Full(Disk):
        def replace(self, source: Path, target: Path) -> None:
            raise OSError(28, "No space left on device")

    (tmp_path / "x").write_bytes(b"old")
    with pytest.raises(OSError, match="No space"):
        Full().save(tmp_path / "x", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_bytes() == b"old"


def test_an_error_says_which_value_and_what_is_allowed() -> None:
    error = ConfigurationError("KNITPERF_X", 7, "must be a text")
    assert str(error) == "KNITPERF_X = 7 cannot be used: must be a text"


def test_an_error_of_n_plus_one_has_a_line_for_each() -> None:
    error = NPlusOneError(["first", "second"])
    assert str(error).splitlines()[1:] == ["  first", "  second"]
    assert error.found == ["first", "second"]


# -- what a reader meets ---------------------------------------------------------------------------


def test_notes_and_definitions_that_are_torn_end_the_log() -> None:
    from flask_knitperf.metrics.log_format import DEFINE, NOTE, pack_json

    note = pack_json(NOTE, 1, {"kind": "k"})
    group = pack([(1, 1, 5.0)])
    assert len(parse(note + group).notes) == 1
    torn = note[:20] + bytes(len(note) - 20)
    assert parse(torn + group).torn
    assert not len(parse(torn + group).series)
    assert parse(pack_json(DEFINE, 3, ["x"])).definitions == {3: ["x"]}
    assert parse(group + note[:16]).end == 16


def test_a_worker_whose_lock_is_damaged_is_still_counted(tmp_path: Path) -> None:
    r = recorder(tmp_path)
    observe(r, 2)
    (tmp_path / f"{r.worker.name}.lock").write_bytes(b"\xff{")
    found = state_dir.read(tmp_path)
    assert count(found) == 2
    assert found.workers[0]["worker"] == r.worker.name
    (tmp_path / f"{r.worker.name}.lock").unlink()
    assert state_dir.read(tmp_path).workers == []
    r.close()


def test_a_damaged_retired_table_is_said_and_the_living_are_shown(tmp_path: Path) -> None:
    r = recorder(tmp_path)
    observe(r, 2)
    (tmp_path / state_dir.RETIRED).write_bytes(b"damaged")
    found = state_dir.read(tmp_path)
    assert count(found) == 2
    assert "totals of ended workers" in found.degraded[0]
    r.close()


def test_a_reader_starts_over_when_names_were_dropped_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    r = recorder(tmp_path)
    observe(r, 2)
    from flask_knitperf.metrics.columns import of
    from flask_knitperf.metrics.table import Table

    answers = [Table(generation=n, pruned=n) for n in (1, 2, 3, 3)]
    monkeypatch.setattr(state_dir, "_retired", lambda *_: (answers.pop(0), of((), {})))
    assert count(state_dir.read(tmp_path)) == 2
    assert not answers
    generations = itertools.count()

    def newer(*_: object) -> state_dir.Part:
        number = next(generations)
        return Table(generation=number, pruned=number), of((), {})

    monkeypatch.setattr(state_dir, "_retired", newer)
    with pytest.raises(StateError, match="changed too often"):
        state_dir.read(tmp_path)
    r.close()


def test_two_housekeepers_do_not_retire_at_once(tmp_path: Path) -> None:
    with state_dir.exclusively(tmp_path / "retire.lock") as mine:
        assert mine
        assert state_dir.retire(tmp_path, Disk()) == 0


def test_what_a_killed_retirement_left_is_swept(tmp_path: Path) -> None:
    (tmp_path / f"{state_dir.RETIRED}.99.tmp").write_bytes(b"half")
    state_dir.retire(tmp_path, Disk())
    assert [p.name for p in tmp_path.iterdir()] == ["retire.lock"]


def test_a_dead_worker_with_a_damaged_table_is_retired_and_counted_as_torn(tmp_path: Path) -> None:
    r = recorder(tmp_path)
    observe(r, 2)
    name = r.worker.name
    (tmp_path / f"{name}.table").write_bytes(b"damaged")
    r.worker.release()
    assert state_dir.retire(tmp_path, Disk()) == 1
    assert state_dir.read(tmp_path).totals.torn == 1


def test_a_log_whose_predecessor_was_only_in_memory_is_read_from_its_beginning(
    tmp_path: Path,
) -> None:
    r = recorder(tmp_path)
    observe(r, 3)
    name = r.worker.name
    os.rename(tmp_path / f"{name}.0.log", tmp_path / f"{name}.4.log")
    assert count(state_dir.read(tmp_path)) == 3
    r.worker.release()


def test_a_log_that_vanishes_between_listing_and_reading_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    r = recorder(tmp_path)
    observe(r, 3)
    r.worker.fold()
    name = r.worker.name
    monkeypatch.setattr(state_dir, "logs", lambda *_: [(0, tmp_path / f"{name}.0.gone")])
    assert count(state_dir.read(tmp_path)) == 3
    r.close()


def test_a_damaged_retired_table_is_put_aside_and_retiring_goes_on(tmp_path: Path) -> None:
    r = recorder(tmp_path)
    observe(r, 2)
    r.worker.release()
    (tmp_path / state_dir.RETIRED).write_bytes(b"damaged")
    assert state_dir.retire(tmp_path, Disk()) == 1
    found = state_dir.read(tmp_path)
    assert count(found) == 2
    assert state_dir.DAMAGED in found.degraded


# -- corners of one worker -------------------------------------------------------------------------


def test_a_group_larger_than_a_log_is_an_error_not_an_endless_loop(tmp_path: Path) -> None:
    r = recorder(tmp_path)
    with pytest.raises(ValueError, match="data out of range"):
        r.worker.write(bytes(1 << 17))
    r.close()


def test_a_spare_log_is_ready_when_the_current_one_is_half_full(tmp_path: Path) -> None:
    r = recorder(tmp_path)
    r.worker.prepare_spare()
    observe(r, 3000)
    r.worker.prepare_spare()
    assert [number for number, _ in state_dir.logs(tmp_path, r.worker.name)] == [0, 1]
    observe(r, 3000)
    assert count(r.snapshot()) == 6000
    assert r.worker.due()
    r.worker.fold()
    assert not r.worker.due()
    r.close()


def test_series_that_begin_in_a_later_log_are_counted_beside_those_of_the_first(
    tmp_path: Path,
) -> None:
    r = recorder(tmp_path)
    observe(r, 5000)  # more than one log holds, and none of it folded
    for number in range(7):
        r.record((r.series(REQUESTS, f"late {number}"), 5.0))
    assert len(state_dir.logs(tmp_path, r.worker.name)) == 2
    assert count(r.snapshot()) == 5007
    r.close()


class Room(Disk):
    """A disk that has room for logs or has not."""

    left = True

    def create_log(self, path: Path, size: int) -> Any:
        if not self.left:
            raise OSError(28, "No space left on device")
        return super().create_log(path, size)


def crowded(tmp_path: Path) -> tuple[Recorder, Room]:
    """Return a recorder that has just begun a log in memory, for lack of room."""
    disk = Room()
    r = recorder(tmp_path, disk=disk)
    observe(r, 3000)
    disk.left = False
    observe(r, 3000)
    assert "No space left" in r.worker.degraded["log"]
    return r, disk


def test_of_a_log_in_memory_others_see_what_is_folded(tmp_path: Path) -> None:
    r, _ = crowded(tmp_path)
    r.worker.fold()
    assert not r.worker.due()
    observe(r, 1)
    assert r.worker.due()
    r.worker.fold()
    assert count(state_dir.read(tmp_path)) == 6001
    r.close()


def test_a_worker_returns_to_the_disk_once_there_is_room(tmp_path: Path) -> None:
    r, disk = crowded(tmp_path)
    r.worker.prepare_spare()
    assert "log" in r.worker.degraded
    disk.left = True
    r.worker.prepare_spare()
    assert "log" not in r.worker.degraded
    r.worker.fold()
    observe(r, 10)
    assert count(state_dir.read(tmp_path)) == 6010
    r.close()
    assert count(state_dir.read(tmp_path)) == 6010


def test_what_was_in_memory_only_is_not_lost_when_the_next_log_is_on_disk(tmp_path: Path) -> None:
    r, disk = crowded(tmp_path)
    disk.left = True
    observe(r, 9000)
    r.worker.fold()
    assert count(state_dir.read(tmp_path)) == 15_000
    r.close()


def test_a_worker_whose_files_are_gone_notices_though_another_made_the_directory_anew(
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    one, other = recorder(run), recorder(run)
    observe(one, 1)
    assert not one.worker.lost()
    for path in run.iterdir():
        path.unlink()
    observe(other, 1)
    assert (one.worker.lost(), other.worker.lost()) == (True, False)
    one.close()
    other.close()


def test_a_worker_in_memory_has_no_files_to_lose(tmp_path: Path) -> None:
    r = recorder(None)
    observe(r, 1)
    assert not r.worker.lost()
    r.close()


def test_a_worker_without_a_place_for_its_lock_works_in_memory(tmp_path: Path) -> None:
    r = recorder(tmp_path / "gone")
    observe(r, 2)
    found = r.snapshot()
    assert count(found) == 2
    assert "invisible to others" in found.degraded[0]
    r.close()


def test_what_is_degraded_is_published_and_read_by_others(tmp_path: Path) -> None:
    r = recorder(tmp_path)
    observe(r, 1)
    r.worker.degraded["x"] = "something is wrong"
    r.worker.publish()
    assert any("something is wrong" in said for said in state_dir.read(tmp_path).degraded)
    r.worker.degraded["x"] = "y" * 9000
    r.worker.publish()
    assert any("too much to list" in said for said in state_dir.read(tmp_path).degraded)
    r.close()


def test_many_folded_logs_that_cannot_be_removed_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stuck(Disk):
        def save(self, path: Path, data: bytes) -> None:
            raise OSError(28, "No space left on device")

    r = Recorder(lambda: (tmp_path, {"pid": 1}), disk=Stuck(), log_bytes=4096,
                 threaded=lambda: False)  # fmt: skip
    for _ in range(70):
        observe(r, 250)
        r.worker.fold()
    assert "more than 64 logs wait" in r.worker.degraded["table"]
    r.worker.release()


def test_an_id_that_was_never_defined_is_torn_not_a_number(tmp_path: Path) -> None:
    r = recorder(tmp_path)
    r.worker.write(pack([(77, 1, 5.0)]))
    assert r.snapshot().totals.torn == 1
    r.close()


@pytest.mark.parametrize("value", [2.0**53, -(2.0**53), 1e300, float("inf"), float("nan")])
def test_a_value_that_nothing_can_have_taken_is_left_out_and_counted(
    tmp_path: Path, value: float
) -> None:
    r = recorder(tmp_path)
    r.record((r.series(REQUESTS, "a"), 5.0))
    r.record((r.series(REQUESTS, "a"), value))
    found = r.snapshot()
    data = columns.series(found.columns)[Key("request", ("a",))].data
    assert (data.count, data.total, data.high, found.about.torn) == (1, 5, 5.0, 1)
    r.close()


def test_a_gauge_may_be_no_number(tmp_path: Path) -> None:
    r = recorder(tmp_path)
    level = Meter("level", Kind.GAUGE, "1", (), 1, Merge.PER_WORKER)
    r.record((r.series(level), float("nan")))
    (value,) = columns.series(r.snapshot().columns)[Key("level", ())].gauge.values()
    assert value != value
    r.close()


def test_of_a_gauge_the_last_value_counts_also_from_one_log_to_the_next(tmp_path: Path) -> None:
    r = recorder(tmp_path)
    level = Meter("level", Kind.GAUGE, "1", (), 1, Merge.PER_WORKER)
    for value in range(5000):  # more than one log holds
        r.record((r.series(level), float(value)))
    assert list(columns.series(r.snapshot().columns)[Key("level", ())].gauge.values()) == [4999.0]
    r.worker.fold()
    assert list(columns.series(r.snapshot().columns)[Key("level", ())].gauge.values()) == [4999.0]
    r.close()


def test_only_the_heaviest_evidence_of_a_kind_is_kept(tmp_path: Path) -> None:
    r = recorder(tmp_path)
    for number in range(80):
        r.note("slow", f"path {number}", float(number))
    kept = r.snapshot().totals.evidence
    assert len(kept) == 50
    assert min(note["weight"] for note in kept.values()) == 30
    r.close()


def test_quantiles_of_a_histogram_with_missing_buckets_are_its_last_bucket() -> None:
    from flask_knitperf.metrics.histogram import Histogram

    assert Histogram(count=9, buckets={64: 2}).quantile(0.9) == pytest.approx(2.01, rel=0.01)
    assert Histogram().quantiles((0.5, 0.9)) == [None, None]
    assert Histogram().deviation is None


def test_a_series_defined_by_two_threads_at_once_has_one_id(tmp_path: Path) -> None:
    r = recorder(tmp_path)
    gate, ids = threading.Barrier(8), []

    def define() -> None:
        gate.wait()
        ids.append(r.series(REQUESTS, "a"))

    threads = [threading.Thread(target=define) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids)) == 1
    r.close()


def test_names_that_are_cut_to_the_same_text_are_one_series_and_count_once(tmp_path: Path) -> None:
    r = recorder(tmp_path)
    for end in ("x", "y", "x"):
        r.record((r.series(REQUESTS, "a" * 300 + end), 5.0))
    assert count(r.snapshot()) == 3
    r.worker.fold()
    assert count(r.snapshot()) == 3
    r.close()


def test_what_was_begun_before_a_fold_and_ended_after_it_is_not_under_way(tmp_path: Path) -> None:
    started = Meter("started", Kind.OPEN, "1", ("endpoint",))
    r = recorder(tmp_path)
    series = r.series(started, "a")
    r.emit([(series, 1, 1000.0), (series, 2, 1001.0)])
    r.worker.fold()
    r.emit([(series, 1, -1000.0)])
    assert columns.series(r.snapshot().columns)[Key("started", ("a",))].open == {2: 1001.0}
    r.close()


def test_a_parent_that_runs_the_same_program_is_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    family = (os.getpid(), os.getppid())
    monkeypatch.setattr(runs, "_program", lambda p: ("gunicorn",) if p.pid in family else ("init",))
    assert runs.server()[0] == os.getppid()


def test_only_so_many_middles_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    from flask_knitperf.metrics import histogram

    monkeypatch.setattr(histogram, "_middles", {})
    monkeypatch.setattr(histogram, "_MIDDLES_KEPT", 1)
    assert histogram.middle(1) == pytest.approx(histogram.middle(1))
    assert histogram.middle(2) > 0
    assert len(histogram._middles) == 1


def test_forgetting_a_parents_writer_lets_go_of_its_lock(tmp_path: Path) -> None:
    r = recorder(tmp_path)
    observe(r, 1)
    worker = r.worker
    path = tmp_path / f"{worker.name}.lock"
    r.after_fork()
    r.after_fork()
    assert not is_locked(path)
    assert not r.begun
    worker.release()


def test_a_full_log_is_replaced_by_one_thread_only(tmp_path: Path) -> None:
    r = recorder(tmp_path)
    observe(r, 1)
    old = r.worker._log
    r.worker._next(old)
    current = r.worker._log
    r.worker._next(old)
    assert r.worker._log is current
    r.close()


def test_a_definition_that_is_met_twice_counts_once() -> None:
    from flask_knitperf.metrics.log_format import DEFINE, pack_json
    from flask_knitperf.metrics.table import Table, define, fold

    text = pack_json(DEFINE, 1, define(Key("request", ("a",)), REQUESTS))
    table = Table("w")
    fold(table, text, closed=False)
    fold(table, text + text + pack([(1, 1, 5.0)]), closed=False)
    assert len(table.heads) == 1


def test_nothing_fresh_to_retire_only_removes_files(tmp_path: Path) -> None:
    class Keeping(Disk):
        def unlink(self, path: Path) -> None:
            raise OSError(5, "Input/output error")

    r = recorder(tmp_path)
    observe(r, 2)
    r.worker.release()
    with pytest.raises(OSError, match="Input"):
        state_dir.retire(tmp_path, Keeping())
    assert count(state_dir.read(tmp_path)) == 2
    assert state_dir.retire(tmp_path, Disk()) == 0
    assert count(state_dir.read(tmp_path)) == 2
    assert not state_dir.workers(tmp_path)


def test_a_listing_of_gauges_counters_and_empty_counters_folds(tmp_path: Path) -> None:
    counter = Meter("bytes", Kind.COUNTER, "bytes", ())
    r = recorder(tmp_path)
    r.record((r.series(counter), 5.0), (r.series(counter), 7.0), (r.series(SIZE), 1.0))
    r.worker.fold()
    r.record((r.series(counter), 1.0))
    found = columns.series(r.snapshot().columns)[Key("bytes", ())].data
    assert (found.count, found.total, found.buckets) == (3, 13, {})
    r.close()


def test_a_fork_replaces_every_lock_that_a_thread_may_have_held(tmp_path: Path) -> None:
    from flask_knitperf.recording import recorder as module

    r = recorder(tmp_path)
    observe(r, 1)
    worker = r.worker
    assert r._begin() is worker
    module._in_child()
    assert not r.begun
    worker.release()


def test_a_worker_in_memory_has_no_lock_to_let_go_of() -> None:
    r = recorder(None)
    observe(r, 1)
    r.worker.release()
    r.worker.publish()


def test_a_folder_that_is_no_run_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "something").mkdir()
    run = enter(tmp_path, "1")
    assert runs.runs(tmp_path) == [run]


def test_a_state_directory_is_used_where_nobody_has_an_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "getuid", raising=False)
    runs.prepare(tmp_path / "state")
    assert (tmp_path / "state").is_dir()


def test_a_thread_wants_a_core_while_it_has_one_and_while_it_waits_for_one() -> None:
    assert Clock(thread_ns=lambda: 5, run_queue_ns=lambda: 7).runnable_ns() == 12


@pytest.mark.skipif(
    not Path("/proc/thread-self/schedstat").exists(), reason="this system tells nothing of queues"
)
def test_the_time_a_thread_waited_for_a_core_never_shrinks_and_belongs_to_it() -> None:
    first = SYSTEM.run_queue_ns()
    told: list[int] = []
    thread = threading.Thread(target=lambda: told.append(SYSTEM.run_queue_ns()))
    thread.start()
    thread.join()
    assert SYSTEM.run_queue_ns() >= first >= 0
    assert told[0] >= 0


def test_where_the_system_does_not_tell_a_thread_never_waited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from flask_knitperf.core import clock

    def missing(*_: object) -> int:
        raise FileNotFoundError

    schedules = clock._Schedules()
    monkeypatch.setattr(os, "open", missing)
    schedules.renew()
    assert schedules.run_queue_ns() == 0


def test_a_spare_log_goes_when_its_worker_closes(tmp_path: Path) -> None:
    r = recorder(tmp_path)
    observe(r, 3000)
    r.worker.prepare_spare()
    name = r.worker.name
    r.close()
    assert state_dir.logs(tmp_path, name) == []
    assert count(state_dir.read(tmp_path)) == 3000


def test_a_lock_that_another_thread_held_is_free_in_a_forked_child() -> None:
    from flask_knitperf.core import locks

    lock = locks.Lock()
    with lock:
        locks.renew()
        with lock:
            pass
        lock._lock.acquire()


def test_a_directory_that_cannot_be_listed_shows_this_worker_alone(tmp_path: Path) -> None:
    import shutil

    r = recorder(tmp_path / "run")
    (tmp_path / "run").mkdir()
    observe(r, 2)
    shutil.rmtree(tmp_path / "run")
    found = r.snapshot()
    assert count(found) == 2
    assert "this worker alone is shown" in found.degraded[0]
    r.close()


def test_companions_begin_and_end_with_the_writer_and_are_forgotten_in_a_child() -> None:
    said: list[str] = []

    class BackgroundThread:
        def start(self) -> None:
            said.append("start")

        def stop(self) -> None:
            said.append("stop")

        def forget(self) -> None:
            said.append("forget")

    made = Recorder(lambda: (None, {}))
    made.background_threads.append(BackgroundThread())
    assert made.worker and said == ["start"]
    made.close()
    assert said == ["start", "stop"]
    made.after_fork()
    assert said == ["start", "stop", "forget"]


def test_threads_that_save_the_same_file_do_not_meet(tmp_path: Path) -> None:
    """A reader and the housekeeper may both save what is fresh."""
    failed: list[OSError] = []

    def save(text: bytes) -> None:
        try:
            for _ in range(200):
                Disk().save(tmp_path / "one", text)
        except OSError as error:
            failed.append(error)

    threads = [threading.Thread(target=save, args=(bytes([n]) * 50,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == [] and [path.name for path in tmp_path.iterdir()] == ["one"]
