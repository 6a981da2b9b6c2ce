"""Taking long-lived objects out of the collector's sight, once a worker is warm.

A full collection walks all that is alive: modules, classes, tables that were loaded at start. None of
that is garbage, and after :func:`gc.freeze` the collector passes it over. What that spares is measured
where it is done: a full collection just before, and one just after.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import NamedTuple

from ...recording.recorder import Recorder

WARM = 200
"""Requests that a worker serves before it is warm,"""
WARM_S = 60.0
"""or seconds after which it counts as warm with fewer."""
_PATIENCE = 30
"""Turns to wait for a moment between requests."""


class Frozen(NamedTuple):
    """What freezing did.

    Attributes:
        objects: that the collector passes over from now on.
        before_ns: what a full collection took just before.
        after_ns: what it took just after.
    """

    objects: int
    before_ns: int
    after_ns: int


def freeze(clock_ns: Callable[[], int]) -> Frozen:
    """Collect, freeze what is left, and collect once more."""
    gc.collect()  # so that no garbage is kept for good
    began = clock_ns()
    gc.collect()
    before = clock_ns() - began
    gc.freeze()
    began = clock_ns()
    gc.collect()
    return Frozen(gc.get_freeze_count(), before, clock_ns() - began)


class Freezer:
    """Freezes each worker once. Its method is the housekeeper's job.

    Args:
        recorder: where it is reported.
        turns: returns how many requests this process began.
    """

    def __init__(self, recorder: Recorder, turns: Callable[[], int]) -> None:
        self._recorder, self._turns = recorder, turns
        self._begin()
        recorder.on_change.append(self._begin)

    def _begin(self) -> None:
        self._done, self._waited = False, 0
        self._since = self._recorder.clock.monotonic_ns()

    def turn(self) -> Frozen | None:
        """Freeze if the worker is warm and rather between two requests; return what that did."""
        recorder = self._recorder
        now = recorder.clock.monotonic_ns()
        if self._done or (self._turns() < WARM and now - self._since < WARM_S * 1e9):
            return None
        if recorder.spans and self._waited < _PATIENCE:
            self._waited += 1
            return None
        self._done = True
        found = freeze(recorder.clock.monotonic_ns)
        worker, at = recorder.worker.name, recorder.clock.wall()
        recorder.note("freeze", worker, at, {"worker": worker, **found._asdict()})
        return found
