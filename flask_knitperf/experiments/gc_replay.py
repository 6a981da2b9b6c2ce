"""Cost of garbage collection for one address: a GET replayed under several settings of the collector."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..core.errors import KnitPerfError
from ..core.settings import HUNT
from .gc_trial import Tried, trial
from .in_process import Application, Request, send

MIN_SAVED_MS = 1.0
"""Least pause per request that a setting must save to be advised."""
MIN_SAVED_SHARE = 0.1
"""Least share of the request's time that it must save as well."""
_WARM_UP_REQUESTS = 20
_FROM_ERRORS = 400


@dataclass(frozen=True, slots=True)
class Trial:
    """Result of a replay.

    Attributes:
        tried: cost under each setting, the present one first.
        statuses: number of responses by status.
    """

    tried: list[Tried]
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

    for _ in range(_WARM_UP_REQUESTS):
        serve()
    if max(statuses) >= _FROM_ERRORS:
        raise KnitPerfError(
            f"{request.url} responds with {max(statuses)}, so there is nothing to measure"
        )
    reported = 0.0

    def on_progress(done: float) -> None:
        nonlocal reported
        advance(100 * done - reported)
        reported = 100 * done

    tried = trial(serve, requests, tell=on_progress)
    return Trial(tried, dict(statuses))


def best(tried: Sequence[Tried]) -> Tried | None:
    """Return the setting that saves most, ``None`` where none saves a notable part."""
    now = tried[0]
    least = max(MIN_SAVED_MS, MIN_SAVED_SHARE * now.request_ms)
    notable = [one for one in tried[1:] if now.pause_ms - one.pause_ms >= least]
    return min(notable, key=lambda one: one.pause_ms, default=None)
