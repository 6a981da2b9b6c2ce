"""Cached views and responses: each client gets its own answer, and that of no other client."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import flask
import pytest
import werkzeug
from flask import Response, flash, get_flashed_messages, jsonify, make_response, request, session
from flask.views import MethodView
from werkzeug.exceptions import Forbidden, HTTPException

from flask_knitperf import KnitPerf

PAGE = "{% for m in get_flashed_messages() %}{{ m }} {% endfor %}{{ style }} {{ url_for('page') }}"


class Site:
    """An application whose view ``/page`` is cached, and the number of its loads."""

    def __init__(self) -> None:
        self.app = flask.Flask("mill")
        self.app.config.update(TESTING=True, SECRET_KEY="x" * 16, SERVER_NAME=None)
        self.perf = KnitPerf(self.app)
        self.loads = 0

    def page(
        self, load: Callable[..., Any], rule: str = "/page", methods: Any = ("GET",), **options: Any
    ) -> Any:
        """Route a cached view; return the cached function."""

        def page(**arguments: Any) -> Any:
            self.loads += 1
            return load(**arguments)

        cached = self.perf.cache.cached(**options)(page)
        self.app.add_url_rule(rule, view_func=cached, methods=methods)
        return cached

    def get(self, path: str = "/page", method: str = "GET", **more: Any) -> Any:
        """Return the response for a new client."""
        return self.app.test_client().open(path, method=method, buffered=True, **more)

    def refusal(self, load: Callable[..., Any], **more: Any) -> str:
        """Return the reason why the answer of a view is not cached."""
        cached = self.page(load, **more)
        first, second = self.get(), self.get()
        assert (first.status, first.data) == (second.status, second.data) and self.loads == 2
        return str(cached.__knitperf_cache__._admission.refused)


@pytest.fixture
def site() -> Iterator[Site]:
    one = Site()
    yield one
    one.app.extensions["knitperf"].close()


class Branded(Response):
    """A subclass without attributes."""

    default_mimetype = "text/x-mill"


class Counted(Response):
    """A subclass with state."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.seen: list[str] = []


def render() -> str:
    return flask.render_template_string(PAGE, style="12/1A")


ANSWERS: dict[str, Callable[[], Any]] = {
    "str": lambda: "a", "bytes": lambda: b"a", "dict": lambda: {"a": [1]}, "list": lambda: [1, {"a": 2}],
    "status": lambda: ("a", 200), "status text": lambda: ("a", "200 OK"),
    "headers": lambda: ("a", {"X-Mill": "1"}), "header list": lambda: ("a", [("X-Mill", "1")]),
    "both": lambda: ({"a": 1}, 200, {"X-Mill": ["1", "2"]}), "jsonify": lambda: jsonify(a=[1, 2]),
    "template": render, "response": lambda: Response("a", headers={"X-Mill": "1"}),
    "made": lambda: make_response(render()), "response and headers": lambda: (jsonify(a=1), {"X": "1"}),
    "response and status": lambda: (Response("a"), 200), "werkzeug": lambda: werkzeug.Response("ä"),
    "subclass": lambda: Branded("a"), "chunks": lambda: Response([b"a", b"b"]),
    "chunks of text": lambda: Response(("ä", "b")),
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_of_a_view_is_loaded_once_and_is_the_same_for_all(site: Site, name: str) -> None:
    site.page(ANSWERS[name])
    answers = [site.get() for _ in range(3)]
    plain = Site()
    plain.app.add_url_rule("/page", endpoint="page", view_func=ANSWERS[name])
    answers.append(plain.get())
    plain.app.extensions["knitperf"].close()
    for answer in answers:  # Flask 3.0 adds it where a template is rendered; a hit renders none
        answer.headers.remove("Vary")
    assert len({(a.status, a.data, tuple(a.headers)) for a in answers}) == 1
    assert answers[0].status_code == 200 and site.loads == 1


@pytest.mark.parametrize("method", ["call_on_close", "headers", "data", "status"])
def test_what_a_caller_does_to_a_response_concerns_no_other(site: Site, method: str) -> None:
    cached = site.perf.cache.cached(lambda: Response(["a"], headers={"X-Mill": "1"}))
    closed: list[str] = []
    with site.app.test_request_context("/page"):
        one, other = cached(), cached()
        for response in (one, other):
            if method == "call_on_close":
                response.call_on_close(lambda: closed.append("x"))
            elif method == "headers":
                response.headers["X-Mill"] = "2"
                response.set_cookie("id", "anna")
            elif method == "data":
                response.response.append("b")
            else:
                response.status_code = 404
        third = cached()
        third.close()
    assert type(third) is Response and (third.data, third.status) == (b"a", "200 OK")
    assert (dict(third.headers)["X-Mill"], "Set-Cookie" in third.headers, closed) == (
        "1",
        False,
        [],
    )
    assert one is not other and cached.__knitperf_cache__.region.cold == 1


def cookie() -> Response:
    response = Response("a")
    response.set_cookie("id", "anna")
    return response


def closing() -> Response:
    response = Response("a")
    response.call_on_close(lambda: None)
    return response


def collected() -> Response:
    response = Response(c for c in "ab")
    response.get_data()  # the generator's close() is one of its functions for call_on_close
    return response


def with_attribute() -> Response:
    response = Response("a")
    response.user = "anna"  # type: ignore[attr-defined]
    return response


def with_header(name: str, value: str) -> Callable[[], Response]:
    return lambda: Response("a", headers={name: value})


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "cookie": (cookie, "sets a cookie"),
    "cookie in a tuple": (lambda: ("a", {"set-cookie": "id=anna"}), "sets a cookie"),
    "cookie in a list": (lambda: ("a", 200, [("X", "1"), ("Set-Cookie", "id=1")]), "sets a cookie"),
    "cookie beside": (lambda: (Response("a"), {"Set-Cookie": "id=anna"}), "sets a cookie"),
    "vary": (with_header("Vary", "Accept, *"), r"Vary: \*"),
    "private": (with_header("Cache-Control", "max-age=3, Private"), "private"),
    "private field": (with_header("Cache-Control", 'private="x"'), "private"),
    "no-store": (with_header("cache-control", "no-store"), "no-store"),
    "not found": (lambda: Response("a", 404), "404"), "status": (lambda: ("a", 404), "404"),
    "status text": (lambda: ("a", "503 BUSY"), "503"), "beside": (lambda: (Response("a"), 201), "201"),
    "hidden": (lambda: (Response("a", 500), 200), "500"),
    "redirect": (lambda: flask.redirect("/"), "302"), "partial": (lambda: Response("a", 206), "206"),
    "not modified": (lambda: make_response("", 304), "304"),
    "generator": (lambda: (c for c in "ab"), "used up"),
    "stream": (lambda: Response(c for c in "ab"), "streamed"),
    "iterator": (lambda: Response(iter([b"a"])), "streamed"),
    "passthrough": (lambda: Response([b"a"], direct_passthrough=True), "streamed"),
    "on close": (closing, "call_on_close"), "collected": (collected, "call_on_close"),
    "attribute": (with_attribute, "attribute 'user'"),
    "state": (lambda: Counted("a"), "attribute 'seen'"),
    "application": (Forbidden, "called for each request"),
    "session": (lambda: session.update(a=1) or "a", r"changes session \("),
    "cart": (lambda: session.__setitem__("cart", 1) or "a", r"changes session\['cart'\] \(instrument"),
    "flash": (lambda: flash("saved") or "a", "_flashes"),
    "after": (lambda: flask.after_this_request(lambda r: r) and "a", "changes after_this_request"),
    "args": (lambda: request.args.get("a", "a"), "request.args"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_an_answer_to_one_client_is_refused_with_a_reason(site: Site, name: str) -> None:
    load, reason = REFUSED[name]
    assert re.search(reason, site.refusal(load))


def test_a_file_is_refused(site: Site) -> None:
    def load() -> Response:
        return flask.send_file(__file__)

    assert site.refusal(load)


def test_a_refusal_is_logged_once(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "flask_knitperf"):
        site.page(cookie)
        site.get(), site.get()
    (message,) = [r.message for r in caplog.records if "is not cached" in r.message]
    assert message.endswith(
        "page is not cached: its response sets a cookie, which is for one client"
    )


def test_the_answer_to_a_head_request_is_never_that_to_a_get_request(site: Site) -> None:
    site.page(lambda: f"load {site.loads}")
    lengths = [site.get(method=m).content_length for m in ("HEAD", "GET", "HEAD", "GET")]
    assert lengths == [6] * 4 and site.loads == 2 and site.get().text == "load 2"


def test_a_response_of_a_helper_is_cached_by_method(site: Site) -> None:
    helper = site.perf.cache.cached(lambda: Response("helped"))
    site.app.add_url_rule("/other", "other", lambda: [helper()][0])
    bodies = [site.get("/other", method=m).data for m in ("HEAD", "GET", "GET", "HEAD")]
    assert bodies == [b"", b"helped", b"helped", b""]
    assert helper.__knitperf_cache__.region.cold == 2


@pytest.mark.parametrize("answer", ["a", Response("a")], ids=["str", "response"])
def test_a_view_is_called_for_each_request_that_may_change_something(
    site: Site, answer: Any
) -> None:
    site.page(lambda: answer, methods=("GET", "POST", "DELETE"))
    for method in ("GET", "POST", "POST", "DELETE", "GET"):
        assert site.get(method=method).text == "a"
    assert site.loads == 4


def test_a_response_that_a_helper_creates_for_a_post_request_is_refused(site: Site) -> None:
    helper = site.perf.cache.cached(lambda: Response("a"))
    site.app.add_url_rule("/save", "save", lambda: [helper()][0], methods=["POST"])
    assert [site.get("/save", method="POST").text for _ in range(2)] == ["a", "a"]
    assert "for POST" in helper.__knitperf_cache__._admission.refused
    outside = site.perf.cache.cached(lambda: Response("a"))
    assert outside().data == outside().data == b"a"
    assert "outside of a request" in outside.__knitperf_cache__._admission.refused


def test_a_view_that_was_called_before_the_first_request_is_called_for_a_post_request(
    site: Site,
) -> None:
    cached = site.page(lambda: "a", methods=("GET", "POST"))
    with site.app.app_context():
        cached()
    assert [site.get(method="POST").text for _ in range(2)] == ["a", "a"] and site.loads == 3


def test_the_session_of_the_client_that_loads_stays_with_it(site: Site) -> None:
    @site.app.before_request
    def sign_in() -> None:
        session["user_id"] = request.headers["X-User"]

    @site.app.after_request
    def add_header(response: Response) -> Response:
        response.headers["X-User"] = session["user_id"]
        return response

    site.page(lambda: make_response("public"))
    answers = [site.get(headers={"X-User": user}) for user in ("anna", "bert", "anna")]
    assert [answer.headers["X-User"] for answer in answers] == ["anna", "bert", "anna"]
    cookies = [answer.headers.getlist("Set-Cookie") for answer in answers]
    assert site.loads == 1 and [len(one) for one in cookies] == [1, 1, 1]
    assert cookies[0] != cookies[1]


def test_a_page_with_flashed_messages_is_for_their_reader(site: Site) -> None:
    site.page(render)

    @site.app.get("/save/<message>")
    def save(message: str) -> str:
        flash(message)
        return ""

    anna, bert = site.app.test_client(), site.app.test_client()
    anna.get("/save/saved")
    bert.get("/save/deleted")
    answers = [anna.get("/page").text, bert.get("/page").text, anna.get("/page").text]
    assert [text.split()[0] for text in answers] == ["saved", "deleted", "12/1A"]
    assert site.get().text.split()[0] == "12/1A"


def test_messages_that_were_read_before_the_load_are_for_their_reader(site: Site) -> None:
    @site.app.before_request
    def read() -> None:
        get_flashed_messages()

    @site.app.get("/save/<message>")
    def save(message: str) -> str:
        flash(message)
        return ""

    site.page(lambda: ",".join(get_flashed_messages()) or "none")
    texts = []
    for message in ("saved", "deleted"):
        client = site.app.test_client()
        client.get(f"/save/{message}")
        texts.append(client.get("/page").text)
    assert (texts, site.get().text) == (["saved", "deleted"], "none")


def test_an_answer_for_a_user_varies_by_user(site: Site) -> None:
    site.page(lambda: jsonify(user=session["user_id"]), vary="user")

    def visit(user: str) -> Any:
        client = site.app.test_client()
        with client.session_transaction() as store:
            store["user_id"] = user
        return client.get("/page")

    answers = [visit(user) for user in ("anna", "bert", "anna", "bert")]
    assert [answer.json["user"] for answer in answers] == ["anna", "bert"] * 2 and site.loads == 2
    assert all("Cookie" in answer.headers["Vary"] for answer in answers)


PATHS = (
    "/page", "/page?", "/page?a=1", "/page?a=2", "/page?a=1&a=2", "/page?a=2&a=1", "/page?a=1&b=2",
    "/page?b=2&a=1", "/page?a=", "/page?a", "/page?a=1%262", "/page?a=%31", "/page?a=1;2", "/page?a=ä",
    "/page?A=1", "/page?a=1#x", "/page?a=+1", "/page?a=%2B1", "/page?a=%FF", "/page?a=1&a=1",
)  # fmt: skip


def test_an_answer_that_varies_by_url_is_right_for_its_arguments(site: Site) -> None:
    site.page(lambda: jsonify(list(request.args.items(multi=True))), vary="url")
    plain = Site()
    plain.app.add_url_rule("/page", "page", lambda: jsonify(list(request.args.items(multi=True))))
    for path in PATHS * 2:
        assert site.get(path).json == plain.get(path).json, path
    plain.app.extensions["knitperf"].close()
    assert site.loads <= len(PATHS)


def test_an_address_is_one_key_only_with_one_meaning(site: Site) -> None:
    site.page(
        lambda name: request.path + "|" + request.args.get("b", ""), rule="/<path:name>", vary="url"
    )
    seen = set()
    for path, query in (("/a", "b=?"), ("/a?b=", ""), ("/a", "b="), ("/a?b=?", "")):
        environ = {"PATH_INFO": path, "QUERY_STRING": query, "SCRIPT_NAME": ""}
        answer = site.get("/page", environ_overrides=environ)
        seen.add((answer.text, path, query))
    assert {text for text, *_ in seen} == {
        "/a|?", "/a?b=|", "/a|", "/a?b=?|",
    }  # fmt: skip


def test_a_query_that_is_not_text_causes_no_error(site: Site) -> None:
    site.page(lambda: repr(request.query_string), vary="url")
    queries = [b"a=\xff".decode("latin-1"), b"a=\xfe".decode("latin-1")]
    texts = [site.get(environ_overrides={"QUERY_STRING": query}).text for query in queries * 2]
    assert texts == [r"b'a=\xff'", r"b'a=\xfe'"] * 2


def test_a_subdomain_is_a_part_of_the_address(site: Site) -> None:
    app = flask.Flask("mill", subdomain_matching=True)
    app.config.update(TESTING=True, SERVER_NAME="mill.example")
    perf = KnitPerf(app)
    show = perf.cache.cached(vary="url")(lambda: request.view_args["tenant"])  # type: ignore[index]
    app.add_url_rule("/", "index", lambda tenant: show(), subdomain="<tenant>")
    texts = [
        app.test_client().get("/", base_url=f"http://{tenant}.mill.example").text
        for tenant in ("anna", "bert", "anna")
    ]
    app.extensions["knitperf"].close()
    assert texts == ["anna", "bert", "anna"]


def test_arguments_of_a_view_are_its_key(site: Site) -> None:
    site.page(lambda number: jsonify(number=number), rule="/page/<int:number>")
    numbers = [site.get(f"/page/{n}").json["number"] for n in (1, 2, 1, 2)]
    assert numbers == [1, 2, 1, 2] and site.loads == 2


def test_decorators_around_a_cached_view_do_not_hide_it(site: Site) -> None:
    cached = site.perf.cache.cached(lambda: "a")

    @functools.wraps(cached)
    def outer() -> Any:
        return cached()

    site.app.add_url_rule("/page", "page", outer, methods=["GET", "POST"])
    for method in ("GET", "POST", "POST"):
        assert site.get(method=method).text == "a"
    counts = site.perf.cache.get_statistics()["total"]
    assert (counts["cold"], counts["bypassed"], counts["refused"]) == (1, 2, 0)


def test_views_of_a_class_are_cached_by_its_decorators(site: Site) -> None:
    loads = []

    class Page(MethodView):
        decorators = [site.perf.cache.cached]  # noqa: RUF012 (as Flask documents it)

        def get(self) -> Any:
            loads.append("get")
            return jsonify(a=1)

        def post(self) -> Any:
            loads.append("post")
            return jsonify(a=2)

    site.app.add_url_rule("/page", view_func=Page.as_view("page"))
    answers = [site.get(method=m).json["a"] for m in ("GET", "POST", "GET", "POST")]
    assert answers == [1, 2, 1, 2] and loads == ["get", "post", "post"]


def test_an_asynchronous_view_is_cached(site: Site) -> None:
    pytest.importorskip("asgiref")
    loads = []

    @site.perf.cache.cached
    async def page() -> Any:
        loads.append(1)
        await asyncio.sleep(0)
        return jsonify(a=1)

    site.app.add_url_rule("/page", view_func=page, methods=["GET", "POST"])
    answers = [site.get(method=m).json for m in ("GET", "GET", "POST", "POST")]
    assert answers == [{"a": 1}] * 4 and len(loads) == 3


def test_a_response_within_another_value_or_under_a_key_is_refused(site: Site) -> None:
    from flask_knitperf import KnitPerfError

    with site.app.test_request_context("/page"):
        inner = site.perf.cache.cached(lambda: [Response("a")])
        assert inner()[0] is not inner()[0]
        assert "only as the result of a function" in inner.__knitperf_cache__._admission.refused
        with pytest.raises(KnitPerfError, match="only as the result"):
            site.perf.cache.put("a", Response("a"))


@pytest.mark.parametrize(
    "answer", [("a", ["x"]), ("a", {"X": 1}, 3), (), ("a",), ("a", object()), None]
)
def test_a_result_that_flask_refuses_raises_what_flask_raises(site: Site, answer: Any) -> None:
    plain = Site()
    plain.app.add_url_rule("/page", "page", lambda: answer)
    site.page(lambda: answer)
    for one in (site, plain):
        one.app.config["PROPAGATE_EXCEPTIONS"] = False
    assert {site.get().status, site.get().status} == {plain.get().status}
    plain.app.extensions["knitperf"].close()


def test_an_error_with_a_response_is_not_shared_between_clients(site: Site) -> None:
    def load() -> None:
        flask.abort(Response("closed", 403))

    @site.app.before_request
    def sign_in() -> None:
        session["user_id"] = request.headers["X-User"]

    site.page(load, errors=HTTPException)
    answers = [site.get(headers={"X-User": user}) for user in ("anna", "bert")]
    assert [(answer.status_code, answer.text) for answer in answers] == [(403, "closed")] * 2
    cookies = [answer.headers.getlist("Set-Cookie") for answer in answers]
    assert [len(one) for one in cookies] == [1, 1] and cookies[0] != cookies[1] and site.loads == 2


def test_an_error_without_a_response_is_cached_for_all_clients(site: Site) -> None:
    site.page(lambda: flask.abort(404), errors=HTTPException)
    assert [site.get().status_code for _ in range(3)] == [404] * 3 and site.loads == 1


def test_clients_that_wait_for_one_load_have_separate_responses(site: Site) -> None:
    clients, go_on = 8, threading.Event()
    arrived = threading.Semaphore(0)

    def load() -> Response:
        assert go_on.wait(30)
        return jsonify(style="12/1A")

    @site.app.before_request
    def sign_in() -> None:
        session["user_id"] = request.headers["X-User"]
        arrived.release()

    @site.app.after_request
    def add_header(response: Response) -> Response:
        response.headers["X-User"] = session["user_id"]
        return response

    site.page(load)
    with ThreadPoolExecutor(clients) as pool:
        answers = [
            pool.submit(site.get, headers={"X-User": f"user {number}"}) for number in range(clients)
        ]
        for _ in range(clients):
            assert arrived.acquire(timeout=30)
        go_on.set()
        responses = [answer.result(30) for answer in answers]
    assert [one.headers["X-User"] for one in responses] == [f"user {n}" for n in range(clients)]
    assert len({tuple(one.headers.getlist("Set-Cookie")) for one in responses}) == clients
    assert {one.get_data() for one in responses} == {b'{"style":"12/1A"}\n'}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX only")
def test_a_forked_worker_serves_and_loads_views(site: Site) -> None:
    site.page(lambda number: jsonify(loads=site.loads), rule="/page/<int:number>")
    assert site.get("/page/1").json == {"loads": 1}
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover (coverage does not see it)
        answers = [site.get(f"/page/{number}").json["loads"] for number in (1, 2, 2)]
        os.write(writing, repr(answers).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        assert pipe.read() == "[1, 2, 2]"
    os.waitpid(child, 0)


def test_a_request_whose_method_is_odd_is_not_answered_from_the_cache(site: Site) -> None:
    site.page(lambda: f"load {site.loads}", methods=("GET", "PURGE", "get"))
    assert [site.get(method=m).text for m in ("GET", "PURGE", "GET")] == [
        "load 1",
        "load 2",
        "load 1",
    ]
