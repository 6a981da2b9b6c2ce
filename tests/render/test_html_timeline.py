"""The chart of an endpoint over time: its lines, its table, and its name for screen readers."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_knitperf.render.html_timeline import timeline
from flask_knitperf.reports.documents.charts import Heat
from flask_knitperf.reports.documents.endpoint import PartTimes, Timeline, TimelineRow

START = 1_700_000_000 - 1_700_000_000 % 3600


def at(seconds: float) -> str:
    return datetime.fromtimestamp(START + seconds, UTC).isoformat()


def document(slots: list[int], p95: float = 100.0, length: int = 60) -> Timeline:
    points = [
        TimelineRow(
            at=at(slot * length),
            count=3,
            p50_ms=p95 / 2,
            p95_ms=p95,
            p99_ms=p95 * 2,
            usual_low_ms=None,
            usual_high_ms=None,
            failed=0,
            parts=PartTimes(database=p95 / 4, files=0.0, rendering=0.0, waiting=0.0, own=p95 / 4),
        )
        for slot in slots
    ]
    upper = [max(p95, 0.001)]
    heat = Heat(upper_ms=upper, counts=[[3] for _ in slots])
    return Timeline(slot_s=length, points=points, deploys=[], steps=[], drift=None, heat=heat)


def times(shown: Timeline, limit_ms: float = 200.0) -> dict[str, Any]:
    """Return the values of the chart of response times."""
    charts: Any = timeline(shown, limit_ms)
    chosen: dict[str, Any] = charts["times"]
    return chosen


def test_a_picture_needs_two_points() -> None:
    assert timeline(None, 200) is None
    assert timeline(document([0]), 200) is None
    assert timeline(document([0, 1]), 200) is not None


def without_percentiles(shown: Timeline, *places: int) -> Timeline:
    """Make slots that have cold starts only."""
    for place in places:
        shown["points"][place].update(p50_ms=None, p95_ms=None, p99_ms=None)
    return shown


def test_slots_of_cold_starts_are_gaps_and_rows_without_percentiles() -> None:
    chart = times(without_percentiles(document([0, 1, 2, 3]), 1))
    assert [line["d"].count("M") for line in chart["lines"]] == [2, 2, 2]
    p99 = {row["epoch"]: row["cells"][-1] for row in chart["rows"]}
    assert [p99[at] for at in sorted(p99)] == ["200\u00a0ms", "–", *["200\u00a0ms"] * 2]


def test_a_chart_of_cold_starts_alone_has_no_line() -> None:
    chart = times(without_percentiles(document([0, 1]), 0, 1))
    assert "cold starts only" in chart["label"] and {line["d"] for line in chart["lines"]} == {""}


def test_lines_have_gaps_where_there_are_no_requests() -> None:
    chart = times(document([0, 1, 2, 5, 6]))
    for line in chart["lines"]:
        assert line["d"].count("M") == 2 and line["d"].count("L") == 3


def test_the_usual_band_is_an_area_for_each_stretch_that_has_one() -> None:
    shown = document([0, 1, 2, 3, 9, 10])
    for place in (0, 1, 3, 4, 5):
        shown["points"][place].update(usual_low_ms=80.0, usual_high_ms=1200.0)
    chart = times(shown)
    [area] = chart["areas"]
    assert area["d"].count("M") == area["d"].count("Z") == 3
    assert area["d"].count("L") == 3 + 1 + 3
    assert chart["grid"][-1]["text"] == "1.5\u00a0s"
    usual = [row["cells"][-1].replace("\u00a0", " ") for row in chart["rows"]]
    assert usual == ["80 ms to 1.2 s"] * 3 + ["–", *["80 ms to 1.2 s"] * 2]
    assert times(document([0, 1]))["areas"] == []


def test_its_name_has_the_range_and_the_latest_value() -> None:
    chart = times(document([0, 1]))
    assert chart["label"].replace("\u00a0", " ") == (
        "p95 over time, from 100 ms to 100 ms, latest 100 ms, threshold 200 ms"
    )


def test_the_table_has_every_point_the_latest_first() -> None:
    chart = times(document([0, 1, 9], p95=250.0))
    assert [row["at"][-8:] for row in chart["rows"]] == ["22:09:00", "22:01:00", "22:00:00"]
    assert {row["over"] for row in chart["rows"]} == {True}


def test_deploys_within_it_are_marked_and_steps_are_sentences() -> None:
    shown = document(list(range(10)))
    shown["deploys"] = [
        {"at": at(-60), "release": "1.0"}, {"at": at(120), "release": "2.0"},
        {"at": at(240), "release": None},
    ]  # fmt: skip
    shown["steps"] = [{"at": at(0), "before_ms": 100.0, "after_ms": 150.0},
                      {"at": at(0), "before_ms": 100.0, "after_ms": 80.0}]  # fmt: skip
    charts: Any = timeline(shown, 200)
    deploys = charts["times"]["deploys"]
    assert [(deploy["text"], deploy["label"]) for deploy in deploys] == [
        ("2.0", "2.0"),
        ("deploy", ""),
    ]
    higher, lower = (text.replace("\u00a0", " ") for text in charts["steps"])
    assert higher == "p95 is 50 % higher since 2023-11-14: 150 ms, before that 100 ms"
    assert lower == "p95 is 20 % lower since 2023-11-14: 80 ms, before that 100 ms"


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (10, "10 seconds"),
        (300, "5 minutes"),
        (3600, "1 hour"),
        (21_600, "6 hours"),
        (86_400, "1 day"),
    ],
)
def test_the_length_of_a_slot_is_in_words(length: int, text: str) -> None:
    chart = times(document([0, 1], length=length))
    assert chart["slot"].replace("\u00a0", " ") == text


@given(
    st.lists(st.integers(0, 3000), min_size=2, max_size=130, unique=True),
    st.floats(0, 1e7), st.floats(0.001, 1e6), st.sampled_from([10, 60, 3600, 86_400]),
)  # fmt: skip
def test_everything_lies_within_the_picture(
    slots: list[int], p95: float, limit: float, length: int
) -> None:
    charts: Any = timeline(document(sorted(slots), p95, length), limit)
    for chart in filter(None, (charts["times"], charts["parts"], charts["heat"])):
        width, height = chart["box"]["width"], chart["box"]["height"]
        for drawn in (*chart["lines"], *chart["areas"]):
            for place in re.split("[ML]", drawn["d"].replace("h.01", "").replace("Z", ""))[1:]:
                x, y = map(float, place.split())
                assert 0 <= x <= width and 0 <= y <= height
        assert chart["limit"] is None or 0 <= chart["limit"]["y"] <= height
        assert len(chart["ticks"]) <= 3000 and all(
            0 <= tick["x"] <= width for tick in chart["ticks"]
        )


def test_parts_are_stacked_in_the_order_of_their_names_and_left_out_where_there_is_one_only() -> (
    None
):
    shown = document([0, 1])
    charts: Any = timeline(shown, 200)
    assert [key["text"] for key in charts["parts"]["keys"]] == ["database", "Python code"]
    assert [area["css"] for area in charts["parts"]["areas"]] == ["part-database", "part-own"]
    for point in shown["points"]:
        point["parts"]["database"] = 0.0
    charts = timeline(shown, 200)
    assert charts["parts"] is None


def test_a_p99_far_above_the_rest_does_not_flatten_the_chart() -> None:
    shown = document([0, 1, 2])
    shown["points"][1]["p99_ms"] = 60_000.0
    assert times(shown)["grid"][-1]["text"].replace("\u00a0", " ") == "300 ms"


def test_a_drift_is_a_sentence() -> None:
    shown = document([0, 1])
    shown["drift"] = {"days": 28, "per_week": 0.05, "change": 0.2}
    charts: Any = timeline(shown, 200)
    [sentence] = charts["steps"]
    assert sentence.replace("\u00a0", " ") == (
        "p95 grows by 5 % a week: 20 % over 28 days of about the same load"
    )
