"""Freezing the long-lived objects of a warm worker, so that the garbage collector skips them.

A full collection walks every object that is alive: modules, classes, tables loaded at startup. None of
them is garbage, and after :func:`gc.freeze` the collector passes them over. The saving is measured on
the spot, as the time of one full collection just before and of one just after. Collections finalize
objects of the host, so they run in the thread of a request (:mod:`...recording.after_response`).
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import NamedTuple

from ...metrics.catalogue import FREEZE, FreezeDetail, FreezeKey
from ...recording.recorder import Recorder

WARM_REQUESTS = 200
"""Number of requests after which a worker counts as warm."""
WARM_S = 60.0
"""Seconds after which a worker with fewer requests counts as warm."""
_PATIENCE_S = 30.0
"""Seconds to wait for a moment without a request in flight."""


class FreezeResult(NamedTuple):
    """Outcome of one freeze.

    Attributes:
        objects: number of objects that the collector skips from now on.
        before_ns: duration of a full collection just before.
        after_ns: duration of a full collection just after.
    """

    objects: int
    before_ns: int
    after_ns: int


def freeze(clock_ns: Callable[[], int]) -> FreezeResult:
    """Collect, freeze the objects that remain, and collect once more."""
    gc.collect()  # garbage that is frozen would never be freed
    started = clock_ns()
    gc.collect()
    before = clock_ns() - started
    gc.freeze()
    started = clock_ns()
    gc.collect()
    return FreezeResult(gc.get_freeze_count(), before, clock_ns() - started)


class Freezer:
    """Freezes each worker once. :meth:`tick` is a job of the housekeeper.

    Args:
        recorder: receives the result as evidence.
        request_count: returns the number of requests that this process has started.
    """

    def __init__(self, recorder: Recorder, request_count: Callable[[], int]) -> None:
        self._recorder, self._request_count = recorder, request_count
        self._reset()
        recorder.on_change.append(self._reset)

    def _reset(self) -> None:
        self._done = False
        self._started_ns = self._recorder.clock.monotonic_ns()

    def tick(self) -> None:
        """Freeze after a response, once the worker is warm."""
        recorder = self._recorder
        age_ns = recorder.clock.monotonic_ns() - self._started_ns
        warm = self._request_count() >= WARM_REQUESTS or age_ns >= WARM_S * 1e9
        if warm and not self._done:
            recorder.after_response.add(self._freeze, _PATIENCE_S)

    def _freeze(self) -> None:
        recorder, self._done = self._recorder, True
        result = freeze(recorder.clock.monotonic_ns)
        detail = FreezeDetail(
            objects=result.objects, before_ns=result.before_ns, after_ns=result.after_ns
        )
        recorder.note(FREEZE, FreezeKey(recorder.worker.name), recorder.clock.wall(), detail)
