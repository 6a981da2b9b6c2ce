"""The memory report: pauses by endpoint, and the steps that relieved workers."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from flask_knitperf.metrics.catalogue import RELIEF, ReliefKey, ReliefStep


def garbage() -> str:
    objects = [[] for _ in range(100_000)]  # type: list[list[Any]]
    gc.collect()
    return str(len(objects))


@pytest.fixture
def mill(quiet: Any) -> Any:
    quiet.app.add_url_rule("/garbage", "garbage", garbage)
    for path in ("/garbage", "/", "/garbage", "/"):
        assert quiet.get(path).code == 200
    return quiet


def test_collections_per_endpoint_match_the_report(mill: Any) -> None:
    [entry] = [
        row for row in mill.session.documents.memory()["collecting"] if row["endpoint"] == "garbage"
    ]
    [row] = [
        row for row in mill.session.documents.report()["endpoints"] if row["endpoint"] == "garbage"
    ]
    assert entry["count"] == row["count"] == 2
    assert entry["own_ms"] == pytest.approx(row["gc_own_ms"], abs=0.001) != 0
    assert entry["ms"] == pytest.approx(row["gc_ms"], abs=0.001)
    assert entry["share"] == pytest.approx(row["gc_ms"] / row["mean_ms"], abs=0.001)


def test_an_endpoint_without_pauses_is_not_listed(quiet: Any) -> None:
    gc.disable()
    try:
        quiet.get("/")
    finally:
        gc.enable()
    assert quiet.session.documents.memory()["collecting"] == []


def test_a_step_noted_without_all_of_its_detail_is_left_out(mill: Any) -> None:
    mill.session.memory_jobs.collector.collect("requested")
    [entry] = mill.session.documents.memory()["housekeeper"]
    key = ReliefKey("1-1", 0, ReliefStep.COLLECT)
    mill.session.recorder.note(RELIEF, key, 5.0, {"before": 5, "after": 4})
    assert mill.session.documents.memory()["housekeeper"] == [entry]


def test_a_step_of_another_version_is_left_out(mill: Any) -> None:
    mill.session.memory_jobs.collector.collect("requested")
    [note] = mill.session.recorder.snapshot().totals.notes(RELIEF)
    key = ReliefKey("1-1", 0, "defragment")
    mill.session.recorder.note(RELIEF, key, 5.0, note.detail)
    assert [row["step"] for row in mill.session.documents.memory()["housekeeper"]] == ["collect"]
