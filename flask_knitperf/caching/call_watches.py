"""All functions of an application that are watched as if they were cached, and their publication.

A watch of a function lives as long as the wrapper that calls it. Methods of instances share one watch,
whose keys begin with the instance, since a decorator on the method would cache each instance apart. The
housekeeper records the increases of all counts once a second, as :mod:`.publication` does.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from types import MethodType
from typing import Any

from ..core.clock import NS_PER_S
from ..core.locks import create_reentrant_lock
from ..metrics.catalogue import (
    MAX_WATCHED,
    WHAT_IF_CALLS,
    WHAT_IF_COMPARED,
    WHAT_IF_HINDERED,
    WHAT_IF_HIT,
    WHAT_IF_OBSTACLE,
    WHAT_IF_STALE,
    NoDetail,
    WhatIfCalls,
    WhatIfKey,
)
from ..metrics.instruments import Meter
from ..metrics.log_format import Observation, with_total
from ..recording.pacer import Pacer
from ..recording.recorder import Recorder
from .function_watch import FunctionWatch
from .load_reads import ReadObserver
from .observed_call import end_abandoned
from .what_if import TTLS_S, Tally

MAX_KEYS_OF_ALL = 20_000
"""Number of keys of all functions of a process that are judged."""
MAX_SAME = 20
"""Number of functions from one line that are watched: one that each request defines never hits."""
COMPARISONS_S = 3600.0
"""Seconds after which the numbers of compared hits by load begin again."""
TTL_LABELS = tuple(f"{ttl:g}" for ttl in TTLS_S)
"""TTLs as labels of series, in seconds: ``5`` to ``3600``, and ``inf``."""


class CallWatches:
    """Watches of one application in one process after another.

    Args:
        recorder: of the application.
        share: of a function's time that hashing its results may take.
        observer: records the reads of request data.
    """

    def __init__(self, recorder: Recorder, share: float, observer: ReadObserver) -> None:
        self._recorder, self._share, self._observer = recorder, share, observer
        # reentrant: a finalizer of the host, or a signal handler, may close the session meanwhile
        self._lock = create_reentrant_lock()
        self._watches: weakref.WeakSet[FunctionWatch] = weakref.WeakSet()
        self._of_methods: dict[tuple[Any, str], FunctionWatch] = {}
        self._created: Counter[tuple[str, str]] = Counter()
        self._keys = 0
        self._pid = recorder.clock.pid()
        self._publication = Pacer(recorder)
        self._compared_at = recorder.clock.monotonic_ns()
        recorder.on_change.append(self._drop_inherited)

    def of(self, function: Callable[..., Any], name: str, where: str) -> FunctionWatch | None:
        """Return the watch of a function, ``None`` if it is not watched.

        A function that is cached already is not, nor are more than :data:`MAX_WATCHED`.

        Args:
            function: a function or a bound method.
            name: in reports.
            where: its ``file:line``.
        """
        if _is_cached(function):
            return None
        method = function.__func__ if isinstance(function, MethodType) else None
        with self._lock:
            watch = self._of_methods.get((method, name))
            if watch is not None:
                return watch
            if len(self._watches) >= MAX_WATCHED or self._created[name, where] >= MAX_SAME:
                return None
            watch = FunctionWatch(
                function if method is None else method, name, where,
                share=self._share, observer=self._observer, claim_room=self._claim_room,
            )  # fmt: skip
            self._created[name, where] += 1
            if len(self._created) > 10 * MAX_WATCHED:
                self._created.clear()
            self._watches.add(watch)
            if method is not None:
                self._of_methods[method, name] = watch
            return watch

    def _claim_room(self) -> bool:
        if self._keys >= MAX_KEYS_OF_ALL:
            return False
        self._keys += 1  # counted again at each publication
        return True

    # -- publication ---------------------------------------------------------------------------------

    def tick(self) -> None:
        """Publish, unless the latest publication took so long that it has to rest."""
        self._publication.run(self.publish)

    def publish(self) -> None:
        """Record all counts since the previous call; without a writer they wait for the next one."""
        if not self._recorder.has_worker:
            return
        end_abandoned()
        now = self._recorder.clock.monotonic_ns()
        with self._lock:
            observations: list[Observation] = []
            for watch in list(self._watches):
                observations += self._counted(watch)
                watch.tidy(now)
            self._recorder.emit(observations)
            self._keys = sum(len(watch.simulation) for watch in list(self._watches))
            if now - self._compared_at > COMPARISONS_S * NS_PER_S:
                self._compared_at = now
                for watch in list(self._watches):
                    watch.start_comparisons()

    def _counted(self, watch: FunctionWatch) -> Iterator[Observation]:
        """Yield the observations of one function, and note what forbids to cache it."""
        counts, unkeyed, obstacles = watch.take()
        labels, by_kind = (watch.name, watch.where), Counter[str]()
        yield from self._timed(WHAT_IF_CALLS, Tally(unkeyed, 0), *labels, WhatIfCalls.UNKEYED)
        yield from self._timed(WHAT_IF_CALLS, counts.judged, *labels, WhatIfCalls.JUDGED)
        yield from self._timed(WHAT_IF_CALLS, counts.beyond, *labels, WhatIfCalls.BEYOND)
        series = self._recorder.series
        for ttl, row in zip(TTL_LABELS, counts.by_ttl, strict=True):
            yield from self._timed(WHAT_IF_HIT, row.hits, *labels, ttl)
            if row.compared:
                compared = series(WHAT_IF_COMPARED, *labels, ttl)
                yield from with_total(compared, row.compared, row.weight)
            if row.stale:
                yield series(WHAT_IF_STALE, *labels, ttl), row.stale, 1.0
        seconds = (counts.judged.ns + counts.beyond.ns) / NS_PER_S
        for obstacle, calls in obstacles.items():
            key = WhatIfKey(*labels, obstacle.kind, obstacle.reason, obstacle.remedy)
            self._recorder.note(WHAT_IF_OBSTACLE, key, seconds, NoDetail(), calls)
            by_kind[obstacle.kind] = max(calls, by_kind[obstacle.kind])
        for kind, calls in by_kind.items():
            yield series(WHAT_IF_HINDERED, *labels, kind), calls, 1.0

    def _timed(self, meter: Meter, tally: Tally, *labels: str) -> Iterator[Observation]:
        """Yield the observations of some calls."""
        if tally.calls:
            yield from with_total(self._recorder.series(meter, *labels), tally.calls, tally.ns)

    def _drop_inherited(self) -> None:
        """In a forked child, drop what the parent has counted: it publishes that itself."""
        pid = self._recorder.clock.pid()
        if pid != self._pid:
            self._pid = pid
            self._publication.reset()
            for watch in list(self._watches):
                watch.take()


def _is_cached(function: Any) -> bool:
    """Return whether a function, or one that it wraps, is cached."""
    for _ in range(100):  # decorators
        if function is None or hasattr(function, "__knitperf_cache__"):
            break
        function = getattr(function, "__wrapped__", None)
    return function is not None
