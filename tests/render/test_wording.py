"""Words that pages and terminal share."""

from __future__ import annotations

from typing import Any

import pytest

from flask_knitperf.core.units import plain
from flask_knitperf.render import wording


@pytest.mark.parametrize(
    ("begin", "end", "text"),
    [
        ("2026-11-24T03:12:05+00:00", "2026-11-24T04:12:05+00:00", "24 Nov 03:12:05 – 04:12:05 UTC"),
        ("2026-11-24T23:12:05+00:00", "2026-11-25T00:12:05+00:00",
         "24 Nov 23:12:05 – 25 Nov 00:12:05 UTC"),
    ],
)  # fmt: skip
def test_a_period_names_the_second_day_only_if_it_is_another(
    begin: str, end: str, text: str
) -> None:
    assert plain(wording.period(begin, end)) == text


def test_a_moment_that_is_unknown_is_a_dash() -> None:
    assert wording.moment(None) == "–"


@pytest.mark.parametrize(
    ("criterion", "ok", "result"),
    [("memory per worker", True, "Met"), ("memory per worker", False, "Missed"),
     ("coverage", False, "Not all called"), ("coverage", None, "Not measured")],
)  # fmt: skip
def test_endpoints_that_were_not_called_are_not_a_missed_target(
    criterion: str, ok: bool | None, result: str
) -> None:
    assert wording.result({"criterion": criterion, "ok": ok}) == result


@pytest.mark.parametrize(
    ("mb_per_hour", "text"),
    [
        (None, "after 10 min"),
        (0.2, "steady"),
        (-0.4, "steady"),
        (3, "+3.0 MB/h"),
        (-3, "-3.0 MB/h"),
    ],
)
def test_a_trend_of_memory(mb_per_hour: float | None, text: str) -> None:
    assert plain(wording.memory_trend(mb_per_hour)) == text


def test_the_overhead_is_honest_before_it_was_measured() -> None:
    assert wording.overhead(None) == "not measured yet"
    assert plain(wording.overhead(14.2)) == "14 µs per request (timed on 1 in 64)"


def test_memory_without_a_container_and_without_figures_of_the_system() -> None:
    document = {"total_rss_mb": None, "total_pss_mb": None, "available_mb": None, "percent": None,
                "cgroup_limit_mb": 2048.0}  # fmt: skip
    assert plain(wording.memory_totals(document)) == (
        "Total: – resident. The machine has – available; the container's limit is 2.0 GB."
    )


def test_requests_that_a_comparison_lacks_are_counted() -> None:
    row: Any = {"change": "too few", "needed": 20}
    assert plain(wording.too_few([row, {**row, "change": "same"}])) == (
        "Too few: 1 endpoint whose requests show neither a change nor that it is the same; that takes "
        "20 before and now at least. The first requests of each worker are not counted."
    )
    assert wording.too_few([{**row, "change": "same"}]) == ""
