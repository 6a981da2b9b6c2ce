"""Cost of garbage collection for one address: a GET replayed under several settings of the collector."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..core.errors import KnitPerfError
from ..core.settings import HUNT
from .gc_trial import SettingCost, trial
from .in_process import FIRST_ERROR_STATUS, Application, Request, send

MIN_SAVED_MS = 1.0
"""Pause per request that a setting must save at least to be advised."""
MIN_SAVED_SHARE = 0.1
"""Share of the request's time that it must save at least too."""
WARM_UP_REQUESTS = 20


@dataclass(frozen=True, slots=True)
class Trial:
    """Result of a replay.

    Attributes:
        costs: under each setting, the present one first.
        statuses: number of responses by status.
    """

    costs: list[SettingCost]
    statuses: dict[int, int]


def switch_off() -> None:
    """Disable KnitPerf in an application that this process loads from now on."""
    os.environ[HUNT] = "gc"


def replay(
    application: Application, request: Request, requests: int, advance: Callable[[float], None]
) -> Trial:
    """Serve a request under each setting of the collector.

    Args:
        application: the WSGI application.
        request: to serve.
        requests: of one block.
        advance: called with the progress since its last call, in percent.

    Raises:
        KnitPerfError: the application responds with an error.
    """
    statuses: Counter[int] = Counter()

    def serve() -> None:
        statuses[send(application, request)] += 1

    for _ in range(WARM_UP_REQUESTS):
        serve()
    if max(statuses) >= FIRST_ERROR_STATUS:
        raise KnitPerfError(
            f"{request.url} responds with {max(statuses)}, so there is nothing to measure"
        )
    reported = 0.0

    def on_progress(done: float) -> None:
        nonlocal reported
        advance(100 * done - reported)
        reported = 100 * done

    costs = trial(serve, requests, on_progress=on_progress)
    return Trial(costs, dict(statuses))


def best(costs: Sequence[SettingCost]) -> SettingCost | None:
    """Return the cost under the setting that saves most, ``None`` if none saves a notable part."""
    present = costs[0]
    min_saved_ms = max(MIN_SAVED_MS, MIN_SAVED_SHARE * present.request_ms)
    notable = [cost for cost in costs[1:] if present.pause_ms - cost.pause_ms >= min_saved_ms]
    return min(notable, key=lambda cost: cost.pause_ms, default=None)
