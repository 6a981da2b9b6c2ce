"""The commands on the history: figures, rows, removal; and reports of long windows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click.testing
import pytest

from flask_knitperf.cli.commands import knitperf
from flask_knitperf.history.maintenance import HistoryStats, ResolutionStats
from flask_knitperf.render import history_text
from tests.conftest import Mill


@pytest.fixture
def written(mill: Mill) -> Mill:
    """An application whose history has three requests."""
    for _ in range(3):
        mill.get("/")
    mill.session.memory_jobs.collector.record_gauges()
    history = mill.session.history
    assert history is not None
    with history._lock:
        history._write(0)
    return mill


def run(mill: Mill, *arguments: str, answer: str | None = None) -> click.testing.Result:
    return mill.app.test_cli_runner().invoke(knitperf, arguments, input=answer)


def test_figures_are_shown_in_eighty_columns(written: Mill) -> None:
    shown = run(written, "history", "stats")
    assert shown.exit_code == 0 and "1 deploy" in shown.output and "10 seconds" in shown.output
    assert str(written.session.settings.history_url) in shown.output
    figures = json.loads(run(written, "history", "stats", "--json").output)
    assert figures["series"] > 3 and figures["bytes"] > 1000
    assert [row["seconds"] for row in figures["resolutions"]] == [10, 60, 600, 3600]
    assert figures["resolutions"][0]["rows"] == figures["series"]


def test_figures_of_an_empty_and_of_a_shared_history_read_well() -> None:
    nothing: list[ResolutionStats] = [
        ResolutionStats(seconds=seconds, rows=0, oldest=None, newest=None)
        for seconds in (10, 60, 3600)
    ]
    empty = HistoryStats(
        database="postgresql://db/erp", bytes=0, series=0, deploys=0, resolutions=nothing,
        sources=["a", "b"], written_at=None,
    )  # fmt: skip
    shown = history_text.stats(empty)
    assert "nothing was written yet" in shown and "written by a, b" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_rows_are_printed_as_json(written: Mill) -> None:
    rows = [json.loads(line) for line in run(
        written, "history", "export", "--slots", "10s", "--since", "1d"
    ).output.splitlines()]  # fmt: skip
    requests = [row for row in rows if row["name"] == "http.request"]
    assert sum(row["count"] for row in requests) == 3
    for row in requests:
        low, high = row["buckets"][0][0], row["buckets"][-1][0] + 1
        assert sum(count for _, count in row["buckets"]) == row["count"]
        assert row["count"] * 2 ** (low / 64) < row["sum"] <= row["count"] * 2 ** (high / 64)
    assert any(row["kind"] == "gauge" and row["high"] > 0 for row in rows)


@pytest.mark.parametrize("age", ["yesterday", "3w", "-1d"])
def test_an_age_that_is_none_is_a_sentence(written: Mill, age: str) -> None:
    shown = run(written, "history", "export", f"--since={age}")
    assert shown.exit_code == 2 and "is not a length of time such as 30d, 12h or 5m" in shown.output


def test_rows_are_deleted_after_a_question(written: Mill, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(written, "history", "prune", "--before", "1d", answer="n\n").exit_code == 1
    assert (
        "0 rows deleted" in run(written, "history", "prune", "--before", "1d", answer="y\n").output
    )
    import time

    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 86_400)
    shown = run(written, "history", "prune", "--before", "1h", "--yes").output
    assert int(shown.split()[0]) > 3
    assert (
        json.loads(run(written, "history", "stats", "--json").output)["resolutions"][0]["rows"] == 0
    )


def test_a_history_that_is_switched_off_is_a_sentence(make_app: Callable[..., Mill]) -> None:
    mill = make_app(KNITPERF_HISTORY=False)
    shown = run(mill, "history", "stats")
    assert shown.exit_code == 1 and "keeps no history: KNITPERF_HISTORY is False" in shown.output


def test_a_history_that_cannot_be_used_is_a_sentence(
    make_app: Callable[..., Mill], tmp_path: Path
) -> None:
    mill = make_app(KNITPERF_HISTORY_URL=str(tmp_path))
    shown = run(mill, "history", "stats")
    assert (
        shown.exit_code == 1
        and "cannot be used" in shown.output
        and "Traceback" not in shown.output
    )


def test_a_report_of_a_long_window_has_all_requests(written: Mill) -> None:
    written.session.jobs.fold()
    document: dict[str, Any] = json.loads(run(written, "report", "--window", "7d", "--json").output)
    [row] = [row for row in document["endpoints"] if row["endpoint"] == "index"]
    assert row["count"] == 3 and document["window"]["name"] == "7d"
