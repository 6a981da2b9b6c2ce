"""Publication of the counts of a cache: every worker's counts reach the totals, each once."""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path
from typing import Any

import flask
import pandas as pd
import pytest

from flask_knitperf.caching.publication import CachePublisher
from flask_knitperf.caching.refusals import MAX_REASONS, MAX_UNKEYED_READS, Refusals, UnkeyedRead
from flask_knitperf.caching.region import Region, counts
from flask_knitperf.core.errors import KnitPerfError
from flask_knitperf.metrics.catalogue import MAX_NAMESPACES
from flask_knitperf.metrics.instruments import OTHER
from flask_knitperf.render import html_cache, terminal_cache
from flask_knitperf.reports.offline import Offline

from ..runtime.applications import in_child, needs_fork


@pytest.fixture
def mill(make_app: Any) -> Any:
    return make_app(TESTING=True, SECRET_KEY="x" * 16)


def cache_of(mill: Any) -> Any:
    """Return the document of the cache, which publishes first in an application in memory."""
    return mill.session.documents.cache("run")


def row_of(document: Any, namespace: str) -> Any:
    return next(row for row in document["namespaces"] if row["namespace"] == namespace)


def serve(mill: Any, view: Any, times: int = 1) -> None:
    mill.app.add_url_rule("/view", "view", lambda: str(view())[:0] + "ok")
    for _ in range(times):
        assert mill.get("/view").code == 200


def test_every_count_reaches_the_totals_once(mill: Any) -> None:
    cache = mill.perf.cache
    load = cache.cached(namespace="bom")(lambda style: [style] * 100)

    def view() -> None:
        load("a"), load("b")
        with cache.bypass():
            load("a")
        cache.cached(namespace="export")(lambda: iter("ab"))()

    serve(mill, view, 5)
    cache.invalidate("bom")
    load("a")
    for _ in range(2):
        bom = row_of(cache_of(mill), "bom")
        assert (bom["hits"], bom["misses"], bom["bypassed"], bom["entries"]) == (8, 3, 5, 2)
        assert bom["missed"] == {
            "cold": 2,
            "capacity": 0,
            "expired": 0,
            "invalidated": 1,
            "early": 0,
        }
        assert bom["hit_rate"] == round(8 / 11, 4) and bom["saved_s"] > 0 and bom["load_s"] > 0
    document = cache_of(mill)
    assert document["refusals"] == [
        {"namespace": "export", "count": 5,
         "reason": "a str_ascii_iterator is used up by its first reader; return a list"},
    ]  # fmt: skip
    assert document["total"]["refused"] == 5 and document["workers"][0]["max_mb"] == 64


def test_the_hits_of_a_function_that_was_freed_are_published(mill: Any) -> None:
    def view() -> None:
        local = mill.perf.cache.cached(namespace="local")(lambda: 1)
        local(), local()

    serve(mill, view, 3)
    gc.collect()
    local = row_of(cache_of(mill), "local")
    assert (local["hits"], local["misses"]) == (3, 3)
    mill.perf.cache.put("k", 1)  # the next change of the store removes the values of such functions
    local = row_of(cache_of(mill), "local")
    assert (local["hits"], local["misses"], local["entries"]) == (3, 3, 0)


def test_values_that_the_application_puts_save_no_time_that_was_measured(mill: Any) -> None:
    cache = mill.perf.cache

    def view() -> None:
        cache.put("k", 1)
        cache.get("k"), cache.get("none")

    serve(mill, view)
    row = row_of(cache_of(mill), "default")
    assert (row["hits"], row["misses"], row["saved_s"], row["load_s"]) == (1, 1, None, 0)
    assert cache.get_cache_statistics()["namespaces"]["default"]["saved_seconds"] == 0


def test_namespaces_beyond_the_limit_are_counted_as_one(mill: Any) -> None:
    cache = mill.perf.cache

    def view() -> None:
        for number in range(MAX_NAMESPACES + 30):
            cache.get("k", namespace=f"n{number}")

    serve(mill, view, 2)
    document = cache_of(mill)
    assert len(document["namespaces"]) == MAX_NAMESPACES + 1
    assert row_of(document, OTHER)["misses"] == 60
    assert document["total"]["misses"] == 2 * (MAX_NAMESPACES + 30)


def test_without_a_writer_counts_wait(mill: Any) -> None:
    load = mill.perf.cache.cached(namespace="early")(lambda: 1)
    load(), load()
    mill.session.cache_publisher.publish()
    assert not mill.session.recorder.has_worker
    serve(mill, lambda: "")
    assert row_of(cache_of(mill), "early")["hits"] == 1


def test_at_a_regular_exit_the_rest_is_published(make_app: Any) -> None:
    mill = make_app()
    load = mill.perf.cache.cached(namespace="bom")(lambda: 1)
    serve(mill, load)
    mill.session.recorder._housekeeper.stop()
    for _ in range(7):
        load()
    mill.session.close()
    document = Offline(mill.app.config["KNITPERF_STATE_DIR"]).cache("run")
    assert row_of(document, "bom")["hits"] == 7
    assert row_of(document, "bom")["entries"] is None and document["workers"] == []


def test_a_failure_at_the_exit_is_counted_and_the_rest_is_saved(
    mill: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(mill, mill.perf.cache.cached(lambda: 1))
    monkeypatch.setattr(CachePublisher, "publish", lambda _: 1 / 0)
    mill.session.close()
    assert mill.session.recorder.failures == {"counts of the cache": 1}


def test_reads_of_pandas_are_a_namespace_with_the_time_that_they_save(
    make_app: Any, tmp_path: Path
) -> None:
    table = tmp_path / "yarn.csv"
    table.write_text("a,b\n1,2\n")
    mill = make_app(TESTING=True, KNITPERF_REUSE_READS=True)
    read_cache = mill.session.read_cache
    read_cache._wall = lambda: table.stat().st_mtime + 10
    serve(mill, lambda: pd.read_csv(table), 4)
    read_cache._wall = lambda: table.stat().st_mtime
    os.utime(table, (1e9, 1e9))
    serve_again = [mill.get("/view").code for _ in range(2)]
    document = cache_of(mill)
    [row] = document["namespaces"]
    assert (row["namespace"], row["hits"], row["misses"]) == ("pandas reads", 3, 3), serve_again
    assert row["saved_s"] > 0 and row["saved_share"] > 0 and document["reuse_reads"]
    assert document["refusals"] == [{
        "namespace": "pandas reads", "count": 2,
        "reason": "the file changed within the last two seconds",
    }]  # fmt: skip


@needs_fork
def test_a_child_does_not_publish_what_its_parent_has_counted(make_app: Any) -> None:
    mill = make_app()
    load = mill.perf.cache.cached(namespace="bom")(lambda: 1)
    load(), load(), load()  # in the parent, which serves no request

    def work() -> Any:
        load()
        serve(mill, lambda: "")
        mill.session.cache_publisher.publish()
        row = row_of(mill.session.documents.cache("run"), "bom")
        return [row["hits"], row["misses"], row["entries"]]

    assert in_child(work) == [1, 0, 1]


@pytest.mark.slow
def test_counts_are_exact_while_threads_use_and_evict_values(make_app: Any) -> None:
    mill = make_app(TESTING=True, KNITPERF_CACHE_MAX_MB=0.06)
    cache = mill.perf.cache
    load = cache.cached(namespace="bom")(lambda number: bytes(1000 + number))
    serve(mill, lambda: load(0))
    stop, calls = threading.Event(), [0] * 4

    def use(place: int) -> None:
        while not stop.is_set() and calls[place] < 4000:
            load(calls[place] % 97)
            calls[place] += 1

    threads = [threading.Thread(target=use, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        mill.session.cache_publisher.publish()
    stop.set()
    for thread in threads:
        thread.join()
    row, own = row_of(cache_of(mill), "bom"), cache.get_cache_statistics()["namespaces"]["bom"]
    assert (row["hits"], row["misses"]) == (own["hits"], own["misses"])
    assert row["evicted"] == own["evicted"] > 0 and row["entries"] == own["entries"]


def test_a_count_that_is_lower_for_a_moment_is_not_counted_twice() -> None:
    region = Region("n")
    region.cold = 5
    assert region.unpublished([])["cold"] == 5
    region.cold = 3
    assert region.unpublished([])["cold"] == 0
    region.cold = 6
    assert region.unpublished([])["cold"] == 1 and counts([region])["cold"] == 6


def test_a_slow_publication_is_followed_by_a_rest(mill: Any, time: Any) -> None:
    mill.session.recorder.clock = time.clock()
    publisher, published = mill.session.cache_publisher, []
    if publisher is None:
        mill.perf.cache.put("k", 1)
        publisher = mill.session.cache_publisher
    publisher.publish = lambda: (published.append(1), time.pass_(0.02))
    publisher.tick(), publisher.tick()
    assert len(published) == 1
    time.pass_(10.1)  # 500 times as long
    publisher.tick()
    assert len(published) == 2


def test_reasons_and_reads_of_one_region_are_bounded() -> None:
    refusals = Refusals()
    for number in range(100):
        refusals.add(f"reason {number}")
        read = UnkeyedRead("e", "GET", "f", "session", str(number), "")
        refusals.add_unkeyed(read, 0.5), refusals.add_unkeyed(read, 0.5)
    assert len(refusals.reasons) == MAX_REASONS + 1
    assert refusals.reasons["other reasons"] == 100 - MAX_REASONS
    assert set(refusals.unkeyed.values()) == {(2, 1.0)}
    assert len(refusals.unkeyed) == MAX_UNKEYED_READS


@pytest.fixture
def board(mill: Any) -> Any:
    """Return an application with a view whose cached function reads the session of its user."""

    @mill.perf.cache.cached(namespace="board")
    def prices() -> str:
        return f"{flask.session.get('user_id')} {flask.session.get('role')}"

    @mill.app.get("/prices/<user>")
    def price_board(user: str) -> str:
        flask.session["user_id"] = user
        return prices()

    return mill


def test_reads_beyond_the_key_are_named_with_endpoint_and_line(board: Any) -> None:
    for user in "abab":
        assert board.get(f"/prices/{user}").body == f"{user} None".encode()
    document = cache_of(board)
    [row] = document["per_user"]
    assert (row["endpoint"], row["method"], row["count"]) == ("price_board", "GET", 4)
    assert {read["read"] for read in row["reads"]} == {"session['user_id']", "session['role']"}
    assert all("test_publication.py:" in read["where"] for read in row["reads"])
    assert row["recommendation"] == (
        "Add vary=('user', lambda: session.get('role')), or pass them as arguments."
    )
    assert document["total"]["unkeyed"] == 4 and document["refusals"] == []


def test_a_read_beyond_the_key_is_a_finding_from_three_results_on(board: Any) -> None:
    for expected in ([], [], ["CACHE_PER_USER"]):
        board.get("/prices/a")
        assert [row["type"] for row in board.report()["bottlenecks"]] == expected
    [finding] = board.report()["bottlenecks"]
    assert (
        finding["severity"] == "WARNING" and "one user would see another's data" in finding["text"]
    )
    assert "Sure: 3 of 3 results were not cached." in finding["text"]
    assert (
        finding["why"][0]["cause"] == "cache" and "test_publication" in finding["why"][0]["where"]
    )


def test_a_value_that_varies_by_the_user_is_no_longer_a_finding(mill: Any) -> None:
    @mill.perf.cache.cached(namespace="board", vary="user")
    def prices() -> str:
        return f"{flask.session.get('user_id')}"

    @mill.app.get("/prices/<user>")
    def price_board(user: str) -> str:
        flask.session["user_id"] = user
        return prices()

    for user in "abab":
        assert mill.get(f"/prices/{user}").body == user.encode()
    assert mill.report()["bottlenecks"] == [] and cache_of(mill)["per_user"] == []


def test_naming_the_endpoint_is_no_read_of_the_request_by_the_load_around_it(mill: Any) -> None:
    @mill.perf.cache.cached(namespace="inner")
    def inner() -> str:
        return f"{flask.session.get('user_id')}"

    @mill.perf.cache.cached(namespace="outer", vary="user")
    def outer() -> str:
        return inner()

    @mill.app.get("/outer")
    def view() -> str:
        return outer()

    assert [mill.get("/outer").code for _ in range(3)] == [200] * 3
    outer_cache: Any = outer
    assert outer_cache.__knitperf_cache__.region.routing == ()
    [row] = cache_of(mill)["per_user"]
    assert (row["endpoint"], row["namespace"], row["count"]) == ("view", "inner", 1)


def test_a_namespace_that_is_not_a_text_is_refused_and_stops_no_publication(mill: Any) -> None:
    cache = mill.perf.cache

    def view() -> None:
        for namespace in (5, None, "", b"n"):
            with pytest.raises(KnitPerfError, match="namespace"):
                cache.get("k", namespace=namespace)
        cache.get("k", namespace="n")

    serve(mill, view)
    assert [row["namespace"] for row in cache_of(mill)["namespaces"]] == ["n"]


def test_publishing_within_a_publication_neither_hangs_nor_counts_twice(mill: Any) -> None:
    load = mill.perf.cache.cached(namespace="bom")(lambda: 1)
    serve(mill, load, 5)
    publisher = mill.session.cache_publisher
    regions = publisher._regions

    def regions_and_publish() -> Any:
        publisher._regions = regions
        publisher.publish()  # as a finalizer that closes the session does
        return regions()

    publisher._regions = regions_and_publish
    publisher.publish()
    row = row_of(cache_of(mill), "bom")
    assert (row["hits"], row["misses"]) == (4, 1)


@pytest.mark.slow
def test_a_region_whose_entries_change_meanwhile_is_published(mill: Any) -> None:
    cache = mill.perf.cache
    load = cache.cached(namespace="bom")(lambda number: number)
    serve(mill, lambda: load(0))
    stop = threading.Event()

    def change() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            load(number % 500)
            cache.get(number, namespace=f"n{number % 50}")
            if number % 200 == 0:
                cache.clear()

    threads = [threading.Thread(target=change) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(200):
            mill.session.cache_publisher.publish()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    own = cache.get_cache_statistics()["total"]
    total = cache_of(mill)["total"]
    assert (total["hits"], total["misses"]) == (own["hits"], own["misses"])


@pytest.mark.slow
def test_totals_of_ended_workers_stay_and_their_values_are_gone(make_app: Any) -> None:
    for _ in range(3):
        mill = make_app(KNITPERF_RELEASE="1")
        serve(mill, mill.perf.cache.cached(namespace="bom")(lambda: "x"), 4)
        mill.session.close()
    document = Offline(mill.app.config["KNITPERF_STATE_DIR"]).cache("run")
    row = row_of(document, "bom")
    assert (row["hits"], row["misses"], row["mb"]) == (9, 3, None)
    assert "–" in terminal_cache.cache(document) and html_cache.cache(document)["workers"] == []


def test_after_a_reset_the_cache_is_counted_from_there(mill: Any) -> None:
    serve(mill, mill.perf.cache.cached(namespace="bom")(lambda: "x"), 4)
    assert cache_of(mill)["total"]["hits"] == 3
    mill.session.documents.start_over()
    mill.get("/view")
    total = cache_of(mill)["total"]
    assert (total["hits"], total["misses"], total["entries"]) == (1, 0, 1)
