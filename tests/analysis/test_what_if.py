"""Savings of functions if they were cached: the TTL that is recommended, or why none is."""

from __future__ import annotations

from typing import Any

import pytest

from flask_knitperf.analysis.what_if import WhatIf, recommended, what_if
from flask_knitperf.metrics.catalogue import WHAT_IF_OBSTACLE, NoDetail, WhatIfKey, WhatIfObstacle

from .tables import Mill

HOUR = 3600.0


def mill(
    *, calls: int = 1000, ms: float = 1e6, hits: dict[str, tuple[int, float]] | None = None,
    stale: dict[str, tuple[int, int]] | None = None, name: str = "bom", table: Mill | None = None,
) -> Mill:  # fmt: skip
    """Return a table with one function.

    Args:
        calls: number of judged calls.
        ms: their time.
        hits: by TTL the number of hits and their milliseconds.
        stale: by TTL the number of compared hits, and of stale ones.
        name: of the function.
        table: to add it to.
    """
    table = Mill() if table is None else table
    where = f"{name}.py:1"
    table.counter("what_if_calls", name, where, "judged", ms=ms, count=calls)
    for ttl, (count, saved) in ({"60": (750, 7e5)} if hits is None else hits).items():
        table.counter("what_if_hit", name, where, ttl, ms=saved, count=count)
    for ttl, (compared, changed) in ({"60": (700, 0)} if stale is None else stale).items():
        table.counter("what_if_compared", name, where, ttl, ms=compared / 1e6, count=compared)
        table.counter("what_if_stale", name, where, ttl, ms=changed / 1e6, count=changed)
    return table


def judged(table: Mill, seconds: float = HOUR, budget: float = 0.05) -> WhatIf:
    [row] = what_if(table.readings, seconds, budget)
    return row


def hinder(
    table: Mill, kind: WhatIfObstacle, calls: int, reason: str = "", remedy: str = ""
) -> Mill:
    table.counter("what_if_hindered", "bom", "bom.py:1", kind, ms=0, count=calls)
    if reason:
        key = WhatIfKey("bom", "bom.py:1", kind, reason, remedy)
        table.note(WHAT_IF_OBSTACLE, key, calls, 1.0, NoDetail())
    return table


def test_the_sentence_has_the_figures_of_the_window() -> None:
    row = judged(mill(
        calls=217_515, ms=6 * 31_235e3, hits={"60": (163_136, 6 * 22_041e3)},
        stale={"60": (40_000, 1_760)},
    ), 6 * HOUR)  # fmt: skip
    assert row.text == (
        "Cache bom: 75 % of 217,515 calls in 6 h would have hit with a TTL of 60 s, 4 % of them stale "
        "(4 % to 5 %); saves 22,041 of 31,235 s per hour"
    )
    assert row.chosen is not None and row.chosen.decorator == "@perf.cache.cached(ttl=60)"


def test_a_window_below_an_hour_is_not_extrapolated() -> None:
    row = judged(mill(), 600)
    assert row.text.endswith("in 10 min would have hit with a TTL of 60 s, at most 0.5 % of them stale; "
                             "saves 700 of 1,000 s")  # fmt: skip


def test_the_option_that_saves_most_within_the_stale_budget_is_chosen() -> None:
    table = mill(
        hits={"5": (500, 5e5), "60": (700, 7e5), "300": (800, 8e5), "inf": (900, 9e5)},
        stale={"5": (400, 0), "60": (400, 4), "300": (400, 16), "inf": (400, 100)},
    )
    assert judged(table).chosen.ttl == 60  # type: ignore[union-attr]
    assert judged(table, budget=0.07).chosen.ttl == 300  # type: ignore[union-attr]
    assert judged(table, budget=1).chosen.decorator == "@perf.cache.cached"  # type: ignore[union-attr]


def test_the_budget_holds_for_the_upper_end_of_the_interval() -> None:
    assert judged(mill(stale={"60": (400, 16)})).chosen is None
    assert judged(mill(stale={"60": (40_000, 1_600)})).chosen is not None


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"calls": 19}, "it was called only 19 times"),
        ({"hits": {"60": (5, 5e3)}}, "its calls have new arguments nearly each time"),
        ({"hits": {"60": (500, 9e3)}}, "too little time would be saved"),
        ({"ms": 2e3, "hits": {"60": (900, 900.0)}}, "too little time would be saved"),
        ({"stale": {"60": (29, 0)}}, "too few of its results were compared to know how many"),
        (
            {"stale": {"60": (400, 200)}},
            "of answers kept for 60 s, 50 % of them stale (45 % to 55 %)",
        ),
    ],
)
def test_one_that_is_not_worth_it_has_the_reason(options: dict[str, Any], reason: str) -> None:
    row = judged(mill(**options))
    assert row.chosen is None and row.reason.startswith(reason)
    assert row.text == f"bom is not recommended: {row.reason}"


@pytest.mark.parametrize("kind", list(WhatIfObstacle))
def test_an_obstacle_forbids_the_recommendation(kind: WhatIfObstacle) -> None:
    row = judged(hinder(mill(), kind, 200, "it does not", "Do it"))
    assert (row.chosen, row.reason, row.remedy) == (None, "it does not", "Do it")
    row = judged(hinder(mill(), kind, 200))  # its note had to make room for others
    assert row.chosen is None and row.reason


def test_a_few_results_that_cannot_be_cached_forbid_nothing() -> None:
    assert judged(hinder(mill(), WhatIfObstacle.REFUSED, 100)).chosen is not None
    assert judged(hinder(mill(), WhatIfObstacle.REFUSED, 101)).chosen is None


def test_recommended_ones_come_first_by_saved_time() -> None:
    table = mill(name="small", hits={"5": (500, 2e5)}, stale={"5": (400, 0)})
    mill(name="large", table=table)
    mill(name="never", ms=1e9, hits={}, stale={}, table=table)
    rows = what_if(table.readings, HOUR, 0.05)
    assert [row.name for row in rows] == ["large", "small", "never"]
    assert [row.name for row in recommended(rows)] == ["large", "small"]


def test_dependent_comparisons_make_the_interval_wider() -> None:
    table = mill(stale={})
    table.counter("what_if_compared", "bom", "bom.py:1", "60", ms=7_000 / 1e6, count=700)
    option = judged(table).options[0]
    assert (option.compared, option.independent) == (700, 70)


def test_calls_that_were_not_judged_count_as_calls() -> None:
    table = mill(hits={"60": (500, 5e5)})
    table.counter("what_if_calls", "bom", "bom.py:1", "beyond", ms=1e6, count=1000)
    table.counter("what_if_calls", "bom", "bom.py:1", "unkeyed", ms=0, count=500)
    row = judged(table)
    assert (row.calls, row.judged, row.seconds) == (2500, 1000, 2000)
    assert row.text.startswith("Cache bom: 20 % of 2,500 calls in 1 h")
