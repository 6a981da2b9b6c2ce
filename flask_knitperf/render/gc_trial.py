"""Cost of garbage collection for one address as text and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.units import duration, number, size
from ..experiments.gc_replay import Trial, best
from ..experiments.in_process import Request
from .layout import Section, table, wrap
from .layout import document as joined

if TYPE_CHECKING:
    from ..reports.documents.gc_trial import GcTrialReport


def document(request: Request, trial: Trial) -> GcTrialReport:
    """Return a trial as JSON values."""
    chosen = best(trial.costs)
    return {
        "url": request.url,
        "settings": [
            {"name": cost.setting.name, "code": cost.setting.code or None,
             "pause_ms": round(cost.pause_ms, 3), "request_ms": round(cost.request_ms, 3),
             "collections": round(cost.collections, 3), "waiting_bytes": cost.max_garbage}
            for cost in trial.costs
        ],
        "advice": None if chosen is None else chosen.setting.code,
        "statuses": {str(status): n for status, n in trial.statuses.items()},
    }  # fmt: skip


def text(request: Request, trial: Trial, width: int = 80) -> str:
    """Return a trial as text: a sentence to act on, then a table of all settings."""
    now, chosen = trial.costs[0], best(trial.costs)
    summary = (
        f"Garbage collection pauses GET {request.url} for {duration(now.pause_ms)} of "
        f"{duration(now.request_ms)}. "
    )
    if chosen is None:
        summary += "No setting saves a notable part of that."
    else:
        summary += (
            f"With {chosen.setting.code} once the application is loaded it is "
            f"{duration(chosen.pause_ms)}; up to {size(chosen.max_garbage)} of garbage wait for the "
            "collector then."
        )
        if "freeze" in chosen.setting.code:
            summary += " KNITPERF_GC_FREEZE = True calls it in each worker."
    rows = table(
        ("setting", "pause", "request", "collections", "max garbage"),
        ((cost.setting.name, duration(cost.pause_ms), duration(cost.request_ms),
          number(cost.collections), size(cost.max_garbage)) for cost in trial.costs),
        width,
    )  # fmt: skip
    return joined((Section("", wrap(summary, width, then="")), Section("", rows)))
