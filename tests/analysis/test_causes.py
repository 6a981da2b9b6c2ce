"""Causes: shares that were measured and add up."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_knitperf.analysis.causes import why
from flask_knitperf.analysis.endpoints import endpoints

from .tables import LIMITS, Mill


def causes(mill: Mill) -> list[Any]:
    return list(why(endpoints(mill.readings, LIMITS)[0]))


def shares(mill: Mill) -> dict[str, float]:
    return {cause.cause: cause.share for cause in causes(mill)}


def test_without_requests_there_are_no_causes() -> None:
    assert causes(Mill().counter("killed", "stuck", "GET", ms=1)) == []


def test_what_was_not_measured_is_unknown() -> None:
    assert shares(Mill().requests("a", [100])) == {"unknown": 1}


def test_cpu_divides_into_computing_and_waiting() -> None:
    parts = shares(Mill().requests("a", [100]).sampled("a", wall=100, cpu=75))
    assert parts == {"own_cpu": 0.75, "waiting": 0.25}


def test_sampled_requests_stand_for_all() -> None:
    parts = shares(Mill().requests("a", [100] * 9).sampled("a", wall=50, cpu=50))
    assert parts == {"own_cpu": 1}


def test_a_section_takes_its_time_from_the_remainder() -> None:
    mill = Mill().requests("a", [100]).sampled("a", wall=100, cpu=100)
    mill.counter("part", "a", "GET", "section:explode", ms=60)
    mill.counter("part_cpu", "a", "GET", "section:explode", ms=60)
    mill.counter("part_wall", "a", "GET", "section:explode", ms=60)
    assert shares(mill) == {"section": 0.6, "own_cpu": 0.4}


def test_a_section_includes_its_cpu_share_and_location() -> None:
    mill = Mill().requests("a", [100]).counter("part", "a", "GET", "section:explode", ms=60)
    mill.counter("part_cpu", "a", "GET", "section:explode", ms=30)
    mill.counter("part_wall", "a", "GET", "section:explode", ms=40)
    mill.function("explode", "bom.py:41", [60])
    top = next(cause for cause in causes(mill) if cause.cause == "section")
    assert top.where == "bom.py:41" and "computing 75 % of it" in top.detail


def test_an_early_hook_is_named() -> None:
    top = causes(Mill().requests("a", [11]).counter("part", "a", "GET", "hook:tenant", ms=10))[0]
    assert top.cause == "early_hook" and "tenant" in top.detail


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("after:audit", "audit, an after_request function"),
        ("error:denied", "denied, an error handler"),
        ("teardown:close", "close, a teardown function"),
    ],
)
def test_a_function_that_runs_after_the_view_is_named(part: str, words: str) -> None:
    top = causes(Mill().requests("a", [11]).counter("part", "a", "GET", part, ms=10))[0]
    assert top.cause == "late_hook" and words in top.detail


def test_later_parts_have_causes_of_their_own() -> None:
    mill = Mill().requests("a", [100]).counter("part", "a", "GET", "file_read", ms=92)
    assert shares(mill) == {"file_read": 0.92, "unknown": 0.08}


def test_gc_pauses_are_a_cause() -> None:
    mill = Mill().requests("a", [100]).sampled("a", wall=100, cpu=100)
    assert shares(mill.counter("gc", "a", "GET", ms=30)) == {"own_cpu": 0.7, "gc": 0.3}


def test_contention_is_distinguished_from_other_waiting() -> None:
    parts = shares(Mill().requests("a", [100]).sampled("a", wall=100, cpu=10, contention=60))
    assert parts == {"gil_contention": 0.6, "waiting": 0.3, "own_cpu": 0.1}


TIME = st.floats(0, 500)


@given(
    st.lists(st.floats(0.001, 500), min_size=1, max_size=5),
    st.dictionaries(st.sampled_from(["section:a", "hook:b", "sql", "odd"]), TIME),
    st.one_of(st.none(), st.tuples(st.floats(1, 500), TIME, TIME)),
    TIME,
)
def test_shares_never_pass_a_hundred_percent_and_fall(
    times: list[float],
    parts: dict[str, float],
    sampled: tuple[float, float, float] | None,
    pauses: float,
) -> None:
    mill = Mill().requests("a", times).counter("gc", "a", "GET", ms=pauses)
    for name, ms in parts.items():
        mill.counter("part", "a", "GET", name, ms=ms)
        mill.counter("part_cpu", "a", "GET", name, ms=pauses)
        mill.counter("part_wall", "a", "GET", name, ms=ms)
    if sampled:
        mill.sampled("a", wall=sampled[0], cpu=sampled[1], contention=sampled[2])
    parts = [cause.share for cause in causes(mill)]
    assert sum(parts) <= 1 + 1e-9 and all(0 <= share <= 1 for share in parts)
    assert parts == sorted(parts, reverse=True)


def test_run_queue_time_is_a_cause_apart_from_computing() -> None:
    mill = Mill().requests("bom", [1000] * 9).sampled("bom", wall=9000, cpu=3600)
    mill.counter("run_queue", "bom", "GET", ms=4500)
    (row,) = endpoints(mill.readings, LIMITS)
    assert [(cause.cause, cause.share) for cause in why(row)] == [
        ("cpu_queue", 0.5), ("own_cpu", 0.4), ("waiting", 0.1),
    ]  # fmt: skip


def test_a_computing_section_includes_its_run_queue_share() -> None:
    mill = Mill().requests("bom", [1000] * 9).sampled("bom", wall=9000, cpu=4500)
    mill.counter("run_queue", "bom", "GET", ms=4500)
    mill.counter("part", "bom", "GET", "section:explode", ms=9000, count=9)
    mill.counter("part_wall", "bom", "GET", "section:explode", ms=9000, count=9)
    mill.counter("part_cpu", "bom", "GET", "section:explode", ms=9000, count=9)
    (row,) = endpoints(mill.readings, LIMITS)
    (top,) = why(row)
    assert top.detail == (
        "in the section explode, computing 50 % of it and queueing for a core 50 %"
    )
