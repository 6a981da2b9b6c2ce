"""An application's functions are warmed without a client, and never for one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import flask
import pytest
from flask import current_app, g, has_request_context, request, session

from flask_knitperf import KnitPerf
from flask_knitperf.core.errors import KnitPerfError


class Mill:
    """An application with one cached function that is warmed."""

    def __init__(self) -> None:
        self.app = flask.Flask("mill")
        self.app.config.update(TESTING=True, SECRET_KEY="x" * 16)
        self.perf = KnitPerf(self.app)
        self.client = self.app.test_client()
        self.kept: list[Any] = []

    def warm(self, function: Any, *arguments: Any, **options: Any) -> Any:
        """Cache a function that is warmed with some arguments, and return it."""
        decorator = self.perf.cache.cached(warm=lambda: arguments or ["a"], **options)
        self.kept.append(decorator(function))
        return self.kept[-1]

    @property
    def total(self) -> Any:
        return self.perf.cache.get_cache_statistics()["total"]


@pytest.fixture
def mill() -> Iterator[Mill]:
    mill = Mill()
    yield mill
    mill.app.extensions["knitperf"].close()


def test_a_warmed_value_answers_the_first_request(mill: Mill) -> None:
    loads: list[str] = []
    total = mill.warm(lambda style: loads.append(style) or f"{current_app.name} {style}", "a", "b")
    mill.app.add_url_rule("/<style>", "total", lambda style: str(total(style)))
    outcome = mill.perf.cache.warm()
    assert (outcome["warmed"], outcome["failed"], outcome["left"]) == (2, 0, 0)
    assert [mill.client.get(path).text for path in ("/a", "/b")] == ["mill a", "mill b"]
    assert loads == ["a", "b"]
    assert (mill.total["hits"], mill.total["misses"], mill.total["warmed"]) == (2, 0, 2)


@pytest.mark.parametrize(
    "load",
    [
        lambda style: session.get("user", "") + style,
        lambda style: session.get("user", "") + style if has_request_context() else style,
        lambda style: request.args.get("unit", style),
        lambda style: g.get("user", style),
        lambda style: str(request.cookies.get("user", style)),
    ],
    ids=["session", "guarded session", "arguments", "g", "cookies"],
)
def test_a_value_that_depends_on_the_client_is_never_kept(mill: Mill, load: Any) -> None:
    total = mill.warm(load)
    outcome = mill.perf.cache.warm()
    assert outcome["warmed"] == 0
    assert "request" in "".join(outcome["skipped"].values())
    assert mill.total["entries"] == 0
    mill.app.add_url_rule("/", "page", lambda: total("a"))
    mill.client.get("/")
    assert mill.perf.cache.warm()["total"] == 0


def test_a_value_that_depends_on_the_address_is_not_kept(mill: Mill) -> None:
    mill.app.add_url_rule("/<style>", "total", lambda style: style)
    mill.warm(lambda style: flask.url_for("total", style=style))
    outcome = mill.perf.cache.warm()
    assert (outcome["warmed"], outcome["refused"], mill.total["entries"]) == (0, 1, 0)
    assert list(outcome["skipped"].values()) == ["it depends on the address of the request"]


def test_a_view_is_not_called(mill: Mill) -> None:
    calls: list[str] = []
    view = mill.warm(lambda style: calls.append(style) or style)
    mill.app.add_url_rule("/<style>", "total", view)
    outcome = mill.perf.cache.warm()
    assert calls == []
    assert list(outcome["skipped"].values()) == ["it is a view; cache what it calculates"]


def test_functions_for_the_end_of_requests_may_raise(mill: Mill) -> None:
    @mill.app.teardown_request
    def end(_: Any) -> None:
        raise RuntimeError(f"{g.began} was never set")

    total = mill.warm(lambda style: style)
    assert mill.perf.cache.warm()["warmed"] == 1
    assert total("a") == "a"


def test_no_function_before_requests_is_called(mill: Mill) -> None:
    calls: list[str] = []
    mill.app.before_request(lambda: calls.append("before"))
    mill.warm(lambda style: style)
    assert mill.perf.cache.warm()["warmed"] == 1
    assert calls == []


def test_a_load_is_a_run_of_a_job_and_no_request(mill: Mill) -> None:
    mill.app.add_url_rule("/", "index", lambda: "x")
    mill.client.get("/")
    mill.warm(lambda style: style, "a", "b")
    mill.perf.cache.warm()
    report = mill.perf.report()
    assert [(row["endpoint"], row["count"]) for row in report["endpoints"]] == [("index", 1)]
    assert [(row["name"], row["runs"]) for row in report["jobs"]] == [("cache warming", 2)]


def test_a_process_that_records_nothing_yet_does_not_begin_to(mill: Mill) -> None:
    mill.warm(lambda style: style)
    mill.perf.cache.warm()
    assert not mill.app.extensions["knitperf"].recorder.has_worker


def test_one_function_is_warmed_by_choice(mill: Mill) -> None:
    one, _ = mill.warm(lambda style: style, namespace="one"), mill.warm(lambda style: style)
    steps: list[tuple[int, int]] = []
    outcome = mill.perf.cache.warm(one, progress=lambda *step: steps.append(step))
    assert (outcome["total"], steps) == (1, [(1, 1)])


def test_a_function_that_is_not_warmed_cannot_be_chosen(mill: Mill) -> None:
    for function in (mill.perf.cache.cached(lambda: 1), lambda: 1):
        with pytest.raises(KnitPerfError, match="not a cached function with warm="):
            mill.perf.cache.warm(function)


class Order:
    def lines(self) -> int:
        return 1


async def awaited(style: str) -> str:
    return style


@pytest.mark.parametrize(
    ("function", "options", "reason"),
    [
        (Order.lines, {}, "a method is cached for each instance"),
        (awaited, {}, "it is a coroutine function"),
        (lambda style: style, {"vary": "user"}, "its values depend on the request"),
        (lambda style: style, {"warm": 5}, "must be a bool or a function"),
    ],
    ids=["method", "coroutine", "vary", "number"],
)
def test_a_function_that_cannot_be_warmed_is_refused_at_once(
    mill: Mill, function: Any, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(KnitPerfError, match=reason):
        mill.perf.cache.cached(**{"warm": True, **options})(function)


def test_a_script_warms_without_an_application() -> None:
    from flask_knitperf import CacheOptimizer

    cache = CacheOptimizer()
    total = cache.cached(warm=lambda: ["a"])(lambda style: style)
    assert cache.warm()["warmed"] == 1
    assert total("a") == "a"
    assert cache.get_cache_statistics()["total"]["hits"] == 1
