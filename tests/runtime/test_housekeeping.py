"""The housekeeper: when it collects, what it expires, how it survives, and life without POSIX."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cachetools
import pytest

from flask_knitperf import KnitPerf, KnitPerfError
from flask_knitperf.caching.registry import Caches
from flask_knitperf.collectors.memory import process
from flask_knitperf.collectors.memory.process import MB, CollectionResult, GCScheduler
from flask_knitperf.metrics import columns
from flask_knitperf.metrics.catalogue import RELIEF
from flask_knitperf.recording.housekeeper import Housekeeper, Job
from flask_knitperf.recording.recorder import Recorder

ROOT = Path(__file__).parents[2]
ALWAYS, NEVER = 1, 1 << 60
HELPED = CollectionResult(
    before=900 * MB, collected=700 * MB, trimmed=600 * MB, objects=7, pause_ns=9_000_000
)
IN_VAIN = CollectionResult(
    before=900 * MB, collected=900 * MB, trimmed=899 * MB, objects=0, pause_ns=5_000_000
)


# -- when to collect -------------------------------------------------------------------------------


@pytest.fixture
def recorder(time: Any) -> Any:
    """Return a recorder in memory that lives by the fixture ``time``."""
    made = Recorder(lambda: (None, {}), clock=time.clock(), threaded=lambda: False)
    yield made
    made.close()


@pytest.fixture
def freed(monkeypatch: pytest.MonkeyPatch) -> list[CollectionResult]:
    """Have each collection report the first of these (the last one for ever)."""
    script = [HELPED]
    monkeypatch.setattr(
        process, "collect", lambda clock: script.pop(0) if len(script) > 1 else script[0]
    )
    return script


def collections(recorder: Any) -> list[dict[str, Any]]:
    notes = recorder.snapshot().totals.notes(RELIEF)
    return [
        {"step": note.key.step, **note.detail}
        for note in sorted(notes, key=lambda note: note.weight)
    ]


def test_below_the_threshold_nothing_is_collected(
    recorder: Any, freed: list[CollectionResult]
) -> None:
    assert GCScheduler(recorder, NEVER, 30).tick() is None


def test_above_the_threshold_it_collects(recorder: Any, freed: list[CollectionResult]) -> None:
    assert GCScheduler(recorder, ALWAYS, 30).tick() is HELPED


@pytest.mark.parametrize(("later", "again"), [(0, False), (29.9, False), (30, True), (500, True)])
def test_between_two_collections_it_lets_time_pass(
    recorder: Any, freed: list[CollectionResult], time: Any, later: float, again: bool
) -> None:
    collector = GCScheduler(recorder, ALWAYS, 30)
    collector.tick()
    time.pass_(later)
    assert (collector.tick() is not None) is again


def test_it_waits_for_a_moment_between_requests(
    recorder: Any, freed: list[CollectionResult]
) -> None:
    collector = GCScheduler(recorder, ALWAYS, 30)
    recorder.spans[1] = object()
    seen = [collector.tick() for _ in range(3)]
    recorder.spans.clear()
    assert (seen, collector.tick()) == ([None] * 3, HELPED)


def test_where_there_is_no_such_moment_it_collects_in_the_end(
    recorder: Any, freed: list[CollectionResult]
) -> None:
    collector = GCScheduler(recorder, ALWAYS, 30)
    recorder.spans[1] = object()
    seen = [collector.tick() for _ in range(6)]
    recorder.spans.clear()
    assert seen == [None] * 5 + [HELPED]


def test_it_waits_for_such_a_moment_each_time(
    recorder: Any, freed: list[CollectionResult], time: Any
) -> None:
    collector = GCScheduler(recorder, ALWAYS, 30)
    recorder.spans[1] = object()
    seen = []
    for _ in range(12):
        seen.append(collector.tick() is not None)
        time.pass_(60)
    recorder.spans.clear()
    assert seen == ([False] * 5 + [True]) * 2


def pauses(collector: Any, time: Any, number: int) -> list[float]:
    """Collect a number of times; return the seconds between one collection and the next."""
    found = []
    collector.tick()
    for _ in range(number):
        waited = 0.0
        while collector.tick() is None:
            time.pass_(1)
            waited += 1
        found.append(waited)
    return found


def test_while_it_does_not_help_it_waits_twice_as_long_each_time(
    recorder: Any, freed: list[CollectionResult], time: Any
) -> None:
    freed[:] = [IN_VAIN]
    assert pauses(GCScheduler(recorder, ALWAYS, 10), time, 4) == [20, 40, 80, 160]


def test_it_never_waits_longer_than_a_bound(
    recorder: Any, freed: list[CollectionResult], time: Any
) -> None:
    freed[:] = [IN_VAIN]
    assert pauses(GCScheduler(recorder, ALWAYS, 1), time, 10)[-3:] == [128] * 3


def test_once_it_helped_it_is_back_to_its_shortest_pause(
    recorder: Any, freed: list[CollectionResult], time: Any
) -> None:
    freed[:] = [IN_VAIN, IN_VAIN, HELPED]
    assert pauses(GCScheduler(recorder, ALWAYS, 10), time, 3) == [20, 40, 10]


@pytest.mark.parametrize(
    ("result", "said"), [(HELPED, "above the threshold"), (IN_VAIN, "so it waits longer")]
)
def test_a_collection_says_why_it_was_done_and_why_it_waits(
    recorder: Any, freed: list[CollectionResult], result: CollectionResult, said: str
) -> None:
    freed[:] = [result]
    GCScheduler(recorder, ALWAYS, 30).tick()
    (did,) = collections(recorder)
    assert did["why"].endswith(said) or said in did["why"]


def test_a_collection_reports_what_it_freed_and_when_the_next_may_come(
    recorder: Any, freed: list[CollectionResult]
) -> None:
    GCScheduler(recorder, ALWAYS, 30).tick()
    (did,) = collections(recorder)
    assert did == {
        "step": "collect", "dropped": 0, "trimmed": 100 * MB,
        "before": 900 * MB, "after": 600 * MB, "collected": 200 * MB, "objects": 7,
        "pause_ns": 9_000_000, "next_in_seconds": 30, "why": "above the threshold",
    }  # fmt: skip


def test_one_that_was_asked_for_is_done_at_once(
    recorder: Any, freed: list[CollectionResult]
) -> None:
    collector = GCScheduler(recorder, NEVER, 30)
    assert [collector.collect("requested") for _ in range(2)] == [HELPED] * 2


@pytest.mark.parametrize(
    ("trimmed", "helped"), [(990, True), (991, False), (1000, False), (1100, False), (0, True)]
)
def test_a_collection_helped_when_it_gave_back_one_per_cent(trimmed: int, helped: bool) -> None:
    assert CollectionResult(1000, 1000, trimmed, 0, 0).effective is helped


def test_a_real_collection_finds_unreachable_cycles(recorder: Any) -> None:
    class Knot:
        pass

    def tie() -> weakref.ref[Any]:
        one, two = Knot(), Knot()
        one.other, two.other = two, one  # type: ignore[attr-defined]
        return weakref.ref(one)

    gc.disable()
    try:
        lost = tie()
        freed = GCScheduler(recorder, ALWAYS, 30).collect("requested")
    finally:
        gc.enable()
    assert lost() is None and freed.objects >= 2 and freed.before > 0


def test_the_gauges_are_this_processs_memory(recorder: Any) -> None:
    GCScheduler(recorder, NEVER, 30).record_gauges()
    series = columns.series(recorder.snapshot().columns)
    found = {key.meter: max(s.gauge.values()) for key, s in series.items() if s.gauge}
    assert 0 < found["pss_bytes"] <= found["rss_bytes"] * 1.01 <= found["peak_bytes"] * 1.02


def test_the_trend_keeps_the_lowest_size_of_each_minute_of_an_hour(
    recorder: Any, time: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector = GCScheduler(recorder, NEVER, 30)
    time.epoch = 1_800_000_000.0 // 60 * 60
    for second in range(0, 70 * 60, 20):
        monkeypatch.setattr(process, "rss", lambda second=second: (100 + second % 60) * MB)
        collector.record_gauges()
        time.pass_(20)
    trend = recorder.worker.identity["trend"]
    assert (len(trend), {size for _, size in trend}) == (60, {100.0})


def test_giving_memory_back_needs_neither_malloc_trim_nor_arrow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process.ctypes, "CDLL", lambda name: object())
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    process.trim()


def test_giving_memory_back_empties_arrows_pool_where_it_is_in_use() -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    pyarrow.array(range(1000))
    process.trim()


# -- expiring caches -------------------------------------------------------------------------------


@pytest.fixture
def old() -> Any:
    """Return a cache whose one entry is past its time, and the lock that guards it."""
    moment = [0.0]
    cache = cachetools.TTLCache(10, ttl=5, timer=lambda: moment[0])
    cache["k"] = "v"
    moment[0] = 20.0
    return cache, threading.Lock(), moment


def still_there(cache: Any, moment: list[float]) -> bool:
    """Return whether the entry was kept, by looking at a time at which it was good."""
    moment[0] = 1.0
    return "k" in cache


def test_what_is_past_its_time_is_dropped(old: Any) -> None:
    cache, lock, moment = old
    caches = Caches()
    caches.register(cache, lock)
    assert (caches.expire(), caches.expired, still_there(cache, moment)) == (1, 1, False)


def test_a_cache_is_changed_only_while_its_lock_is_held() -> None:
    seen: list[str] = []

    class Lock:
        def __enter__(self) -> None:
            seen.append("taken")

        def __exit__(self, *_: Any) -> None:
            seen.append("given back")

    class Watched:
        def expire(self) -> list[Any]:
            seen.append("expired")
            return [1]

        def __len__(self) -> int:
            return 1

    watched = Watched()
    caches = Caches()
    caches.register(watched, Lock())
    caches.expire()
    assert seen == ["taken", "expired", "given back"]


@pytest.mark.parametrize("look", ["expire", "statistics"])
def test_a_lock_that_a_request_holds_on_to_stops_neither_housekeeper_nor_page(
    old: Any, look: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_knitperf.caching.registry._PATIENCE", 0.001)
    cache, lock, moment = old
    caches = Caches()
    caches.register(cache, lock)
    with lock:
        getattr(caches, look)()
    assert still_there(cache, moment) and not lock.locked()


@pytest.mark.parametrize("look", ["expire", "statistics"])
def test_a_cache_without_a_lock_is_never_changed(old: Any, look: str) -> None:
    cache, _, moment = old
    caches = Caches()
    caches.register(cache)
    getattr(caches, look)()
    assert still_there(cache, moment)


def test_a_cache_without_times_is_left_alone() -> None:
    cache: Any = cachetools.LRUCache(10)
    cache["k"] = "v"
    caches = Caches()
    caches.register(cache, threading.Lock())
    assert (caches.expire(), cache["k"]) == (0, "v")


def test_registering_keeps_no_cache_alive() -> None:
    cache: Any = cachetools.TTLCache(10, 5)
    caches, gone = Caches(), weakref.ref(cache)
    caches.register(cache, threading.Lock())
    del cache
    gc.collect()
    assert (gone(), caches.expire(), caches.statistics()) == (None, 0, [])


def test_caches_of_one_kind_are_told_apart_also_when_some_are_gone() -> None:
    caches = Caches()
    first, second = cachetools.LRUCache(1), cachetools.LRUCache(2)
    caches.register(first)
    caches.register(second)
    del first
    gc.collect()
    caches.statistics()
    third: Any = cachetools.LRUCache(3)
    caches.register(third)
    rows = caches.statistics()
    assert [row["max_size"] for row in rows] == [2, 3] and len({row["name"] for row in rows}) == 2
    assert second is not None


def test_a_cache_that_fails_keeps_no_other_from_being_expired(old: Any) -> None:
    cache, lock, moment = old

    class Broken:
        def expire(self) -> None:
            raise RuntimeError("incomplete yarn")

        def __len__(self) -> int:
            return 0

    broken, caches = Broken(), Caches()
    caches.register(broken, threading.Lock(), "broken")
    caches.register(cache, lock, "good")
    with pytest.raises(RuntimeError, match="incomplete yarn"):  # said once all had their turn
        caches.expire()
    assert not still_there(cache, moment)


def test_what_cannot_be_registered_is_an_error_that_says_so() -> None:
    with pytest.raises(KnitPerfError, match="dict"):
        KnitPerf().register_cache({})


def test_a_cache_may_be_registered_before_there_is_an_application(
    make_app: Callable[..., Any],
) -> None:
    perf, cache = KnitPerf(), cachetools.LRUCache(4)
    perf.register_cache(cache, threading.Lock(), "yarn")
    mill = make_app(perf=perf, TESTING=True)
    (row,) = mill.session.documents.memory()["caches"]
    assert (row["name"], row["max_size"]) == ("yarn", 4)


def test_the_housekeeper_expires_registered_caches(make_app: Callable[..., Any], old: Any) -> None:
    cache, lock, moment = old
    mill = make_app()
    mill.perf.register_cache(cache, lock)
    mill.get("/")
    turns = threading.Event()
    mill.session.recorder.every(0.01, turns.set)
    assert turns.wait(10)  # by then every job that is due at the start has had its turn
    mill.session.close()
    assert not still_there(cache, moment)


# -- the thread ------------------------------------------------------------------------------------


def test_a_job_that_fails_does_not_end_the_thread() -> None:
    failures: list[str] = []
    again = threading.Event()

    def fail() -> None:
        raise ValueError("no yarn")

    house = Housekeeper([Job(0.01, fail, name="fold")], lambda name, error: failures.append(name))
    house.start()
    house.add(Job(0.01, lambda: again.set() if failures else None))
    worked = again.wait(10)
    house.stop()
    assert worked and failures[0] == "fold"


def test_a_job_that_keeps_failing_comes_ever_more_rarely() -> None:
    seen: list[float] = []
    now = 0.0

    def fail() -> None:
        seen.append(now)
        raise ValueError

    house = Housekeeper([Job(1.0, fail)], lambda name, error: None)
    while now < 70:
        house.tick(now)
        now += 1.0
    assert seen == [0, 2, 6, 14, 30, 62]


def test_a_failing_job_is_said_in_the_report(
    make_app: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    mill = make_app()
    told = threading.Event()
    failed = mill.session.recorder.failed

    def note(part: str, error: BaseException) -> None:
        failed(part, error)
        told.set()

    def fail() -> None:
        raise ValueError("no yarn")

    monkeypatch.setattr(mill.session.recorder, "failed", note)
    mill.session.recorder.every(0.01, fail)
    mill.get("/")
    assert told.wait(10) and "fail failed" in mill.degraded()


def test_stopping_ends_a_thread_that_waits() -> None:
    before = set(threading.enumerate())
    house = Housekeeper([Job(3600.0, lambda: None)], lambda name, error: None)
    house.start()
    house.stop(10)
    assert not set(threading.enumerate()) - before


def test_stopping_does_not_wait_for_a_job_that_hangs() -> None:
    begun, go = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        go.wait(60)

    before = set(threading.enumerate())
    house = Housekeeper([Job(1.0, hang)], lambda name, error: None)
    house.start()
    begun.wait(10)
    house.stop(0.05)
    hung = set(threading.enumerate()) - before
    go.set()
    for thread in hung:
        thread.join(10)
    assert len(hung) == 1


def test_a_job_that_outlives_its_session_does_not_begin_it_anew(mill: Any) -> None:
    begun, go = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        go.wait(60)
        mill.session.jobs.publish_heartbeat()

    mill.session.recorder.every(1.0, hang)
    mill.get("/")
    begun.wait(10)
    hung = [t for t in threading.enumerate() if t.name.startswith("flask_knitperf")]
    mill.session.close()
    go.set()
    for thread in hung:
        thread.join(10)
    assert (mill.session.recorder.has_worker, mill.session.recorder.failures) == (False, {})


def test_a_process_ends_though_a_job_hangs(tmp_path: Path) -> None:
    code = """
import sys, threading
from flask import Flask
from flask_knitperf import KnitPerf
app = Flask("mill")
app.config["KNITPERF_STATE_DIR"] = sys.argv[1]
KnitPerf(app)
begun = threading.Event()
def hang():
    begun.set()
    threading.Event().wait()
app.extensions["knitperf"].recorder.every(1.0, hang)
app.test_client().get("/")
assert begun.wait(10)
print("ends")
"""
    done = run([code, str(tmp_path / "state")])
    assert (done.returncode, done.stdout.strip()) == (0, "ends")


# -- without what only POSIX has ---------------------------------------------------------------------

# What Windows lacks is taken away before anything of ours is loaded. Its lock is played by one of
# the kernel's that, like it, belongs to an open file and covers a byte.
WITHOUT_POSIX = """
import ctypes, fcntl, os, struct, sys, types
import flask, flask.testing, numpy, psutil, pytest, werkzeug.serving, xml.sax
def locking(descriptor, mode, count):
    start = os.lseek(descriptor, 0, os.SEEK_CUR)
    asked = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, start, count, 0)
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, asked)
sys.modules["msvcrt"] = types.SimpleNamespace(LK_NBLCK=2, locking=locking)
sys.modules["fcntl"] = None
plain_library, ctypes.CDLL = ctypes.CDLL, lambda *_, **__: object()
for name in ("fork", "register_at_fork", "posix_fallocate"):
    delattr(os, name)
sys.platform = "win32"
import flask_knitperf.storage.atomic_files
sys.platform = "linux"
assert flask_knitperf.storage.atomic_files._fcntl is None
"""
linux_locks = pytest.mark.skipif(
    sys.platform != "linux", reason="plays Windows' locks with those of Linux"
)


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTEST_ADDOPTS": "", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-c", *arguments], cwd=ROOT, env=environ, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip


@linux_locks
def test_an_application_runs_where_there_is_no_posix(tmp_path: Path) -> None:
    code = (
        WITHOUT_POSIX
        + """
from flask import Flask
from flask_knitperf import KnitPerf
from flask_knitperf.storage import state_dir
def make():
    app = Flask("mill")
    app.config["KNITPERF_STATE_DIR"] = sys.argv[1]
    KnitPerf(app)
    return app, app.extensions["knitperf"]
(one, first), (two, second) = make(), make()
for app in (one, two, two):
    app.test_client().get("/")
for session in (first, second):
    collector = session.memory_jobs.collector
    session.jobs.fold(), session.jobs.publish_heartbeat()
    collector.collect("requested"), collector.record_gauges()
run = first.recorder.worker.run
assert sorted(w["alive"] for w in state_dir.read(run).workers) == [True, True]
first.close()
assert sorted(w["alive"] for w in state_dir.read(run).workers) == [False, True]
second.jobs.publish_heartbeat()
assert len(state_dir.read(run).workers) == 1
report = second.documents.report("run")
print(sum(row["count"] for row in report["endpoints"]), report["self"])
second.close()
"""
    )
    done = run([code, str(tmp_path / "state")])
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("3 ") and "'degraded': []" in done.stdout


@linux_locks
@pytest.mark.parametrize(
    "chosen",
    [
        ["tests/instrumentation/test_wsgi.py", "-k", "not ten_thousand and not three_thousand"],
        ["tests/storage/test_crash_safety.py"],
        ["tests/test_extension.py", "-k",
         "window or release or runs_are_kept or command or clos or threads or memory or damaged"],
    ],
    ids=lambda chosen: Path(chosen[0]).stem,
)  # fmt: skip
def test_the_suites_key_parts_pass_where_there_is_no_posix(chosen: list[str]) -> None:
    code = WITHOUT_POSIX + "raise SystemExit(pytest.main(sys.argv[1:]))"
    done = run([code, "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *chosen])
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
