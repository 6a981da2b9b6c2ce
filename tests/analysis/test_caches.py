"""The use of the cache, and cached functions that read data of one user."""

from __future__ import annotations

import pytest

from flask_knitperf.analysis.caches import cache_uses, refusals, total_use
from flask_knitperf.analysis.endpoints import Coverage, endpoints
from flask_knitperf.analysis.findings import findings
from flask_knitperf.analysis.scorecard import scorecard
from flask_knitperf.analysis.unkeyed_reads import unkeyed_reads
from flask_knitperf.caching.load_reads import Read, repair
from flask_knitperf.caching.load_reads import unkeyed as clause
from flask_knitperf.metrics.catalogue import (
    CACHE_REFUSAL,
    UNKEYED_READ,
    CacheEvent,
    NoDetail,
    RefusalKey,
    UnkeyedReadKey,
)

from .tables import LIMITS, Mill


def mill() -> Mill:
    """Return a table with two namespaces: one that saves time, one whose values were put there."""
    table = Mill()
    table.counter("cache_hit", "bom", ms=9000, count=90)
    table.counter("cache_load", "bom", ms=1000)
    table.counter("cache_event", "bom", "cold", ms=0, count=8)
    table.counter("cache_event", "bom", "expired", ms=0, count=2)
    table.gauge("cache_entries", "bom", w1=3, w2=4).gauge("cache_bytes", "bom", w1=1000, w2=500)
    table.counter("cache_hit", "default", ms=0, count=10)
    table.counter("cache_event", "default", "cold", ms=0, count=30)
    return table


def unkeyed(
    table: Mill, name: str, *, seconds: float, count: int = 5, source: str = "session"
) -> Mill:
    key = UnkeyedReadKey(
        "prices", "GET", "board", "shop.board", source, name, f"shop.py:{len(name)}"
    )
    return table.note(UNKEYED_READ, key, count, seconds, NoDetail())


def test_uses_are_listed_by_saved_time() -> None:
    bom, default = cache_uses(mill().readings)
    assert (bom.name, bom.hits, bom.misses, bom.hit_rate) == ("bom", 90, 10, 0.9)
    assert (bom.saved_s, bom.load_s, bom.saved_share) == (9.0, 1.0, 0.9)
    assert (bom.entries, bom.bytes) == (7, 1500)
    assert {reason: n for reason, n in bom.missed.items() if n} == {
        CacheEvent.COLD: 8, CacheEvent.EXPIRED: 2,
    }  # fmt: skip
    assert (default.saved_s, default.saved_share, default.entries) == (None, None, None)


def test_the_total_has_the_saved_time_that_is_known() -> None:
    total = total_use(cache_uses(mill().readings))
    assert (total.hits, total.misses, total.saved_s, total.entries) == (100, 40, 9.0, 7)
    nothing = total_use([])
    assert (nothing.hit_rate, nothing.saved_s, nothing.entries) == (None, None, None)


@pytest.mark.parametrize(
    ("events", "fault"),
    [
        ({"cold": 30}, "its look-ups are of a new key nearly each time"),
        ({"cold": 10, "capacity": 20}, "its values are evicted before they are looked up again"),
        ({"cold": 10, "expired": 20}, "its values expire before they are looked up again"),
        ({"invalidated": 20}, "its values are invalidated before they are looked up again"),
        ({"cold": 19}, ""),
        ({"cold": 30, "refused": 30}, ""),  # those have their reasons
    ],
)
def test_a_namespace_that_never_hits_has_the_reason(events: dict[str, int], fault: str) -> None:
    table = Mill()
    for event, count in events.items():
        table.counter("cache_event", "n", event, ms=0, count=count)
    [use] = cache_uses(table.readings)
    assert use.fault == fault
    table.counter("cache_hit", "n", ms=1, count=1)
    [use] = cache_uses(table.readings)
    assert use.fault == ""


def test_a_namespace_that_was_not_used_in_the_window_is_not_listed() -> None:
    table = mill()
    table.counter("cache_event", "old", "cold", ms=0, count=0)
    assert [use.name for use in cache_uses(table.readings)] == ["bom", "default"]


def test_refusals_are_listed_by_number() -> None:
    table = Mill()
    for reason, count in (("a", 2), ("b", 9)):
        table.note(CACHE_REFUSAL, RefusalKey("n", reason), count, count, NoDetail())
    assert [(row.reason, row.count) for row in refusals(table.readings)] == [("b", 9), ("a", 2)]


def test_reads_of_one_function_are_one_row() -> None:
    table = unkeyed(unkeyed(Mill(), "role", seconds=1.0), "user_id", seconds=2.0, count=7)
    [row] = unkeyed_reads(table.readings)
    assert (row.count, row.seconds, row.where) == (7, 2.0, "shop.py:7")
    assert row.text == (
        "shop.board reads session['user_id'] (shop.py:7) and session['role'] (shop.py:4), which are "
        "not in its key: one user would see another's data"
    )


REPAIRS: list[tuple[list[Read], str]] = [
    ([("session", "user_id")], "Add vary='user', or pass it as an argument"),
    ([("current_user", "")], "Add vary='user', or pass it as an argument"),
    ([("request", "args")], "Add vary='url', or pass it as an argument"),
    ([("g", "tenant")], "Add vary=lambda: g.get('tenant'), or pass it as an argument"),
    ([("request", "remote_addr")], "Add vary=lambda: request.remote_addr, or pass it as an argument"),
    ([("session", "user_id"), ("request", "args")],
     "Add vary=('user', 'url'), or pass them as arguments"),
    ([("session", "")], "Pass what it reads as arguments"),
    ([("request", "headers"), ("session", "user_id")], "Pass what it reads as arguments"),
    ([("SecureCookieSession", "?")], "Pass what it reads as arguments"),
]  # fmt: skip


@pytest.mark.parametrize(("reads", "sentence"), REPAIRS)
def test_the_repair_covers_all_reads(reads: list[Read], sentence: str) -> None:
    assert repair(reads) == sentence


def test_of_many_reads_a_sentence_lists_four() -> None:
    text = clause({("session", str(number)): "" for number in range(9)})
    assert text == (
        "reads session['0'], session['1'], session['2'], session['3'] and more, which are not in its key"
    )


@pytest.mark.parametrize(("count", "types"), [(2, []), (3, ["CACHE_PER_USER"])])
def test_three_results_are_a_finding(count: int, types: list[str]) -> None:
    table = unkeyed(Mill().requests("prices", [20] * 10), "user_id", seconds=0.1, count=count)
    rows = findings(table.readings, endpoints(table.readings, LIMITS), LIMITS)
    assert [row.type for row in rows] == types
    if rows:
        assert rows[0].text == (
            "Prices: shop.board reads session['user_id'] (shop.py:7), which is not in its key: one user "
            "would see another's data. 50 % of its time is spent loading shop.board, which is not "
            "cached (shop.py:7). Add vary='user', or pass it as an argument. "
            "Sure: 3 of 3 results were not cached."
        )
        assert rows[0].why[0].share == 0.5


@pytest.mark.parametrize(
    ("hits", "evicted", "cold", "ok"),
    [
        (81, 19, 0, True), (80, 20, 0, False), (80, 19, 1, False), (99, 0, 0, None), (0, 0, 0, None),
        (60, 0, 40, True),  # the others could not
        (50, 20, 30, False),
        (0, 0, 100, False),
    ],
)  # fmt: skip
def test_the_share_of_hits_is_judged_from_a_hundred_look_ups_on(
    hits: int, evicted: int, cold: int, ok: bool | None
) -> None:
    table = Mill()
    table.counter("cache_hit", "n", ms=1, count=hits)
    table.counter("cache_event", "n", "capacity", ms=0, count=evicted)
    table.counter("cache_event", "n", "cold", ms=0, count=cold)
    measured = scorecard(table.readings, [], Coverage(0, []), LIMITS)["cache hits"]
    assert measured.target == "> 80 % of look-ups hit"
    assert (measured.ok, measured.actual is None) == (ok, ok is None)
