"""Endpoints profiled from outside: latency and status of requests that this process sends itself.

The client records like a worker, on a recorder in memory, so that the same report is made of it, with
the same verdicts. Requests are sent one after another: this measures latency without load.
"""

from __future__ import annotations

import json
import numbers
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..collectors.requests.endpoint_series import METHODS
from ..core.clock import SYSTEM, Clock
from ..core.errors import KnitPerfError
from ..core.settings import Settings
from ..metrics.catalogue import KILLED, REQUEST, When
from ..metrics.instruments import OTHER
from ..recording.recorder import Recorder
from ..reports.build import Route, build_report
from ..storage.windows import Window
from .http_client import NoResponseError
from .in_process import Request

if TYPE_CHECKING:
    from ..reports.documents import Report
    from ..reports.documents.report import EndpointRow

_LOG_BYTES = 1 << 16
Send = Callable[[Request], int]


class ClientProfile:
    """Sends requests to endpoints, and reports on them.

    Args:
        send: sends a request and returns the status of its response.
        settings: thresholds of the verdicts.
        clock: time.
    """

    def __init__(self, send: Send, settings: Settings, clock: Clock = SYSTEM) -> None:
        self._send = send
        self._settings = settings
        self._recorder = Recorder(
            lambda: (None, {"pid": clock.pid(), "started": clock.wall()}),
            clock=clock, log_bytes=_LOG_BYTES, threaded=lambda: False,
        )  # fmt: skip
        self._started = clock.wall()
        self._routes: dict[tuple[str, str], None] = {}

    def measure(
        self, path: str, method: str = "GET", samples: int = 10, payload: Any = None
    ) -> EndpointRow:
        """Send requests to an endpoint one after another; return its row of the report.

        Args:
            path: of the endpoint, with its query.
            method: in upper case.
            samples: number of requests; the first is the cold start, kept apart as ``first_ms``.
            payload: JSON body of each request, ``None`` for no body.

        Raises:
            KnitPerfError: an argument is wrong.
            NoResponseError: no request got a response.
        """
        if not isinstance(samples, numbers.Integral):
            raise KnitPerfError(f"samples must be a whole number, not {samples!r}")
        if samples < 1:
            raise KnitPerfError(f"samples must be 1 or more, not {samples!r}")
        if not path.startswith("/"):
            raise KnitPerfError(f"the path must start with /, not {path!r}")
        headers = () if payload is None else (("Content-Type", "application/json"),)
        body = None if payload is None else json.dumps(payload)
        request = Request(path, method, headers, body)
        endpoint = path.partition("?")[0], method if method in METHODS else OTHER
        failure: NoResponseError | None = None
        answered = 0
        for _ in range(samples):
            try:
                self._measure_one(request, endpoint)
                answered += 1
            except NoResponseError as error:
                failure = error
        if failure is not None and not answered:
            raise failure
        [row] = [
            row for row in self.report()["endpoints"] if (row["endpoint"], row["method"]) == endpoint
        ]  # fmt: skip
        return row

    def _measure_one(self, request: Request, endpoint: tuple[str, str]) -> None:
        """Send one request and record its time; one without a response counts as killed."""
        clock, recorder = self._recorder.clock, self._recorder
        when = When.SOLO if endpoint in self._routes else When.FIRST
        started = clock.monotonic_ns()
        try:
            status = self._send(request)
        except NoResponseError:
            age = float(clock.monotonic_ns() - started)
            recorder.record((recorder.series(KILLED, *endpoint), age))
            raise
        took = float(clock.monotonic_ns() - started)
        series = recorder.series(REQUEST, *endpoint, f"{status // 100}xx", when)
        recorder.record((series, took))
        self._routes[endpoint] = None

    def report(self) -> Report:
        """Return the report on all requests that were sent, as of ``/perf/report``."""
        now = self._recorder.clock.wall()
        window = Window("run", self._started, now, "client", None, self._recorder.snapshot())
        routes: list[Route] = [(path, path, (method,)) for path, method in self._routes]
        return build_report(window, self._settings, routes, now)
