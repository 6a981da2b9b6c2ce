"""Series of one endpoint in one worker: the ids under which its requests are recorded.

Ids are looked up once per worker and cached in an :class:`EndpointSeries`; the ids that the fast path
needs are cached in a :class:`RequestSeries`.
"""

from __future__ import annotations

from typing import NamedTuple

from ...metrics.catalogue import JOB_METHOD
from ...metrics.instruments import OTHER, Meter
from ...recording.fastpath import RequestSeriesBase
from ...recording.span import Span
from ...storage.writer import Worker

UNMATCHED = "<unmatched>"
"""Endpoint of requests without a matching route."""
MIDDLEWARE = "<middleware>"
"""Endpoint of requests that a middleware answered by itself."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})
_MAX_IDS = 300
_BODILESS_STATUSES = ("100", "101", "102", "103", "204", "304")

EndpointKey = tuple[str, str]
"""Endpoint and method."""


class EndpointSeries:
    """Series ids of one endpoint and method in one worker.

    Attributes:
        worker: the writer that issued the ids.
        key: endpoint and method, which are the first labels of each series.
        warm: whether the worker has served a request of it.
        ids: cached ids.
    """

    __slots__ = ("ids", "key", "warm", "worker")

    def __init__(self, worker: Worker, endpoint: str, method: str) -> None:
        self.worker = worker
        self.key: EndpointKey = (endpoint, method)
        self.warm = False
        self.ids: dict[tuple[str, ...], int] = {}

    def id(self, meter: Meter, *labels: str) -> int:
        """Return the id of a series.

        Args:
            meter: of the series.
            labels: its labels after endpoint and method.
        """
        key = (meter.name, *labels)
        series = self.ids.get(key)
        if series is None:
            series = self.worker.series(meter, (*self.key, *labels))
            if len(self.ids) < _MAX_IDS:
                self.ids[key] = series
        return series


class RequestFigures(NamedTuple):
    """Measurements of one request other than its wall time.

    Attributes:
        cpu: CPU time in nanoseconds, ``None`` where it was not sampled.
        run_queue: time in the run queue, in nanoseconds.
        gc: garbage collection pauses meanwhile, in nanoseconds.
        first: whether it was the worker's first of its endpoint.
        disconnected: whether the client closed the connection.
    """

    cpu: int | None
    run_queue: int
    gc: int
    first: bool
    disconnected: bool


class RequestSeries(RequestSeriesBase):
    """Series ids of one endpoint, method and status, for the fast path."""

    def __init__(self, worker: Worker, *, bodiless: bool) -> None:
        self._worker = worker
        self.append = worker.quick()
        self.bodiless = bodiless

    def append_to_next_log(self, group: bytes) -> None:
        """Write a group for which the log had no room, and continue in the next log."""
        self._worker.write(group)
        self.append = self._worker.quick()


def is_bodiless(method: str, status: str) -> bool:
    """Return whether a response has no body, by the method and the status line."""
    return method == "HEAD" or status[:3] in _BODILESS_STATUSES


def endpoint_of(span: Span) -> EndpointKey:
    """Return endpoint and method of a running request, as they label its series."""
    method = span.environ.get("REQUEST_METHOD", "GET")
    endpoint = span.endpoint or routed_endpoint(span) or UNMATCHED
    # by identity: a client may send any method
    return endpoint, method if method in METHODS or method is JOB_METHOD else OTHER


def routed_endpoint(span: Span) -> str | None:
    """Return the endpoint of a running request, ``None`` before routing and without a match."""
    request = span.environ.get("werkzeug.request")
    try:
        # past the class that records what a cached function reads while it is loaded: the function
        # does not read this, and its key would get the address
        rule = object.__getattribute__(request, "url_rule")
    except AttributeError:
        return None
    return None if rule is None else span.name_of(rule)
