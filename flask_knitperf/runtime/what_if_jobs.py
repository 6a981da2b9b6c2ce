"""Profiled functions as if they were cached. The code that watches them is loaded at the first call."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..core.locks import create_lock
from ..recording.collector import CallWatch
from ..recording.recorder import Recorder

if TYPE_CHECKING:
    from ..caching.call_watches import CallWatches
    from ..caching.load_reads import ReadObserver

PUBLISH_INTERVAL_S = 1.0
"""Seconds between two publications of the counts."""


class WhatIfJobs:
    """Creates the watches of profiled functions, and publishes their counts.

    Args:
        recorder: of the application.
        share: of a function's time that hashing its results may take.
        observer: creates an observer of the reads of request data.
    """

    def __init__(
        self, recorder: Recorder, share: float, observer: Callable[[], ReadObserver]
    ) -> None:  # fmt: skip
        self._recorder, self._share, self._observer = recorder, share, observer
        self._lock = create_lock()
        self._watches: CallWatches | None = None

    def of(self, function: Callable[..., Any], name: str, where: str) -> CallWatch | None:
        """Return the watch of a function, ``None`` if it is not watched."""
        watches = self._watches
        return (self._create() if watches is None else watches).of(function, name, where)

    def _create(self) -> CallWatches:
        from ..caching.call_watches import CallWatches

        with self._lock:
            if self._watches is None:
                watches = CallWatches(self._recorder, self._share, self._observer())
                self._recorder.every(PUBLISH_INTERVAL_S, watches.tick, attached=True)
                self._watches = watches
            return self._watches

    def publish(self) -> None:
        """Publish all counts since the previous publication."""
        if self._watches is not None:
            self._watches.publish()
