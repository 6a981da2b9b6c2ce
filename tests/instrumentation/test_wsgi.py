"""The span of a request: opened before routing, ended exactly once, and counted correctly."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from flask import (
    Blueprint,
    Flask,
    Request,
    Response,
    abort,
    redirect,
    request,
    session,
)
from flask.sessions import SecureCookieSessionInterface
from flask.views import View
from werkzeug.routing import BaseConverter
from werkzeug.test import create_environ

from flask_knitperf.core.printable import printable
from flask_knitperf.metrics.catalogue import ERROR
from flask_knitperf.metrics.readings import Readings
from flask_knitperf.recording.span import CURRENT, Span

from .calls import counts, fail, start

# -- one request, one count -------------------------------------------------------------------------


def test_a_request_is_counted_once(quiet: Any) -> None:
    quiet.get("/")
    assert counts(quiet) == {"index": 1}


def test_a_request_takes_the_time_from_its_start_to_its_end(timed: Any, time: Any) -> None:
    timed.app.get("/slow", endpoint="slow")(lambda: time.pass_(1.25) or "slow")
    timed.get("/slow")
    assert timed.row("slow")["mean_ms"] == 1250


def test_cpu_and_waiting_add_up_to_the_time(timed: Any, time: Any) -> None:
    timed.app.get("/slow", endpoint="slow")(lambda: time.pass_(1.0, cpu=0.3) or "slow")
    timed.get("/slow")
    row = timed.row("slow")
    assert (row["cpu_ms"], row["wait_ms"]) == (300, 700)


def test_the_wall_time_includes_inner_middleware(timed: Any, time: Any) -> None:
    inner = timed.inner

    def slow_middleware(environ: Any, start_response: Any) -> Any:
        time.pass_(0.5)
        return inner(environ, start_response)

    timed.put_inside(slow_middleware)
    timed.get("/")
    assert timed.row("index")["mean_ms"] == 500


@pytest.mark.parametrize(
    ("status", "field"),
    [(200, "2xx"), (201, "2xx"), (204, "2xx"), (301, "3xx"), (304, "3xx"), (400, "4xx"),
     (418, "4xx"), (500, "5xx"), (503, "5xx"), (599, "5xx")],
)  # fmt: skip
def test_a_response_is_counted_by_the_class_of_its_status(
    quiet: Any, status: int, field: str
) -> None:
    quiet.app.get("/it", endpoint="it")(lambda: ("", status))
    quiet.get("/it")
    row = quiet.row("it")
    assert (row["status"][field], sum(row["status"].values())) == (1, 1)


@pytest.mark.parametrize(
    ("status", "field"),
    [("200", "2xx"), ("200 ", "2xx"), ("799 Odd", "5xx"), ("099 Odd", "5xx"), ("odd", "5xx"),
     ("-1 Odd", "5xx")],
)  # fmt: skip
def test_an_unusual_status_line_is_counted_once_in_a_class_that_exists(
    quiet: Any, status: str, field: str
) -> None:
    quiet.app.get("/it", endpoint="it")(lambda: Response("x", status=status))
    for _ in range(3):  # the fast path too
        quiet.get("/it")
    counted = quiet.row("it")["status"]
    assert (counted[field], counted.keys()) == (3, {"2xx", "3xx", "4xx", "5xx"})


@pytest.mark.parametrize("status", [204, 304])
def test_a_response_without_a_body_ends_its_span(timed: Any, time: Any, status: int) -> None:
    timed.app.get("/it", endpoint="it")(lambda: time.pass_(0.1) or ("", status))
    timed.get("/it")
    row = timed.row("it")
    assert (row["mean_ms"], row["bytes_out_mean"]) == (100, None)


def test_a_head_request_is_a_separate_row_and_sends_nothing(quiet: Any) -> None:
    quiet.send("HEAD", "/")
    row = quiet.row("index", "HEAD")
    assert (row["count"], row["bytes_out_mean"]) == (1, None)


def test_a_head_of_a_stream_ends_its_span(quiet: Any) -> None:
    quiet.app.get("/rows", endpoint="rows")(lambda: Response(iter(["a", "b"])))
    body = start(quiet, "/rows", "HEAD")
    assert quiet.row("rows", "HEAD")["count"] == 1
    body.close()


def test_bytes_out_are_those_of_the_body(quiet: Any) -> None:
    quiet.app.get("/it", endpoint="it")(lambda: "grün" * 10)
    quiet.get("/it")
    assert quiet.row("it")["bytes_out_mean"] == 50


def test_a_conditional_response_is_counted_as_304(quiet: Any) -> None:
    @quiet.app.get("/it", endpoint="it")
    def it() -> Response:
        response = Response("cloth")
        response.set_etag("v1")
        return response.make_conditional(request)

    response = quiet.get("/it", HTTP_IF_NONE_MATCH='"v1"')
    assert (response.code, quiet.row("it")["status"]["3xx"]) == (304, 1)


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


# -- errors -----------------------------------------------------------------------------------------


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


def test_an_error_before_routing_is_counted_for_the_endpoint_of_its_url(
    make_app: Callable[..., Any],
) -> None:
    mill = make_app(TESTING=True, PROPAGATE_EXCEPTIONS=False)

    def broken(environ: Any, start_response: Any) -> Any:
        raise ValueError("no yarn")

    mill.put_inside(broken)
    with pytest.raises(ValueError, match="no yarn"):
        mill.get("/")
    with pytest.raises(ValueError, match="no yarn"):
        mill.get("/nowhere")
    assert mill.row("index")["status"]["5xx"] == 1
    assert mill.row("<unmatched>")["status"]["5xx"] == 1


@pytest.mark.parametrize("part", ["converter", "request class"])
def test_what_the_host_raises_in_routing_is_no_failure_of_ours(quiet: Any, part: str) -> None:
    calls = []

    class Broken(BaseConverter):
        """A converter that reads a store which is down."""

        def to_python(self, value: str) -> str:
            calls.append(value)
            raise ConnectionError("the store is down")

    class BrokenRequest(Request):
        """A request whose headers are refused."""

        def __init__(self, environ: Any, *args: Any, **options: Any) -> None:
            super().__init__(environ, *args, **options)
            raise ValueError("refused")

    quiet.app.url_map.converters["broken"] = Broken
    quiet.app.get("/it/<broken:it>", endpoint="it")(lambda it: it)
    if part == "converter":
        assert quiet.get("/it/1").code == 500
        assert len(calls) <= 2, "it is looked up once more, not twice"
    else:
        quiet.app.request_class = BrokenRequest
        with pytest.raises(ValueError, match="refused"):
            quiet.get("/it/1")
    assert quiet.row("<unmatched>")["status"]["5xx"] == 1
    assert quiet.session.recorder.failures == {}


def test_a_session_that_cannot_be_opened_fails_the_endpoint_of_the_url(quiet: Any) -> None:
    class Unavailable(SecureCookieSessionInterface):
        """A session store that is down: sessions are opened before the request is routed."""

        def open_session(self, app: Any, request: Any) -> Any:
            raise ConnectionError("the store is down")

        def save_session(self, *_: Any) -> None:
            pass

    quiet.app.session_interface = Unavailable()
    assert [quiet.get(path).code for path in ("/", "/", "/nowhere")] == [500, 500, 500]
    assert quiet.row("index")["status"]["5xx"] == 2
    assert quiet.row("<unmatched>")["status"]["5xx"] == 1
    notes = quiet.session.recorder.snapshot().totals.notes(ERROR)
    assert {note.key.endpoint for note in notes} == {"index", "<unmatched>"}


def test_a_session_that_is_refused_fails_the_endpoint_of_the_url(quiet: Any) -> None:
    class Refusing(SecureCookieSessionInterface):
        """A session store that is overloaded: it raises an HTTP error."""

        def open_session(self, app: Any, request: Any) -> Any:
            abort(503)

        def save_session(self, *_: Any) -> None:
            pass

    quiet.app.session_interface = Refusing()
    assert [quiet.get(path).code for path in ("/", "/nowhere")] == [500, 500]
    assert quiet.row("index")["status"]["5xx"] == 1
    assert quiet.row("<unmatched>")["status"]["5xx"] == 1


def test_an_error_in_a_teardown_is_counted_once_for_its_endpoint(
    make_app: Callable[..., Any],
) -> None:
    mill = make_app(TESTING=True)

    @mill.app.teardown_request
    def teardown(error: Any) -> None:
        raise ValueError("no yarn")

    with pytest.raises(ValueError, match="no yarn"):
        start(mill, "/").close()
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


# -- endpoints --------------------------------------------------------------------------------------


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


def test_view_functions_are_never_replaced(quiet: Any) -> None:
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
    assert [(row["endpoint"], row["count"]) for row in rows] == [(printable(name[:200]), 2)]


@pytest.mark.slow
def test_ten_thousand_paths_that_do_not_exist_are_one_row(quiet: Any) -> None:
    for number in range(10_000):
        start(quiet, f"/nowhere/{number}")
    assert counts(quiet) == {"<unmatched>": 10_000}


def test_unknown_methods_are_one_row(quiet: Any) -> None:
    for method in ("BREW", "get", "PROPFIND", "X" * 500):
        quiet.send(method, "/nowhere")
    assert set(quiet.rows()) == {("<unmatched>", "<other>")}


@pytest.mark.slow
def test_three_thousand_unknown_methods_leave_room_for_the_next_endpoint(quiet: Any) -> None:
    for number in range(3000):
        start(quiet, "/nowhere", f"M{number}")
    quiet.get("/")
    assert quiet.row("index")["count"] == 1


# -- requests that are not recorded -----------------------------------------------------------------


def test_ignored_paths_are_served_and_not_recorded(make_app: Callable[..., Any]) -> None:
    mill = make_app(TESTING=True, KNITPERF_IGNORE_PATHS=["/health", "/static/"])
    mill.app.get("/health", endpoint="health")(lambda: "fine")
    assert mill.get("/health").body == b"fine"
    mill.get("/static/x.css"), mill.get("/healthy"), mill.get("/")
    assert counts(mill) == {"index": 1}


def test_our_pages_are_not_recorded(make_app: Callable[..., Any]) -> None:
    mill = make_app(TESTING=True, KNITPERF_ACCESS=lambda request: True)
    assert mill.get("/perf/report").code == 200
    assert counts(mill) == {}


def test_disabled_leaves_the_application_unchanged(make_app: Callable[..., Any]) -> None:
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
        assert mill.perf.profile(lambda number: number + 2)(1) == 3
    assert not mill.session.recorder.has_worker


# -- transparency -----------------------------------------------------------------------------------


def test_exc_info_and_the_write_function_are_passed_through(quiet: Any) -> None:
    calls: list[Any] = []

    def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
        calls.append((status, exc_info))
        return calls.append

    def plain(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [], None)("early")
        return [b"x"]

    quiet.put_inside(plain)
    quiet.app.wsgi_app(create_environ("/"), start_response)
    assert calls == [("200 OK", None), "early"]


def test_a_session_cookie_works(make_app: Callable[..., Any]) -> None:
    mill = make_app(TESTING=True, SECRET_KEY="k")

    @mill.app.get("/count")
    def count() -> str:
        session["n"] = session.get("n", 0) + 1
        return str(session["n"])

    client = mill.client
    assert [client.get("/count").text for _ in range(3)] == ["1", "2", "3"]


def test_a_worker_of_many_threads_has_one_span_per_thread(quiet: Any) -> None:
    barrier, spans = threading.Barrier(4), set()

    @quiet.app.get("/it", endpoint="it")
    def it() -> str:
        spans.add(id(quiet.session.recorder.span()))
        barrier.wait(10)
        return "x"

    threads = [threading.Thread(target=quiet.get, args=("/it",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(spans), quiet.row("it")["count"]) == (4, 4)


# -- every request ends -------------------------------------------------------------------------------


def is_nothing_in_flight(mill: Any) -> bool:
    """Return whether the recorder has forgotten every request."""
    recorder = mill.session.recorder
    return not recorder.spans and not recorder.conversations


@pytest.mark.parametrize("value", ["", "5, 5", "-1", "five", "9" * 5000, None, 5])
def test_a_response_with_an_odd_content_length_is_counted(quiet: Any, value: Any) -> None:
    def odd(_: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Length", value)])
        return [b"cloth"]

    quiet.put_inside(odd)
    assert quiet.get("/").body == b"cloth"
    assert (quiet.row("<middleware>")["status"]["2xx"], is_nothing_in_flight(quiet)) == (1, True)


@pytest.mark.parametrize("headers", [{"Content-Length": "5"}, None, (), [("X",)], [(None, "5")], 5])
@pytest.mark.parametrize("status", ["200 OK", None, b"200 OK", ["200"], 200, ""])
def test_a_response_of_the_wrong_types_is_counted_once(
    quiet: Any, status: Any, headers: Any
) -> None:
    def wrong(_: Any, start_response: Any) -> Any:
        start_response(status, headers)
        return [b"cloth"]

    quiet.put_inside(wrong)
    assert b"".join(start(quiet, "/")) == b"cloth"
    row = quiet.row("<middleware>")
    assert (row["count"], row["status"]["5xx"], is_nothing_in_flight(quiet)) == (
        1, int(status != "200 OK"), True,
    )  # fmt: skip


def test_a_body_that_cannot_be_examined_still_ends_its_request(quiet: Any) -> None:
    class Wrapper(type):
        def __instancecheck__(cls, _: object) -> bool:
            raise ValueError("no yarn")

    class Body(metaclass=Wrapper):
        pass

    quiet.app.get("/rows", endpoint="rows")(lambda: Response(iter(["a"])))
    assert b"".join(start(quiet, "/rows", **{"wsgi.file_wrapper": Body})) == b"a"
    assert is_nothing_in_flight(quiet)


def test_a_process_that_cannot_begin_to_record_keeps_no_request(
    quiet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> Any:
        raise MemoryError

    monkeypatch.setattr(quiet.session.recorder, "_begin", refuse)
    assert [quiet.get("/").code for _ in range(3)] == [200, 200, 200]
    monkeypatch.undo()
    assert is_nothing_in_flight(quiet)
    quiet.get("/")
    assert counts(quiet) == {"index": 1}


def test_a_request_that_ends_after_its_writer_was_closed_is_not_in_flight(quiet: Any) -> None:
    quiet.app.get("/rows", endpoint="rows")(lambda: Response(iter(["a", "b"])))
    body = start(quiet, "/rows")
    quiet.session.close()  # as when the state directory was removed
    assert b"".join(body) == b"ab"
    assert is_nothing_in_flight(quiet)
    quiet.get("/")
    quiet.get("/")
    assert quiet.row("index")["count"] == 2
    assert not any(row.requests.concurrent.count for row in readings(quiet))


def readings(mill: Any) -> Any:
    """Return the readings of all endpoints."""
    return Readings(mill.session.recorder.snapshot().totals).endpoints


def test_a_request_that_nothing_refers_to_any_more_is_removed_and_counted_as_dropped(
    timed: Any, time: Any
) -> None:
    recorder, in_flight = timed.session.recorder, timed.session.profile.in_flight
    timed.get("/")
    kept, lost = (Span(recorder, {"REQUEST_METHOD": "GET"}, time.ns) for _ in range(2))
    recorder.spans.update({kept: None, lost: None})
    del lost
    time.pass_(599)
    in_flight.tick()
    before = len(recorder.spans)
    time.pass_(2)
    in_flight.tick()
    assert (before, list(recorder.spans)) == (2, [kept])
    assert recorder.worker.dropped == {"requests without an end": 1}
    assert timed.row("<unmatched>")["in_flight"] == 1
    recorder.spans.clear()
    in_flight.tick()


def test_a_request_that_only_a_collector_keeps_is_removed(timed: Any, time: Any) -> None:
    recorder = timed.session.recorder
    timed.get("/")
    samples = {Span(recorder, {"REQUEST_METHOD": "GET"}, time.ns): None}
    recorder.spans.update(samples)
    recorder.span_holders.append(samples.__contains__)
    time.pass_(601)
    timed.session.profile.in_flight.tick()
    assert recorder.spans == {}


def test_a_long_request_is_not_removed_while_it_runs(timed: Any, time: Any) -> None:
    in_flight = timed.session.profile.in_flight

    def long() -> str:
        time.pass_(4000)
        in_flight.tick()
        return str(len(timed.session.recorder.spans))

    timed.app.get("/long", endpoint="long")(long)
    assert [timed.get("/long").body for _ in range(2)] == [b"1", b"1"]
    assert timed.row("long")["count"] == 2
