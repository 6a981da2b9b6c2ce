"""Under gunicorn with real workers: each one reports the exact totals of all."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import sys
import sysconfig
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from flask.helpers import get_root_path

from flask_knitperf.metrics import columns
from flask_knitperf.metrics.catalogue import REQUEST, STARTED
from flask_knitperf.reports.offline import Offline
from flask_knitperf.storage import state_dir
from flask_knitperf.storage.commands import Command, outcome
from flask_knitperf.storage.runs import runs
from flask_knitperf.web.sign_in import sign_in_link
from flask_knitperf.web.signatures import derive_key
from tests.waiting import wait_for

from .serving import BEARER, TOKEN, Server, gunicorn

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="gunicorn does not run on Windows")
KINDS = {
    "sync": ("--workers", "2"),
    "gthread": ("--workers", "2", "--threads", "4"),
    "gevent": ("--workers", "2", "--worker-class", "gevent"),
    "sync preload": ("--workers", "2", "--preload"),
    "gthread preload": ("--workers", "2", "--threads", "4", "--preload"),
}


def serve(folder: Path, *options: str, **config: Any) -> Server:
    return Server(folder, gunicorn(*options), **config)


@pytest.mark.parametrize("kind", KINDS)
def test_every_worker_reports_the_exact_counts_of_all(tmp_path: Path, kind: str) -> None:
    with serve(tmp_path, *KINDS[kind]) as server:
        load = server.drive("/work", 300)
        server.drive("/nowhere", 20)
        reports = server.everyones("/perf/report?window=run", 2, **BEARER)
        assert (load.answered, load.failed, len(reports)) == (300, 0, 2)
        for answer in reports.values():
            rows = {row["endpoint"]: row for row in json.loads(answer.body)["endpoints"]}
            assert {name: row["count"] for name, row in rows.items()} == {
                "work": 300, "<unmatched>": 20
            }  # fmt: skip
            assert rows["work"]["parts"][0]["count"] == 300


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sync", "gthread preload"])
def test_only_workers_write_and_each_has_one_lock(tmp_path: Path, kind: str) -> None:
    with serve(tmp_path, *KINDS[kind]) as server:
        pids = set(server.everyones("/", 2))
        locks = {int(path.name.split("-")[1]) for path in server.state.glob("*/w-*.lock")}
        assert locks == pids == server.workers() and server.process.pid not in locks


@pytest.mark.slow
def test_a_stop_leaves_everything_on_disk(tmp_path: Path) -> None:
    with serve(tmp_path, *KINDS["gthread"]) as server:
        server.drive("/", 120)
        assert server.stop() == 0
        (run,) = runs(server.state)
        counted = [s.data.count for key, s in columns.series(state_dir.read(run).columns).items()
                   if key.meter == REQUEST.name]  # fmt: skip
        assert sum(counted) == 120


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sync", "gthread preload"])
def test_the_cache_of_all_workers_is_counted_exactly(tmp_path: Path, kind: str) -> None:
    with serve(tmp_path, *KINDS[kind]) as server:
        load = server.drive("/cached/7", 200)
        assert (load.answered, server.stop()) == (200, 0)
        [row] = Offline(server.state).cache("run")["namespaces"]
        assert row["namespace"] == "knit" and row["hits"] + row["misses"] == 200
        assert 1 <= row["misses"] <= 2 and row["saved_s"]


@pytest.mark.parametrize("kind", ["sync", "gthread"])
def test_workers_that_are_killed_under_load_lose_no_answered_request(
    tmp_path: Path, kind: str
) -> None:
    with serve(tmp_path, *KINDS[kind]) as server:
        clients = threading.Thread(target=lambda: loads.append(server.drive("/", 800)))
        loads: list[Any] = []
        clients.start()
        for _ in range(3):
            time.sleep(0.15)  # load in between, of whatever amount
            with contextlib.suppress(OSError, http.client.HTTPException, ProcessLookupError):
                os.kill(server.get("/ready").pid, signal.SIGKILL)
        clients.join()
        (load,) = loads
        count = server.rows()["index"]["count"]
        assert load.answered <= count <= load.answered + load.failed
        assert load.answered + load.failed == 800 and load.statuses == {200}


@pytest.mark.slow
def test_single_requests_outlive_the_worker_that_served_them(tmp_path: Path) -> None:
    with serve(tmp_path, *KINDS["sync"]) as server:
        served = [server.get("/work").pid for _ in range(8)]  # fewer than a list of them holds
        kept = server.until(lambda: _latest(server, len(served)))
        os.kill(served[0], signal.SIGKILL)
        server.until(lambda: not list(server.state.glob(f"*/w-{served[0]}-*")))
        assert {row["id"] for row in kept} == {row["id"] for row in _latest(server, 1)}


def _latest(server: Server, least: int) -> list[dict[str, Any]]:
    """Return the requests of ``work`` that are kept, none before there are enough."""
    reply = server.get("/perf/why?of=work&window=run", **BEARER)
    assert reply.status == 200, reply
    rows: list[dict[str, Any]] = json.loads(reply.body)["requests"]["latest"]
    return rows if len({row["id"] for row in rows}) >= least else []


@pytest.mark.slow
def test_killed_workers_are_taken_in_and_leave_no_files(tmp_path: Path) -> None:
    with serve(tmp_path, *KINDS["sync"]) as server:
        server.everyones("/", 2)
        before = server.rows()["index"]["count"]
        victim = server.get("/ready").pid
        os.kill(victim, signal.SIGKILL)
        server.until(  # a worker that serves takes the dead one in
            lambda: server.workers() and not list(server.state.glob(f"*/w-{victim}-*"))
        )
        assert server.rows()["index"]["count"] == before


@pytest.mark.slow
def test_recycled_workers_stay_in_their_run_and_lose_nothing(tmp_path: Path) -> None:
    with serve(tmp_path, "--workers", "2", "--max-requests", "15") as server:
        load = server.drive("/", 90, threads=2)
        assert (server.rows()["index"]["count"], load.failed) == (load.answered, 0)
        assert len(runs(server.state)) == 1


@pytest.mark.slow
def test_files_of_recycled_workers_do_not_pile_up(tmp_path: Path) -> None:
    with serve(tmp_path, "--workers", "1", "--max-requests", "5") as server:
        server.drive("/", 40, threads=1)
        server.until(lambda: len(list(server.state.glob("*/w-*.lock"))) <= 2)
        assert server.rows()["index"]["count"] == 40


@pytest.mark.slow
def test_a_reload_stays_in_the_run(tmp_path: Path) -> None:
    with serve(tmp_path, *KINDS["sync"]) as server:
        server.drive("/", 40)
        before = server.workers()
        server.process.send_signal(signal.SIGHUP)
        server.until(lambda: not server.workers() & before)
        server.drive("/", 40)
        assert server.rows()["index"]["count"] == 80


@pytest.mark.slow
def test_a_gunicorn_that_replaces_itself_starts_a_new_run(tmp_path: Path) -> None:
    script = str(Path(sysconfig.get_path("scripts")) / "gunicorn")  # python -m cannot do it
    command = (sys.executable, script, *gunicorn("--workers", "1")[3:])
    with Server(tmp_path, command) as server:
        server.drive("/", 50)
        (before,) = server.workers()
        server.process.send_signal(signal.SIGUSR2)
        family = psutil.Process(server.process.pid)
        server.until(lambda: len(family.children(recursive=True)) == 3)  # two workers, a master
        server.process.terminate()
        server.process.wait(10)
        server.until(lambda: server.answers("/ready") not in (None, before))
        server.drive("/", 30)
        counts = [server.rows(name)["index"]["count"] for name in ("previous", "run")]
        assert counts == [50, 30]


@pytest.mark.slow
def test_a_new_release_begins_a_new_run_and_both_are_exact(tmp_path: Path) -> None:
    with serve(tmp_path, *KINDS["gthread"], KNITPERF_RELEASE="1.0") as server:
        loads: list[Any] = [server.drive("/", 60)]
        before = server.workers()
        server.configure(KNITPERF_RELEASE="1.1")
        clients = threading.Thread(target=lambda: loads.append(server.drive("/", 400)))
        clients.start()
        server.process.send_signal(signal.SIGHUP)
        clients.join()
        server.until(lambda: server.document()["window"]["release"] == "1.1")
        server.until(lambda: not server.workers() & before)
        server.get("/")
        counts = [server.rows(name)["index"]["count"] for name in ("previous", "run")]
        answered = sum(load.answered for load in loads) + 1
        assert counts[0] >= 60 and counts[1] >= 1
        assert answered <= sum(counts) <= answered + sum(load.failed for load in loads)


@pytest.mark.slow
def test_a_request_that_gunicorn_kills_for_its_time_is_counted_with_its_age(
    tmp_path: Path,
) -> None:
    with serve(tmp_path, "--workers", "2", "--timeout", "2") as server:
        with contextlib.suppress(OSError, http.client.HTTPException):
            server.get("/stuck")
        row = server.until(lambda: next((r for r in server.rows().values() if r["killed"]), None))
        assert (row["endpoint"], row["killed"], row["count"]) == ("stuck", 1, 0)
        assert row["time_spent_s"] >= 1.5


def noted_as_begun(server: Server) -> bool:
    """Return whether a worker has written down that a request runs, as it does after a second."""
    series = [columns.series(state_dir.read(run).columns) for run in runs(server.state)]
    return any(key.meter == STARTED.name for series in series for key in series)


@pytest.mark.slow
def test_a_request_that_dies_with_its_worker_is_counted_as_killed(tmp_path: Path) -> None:
    def send() -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            server.get("/stuck")

    with serve(tmp_path, "--workers", "2", "--threads", "4") as server:
        client = threading.Thread(target=send)
        client.start()
        server.until(lambda: noted_as_begun(server))
        for pid in server.workers():
            os.kill(pid, signal.SIGKILL)
        client.join()
        killed = server.until(lambda: server.rows().get("stuck", {}).get("killed"))
        row = server.rows()["stuck"]
        assert (killed, row["count"], row["time_spent_s"] >= 0.9) == (1, 0, True)


@pytest.mark.slow
def test_a_client_that_leaves_in_mid_stream_is_counted_as_disconnected(tmp_path: Path) -> None:
    with serve(tmp_path, *KINDS["sync"]) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as link:
            link.sendall(b"GET /rows/4000 HTTP/1.1\r\nHost: mill\r\n\r\n")
            link.recv(4096)
        row = server.until(lambda: server.rows().get("rows"))
        assert (row["count"], row["disconnected"]) == (1, 1)
        assert 0 < row["bytes_out_mean"] < 4000 * 65536


@pytest.mark.slow
def test_a_stream_that_arrives_whole_is_counted_to_its_last_byte(tmp_path: Path) -> None:
    with serve(tmp_path, *KINDS["gthread"]) as server:
        body = server.get("/rows/30").body
        row = server.until(lambda: server.rows().get("rows"))
        assert (len(body), row["bytes_out_mean"], row["disconnected"]) == (1966080, 1966080, 0)


@pytest.mark.slow
def test_a_file_arrives_whole_and_is_counted(tmp_path: Path) -> None:
    (tmp_path / "cloth.bin").write_bytes(b"y" * 300_000)
    with serve(tmp_path, *KINDS["sync"]) as server:
        body = server.get("/file").body
        row = server.until(lambda: server.rows().get("file"))
        assert (len(body), row["bytes_out_mean"], row["count"]) == (300_000, 300_000, 1)


@pytest.mark.slow
def test_a_sign_in_link_works_once_on_any_worker(tmp_path: Path) -> None:
    with serve(tmp_path, *KINDS["sync"]) as server:
        code = sign_in_link(
            derive_key(TOKEN, "mill", get_root_path("mill")), "/perf", time.time()
        ).partition("?")[2]
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        seen = [server.get("/perf/sign-in", "POST", code, **form).status for _ in range(8)]
        assert sorted(seen) == [303] + [403] * 7


FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def session_of(server: Server, secret: str) -> str:
    """Return the session cookie of a browser that signs in."""
    link = http.client.HTTPConnection("127.0.0.1", server.port, timeout=15)
    with contextlib.closing(link):
        link.request("POST", "/perf/sign-in", f"token={secret}", FORM)
        cookies = link.getresponse().headers.get_all("Set-Cookie", [])
    return next(cookie.partition(";")[0] for cookie in cookies if cookie.startswith("knitperf="))


@pytest.mark.slow
@pytest.mark.parametrize("config", [{}, {"DEBUG": True, "KNITPERF_ACCESS_TOKEN": None}], ids=str)
def test_what_signed_out_stays_out_on_all_workers_that_lose_their_state_directory(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    """The secret is the same on all workers, before and after that."""

    def codes(cookie: str) -> set[int]:
        replies = server.everyones("/perf/report", 3, (200, 404), Cookie=cookie)
        assert len(replies) == 3
        return {reply.status for reply in replies.values()}

    with serve(tmp_path, "--workers", "3", **config) as server:
        server.everyones("/", 3)
        secret = TOKEN
        if config:
            shown = re.compile(r"later use the code (\S{14})\.")
            server.until(lambda: len(shown.findall(server.output)) == 3)  # each worker prints it
            (secret,) = set(shown.findall(server.output))
        former = session_of(server, secret)
        assert codes(former) == {200}
        page = server.get("/perf/", Cookie=former, Accept="text/html").body
        (csrf,) = set(re.findall(rb'name="csrf" value="([^"]+)"', page))
        server.get("/perf/sign-out", "POST", f"csrf={csrf.decode()}", Cookie=former, **FORM)
        assert codes(former) == {404}
        _remove(server.state)
        assert codes(former) == {404}
        present = session_of(server, secret)
        assert (codes(former), codes(present)) == ({404}, {200})


def _remove(folder: Path) -> None:
    """Remove a folder in which workers write meanwhile."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        wait_for(lambda: shutil.rmtree(folder, ignore_errors=True) or not folder.exists())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clear", "collect"])
def test_a_command_is_done_and_acknowledged_by_every_worker(tmp_path: Path, name: str) -> None:
    with serve(tmp_path, "--workers", "3") as server:
        server.drive("/", 60)
        server.until(lambda: len(server.workers()) == 3)
        answer = server.get(f"/perf/command/{name}", "POST", **BEARER)
        (run,) = runs(server.state)
        command = Command(json.loads(answer.body)["id"], name, 0.0)
        server.until(lambda: len(outcome(run, command).done) == 3)
        assert not outcome(run, command).failed
        assert len(server.rows()) == (0 if name == "clear" else 1)


@pytest.mark.parametrize("line", ["GET perf/report", "POST perf/report", "OPTIONS perf",
                                  "GET //perf/report", "GET /%70erf/report", "GET /perf%2freport",
                                  "DELETE http://mill/perf/report", "GET /./perf/report"])  # fmt: skip
def test_no_request_line_reveals_the_pages_to_unauthenticated_clients(
    shared: Callable[[], Server], line: str
) -> None:
    def send(line: str) -> bytes:
        with socket.create_connection(("127.0.0.1", shared().port), timeout=10) as link:
            link.sendall(f"{line} HTTP/1.1\r\nHost: mill\r\nConnection: close\r\n\r\n".encode())
            response = b"".join(iter(lambda: link.recv(65536), b""))
        head, _, body = response.partition(b"\r\n\r\n")
        return head.partition(b"\r\n")[0] + b"\n" + body

    method, _, path = line.partition(" ")
    nowhere = re.sub("perf|%70erf", "nope", path)
    assert send(line).replace(b"perf", b"nope") == send(f"{method} {nowhere}")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return one server that several tests only read from."""
    with serve(tmp_path_factory.mktemp("shared"), "--workers", "1") as server:
        yield lambda: server
