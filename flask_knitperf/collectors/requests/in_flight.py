"""Requests in flight: their number per endpoint, and a start record for each long one.

A request that ends writes its own record. One whose worker is killed cannot; so a request in flight for
over a second has a start record written, and a reader counts it as killed where no end follows.

A request that only the table of those in flight still refers to can never end (a server dropped its
response without closing it). It is removed once it is older than any server's timeout, and counted among
what was dropped.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable
from typing import Protocol

from ...core.locks import create_lock
from ...metrics.catalogue import IN_FLIGHT, STARTED, ConversationKind
from ...metrics.log_format import Observation
from ...recording.recorder import Recorder
from ...recording.span import Span
from .endpoint_series import UNMATCHED, EndpointKey, EndpointSeries, routed_endpoint

OPEN_AFTER_NS = 1_000_000_000
"""Age of a request at which its start record is written."""
LOST_AFTER_NS = 600_000_000_000
"""Age of a request from which it is removed if nothing refers to it any more."""
_MIN_WALL_NS = 800_000_000
"""Wall time below which a request certainly has no start record."""
_LOST = "requests without an end"


class _Profile(Protocol):
    def set_apart(self, span: Span) -> None:
        """Count a request in flight as a conversation."""

    def abandon(self, span: Span) -> None:
        """End a span of which nothing can be recorded."""


class InFlightMonitor:
    """Records the requests in flight. :meth:`tick` is a job of the housekeeper.

    Args:
        recorder: whose requests in flight are recorded.
        series_of: returns the series of an endpoint and a method.
        conversation: returns the kind of conversation that a request in flight is, if any.
        profile: keeps account of the requests.
    """

    def __init__(
        self,
        recorder: Recorder,
        series_of: Callable[[str, str], EndpointSeries],
        conversation: Callable[[Span], ConversationKind | None],
        profile: _Profile,
    ) -> None:
        self._recorder = recorder
        self._series_of = series_of
        self._conversation = conversation
        self._profile = profile
        self._lock = create_lock()  # start records are written in one thread, their ends in another
        self._tokens = itertools.count(1)
        self._published: dict[EndpointKey, int] = {}  # endpoints whose gauge is not 0
        recorder.on_change.append(self._published.clear)

    def tick(self) -> None:
        """Write due start records, and the number of requests in flight per endpoint."""
        recorder = self._recorder
        now = recorder.clock.monotonic_ns()
        self._remove_lost(now)
        counts = dict.fromkeys(self._published, 0)
        for span in (*recorder.conversations.copy(), *recorder.spans.copy()):
            age = now - span.began
            endpoint = span.endpoint or routed_endpoint(span)
            if endpoint is None and age < OPEN_AFTER_NS:
                continue  # not routed yet
            method = span.environ.get("REQUEST_METHOD", "GET")
            series = self._series_of(endpoint or UNMATCHED, method)
            counts[series.key] = counts.get(series.key, 0) + 1
            if span in recorder.conversations:
                continue
            if self._conversation(span) is not None:
                self._profile.set_apart(span)
            elif span.start_record is None and age > OPEN_AFTER_NS:
                self._open(span, series, age)
        for key, count in counts.items():
            recorder.emit([(self._series_of(*key).id(IN_FLIGHT), 1, float(count))])
        self._published.clear()
        self._published.update((key, count) for key, count in counts.items() if count)

    def _remove_lost(self, now: int) -> None:
        """Remove requests that are old and that nothing refers to."""
        recorder = self._recorder
        for table in (recorder.spans, recorder.conversations):
            old = [span for span in table.copy() if now - span.began > LOST_AFTER_NS]
            for span in _unreferenced(old, recorder.span_holders) if old else ():
                self._profile.abandon(span)
                if span.start_record is not None:
                    recorder.emit([span.start_record])
                dropped = recorder.worker.dropped
                dropped[_LOST] = dropped.get(_LOST, 0) + 1

    def _open(self, span: Span, endpoint: EndpointSeries, age: int) -> None:
        began = self._recorder.clock.monotonic_ns() / 1e9 - age / 1e9
        with self._lock:
            if not span.ended:
                series, token = endpoint.id(STARTED), next(self._tokens)
                self._recorder.emit([(series, token, began)])
                span.start_record = (series, token, -began)

    def close(self, span: Span, group: list[Observation]) -> None:
        """Add the counterpart of a request's start record to its observations, if there is one."""
        if span.wall > _MIN_WALL_NS:
            with self._lock:
                if span.start_record is not None:
                    group.append(span.start_record)


def _unreferenced(spans: list[Span], holders: Iterable[Callable[[Span], bool]]) -> list[Span]:
    """Return the requests that are referred to by the table of those in flight, and holders, only."""
    reference = object()
    table = {reference: None}
    *counts, expected = (sys.getrefcount(key) for key in (*spans, *table))
    known = [sum(holds(span) for holds in holders) for span in spans]
    # the reference is in a table and a variable, a span in a table and the list of spans
    return [
        span for span, count, kept in zip(spans, counts, known, strict=True)
        if count - kept <= expected
    ]  # fmt: skip
