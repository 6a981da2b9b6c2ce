"""Cost of garbage collection for one address as text and as JSON."""

from __future__ import annotations

from typing import Any

from ..core.units import duration, number, size
from ..experiments.gc_replay import Trial, best
from ..experiments.in_process import Request
from .layout import Section, table, wrap
from .layout import document as joined


def document(request: Request, trial: Trial) -> dict[str, Any]:
    """Return a trial as JSON values."""
    chosen = best(trial.tried)
    return {
        "url": request.url,
        "settings": [
            {"name": one.setting.name, "code": one.setting.code or None,
             "pause_ms": round(one.pause_ms, 3), "request_ms": round(one.request_ms, 3),
             "collections": round(one.collections, 3), "waiting_bytes": one.waiting}
            for one in trial.tried
        ],
        "advice": None if chosen is None else chosen.setting.code,
        "statuses": {str(status): n for status, n in trial.statuses.items()},
    }  # fmt: skip


def text(request: Request, trial: Trial, width: int = 80) -> str:
    """Return a trial as text: a sentence to act on, then a table of all settings."""
    now, chosen = trial.tried[0], best(trial.tried)
    summary = (
        f"Garbage collection pauses GET {request.url} for {duration(now.pause_ms)} of "
        f"{duration(now.request_ms)}. "
    )
    if chosen is None:
        summary += "No setting saves a notable part of that."
    else:
        summary += (
            f"With {chosen.setting.code} once the application is loaded it is "
            f"{duration(chosen.pause_ms)}; up to {size(chosen.waiting)} of garbage wait for the "
            "collector then."
        )
        if "freeze" in chosen.setting.code:
            summary += " KNITPERF_GC_FREEZE = True calls it in each worker."
    rows = table(
        ("setting", "pause", "request", "collections", "max garbage"),
        ((one.setting.name, duration(one.pause_ms), duration(one.request_ms),
          number(one.collections), size(one.waiting)) for one in trial.tried),
        width,
    )  # fmt: skip
    return joined((Section("", wrap(summary, width, then="")), Section("", rows)))
