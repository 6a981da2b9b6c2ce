"""Requests in flight: their number per endpoint, and a start record for each long one.

A request that ends writes its own record. One whose worker is killed cannot; so a request in flight for
over a second has a start record written, and a reader counts it as killed where no end follows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from ...core.locks import Lock
from ...metrics.catalogue import IN_FLIGHT, STARTED
from ...metrics.log_format import Observation
from ...recording.recorder import Recorder
from ...recording.span import Span
from .endpoint_series import UNMATCHED, EndpointKey, EndpointSeries, routed_endpoint

OPEN_AFTER_NS = 1_000_000_000
"""Age of a request at which its start record is written."""
_MIN_WALL_NS = 800_000_000
"""Wall time below which a request certainly has no start record."""


class InFlightMonitor:
    """Records the requests in flight. :meth:`tick` is a job of the housekeeper.

    Args:
        recorder: whose requests in flight are recorded.
        series_of: returns the series of an endpoint and a method.
    """

    def __init__(self, recorder: Recorder, series_of: Callable[[str, str], EndpointSeries]) -> None:
        self._recorder = recorder
        self._series_of = series_of
        self._lock = Lock()  # start records are written in one thread, their ends in another
        self._tokens = itertools.count(1)
        self._published: dict[EndpointKey, int] = {}  # endpoints whose gauge is not 0
        recorder.on_change.append(self._published.clear)

    def tick(self) -> None:
        """Write due start records, and the number of requests in flight per endpoint."""
        recorder = self._recorder
        now = recorder.clock.monotonic_ns()
        counts = dict.fromkeys(self._published, 0)
        for span in list(recorder.spans):
            age = now - span.began
            endpoint = span.endpoint or routed_endpoint(span.environ)
            if endpoint is None and age < OPEN_AFTER_NS:
                continue  # not routed yet
            method = span.environ.get("REQUEST_METHOD", "GET")
            series = self._series_of(endpoint or UNMATCHED, method)
            counts[series.key] = counts.get(series.key, 0) + 1
            if span.start_record is None and age > OPEN_AFTER_NS:
                self._open(span, series, age)
        for key, count in counts.items():
            recorder.emit([(self._series_of(*key).id(IN_FLIGHT), 1, float(count))])
        self._published.clear()
        self._published.update((key, count) for key, count in counts.items() if count)

    def _open(self, span: Span, endpoint: EndpointSeries, age: int) -> None:
        began = self._recorder.clock.wall() - age / 1e9
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
