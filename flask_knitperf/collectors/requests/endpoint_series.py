"""The series of one endpoint in one worker: what its requests are recorded as.

Ids are looked up once per worker and kept in a :class:`Line`; how a usual request is written down in
one step is kept in a :class:`RequestSeries`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ...metrics.instruments import OTHER, Meter
from ...metrics.log_format import END
from ...recording.fastpath import RequestSeriesBase
from ...recording.span import Span
from ...storage.writer import Worker

UNMATCHED = "<unmatched>"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})
_IDS = 300

EndpointKey = tuple[str, str]
"""Endpoint and method."""


class Line:
    """One endpoint and method in one worker: whether it was seen, and its series ids."""

    __slots__ = ("ids", "labels", "seen", "worker")

    def __init__(self, worker: Worker, endpoint: str, method: str) -> None:
        self.worker = worker
        self.labels = (endpoint, method)
        self.seen = False
        self.ids: dict[Any, int] = {}

    def id(self, meter: Meter, *more: str) -> int:
        """Return the id of one of this endpoint's series."""
        key = (meter.name, *more)
        found = self.ids.get(key)
        if found is None:
            found = self.worker.series(meter, (*self.labels, *more))
            if len(self.ids) < _IDS:
                self.ids[key] = found
        return found


class Figures(NamedTuple):
    """What was measured of one request beside its wall time.

    Attributes:
        cpu: nanoseconds on a core, ``None`` where that was not sampled.
        ready: nanoseconds in which it waited for a core.
        gc: nanoseconds of collections meanwhile.
        first: whether it was its worker's first of its endpoint.
        disconnected: whether its client went away.
    """

    cpu: int | None
    ready: int
    gc: int
    first: bool
    disconnected: bool


class RequestSeries(RequestSeriesBase):
    """How a usual request of one endpoint, method and status is written down, in one step."""

    def __init__(self, worker: Worker, bytes_out: int) -> None:
        self._worker = worker
        self.append = worker.quick()
        self.bytes_out = bytes_out | END

    def append_to_next_log(self, group: bytes) -> None:
        """Write a group that the log had no room for, and go on in the next one."""
        self._worker.write(group)
        self.append = self._worker.quick()


def endpoint_of(span: Span) -> tuple[str, str]:
    """Return endpoint and method of a request that runs, as its series are labelled."""
    method = span.environ.get("REQUEST_METHOD", "GET")
    endpoint = span.endpoint or endpoint_in(span.environ) or UNMATCHED
    return endpoint, method if method in METHODS else OTHER


def endpoint_in(environ: dict[str, Any]) -> str | None:
    """Return the endpoint that a running request was routed to, if it was."""
    request = environ.get("werkzeug.request")
    rule = getattr(request, "url_rule", None)
    return None if rule is None else str(rule.endpoint)
