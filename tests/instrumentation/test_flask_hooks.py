"""Functions that Flask calls around views as parts of a request."""

from __future__ import annotations

import copy
import json
import sqlite3
from collections.abc import Callable
from contextvars import copy_context
from threading import Thread
from time import sleep
from typing import Any

import pytest
from flask import Blueprint, abort, appcontext_pushed, request, request_finished
from werkzeug.exceptions import NotFound, Unauthorized

from flask_knitperf.collectors.requests.server_timing import server_timing
from flask_knitperf.collectors.sql.dbapi import wrap_connect
from flask_knitperf.recording.span import CURRENT


def kinds_of(mill: Any, endpoint: str = "index") -> dict[str, float]:
    """Return the milliseconds of the parts of an endpoint, by their kind."""
    parts = mill.parts(endpoint)
    return {name.partition(":")[0]: part["ms"] for name, part in parts.items()}


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
    assert kinds_of(timed) == {"hook": 10, "after": 20}
    assert timed.row("index")["mean_ms"] == 30


def test_a_hook_that_fails_ends_there(timed: Any, time: Any) -> None:
    def refuse() -> None:
        time.pass_(0.010)
        raise PermissionError

    timed.app.before_request(refuse)
    timed.app.register_error_handler(PermissionError, lambda _: (time.pass_(0.020) or "no", 403))
    assert timed.get("/").body == b"no"
    assert kinds_of(timed) == {"hook": 10, "error": 20}


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


def slow_requests(timed: Any, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return the number of the last 100 of 400 requests that take the slow path."""
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
    return len(slow)


def test_requests_with_hooks_stay_on_the_fast_path_and_their_hooks_are_counted(
    timed: Any, time: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load_user() -> None:
        time.pass_(0.001)

    timed.app.before_request(load_user)
    timed.app.before_request(lambda: None)
    assert slow_requests(timed, monkeypatch) < 10  # CPU samples
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


# -- after_request and teardown functions, error handlers ------------------------------------------


def parts_of(mill: Any, endpoint: str = "index") -> dict[str, float]:
    """Return the milliseconds of each part, by its kind and the last part of its name."""
    return {
        f"{name.partition(':')[0]}:{name.rpartition('.')[2].rpartition(':')[2]}": part["ms"]
        for name, part in mill.parts(endpoint).items()
    }


def register_slow(mill: Any, time: Any, *kinds: str) -> None:
    """Register functions of several kinds, each of which takes ten milliseconds."""

    def audit_log(response: Any) -> Any:
        time.pass_(0.010)
        return response

    def close_store(_: Any) -> None:
        time.pass_(0.010)

    def denied(error: Any) -> tuple[str, int]:
        time.pass_(0.010)
        return "no", 401

    for kind in kinds:
        {
            "after": lambda: mill.app.after_request(audit_log),
            "teardown": lambda: mill.app.teardown_request(close_store),
            "appcontext": lambda: mill.app.teardown_appcontext(close_store),
            "error": lambda: mill.app.register_error_handler(401, denied),
        }[kind]()


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        ("after", "after:audit_log"), ("teardown", "teardown:close_store"),
        ("appcontext", "teardown:close_store"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("hook", [None, lambda: "early", lambda: abort(403)])
def test_what_runs_after_the_view_is_a_part_also_where_a_hook_answers_early(
    timed: Any, time: Any, kind: str, part: str, hook: Any
) -> None:
    if hook is not None:
        timed.app.before_request(hook)
    register_slow(timed, time, kind)
    for _ in range(3):
        timed.get("/")
    assert parts_of(timed) == {part: 10}
    assert timed.row("index")["mean_ms"] == 10


def test_an_error_handler_is_a_part_and_the_hook_that_aborts_is_not(timed: Any, time: Any) -> None:
    timed.app.before_request(lambda: abort(401))
    register_slow(timed, time, "error", "after")
    for _ in range(3):
        assert timed.get("/").code == 401
    assert parts_of(timed) == {"error:denied": 10, "after:audit_log": 10}


def test_an_error_handler_ends_with_its_call(timed: Any, time: Any) -> None:
    register_slow(timed, time, "error")
    timed.app.add_url_rule("/it", "it", lambda: abort(401))
    with request_finished.connected_to(lambda *_, **__: time.pass_(0.005), timed.app):
        for _ in range(2):
            timed.get("/it")
    assert parts_of(timed, "it") == {"error:denied": 10}


def test_an_async_error_handler_and_an_async_after_request_function_are_parts(
    timed: Any, time: Any
) -> None:
    async def denied(_: Any) -> tuple[str, int]:
        time.pass_(0.010)
        return "no", 401

    async def sign(response: Any) -> Any:
        time.pass_(0.020)
        return response

    timed.app.register_error_handler(401, denied)
    timed.app.after_request(sign)
    timed.app.add_url_rule("/it", "it", lambda: abort(401))
    assert timed.get("/it").body == b"no"
    parts = parts_of(timed, "it")
    assert (parts["error:denied"], parts["after:sign"]) == (10, 20)


def test_an_error_handler_that_fails_is_a_part_and_its_error_is_the_hosts(
    timed: Any, time: Any
) -> None:
    def denied(_: Any) -> None:
        time.pass_(0.010)
        raise LookupError

    def failed(error: Any) -> tuple[str, int]:
        time.pass_(0.020)
        return type(error.original_exception).__name__, 500

    timed.app.register_error_handler(401, denied)
    timed.app.register_error_handler(500, failed)
    timed.app.add_url_rule("/it", "it", lambda: abort(401))
    assert timed.get("/it").body == b"LookupError"
    assert parts_of(timed, "it") == {"error:denied": 10, "error:failed": 20}


def test_functions_of_a_blueprint_that_run_after_its_views_are_parts_of_its_endpoints_only(
    timed: Any, time: Any
) -> None:
    shop = Blueprint("shop", __name__)
    shop.add_url_rule("/shop", "open", lambda: abort(401))
    shop.after_request(lambda response: time.pass_(0.010) or response)
    shop.teardown_request(lambda _: time.pass_(0.020))
    shop.register_error_handler(401, lambda _: (time.pass_(0.040) or "no", 401))
    timed.app.register_blueprint(shop)
    timed.get("/shop"), timed.get("/")
    assert kinds_of(timed, "shop.open") == {"after": 10, "teardown": 20, "error": 40}
    assert timed.parts("index") == {}


def test_functions_that_are_registered_later_are_timed_after_some_requests(
    timed: Any, time: Any
) -> None:
    timed.get("/")
    timed.app.after_request_funcs.setdefault(None, []).append(
        lambda response: time.pass_(0.010) or response
    )
    timed.app.error_handler_spec[None][404][NotFound] = lambda _: (time.pass_(0.020) or "no", 404)
    timed.session.profile.prepare_next()
    timed.get("/"), timed.get("/nowhere")
    assert [part["ms"] for part in timed.parts("index").values()] == [5]  # of two requests
    assert kinds_of(timed, "<unmatched>") == {"after": 10, "error": 20}


def test_functions_and_handlers_are_those_of_the_application_in_their_order(quiet: Any) -> None:
    calls: list[str] = []
    names = "abc"
    for name in names:
        quiet.app.after_request(lambda response, name=name: calls.append(name) or response)
        quiet.app.teardown_request(lambda _, name=name: calls.append(name.upper()))

    def denied(_: Any) -> tuple[str, int]:
        return "no", 401

    quiet.app.register_error_handler(401, denied)
    before = [
        copy.deepcopy(dict(functions))
        for functions in (quiet.app.after_request_funcs, quiet.app.teardown_request_funcs)
    ]
    quiet.get("/")
    assert calls == list("cbaCBA")
    after = [quiet.app.after_request_funcs, quiet.app.teardown_request_funcs]
    assert (
        list(map(dict, after)) == before == [dict(copy.deepcopy(functions)) for functions in after]
    )
    handlers = quiet.app.error_handler_spec[None][401]
    assert handlers == {Unauthorized: denied} and handlers.get(Unauthorized) is denied
    for duplicate in (copy.copy(handlers), copy.deepcopy(handlers), handlers.copy()):
        assert type(duplicate) is dict and duplicate == handlers
    assert handlers.get(NotFound) is None and handlers.get(NotFound, 5) == 5


def test_a_handler_that_is_only_looked_up_is_not_timed(timed: Any, time: Any) -> None:
    register_slow(timed, time, "error")

    def view() -> str:
        handler = timed.app.error_handler_spec[None][401].get(Unauthorized)
        time.pass_(0.010)
        return str(handler.__name__)

    timed.app.add_url_rule("/look", "look", view)
    timed.get("/look")
    assert timed.get("/look").body == b"denied" and timed.parts("look") == {}


def test_slow_functions_after_the_view_leave_a_request_on_the_fast_path(
    timed: Any, time: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def audit_log(response: Any) -> Any:
        time.pass_(0.001)
        return response

    timed.app.after_request(audit_log)
    timed.app.teardown_request(lambda _: time.pass_(0.002))
    assert slow_requests(timed, monkeypatch) < 10  # CPU samples
    assert [(part["count"], part["ms"]) for part in timed.parts("index").values()] == [
        (400, 2), (400, 1)
    ]  # fmt: skip


def test_a_slow_after_request_function_of_three_endpoints_is_one_card_that_names_them(
    make_app: Callable[..., Any], time: Any
) -> None:
    mill = make_app(TESTING=True, KNITPERF_SLOW_MS=8, KNITPERF_MODERATE_MS=5)
    mill.session.recorder.clock = time.clock()
    register_slow(mill, time, "after")
    for name in ("lots", "orders", "yarn"):
        mill.app.add_url_rule(f"/{name}", name, lambda: "ok")
    for name in ("lots", "orders", "yarn") * 20:
        mill.get(f"/{name}")
    document = mill.report()
    assert {finding["why"][0]["cause"] for finding in document["bottlenecks"]} == {"late_hook"}
    [card] = document["cards"]
    assert card["kind"] == "hook" and "after_request function" in card["title"]
    assert {row["endpoint"] for row in card["endpoints"]} == {"lots", "orders", "yarn"}


def test_a_short_function_after_every_view_is_summed_over_endpoints(timed: Any, time: Any) -> None:
    timed.app.teardown_request(lambda _: time.pass_(0.000_2))
    for name in ("lots", "orders", "yarn"):
        timed.app.add_url_rule(f"/{name}", name, lambda: time.pass_(0.001) or "ok")
    for name in ("lots", "orders", "yarn") * 50:
        timed.get(f"/{name}")
    [card] = timed.report()["cards"]
    assert card["kind"] == "hook" and card["severity"] == "INFO" and len(card["endpoints"]) == 3
    assert "teardown function" in card["title"] and "at the end of a request" in str(card["points"])


def test_an_after_request_function_that_fails_is_a_part_beside_the_handler_of_its_error(
    timed: Any, time: Any
) -> None:
    def sign(_: Any) -> None:
        time.pass_(0.010)
        raise LookupError

    def failed(_: Any) -> tuple[str, int]:
        time.pass_(0.020)
        return "failed", 500

    timed.app.after_request(sign)
    timed.app.register_error_handler(LookupError, failed)
    timed.app.register_error_handler(500, failed)
    assert timed.get("/").code == 500
    assert parts_of(timed) == {"after:sign": 20, "error:failed": 20}  # Flask signs the answer again
    assert not timed.session.recorder.spans and not timed.session.recorder.failures


def test_teardown_functions_that_run_outside_of_requests_are_not_recorded(
    timed: Any, time: Any
) -> None:
    register_slow(timed, time, "teardown", "appcontext")
    timed.get("/")
    with timed.app.test_request_context("/"), timed.app.app_context():
        pass
    [part] = timed.parts("index").values()
    assert (part["count"], part["ms"]) == (2, 20) and not timed.session.recorder.failures


def test_hostile_names_of_functions_reach_no_report_as_they_are(quiet: Any) -> None:
    def sign(response: Any) -> Any:
        sleep(0.001)
        return response

    sign.__qualname__ = "si\udcffgn\x1b[31m"
    quiet.app.after_request(sign)
    for _ in range(3):
        quiet.get("/")
    [name] = quiet.parts("index")
    json.dumps(quiet.report(), ensure_ascii=False).encode()
    assert name.startswith("after:si")


def test_requests_in_many_threads_keep_their_functions_apart(quiet: Any) -> None:
    def sign(response: Any) -> Any:
        sleep(0.001)
        return response

    def denied(_: Any) -> tuple[str, int]:
        sleep(0.001)
        return "no", 401

    quiet.app.before_request(lambda: abort(401) if request.path == "/" else None)
    quiet.app.after_request(sign)
    quiet.app.teardown_request(lambda _: sleep(0.001))
    quiet.app.register_error_handler(401, denied)
    quiet.app.add_url_rule("/it", "it", lambda: "ok")
    threads = [
        Thread(target=lambda: [quiet.get(path) for path in ("/", "/it") * 10]) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for endpoint, kinds in (
        ("index", {"error", "after", "teardown"}),
        ("it", {"after", "teardown"}),
    ):
        parts = quiet.parts(endpoint)
        counts = {
            name.partition(":")[0]: part["count"]
            for name, part in parts.items() if part["ms"] >= 1
        }  # fmt: skip
        assert counts == dict.fromkeys(kinds, 80)
        assert sum(part["share"] for part in parts.values()) <= 1
    assert not quiet.session.recorder.failures
