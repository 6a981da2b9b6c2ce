"""``perf.cache``: what a user of the cache sees."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import flask
import pytest

from flask_knitperf import CacheOptimizer, KnitPerf
from flask_knitperf.core.errors import CacheKeyError, KnitPerfError


@pytest.fixture
def optimizer() -> CacheOptimizer:
    return CacheOptimizer()


def test_a_function_is_cached_without_an_application(optimizer: CacheOptimizer) -> None:
    loads = []

    @optimizer.cached
    def price(style: str) -> list[str]:
        loads.append(style)
        return [style]

    @optimizer.cached(namespace="prices", ttl=60, tags="yarn", ignore="trace")
    def discount(style: str, trace: object = None) -> float:
        loads.append(style)
        return 0.5

    price("a").append("b")
    assert price("a") == ["a"] and discount("a") == discount("a", object()) == 0.5
    assert loads == ["a", "a"]
    optimizer.invalidate("prices")
    optimizer.invalidate(tag="yarn")
    assert discount("a") == 0.5 and loads == ["a"] * 3
    optimizer.clear()
    assert price("a") == ["a"] and loads == ["a"] * 4


def test_statistics_are_by_namespace(optimizer: CacheOptimizer) -> None:
    @optimizer.cached(namespace="prices")
    def price(style: str) -> str:
        return style

    @optimizer.cached(namespace="prices")
    def cost(style: str) -> str:
        return style

    price("a"), price("a"), cost("a"), optimizer.put("k", 1), optimizer.get("k")
    optimizer.get("none", 5)
    report = optimizer.get_cache_statistics()
    assert sorted(report["namespaces"]) == ["default", "prices"]
    prices = report["namespaces"]["prices"]
    assert (prices["hits"], prices["misses"], prices["entries"]) == (1, 2, 2)
    assert report["namespaces"]["default"]["hit_rate"] == 0.5
    assert report["total"]["hits"] == 2 and report["max_bytes"] == 64 * 1024 * 1024
    assert optimizer.get_statistics() == optimizer.get_cache_statistics()
    json.dumps(report)


def test_values_under_keys(optimizer: CacheOptimizer) -> None:
    optimizer.put("a", {"b": 1}, 60, namespace="n", tags=["yarn"])
    optimizer.set(("a", 1), [1])
    assert optimizer.get("a", namespace="n") == {"b": 1} and optimizer.get("a") is None
    assert optimizer.get(("a", 1)) == [1]
    optimizer.invalidate(key=("a", 1))
    optimizer.invalidate(namespace="n", key="other")
    assert optimizer.get(("a", 1), 0) == 0 and optimizer.get("a", namespace="n") == {"b": 1}
    optimizer.invalidate_pattern("a*", namespace="n")
    assert optimizer.get("a", namespace="n") is None
    optimizer.put("a", 1)
    optimizer.invalidate_pattern("*")
    assert optimizer.get("a") is None


def test_a_call_is_explained(optimizer: CacheOptimizer) -> None:
    class Service:
        @optimizer.cached(namespace="prices", ttl=60, tags=["yarn"])
        def price(self, style: str, rate: float = 1.5) -> str:
            return style

    service = Service()
    before = optimizer.explain(service.price, "a")
    assert (before["cached"], before["last_miss"], before["age_s"]) == (False, None, None)
    service.price("a")
    after = optimizer.explain(service.price, style="a")
    assert (after["cached"], after["last_miss"], after["refused"]) == (True, "never cached", None)
    assert after["depends_on"] == ["namespace prices", "tag yarn"]
    assert (
        after["bytes"] and after["key"] == before["key"] and 0 < (after["expires_in_s"] or 0) <= 60
    )
    optimizer.invalidate("prices")
    assert not optimizer.explain(service.price, "a")["cached"]
    service.price("a")
    assert optimizer.explain(service.price, "a")["last_miss"] == "invalidated"
    optimizer._store.clear()
    service.price("a")
    assert optimizer.explain(service.price, "a")["last_miss"] == "evicted"
    plain = optimizer.cached(lambda style, rows=(): iter([style]))
    plain("a")
    explained = optimizer.explain(plain, "a", 5)
    assert explained["key"] == "('a', 5)" and "return a list" in (explained["refused"] or "")
    assert explained["expires_in_s"] is None
    with pytest.raises(KnitPerfError, match="len is not a cached function"):
        optimizer.explain(len, "a")


def test_explained_misses_are_bounded(optimizer: CacheOptimizer) -> None:
    double = optimizer.cached(lambda number: number * 2)
    for number in range(1200):
        double(number)
    cache = double.__knitperf_cache__  # type: ignore[attr-defined]
    assert len(cache._misses) <= 500
    assert optimizer.explain(double, 1199)["last_miss"] == "never cached"


def test_within_bypass_functions_are_called(optimizer: CacheOptimizer) -> None:
    loads = []

    @optimizer.cached
    def load() -> int:
        loads.append(1)
        return len(loads)

    load()
    with optimizer.bypass():
        assert load() == 2
        with optimizer.bypass():
            assert load() == 3
        assert load() == 4
    assert load() == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ttl": 0}, "ttl.*above 0.*0"), ({"ttl": "60"}, "ttl.*'60'"), ({"ttl": True}, "ttl"),
        ({"stale": -1}, "stale"), ({"stale_if_error": None}, "stale_if_error"),
        ({"early": -1}, "early.*-1"), ({"early": True}, "early"), ({"early": float("nan")}, "early"),
        ({"namespace": ""}, "namespace"), ({"tags": [1]}, "tags.*1"), ({"ignore": "nosuch"}, "nosuch"),
        ({"vary": "user"}, "vary='user'"), ({"namespace": 3}, "namespace.*3"),
    ],
)  # fmt: skip
def test_an_option_that_cannot_be_used_is_named(
    optimizer: CacheOptimizer, options: Any, message: str
) -> None:
    with pytest.raises(KnitPerfError, match=message):
        optimizer.cached(**options)(lambda style: style)


def test_other_misuse_is_named(optimizer: CacheOptimizer) -> None:
    with pytest.raises(KnitPerfError, match="namespace, a key or a tag"):
        optimizer.invalidate()
    with pytest.raises(KnitPerfError, match="below @staticmethod"):
        optimizer.cached(staticmethod(len))  # type: ignore[type-var]
    with pytest.raises(KnitPerfError, match="pattern"):
        optimizer.invalidate_pattern(None)  # type: ignore[arg-type]
    with pytest.raises(CacheKeyError):
        optimizer.get(object())


def test_the_bound_is_that_of_the_constructor_or_of_the_application() -> None:
    assert CacheOptimizer(2).get_statistics()["max_bytes"] == 2 * 1024 * 1024
    app = flask.Flask("mill")
    app.config.update(TESTING=True, KNITPERF_CACHE_MAX_MB=5)
    perf = KnitPerf()
    cached = perf.cache.cached(lambda: 1)
    cached()
    perf.init_app(app)
    cached()
    assert perf.cache.get_statistics()["max_bytes"] == 5 * 1024 * 1024


def test_results_vary_by_the_user_of_the_request(make_app: Any) -> None:
    mill = make_app(TESTING=True, SECRET_KEY="x" * 16)
    perf, loads = mill.perf, []

    @perf.cache.cached(vary="user")
    def greeting() -> str:
        user = flask.session.get("user_id")
        loads.append(user)
        return f"hello {user}"

    @perf.cache.cached(vary=("url", "host"))
    def address() -> str:
        return flask.request.url

    @mill.app.get("/hello")
    def hello() -> str:
        flask.session["user_id"] = flask.request.args["user"]
        return f"{greeting()} at {address()}"

    client = mill.app.test_client()
    for _ in range(2):
        for user in ("anna", "bert"):
            url = f"http://localhost/hello?user={user}"
            assert client.get(url).text == f"hello {user} at {url}"
    assert loads == ["anna", "bert"]


def test_outside_of_a_request_there_is_no_user() -> None:
    perf = KnitPerf()
    cached = perf.cache.cached(vary=("user", "url", "host"))(lambda: 7)
    assert cached() == 7


def test_a_user_of_flask_login_is_one_key(make_app: Any) -> None:
    import flask_login as login

    mill = make_app(TESTING=True, SECRET_KEY="x" * 16)
    manager = login.LoginManager(mill.app)

    class User(login.UserMixin):  # type: ignore[misc]
        def __init__(self, name: str) -> None:
            self.id = name

    manager.user_loader(User)
    loads = []

    @mill.perf.cache.cached(vary="user")
    def greeting() -> str:
        loads.append(login.current_user.get_id())
        return f"hello {login.current_user.get_id()}"

    @mill.app.get("/hello")
    def hello() -> str:
        if flask.request.args:
            login.login_user(User(flask.request.args["user"]))
        return greeting()

    for user in ("anna", "bert", "anna"):
        assert mill.app.test_client().get(f"/hello?user={user}").text == f"hello {user}"
    assert mill.app.test_client().get("/hello").text == "hello None"
    assert loads == ["anna", "bert", None]


def test_the_report_of_memory_shows_the_cache(make_app: Any) -> None:
    mill = make_app(TESTING=True)
    mill.perf.cache.cached(lambda: "x" * 1000)()
    (row,) = [
        row for row in mill.app.extensions["knitperf"].caches.statistics()
        if row.name == "function results"
    ]  # fmt: skip
    assert row.entries == 1 and row.size > 1000


def test_a_cache_is_freed_with_its_last_reference() -> None:
    optimizer = CacheOptimizer()
    optimizer.cached(lambda: 1)()
    reference = weakref.ref(optimizer._store)
    del optimizer
    gc.collect()
    assert reference() is None


def test_the_values_of_a_function_are_freed_with_it(optimizer: CacheOptimizer) -> None:
    for number in range(10):
        optimizer.cached(lambda number=number: "x" * 1000)()
    gc.collect()
    optimizer.cached(lambda: 1)()
    assert len(optimizer._store) <= 2 and len(optimizer._functions) <= 2


WORKER = """
import sys, time, flask
from flask_knitperf import KnitPerf
app = flask.Flask("mill")
app.config["KNITPERF_STATE_DIR"] = sys.argv[1]
perf = KnitPerf(app)
loads = []
@perf.cache.cached(namespace="bom", tags="yarn")
def load():
    loads.append(1)
    return len(loads)
with app.app_context():
    load()
    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip() == "invalidate":
            perf.cache.invalidate("bom")
        elif line.strip() == "tag":
            perf.cache.invalidate(tag="yarn")
        elif line.strip() == "clear":
            perf.cache.clear()
        print(load(), flush=True)
"""


@pytest.mark.slow
def test_invalidation_reaches_every_process_before_it_returns(tmp_path: Path) -> None:
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tmp_path / "state")], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ.copy(),
        )
        for _ in range(2)
    ]  # fmt: skip

    def command(worker: Any, text: str) -> str:
        worker.stdin.write(text + "\n")
        worker.stdin.flush()
        return worker.stdout.readline().strip()

    try:
        assert [worker.stdout.readline() for worker in workers if worker.stdout] == ["ready\n"] * 2
        one, other = workers
        for number, text in enumerate(("invalidate", "tag", "clear"), 2):
            assert command(other, "call") == str(number - 1)
            assert command(one, text) == str(number)
            assert command(other, "call") == str(number)
    finally:
        for worker in workers:
            assert worker.stdin and worker.stdout
            worker.stdin.close()
            worker.wait(30)
            worker.stdout.close()


@pytest.mark.parametrize("views", [1, 3], ids=["first", "later"])
def test_hits_and_loads_are_counted_for_the_endpoint_that_calls(views: int) -> None:
    app = flask.Flask("mill")
    app.config["TESTING"] = True
    perf = KnitPerf(app)

    @perf.cache.cached
    def price(style: int) -> int:
        return style

    @app.get("/quote")
    def quote() -> str:
        return str(sum(price(number) for number in (1, 2, 1, 1)))

    for _ in range(views):
        app.test_client().get("/quote")
    app.test_client().get("/missing")
    (row,) = (
        row for row in perf.report("run")["endpoints"] if row["endpoint"] == "quote"
    )  # fmt: skip
    counts = {part["name"]: part["count"] for part in row["parts"]}
    assert counts == {"cache_load": 2, "cache_hit": 4 * views - 2}
    assert all(part["ms"] == 0 for part in row["parts"])
    app.extensions["knitperf"].close()
