"""The memory page: the figures of the JSON report, live DataFrames, leaks, savings."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from flask_knitperf.collectors.memory import leak_detector
from flask_knitperf.core.units import MB, plain, size

from .clients import BEARER
from .reader import document, page


def test_the_memory_on_the_page_is_that_of_the_report(busy: Any) -> None:
    text, exact = page(busy, "/perf/memory").text, document(busy, "/perf/memory")
    (worker,) = exact["workers"]
    for figure in (worker["rss_mb"], worker["peak_mb"], exact["total_rss_mb"]):
        assert plain(size(figure * MB)) in text


def test_automatic_clean_ups_are_on_the_page(busy: Any) -> None:
    (row,) = document(busy, "/perf/memory")["housekeeper"]
    text = page(busy, "/perf/memory").text
    assert row["why"] in text and f"{row['objects']:,}" in text
    assert f"{plain(size(row['freed_mb'] * MB))} {row['objects']:,}" in text


def test_registered_caches_are_on_the_page(busy: Any) -> None:
    assert document(busy, "/perf/memory")["caches"][1:] == [  # the first is that of `perf.cache`
        {
            "name": "yarn",
            "type": "LRUCache",
            "entries": 0,
            "size": 0,
            "max_size": 10,
            "hit_rate": None,
        }
    ]
    assert "LRUCache" in page(busy, "/perf/memory").text


def test_live_frames_are_on_the_page_once_they_were_listed(busy: Any) -> None:
    frame = pd.DataFrame({"of the page": range(100_000)})
    assert "No list yet" in page(busy, "/perf/memory").text
    assert busy.send("POST", "/perf/command/frames", **BEARER).code == 200
    text = page(busy, "/perf/memory").text
    assert "of the page" in text
    assert "100,000 × 1" in text
    assert len(frame) == 100_000


def test_the_saving_of_smaller_dtypes_is_listed_for_live_frames(busy: Any) -> None:
    frame = pd.DataFrame({"small numbers": [7] * 100_000})
    busy.send("POST", "/perf/command/frames", **BEARER)
    (worker,) = document(busy, "/perf/memory")["live_frames"]
    (row,) = [row for row in worker["frames"] if row["names"] == list(frame.columns)]
    assert row["saves_mb"] == pytest.approx(0.381, abs=0.01)


def leaking(busy: Any, grown_bytes: float = 4e6) -> None:
    """Record the growth of a worker and a suspected endpoint, as the leak detector publishes them."""
    recorder = busy.session.recorder
    figures = {
        "grown_bytes": grown_bytes, "requests": 9_000.0, "seconds": 600.0, "p_value": 1e-9
    }  # fmt: skip
    for figure, value in figures.items():
        recorder.record((recorder.series(leak_detector.GROWTH, figure), value))
    for figure, value in {"bytes_per_request": 2_048.0, "grown_bytes": 3e6, "pairs": 90.0}.items():
        recorder.record((recorder.series(leak_detector.LEAK, "fast", "GET", figure), value))


def test_a_worker_that_leaks_is_on_the_page(busy: Any) -> None:
    leaking(busy)
    text = page(busy, "/perf/memory").text
    assert "Yes: 1 of 1 worker grew by 3.8 MB over 9,000 requests" in text
    assert "retained per request" in text
    assert "2.0 KB" in text
    assert document(busy, "/perf/memory")["suspects"][0]["endpoint"] == "fast"
    assert "LEAK_SUSPECTED" in {row["type"] for row in busy.report()["bottlenecks"]}


def test_badge_finding_scorecard_suspect_and_growth_agree_on_a_leak(small: Any) -> None:
    leaking(small)
    memory, report = document(small, "/perf/memory"), small.report()
    shown = page(small, "/perf/memory")
    assert next(text for path, text in shown.texts if path[-1] == "span") == "Leak suspected"
    [finding] = [row for row in report["bottlenecks"] if row["type"] == "LEAK_SUSPECTED"]
    [leak] = [row["leak"] for row in report["endpoints"] if row["leak"]]
    [suspect] = memory["suspects"]
    assert {**leak, "endpoint": "fast", "method": "GET"} == suspect
    for size_ in (size(leak["kb_per_request"] * 1024), size(leak["grown_mb"] * MB)):
        assert plain(size_) in finding["text"] and plain(size_) in shown.text
    [criterion] = [row for row in report["scorecard"] if row["criterion"] == "memory leaks"]
    assert (criterion["actual"], criterion["ok"]) == ("1 suspected", False)
    assert memory["growth"][0]["grown_mb"] > 0 and "Yes: 1 of 1 worker grew" in shown.text


def test_a_suspect_of_a_worker_that_grows_no_longer_does_not_stand_beside_a_plain_no(
    small: Any,
) -> None:
    leaking(small, grown_bytes=0.0)
    text = page(small, "/perf/memory").text
    assert "Not now: 1 worker judged, and none of these grows at present." in text
    assert "No: 1 worker" not in text and "Leak suspected" in text


def test_the_saving_of_a_decorator_is_on_the_page(busy: Any) -> None:
    @busy.perf.memory.memory_efficient(level="compact")
    def stock() -> pd.DataFrame:
        return pd.DataFrame({"n": [7] * 500_000})

    assert "stock" not in str(document(busy, "/perf/memory")["decorated"])
    stock(), stock()
    rows = document(busy, "/perf/memory")["decorated"]
    (row,) = [row for row in rows if row["function"].endswith("on_the_page.<locals>.stock")]
    assert (row["frames"], row["before_mb"], row["after_mb"]) == (2, 7.629, 0.954)
    assert "DataFrames made smaller" in page(busy, "/perf/memory").text
