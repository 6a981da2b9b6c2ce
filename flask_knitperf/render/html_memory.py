"""Values of the memory page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from ..core.units import number, size
from . import Values
from .html_times import moment
from .memory_text import frames_summary, growth, listed_frames, unlisted_frames
from .wording import LEAK_SUSPECTED, LEVELS, mb, memory_level, memory_totals, memory_trend

if TYPE_CHECKING:
    from ..reports.documents import MemoryReport
    from ..reports.documents.memory import WorkerFramesRow

_MAX_FRAMES = 40
_WIDTH = 120.0
_HEIGHT = 28.0
"""Width and height of a trend's picture, in its units."""
_TONES = {"fine": "good", "warning": "warning", "critical": "bad", None: "none"}


def memory(document: MemoryReport) -> Values:
    """Return the values of the memory page."""
    level = memory_level(document)
    return {
        "level": level,
        "tone": "warning" if level == LEAK_SUSPECTED else _TONES[document["level"]],
        "threshold": mb(document["threshold_mb"]),
        "totals": memory_totals(document),
        "workers": [
            {**row, "label": LEVELS[row["level"]], "tone": _TONES[row["level"]],
             "rss": mb(row["rss_mb"]), "pss": mb(row["pss_mb"]), "peak": mb(row["peak_mb"]),
             "line": trend_line(row["trend"]), "trend": memory_trend(row["slope_mb_per_hour"])}
            for row in document["workers"]
        ],
        "grows": growth(
            document["growth"], len(document["workers"]), len(document["suspects"])
        ),
        "suspects": [
            {**row, "per_request": size(row["kb_per_request"] * 1024), "grown": mb(row["grown_mb"]),
             "measured": number(row["weighed"]) if row["weighed"] else "estimated"}
            for row in document["suspects"]
        ],
        "live_frames": [_live_frames(worker) for worker in document["live_frames"]],
        "decorated": [
            {**row, "before": mb(row["before_mb"]), "after": mb(row["after_mb"])}
            for row in document["decorated"]
        ],
        "clean_ups": [
            {**row, "at": moment(row["at"]), "freed": mb(row["freed_mb"])}
            for row in document["housekeeper"]
        ],
    }  # fmt: skip


def _live_frames(worker: WorkerFramesRow) -> Values:
    """Return one worker's live DataFrames as rows of a table."""
    rows = [
        {**frame, "name": frame["origin"] or ", ".join(frame["names"]),
         "shape": f"{number(frame['rows'])} × {number(frame['columns'])}", "size": mb(frame["mb"]),
         "shared": mb(frame["shared_mb"]), "pinned": mb(frame["pinned_mb"]),
         "saves": mb(frame["saves_mb"])}
        for frame in listed_frames(worker, _MAX_FRAMES)
    ]  # fmt: skip
    summary = Markup("{} Listed {}.").format(frames_summary(worker), moment(worker["at"]))
    return {**worker, "summary": summary, "frames": rows,
            "more": unlisted_frames(worker, len(rows))}  # fmt: skip


def trend_line(samples: list[list[float]]) -> str:
    """Return the points of a trend in a picture of 120 × 28; empty for fewer than two samples.

    Args:
        samples: ``[seconds, MB]``.
    """
    if len(samples) < 2:
        return ""
    start, end = samples[0][0], samples[-1][0]
    low = min(mb_ for _, mb_ in samples)
    high = max([low + 1, *(mb_ for _, mb_ in samples)])
    return " ".join(
        f"{(at - start) / (end - start) * _WIDTH:.1f},"
        f"{(_HEIGHT - 2) - (value - low) / (high - low) * (_HEIGHT - 4):.1f}"
        for at, value in samples
    )
