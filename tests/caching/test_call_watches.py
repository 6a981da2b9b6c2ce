"""Profiled functions as if they were cached: in an application, across forks, kills and threads."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from typing import Any

import flask
import pytest

from flask_knitperf.caching.call_watches import MAX_SAME
from flask_knitperf.caching.dependencies import RUNNING
from flask_knitperf.metrics.catalogue import MAX_WATCHED
from flask_knitperf.reports.offline import Offline

from ..runtime.applications import in_child, needs_fork, without_thread


@pytest.fixture
def mill(make_app: Any, time: Any) -> Any:
    """Return an application whose clock the test moves."""
    mill = make_app(TESTING=True, SECRET_KEY="x" * 16)
    mill.session.recorder.clock = time.clock()
    return mill


def rows_of(mill: Any) -> dict[str, Any]:
    """Return the rows of the cache's document by function."""
    return {row["function"]: row for row in mill.session.documents.cache("run")["what_if"]}


def serve(mill: Any, work: Any) -> None:
    """Serve one request that does some work."""
    if "view" not in mill.app.view_functions:
        mill.app.add_url_rule("/view", "view", lambda: mill.app.work() or "ok")
    mill.app.work = work
    assert mill.get("/view").code == 200


def test_a_function_that_repeats_its_work_is_recommended_with_its_savings(
    mill: Any, time: Any
) -> None:
    @mill.perf.profile
    def explode_bom(style: str) -> dict[str, str]:
        time.pass_(0.5)
        return {"style": style}

    serve(mill, lambda: [explode_bom(f"s{number % 4}") and None for number in range(200)][:0])
    [row] = rows_of(mill).values()
    assert row["text"].startswith("Cache test_a_function")
    assert "98 % of 200 calls in 100 s would have hit with a TTL of 5 min, at most" in row["text"]
    assert row["text"].endswith("saves 98.0 of 100 s.")
    assert (row["decorator"], row["ttl_s"]) == ("@perf.cache.cached(ttl=300)", 300.0)
    assert row["saved_s"] == row["options"][-1]["saved_s"] == 98.0  # the shortest of equal ones
    assert "test_call_watches.py:" in row["where"]
    assert mill.report("run")["cache_advice"] == [row]


def test_the_prediction_is_what_caching_then_brings(mill: Any, time: Any) -> None:
    def explode(style: int) -> int:
        time.pass_(0.5)
        return style

    def work(function: Any) -> None:
        for number in range(300):
            function(number * number % 7)
            time.pass_(0.1)

    serve(mill, lambda: work(mill.perf.profile(explode)))
    [row] = rows_of(mill).values()
    option = row["options"][-1]
    cached = mill.perf.cache.cached(explode)
    serve(mill, lambda: work(cached))
    counts = mill.perf.cache.get_cache_statistics()["total"]
    assert (option["hits"], row["judged"] - option["hits"]) == (counts["hits"], counts["misses"])


def test_an_answer_that_changes_limits_the_ttl(mill: Any, time: Any) -> None:
    began = time.clock().monotonic_ns()

    @mill.perf.profile
    def stock() -> int:
        time.pass_(0.5)
        return int(time.clock().monotonic_ns() - began) // 437_000_000_000

    serve(mill, lambda: [stock() and None for _ in range(6000)][:0])
    row = rows_of(mill)["test_an_answer_that_changes_limits_the_ttl.stock"]
    first, *_, last = row["options"]
    assert first["stale_high"] < 0.05 and last["stale_low"] > 0.5
    assert row["ttl_s"] in (15.0, 60.0) and "of them stale" in row["text"]


def test_what_reads_the_session_is_not_recommended_and_has_its_remedy(mill: Any, time: Any) -> None:
    @mill.perf.profile
    def prices() -> str:
        time.pass_(1)
        return str(flask.session.get("user_id"))

    serve(mill, lambda: [prices() for _ in range(50)][:0])
    [row] = rows_of(mill).values()
    assert row["decorator"] is None and mill.report("run")["cache_advice"] == []
    assert "reads session['user_id'] (" in row["text"]
    assert row["recommendation"] == "Add vary='user', or pass it as an argument."


def test_what_changes_the_session_is_not_recommended(mill: Any, time: Any) -> None:
    @mill.perf.profile
    def note() -> int:
        time.pass_(1)
        flask.session["seen"] = 1
        return 1

    serve(mill, lambda: [note() for _ in range(50)][:0])
    [row] = rows_of(mill).values()
    assert "it changes session['seen']" in row["text"] and row["decorator"] is None


def test_routing_data_that_a_function_reads_is_a_part_of_its_key(mill: Any, time: Any) -> None:
    @mill.perf.profile
    def page() -> str:
        time.pass_(1)
        return flask.request.path

    for path in ("/a", "/b"):
        mill.app.add_url_rule(path, path[1:], lambda: [page() for _ in range(30)] and "ok")
    assert mill.get("/a").code == mill.get("/b").code == 200
    [row] = rows_of(mill).values()
    assert row["options"][-1]["hits"] == 58 and row["options"][-1]["stale"] == 0


def test_the_request_has_its_class_again_after_an_observed_call(mill: Any) -> None:
    classes: list[type] = []

    @mill.perf.profile
    def prices() -> str:
        classes.append(type(flask.request._get_current_object()))  # type: ignore[attr-defined]
        return str(flask.request.args)

    def work() -> None:
        prices()
        classes.append(type(flask.request._get_current_object()))  # type: ignore[attr-defined]

    serve(mill, work)
    assert classes[0] is not classes[1] is flask.Request


@pytest.mark.parametrize("kind", ["generator", "async generator", "cached", "wrapped"])
def test_generators_and_cached_functions_are_left_alone(mill: Any, kind: str) -> None:
    def generate() -> Iterator[int]:
        yield 1

    async def generate_async() -> Any:
        yield 1

    cached: Any = mill.perf.cache.cached(lambda: 1)

    def around() -> Any:
        return cached()

    around.__wrapped__ = cached  # type: ignore[attr-defined]
    function: Any = {
        "generator": generate, "async generator": generate_async, "cached": cached, "wrapped": around,
    }[kind]  # fmt: skip
    serve(mill, lambda: [mill.perf.profile(function)() for _ in range(3)][:0])
    assert rows_of(mill) == {}


def test_a_coroutine_function_is_watched(mill: Any, time: Any) -> None:
    @mill.perf.profile
    async def load(number: int) -> int:
        time.pass_(1)
        await asyncio.sleep(0)
        return number

    async def loads() -> None:
        for _ in range(30):
            assert await load(7) == 7

    serve(mill, lambda: asyncio.run(loads()))
    [row] = rows_of(mill).values()
    assert (row["judged"], row["options"][-1]["hits"]) == (30, 29)


class Prices:
    """A service whose instances have different prices."""

    def __init__(self, price: int) -> None:
        self.price = price

    def of(self, style: str) -> str:
        return f"{style} {self.price}"


def test_instances_are_keys_whether_they_or_their_class_are_instrumented(mill: Any) -> None:
    class Own(Prices):
        pass

    objects = [mill.perf.instrument(Prices(number)) for number in range(3)]
    mill.perf.instrument(Own)
    objects += [Own(number) for number in range(3)]
    serve(mill, lambda: [one.of("a") for one in objects * 2][:0])
    rows = rows_of(mill)
    assert {name: (row["judged"], row["options"][-1]["hits"]) for name, row in rows.items()} == {
        "Prices.of": (6, 3), "Own.of": (6, 3),
    }  # fmt: skip


def test_it_can_be_switched_off(make_app: Any) -> None:
    mill = make_app(TESTING=True, KNITPERF_CACHE_WHATIF=False)
    serve(mill, mill.perf.profile(lambda: ""))
    assert rows_of(mill) == {} and mill.session.what_if is None


def test_functions_that_requests_define_are_watched_up_to_a_number(mill: Any) -> None:
    def work() -> None:
        @mill.perf.profile
        def local() -> int:
            return 1

        local()

    for _ in range(MAX_SAME + 10):
        serve(mill, work)
    gc.collect()
    assert sum(mill.session.what_if._watches._created.values()) == MAX_SAME
    assert len(mill.session.what_if._watches._watches) == 0


def test_only_a_number_of_functions_is_watched(mill: Any) -> None:
    functions = [mill.perf.profiler.profile_endpoint(f"f{n}")(lambda: 1) for n in range(250)]
    serve(mill, lambda: [function() for function in functions][:0])
    assert len(rows_of(mill)) == MAX_WATCHED


def test_a_failure_of_the_watch_leaves_the_call_as_it_is_and_ends_the_watch(
    mill: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flask_knitperf.caching.what_if import Simulation

    monkeypatch.setattr(Simulation, "call", lambda *_, **__: 1 / 0)
    results: list[int] = []
    function = mill.perf.profile(lambda: 7)
    for _ in range(3):
        serve(mill, lambda: results.append(function()))
    assert results == [7, 7, 7]
    assert mill.session.recorder.failures == {"caching what-if": 1}
    assert mill.report("run")["functions"][0]["count"] == 3


def test_an_error_passes_through_and_is_a_miss(mill: Any) -> None:
    @mill.perf.profile
    def fail(number: int) -> int:
        raise LookupError(number)

    def work() -> None:
        for _ in range(3):
            with pytest.raises(LookupError):
                fail(1)

    serve(mill, work)
    [row] = rows_of(mill).values()
    assert (row["judged"], row["options"]) == (3, [])


def test_names_of_any_length_and_kind_are_reported(mill: Any) -> None:
    name = "f\t\udc80\n<b>" + "x" * 500
    function = mill.perf.profiler.profile_endpoint(name)(lambda value: value)
    serve(mill, lambda: [function(object()) for _ in range(3)][:0])
    [row] = rows_of(mill).values()
    assert "has no cache key" in row["text"] and len(row["function"]) < 300


# -- processes ---------------------------------------------------------------------------------------


@needs_fork
def test_a_child_does_not_publish_what_its_parent_has_counted(make_app: Any) -> None:
    mill = make_app()
    load = mill.perf.profile(lambda number: number)
    with mill.app.app_context():
        load(1), load(1), load(1)
    mill.session.close()
    with mill.app.app_context():
        load(1)

    def work() -> Any:
        serve(mill, lambda: load(1) and None)
        mill.session.what_if.publish()
        [row] = mill.session.documents.cache("run")["what_if"]
        return [row["judged"], row["options"][-1]["hits"]]

    assert in_child(work) == [1, 1]


def test_at_a_regular_exit_the_rest_is_published(make_app: Any) -> None:
    mill = without_thread(make_app())
    load = mill.perf.profile(lambda number: number)
    serve(mill, lambda: [load(1) for _ in range(7)][:0])
    mill.session.close()
    [row] = Offline(mill.app.config["KNITPERF_STATE_DIR"]).cache("run")["what_if"]
    assert (row["judged"], row["options"][-1]["hits"]) == (7, 6)


def test_counts_of_several_workers_add_up(make_app: Any) -> None:
    for _ in range(2):
        mill = without_thread(make_app(KNITPERF_RELEASE="1"))
        load = mill.perf.profiler.profile_endpoint("load")(_number)
        serve(mill, lambda load=load: [load(1) for _ in range(5)][:0])
        mill.session.close()
    [row] = Offline(mill.app.config["KNITPERF_STATE_DIR"]).cache("run")["what_if"]
    assert (row["judged"], row["options"][-1]["hits"]) == (10, 8)


def _number(number: int) -> int:
    return number


def test_a_profiled_function_that_a_cache_calls_is_not_watched(mill: Any) -> None:
    load = mill.perf.cache.cached(mill.perf.profile(lambda number: number))
    serve(mill, lambda: [load(number % 5) for number in range(30)][:0])
    assert rows_of(mill) == {} and mill.report("run")["functions"][0]["count"] == 5


def test_a_cached_function_around_an_observed_one_is_still_refused_for_what_that_reads(
    mill: Any, tmp_path: Any
) -> None:
    (tmp_path / "yarn.csv").write_text("a")

    @mill.perf.profile
    def name() -> str:
        return str(flask.session.get("user_id"))

    @mill.perf.profile
    def content() -> str:
        return (tmp_path / "yarn.csv").read_text(encoding="utf-8")

    def named() -> str:
        return name()

    def read() -> str:
        return content()

    cached_name = mill.perf.cache.cached(named, namespace="name")
    cached_content = mill.perf.cache.cached(read, namespace="content")
    serve(mill, lambda: [cached_name(), cached_content()][:0])
    rows = mill.session.documents.cache("run")
    [row] = rows["per_user"]
    assert row["namespace"] == "name"
    explanation = mill.perf.cache.explain(cached_content)
    assert any("yarn.csv" in text for text in str(explanation).split())


def test_an_observed_function_around_a_cached_one_is_no_obstacle(mill: Any, time: Any) -> None:
    cached = mill.perf.cache.cached(lambda number: [number])

    @mill.perf.profile
    def outer(number: int) -> Any:
        time.pass_(1)
        return cached(number)

    serve(mill, lambda: [outer(1) for _ in range(100)][:0])
    [row] = rows_of(mill).values()
    assert row["decorator"] == "@perf.cache.cached(ttl=300)"


def test_threads_that_call_one_function_lose_no_call(mill: Any) -> None:
    function = mill.perf.profile(lambda number: number)

    def work() -> None:
        with mill.app.app_context():
            for number in range(500):
                function(number % 9)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    serve(mill, lambda: None)
    [row] = rows_of(mill).values()
    assert row["judged"] == 2000 and not RUNNING
