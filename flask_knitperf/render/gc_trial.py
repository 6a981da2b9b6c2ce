"""What the collector costs one address, and what other settings would spare: measured, and in words."""

from __future__ import annotations

import os
import textwrap
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..analysis.phrases import duration
from ..core.errors import KnitPerfError
from ..core.settings import HUNT
from ..core.units import amount
from ..experiments.gc_trial import Tried, trial
from ..experiments.in_process import Application, Request, send
from .terminal import table

WORTH_MS = 1.0
"""Below so much per request a setting spares nothing worth having,"""
WORTH = 0.1
"""or below this share of the request."""
_WARM = 20


@dataclass(frozen=True, slots=True)
class Trial:
    """What was measured.

    Attributes:
        tried: each setting, the present one first.
        statuses: how often each status was answered.
    """

    tried: list[Tried]
    statuses: dict[int, int]


def switch_off() -> None:
    """Have KnitPerf be off in an application that this process loads from now on."""
    os.environ[HUNT] = "gc"


def tried(
    application: Application, request: Request, requests: int, tell: Callable[[float], None]
) -> Trial:
    """Serve a request under each setting of the collector.

    Args:
        application: the WSGI application.
        request: what to serve.
        requests: of one block.
        tell: told how much further it is, in percent.

    Raises:
        KnitPerfError: the application answers with an error.
    """
    statuses: Counter[int] = Counter()

    def serve() -> None:
        statuses[send(application, request)] += 1

    for _ in range(_WARM):
        serve()
    if max(statuses) >= 400:
        raise KnitPerfError(
            f"{request.url} is answered with {max(statuses)}; nothing is measured of it"
        )
    told = 0.0

    def on(part: float) -> None:
        nonlocal told
        tell(100 * part - told)
        told = 100 * part

    found = trial(serve, requests, tell=on)
    return Trial(found, dict(statuses))


def best(found: Sequence[Tried]) -> Tried | None:
    """Return the setting that spares most of what is worth having, ``None`` where none does."""
    now = found[0]
    least = max(WORTH_MS, WORTH * now.request_ms)
    spares = [one for one in found[1:] if now.pause_ms - one.pause_ms >= least]
    return min(spares, key=lambda one: one.pause_ms, default=None)


def document(request: Request, found: Trial) -> dict[str, Any]:
    """Return it as JSON values."""
    chosen = best(found.tried)
    return {
        "url": request.url,
        "settings": [
            {"name": one.setting.name, "code": one.setting.code or None,
             "pause_ms": round(one.pause_ms, 3), "request_ms": round(one.request_ms, 3),
             "collections": round(one.collections, 3), "waiting_bytes": one.waiting}
            for one in found.tried
        ],
        "advice": None if chosen is None else chosen.setting.code,
        "statuses": {str(status): count for status, count in found.statuses.items()},
    }  # fmt: skip


def text(request: Request, found: Trial, width: int = 80) -> str:
    """Return it in words."""
    now, chosen = found.tried[0], best(found.tried)
    said = (
        f"The collector stops GET {request.url} for {duration(now.pause_ms)} of "
        f"{duration(now.request_ms)}. "
    )
    if chosen is None:
        said += "No setting spares a notable part of that."
    else:
        said += (
            f"With {chosen.setting.code} once the application is loaded it is "
            f"{duration(chosen.pause_ms)}, and up to {amount(chosen.waiting)} of garbage wait."
        )
        if "freeze" in chosen.setting.code:
            said += " KNITPERF_GC_FREEZE = True freezes in each worker."
    lines = [*textwrap.wrap(said, width), ""]
    lines += table(
        ("setting", "paused", "request", "collections", "waiting at most"),
        ((one.setting.name, duration(one.pause_ms), duration(one.request_ms),
          f"{one.collections:.2f}", amount(one.waiting)) for one in found.tried),
        width,
    )  # fmt: skip
    return "\n".join(lines) + "\n"
