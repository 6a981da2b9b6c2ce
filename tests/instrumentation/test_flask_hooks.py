"""``before_request`` functions as parts of a request."""

from __future__ import annotations

import copy
import sqlite3
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

import pytest
from flask import Blueprint, appcontext_pushed

from flask_knitperf.collectors.requests.server_timing import server_timing
from flask_knitperf.collectors.sql.dbapi import wrap_connect
from flask_knitperf.recording.span import CURRENT


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


def test_each_hook_is_a_separate_part(timed: Any, time: Any) -> None:
    def one() -> None:
        time.pass_(0.010)

    def two() -> None:
        time.pass_(0.020)

    timed.app.before_request(one)
    timed.app.before_request(two)
    timed.get("/")
    times = {name.rpartition(".")[2]: part["ms"] for name, part in timed.parts("index").items()}
    assert times == {"one": 10, "two": 20}


def test_a_fast_hook_is_not_a_part(timed: Any) -> None:
    timed.app.before_request(lambda: None)
    timed.get("/")
    assert timed.parts("index") == {}


def test_a_hook_that_responds_ends_there(timed: Any, time: Any) -> None:
    def refuse() -> tuple[str, int]:
        time.pass_(0.010)
        return "no", 403

    timed.app.before_request(refuse)
    timed.app.after_request(lambda response: time.pass_(0.020) or response)
    for _ in range(2):
        assert timed.get("/").body == b"no"
    assert [part["ms"] for part in timed.parts("index").values()] == [10]
    assert timed.row("index")["mean_ms"] == 30


def test_a_hook_that_fails_ends_there(timed: Any, time: Any) -> None:
    def refuse() -> None:
        time.pass_(0.010)
        raise PermissionError

    timed.app.before_request(refuse)
    timed.app.register_error_handler(PermissionError, lambda _: (time.pass_(0.020) or "no", 403))
    assert timed.get("/").body == b"no"
    assert [part["ms"] for part in timed.parts("index").values()] == [10]


def test_the_functions_are_those_of_the_application_alone(quiet: Any) -> None:
    def load_user() -> None:
        """Do nothing."""

    quiet.app.before_request(load_user)
    quiet.get("/")
    functions = quiet.app.before_request_funcs
    assert functions == {None: [load_user]} == dict(copy.deepcopy(functions))
    for duplicate in (copy.copy(functions[None]), functions[None].copy(), functions[None] + []):
        assert type(duplicate) is list


def test_a_function_that_is_added_after_the_first_request_is_timed(timed: Any, time: Any) -> None:
    timed.app.before_request(lambda: None)
    timed.get("/")
    timed.app.before_request_funcs[None].insert(0, lambda: time.pass_(0.010))
    timed.get("/")
    assert [part["count"] for part in timed.parts("index").values()] == [1]


def test_a_view_that_looks_at_the_functions_leaves_no_hook_running(timed: Any, time: Any) -> None:
    timed.app.before_request(lambda: None)

    @timed.app.get("/look", endpoint="look")
    def look() -> str:
        next(iter(timed.app.before_request_funcs[None]))
        time.pass_(0.010)
        return "x"

    timed.get("/look")
    assert timed.parts("look") == {}


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


def test_hooks_run_in_their_order(quiet: Any) -> None:
    calls: list[str] = []
    for name in "abc":
        quiet.app.before_request(lambda name=name: calls.append(name))
    quiet.get("/"), quiet.get("/")
    assert calls == list("abcabc")


def test_requests_with_hooks_stay_on_the_fast_path_and_their_hooks_are_counted(
    timed: Any, time: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load_user() -> None:
        time.pass_(0.001)

    timed.app.before_request(load_user)
    timed.app.before_request(lambda: None)
    for _ in range(300):  # the first ones have their CPU time sampled
        timed.get("/")
    slow = []
    finish = type(timed.session.profile).finish
    monkeypatch.setattr(
        type(timed.session.profile), "finish",
        lambda self, *args, **names: slow.append(1) or finish(self, *args, **names),
    )  # fmt: skip
    for _ in range(100):
        timed.get("/")
    assert len(slow) < 10  # CPU samples
    ((_, part),) = timed.parts("index").items()
    assert (part["count"], part["ms"]) == (400, 1)


def test_a_query_within_a_hook_is_excluded_from_it(timed: Any, time: Any) -> None:
    def load_user() -> None:
        time.pass_(0.010)
        with timed.perf.section("rights"):
            time.pass_(0.005)

    timed.app.before_request(load_user)
    for _ in range(2):
        timed.get("/")
    times = {name.rpartition(".")[2]: part["ms"] for name, part in timed.parts("index").items()}
    assert times == {"load_user": 10, "section:rights": 5}


def test_a_hook_is_in_the_server_timing_of_its_request(timed: Any, time: Any) -> None:
    timed.app.before_request(lambda: time.pass_(0.010))
    timed.app.add_url_rule("/timing", "timing", lambda: server_timing(CURRENT.get()))
    for _ in range(2):
        assert b'desc="hook:' in timed.get("/timing").body


def test_a_hook_whose_name_is_of_another_type_hides_no_other_hook(timed: Any, time: Any) -> None:
    class Numbered:
        def __init__(self) -> None:
            self.__qualname__: Any = 5

        def __call__(self) -> None:
            time.pass_(0.010)

    timed.app.before_request(Numbered())
    timed.app.before_request(lambda: time.pass_(0.020))
    timed.get("/"), timed.get("/")
    assert sorted(part["ms"] for part in timed.parts("index").values()) == [10, 20]
    assert timed.row("index")["count"] == 2 and not timed.session.recorder.spans


def test_a_request_that_fails_before_its_context_is_there_has_evidence(quiet: Any) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError

    quiet.app.add_url_rule("/price", "price", lambda: "ok")
    quiet.app.config["PROPAGATE_EXCEPTIONS"] = True
    with appcontext_pushed.connected_to(refuse, quiet.app), pytest.raises(LookupError):
        # Flask's own end of a request fails then, too, and leaves its context behind
        copy_context().run(quiet.get, "/price")
    assert quiet.session.recorder.failures == {}


def test_a_statement_in_a_hook_counts_as_one_not_as_the_hook(timed: Any, time: Any) -> None:
    connection = wrap_connect(sqlite3.connect)(":memory:")
    connection.create_function("knit", 0, lambda: time.pass_(0.010))

    def load_user() -> None:
        time.pass_(0.001)
        connection.execute("select knit()").fetchall()

    timed.app.before_request(load_user)
    for _ in range(5):
        timed.get("/")
    connection.close()
    assert sorted(part["ms"] for part in timed.parts("index").values()) == [1, 10]
