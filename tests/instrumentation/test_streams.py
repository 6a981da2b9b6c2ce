"""Streamed bodies and files: the span ends with the body, and neither changes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from asgiref.wsgi import WsgiToAsgi
from flask import (
    Response,
    request,
    send_file,
    stream_with_context,
)
from werkzeug.wsgi import ClosingIterator, FileWrapper

from flask_knitperf.core.sampling import position
from flask_knitperf.recording.fastpath import COST_EVERY, COST_STRIDE
from flask_knitperf.recording.span import CURRENT

from .calls import counts, start

# -- streams ----------------------------------------------------------------------------------------


def test_a_stream_is_timed_and_counted_to_its_last_byte(timed: Any, time: Any) -> None:
    def rows() -> Iterator[str]:
        for _ in range(4):
            time.pass_(0.5)
            yield "x" * 100

    timed.app.get("/rows", endpoint="rows")(lambda: Response(rows()))
    timed.get("/rows")
    row = timed.row("rows")
    assert (row["mean_ms"], row["bytes_out_mean"], row["count"]) == (2000, 400, 1)


def test_a_stream_that_was_not_read_yet_is_in_flight(quiet: Any) -> None:
    quiet.app.get("/rows", endpoint="rows")(lambda: Response(iter(["a"])))
    body = start(quiet, "/rows")
    assert len(quiet.session.recorder.spans) == 1
    body.close()


def test_a_stream_passes_its_chunks_on_as_they_come(quiet: Any) -> None:
    quiet.app.get("/rows", endpoint="rows")(lambda: Response(iter(["a", "b", "c"])))
    body = start(quiet, "/rows")
    assert list(body) == [b"a", b"b", b"c"]
    body.close()


@pytest.mark.parametrize("chunk", [None, 5, object()], ids=["None", "number", "object"])
def test_a_chunk_that_is_not_bytes_is_left_to_the_server(quiet: Any, chunk: Any) -> None:
    def odd(_: Any, start_response: Any) -> Any:  # gevent and uWSGI skip None, others refuse it
        start_response("200 OK", [])
        return iter([b"a", chunk, b"b"])

    quiet.put_inside(odd)
    for _ in range(3):  # the fast path too
        body = start(quiet, "/")
        assert list(body) == [b"a", chunk, b"b"]
        body.close()
    row = quiet.row("<middleware>")
    assert (row["status"]["2xx"], row["disconnected"], row["bytes_out_mean"]) == (3, 0, 2)


def test_a_request_whose_environment_was_emptied_is_counted(quiet: Any) -> None:
    def emptying(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        environ.clear()
        return iter([b"a"])

    quiet.put_inside(emptying)
    for _ in range(3):
        assert list(start(quiet, "/")) == [b"a"]
    assert quiet.row("<middleware>", "<other>")["count"] == 3


def test_a_section_in_a_stream_belongs_to_its_request(timed: Any, time: Any) -> None:
    def rows() -> Iterator[str]:
        for _ in range(3):
            with timed.perf.section("format row"):
                time.pass_(0.1)
            yield "x"

    timed.app.get("/rows", endpoint="rows")(lambda: Response(rows()))
    timed.get("/rows")
    assert timed.parts("rows")["section:format row"]["count"] == 3


def test_between_the_chunks_of_a_stream_no_span_is_current(quiet: Any) -> None:
    quiet.app.get("/rows", endpoint="rows")(lambda: Response(iter(["a", "b"])))
    body = start(quiet, "/rows")
    spans = [CURRENT.get() for _ in body]
    body.close()
    assert spans == [None, None]


def test_stream_with_context_keeps_the_request_and_the_span(timed: Any, time: Any) -> None:
    @timed.app.get("/rows", endpoint="rows")
    def rows() -> Response:
        def generate() -> Iterator[str]:
            with timed.perf.section("row"):
                time.pass_(0.25)
                yield request.path

        return Response(stream_with_context(generate()))

    assert timed.get("/rows").body == b"/rows"
    assert timed.row("rows")["mean_ms"] == 250
    assert "section:row" in timed.parts("rows")


def test_a_client_that_leaves_in_mid_stream_is_counted_as_disconnected(
    timed: Any, time: Any
) -> None:
    def rows() -> Iterator[str]:
        for _ in range(10):
            time.pass_(1)
            yield "x" * 10

    timed.app.get("/rows", endpoint="rows")(lambda: Response(rows()))
    body = start(timed, "/rows")
    next(body), next(body)
    body.close()
    row = timed.row("rows")
    assert (row["count"], row["disconnected"], row["bytes_out_mean"]) == (1, 1, 20)
    assert row["mean_ms"] == 2000


def test_a_stream_that_was_read_whole_was_not_disconnected(quiet: Any) -> None:
    quiet.app.get("/rows", endpoint="rows")(lambda: Response(iter(["a"])))
    quiet.get("/rows")
    assert quiet.row("rows")["disconnected"] == 0


def test_closing_a_stream_closes_the_applications_generator(quiet: Any) -> None:
    closed: list[bool] = []

    def rows() -> Iterator[str]:
        try:
            yield "a"
            yield "b"
        finally:
            closed.append(True)

    quiet.app.get("/rows", endpoint="rows")(lambda: Response(rows()))
    body = start(quiet, "/rows")
    next(body)
    body.close()
    assert closed == [True]


def test_a_stream_that_fails_is_counted_as_5xx_though_200_was_sent(quiet: Any) -> None:
    def rows() -> Iterator[str]:
        yield "a"
        raise ValueError("no yarn")

    quiet.app.get("/rows", endpoint="rows")(lambda: Response(rows()))
    body = start(quiet, "/rows")
    with pytest.raises(ValueError, match="no yarn"):
        list(body)
    body.close()
    row = quiet.row("rows")
    assert (row["count"], row["status"]["5xx"], row["bytes_out_mean"]) == (1, 1, 1)


def test_a_stream_that_ends_the_worker_is_counted_as_killed(quiet: Any) -> None:
    def rows() -> Iterator[str]:
        yield "a"
        raise SystemExit

    quiet.app.get("/rows", endpoint="rows")(lambda: Response(rows()))
    body = start(quiet, "/rows")
    with pytest.raises(SystemExit):
        list(body)
    body.close()
    row = quiet.row("rows")
    assert (row["count"], row["killed"]) == (0, 1)


def test_a_body_that_fails_to_close_still_ends_its_span(make_app: Callable[..., Any]) -> None:
    mill = make_app(TESTING=True)

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"a"])

        def close(self) -> None:
            raise OSError("gone")

    mill.app.get("/rows", endpoint="rows")(lambda: Response(Body()))
    body = start(mill, "/rows")
    list(body)
    with pytest.raises(OSError, match="gone"):
        body.close()
    assert counts(mill) == {"rows": 1}


def test_closing_a_stream_twice_counts_it_once(quiet: Any) -> None:
    quiet.app.get("/rows", endpoint="rows")(lambda: Response(iter(["a"])))
    body = start(quiet, "/rows")
    list(body)
    body.close()
    body.close()
    assert counts(quiet) == {"rows": 1}


def test_a_client_that_neither_reads_nor_closes_is_counted_when_it_frees_the_body(
    quiet: Any,
) -> None:
    quiet.app.get("/rows", endpoint="rows")(lambda: Response(iter(["a"])))
    start(quiet, "/rows")
    gc.collect()
    row = quiet.row("rows")
    assert (row["count"], row["disconnected"]) == (1, 1)


def test_flasks_test_client_which_never_closes_counts_each_request_once(quiet: Any) -> None:
    quiet.app.get("/rows", endpoint="rows")(lambda: Response(iter(["a", "b"])))
    client = quiet.client
    for _ in range(5):
        client.get("/rows"), client.get("/")
    gc.collect()
    assert counts(quiet) == {"rows": 5, "index": 5}


def test_a_stream_may_be_read_and_closed_by_another_thread(timed: Any, time: Any) -> None:
    timed.app.get("/rows", endpoint="rows")(lambda: time.pass_(1, cpu=1) or Response(iter("ab")))
    body = start(timed, "/rows")

    def read() -> None:
        list(body)
        body.close()

    reader = threading.Thread(target=read)
    reader.start()
    reader.join()
    row = timed.row("rows")
    assert (row["count"], row["mean_ms"], row["cpu_ms"]) == (1, 1000, None)


# -- files ------------------------------------------------------------------------------------------


class Wrapper(FileWrapper):
    """The ``wsgi.file_wrapper`` of a server."""


@pytest.fixture
def with_file(quiet: Any) -> Any:
    quiet.app.get("/file", endpoint="file")(
        lambda: send_file(io.BytesIO(b"y" * 5000), mimetype="text/plain")
    )
    return quiet


def test_a_file_reaches_the_server_in_the_server_s_wrapper(with_file: Any) -> None:
    body = start(with_file, "/file", **{"wsgi.file_wrapper": Wrapper})
    assert type(body) is Wrapper
    body.close()


def test_a_file_is_counted_when_the_server_closes_it(with_file: Any) -> None:
    body = start(with_file, "/file", **{"wsgi.file_wrapper": Wrapper})
    before = counts(with_file)
    body.close()
    assert (before, counts(with_file)) == ({}, {"file": 1})


def test_a_file_is_counted_with_its_bytes(with_file: Any) -> None:
    with_file.get("/file", **{"wsgi.file_wrapper": Wrapper})
    assert with_file.row("file")["bytes_out_mean"] == 5000


def test_closing_a_file_wrapper_closes_the_file(quiet: Any) -> None:
    file = io.BytesIO(b"y")
    quiet.app.get("/file", endpoint="file")(lambda: send_file(file, mimetype="text/plain"))
    start(quiet, "/file", **{"wsgi.file_wrapper": Wrapper}).close()
    assert file.closed


def test_a_file_without_a_servers_wrapper_is_counted_once(with_file: Any) -> None:
    assert with_file.get("/file").body == b"y" * 5000
    assert counts(with_file) == {"file": 1}


def test_a_part_of_a_file_is_counted_with_the_bytes_of_that_part(quiet: Any) -> None:
    @quiet.app.get("/file", endpoint="file")
    def file() -> Response:
        return send_file(io.BytesIO(b"y" * 5000), mimetype="text/plain", conditional=True)

    response = quiet.get("/file", HTTP_RANGE="bytes=0-99")
    assert (response.code, quiet.row("file")["bytes_out_mean"]) == (206, 100)


def test_a_file_wrapper_without_settable_attributes_is_passed_on_untouched(quiet: Any) -> None:
    class Rigid:
        __slots__ = ("file",)

        def __init__(self, file: Any, size: int = 8192) -> None:
            self.file = file

        def __iter__(self) -> Iterator[bytes]:
            return iter([self.file.read()])

        def close(self) -> None:
            self.file.close()

    quiet.app.get("/file", endpoint="file")(
        lambda: send_file(io.BytesIO(b"y"), mimetype="text/plain")
    )
    body = start(quiet, "/file", **{"wsgi.file_wrapper": Rigid})
    assert (type(body), counts(quiet)) == (Rigid, {"file": 1})
    body.close()


def test_the_file_wrapper_of_werkzeug_is_supported(with_file: Any) -> None:
    response = with_file.get("/file", **{"wsgi.file_wrapper": FileWrapper})
    assert response.body == b"y" * 5000 and counts(with_file) == {"file": 1}


def test_a_file_that_a_server_without_a_wrapper_never_closes_is_counted_once(
    with_file: Any,
) -> None:
    """As asgiref's ``WsgiToAsgi`` does: it reads the body to its end."""
    assert b"".join(start(with_file, "/file")) == b"y" * 5000
    assert (counts(with_file), with_file.session.recorder.spans) == ({"file": 1}, {})


def test_a_file_that_its_server_drops_unread_is_counted_when_it_is_freed(with_file: Any) -> None:
    body = start(with_file, "/file", **{"wsgi.file_wrapper": Wrapper})
    del body
    gc.collect()
    assert (counts(with_file), with_file.session.recorder.spans) == ({"file": 1}, {})


def test_a_middleware_that_starts_its_response_with_the_body_is_counted_with_its_status(
    quiet: Any,
) -> None:
    inner = quiet.inner

    def late(environ: Any, start_response: Any) -> Iterator[bytes]:
        yield from inner(environ, start_response)

    quiet.put_inside(late)
    assert [quiet.get(path).code for path in ("/", "/", "/nowhere")] == [200, 200, 404]
    assert quiet.row("index")["status"]["2xx"] == 2
    assert quiet.row("<unmatched>")["status"]["4xx"] == 1


def test_a_file_behind_the_adapter_of_asgiref_is_counted_once(with_file: Any) -> None:
    async def request() -> bytes:
        scope = {"type": "http", "method": "GET", "path": "/file", "query_string": b"",
                 "http_version": "1.1", "headers": [], "server": ("127.0.0.1", 80)}  # fmt: skip
        link = ApplicationCommunicator(WsgiToAsgi(with_file.app), scope)
        await link.send_input({"type": "http.request", "body": b""})
        assert (await link.receive_output())["status"] == 200
        body, more = b"", True
        while more:
            message = await link.receive_output()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        return body

    assert asyncio.run(request()) == b"y" * 5000
    assert (counts(with_file), with_file.session.recorder.spans) == ({"file": 1}, {})


@pytest.mark.parametrize("requests", [1, 3])
def test_a_middleware_that_iterates_over_a_body_is_timed_until_its_end(
    timed: Any, time: Any, requests: int
) -> None:
    inner = timed.inner

    def slow(chunks: Any) -> Any:
        for chunk in chunks:
            time.pass_(0.005)
            yield chunk * 2

    def middleware(environ: Any, start: Any) -> Any:
        body = inner(environ, start)
        return ClosingIterator(slow(body), body.close)

    timed.put_inside(middleware)
    for _ in range(requests):
        assert timed.get("/").body == b"okok"
    row = timed.row("index")
    assert (row["p50_ms"], row["bytes_out_mean"]) == (5.0, 4)


def test_our_own_cost_of_a_stream_counts_once_whatever_ends_it(quiet: Any) -> None:
    profile = quiet.session.profile
    costs: list[int] = []
    profile.record_cost = costs.append

    def rows(error: Any) -> Any:
        yield "a"
        if error:
            raise error

    quiet.app.get("/<int:fails>", endpoint="it")(
        lambda fails: Response(rows(ValueError() if fails else None))
    )
    for fails in (0, 1):
        for _ in range(2 * COST_EVERY):
            body = start(quiet, f"/{fails}")
            with contextlib.suppress(ValueError):
                list(body)
            list(body)
            body.close()
            body.close()
    chosen = range(1, profile.requests_started + 1)
    assert len(costs) == sum(
        position(number * COST_STRIDE, COST_EVERY) == COST_EVERY - 1 for number in chosen
    )
