"""Memory of workers and live DataFrames as terminal text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.units import duration, number, size
from .layout import Section, document, table, wrap
from .memory_text import frames_summary, growth, listed_frames, unlisted_frames
from .wording import LEVELS, mb, memory_level, memory_totals, memory_trend, moment

if TYPE_CHECKING:
    from ..reports.documents import MemoryReport
    from ..reports.documents.memory import LiveFrameRow, MemoryWorkerRow, WorkerFramesRow

_MAX_FRAMES = 20


def memory(report: MemoryReport, width: int = 80) -> str:
    """Return the memory report as text."""
    reasons: list[str] = []
    for reason in report["reasons"]:
        reasons += wrap(f"{LEVELS[reason['level']]}: {reason['text']}.", width)
    for sentence in report["recommendations"]:
        reasons += wrap(sentence, width)
    grows = growth(report["growth"], len(report["workers"]), len(report["suspects"]))
    trend = wrap(f"Does it grow with requests? {grows}", width, then="")
    for row in report["suspects"]:
        retained, total = size(row["kb_per_request"] * 1024), mb(row["grown_mb"])
        trend += wrap(f"Suspected leak: {row['method']} {row['endpoint']} retains {retained} per "
                       f"request, {total} so far", width, "  ", "    ")  # fmt: skip
    clean_ups: list[str] = []
    for step in report["housekeeper"]:
        clean_ups += wrap(f"{moment(step['at'])}, {step['worker']}: freed {mb(step['freed_mb'])} in "
                          f"{duration(step['pause_ms'])}: {step['why']}", width)  # fmt: skip
    return document((
        Section("", [f"Memory: {memory_level(report)}"]),
        Section("", reasons),
        Section("", _workers(report["workers"], width)),
        Section("", wrap(memory_totals(report), width, then="")),
        Section("", trend),
        Section("AUTOMATIC CLEAN-UPS", clean_ups),
    ))  # fmt: skip


def _workers(rows: list[MemoryWorkerRow], width: int) -> list[str]:
    return table(
        ("worker", "resident", "PSS", "peak", "growth"),
        ((row["worker"], mb(row["rss_mb"]), mb(row["pss_mb"]), mb(row["peak_mb"]),
          memory_trend(row["slope_mb_per_hour"])) for row in rows),
        width,
    )  # fmt: skip


def live_frames(workers: list[WorkerFramesRow], width: int = 80) -> str:
    """Return the live DataFrames of all workers as text."""
    sections = []
    for worker in workers:
        summary = wrap(f"Worker {worker['pid']}: {frames_summary(worker)}", width, then="")
        rows = listed_frames(worker, _MAX_FRAMES)
        lines = table(
            ("DataFrame", "size", "shared", "pinned", "copies", "saves"),
            ((_name(frame), mb(frame["mb"]), mb(frame["shared_mb"]), mb(frame["pinned_mb"]),
              number(frame["copies"]), mb(frame["saves_mb"])) for frame in rows),
            width,
        )  # fmt: skip
        more = unlisted_frames(worker, len(rows))
        sections += [Section("", summary), Section("", lines + ([more] if more else []))]
    return document(sections or [Section("", ["No worker has listed its DataFrames."])])


def _name(frame: LiveFrameRow) -> str:
    """Return shape and origin of a frame; one of unknown origin has the names of its columns."""
    name = frame["origin"] or ", ".join(frame["names"])
    where = f" ({frame['where']})" if frame["where"] else ""
    return f"{number(frame['rows'])} × {number(frame['columns'])} {name}{where}"
