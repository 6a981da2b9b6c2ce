"""Applications on several hosts: one load for all of them, each invalidation for all of them."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks.harness.valkey import Valkey
from flask_knitperf import Table
from flask_knitperf.caching.server import sharing

from ...waiting import wait_for
from . import mill_code

MakeMill = Callable[..., Any]


@pytest.fixture(autouse=True)
def loads() -> list[Any]:
    """Return the loads of all hosts."""
    mill_code.LOADS.clear()
    return mill_code.LOADS


def cached(mill: Any, function: Callable[..., Any] = mill_code.bom, **options: Any) -> Any:
    """Return a function as one host caches it."""
    wrapper = mill.perf.cache.cached(**options)(function)

    def call(*args: Any) -> Any:
        with mill.app.app_context():
            return wrapper(*args)

    return call


def counts(mill: Any) -> dict[str, Any]:
    with mill.app.app_context():
        return dict(mill.perf.cache.get_cache_statistics()["server"])


def bytes_of(valkey: Valkey, mill: Any, words: bytes = b":value:") -> list[bytes]:
    """Return the names of the values of an application on the server."""
    prefix = mill.session.cache_server._prefix
    return [name for name in valkey.client.scan_iter(prefix + b"*") if words in name]


# -- values ------------------------------------------------------------------------------------------


def test_a_value_is_loaded_by_one_host_for_all(make_mill: MakeMill, loads: list[Any]) -> None:
    one, other = make_mill("a"), make_mill("b")
    first, second = cached(one), cached(other)
    assert first("12/1A") == second("12/1A") == {"style": "12/1A", "load": 1}
    assert loads == ["12/1A"]
    assert counts(one)["stored"] == 1 and counts(other)["hits"] == 1
    total = other.perf.cache.get_cache_statistics()["total"]
    assert (total["hits"], total["misses"], total["fetched"]) == (1, 0, 1)


def test_other_arguments_are_another_value(make_mill: MakeMill) -> None:
    first, second = cached(make_mill("a")), cached(make_mill("b"))
    assert first("12/1A")["style"] == "12/1A" and second("12/2A")["style"] == "12/2A"


def test_other_options_are_another_value(make_mill: MakeMill, loads: list[Any]) -> None:
    cached(make_mill("a"), ttl=10)("x"), cached(make_mill("b"), ttl=20)("x")
    assert len(loads) == 2


def test_another_configuration_is_another_value(make_mill: MakeMill, loads: list[Any]) -> None:
    cached(make_mill("a", UNIT="kg"))("x"), cached(make_mill("b", UNIT="lbs"))("x")
    assert len(loads) == 2


def test_options_that_are_named_as_different_between_hosts_do_not_count(
    make_mill: MakeMill, loads: list[Any]
) -> None:
    for name in ("a", "b"):
        cached(make_mill(name, LOG_DIR=name, KNITPERF_CACHE_PER_HOST=["LOG_DIR"]))("x")
    assert len(loads) == 1


def test_another_secret_is_another_cache(make_mill: MakeMill, loads: list[Any]) -> None:
    cached(make_mill("a"))("x"), cached(make_mill("b", SECRET_KEY="another"))("x")
    assert len(loads) == 2


def test_the_secret_of_the_cache_counts_before_that_of_the_application(
    make_mill: MakeMill, loads: list[Any]
) -> None:
    for name in ("a", "b"):
        cached(make_mill(name, SECRET_KEY=name, KNITPERF_CACHE_SECRET="shared by all hosts"))("x")
    assert len(loads) == 1


def test_a_frame_is_shared_and_mapped_by_the_host_that_finds_it(
    make_mill: MakeMill, loads: list[Any]
) -> None:
    one, other = make_mill("a"), make_mill("b")
    first, second = (cached(mill, mill_code.frame, depends=()) for mill in (one, other))
    pd.testing.assert_frame_equal(first(5000), second(5000))
    assert loads == [5000]
    # before, texts are objects, which lie in the stream
    is_mapped = int(pd.__version__.partition(".")[0]) >= 3
    assert (other.perf.cache.get_cache_statistics()["total"]["mapped_bytes"] > 0) == is_mapped


def test_callers_cannot_change_what_a_host_has_found(make_mill: MakeMill) -> None:
    first, second = cached(make_mill("a")), cached(make_mill("b"))
    first("x")["style"] = "changed"
    second("x")["style"] = "changed"
    assert first("x")["style"] == second("x")["style"] == "x"


def test_none_is_a_value(make_mill: MakeMill, loads: list[Any]) -> None:
    first, second = (cached(make_mill(name), mill_code.nothing) for name in "ab")
    assert first("x") is None and second("x") is None
    assert loads == ["x"]


@pytest.mark.parametrize(("function", "argument"), [
    (mill_code.fast, "x"), (mill_code.order, 1), (mill_code.of_file, os.path.abspath(__file__)),
])  # fmt: skip
def test_what_cannot_be_shared_is_loaded_by_each_host(
    make_mill: MakeMill, loads: list[Any], shared_valkey: Valkey,
    function: Callable[..., Any], argument: Any,
) -> None:  # fmt: skip
    """A fast load, an instance of the application, a value that was made of a local file."""
    one = make_mill("a")
    cached(one, function)(argument), cached(make_mill("b"), function)(argument)
    assert len(loads) == 2
    assert not bytes_of(shared_valkey, one)


def test_a_fast_function_is_shared_with_the_option(make_mill: MakeMill, loads: list[Any]) -> None:
    for name in ("a", "b"):
        cached(make_mill(name), mill_code.fast, share=True)("x")
    assert loads == ["x"]


def test_a_function_that_is_not_to_be_shared_is_not(
    make_mill: MakeMill, loads: list[Any], shared_valkey: Valkey
) -> None:
    one = make_mill("a")
    cached(one, share=False)("x"), cached(make_mill("b"), share=False)("x")
    assert len(loads) == 2 and not bytes_of(shared_valkey, one)


def test_a_large_value_is_not_sent(
    make_mill: MakeMill, loads: list[Any], shared_valkey: Valkey
) -> None:
    one = make_mill("a", KNITPERF_CACHE_SERVER_MAX_KB=10)
    cached(one, mill_code.frame)(5000)
    assert not bytes_of(shared_valkey, one)


def test_an_error_is_not_shared(make_mill: MakeMill, loads: list[Any]) -> None:
    for name in ("a", "b"):
        with pytest.raises(ValueError, match="x"):
            cached(make_mill(name), mill_code.failing, errors=ValueError)("x")
    assert len(loads) == 2


def test_a_value_expires_on_all_hosts_when_it_does_on_the_first(make_mill: MakeMill) -> None:
    first, second = (cached(make_mill(name), ttl=100) for name in "ab")
    first("x"), second("x")
    region = next(
        iter(second.__closure__[1].cell_contents.__knitperf_cache__.region.entries.values())
    )
    assert 90 < region.expires - time.monotonic() <= 100


# -- invalidation ------------------------------------------------------------------------------------


def test_an_invalidation_reaches_values_that_other_hosts_hold(
    make_mill: MakeMill, loads: list[Any]
) -> None:
    one, other = make_mill("a"), make_mill("b")
    first, second = cached(one, tags=["bom"]), cached(other, tags=["bom"])
    first("x"), second("x")
    with one.app.app_context():
        one.perf.cache.invalidate(tag="bom")
    assert first("x")["load"] == 2
    wait_for(lambda: second("x")["load"] == 2)
    assert len(loads) == 2


def test_a_value_that_is_invalidated_while_it_is_fetched_is_not_held(
    make_mill: MakeMill, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = make_mill("a"), make_mill("b")
    first, second = cached(one, tags=["bom"]), cached(other, tags=["bom"])
    first("x")
    level, find = other.session.cache_server, other.session.cache_server.find

    def slow_find(*args: Any) -> Any:
        value = find(*args)
        with one.app.app_context():
            one.perf.cache.invalidate(tag="bom")
        assert level.sync()
        return value

    monkeypatch.setattr(level, "find", slow_find)
    assert second("x")["load"] == 1  # the call began before
    monkeypatch.setattr(level, "find", find)
    assert second("x")["load"] == 2


def test_an_invalidation_reaches_values_that_are_not_shared(make_mill: MakeMill) -> None:
    one, other = make_mill("a"), make_mill("b")
    with other.app.app_context():
        other.perf.cache.put("12/1A", 7, namespace="prices", tags=["prices"])
    wait_for(other.session.cache_server.is_ready)
    with one.app.app_context():
        one.perf.cache.invalidate("prices", key="12/1A")

    def price() -> Any:
        with other.app.app_context():
            return other.perf.cache.get("12/1A", namespace="prices")

    wait_for(lambda: price() is None)


@pytest.mark.slow
def test_a_write_of_a_table_reaches_other_hosts(
    make_mill: MakeMill, loads: list[Any], tmp_path: Path
) -> None:
    one, other = make_mill("a"), make_mill("b")
    second = cached(other, depends=Table("styles"))
    wait_for(lambda: other.session.recorder.versions.hold, 10)
    second("x"), second("x")
    assert len(loads) == 1
    connection = one.perf.queries.wrap_connect(sqlite3.connect)(tmp_path / "mill.sqlite")
    connection.execute("CREATE TABLE styles (name TEXT)")
    connection.commit()
    connection.close()
    wait_for(lambda: second("x")["load"] == 2)


# -- one load for all hosts --------------------------------------------------------------------------


def test_hosts_that_miss_at_once_load_once(
    make_mill: MakeMill, loads: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mill_code, "LOAD_S", 0.1)
    monkeypatch.setattr(sharing, "MIN_LEASE_S", 10.0)  # however busy the machine is
    mills = [make_mill(name) for name in "abc"]
    # without detection: what any thread of this process reads is a dependency of all loads that run
    functions = [cached(mill, depends=()) for mill in mills]
    for call in functions:
        call("warm")
    loads.clear()
    results: list[Any] = []
    threads = [
        threading.Thread(target=lambda call=call: results.append(call("x"))) for call in functions
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1 and results == [{"style": "x", "load": 1}] * 3


def test_a_lease_ends_with_the_load(make_mill: MakeMill, shared_valkey: Valkey) -> None:
    one = make_mill("a")
    cached(one)("x")
    with pytest.raises(ValueError, match="y"):
        cached(one, mill_code.failing)("y")
    assert not bytes_of(shared_valkey, one, b":lease")


def test_a_host_does_not_wait_longer_than_the_lease_of_one_that_died(
    make_mill: MakeMill, loads: list[Any], shared_valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "FIRST_LEASE_S", 0.1)
    one = make_mill("a")
    level, claimed = one.session.cache_server, []
    claim = level.claim
    monkeypatch.setattr(level, "remove", lambda lease: None)
    monkeypatch.setattr(level, "claim", lambda *args: claimed.append(args) or claim(*args))
    with pytest.raises(ValueError, match="y"):
        cached(one, mill_code.failing)("y")  # as if it was killed: the lease stays
    (lease, *_), *_ = claimed
    assert shared_valkey.client.pttl(lease) > 0
    with pytest.raises(ValueError, match="y"):
        cached(make_mill("b"), mill_code.failing)("y")
    assert loads == ["y", "y"]


def test_a_value_that_expires_soon_is_loaded_again_by_one_host(
    make_mill: MakeMill, loads: list[Any]
) -> None:
    one, other = make_mill("a"), make_mill("b")
    first, second = cached(one, ttl=100), cached(other, ttl=100)
    first("x"), second("x")
    caches = [call.__closure__[1].cell_contents.__knitperf_cache__ for call in (first, second)]
    (key, due), *_ = caches[1].region.entries.items()
    with other.app.app_context():
        leading = caches[1]._sharing.flight(key, due)
        assert (
            list(leading.pauses()) == [] and leading.entry is None
        )  # that of the server is as old
        following = caches[1]._sharing.flight(key, due)
        assert list(following.pauses()) == [] and following.entry is due
        following.close(), leading.close()


def test_a_wrong_value_is_removed_for_all_hosts(make_mill: MakeMill, shared_valkey: Valkey) -> None:
    one = make_mill("a")
    first = cached(one)
    first("x")
    assert bytes_of(shared_valkey, one)
    cache = first.__closure__[1].cell_contents.__knitperf_cache__
    with one.app.app_context():
        cache._sharing.remove(next(iter(cache.region.entries)))
    assert not bytes_of(shared_valkey, one)


async def _awaited(style: str) -> dict[str, Any]:
    await asyncio.sleep(mill_code.LOAD_S)
    return mill_code.bom(style)


def test_a_coroutine_function_is_shared(make_mill: MakeMill, loads: list[Any]) -> None:
    for name in ("a", "b"):
        mill = make_mill(name)
        with mill.app.app_context():
            assert asyncio.run(mill.perf.cache.cached(_awaited)("x"))["load"] == 1
    assert len(loads) == 1


# -- without the server ------------------------------------------------------------------------------


def test_without_the_server_each_host_has_its_own_cache(
    make_mill: MakeMill, loads: list[Any]
) -> None:
    one = make_mill("a", "redis://127.0.0.1:1/0")
    first = cached(one)
    assert first("x") == first("x")
    assert len(loads) == 1
    one.session.recorder.worker.publish()
    assert "cannot be reached" in counts(one)["lost"]


def test_without_a_secret_it_is_off_and_the_report_states_so(
    make_mill: MakeMill, loads: list[Any]
) -> None:
    mill = make_mill("a", SECRET_KEY=None)
    cached(mill)("x"), cached(mill)("x")
    assert len(loads) == 2
    assert "SECRET_KEY" in counts(mill)["lost"]
    with mill.app.app_context():
        mill.perf.cache.clear()


def test_a_test_of_the_application_uses_no_server(make_mill: MakeMill) -> None:
    mill = make_mill("a", TESTING=True)
    cached(mill)("x")
    with mill.app.app_context():
        mill.perf.cache.clear()
    assert counts(mill)["misses"] == 0 and counts(mill)["lost"] is None


def test_values_that_were_loaded_without_the_server_expire_after_the_budget(
    make_mill: MakeMill,
) -> None:
    mill = make_mill("a", "redis://127.0.0.1:1/0", KNITPERF_CACHE_STALE_SECONDS=7)
    call = cached(mill)
    wait_for(lambda: call("x") and mill.session.cache_server.lost)
    call("y")
    cache = call.__closure__[1].cell_contents.__knitperf_cache__
    assert all(e.expires - time.monotonic() <= 7 for e in cache.region.entries.values())


def test_a_forked_child_has_its_own_connections(
    make_mill: MakeMill, loads: list[Any], shared_valkey: Valkey
) -> None:
    one = make_mill("a")
    first = cached(one)
    first("x")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover (another process)
        try:
            value = cached(one, tags=["other"])("y")
            with one.app.app_context():
                one.perf.cache.invalidate(tag="bom")
            stored = counts(one)["stored"]
            one.session.close()
            os.write(write, f"{value['style']} {stored}".encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    assert os.read(read, 100) == b"y 1"
    os.close(read)
    first("z")  # the connections of the parent are still those that they were
    assert counts(one)["failures"] == 0 and counts(one)["stored"] == 2


# -- all at once -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_no_host_returns_a_value_from_before_an_invalidation_that_it_has_made(
    make_mill: MakeMill, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the server is frozen, flushed and filled, and other hosts write the same number."""
    monkeypatch.setattr(mill_code, "LOAD_S", 0.005)
    mills = [make_mill(name, valkey.url, KNITPERF_CACHE_TIMEOUT_MS=50.0) for name in "ab"]
    calls = [cached(mill, mill_code.number, tags=["number"]) for mill in mills]
    written = [0, 0]  # the latest number whose invalidation has returned, by host
    stale: list[tuple[int, int, int]] = []
    ends = time.monotonic() + 6
    writing = threading.Lock()

    def write(host: int) -> None:
        while time.monotonic() < ends:
            with writing:
                mill_code.NUMBERS["n"] = number = mill_code.NUMBERS["n"] + 1
            with mills[host].app.app_context():
                mills[host].perf.cache.invalidate(tag="number")
            written[host] = max(written[host], number)
            time.sleep(0.04 + host * 0.01)

    def read(host: int) -> None:
        while time.monotonic() < ends:
            least = written[host]
            value = calls[host]("n")
            if value < least:
                stale.append((host, least, value))

    threads = [threading.Thread(target=act, args=(host,)) for host in (0, 1)
               for act in (write, read, read)]  # fmt: skip
    for thread in threads:
        thread.start()
    for disturb in (
        valkey.freeze, valkey.thaw, valkey.client.flushall,
        lambda: valkey.client.config_set("maxmemory", 1),
        lambda: valkey.client.config_set("maxmemory", 0),
    ):  # fmt: skip
        time.sleep(1.0)
        disturb()
    for thread in threads:
        thread.join()
    assert stale == []
    assert sum(counts(mill)["hits"] + counts(mill)["stored"] for mill in mills) > 0
