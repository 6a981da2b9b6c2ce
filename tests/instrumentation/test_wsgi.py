"""The request's span: begun before routing, ended exactly once, and right whatever happens between."""

from __future__ import annotations

import asyncio
import gc
import inspect
import io
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from flask import (
    Blueprint,
    Flask,
    Response,
    copy_current_request_context,
    redirect,
    request,
    send_file,
    session,
    stream_with_context,
)
from flask.views import MethodView, View
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import create_environ
from werkzeug.wsgi import FileWrapper

from flask_knitperf.recording.span import CURRENT

MS = 0.001


def begin(mill: Any, path: str, method: str = "GET", **environ: Any) -> tuple[dict[str, Any], Any]:
    """Call the application as a server does; return its answer's head and its unread body."""
    said: dict[str, Any] = {}
    given = {**create_environ(path, method=method), **environ}

    def start_response(status: str, headers: Any, exc_info: Any = None) -> None:
        said.update(status=status, headers=dict(headers))

    return said, mill.app.wsgi_app(given, start_response)


def counts(mill: Any) -> dict[str, int]:
    return {row["endpoint"]: row["count"] for row in mill.report()["endpoints"]}


# -- one request, one count ------------------------------------------------------------------------


def test_a_request_is_counted_once(quiet: Any) -> None:
    quiet.get("/")
    assert counts(quiet) == {"index": 1}


def test_a_request_takes_the_time_from_its_begin_to_its_end(timed: Any, time: Any) -> None:
    timed.app.get("/slow", endpoint="slow")(lambda: time.pass_(1.25) or "slow")
    timed.get("/slow")
    assert timed.row("slow")["mean_ms"] == 1250


def test_cpu_and_waiting_add_up_to_the_time(timed: Any, time: Any) -> None:
    timed.app.get("/slow", endpoint="slow")(lambda: time.pass_(1.0, cpu=0.3) or "slow")
    timed.get("/slow")
    row = timed.row("slow")
    assert (row["cpu_ms"], row["wait_ms"]) == (300, 700)


def test_time_is_taken_around_the_whole_application(timed: Any, time: Any) -> None:
    inner = timed.app.wsgi_app.app

    def slow_middleware(environ: Any, start_response: Any) -> Any:
        time.pass_(0.5)
        return inner(environ, start_response)

    timed.app.wsgi_app.app = slow_middleware
    timed.get("/")
    assert timed.row("index")["mean_ms"] == 500


@pytest.mark.parametrize(
    ("status", "field"),
    [(200, "2xx"), (201, "2xx"), (204, "2xx"), (301, "3xx"), (304, "3xx"), (400, "4xx"),
     (418, "4xx"), (500, "5xx"), (503, "5xx"), (599, "5xx")],
)  # fmt: skip
def test_an_answer_is_counted_by_the_class_of_its_status(
    quiet: Any, status: int, field: str
) -> None:
    quiet.app.get("/it", endpoint="it")(lambda: ("", status))
    quiet.get("/it")
    row = quiet.row("it")
    assert (row["status"][field], sum(row["status"].values())) == (1, 1)


@pytest.mark.parametrize("status", ["200", "200 ", "799 Odd", "099 Odd"])
def test_an_odd_status_line_is_still_counted_once(quiet: Any, status: str) -> None:
    quiet.app.get("/it", endpoint="it")(lambda: Response("x", status=status))
    quiet.get("/it")
    assert quiet.row("it")["count"] == 1


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body_ends_its_span(timed: Any, time: Any, status: int) -> None:
    timed.app.get("/it", endpoint="it")(lambda: time.pass_(0.1) or ("", status))
    timed.get("/it")
    row = timed.row("it")
    assert (row["mean_ms"], row["bytes_out_mean"]) == (100, None)


def test_a_head_request_is_a_row_of_its_own_and_sends_nothing(quiet: Any) -> None:
    quiet.send("HEAD", "/")
    row = quiet.row("index", "HEAD")
    assert (row["count"], row["bytes_out_mean"]) == (1, None)


def test_a_head_of_a_stream_ends_its_span(quiet: Any) -> None:
    quiet.app.get("/rows", endpoint="rows")(lambda: Response(iter(["a", "b"])))
    _, body = begin(quiet, "/rows", "HEAD")
    assert quiet.row("rows", "HEAD")["count"] == 1
    body.close()


def test_bytes_out_are_those_of_the_body(quiet: Any) -> None:
    quiet.app.get("/it", endpoint="it")(lambda: "grün" * 10)
    quiet.get("/it")
    assert quiet.row("it")["bytes_out_mean"] == 50


def test_a_conditional_answer_is_counted_as_304(quiet: Any) -> None:
    @quiet.app.get("/it", endpoint="it")
    def it() -> Response:
        made = Response("cloth")
        made.set_etag("v1")
        return made.make_conditional(request)

    answer = quiet.get("/it", HTTP_IF_NONE_MATCH='"v1"')
    assert (answer.code, quiet.row("it")["status"]["3xx"]) == (304, 1)


def test_an_early_hook_that_redirects_is_counted_for_the_endpoint(quiet: Any) -> None:
    quiet.app.before_request(lambda: redirect("/login") if request.path == "/" else None)
    quiet.get("/")
    assert quiet.row("index")["status"]["3xx"] == 1


def test_a_path_without_a_rule_is_unmatched(quiet: Any) -> None:
    quiet.get("/nowhere")
    row = quiet.row("<unmatched>")
    assert (row["count"], row["status"]["4xx"], row["rule"]) == (1, 1, None)


def test_a_method_that_is_not_allowed_is_counted_as_4xx(quiet: Any) -> None:
    assert quiet.send("POST", "/").code == 405
    assert sum(row["status"]["4xx"] for row in quiet.report()["endpoints"]) == 1


def test_a_slash_redirect_is_counted_once(quiet: Any) -> None:
    quiet.app.get("/list/", endpoint="list")(lambda: "x")
    assert quiet.get("/list").code == 308
    assert sum(row["status"]["3xx"] for row in quiet.report()["endpoints"]) == 1


# -- errors ----------------------------------------------------------------------------------------


def fail() -> str:
    raise ValueError("no yarn")


def test_an_unhandled_error_is_counted_as_5xx(quiet: Any) -> None:
    quiet.app.get("/it", endpoint="it")(fail)
    assert (quiet.get("/it").code, quiet.row("it")["status"]["5xx"]) == (500, 1)


def test_an_error_that_a_handler_turns_into_500_is_counted_as_5xx(quiet: Any) -> None:
    quiet.app.get("/it", endpoint="it")(fail)
    quiet.app.register_error_handler(Exception, lambda error: ("sorry", 500))
    assert (quiet.get("/it").body, quiet.row("it")["status"]["5xx"]) == (b"sorry", 1)


def test_an_error_that_a_handler_turns_into_200_is_a_success(quiet: Any) -> None:
    quiet.app.get("/it", endpoint="it")(fail)
    quiet.app.register_error_handler(ValueError, lambda error: ("none left", 200))
    quiet.get("/it")
    assert quiet.row("it")["success_rate"] == 1


@pytest.mark.parametrize("config", [{"PROPAGATE_EXCEPTIONS": True}, {"PROPAGATE_EXCEPTIONS": None}])
def test_a_propagated_error_reaches_the_caller_and_is_counted_for_its_endpoint(
    make_app: Callable[..., Any], config: dict[str, Any]
) -> None:
    mill = make_app(TESTING=True, **config)
    mill.app.get("/it", endpoint="it")(fail)
    with pytest.raises(ValueError, match="no yarn"):
        mill.get("/it")
    row = mill.row("it")
    assert (row["count"], row["status"]["5xx"]) == (1, 1)


def test_an_error_before_routing_is_counted_for_the_endpoint_of_its_address(
    make_app: Callable[..., Any],
) -> None:
    mill = make_app(TESTING=True, PROPAGATE_EXCEPTIONS=False)

    def broken(environ: Any, start_response: Any) -> Any:
        raise ValueError("no yarn")

    mill.app.wsgi_app.app = broken
    with pytest.raises(ValueError, match="no yarn"):
        mill.get("/")
    with pytest.raises(ValueError, match="no yarn"):
        mill.get("/nowhere")
    assert mill.row("index")["status"]["5xx"] == 1
    assert mill.row("<unmatched>")["status"]["5xx"] == 1


def test_an_error_in_a_teardown_is_counted_once_for_its_endpoint(
    make_app: Callable[..., Any],
) -> None:
    mill = make_app(TESTING=True)

    @mill.app.teardown_request
    def teardown(error: Any) -> None:
        raise ValueError("no yarn")

    with pytest.raises(ValueError, match="no yarn"):
        begin(mill, "/")[1].close()
    assert counts(mill) == {"index": 1}


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_a_view_that_ends_the_worker_is_counted_as_killed_with_its_age(
    timed: Any, time: Any, kind: type[BaseException]
) -> None:
    @timed.app.get("/it", endpoint="it")
    def it() -> str:
        time.pass_(3)
        raise kind

    with pytest.raises(kind):
        timed.get("/it")
    row = timed.row("it")
    assert (row["killed"], row["count"], row["time_spent_s"]) == (1, 0, 3)


def test_after_an_error_no_span_is_current(make_app: Callable[..., Any]) -> None:
    mill = make_app(TESTING=True)
    mill.app.get("/it", endpoint="it")(fail)
    with pytest.raises(ValueError, match="no yarn"):
        mill.get("/it")
    assert CURRENT.get() is None


# -- streams ---------------------------------------------------------------------------------------


def test_a_stream_is_timed_and_counted_to_its_last_byte(timed: Any, time: Any) -> None:
    def rows() -> Iterator[str]:
        for _ in range(4):
            time.pass_(0.5)
            yield "x" * 100

    timed.app.get("/rows", endpoint="rows")(lambda: Response(rows()))
    timed.get("/rows")
    row = timed.row("rows")
    assert (row["mean_ms"], row["bytes_out_mean"], row["count"]) == (2000, 400, 1)


def test_a_stream_that_nobody_has_begun_to_read_is_in_flight(quiet: Any) -> None:
    quiet.app.get("/rows", endpoint="rows")(lambda: Response(iter(["a"])))
    _, body = begin(quiet, "/rows")
    assert len(quiet.session.recorder.spans) == 1
    body.close()


def test_a_stream_passes_its_pieces_on_as_they_come(quiet: Any) -> None:
    quiet.app.get("/rows", endpoint="rows")(lambda: Response(iter(["a", "b", "c"])))
    _, body = begin(quiet, "/rows")
    assert list(body) == [b"a", b"b", b"c"]
    body.close()


def test_a_section_in_a_stream_belongs_to_its_request(timed: Any, time: Any) -> None:
    def rows() -> Iterator[str]:
        for _ in range(3):
            with timed.perf.section("format row"):
                time.pass_(0.1)
            yield "x"

    timed.app.get("/rows", endpoint="rows")(lambda: Response(rows()))
    timed.get("/rows")
    assert timed.parts("rows")["section:format row"]["count"] == 3


def test_between_the_pieces_of_a_stream_no_span_is_current(quiet: Any) -> None:
    quiet.app.get("/rows", endpoint="rows")(lambda: Response(iter(["a", "b"])))
    _, body = begin(quiet, "/rows")
    seen = [CURRENT.get() for _ in body]
    body.close()
    assert seen == [None, None]


def test_stream_with_context_keeps_the_request_and_the_span(timed: Any, time: Any) -> None:
    @timed.app.get("/rows", endpoint="rows")
    def rows() -> Response:
        def made() -> Iterator[str]:
            with timed.perf.section("row"):
                time.pass_(0.25)
                yield request.path

        return Response(stream_with_context(made()))

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
    _, body = begin(timed, "/rows")
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
    _, body = begin(quiet, "/rows")
    next(body)
    body.close()
    assert closed == [True]


def test_a_stream_that_fails_is_counted_as_5xx_though_200_was_sent(quiet: Any) -> None:
    def rows() -> Iterator[str]:
        yield "a"
        raise ValueError("no yarn")

    quiet.app.get("/rows", endpoint="rows")(lambda: Response(rows()))
    _, body = begin(quiet, "/rows")
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
    _, body = begin(quiet, "/rows")
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
    _, body = begin(mill, "/rows")
    list(body)
    with pytest.raises(OSError, match="gone"):
        body.close()
    assert counts(mill) == {"rows": 1}


def test_closing_a_stream_twice_counts_it_once(quiet: Any) -> None:
    quiet.app.get("/rows", endpoint="rows")(lambda: Response(iter(["a"])))
    _, body = begin(quiet, "/rows")
    list(body)
    body.close()
    body.close()
    assert counts(quiet) == {"rows": 1}


def test_a_client_that_neither_reads_nor_closes_is_counted_when_it_lets_go(quiet: Any) -> None:
    quiet.app.get("/rows", endpoint="rows")(lambda: Response(iter(["a"])))
    begin(quiet, "/rows")
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
    _, body = begin(timed, "/rows")

    def read() -> None:
        list(body)
        body.close()

    reader = threading.Thread(target=read)
    reader.start()
    reader.join()
    row = timed.row("rows")
    assert (row["count"], row["mean_ms"], row["cpu_ms"]) == (1, 1000, None)


# -- files -----------------------------------------------------------------------------------------


class Wrapper(FileWrapper):
    """A server's own ``wsgi.file_wrapper``."""


@pytest.fixture
def with_file(quiet: Any) -> Any:
    quiet.app.get("/file", endpoint="file")(
        lambda: send_file(io.BytesIO(b"y" * 5000), mimetype="text/plain")
    )
    return quiet


def test_a_file_goes_to_the_server_in_the_servers_own_wrapper(with_file: Any) -> None:
    _, body = begin(with_file, "/file", **{"wsgi.file_wrapper": Wrapper})
    assert type(body) is Wrapper
    body.close()


def test_a_file_is_counted_when_the_server_closes_it(with_file: Any) -> None:
    _, body = begin(with_file, "/file", **{"wsgi.file_wrapper": Wrapper})
    before = counts(with_file)
    body.close()
    assert (before, counts(with_file)) == ({}, {"file": 1})


def test_a_file_is_counted_with_its_bytes(with_file: Any) -> None:
    with_file.get("/file", **{"wsgi.file_wrapper": Wrapper})
    assert with_file.row("file")["bytes_out_mean"] == 5000


def test_closing_a_file_closes_what_is_behind_it(quiet: Any) -> None:
    file = io.BytesIO(b"y")
    quiet.app.get("/file", endpoint="file")(lambda: send_file(file, mimetype="text/plain"))
    begin(quiet, "/file", **{"wsgi.file_wrapper": Wrapper})[1].close()
    assert file.closed


def test_a_file_without_a_servers_wrapper_is_counted_once(with_file: Any) -> None:
    assert with_file.get("/file").body == b"y" * 5000
    assert counts(with_file) == {"file": 1}


def test_a_part_of_a_file_is_counted_with_the_bytes_of_that_part(quiet: Any) -> None:
    @quiet.app.get("/file", endpoint="file")
    def file() -> Response:
        return send_file(io.BytesIO(b"y" * 5000), mimetype="text/plain", conditional=True)

    answer = quiet.get("/file", HTTP_RANGE="bytes=0-99")
    assert (answer.code, quiet.row("file")["bytes_out_mean"]) == (206, 100)


def test_a_file_wrapper_that_takes_no_attribute_is_passed_on_untouched(quiet: Any) -> None:
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
    _, body = begin(quiet, "/file", **{"wsgi.file_wrapper": Rigid})
    assert (type(body), counts(quiet)) == (Rigid, {"file": 1})
    body.close()


def test_a_file_wrapper_that_is_a_function_is_no_obstacle(with_file: Any) -> None:
    answer = with_file.get("/file", **{"wsgi.file_wrapper": FileWrapper})
    assert answer.body == b"y" * 5000 and counts(with_file) == {"file": 1}


# -- async views -----------------------------------------------------------------------------------


def test_an_async_view_has_its_time_but_no_cpu_time(timed: Any, time: Any) -> None:
    @timed.app.get("/it", endpoint="it")
    async def it() -> str:
        await asyncio.sleep(0)
        time.pass_(0.5, cpu=0.5)
        return "x"

    timed.get("/it")
    row = timed.row("it")
    assert (row["mean_ms"], row["cpu_ms"], row["wait_ms"]) == (500, None, None)


def test_an_async_method_view_has_no_cpu_time_either(timed: Any, time: Any) -> None:
    class It(MethodView):
        async def get(self) -> str:
            time.pass_(0.5, cpu=0.5)
            return "x"

    timed.app.add_url_rule("/it", view_func=It.as_view("it"))
    timed.get("/it")
    assert timed.row("it")["cpu_ms"] is None


def test_a_section_in_an_async_view_belongs_to_its_request(timed: Any, time: Any) -> None:
    @timed.app.get("/it", endpoint="it")
    async def it() -> str:
        with timed.perf.section("knit"):
            await asyncio.sleep(0)
            time.pass_(0.5)
        return "x"

    timed.get("/it")
    assert timed.parts("it")["section:knit"]["ms"] == 500


def test_an_async_view_that_fails_is_counted_once(quiet: Any) -> None:
    @quiet.app.get("/it", endpoint="it")
    async def it() -> str:
        raise ValueError("no yarn")

    quiet.get("/it")
    assert quiet.row("it")["status"]["5xx"] == 1


# -- requests within requests ----------------------------------------------------------------------


def test_a_view_that_calls_its_own_application_gives_two_requests(timed: Any, time: Any) -> None:
    timed.app.get("/inner", endpoint="inner")(lambda: time.pass_(0.2) or "in")

    @timed.app.get("/outer", endpoint="outer")
    def outer() -> str:
        time.pass_(0.1)
        answer = timed.app.test_client().get("/inner").text
        time.pass_(0.1)
        return str(answer)

    assert timed.get("/outer").body == b"in"
    assert (timed.row("inner")["mean_ms"], timed.row("outer")["mean_ms"]) == (200, 400)


def test_after_an_inner_request_the_outer_one_is_current_again(timed: Any, time: Any) -> None:
    timed.app.get("/inner", endpoint="inner")(lambda: "in")

    @timed.app.get("/outer", endpoint="outer")
    def outer() -> str:
        timed.app.test_client().get("/inner")
        with timed.perf.section("after"):
            time.pass_(0.1)
        return "out"

    timed.get("/outer")
    assert timed.parts("outer")["section:after"]["ms"] == 100


def test_two_applications_behind_a_dispatcher_count_their_own_requests(
    make_app: Callable[..., Any],
) -> None:
    front, back = make_app(name="front", TESTING=True), make_app(name="back", TESTING=True)
    front.app.wsgi_app = DispatcherMiddleware(front.app.wsgi_app, {"/back": back.app})
    for path in ("/", "/back/", "/back/", "/back/perfect"):
        front.get(path)
    assert (counts(front), counts(back)) == ({"index": 1}, {"index": 2, "<unmatched>": 1})


def test_an_application_inside_another_ones_view_counts_in_both(
    make_app: Callable[..., Any],
) -> None:
    front, back = make_app(name="front", TESTING=True), make_app(name="back", TESTING=True)
    front.app.get("/proxy", endpoint="proxy")(lambda: back.client.get("/").text)
    front.get("/proxy")
    assert (counts(front), counts(back)) == ({"proxy": 1}, {"index": 1})


def test_a_section_belongs_to_the_application_that_runs(
    make_app: Callable[..., Any], time: Any
) -> None:
    front, back = make_app(name="front", TESTING=True), make_app(name="back", TESTING=True)
    back.session.recorder.clock = time.clock()

    @back.app.get("/it", endpoint="it")
    def it() -> str:
        with front.perf.section("weave"):
            time.pass_(0.1)
        return "x"

    front.app.get("/proxy", endpoint="proxy")(lambda: back.client.get("/it").text)
    front.get("/proxy")
    assert (set(back.parts("it")), front.parts("proxy")) == ({"section:weave"}, {})


def test_a_section_in_a_stream_is_found_though_there_are_two_applications(
    timed: Any, time: Any, make_app: Callable[..., Any]
) -> None:
    make_app(name="other", TESTING=True)

    def rows() -> Iterator[str]:
        with timed.perf.section("row"):
            time.pass_(0.1)
        yield "x"

    timed.app.get("/rows", endpoint="rows")(lambda: Response(rows()))
    timed.get("/rows")
    assert set(timed.parts("rows")) == {"section:row"}


def test_a_test_request_context_counts_nothing(quiet: Any) -> None:
    with quiet.app.test_request_context("/"), quiet.perf.section("x"):
        quiet.app.preprocess_request()
    assert counts(quiet) == {}


def test_full_dispatch_without_wsgi_counts_nothing_and_harms_nothing(quiet: Any) -> None:
    with quiet.app.test_request_context("/"):
        assert quiet.app.full_dispatch_request().get_data() == b"ok"
    assert counts(quiet) == {}


def test_a_copied_context_in_a_thread_does_not_end_the_request(timed: Any, time: Any) -> None:
    seen: list[str] = []

    @timed.app.get("/it", endpoint="it")
    def it() -> str:
        @copy_current_request_context
        def work() -> None:
            with timed.perf.section("in a thread"):
                seen.append(request.path)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        time.pass_(0.3)
        return "x"

    timed.get("/it")
    assert (seen, timed.row("it")["count"], timed.row("it")["mean_ms"]) == (["/it"], 1, 300)


def test_a_thread_with_a_copied_context_that_outlives_the_request_counts_nothing_more(
    quiet: Any,
) -> None:
    import contextvars

    go, threads = threading.Event(), []

    @quiet.app.get("/it", endpoint="it")
    def it() -> str:
        def work() -> None:
            go.wait(10)
            with quiet.app.app_context(), quiet.perf.section("late"):
                pass

        threads.append(threading.Thread(target=contextvars.copy_context().run, args=(work,)))
        threads[0].start()
        return "x"

    quiet.get("/it")
    go.set()
    threads[0].join()
    assert (quiet.row("it")["count"], quiet.parts("it")) == (1, {})


# -- who is who ------------------------------------------------------------------------------------


def test_nested_blueprints_keep_their_full_endpoint(quiet: Any) -> None:
    inner, outer = Blueprint("orders", __name__), Blueprint("sales", __name__)
    inner.add_url_rule("/open", "open", lambda: "x")
    outer.register_blueprint(inner, url_prefix="/orders")
    quiet.app.register_blueprint(outer, url_prefix="/sales")
    quiet.get("/sales/orders/open")
    row = quiet.row("sales.orders.open")
    assert (row["count"], row["rule"]) == (1, "/sales/orders/open")


def test_two_endpoints_on_one_rule_are_two_rows(quiet: Any) -> None:
    quiet.app.get("/yarn", endpoint="list_yarn")(lambda: "list")
    quiet.app.post("/yarn", endpoint="add_yarn")(lambda: "added")
    quiet.get("/yarn"), quiet.send("POST", "/yarn"), quiet.send("POST", "/yarn")
    assert counts(quiet) == {"list_yarn": 1, "add_yarn": 2}


def test_one_endpoint_on_two_rules_is_one_row_that_names_both(quiet: Any) -> None:
    quiet.app.add_url_rule("/a", "both", lambda: "x")
    quiet.app.add_url_rule("/b", "both")
    quiet.get("/a"), quiet.get("/b")
    assert (quiet.row("both")["count"], quiet.row("both")["rule"]) == (2, "/a, /b")


def test_class_based_views_have_their_endpoint(quiet: Any) -> None:
    class Yarn(View):
        def dispatch_request(self, number: int) -> str:
            return str(number)

    quiet.app.add_url_rule("/yarn/<int:number>", view_func=Yarn.as_view("yarn"))
    quiet.get("/yarn/7"), quiet.get("/yarn/8")
    assert (quiet.row("yarn")["count"], quiet.row("yarn")["rule"]) == (2, "/yarn/<int:number>")


def test_the_views_of_an_application_are_never_replaced(quiet: Any) -> None:
    before = dict(quiet.app.view_functions)
    quiet.get("/")
    assert quiet.app.view_functions == before


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", 'quo"te', "x" * 300, "ünïcode", "rtl\u202e", "a\tb", "a\nb",
             "<other>", "<unmatched>", "knit\x00perf", "knitperf"],
)  # fmt: skip
def test_a_hostile_endpoint_name_is_one_row(quiet: Any, name: str) -> None:
    quiet.app.add_url_rule("/it", name, lambda: "x")
    quiet.get("/it"), quiet.get("/it")
    rows = quiet.report()["endpoints"]
    assert [(row["endpoint"], row["count"]) for row in rows] == [(name[:200], 2)]


def test_ten_thousand_paths_that_do_not_exist_are_one_row(quiet: Any) -> None:
    for number in range(10_000):
        begin(quiet, f"/nowhere/{number}")
    assert counts(quiet) == {"<unmatched>": 10_000}


def test_unknown_methods_are_one_row(quiet: Any) -> None:
    for method in ("BREW", "get", "PROPFIND", "X" * 500):
        quiet.send(method, "/nowhere")
    assert set(quiet.rows()) == {("<unmatched>", "<other>")}


def test_three_thousand_unknown_methods_do_not_crowd_out_the_next_endpoint(quiet: Any) -> None:
    for number in range(3000):
        begin(quiet, "/nowhere", f"M{number}")
    quiet.get("/")
    assert quiet.row("index")["count"] == 1


def test_three_thousand_unknown_methods_do_not_stay_in_memory(quiet: Any) -> None:
    for number in range(3000):
        begin(quiet, "/nowhere", f"M{number}")
    assert len(quiet.session.profile.endpoints) < 100


def test_ten_thousand_section_names_do_not_stay_in_memory(quiet: Any) -> None:
    numbers = iter(range(10_000))

    @quiet.app.get("/it", endpoint="it")
    def it() -> str:
        for _ in range(1000):
            with quiet.perf.section(f"customer {next(numbers)}"):
                pass
        return "x"

    for _ in range(10):
        quiet.get("/it")
    endpoints = quiet.session.profile.endpoints.values()
    assert sum(len(series.ids) for series in endpoints) < 5000


# -- hooks and sections ----------------------------------------------------------------------------


def test_a_slow_hook_is_a_part_with_its_name(timed: Any, time: Any) -> None:
    def load_user() -> None:
        time.pass_(0.010)

    timed.app.before_request(load_user)
    timed.app.get("/it", endpoint="it")(lambda: time.pass_(0.001) or "x")
    timed.get("/it")
    (name,) = timed.parts("it")
    assert name.startswith("hook:") and name.endswith("load_user")
    assert timed.parts("it")[name]["ms"] == 10


def test_a_slow_hook_is_an_early_hook_among_the_causes(
    make_app: Callable[..., Any], time: Any
) -> None:
    mill = make_app(TESTING=True, KNITPERF_SLOW_MS=8, KNITPERF_MODERATE_MS=5)
    mill.session.recorder.clock = time.clock()
    mill.app.before_request(lambda: time.pass_(0.010))
    for _ in range(20):
        mill.get("/")
    (finding,) = mill.report()["bottlenecks"]
    assert finding["why"][0]["cause"] == "early_hook"


def test_each_hook_has_its_own_part(timed: Any, time: Any) -> None:
    def one() -> None:
        time.pass_(0.010)

    def two() -> None:
        time.pass_(0.020)

    timed.app.before_request(one)
    timed.app.before_request(two)
    timed.get("/")
    took = {name.rpartition(".")[2]: part["ms"] for name, part in timed.parts("index").items()}
    assert took == {"one": 10, "two": 20}


def test_a_quick_hook_is_no_part(timed: Any) -> None:
    timed.app.before_request(lambda: None)
    timed.get("/")
    assert timed.parts("index") == {}


def test_a_hook_that_answers_takes_the_rest_of_the_request(timed: Any, time: Any) -> None:
    def refuse() -> tuple[str, int]:
        time.pass_(0.010)
        return "no", 403

    timed.app.before_request(refuse)
    assert timed.get("/").body == b"no"
    assert [part["ms"] for part in timed.parts("index").values()] == [10]


def test_a_hook_of_a_blueprint_is_a_part_of_its_endpoints_only(timed: Any, time: Any) -> None:
    shop = Blueprint("shop", __name__)
    shop.add_url_rule("/shop", "open", lambda: "x")
    shop.before_request(lambda: time.pass_(0.010))
    timed.app.register_blueprint(shop)
    timed.get("/shop"), timed.get("/")
    assert (len(timed.parts("shop.open")), timed.parts("index")) == (1, {})


def test_an_async_hook_is_a_part(timed: Any, time: Any) -> None:
    async def load_user() -> None:
        time.pass_(0.010)

    timed.app.before_request(load_user)
    timed.get("/")
    assert [part["ms"] for part in timed.parts("index").values()] == [10]


def test_hooks_run_in_their_order_and_with_their_results(quiet: Any) -> None:
    seen: list[str] = []
    for name in "abc":
        quiet.app.before_request(lambda name=name: seen.append(name))
    quiet.get("/"), quiet.get("/")
    assert seen == list("abcabc")


def test_a_section_is_a_part_with_its_exclusive_time(timed: Any, time: Any) -> None:
    @timed.app.get("/it", endpoint="it")
    def it() -> str:
        with timed.perf.section("outer"):
            time.pass_(0.1)
            with timed.perf.section("inner"):
                time.pass_(0.3)
            time.pass_(0.1)
        return "x"

    timed.get("/it")
    took = {name: part["ms"] for name, part in timed.parts("it").items()}
    assert took == {"section:inner": 300, "section:outer": 200}


def test_a_section_that_fails_is_closed_and_passes_the_error_on(timed: Any, time: Any) -> None:
    @timed.app.get("/it", endpoint="it")
    def it() -> str:
        try:
            with timed.perf.section("first"):
                time.pass_(0.1)
                raise ValueError
        except ValueError:
            with timed.perf.section("second"):
                time.pass_(0.2)
        return "x"

    timed.get("/it")
    took = {name: part["ms"] for name, part in timed.parts("it").items()}
    assert took == {"section:second": 200, "section:first": 100}


def test_a_section_that_repeats_adds_up_and_counts(timed: Any, time: Any) -> None:
    @timed.app.get("/it", endpoint="it")
    def it() -> str:
        for _ in range(5):
            with timed.perf.section("row"):
                time.pass_(0.1)
        return "x"

    timed.get("/it")
    part = timed.parts("it")["section:row"]
    assert (part["ms"], part["count"]) == (500, 5)


def test_a_section_within_itself_is_not_counted_twice(timed: Any, time: Any) -> None:
    def explode(depth: int) -> None:
        with timed.perf.section("explode"):
            time.pass_(0.1)
            if depth:
                explode(depth - 1)

    timed.app.get("/it", endpoint="it")(lambda: explode(4) or "x")
    timed.get("/it")
    assert timed.parts("it")["section:explode"]["ms"] == 500


def test_sections_of_interleaved_generators_never_exceed_the_request(timed: Any, time: Any) -> None:
    def rows(name: str) -> Iterator[None]:
        with timed.perf.section(name):
            for _ in range(3):
                time.pass_(0.1)
                yield

    @timed.app.get("/it", endpoint="it")
    def it() -> str:
        for _ in zip(rows("one"), rows("two"), rows("three"), strict=True):
            pass
        return "x"

    timed.get("/it")
    parts = timed.parts("it").values()
    assert sum(part["share"] for part in parts) <= 1
    assert sum(part["ms"] for part in parts) <= timed.row("it")["mean_ms"] == 900


def test_a_section_of_a_generator_that_outlives_its_request_counts_nothing_more(
    timed: Any, time: Any
) -> None:
    kept: list[Iterator[None]] = []

    def rows() -> Iterator[None]:
        with timed.perf.section("rows"):
            yield

    @timed.app.get("/it", endpoint="it")
    def it() -> str:
        kept.append(rows())
        next(kept[0])
        time.pass_(0.1)
        return "x"

    timed.get("/it")
    before = timed.parts("it")
    time.pass_(5)
    list(kept[0])
    assert timed.parts("it") == before and before["section:rows"]["ms"] == 100


def test_a_section_that_is_never_closed_ends_with_its_request(timed: Any, time: Any) -> None:
    kept: list[Any] = []

    @timed.app.get("/it", endpoint="it")
    def it() -> str:
        kept.append(timed.perf.section("open"))
        kept[0].__enter__()
        time.pass_(0.1)
        return "x"

    timed.get("/it")
    assert timed.parts("it")["section:open"]["ms"] == 100


def test_a_section_outside_of_a_request_does_nothing(quiet: Any) -> None:
    with quiet.perf.section("batch"):
        pass
    assert quiet.report()["endpoints"] == []


# -- decorated functions ---------------------------------------------------------------------------


def test_a_profiled_function_has_a_histogram_and_a_part(timed: Any, time: Any) -> None:
    @timed.perf.profile
    def explode() -> str:
        time.pass_(0.2)
        return "x"

    timed.app.get("/it", endpoint="it")(explode)
    timed.get("/it")
    (row,) = timed.report()["functions"]
    assert (row["count"], row["mean_ms"]) == (1, 200)
    assert [part["ms"] for part in timed.parts("it").values()] == [200]


def test_a_profiled_function_says_where_it_is(timed: Any) -> None:
    @timed.perf.profile
    def explode() -> str:
        return "x"

    with timed.app.app_context():
        explode()
    (row,) = timed.report()["functions"]
    assert row["where"].partition(":")[0].endswith("test_wsgi.py")


def test_a_profiled_function_runs_without_any_application() -> None:
    from flask_knitperf import KnitPerf

    assert KnitPerf().profile(lambda: 7)() == 7


def plain_function(a: int, b: int = 2) -> int:
    """Add."""
    return a + b


async def coroutine_function(a: int, b: int = 2) -> int:
    """Add."""
    return a + b


def generator_function(a: int, b: int = 2) -> Iterator[int]:
    """Add."""
    yield a + b


async def async_generator_function(a: int, b: int = 2) -> Any:
    """Add."""
    yield a + b


KINDS = (plain_function, coroutine_function, generator_function, async_generator_function)
TESTS = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)


@pytest.mark.parametrize("function", KINDS, ids=lambda f: f.__name__)
def test_a_profiled_function_keeps_its_kind(quiet: Any, function: Callable[..., Any]) -> None:
    made = quiet.perf.profile(function)
    assert [test(made) for test in TESTS] == [test(function) for test in TESTS]


@pytest.mark.parametrize("function", KINDS, ids=lambda f: f.__name__)
def test_a_profiled_function_keeps_name_signature_and_docstring(
    quiet: Any, function: Callable[..., Any]
) -> None:
    made = quiet.perf.profile(function)
    assert inspect.signature(made) == inspect.signature(function)
    assert (made.__name__, made.__doc__) == (function.__name__, "Add.")


def test_a_profiled_coroutine_is_timed_until_it_returns(timed: Any, time: Any) -> None:
    @timed.perf.profile
    async def knit() -> int:
        await asyncio.sleep(0)
        time.pass_(0.2)
        return 7

    with timed.app.app_context():
        assert asyncio.run(knit()) == 7
    assert timed.report()["functions"][0]["mean_ms"] == 200


def test_a_profiled_generator_passes_values_both_ways(timed: Any) -> None:
    @timed.perf.profile
    def echo() -> Any:
        got = yield 1
        try:
            got = yield got
        except KeyError:
            got = "caught"
        return got

    with timed.app.app_context():
        made = echo()
        assert (next(made), made.send("sent")) == (1, "sent")
        with pytest.raises(StopIteration, match="caught"):
            made.throw(KeyError)


def test_a_profiled_generator_is_not_charged_for_what_is_done_with_its_items(
    timed: Any, time: Any
) -> None:
    @timed.perf.profile
    def rows() -> Iterator[int]:
        for number in range(3):
            time.pass_(0.1)
            yield number

    @timed.app.get("/it", endpoint="it")
    def it() -> str:
        for _ in rows():
            time.pass_(1)
        return "x"

    timed.get("/it")
    ((name, row),) = timed.functions().items()
    assert (row["count"], row["mean_ms"], timed.row("it")["mean_ms"]) == (1, 300, 3300)
    assert timed.parts("it")[f"section:{name}"]["ms"] == 300


def test_a_profiled_async_generator_is_not_charged_for_what_is_done_with_its_items(
    timed: Any, time: Any
) -> None:
    @timed.perf.profile
    async def rows() -> Any:
        for number in range(3):
            time.pass_(0.1)
            yield number

    async def read() -> None:
        async for _ in rows():
            time.pass_(1)

    with timed.app.app_context():
        asyncio.run(read())
    assert [(row["count"], row["mean_ms"]) for row in timed.functions().values()] == [(1, 300)]


def test_a_profiled_generator_that_is_left_is_recorded_once(timed: Any, time: Any) -> None:
    @timed.perf.profile
    def rows() -> Iterator[int]:
        while True:
            time.pass_(0.1)
            yield 1

    with timed.app.app_context():
        made = rows()
        next(made), made.close(), made.close()
    assert [(row["count"], row["mean_ms"]) for row in timed.functions().values()] == [(1, 100)]


def test_a_profiled_async_generator_passes_values_both_ways(timed: Any) -> None:
    @timed.perf.profile
    async def echo() -> Any:
        got = yield 1
        try:
            yield got
        except KeyError:
            yield "caught"

    async def talk() -> list[Any]:
        made = echo()
        found = [await made.__anext__(), await made.asend("sent"), await made.athrow(KeyError)]
        await made.aclose()
        return found

    with timed.app.app_context():
        assert asyncio.run(talk()) == [1, "sent", "caught"]


def test_closing_a_profiled_async_generator_closes_the_one_behind_at_once(timed: Any) -> None:
    closed: list[bool] = []

    @timed.perf.profile
    async def rows() -> Any:
        try:
            yield 1
        finally:
            closed.append(True)

    async def leave() -> list[bool]:
        made = rows()
        await made.__anext__()
        await made.aclose()
        return list(closed)

    with timed.app.app_context():
        assert asyncio.run(leave()) == [True]


def test_a_profiled_function_that_fails_is_counted_and_fails(timed: Any) -> None:
    made = timed.perf.profile(fail)
    with timed.app.app_context(), pytest.raises(ValueError, match="no yarn"):
        made()
    assert timed.report()["functions"][0]["count"] == 1


def test_profile_endpoint_takes_a_name(timed: Any) -> None:
    made = timed.perf.profiler.profile_endpoint("explode bom")(plain_function)
    with timed.app.app_context():
        made(1)
    assert set(timed.functions()) == {"explode bom"}


# -- services --------------------------------------------------------------------------------------


class Base:
    def inherited(self) -> str:
        return "inherited"


class Service(Base):
    limit = 3

    def __init__(self) -> None:
        self.read = 0

    def plan(self) -> str:
        return "planned"

    async def plan_later(self) -> str:
        return "later"

    def rows(self) -> Iterator[int]:
        yield 1

    @property
    def stock(self) -> int:
        self.read += 1
        return 4

    @staticmethod
    def parse(text: str) -> int:
        return int(text)

    @classmethod
    def make(cls) -> Service:
        return cls()

    def _private(self) -> str:
        return "private"

    def __len__(self) -> int:
        return 9


def use(service: Any) -> list[Any]:
    return [
        service.plan(), asyncio.run(service.plan_later()), list(service.rows()), service.stock,
        service.parse("5"), type(service.make()).__name__, service._private(), len(service),
        service.inherited(), service.limit,
    ]  # fmt: skip


def fresh() -> type[Service]:
    """Return the class anew, since instrumenting changes it."""
    return type("Service", (Base,), dict(vars(Service)))


def test_an_instrumented_service_behaves_as_before(timed: Any) -> None:
    service = timed.perf.instrument(Service())
    with timed.app.app_context():
        assert use(service) == use(Service())


def test_an_instrumented_class_behaves_as_before(timed: Any) -> None:
    made = timed.perf.instrument(fresh())
    with timed.app.app_context():
        assert use(made()) == use(Service())


@pytest.mark.parametrize("make", [Service, fresh], ids=["object", "class"])
def test_the_public_methods_of_a_service_are_timed_and_nothing_else(
    timed: Any, make: Callable[[], Any]
) -> None:
    made = timed.perf.instrument(make())
    with timed.app.app_context():
        use(made() if inspect.isclass(made) else made)
    names = {f"Service.{name}" for name in ("plan", "plan_later", "rows", "inherited")}
    assert set(timed.functions()) == names


def test_instrumenting_twice_counts_once(timed: Any) -> None:
    service = timed.perf.instrument(timed.perf.instrument(Service()))
    with timed.app.app_context():
        service.plan()
    assert timed.functions()["Service.plan"]["count"] == 1


def test_instrumenting_a_class_and_its_object_counts_once(timed: Any) -> None:
    service = timed.perf.instrument(timed.perf.instrument(fresh())())
    with timed.app.app_context():
        service.plan()
    assert timed.functions()["Service.plan"]["count"] == 1


def test_instrumenting_an_object_leaves_its_class_alone(timed: Any) -> None:
    timed.perf.instrument(Service())
    with timed.app.app_context():
        Service().plan()
    assert timed.functions() == {}


def test_instrumenting_reads_no_property(quiet: Any) -> None:
    assert quiet.perf.instrument(Service()).read == 0


def test_instrumenting_an_object_that_takes_no_attributes_says_so(quiet: Any) -> None:
    from flask_knitperf import KnitPerfError

    class Rigid:
        __slots__ = ()

        def plan(self) -> str:
            return "planned"

    with pytest.raises(KnitPerfError, match="Rigid"):
        quiet.perf.instrument(Rigid())


# -- what is left out ------------------------------------------------------------------------------


def test_ignored_paths_are_served_and_not_recorded(make_app: Callable[..., Any]) -> None:
    mill = make_app(TESTING=True, KNITPERF_IGNORE_PATHS=["/health", "/static/"])
    mill.app.get("/health", endpoint="health")(lambda: "fine")
    assert mill.get("/health").body == b"fine"
    mill.get("/static/x.css"), mill.get("/healthy"), mill.get("/")
    assert counts(mill) == {"index": 1}


def test_our_own_pages_are_not_recorded(make_app: Callable[..., Any]) -> None:
    mill = make_app(TESTING=True, KNITPERF_ACCESS=lambda request: True)
    assert mill.get("/perf/report").code == 200
    assert counts(mill) == {}


def test_disabled_leaves_the_application_as_it_was(make_app: Callable[..., Any]) -> None:
    mill = make_app(KNITPERF_ENABLED=False)
    assert mill.app.wsgi_app.__func__ is Flask.wsgi_app


def test_disabled_adds_no_hook_and_no_page(make_app: Callable[..., Any]) -> None:
    mill, bare = make_app(KNITPERF_ENABLED=False), Flask("bare", static_folder=None)
    assert (mill.app.before_request_funcs, mill.app.blueprints) == (
        bare.before_request_funcs, {}
    )  # fmt: skip
    assert {rule.endpoint for rule in mill.app.url_map.iter_rules()} == {"index"}


def test_disabled_decorators_and_sections_do_nothing(make_app: Callable[..., Any]) -> None:
    mill = make_app(KNITPERF_ENABLED=False)
    with mill.app.app_context(), mill.perf.section("x"):
        assert mill.perf.profile(plain_function)(1) == 3
    assert not mill.session.recorder.has_worker


# -- whose CPU time is taken -----------------------------------------------------------------------


class Sampled:
    """Sends requests, and tells of how many the thread's CPU clock was read."""

    def __init__(self, mill: Any, time: Any) -> None:
        self._mill, self._time = mill, time
        self._seconds = 0.0
        self._reads = 0
        clock = time.clock()
        mill.session.recorder.clock = replace(clock, thread_ns=self._read(clock.thread_ns))
        mill.app.get("/it", endpoint="it")(lambda: time.pass_(self._seconds) or "it")

    def _read(self, cpu: Callable[[], int]) -> Callable[[], int]:
        def read() -> int:
            self._reads += 1
            return cpu()

        return read

    def __call__(self, requests: int, seconds: float = 0.001, path: str = "/it") -> int:
        self._seconds, before = seconds, self._reads
        for _ in range(requests):
            self._mill.get(path)
        return (self._reads - before) // 2


@pytest.fixture
def sampled(timed: Any, time: Any) -> Sampled:
    return Sampled(timed, time)


def test_the_first_requests_of_a_worker_are_all_sampled(sampled: Sampled) -> None:
    assert sampled(256) == 256


def test_of_later_requests_one_in_64_is_sampled(sampled: Sampled) -> None:
    sampled(256)
    assert sampled(6400) == 100


def test_on_a_path_that_was_slow_every_request_is_sampled(sampled: Sampled) -> None:
    sampled(300)
    sampled(1, seconds=0.5)
    assert sampled(100) == 100


def test_a_path_that_stays_slow_stays_sampled(sampled: Sampled) -> None:
    sampled(300)
    sampled(1, seconds=0.5)
    assert [sampled(200) + sampled(1, seconds=0.5) for _ in range(3)] == [201, 201, 201]


def test_a_path_that_was_slow_once_is_soon_sampled_like_any_other(sampled: Sampled) -> None:
    sampled(1, seconds=0.5)  # a cold start
    sampled(600)
    assert sampled(6400) == 100


def test_a_slow_path_has_no_other_path_sampled(sampled: Sampled) -> None:
    sampled(300)
    sampled(1, seconds=0.5)
    assert sampled(6400, path="/") == 100


def test_of_five_thousand_slow_paths_not_all_are_kept(timed: Any, time: Any) -> None:
    timed.app.get("/it/<number>", endpoint="it")(lambda number: time.pass_(0.5) or number)
    for number in range(5000):
        timed.get(f"/it/{number}")
    assert len(timed.session.profile.slow_urls) == 512


def test_the_cpu_of_all_requests_is_estimated_from_those_sampled(timed: Any, time: Any) -> None:
    timed.app.get("/it", endpoint="it")(lambda: time.pass_(0.002, cpu=0.001) or "it")
    for _ in range(2000):
        timed.get("/it")
    row = timed.row("it")
    assert (row["count"], row["cpu_ms"], row["wait_ms"]) == (2000, 1, 1)


# -- the queue in front ----------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["{:.3f}", "t={:.3f}", "{ms:.0f}", "t={ms:.0f}", "{us:.0f}"])
def test_a_trusted_header_says_how_long_a_request_waited(
    make_app: Callable[..., Any], time: Any, form: str
) -> None:
    mill = make_app(TESTING=True, KNITPERF_TRUST_QUEUE_HEADER=True)
    mill.session.recorder.clock = time.clock()
    at = time.epoch - 0.25
    mill.get("/", HTTP_X_REQUEST_START=form.format(at, ms=at * 1e3, us=at * 1e6))
    assert mill.report()["queue"]["mean_ms"] == pytest.approx(250, abs=1)


@pytest.mark.parametrize(
    "text",
    ["", "soon", "nan", "inf", "-inf", "t=", "-5", "0", "1e999", "99999999999999999999", "٣"],
)
def test_a_trusted_header_that_says_something_impossible_is_unknown(
    make_app: Callable[..., Any], text: str
) -> None:
    mill = make_app(TESTING=True, KNITPERF_TRUST_QUEUE_HEADER=True)
    mill.get("/", HTTP_X_REQUEST_START=text)
    report = mill.report()
    assert (report["queue"], report["self"]["degraded"]) == (None, [])


def test_a_header_that_nobody_trusts_is_unknown(timed: Any, time: Any) -> None:
    timed.get("/", HTTP_X_REQUEST_START=str(time.epoch - 0.25))
    assert timed.report()["queue"] is None


# -- collections -----------------------------------------------------------------------------------


def test_a_collection_is_charged_to_the_request_it_stops(quiet: Any) -> None:
    quiet.app.get("/it", endpoint="it")(lambda: str(gc.collect()))
    quiet.get("/it"), quiet.get("/")
    assert quiet.row("it")["gc_ms"] > 0


def test_a_collection_is_charged_to_every_request_in_flight(quiet: Any) -> None:
    quiet.app.get("/rows", endpoint="rows")(lambda: Response(iter(["a"])))
    quiet.app.get("/it", endpoint="it")(lambda: str(gc.collect()))
    _, body = begin(quiet, "/rows")
    quiet.get("/it")
    list(body)
    body.close()
    assert quiet.row("rows")["gc_ms"] > 0


# -- what the application sees ---------------------------------------------------------------------


def test_exc_info_and_the_write_function_are_passed_through(quiet: Any) -> None:
    seen: list[Any] = []

    def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
        seen.append((status, exc_info))
        return seen.append

    def plain(environ: Any, start: Any) -> list[bytes]:
        start("200 OK", [], None)("early")
        return [b"x"]

    quiet.app.wsgi_app.app = plain
    quiet.app.wsgi_app(create_environ("/"), start_response)
    assert seen == [("200 OK", None), "early"]


def test_a_session_cookie_and_flashes_work_as_before(make_app: Callable[..., Any]) -> None:
    mill = make_app(TESTING=True, SECRET_KEY="k")

    @mill.app.get("/count")
    def count() -> str:
        session["n"] = session.get("n", 0) + 1
        return str(session["n"])

    client = mill.client
    assert [client.get("/count").text for _ in range(3)] == ["1", "2", "3"]


def test_a_worker_of_many_threads_has_one_span_per_thread(quiet: Any) -> None:
    barrier, seen = threading.Barrier(4), set()

    @quiet.app.get("/it", endpoint="it")
    def it() -> str:
        seen.add(id(quiet.session.recorder.span()))
        barrier.wait(10)
        return "x"

    threads = [threading.Thread(target=quiet.get, args=("/it",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(seen), quiet.row("it")["count"]) == (4, 4)


def test_a_measured_request_knows_for_how_long_it_wanted_a_core(timed: Any, time: Any) -> None:
    spans: list[Any] = []

    def work() -> str:
        spans.append(timed.session.recorder.span())
        # the clock of these tests has it ready for a core as long as on one
        time.pass_(0.04, cpu=0.01)
        return "ok"

    timed.app.add_url_rule("/work", "work", work)
    timed.get("/work")
    timed.session.profile.cpu_known = False
    timed.session.profile.slow_urls.clear()
    timed.get("/work")
    assert [span.runnable_ns for span in spans] == [20_000_000, -1]
