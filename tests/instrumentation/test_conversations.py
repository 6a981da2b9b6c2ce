"""Websockets and long polls: counted apart from requests, and judged by their failures alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Response

from flask_knitperf.metrics.catalogue import ERROR
from tests.conftest import Mill

HANDSHAKE = {
    "HTTP_UPGRADE": "websocket",
    "HTTP_CONNECTION": "keep-alive, Upgrade",
    "HTTP_SEC_WEBSOCKET_KEY": "x3JJHMbDL1EzLkh9GBhXDw==",
    "gunicorn.socket": object(),
}
POLL = "/socket.io/?EIO=4&transport=polling&sid=1"


class Taken(Response):
    """Response of a view that took the server's socket: it is never started."""

    def __call__(self, environ: Any, start_response: Any) -> Any:
        error: BaseException | None = environ.get("ends.by")
        if error is not None:
            raise error
        return []


def converse(
    mill: Mill, path: str, error: type[BaseException] | None = None, **environ: Any
) -> None:
    """Have a websocket, whose handler ends by an exception or by returning."""
    raised = None if error is None else error()
    environment = {**HANDSHAKE, "ends.by": raised, **environ}
    if raised is None:
        mill.app.wsgi_app(_environ(path, environment), _start)
        return
    # a generator would turn StopIteration into RuntimeError
    with pytest.raises(type(raised)):
        mill.app.wsgi_app(_environ(path, environment), _start)


def _environ(path: str, more: dict[str, Any]) -> dict[str, Any]:
    from werkzeug.test import create_environ

    return {**create_environ(path), **more}


def _start(*_: Any) -> Callable[[bytes], object]:
    return lambda _: None


@pytest.fixture
def live(timed: Any, time: Any) -> Any:
    """Return an application with a websocket of an hour at ``/live``."""
    timed.app.route("/live", endpoint="live", websocket=True)(lambda: time.pass_(3600) or Taken())
    return timed


@pytest.mark.parametrize("end", [None, StopIteration, ConnectionError, ConnectionResetError])
def test_a_websocket_is_a_class_of_its_own_however_it_ends(live: Any, end: Any) -> None:
    for _ in range(12):
        converse(live, "/live", end)
    row = live.row("live")
    assert row["status"] == {"2xx": 0, "3xx": 0, "4xx": 0, "5xx": 0, "websocket": 12}
    (sockets,) = row["conversations"]
    assert (sockets["kind"], sockets["count"], sockets["failed"]) == ("websocket", 12, 0)
    assert (sockets["p50_ms"], sockets["max_ms"]) == pytest.approx((3.6e6, 3.6e6), rel=0.01)
    assert (row["count"], row["p95_ms"], row["time_spent_s"], row["success_rate"]) == (
        12, None, 0, None,
    )  # fmt: skip
    assert live.report()["bottlenecks"] == []


def test_a_websocket_of_the_development_server_whose_response_is_started_is_one(
    timed: Any, time: Any
) -> None:
    timed.app.route("/live", endpoint="live", websocket=True)(lambda: time.pass_(60) or "")
    timed.get("/live", **HANDSHAKE)
    assert timed.row("live")["status"]["websocket"] == 1


def test_a_websocket_whose_handler_raises_has_failed_and_names_the_error(
    live: Any, time: Any
) -> None:
    def broken() -> str:
        time.pass_(60)
        raise ValueError("no yarn")

    live.app.route("/broken", endpoint="broken", websocket=True)(broken)
    assert live.get("/broken", **HANDSHAKE).code == 500
    (sockets,) = live.row("broken")["conversations"]
    assert (sockets["count"], sockets["failed"]) == (1, 1)
    notes = live.session.recorder.snapshot().totals.notes(ERROR)
    assert [note.key.endpoint for note in notes] == ["broken"]


def test_a_refused_handshake_is_a_response(live: Any) -> None:
    live.app.before_request(lambda: ("no", 403))
    live.get("/live", **HANDSHAKE)
    row = live.row("live")
    assert (row["status"]["4xx"], row["conversations"]) == (1, [])


@pytest.mark.parametrize("error", [ValueError, ConnectionError])
def test_a_view_that_fails_is_a_failure_whatever_headers_its_client_sends(
    quiet: Any, error: Any
) -> None:
    def fail() -> str:
        raise error("no yarn")

    quiet.app.get("/it", endpoint="it")(fail)
    only_upgrade = {**HANDSHAKE, "HTTP_CONNECTION": "keep-alive"}
    assert quiet.get("/it", **only_upgrade).code == 500
    assert quiet.row("it")["status"]["5xx"] == 1


def test_a_handshake_with_a_normal_view_is_a_response(quiet: Any) -> None:
    quiet.get("/", **HANDSHAKE)
    (row,) = quiet.report()["endpoints"]
    assert (row["status"]["4xx"], row["conversations"]) == (1, [])


@pytest.mark.parametrize(
    ("environ", "error"),
    [
        ({"gunicorn.socket": None, "HTTP_UPGRADE": "h2c"}, ConnectionError),
        ({"REQUEST_METHOD": "POST"}, ConnectionError),
        ({}, ConnectionRefusedError),
        ({}, ValueError),
    ],
)
def test_a_middleware_that_fails_is_a_failure_whatever_headers_its_client_sends(
    quiet: Any, environ: dict[str, Any], error: Any
) -> None:
    def broken(_: Any, __: Any) -> Any:
        raise error("no yarn")

    quiet.put_inside(broken)
    with pytest.raises(error):
        quiet.get("/socket.io/", **{**HANDSHAKE, **environ})
    (row,) = quiet.report()["endpoints"]
    assert (row["status"]["5xx"], row["conversations"]) == (1, [])


@pytest.mark.parametrize("end", [None, StopIteration, ConnectionError])
def test_a_websocket_of_a_middleware_is_a_class_of_its_own(timed: Any, time: Any, end: Any) -> None:
    def socket_io(_: Any, __: Any) -> Any:
        time.pass_(60)
        if end is not None:
            raise end()
        return []

    timed.put_inside(socket_io)
    converse(timed, "/socket.io/", end)
    (row,) = timed.report()["endpoints"]
    assert (row["status"]["5xx"], row["status"]["websocket"]) == (0, 1)


def test_an_answer_of_101_to_a_handshake_is_a_websocket(timed: Any) -> None:
    def upgrade(_: Any, start_response: Any) -> Any:
        start_response("101 Switching Protocols", [])
        return []

    timed.put_inside(upgrade)
    timed.get("/socket.io/", **{**HANDSHAKE, "gunicorn.socket": None})
    (row,) = timed.report()["endpoints"]
    assert row["status"]["websocket"] == 1


def test_a_worker_that_ends_within_a_websocket_is_no_killed_request(live: Any) -> None:
    converse(live, "/live", SystemExit)
    row = live.row("live")
    (sockets,) = row["conversations"]
    assert (row["killed"], sockets["count"], sockets["failed"]) == (0, 1, 1)


@pytest.mark.parametrize("status", ["200 OK", "400 BAD REQUEST"])
def test_a_long_poll_of_socket_io_is_not_judged(timed: Any, time: Any, status: str) -> None:
    def socket_io(_: Any, start_response: Any) -> Any:
        time.pass_(25)  # and then 400 if its client has left meanwhile
        start_response(status, [("Content-Length", "1")])
        return [b"6"]

    timed.put_inside(socket_io)
    for _ in range(12):
        timed.get(POLL)
    (row,) = timed.report()["endpoints"]
    assert (row["status"], row["conversations"][0]["failed"]) == (
        {"2xx": 0, "3xx": 0, "4xx": 0, "5xx": 0, "long_poll": 12}, 0,
    )  # fmt: skip
    assert timed.report()["bottlenecks"] == []


def test_a_view_is_judged_whatever_query_its_client_sends(timed: Any, time: Any) -> None:
    timed.app.get("/socket.io/", endpoint="view")(lambda: time.pass_(25) or "late")
    timed.get(POLL)
    assert timed.row("view")["status"]["2xx"] == 1


def test_a_stream_of_events_is_a_long_poll_and_its_client_may_leave(timed: Any, time: Any) -> None:
    def events() -> Iterator[str]:
        while True:
            time.pass_(60)
            yield "data: x\n\n"

    timed.app.get("/events", endpoint="events")(
        lambda: Response(events(), mimetype="text/event-stream")
    )
    body = timed.app.wsgi_app(_environ("/events", {}), _start)
    next(body)
    body.close()
    row = timed.row("events")
    assert (row["status"]["long_poll"], row["disconnected"]) == (1, 0)


def test_a_declared_long_poll_is_not_judged_but_its_failures_are(
    make_app: Callable[..., Any],
) -> None:
    mill = make_app(TESTING=True, KNITPERF_LONG_POLLS=["news"])
    statuses = [*[200] * 298, 304, 304, *[500] * 3]
    mill.app.get("/news", endpoint="news")(lambda: ("late", statuses.pop(0)))
    for _ in range(303):
        mill.get("/news")
    row = mill.row("news")
    assert (row["status"]["long_poll"], row["status"]["3xx"], row["status"]["5xx"]) == (303, 0, 0)
    assert row["conversations"][0]["failed"] == 3
    assert mill.report()["bottlenecks"] == [], "1 % of the polls fail, not all requests"
    statuses[:] = [500] * 40
    for _ in range(40):
        mill.get("/news")
    (finding,) = mill.report()["bottlenecks"]
    assert finding["type"] == "LOW_SUCCESS_RATE"
    assert (
        "13 % of long polls fail" in finding["text"] and "43 of 343 long polls" in finding["text"]
    )


def test_a_stream_of_events_that_fails_is_a_failed_long_poll_and_not_a_slow_request(
    timed: Any, time: Any
) -> None:
    def events() -> Iterator[str]:
        yield "data: x\n\n"
        time.pass_(3600)
        raise ValueError("no yarn")

    timed.app.get("/events", endpoint="events")(
        lambda: Response(events(), mimetype="text/event-stream")
    )
    for _ in range(4):
        with pytest.raises(ValueError, match="no yarn"):
            list(timed.app.wsgi_app(_environ("/events", {}), _start))
    row = timed.row("events")
    assert (row["status"]["long_poll"], row["status"]["5xx"], row["p95_ms"]) == (4, 0, None)
    assert [finding["type"] for finding in timed.report()["bottlenecks"]] == ["LOW_SUCCESS_RATE"]


def test_websockets_that_all_fail_are_a_finding(quiet: Any) -> None:
    def broken() -> str:
        raise ValueError("no yarn")

    quiet.app.route("/broken", endpoint="broken", websocket=True)(broken)
    for _ in range(4):
        quiet.get("/broken", **HANDSHAKE)
    (finding,) = quiet.report()["bottlenecks"]
    assert (finding["type"], finding["samples"]) == ("LOW_SUCCESS_RATE", 4)
    assert "all websockets fail. 100 % of the failures: ValueError" in finding["text"]
    assert quiet.row("broken")["success_rate"] is None


def test_requests_and_websockets_of_one_endpoint_are_judged_together(live: Any) -> None:
    live.app.before_request(lambda: ("no", 403))
    live.get("/live", **HANDSHAKE)
    live.app.before_request_funcs[None].clear()
    for _ in range(3):
        converse(live, "/live", ValueError)
    (finding,) = live.report()["bottlenecks"]
    assert "75 % of requests and websockets fail" in finding["text"]


def test_an_open_websocket_is_in_flight_and_neither_a_neighbour_nor_busy_time(
    live: Any, time: Any
) -> None:
    seen: dict[str, Any] = {}
    recorder, profile = live.session.recorder, live.session.profile

    def open_() -> Any:
        time.pass_(2)
        profile.in_flight.tick()
        busy = profile.busy_ns
        live.get("/")
        (row,) = [row for row in live.report()["endpoints"] if row["endpoint"] == "open"]
        concurrent = [0]
        seen.update(row=row, concurrent=concurrent, busy=profile.busy_ns - busy,
                    spans=len(recorder.spans))  # fmt: skip
        profile.in_flight.tick()
        time.pass_(3600)
        return Taken()

    live.app.route("/open", endpoint="open", websocket=True)(open_)
    converse(live, "/open", StopIteration)
    assert (seen["row"]["in_flight"], seen["spans"], seen["busy"]) == (1, 0, 0)
    assert (recorder.conversations, profile.busy_ns) == ({}, 2_000_000_000)
    row = live.row("open")
    assert (row["killed"], row["status"]["websocket"]) == (0, 1)


def test_the_pages_and_the_terminal_show_websockets_unjudged(live: Any) -> None:
    from flask_knitperf.render import html, terminal

    converse(live, "/live", StopIteration)
    document = live.session.documents.why("live", "GET", "run").document
    text = terminal.why(document)
    assert "1 websocket: p50 60 min" in text and "not judged" in text
    facts = dict(html._facts(live.row("live")))
    assert facts["Responses"] == "none yet" and "not judged" in facts["Websockets"]


@pytest.mark.parametrize("key", ["HTTP_CONNECTION", "SERVER_SOFTWARE", "QUERY_STRING"])
def test_an_environment_of_the_wrong_types_loses_no_request(quiet: Any, key: str) -> None:
    def broken(_: Any, __: Any) -> Any:
        raise ConnectionError

    quiet.put_inside(broken)
    with pytest.raises(ConnectionError):
        quiet.app.wsgi_app({**_environ("/x", HANDSHAKE), "gunicorn.socket": 1, key: None}, _start)
    (row,) = quiet.report()["endpoints"]
    assert row["count"] == 1


def test_a_head_of_an_event_stream_is_a_request(quiet: Any) -> None:
    quiet.app.get("/events", endpoint="events")(
        lambda: Response(iter([b"data: x"]), mimetype="text/event-stream")
    )
    for _ in range(3):
        quiet.send("HEAD", "/events")
    assert quiet.row("events", "HEAD")["count"] == 3
