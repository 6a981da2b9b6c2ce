"""``PerformanceProfiler`` beyond the calls of an ERP: servers, applications and wrong arguments."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_knitperf import KnitPerfError, PerformanceProfiler
from flask_knitperf.experiments.http_client import HttpClient, NoResponseError
from flask_knitperf.experiments.in_process import Request


@pytest.mark.parametrize(
    "url",
    ["localhost:5005", "ftp://mill.example", "http://", "file:///etc/passwd", 5, "http://a:b"],
)
def test_a_base_url_must_be_an_http_url(url: Any) -> None:
    with pytest.raises(KnitPerfError, match="base_url"):
        PerformanceProfiler(base_url=url)


def test_a_server_and_an_application_exclude_each_other() -> None:
    with pytest.raises(KnitPerfError, match="not both"):
        PerformanceProfiler("http://localhost:5005", app=Flask("mill"))


@pytest.mark.parametrize(
    "call",
    [
        lambda profiler: profiler.profile_endpoint("/", samples=3),
        lambda profiler: profiler.profile_all_endpoints(),
    ],
    ids=["one", "all"],
)
def test_profiling_needs_a_server_or_an_application(call: Any) -> None:
    with pytest.raises(KnitPerfError, match="no application is current"):
        call(PerformanceProfiler())


def test_an_application_in_place_of_the_url_is_an_error_that_names_the_argument() -> None:
    with pytest.raises(KnitPerfError, match="pass an application as app="):
        PerformanceProfiler(Flask("mill"))  # type: ignore[arg-type]


def test_the_endpoints_of_an_application_without_knitperf_are_listed() -> None:
    app = Flask("mill")
    app.get("/stock")(lambda: "ok")
    app.get("/order/<number>", endpoint="order")(lambda number: number)
    app.post("/reload", endpoint="reload")(lambda: 1 / 0)
    profiles = PerformanceProfiler(app=app).profile_all_endpoints(samples=1)
    assert list(profiles) == ["GET_/stock"]


def test_the_endpoints_of_another_wsgi_application_must_be_listed() -> None:
    profiler = PerformanceProfiler(app=Flask("mill").wsgi_app)
    with pytest.raises(KnitPerfError, match="pass a list of paths"):
        profiler.profile_all_endpoints()


def test_reports_that_are_saved_in_the_same_second_do_not_overwrite_each_other(
    quiet: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    profiler = quiet.perf.profiler
    paths = [profiler.save_report() for _ in range(3)]
    assert sorted(paths) == sorted(Path(name) for name in os.listdir())
    assert len(set(paths)) == 3


def test_an_application_without_knitperf_is_profiled_and_reported() -> None:
    app = Flask("mill", static_folder=None)
    app.get("/")(lambda: "ok")
    profiler = PerformanceProfiler(app=app)
    assert profiler.profile_endpoint("/", samples=2)["count"] == 2
    assert profiler.profile_endpoint("/", samples=2)["count"] == 4
    report = profiler.generate_performance_report()
    assert [row["endpoint"] for row in report["endpoints"]] == ["/"]


def test_in_process_requests_are_recorded_by_the_application_too(quiet: Any) -> None:
    quiet.perf.profiler.profile_endpoint("/", samples=3)
    assert quiet.row("index")["count"] == 3


def test_thresholds_are_those_of_the_application(make_app: Callable[..., Any]) -> None:
    mill = make_app(TESTING=True, KNITPERF_SLOW_MS=70, KNITPERF_MODERATE_MS=50)
    profile = mill.perf.profiler.profile_endpoint("/", samples=1)
    assert profile["thresholds"] == {"slow_ms": 70, "moderate_ms": 50}


def test_the_first_request_is_kept_apart_as_cold_start(quiet: Any) -> None:
    profile = quiet.perf.profiler.profile_endpoint("/", samples=2)
    assert profile["first_ms"] in (profile["min_ms"], profile["max_ms"])


def test_a_wrong_argument_is_an_error(quiet: Any) -> None:
    with pytest.raises(KnitPerfError, match="samples must be 1 or more"):
        quiet.perf.profiler.profile_endpoint("/", samples=0)
    with pytest.raises(KnitPerfError, match="samples must be a whole number, not '3'"):
        quiet.perf.profiler.profile_endpoint("/", samples="3")
    with pytest.raises(KnitPerfError, match="method must be a string, not 3; write samples=3"):
        quiet.perf.profiler.profile_endpoint("/", 3)
    with pytest.raises(KnitPerfError, match="must start with /, not 'orders'"):
        quiet.perf.profiler.profile_endpoint("orders", samples=3)
    with pytest.raises(KnitPerfError, match="must start with /"):
        quiet.perf.profiler.profile_all_endpoints([("http://elsewhere.example/", "GET")])


def test_an_unusual_method_is_counted_as_other(quiet: Any) -> None:
    profile = quiet.perf.profiler.profile_endpoint("/", method="purge", samples=1)
    assert (profile["method"], profile["status"]["4xx"]) == ("<other>", 1)


# -- servers -------------------------------------------------------------------------------------------


@pytest.fixture
def unreliable_url() -> Iterator[str]:
    """Return the URL of a server that closes every second connection without a response."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        number = 0
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.recv(1 << 16)
            if number % 2 == 0:
                connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
            connection.close()
            number += 1

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def test_requests_without_a_response_count_as_failures(unreliable_url: str) -> None:
    profiler = PerformanceProfiler(unreliable_url)
    profile = profiler.profile_endpoint("/", samples=4)
    assert (profile["count"], profile["killed"], profile["success_rate"]) == (2, 2, 0.5)
    assert profiler.generate_performance_report()["summary"]["success_rate"] == 0.5


def test_a_path_in_the_base_url_precedes_the_endpoint(quiet: Any, server_url: str) -> None:
    quiet.app.get("/api/health", endpoint="health")(lambda: "ok")
    profile = PerformanceProfiler(f"{server_url}/api/").profile_endpoint(
        "/health?full=1", samples=1
    )
    assert (profile["endpoint"], profile["status"]["2xx"]) == ("/health", 1)


def test_a_redirect_is_not_followed(quiet: Any, server_url: str) -> None:
    quiet.app.get("/old", endpoint="old")(lambda: ("", 302, {"Location": "http://127.0.0.1:9/"}))
    assert PerformanceProfiler(server_url).profile_endpoint("/old", samples=1)["status"]["3xx"] == 1


def test_an_endless_response_is_cut_off(
    quiet: Any, server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_knitperf.experiments.http_client.MAX_BODY_BYTES", 1 << 16)
    quiet.app.get("/endless", endpoint="endless")(lambda: iter(lambda: b"x" * 65536, None))
    assert HttpClient(server_url).send(Request("/endless")) == 200


def test_https_is_an_error_where_the_server_speaks_http(server_url: str) -> None:
    with pytest.raises(NoResponseError):
        HttpClient(server_url.replace("http:", "https:")).send(Request("/"))
