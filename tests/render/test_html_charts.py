"""Charts of the overview: they can be drawn for any figures, and state what the figures are."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from flask_knitperf.render.chart import TimeAxis, box
from flask_knitperf.render.html_charts import charts
from flask_knitperf.reports.documents import Charts
from flask_knitperf.reports.documents.charts import Heat, LoadPoint
from flask_knitperf.reports.values import moment

START = 1_700_000_000 - 1_700_000_000 % 3600


def document(points: list[LoadPoint], length: int = 60, **parts: Any) -> Charts:
    shown: Any = {
        "schema": "flask-knitperf/charts/1", "generated_at": moment(START), "slot_s": length,
        "window": {"name": "1h", "from": moment(START), "to": moment(START + 3600), "run": "server-1",
                   "release": None},
        "points": points, "deploys": [], "saturation": [], "trend_slot_s": length, "endpoints": [],
        "heat": {"upper_ms": [], "counts": [[] for _ in points]}, **parts,
    }  # fmt: skip
    return shown  # type: ignore[no-any-return]


def point(at: int, count: int = 1, ms: float | None = 1.0, **more: Any) -> LoadPoint:
    shown: Any = {
        "at": moment(START + at), "count": count, "failed": 0, "p50_ms": ms, "p95_ms": ms,
        "p99_ms": ms, "seconds": 60.0, **more,
    }  # fmt: skip
    return shown  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "upper", [[0.0], [1e-6, 2e-6], [1e-6, 0.001], [1e-6, 1e-5, 5.0], [1e9, 2e9]]
)
def test_a_heat_map_is_drawn_for_any_bands(upper: list[float]) -> None:
    heat = Heat(upper_ms=upper, counts=[[1] * len(upper), [0] * len(upper)])
    shown = charts(document([point(0), point(60)], heat=heat))
    assert shown is not None and [row["cells"][0] for row in shown["heat"]["rows"]] == [
        "0\xa0requests", f"{len(upper)}\xa0request{'s' * (len(upper) > 1)}",
    ]  # fmt: skip


def test_cold_starts_alone_have_no_response_times() -> None:
    shown = charts(document([point(0, ms=None), point(60, ms=None)]))
    assert shown is not None and shown["times"] is None and shown["heat"] is None
    assert [row["cells"][0] for row in shown["load"]["rows"]] == ["1", "1"]


def test_the_rate_of_a_slot_that_goes_on_is_that_of_its_part() -> None:
    points = [point(0, 60), point(60, 60), point(120, 12, seconds=12.0)]
    shown = charts(document(points))
    assert shown is not None and "latest 1, at most 1;" in shown["load"]["label"]
    assert {row["cells"][2] for row in shown["load"]["rows"]} == {"1\xa0request/s"}


def test_a_small_line_has_a_gap_where_there_are_no_requests() -> None:
    shown = charts(document([point(0), point(60), point(1200), point(1260)]))
    assert shown is not None
    for name in ("requests", "p50", "p95"):
        assert shown["sparks"][name]["line"].count("M") == 2, name


@pytest.mark.parametrize("distance", [1, 18, 300, 3000])
def test_labels_of_deploys_do_not_overlap(distance: int) -> None:
    deploys = [
        {"at": moment(START + distance * number), "release": f"{number}" + "x" * (number % 20)}
        for number in range(200)
    ]
    axis = TimeAxis(box(720.0, 220.0), START - 60, START + max(3600, distance * 200), 60)
    marks: list[Any] = axis.deploys(deploys)  # type: ignore[arg-type]
    labels = [mark for mark in marks if mark["label"]]
    assert len(marks) == 200 and 1 <= len(labels) <= 6 and labels[-1] is marks[-1]
    for mark, following in pairwise(labels):
        assert mark["label_x"] + mark["width"] <= following["label_x"]


@pytest.mark.parametrize("days", [1, 30, 60, 200, 400, 9000])
def test_labels_of_the_time_do_not_overlap(days: int) -> None:
    axis = TimeAxis(box(720.0, 220.0), START, START + days * 86_400, 86_400)
    assert 1 <= len(axis.ticks) <= 7
