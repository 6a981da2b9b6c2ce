"""Charts of the overview: they can be drawn for any figures, and state what the figures are."""

from __future__ import annotations

from typing import Any

import pytest

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
        "p99_ms": ms, **more,
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
