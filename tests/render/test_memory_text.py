"""Sentences about growth of memory and live DataFrames."""

from __future__ import annotations

from typing import Any

from flask_knitperf.core.units import plain
from flask_knitperf.render import memory_text

STEADY: Any = {"grown_mb": 0.0, "requests": 5_000, "minutes": 20.0}
GROWING: Any = {"grown_mb": 4.0, "requests": 2_000, "minutes": 12.5}
WORKER: Any = {
    "count": 7, "mb": 65.0, "duplicated_mb": 16.2, "pinned_mb": 15.3, "stalled_ms": 14.3, "frozen": 0,
    "frames": [{"mb": 1.0, "pinned_mb": 0.0}, {"mb": 0.004, "pinned_mb": 0.0}],
}  # fmt: skip


def test_growth_is_unknown_until_a_worker_was_judged() -> None:
    assert plain(memory_text.growth([], 2)) == (
        "Not known yet: a worker is judged after 1,000 requests at the earliest."
    )


def test_growth_of_workers_is_a_sentence() -> None:
    assert plain(memory_text.growth([STEADY], 1)) == "No: 1 worker judged, and none of these grows."
    assert plain(memory_text.growth([STEADY], 2)).startswith("No: 1 of 2 workers judged")
    assert plain(memory_text.growth([STEADY, GROWING], 2)) == (
        "Yes: 1 of 2 workers grew by 4.0 MB over 2,000 requests, 2.0 KB per request."
    )


def test_workers_that_grow_no_longer_stand_beside_a_suspect_without_a_plain_no() -> None:
    assert plain(memory_text.growth([STEADY], 1, suspects=1)) == (
        "Not now: 1 worker judged, and none of these grows at present. A suspect stays listed until its "
        "later requests show that it retains nothing."
    )


def test_growth_of_the_first_minutes_may_be_that_of_caches() -> None:
    young = {**GROWING, "minutes": 9.9}
    assert memory_text.growth([young, young], 2).endswith(
        "A new worker may still be filling caches; a leak never stops."
    )
    assert "caches" not in memory_text.growth([GROWING, young], 2)


def test_live_frames_are_summarised() -> None:
    assert plain(memory_text.frames_summary(WORKER)) == (
        "7 DataFrames with 65.0 MB, of which 16.2 MB duplicate other frames and 15.3 MB are shown by no "
        "frame and kept alive by views. The scan stopped all threads for 14 ms."
    )
    frozen = plain(memory_text.frames_summary({**WORKER, "frozen": 5_000}))
    assert frozen.endswith("Frames among 5,000 objects in gc.freeze() are not listed.")


def test_tiny_frames_have_no_line() -> None:
    assert memory_text.listed_frames(WORKER, 20) == WORKER["frames"][:1]


def test_unlisted_frames_are_counted() -> None:
    assert memory_text.unlisted_frames({**WORKER, "count": 1_200}, 20) == "and 1,180 more"
    assert memory_text.unlisted_frames({**WORKER, "count": 20}, 20) == ""
