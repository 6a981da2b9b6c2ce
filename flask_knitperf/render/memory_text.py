"""Sentences about growth of memory and live DataFrames, for the memory page and the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..core.units import MB, count, duration, number, size
from .wording import mb

if TYPE_CHECKING:
    from ..reports.documents.memory import GrowthRow, LiveFrameRow, WorkerFramesRow

_YOUNG_MINUTES = 10
"""Growth over less time than this may be that of caches which fill."""
_MIN_FRAME_MB = 10 / 1024
"""Least size with which a frame gets a line."""
_MIN_SUMMARY_MB = 0.1
"""Least amount of duplicated or pinned memory that the summary has."""


def growth(rows: Sequence[GrowthRow], workers: int, suspects: int = 0) -> str:
    """Return whether the allocated memory of workers grows with requests.

    Args:
        rows: of the judged workers.
        workers: number of all live workers.
        suspects: number of suspected endpoints.
    """
    if not rows:
        return f"Not known yet: a worker is judged after {count(1_000, 'request')} at the earliest."
    growing = [row for row in rows if row["grown_mb"] > 0]
    if not growing:
        judged = count(len(rows), "worker")
        if len(rows) < workers:
            judged = f"{number(len(rows))} of {count(workers, 'worker')}"
        if suspects:
            return (
                f"Not now: {judged} judged, and none of these grows at present. A suspect stays listed "
                "until its later requests show that it retains nothing."
            )
        return f"No: {judged} judged, and none of these grows."
    grown = sum(row["grown_mb"] for row in growing) * MB
    requests = sum(row["requests"] for row in growing)
    sentence = (
        f"Yes: {number(len(growing))} of {count(len(rows), 'worker')} grew by {size(grown)} over "
        f"{count(requests, 'request')}, {size(grown / max(1, requests))} per request."
    )
    if max(row["minutes"] for row in growing) < _YOUNG_MINUTES:
        sentence += " A new worker may still be filling caches; a leak never stops."
    return sentence


def frames_summary(worker: WorkerFramesRow) -> str:
    """Return the number and the memory of a worker's live DataFrames."""
    shares = []
    if worker["duplicated_mb"] >= _MIN_SUMMARY_MB:
        shares.append(f"{mb(worker['duplicated_mb'])} duplicate other frames")
    if worker["pinned_mb"] >= _MIN_SUMMARY_MB:
        shares.append(f"{mb(worker['pinned_mb'])} are shown by no frame and kept alive by views")
    summary = f"{count(worker['count'], 'DataFrame')} with {mb(worker['mb'])}"
    if shares:
        summary += f", of which {' and '.join(shares)}"
    summary += f". The scan stopped all threads for {duration(worker['stalled_ms'])}."
    if worker["frozen"]:
        summary += (
            f" Frames among {count(worker['frozen'], 'object')} in gc.freeze() are not listed."
        )
    return summary


def listed_frames(worker: WorkerFramesRow, limit: int) -> list[LiveFrameRow]:
    """Return the frames that are large enough for a line each."""
    large = [row for row in worker["frames"] if row["mb"] + row["pinned_mb"] >= _MIN_FRAME_MB]
    return large[:limit]


def unlisted_frames(worker: WorkerFramesRow, listed: int) -> str:
    """Return the number of frames that are not listed; empty if all are."""
    more = worker["count"] - listed
    if more and not listed:
        return f"Each is smaller than {size(_MIN_FRAME_MB * MB)}, so none is listed."
    return f"and {number(more)} more" if more > 0 else ""
