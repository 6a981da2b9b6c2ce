"""Spans of async views, of requests within requests, and in threads with a copied context."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Iterator
from typing import Any

from flask import (
    Response,
    copy_current_request_context,
    request,
)
from flask.views import MethodView
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from .calls import counts

# -- async views ------------------------------------------------------------------------------------


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


# -- requests within requests -----------------------------------------------------------------------


def test_a_view_that_calls_its_application_is_two_requests(timed: Any, time: Any) -> None:
    timed.app.get("/inner", endpoint="inner")(lambda: time.pass_(0.2) or "in")

    @timed.app.get("/outer", endpoint="outer")
    def outer() -> str:
        time.pass_(0.1)
        text = timed.app.test_client().get("/inner").text
        time.pass_(0.1)
        return str(text)

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


def test_two_applications_behind_a_dispatcher_count_separately(
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


def test_full_dispatch_without_wsgi_counts_nothing(quiet: Any) -> None:
    with quiet.app.test_request_context("/"):
        assert quiet.app.full_dispatch_request().get_data() == b"ok"
    assert counts(quiet) == {}


def test_a_copied_context_in_a_thread_does_not_end_the_request(timed: Any, time: Any) -> None:
    paths: list[str] = []

    @timed.app.get("/it", endpoint="it")
    def it() -> str:
        @copy_current_request_context
        def work() -> None:
            with timed.perf.section("in a thread"):
                paths.append(request.path)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        time.pass_(0.3)
        return "x"

    timed.get("/it")
    assert (paths, timed.row("it")["count"], timed.row("it")["mean_ms"]) == (["/it"], 1, 300)


def test_a_thread_with_a_copied_context_that_outlives_the_request_counts_nothing_more(
    quiet: Any,
) -> None:

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
