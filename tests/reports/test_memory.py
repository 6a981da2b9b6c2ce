"""The memory report: what collections cost whom, and steps that were taken."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from flask_knitperf.metrics.catalogue import RELIEF, ReliefKey, ReliefStep


def garbage() -> str:
    held = [[] for _ in range(100_000)]  # type: list[list[Any]]
    gc.collect()
    return str(len(held))


@pytest.fixture
def mill(quiet: Any) -> Any:
    quiet.app.add_url_rule("/garbage", "garbage", garbage)
    for path in ("/garbage", "/", "/garbage", "/"):
        assert quiet.get(path).code == 200
    return quiet


def test_collections_are_told_by_the_endpoint_as_in_the_report(mill: Any) -> None:
    [told] = [
        row for row in mill.session.documents.memory()["collecting"] if row["endpoint"] == "garbage"
    ]
    [row] = [
        row for row in mill.session.documents.report()["endpoints"] if row["endpoint"] == "garbage"
    ]
    assert told["count"] == row["count"] == 2
    assert told["own_ms"] == pytest.approx(row["gc_own_ms"], abs=0.001) != 0
    assert told["ms"] == pytest.approx(row["gc_ms"], abs=0.001)
    assert told["share"] == pytest.approx(row["gc_ms"] / row["mean_ms"], abs=0.001)


def test_who_was_not_stopped_is_not_listed(quiet: Any) -> None:
    gc.disable()
    try:
        quiet.get("/")
    finally:
        gc.enable()
    assert quiet.session.documents.memory()["collecting"] == []


def test_a_step_noted_without_all_of_its_detail_is_left_out(mill: Any) -> None:
    mill.session.memory_jobs.collector.collect("requested")
    [told] = mill.session.documents.memory()["housekeeper"]
    key = ReliefKey("1-1", 0, ReliefStep.COLLECT)
    mill.session.recorder.note(RELIEF, key, 5.0, {"before": 5, "after": 4})
    assert mill.session.documents.memory()["housekeeper"] == [told]
