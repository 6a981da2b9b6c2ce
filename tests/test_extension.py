"""The extension in an application: set up once, starts late, survives everything, harms nothing."""

from __future__ import annotations

import gc
import json
import logging
import os
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Blueprint, Flask, Response
from flask.views import MethodView

from flask_knitperf import ConfigurationError, KnitPerf, KnitPerfError
from flask_knitperf.metrics import columns
from flask_knitperf.recording.gc_pauses import WATCH
from flask_knitperf.reports.offline import Offline
from flask_knitperf.storage import slices, state_dir
from flask_knitperf.storage.commands import outcome

ROOT = Path(__file__).parents[1]
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
needs_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become another user"
)


def counts(mill: Any, window: str = "run") -> dict[str, int]:
    return {row["endpoint"]: row["count"] for row in mill.report(window)["endpoints"]}


def threads_of_ours() -> list[str]:
    return sorted(t.name for t in threading.enumerate() if t.name.startswith("flask_knitperf"))


SAMPLER = ["flask_knitperf sampler"] if sys.version_info >= (3, 12) else []
BOTH = ["flask_knitperf", *SAMPLER]


def run_of(mill: Any) -> Path:
    found: Path = mill.session.recorder.worker.run
    return found


def without_thread(mill: Any, clock: Any = None) -> Any:
    """Have an application on disk do its housekeeping only when a test says so."""
    mill.session.recorder._threaded = lambda: False
    if clock is not None:
        mill.session.recorder.clock = clock
    return mill


@pytest.fixture
def still(make_app: Callable[..., Any]) -> Any:
    """Return an application on disk without a housekeeper."""
    return without_thread(make_app())


# -- setting up ------------------------------------------------------------------------------------


def test_setting_up_twice_changes_nothing(quiet: Any) -> None:
    before = (quiet.app.wsgi_app, quiet.session, list(quiet.app.url_map.iter_rules()))
    quiet.perf.init_app(quiet.app)
    assert before == (quiet.app.wsgi_app, quiet.session, list(quiet.app.url_map.iter_rules()))


def test_a_second_extension_on_one_application_changes_nothing(quiet: Any) -> None:
    KnitPerf(quiet.app)
    quiet.get("/")
    assert counts(quiet) == {"index": 1}


def test_one_extension_serves_several_applications(make_app: Callable[..., Any]) -> None:
    perf = KnitPerf()
    one, two = (make_app(name=name, perf=perf, TESTING=True) for name in ("one", "two"))
    one.get("/"), two.get("/"), two.get("/")
    assert (counts(one), counts(two)) == ({"index": 1}, {"index": 2})


def test_the_extension_holds_no_application(make_app: Callable[..., Any]) -> None:
    perf = KnitPerf()
    mill = make_app(perf=perf, TESTING=True)
    assert not [value for value in vars(perf).values() if value in (mill.app, mill.session)]


def test_what_is_registered_after_the_extension_is_measured(quiet: Any, time: Any) -> None:
    quiet.session.recorder.clock = time.clock()
    shop = Blueprint("shop", __name__)
    shop.add_url_rule("/open", "open", lambda: "x")
    quiet.app.before_request(lambda: time.pass_(0.01))
    quiet.app.register_blueprint(shop, url_prefix="/shop")
    quiet.get("/shop/open")
    assert quiet.row("shop.open")["mean_ms"] == 10 and len(quiet.parts("shop.open")) == 1


def test_middleware_that_is_wrapped_around_later_still_works(quiet: Any) -> None:
    inner = quiet.app.wsgi_app
    quiet.app.wsgi_app = inner
    assert quiet.get("/").body == b"ok" and counts(quiet) == {"index": 1}


BAD: list[tuple[dict[str, Any], str]] = [
    ({"KNITPERF_SLOW_MSEC": 1}, "KNITPERF_SLOW_MSEC.*did you mean KNITPERF_SLOW_MS?"),
    ({"KNITPERF_STATEDIR": "x"}, "did you mean KNITPERF_STATE_DIR?"),
    ({"KNITPERF_": 1}, "there is no such option"),
    ({"KNITPERF_SLOW_MS": "500"}, "KNITPERF_SLOW_MS = '500' cannot be used: must be a number"),
    ({"KNITPERF_SLOW_MS": -1}, "KNITPERF_SLOW_MS = -1 cannot be used"),
    ({"KNITPERF_SLOW_MS": True}, "KNITPERF_SLOW_MS = True"),
    ({"KNITPERF_SLOW_MS": None}, "KNITPERF_SLOW_MS = None"),
    ({"KNITPERF_SLOW_MS": float("nan")}, "KNITPERF_SLOW_MS = nan"),
    ({"KNITPERF_SLOW_MS": 100, "KNITPERF_MODERATE_MS": 200}, "must not exceed KNITPERF_SLOW_MS"),
    ({"KNITPERF_MIN_SUCCESS_RATE": 95}, "must be a number from 0 to 1"),
    ({"KNITPERF_VARIANCE_RATIO": []}, "KNITPERF_VARIANCE_RATIO"),
    ({"KNITPERF_ENABLED": "yes"}, "must be True or False"),
    ({"KNITPERF_ENABLED": 1}, "must be True or False"),
    ({"KNITPERF_ENDPOINTS": []}, "must be a mapping"),
    ({"KNITPERF_ENDPOINTS": {"index": 5}}, r"KNITPERF_ENDPOINTS\['index'\]"),
    ({"KNITPERF_ENDPOINTS": {"index": {"slow": 5}}}, "did you mean slow_ms?"),
    ({"KNITPERF_ENDPOINTS": {"index": {"slow_ms": "5"}}}, "must be a number"),
    ({"KNITPERF_IGNORE_PATHS": "/health"}, "must be a list of paths"),
    ({"KNITPERF_IGNORE_PATHS": ["health"]}, "start with /"),
    ({"KNITPERF_URL_PREFIX": "perf"}, "must be a path such as /perf"),
    ({"KNITPERF_URL_PREFIX": "/perf/"}, "without a slash at its end"),
    ({"KNITPERF_URL_PREFIX": "/"}, "must be a path such as /perf"),
    ({"KNITPERF_URL_PREFIX": ""}, "must be a path such as /perf"),
    ({"KNITPERF_URL_PREFIX": "/<perf>"}, "must be a path such as /perf"),
    ({"KNITPERF_ACCESS": "admin"}, "must be a function"),
    ({"KNITPERF_RELEASE": 7}, "must be a text"),
    ({"KNITPERF_STATE_DIR": 7}, "must be a path"),
    ({"KNITPERF_RUNS_KEPT": 0}, "whole number from 1"),
    ({"KNITPERF_RUNS_KEPT": 2.5}, "whole number"),
    ({"KNITPERF_CPU_SAMPLE": 0}, "whole number from 1"),
    ({"KNITPERF_FOLD_INTERVAL_S": 0}, "must be a number from 0.1"),
    ({"KNITPERF_LOG_BYTES": 70_000}, "multiple of 4096"),
    ({"KNITPERF_CLEANUP_INTERVAL_S": 0}, "must be a number of 1 or more"),
    ({"KNITPERF_GC_THRESHOLD_MB": "500MB"}, "must be a number"),
]


@pytest.mark.parametrize(("config", "said"), BAD, ids=[str(config) for config, _ in BAD])
def test_a_setting_that_cannot_be_used_is_an_error_that_says_what_may_be(
    make_app: Callable[..., Any], config: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        make_app(**config)


def test_an_application_whose_settings_are_bad_is_left_as_it_was(tmp_path: Path) -> None:
    app = Flask("bad")
    app.config["KNITPERF_SLOW_MS"] = "x"
    before = (app.wsgi_app, dict(app.extensions), dict(app.blueprints))
    with pytest.raises(ConfigurationError):
        KnitPerf(app)
    assert before == (app.wsgi_app, dict(app.extensions), dict(app.blueprints))


@pytest.mark.parametrize(
    "config",
    [{"KNITPERF_ACCESS_TOKEN": "hunter2"}, {"KNITPERF_ACCESS_TOKENS": "hunter2-and-more-of-it"},
     {"KNITPERF_TOKEN": "hunter2"}, {"KNITPERF_ACCESS_TOKEN": ["hunter2"]}],
)  # fmt: skip
def test_a_token_is_never_shown_in_an_error(
    make_app: Callable[..., Any], config: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make_app(**config)
    assert "hunter2" not in f"{caught.value} {caught.value!r} {vars(caught.value)}"


def test_a_token_is_never_shown_with_the_settings(make_app: Callable[..., Any]) -> None:
    mill = make_app(TESTING=True, KNITPERF_ACCESS_TOKEN="hunter2-and-more-of-it")
    shown = f"{mill.session.settings} {json.dumps(mill.report())}"
    assert "hunter2" not in shown


def test_a_token_is_never_written_to_the_state_directory(
    make_app: Callable[..., Any], tmp_path: Path
) -> None:
    mill = make_app(KNITPERF_ACCESS_TOKEN="hunter2-and-more-of-it")
    mill.get("/")
    mill.session.close()
    found = [
        p for p in (tmp_path / "state").rglob("*") if p.is_file() and b"hunter2" in p.read_bytes()
    ]
    assert found == []


def test_other_peoples_settings_are_left_alone(make_app: Callable[..., Any]) -> None:
    assert make_app(TESTING=True, KNITTING=1, MY_KNITPERF_X=2).get("/").code == 200


# -- thresholds ------------------------------------------------------------------------------------


def thresholds(mill: Any, endpoint: str) -> dict[str, float]:
    found: dict[str, float] = mill.row(endpoint)["thresholds"]
    return found


def test_an_endpoint_has_the_global_thresholds_by_default(quiet: Any) -> None:
    quiet.get("/")
    assert thresholds(quiet, "index") == {"slow_ms": 500, "moderate_ms": 200}


def test_a_view_gives_its_endpoint_thresholds_of_its_own(quiet: Any) -> None:
    @quiet.app.get("/it", endpoint="it")
    @quiet.perf.budget(slow_ms=50, moderate_ms=20)
    def it() -> str:
        return "x"

    quiet.get("/it")
    assert thresholds(quiet, "it") == {"slow_ms": 50, "moderate_ms": 20}


def test_a_view_class_gives_its_endpoint_thresholds_of_its_own(quiet: Any) -> None:
    @quiet.perf.budget(p95_ms=20)
    class It(MethodView):
        def get(self) -> str:
            return "x"

    quiet.app.add_url_rule("/it", view_func=It.as_view("it"))
    quiet.get("/it")
    assert thresholds(quiet, "it")["moderate_ms"] == 20


def test_the_configuration_wins_over_the_code_threshold_by_threshold(
    make_app: Callable[..., Any],
) -> None:
    mill = make_app(TESTING=True, KNITPERF_ENDPOINTS={"it": {"slow_ms": 900}})
    mill.app.get("/it", endpoint="it")(mill.perf.budget(slow_ms=50, moderate_ms=20)(lambda: "x"))
    mill.get("/it")
    assert thresholds(mill, "it") == {"slow_ms": 900, "moderate_ms": 20}


@pytest.mark.parametrize(
    "given", [{"p95": 5}, {"slow_ms": "5"}, {"slow_ms": -5}, {"min_success_rate": 95}]
)
def test_a_budget_that_cannot_be_used_is_an_error_where_it_stands(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        KnitPerf().budget(**given)


def test_a_budget_does_not_replace_its_view() -> None:
    def view() -> str:
        return "x"

    assert KnitPerf().budget(slow_ms=5)(view) is view


def test_thresholds_for_an_endpoint_that_does_not_exist_are_said(
    make_app: Callable[..., Any],
) -> None:
    mill = make_app(TESTING=True, KNITPERF_ENDPOINTS={"indx": {"slow_ms": 900}})
    assert "thresholds are given for 'indx'" in mill.degraded()


def test_a_verdict_follows_the_endpoints_own_threshold(
    make_app: Callable[..., Any], time: Any
) -> None:
    mill = make_app(TESTING=True, KNITPERF_ENDPOINTS={"patient": {"slow_ms": 5000, "p95_ms": 4000}})
    mill.session.recorder.clock = time.clock()
    for name in ("patient", "hasty"):
        mill.app.add_url_rule(f"/{name}", name, lambda: time.pass_(1) or "x")
    for _ in range(20):
        mill.get("/patient"), mill.get("/hasty")
    assert [finding["endpoint"] for finding in mill.report()["bottlenecks"]] == ["hasty"]


# -- starting --------------------------------------------------------------------------------------


def test_nothing_starts_before_the_first_request(
    make_app: Callable[..., Any], tmp_path: Path
) -> None:
    mill = make_app()
    started = (threads_of_ours(), WATCH in gc.callbacks, (tmp_path / "state").exists())
    assert (started, mill.session.recorder.has_worker) == (([], False, False), False)


def test_a_stranger_at_our_door_starts_nothing(make_app: Callable[..., Any]) -> None:
    mill = make_app(KNITPERF_ACCESS_TOKEN="a-long-enough-token")
    mill.get("/perf/report"), mill.get("/perf/sign-in")
    assert not mill.session.recorder.has_worker


def test_an_ignored_path_starts_nothing(make_app: Callable[..., Any]) -> None:
    mill = make_app(KNITPERF_IGNORE_PATHS=["/"])
    mill.get("/")
    assert not mill.session.recorder.has_worker


def test_the_first_request_starts_a_housekeeper_and_a_sampler(mill: Any) -> None:
    mill.get("/"), mill.get("/")
    assert threads_of_ours() == BOTH


def test_testing_keeps_everything_in_memory(quiet: Any, tmp_path: Path) -> None:
    quiet.get("/")
    assert (threads_of_ours(), (tmp_path / "state").exists()) == ([], False)
    assert counts(quiet) == {"index": 1}


def test_testing_that_is_switched_on_after_setting_up_counts(
    make_app: Callable[..., Any], tmp_path: Path
) -> None:
    mill = make_app()
    mill.app.testing = True
    mill.get("/")
    assert (threads_of_ours(), (tmp_path / "state").exists()) == ([], False)


def test_the_state_directory_is_private(mill: Any) -> None:
    mill.get("/")
    modes = [stat.S_IMODE(p.stat().st_mode) for p in (run_of(mill).parent, run_of(mill))]
    assert modes == [0o700, 0o700]


def test_files_in_the_state_directory_are_private(still: Any) -> None:
    still.get("/")
    still.session.jobs.fold()
    run = run_of(still)
    still.session.close()  # without a housekeeper no file comes and goes while they are looked at
    files = [path for path in run.rglob("*") if path.is_file()]
    assert files and {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in files} == {0}


def test_closing_lets_go_of_every_file_of_the_state_directory(mill: Any, tmp_path: Path) -> None:
    mill.get("/")
    mill.session.close()
    fds = Path("/proc/self/fd")
    links = [os.readlink(fd) for fd in fds.iterdir() if fd.is_symlink()] if fds.is_dir() else []
    maps = Path("/proc/self/maps").read_text() if fds.is_dir() else ""
    assert not [link for link in links if str(tmp_path) in link] and str(tmp_path) not in maps


def test_closing_twice_is_closing_once(mill: Any) -> None:
    mill.get("/")
    mill.session.close()
    mill.session.close()
    assert WATCH not in gc.callbacks and threads_of_ours() == []


def test_closing_what_never_began_does_nothing(mill: Any, tmp_path: Path) -> None:
    mill.session.close()
    assert not (tmp_path / "state").exists()


def test_a_request_after_closing_begins_anew_in_the_same_run(mill: Any) -> None:
    mill.get("/")
    mill.session.close()
    mill.get("/")
    assert counts(mill) == {"index": 2}


def test_a_request_that_is_under_way_while_the_session_closes_is_answered(mill: Any) -> None:
    mill.app.get("/it", endpoint="it")(lambda: mill.session.close() or "x")
    assert (mill.get("/it").body, mill.degraded()) == (b"x", "")


# -- several applications --------------------------------------------------------------------------


@pytest.fixture
def own_temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give this test a temporary directory of its own, for default state directories."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_applications_of_one_process_have_state_directories_of_their_own(
    make_app: Callable[..., Any], own_temp: Path
) -> None:
    mills = [make_app(name=name, KNITPERF_STATE_DIR=None) for name in ("front", "back")]
    for number, mill in enumerate(mills):
        for _ in range(number + 1):
            mill.get("/")
    assert [counts(mill) for mill in mills] == [{"index": 1}, {"index": 2}]
    assert len(list(own_temp.iterdir())) == 2


def test_the_default_state_directory_is_private_and_below_the_temporary_one(
    make_app: Callable[..., Any], own_temp: Path
) -> None:
    make_app(KNITPERF_STATE_DIR=None).get("/")
    (folder,) = own_temp.iterdir()
    assert folder.name.startswith("flask_knitperf-")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_without_a_current_application_the_only_one_is_meant(quiet: Any) -> None:
    assert quiet.perf.session() is quiet.session


def test_without_a_current_application_two_are_too_many(make_app: Callable[..., Any]) -> None:
    one = make_app(name="one", TESTING=True)
    make_app(name="two", perf=one.perf, TESTING=True)
    with pytest.raises(KnitPerfError, match="push an application context"):
        one.perf.session()


def test_without_a_current_application_each_extension_means_its_own(
    make_app: Callable[..., Any],
) -> None:
    one, two = make_app(name="one", TESTING=True), make_app(name="two", TESTING=True)
    assert (one.perf.session(), two.perf.session()) == (one.session, two.session)


def test_the_current_application_is_meant(make_app: Callable[..., Any]) -> None:
    one, two = make_app(name="one", TESTING=True), make_app(name="two", TESTING=True)
    with two.app.app_context():
        assert one.perf.session() is two.session


def test_an_application_without_the_extension_is_said_to_have_none(quiet: Any) -> None:
    with Flask("other").app_context(), pytest.raises(KnitPerfError, match="no application"):
        quiet.perf.report()


# -- forks -----------------------------------------------------------------------------------------


def in_child(work: Callable[[], Any]) -> Any:
    """Fork, do something in the child, and return what it returned there."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(out)
            try:
                said = {"value": work()}
            except BaseException as error:
                said = {"error": repr(error)}
            os.write(into, json.dumps(said).encode())
        finally:
            os._exit(0)
    os.close(into)
    with os.fdopen(out, "rb") as file:
        heard = json.loads(file.read() or b'{"error": "the child said nothing"}')
    os.waitpid(child, 0)
    assert "error" not in heard, heard
    return heard["value"]


@needs_fork
def test_a_child_that_was_forked_before_the_first_request_records(mill: Any) -> None:
    assert in_child(lambda: [mill.get("/").code, counts(mill)]) == [200, {"index": 1}]
    assert not mill.session.recorder.has_worker


@needs_fork
def test_a_child_records_as_a_worker_of_its_own(mill: Any) -> None:
    def work() -> list[Any]:
        mill.get("/"), mill.get("/")
        return [mill.session.recorder.worker.name, threads_of_ours(), counts(mill)]

    mill.get("/")
    name, threads, seen = in_child(work)
    assert name != mill.session.recorder.worker.name and (threads, seen) == (BOTH, {"index": 3})


@needs_fork
def test_a_parent_goes_on_as_before_after_a_fork(mill: Any) -> None:
    mill.get("/")
    worker = mill.session.recorder.worker
    in_child(lambda: mill.get("/").code)
    mill.get("/")
    assert mill.session.recorder.worker is worker and counts(mill) == {"index": 3}


@needs_fork
def test_a_child_that_does_nothing_leaves_no_trace(mill: Any) -> None:
    mill.get("/")
    before = state_dir.workers(run_of(mill))
    in_child(lambda: None)
    assert state_dir.workers(run_of(mill)) == before and counts(mill) == {"index": 1}


@needs_fork
def test_a_parent_is_not_alive_because_its_child_is(mill: Any) -> None:
    mill.get("/")
    run, name = run_of(mill), mill.session.recorder.worker.name
    out, into = os.pipe()
    ready, go = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(into, b"x")  # by now it let go of what its parent holds
        os.read(ready, 1)
        os._exit(0)
    os.read(out, 1)
    mill.session.close()
    locked = state_dir.is_locked(run / f"{name}.lock")
    os.write(go, b"x")
    os.waitpid(child, 0)
    for fd in (out, into, ready, go):
        os.close(fd)
    assert not locked


@needs_fork
def test_requests_that_were_pending_at_a_fork_belong_to_the_parent(mill: Any) -> None:
    mill.app.get("/rows", endpoint="rows")(lambda: Response(iter(["a", "b"])))
    from .conftest import start_wsgi

    _, body = start_wsgi(mill.app.wsgi_app, "/rows")
    next(iter(body))

    def work() -> list[Any]:
        list(body)
        body.close()
        mill.get("/")
        return [len(mill.session.recorder.spans), counts(mill)]

    assert in_child(work) == [0, {"index": 1}]
    list(body)
    body.close()
    assert counts(mill) == {"index": 1, "rows": 1}


@needs_fork
def test_a_fork_in_the_middle_of_a_view_counts_the_request_once(mill: Any) -> None:
    @mill.app.get("/it", endpoint="it")
    def it() -> str:
        return str(in_child(lambda: mill.get("/").code))

    assert mill.get("/it").body == b"200"
    assert counts(mill) == {"it": 1, "index": 1}


@needs_fork
def test_a_child_that_finishes_its_parents_request_does_not_count_it_again(mill: Any) -> None:
    children: list[int] = []

    @mill.app.get("/it", endpoint="it")
    def it() -> str:
        children.append(os.fork())
        return "x"

    body = mill.get("/it").body
    if children[0] == 0:
        os._exit(0 if body == b"x" else 1)
    _, status = os.waitpid(children[0], 0)
    assert (status, counts(mill)) == (0, {"it": 1})


@needs_fork
def test_a_grandchild_records_too(mill: Any) -> None:
    mill.get("/")
    seen = in_child(lambda: [mill.get("/").code, in_child(lambda: [mill.get("/").code])])
    assert (seen, counts(mill)) == ([200, [200]], {"index": 3})


@needs_fork
def test_a_child_times_each_collection_once(mill: Any) -> None:
    mill.get("/")
    assert in_child(lambda: [mill.get("/").code, gc.callbacks.count(WATCH)]) == [200, 1]


@needs_fork
def test_a_fork_while_another_thread_holds_a_lock_of_ours_does_not_stop_the_child(
    make_app: Callable[..., Any], time: Any
) -> None:
    mill = without_thread(make_app(KNITPERF_ACCESS_TOKEN="a-long-enough-token"), time.clock())
    mill.app.get("/slow", endpoint="slow")(lambda: time.pass_(3) or "x")
    mill.get("/slow"), mill.get("/")

    def use() -> None:
        mill.get("/slow"), mill.get("/")
        mill.send("POST", "/perf/sign-in")
        mill.get("/perf/report", HTTP_AUTHORIZATION="Bearer a-long-enough-token")
        mill.session.profile.watch(), mill.session.caches.expire(), mill.session.close()

    def work() -> bool:
        thread = threading.Thread(target=use, daemon=True)
        thread.start()
        thread.join(2)
        return thread.is_alive()

    blocked = []
    locks = locks_of(mill)
    for name, lock in locks.items():
        with lock:
            if in_child(work):
                blocked.append(name)
    assert len(locks) >= 6 and blocked == []


def locks_of(mill: Any) -> dict[str, Any]:
    """Return every lock of ours that an application reaches, with the names that lead to it."""
    kinds = (type(threading.Lock()), type(threading.RLock()))
    seen: set[int] = set()
    found: dict[str, Any] = {}
    todo: list[tuple[str, Any]] = [
        ("session", mill.session),
        ("wsgi", mill.app.wsgi_app),
        ("gc", WATCH),
    ]
    while todo:
        name, thing = todo.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, kinds):
            found[name] = thing
            continue
        inside = dict(getattr(thing, "__dict__", {}))
        for number, cell in enumerate(getattr(thing, "__closure__", None) or ()):
            inside[f"<{number}>"] = cell.cell_contents
        for key, value in inside.items():
            ours = type(value).__module__.startswith("flask_knitperf")
            of_ours = getattr(value, "__module__", "") and str(value.__module__).startswith(
                "flask_knitperf"
            )
            if ours or of_ours or isinstance(value, kinds):
                todo.append((f"{name}.{key}", value))
    return found


# -- many threads ----------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["quiet", "mill"])
def test_forty_threads_are_counted_exactly(request: pytest.FixtureRequest, where: str) -> None:
    mill = request.getfixturevalue(where)
    mill.app.get("/rows", endpoint="rows")(lambda: Response(iter(["a", "b"])))
    mill.app.get("/it", endpoint="it")(mill.perf.profile(lambda: "x"))
    start = threading.Barrier(40)

    def hammer() -> None:
        start.wait(20)
        for _ in range(30):
            for path in ("/", "/rows", "/it", "/nowhere"):
                mill.get(path)

    threads = [threading.Thread(target=hammer) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts(mill) == dict.fromkeys(("index", "rows", "it", "<unmatched>"), 1200)
    (function,) = mill.report()["functions"]
    assert (function["count"], mill.report()["self"]["degraded"]) == (1200, [])


def test_threads_that_begin_at_once_share_one_worker(mill: Any) -> None:
    start = threading.Barrier(20)

    def begin() -> None:
        start.wait(20)
        mill.get("/")

    threads = [threading.Thread(target=begin) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (threads_of_ours(), len(state_dir.workers(run_of(mill))), counts(mill)) == (
        BOTH, 1, {"index": 20}
    )  # fmt: skip


def test_many_small_logs_lose_nothing(make_app: Callable[..., Any]) -> None:
    mill = make_app(KNITPERF_LOG_BYTES=65536, KNITPERF_FOLD_INTERVAL_S=0.1)
    for _ in range(3000):
        mill.get("/")
    assert counts(mill) == {"index": 3000}


# -- windows and commands --------------------------------------------------------------------------


def test_two_windows_of_one_run_count_what_falls_into_them(
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


def test_a_window_says_from_when_to_when_it_counts(make_app: Callable[..., Any], time: Any) -> None:
    mill = without_thread(make_app(), time.clock())
    mill.get("/")
    mill.session.jobs.fold()
    time.pass_(600)
    mill.session.jobs.fold()
    window = mill.report("5m")["window"]
    assert window["from"] < window["to"] == mill.report("5m")["generated_at"]


def test_a_new_release_begins_a_new_run_and_the_old_one_is_the_previous(
    make_app: Callable[..., Any],
) -> None:
    old = make_app(KNITPERF_RELEASE="1.0")
    old.get("/")
    old.session.close()
    new = make_app(KNITPERF_RELEASE="1.1")
    new.get("/"), new.get("/")
    assert (counts(new, "previous"), counts(new)) == ({"index": 1}, {"index": 2})


def test_only_the_last_runs_are_kept(make_app: Callable[..., Any], time: Any) -> None:
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


@pytest.fixture
def pair(make_app: Callable[..., Any]) -> tuple[Any, Any]:
    """Return two workers of one application, without threads."""
    one, two = without_thread(make_app()), without_thread(make_app())
    one.get("/"), two.get("/"), two.get("/")
    return one, two


def obeyed(pair: tuple[Any, Any], name: str) -> Any:
    command = pair[0].session.commands.submit(name)
    for mill in pair:
        mill.session.commands.process()
    return outcome(run_of(pair[0]), command)


@pytest.mark.parametrize("name", ["clear", "collect"])
def test_a_command_is_acknowledged_by_every_worker(pair: tuple[Any, Any], name: str) -> None:
    done = obeyed(pair, name)
    assert set(done.done) == {mill.session.recorder.worker.name for mill in pair}
    assert not done.failed


def test_clearing_begins_all_windows_anew_in_every_worker(pair: tuple[Any, Any]) -> None:
    obeyed(pair, "clear")
    pair[1].get("/")
    assert [counts(mill, name) for mill in pair for name in ("5m", "run")] == [{"index": 1}] * 4


def test_collecting_is_reported_for_every_worker(pair: tuple[Any, Any]) -> None:
    obeyed(pair, "collect")
    did = pair[0].session.documents.memory()["housekeeper"]
    assert {row["worker"] for row in did} == {m.session.recorder.worker.name for m in pair}
    assert {row["why"].partition(";")[0] for row in did} == {"requested"}


def test_a_command_is_done_once(pair: tuple[Any, Any]) -> None:
    obeyed(pair, "collect")
    for mill in pair:
        mill.session.commands.process()
    assert len(pair[0].session.documents.memory()["housekeeper"]) == 2


def test_a_worker_that_fails_to_obey_says_why(
    pair: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(why: str) -> None:
        raise RuntimeError("no memory left to look at")

    monkeypatch.setattr(pair[1].session.memory_jobs.collector, "collect", fail)
    done = obeyed(pair, "collect")
    assert len(done.done) == 1 and list(done.failed.values()) == ["no memory left to look at"]


def test_what_was_asked_before_a_worker_began_does_not_concern_it(
    make_app: Callable[..., Any], pair: tuple[Any, Any]
) -> None:
    command = pair[0].session.commands.submit("collect")
    late = without_thread(make_app())
    late.get("/")
    late.session.commands.process(), late.session.commands.process()
    assert outcome(run_of(late), command).done == ()


def test_garbage_among_the_commands_is_skipped(pair: tuple[Any, Any]) -> None:
    with (run_of(pair[0]) / "commands.log").open("ab") as file:
        file.write(b'\xff\xfe\n[]\n{"do": "explode", "id": "x"}\n{"do": ["clear"]}\n{"half": \n')
    assert len(obeyed(pair, "collect").done) == 2


def test_a_command_that_does_not_exist_is_an_error(quiet: Any) -> None:
    with pytest.raises(KnitPerfError, match="there are collect, clear"):
        quiet.session.commands.submit("explode")


@pytest.mark.parametrize("name", ["clear", "collect"])
def test_in_memory_a_command_is_done_at_once(quiet: Any, name: str) -> None:
    quiet.get("/")
    assert quiet.session.commands.submit(name) is None
    assert counts(quiet) == ({} if name == "clear" else {"index": 1})


# -- coverage --------------------------------------------------------------------------------------


def test_coverage_names_the_endpoints_that_were_not_called(quiet: Any) -> None:
    quiet.app.get("/a", endpoint="a")(lambda: "a")
    quiet.app.post("/b", endpoint="b")(lambda: "b")
    quiet.get("/"), quiet.get("/nowhere")
    assert quiet.report()["coverage"] == {"endpoints_total": 3, "seen": 1, "unseen": ["a", "b"]}


def test_coverage_leaves_our_own_pages_out(quiet: Any) -> None:
    assert quiet.report()["coverage"]["endpoints_total"] == 1


# -- what of ours fails stays with us --------------------------------------------------------------


def explode(*_: Any, **__: Any) -> Any:
    raise RuntimeError("a bug of ours")


PARTS: list[tuple[str, Callable[[Any], Any], str]] = [
    ("the writer", lambda m: m.session.recorder, "emit"),
    ("the begin", lambda m: m.session.profile, "begin"),
    ("the end", lambda m: m.session.profile, "end"),
    ("evidence", lambda m: m.session.recorder, "note"),
]


@pytest.mark.parametrize(("part", "of", "name"), PARTS, ids=[row[0] for row in PARTS])
@pytest.mark.parametrize(
    ("path", "body"), [("/", b"ok"), ("/rows", b"ab"), ("/section", b"s"), ("/broken", b"sorry")]
)
def test_a_part_of_ours_that_fails_changes_no_answer(
    quiet: Any, monkeypatch: pytest.MonkeyPatch, part: str, of: Callable[[Any], Any], name: str,
    path: str, body: bytes,
) -> None:  # fmt: skip
    def section() -> str:
        with quiet.perf.section("s"):
            return quiet.perf.profile(lambda: "s")()

    quiet.app.get("/rows", endpoint="rows")(lambda: Response(iter(["a", "b"])))
    quiet.app.get("/section", endpoint="section")(section)
    quiet.app.get("/broken", endpoint="broken")(lambda: 1 / 0)
    quiet.app.register_error_handler(500, lambda error: ("sorry", 500))
    quiet.get("/")
    monkeypatch.setattr(of(quiet), name, explode)
    assert [quiet.get(path).body for _ in range(3)] == [body] * 3


def test_a_failure_of_ours_is_counted_and_said_in_the_report(
    quiet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet.get("/")
    with monkeypatch.context() as patched:
        patched.setattr(quiet.session.profile, "end", explode)
        for _ in range(3):
            quiet.get("/")
    assert "span failed 3 times" in quiet.degraded()


def test_a_failure_of_ours_is_logged_once_with_its_traceback(
    quiet: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    quiet.get("/")
    monkeypatch.setattr(quiet.session.profile, "end", explode)
    with caplog.at_level(logging.DEBUG, "flask_knitperf"):
        for _ in range(5):
            quiet.get("/")
    (record,) = [r for r in caplog.records if r.name == "flask_knitperf"]
    assert "the request goes on" in record.message and record.exc_info


def test_an_error_of_the_application_is_not_taken_for_one_of_ours(quiet: Any) -> None:
    quiet.app.get("/broken", endpoint="broken")(lambda: 1 / 0)
    quiet.get("/broken")
    assert quiet.degraded() == ""


# -- bad places for the state ----------------------------------------------------------------------


def working(mill: Any) -> str:
    """Assert that an application answers and reports; return what it says is degraded."""
    assert [mill.get("/").body for _ in range(3)] == [b"ok"] * 3
    assert counts(mill)["index"] >= 3
    return str(mill.degraded())


@pytest.mark.parametrize("kind", ["file", "link", "open to others", "below a file"])
def test_a_state_directory_that_cannot_be_used_is_said_and_the_app_runs(
    make_app: Callable[..., Any], tmp_path: Path, kind: str
) -> None:
    place = tmp_path / "place"
    if kind == "link":
        (tmp_path / "real").mkdir()
        place.symlink_to(tmp_path / "real")
    elif kind == "open to others":
        place.mkdir()
        place.chmod(0o777)
    else:
        place.write_text("")
    said = working(
        make_app(KNITPERF_STATE_DIR=str(place / "x" if kind == "below a file" else place))
    )
    assert "kept in its memory only" in said and str(place) in said


@needs_root
def test_a_state_directory_of_somebody_else_is_said_and_the_app_runs(
    make_app: Callable[..., Any], tmp_path: Path
) -> None:
    place = tmp_path / "theirs"
    place.mkdir(mode=0o700)
    os.chown(place, 12345, 12345)
    assert "belongs to another user" in working(make_app(KNITPERF_STATE_DIR=str(place)))
    assert list(place.iterdir()) == []


def test_a_state_directory_that_is_removed_while_running_is_said_and_the_app_runs(
    make_app: Callable[..., Any], tmp_path: Path
) -> None:
    import shutil

    mill = make_app(KNITPERF_LOG_BYTES=65536)
    mill.get("/")
    while (tmp_path / "state").exists():  # the housekeeper may just write something
        shutil.rmtree(tmp_path / "state", ignore_errors=True)
    for _ in range(2000):  # more than a log holds
        mill.get("/")
    assert "state directory" in working(mill)


def test_a_page_opens_though_the_state_directory_is_gone(
    make_app: Callable[..., Any], tmp_path: Path
) -> None:
    import shutil

    mill = make_app(KNITPERF_ACCESS=lambda request: True)
    mill.get("/")
    while (tmp_path / "state").exists():  # the housekeeper may just write something
        shutil.rmtree(tmp_path / "state", ignore_errors=True)
    codes = [mill.get(path, HTTP_ACCEPT="text/html").code for path in ("/perf/", "/perf/memory")]
    assert codes == [200, 200]


@pytest.mark.parametrize("name", ["{worker}.table", "{worker}.0.log", "app.json", "retired.table",
                                  "{worker}.lock", "points/1.point", "commands.log"])  # fmt: skip
@pytest.mark.parametrize("content", [b"", b"garbage", b"\xff" * 5000, b"[1, 2]", b"null"])
def test_a_damaged_file_in_the_state_directory_is_survived(
    make_app: Callable[..., Any], name: str, content: bytes
) -> None:
    mill = without_thread(make_app(KNITPERF_ACCESS=lambda request: True))
    mill.get("/")
    mill.session.jobs.fold()
    dead = "w-99-" + "0" * 12  # a worker that died and left its files
    path = run_of(mill) / name.format(worker=dead)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    (
        mill.session.jobs.publish_heartbeat(),
        mill.session.commands.process(),
        mill.session.jobs.fold(),
        mill.session.jobs.publish_heartbeat(),
    )
    assert mill.get("/perf/report").code == mill.get("/perf/memory").code == 200
    working(mill)


def test_damaged_samples_and_requests_are_left_out_and_said(make_app: Callable[..., Any]) -> None:
    mill = without_thread(make_app(KNITPERF_SAMPLER=True))
    mill.get("/")
    mill.session.reservoir.turn(at_once=True)
    mill.session.details.turn()
    folder = run_of(mill) / "details"
    (folder / f"w-0-gone.{slices.begins(mill.session.recorder.clock.wall())}.slice").write_bytes(
        b"x"
    )
    (folder / "w-0-gone.exemplars").write_bytes(b"a\tb\n" * 2)
    assert mill.report("run")["self"]["degraded"] == [
        "slices of samples that are damaged and left out: 1"
    ]
    found = mill.session.documents.window("run")
    assert len(mill.session.documents.requests(found)) == 1
    assert found.snapshot.degraded == ["kept requests whose lines are damaged and left out: 2"]
    offline = Offline(mill.session.settings.state_dir)
    assert offline.report("run")["self"]["degraded"] == [
        "slices of samples that are damaged and left out: 1"
    ]


def test_a_damaged_table_of_a_living_worker_is_said(still: Any) -> None:
    still.get("/")
    still.session.jobs.fold()
    name = still.session.recorder.worker.name
    (run_of(still) / f"{name}.table").write_bytes(b"garbage")
    assert "damaged" in still.degraded()


def test_a_damaged_description_of_the_run_does_not_hide_it(make_app: Callable[..., Any]) -> None:
    mill = without_thread(make_app())
    mill.get("/")
    (run_of(mill) / "app.json").write_bytes(b"{")
    again = without_thread(make_app())
    again.get("/")
    assert counts(again) == {"index": 2}


# -- bad times -------------------------------------------------------------------------------------


def test_a_wall_clock_that_goes_back_harms_no_figure(
    make_app: Callable[..., Any], time: Any
) -> None:
    mill = without_thread(make_app(), time.clock())
    mill.app.get("/it", endpoint="it")(lambda: time.pass_(0.1) or "x")
    for _ in range(5):
        mill.get("/it")
        (
            mill.session.jobs.publish_heartbeat(),
            mill.session.jobs.fold(),
            mill.session.profile.watch(),
        )
        mill.session.memory_jobs.collector.record_gauges(), mill.session.profile.account()
        time.epoch -= 3600
    row = mill.row("it")
    assert (row["count"], row["min_ms"], row["max_ms"]) == (5, 100, 100)
    assert [counts(mill, name)["it"] for name in ("5m", "1h")] == [5, 5]


def test_a_steady_clock_that_goes_back_gives_no_negative_time(timed: Any, time: Any) -> None:
    timed.app.get("/it", endpoint="it")(lambda: time.pass_(-5) or "x")
    timed.get("/it")
    row = timed.row("it")
    assert (row["count"], row["min_ms"], row["time_spent_s"]) == (1, 0, 0)


def test_a_cpu_clock_that_runs_ahead_gives_no_share_above_one(timed: Any, time: Any) -> None:
    timed.app.get("/it", endpoint="it")(lambda: time.pass_(1, cpu=3) or "x")
    timed.get("/it")
    assert (timed.row("it")["cpu_ms"], timed.row("it")["wait_ms"]) == (1000, 0)


def test_a_request_of_a_week_is_counted(timed: Any, time: Any) -> None:
    timed.app.get("/it", endpoint="it")(lambda: time.pass_(604_800) or "x")
    timed.get("/it")
    assert timed.row("it")["max_ms"] == 604_800_000


# -- in a process of its own -----------------------------------------------------------------------

PREAMBLE = """
import json, os, sys
import encodings.idna, flask.testing, pandas  # now, while this user may read it
from flask import Flask
from flask_knitperf import KnitPerf
app = Flask("mill")
app.logger.disabled = True
app.config.update(KNITPERF_STATE_DIR=sys.argv[1], KNITPERF_LOG_BYTES=65536)
perf = KnitPerf(app)
app.add_url_rule("/", "index", lambda: "ok")
app.test_client()  # looks up the version of Werkzeug
def serve(number):
    client = app.test_client()
    assert all(client.get("/").data == b"ok" for _ in range(number))
def report():
    found = app.extensions["knitperf"].documents.report("run")
    print(json.dumps([sum(r["count"] for r in found["endpoints"]), found["self"]["degraded"]]))
"""


def alone(code: str, folder: Path) -> tuple[int, str]:
    """Run a program with its own application; return requests counted and what is degraded."""
    done = subprocess.run(
        [sys.executable, "-c", PREAMBLE + textwrap.dedent(code), str(folder)],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    count, degraded = json.loads(done.stdout)
    return count, "\n".join(degraded)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_disk_without_room_for_a_log_is_said_and_the_app_runs(tmp_path: Path) -> None:
    code = """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (32768, 32768))
        serve(2500)
        report()
    """
    count, degraded = alone(code, tmp_path / "state")
    assert count == 2500 and "memory only" in degraded


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_disk_that_fills_up_while_running_is_said_and_the_app_runs(tmp_path: Path) -> None:
    code = """
        import resource
        serve(10)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        serve(2500)
        app.extensions["knitperf"].recorder.worker.fold()
        report()
    """
    count, degraded = alone(code, tmp_path / "state")
    assert count == 2510 and degraded


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_process_without_free_descriptors_still_answers(tmp_path: Path) -> None:
    code = """
        import resource
        serve(1)
        held = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        try:
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            pass
        serve(2500)
        for descriptor in held:
            os.close(descriptor)
        report()
    """
    assert alone(code, tmp_path / "state")[0] == 2501


@needs_root
@pytest.mark.parametrize("mode", [0o500, 0o000])
def test_a_state_directory_that_may_not_be_written_is_said_and_the_app_runs(
    tmp_path: Path, mode: int
) -> None:
    place = tmp_path / "state"
    place.mkdir()
    os.chown(place, 65534, 65534)
    place.chmod(mode)
    for folder in place.parents:
        if folder != folder.parent and folder.owner() == "root" and folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o011)
    count, degraded = alone("os.setuid(65534); serve(5); report()", place)
    assert count == 5 and "memory only" in degraded


def test_everything_is_on_disk_when_a_process_ends(tmp_path: Path) -> None:
    alone("serve(7); report()", tmp_path / "state")
    (run,) = [path for path in (tmp_path / "state").iterdir() if (path / "app.json").exists()]
    series = columns.series(state_dir.read(run).columns)
    assert sum(s.data.count for key, s in series.items() if key.meter == "request") == 7


def test_a_process_that_is_killed_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    code = "serve(7); report(); sys.stdout.flush(); os._exit(0)"
    alone(code, tmp_path / "state")
    (run,) = [path for path in (tmp_path / "state").iterdir() if (path / "app.json").exists()]
    series = columns.series(state_dir.read(run).columns)
    assert sum(s.data.count for key, s in series.items() if key.meter == "request") == 7


@pytest.fixture(autouse=True)
def _no_stray_children() -> Iterator[None]:
    """Fail a forked child that comes back as a second test run."""
    own = os.getpid()
    yield
    if os.getpid() != own:
        os._exit(70)
