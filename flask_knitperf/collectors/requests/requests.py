"""Recording of requests: all observations of one request in one group, when it ends.

CPU time is sampled: for the first requests of a worker, then for one in many, and for each slow request
on a path that was slow in its latest requests (a *watched* path). The choice is made before the request
runs, and each sample carries the number of requests that it stands for as its weight, so sums are
unbiased. On a watched path the clocks are read before every request, and the weight depends on how long
it took: a slow one stands for itself, a fast one for the many, if it was chosen as one of them. So the
fast requests of a watched path stay on the fast path.
"""

from __future__ import annotations

import sys
from typing import Protocol

from ...metrics.catalogue import (
    BYTES_OUT,
    CONTENTION,
    CPU,
    KILLED,
    NEIGHBOUR,
    REQUEST,
    RUN_QUEUE,
    SAMPLED_WALL,
    NeighbourKey,
    NoDetail,
    When,
)
from ...metrics.instruments import OTHER
from ...metrics.log_format import Observation
from ...recording.fastpath import FAST_OFF, FAST_TIMED, SLOW_NS, ProfileBase
from ...recording.recorder import Recorder
from ...recording.span import Span
from ...storage.writer import Worker
from .endpoint_series import (
    METHODS,
    UNMATCHED,
    EndpointKey,
    EndpointSeries,
    RequestFigures,
    RequestSeries,
    routed_endpoint,
)
from .in_flight import InFlightMonitor
from .load import Load
from .request_observations import add_body, add_gc, add_parts, add_rows

_MAX_SLOW_PATHS = 512
_MAX_PATH_CHARS = 300
_WATCHED_REQUESTS = 256
"""Number of requests for which a path is watched after its latest slow request."""
_MAX_REQUEST_SERIES = 2000
_WARM_UP_REQUESTS = 256
"""Number of a worker's first requests that are all sampled."""
_COST_STRIDE = 64
"""The cost of one request in this many is timed."""
_COST_OFFSET = 3
"""Remainder that chooses those requests; none of them has its CPU time sampled."""
_NEVER = sys.maxsize
_FIRST, _SOLO, _CONCURRENT = (when.value for when in When)


class ExemplarReservoir(Protocol):
    """Receives requests that have just ended; see :mod:`.exemplar_reservoir`."""

    def offer(self, span: Span, series: EndpointSeries, figures: RequestFigures) -> None:
        """Retain a request, if it qualifies."""


class RetainedBytesMeter(Protocol):
    """Takes readings between requests; see :mod:`..memory.retained_bytes`.

    Attributes:
        due: number of the request from which on :meth:`before_request` is to be called.
        measured: the request being measured, of which nothing may be stored.
    """

    due: int
    measured: Span | None

    def before_request(self, span: Span, number: int, *, solo: bool) -> None:
        """Take a reading before a request starts, if one is due."""

    def invalidate(self) -> None:
        """Discard the pair being measured: something else was served."""


class RequestProfile(ProfileBase):
    """Turns spans into observations.

    Args:
        recorder: receives the observations.
        moderate_ns: wall time above which a request has its concurrent requests recorded.
        cpu_every: number of requests that one CPU sample stands for in a warm worker.
        cost_budget_ns: own cost per request above which detail is shed.

    Attributes:
        endpoints: the series of each endpoint and method.
        load: load of this worker, and our own cost.
        in_flight: monitor of the requests in flight.
        cpu_known: whether a thread's clock shows the CPU time of a request.
        reservoir: retains single requests, if any.
        retained_bytes_meter: measures single requests, if any.
        prepare_always: whether to call :meth:`prepare` before every request.
    """

    def __init__(
        self, recorder: Recorder, moderate_ns: int, cpu_every: int = 8,
        cost_budget_ns: int = 150_000,
    ) -> None:  # fmt: skip
        self.recorder = recorder
        self._moderate_ns = moderate_ns
        self._cpu_every = cpu_every
        self.endpoints: dict[EndpointKey, EndpointSeries] = {}
        self.request_series: dict[tuple[str | None, str, str], RequestSeries] = {}
        self._worker: Worker | None = None
        self.slow_urls: dict[str, int] = {}  # with the number of requests for which each is slow
        self._busy_since = 0
        self.load = Load(recorder, cost_budget_ns)
        self.in_flight = InFlightMonitor(recorder, self._series_of)
        self.cpu_known = True
        self.reservoir: ExemplarReservoir | None = None
        self.retained_bytes_meter: RetainedBytesMeter | None = None
        self.prepare_always = False
        recorder.on_change.append(self._reset)

    def _reset(self) -> None:
        """Forget the series of a writer that is gone, and prepare the next request."""
        self._use(None)
        self.prepare_at = 0

    def _use(self, worker: Worker | None) -> None:
        """Start caches of the series of a writer."""
        self.endpoints, self.request_series, self._worker = {}, {}, worker

    def _series_of(self, endpoint: str, method: str) -> EndpointSeries:
        """Return the series of an endpoint and a method in this process."""
        worker = self.recorder.worker
        if worker is not self._worker:
            self._use(worker)
        if method not in METHODS:
            method = OTHER
        series = self.endpoints.get((endpoint, method))
        if series is None:
            series = EndpointSeries(worker, endpoint, method)
            series = self.endpoints.setdefault((endpoint, method), series)
        return series

    # -- before a request ----------------------------------------------------------------------------

    def prepare(self, span: Span, path: str) -> None:
        """Prepare a request that the fast path may not suffice for.

        Called when other requests are in flight, on a slow path, and for every request from number
        ``prepare_at`` on, which is set here.
        """
        recorder, number = self.recorder, self.requests_started
        worker = recorder.worker
        if worker is not self._worker:
            self._use(worker)
        meter = self.retained_bytes_meter
        if meter is not None and number >= meter.due:
            meter.before_request(span, number, solo=not recorder.spans)
        if recorder.spans:
            self._mark_concurrent(span)
        if number % _COST_STRIDE == _COST_OFFSET:
            span.fast = FAST_TIMED
        if recorder.collectors:  # each is notified on the slow path
            span.fast = FAST_OFF
        self.prepare_at = self._next_prepared(number)
        watched = path in self.slow_urls
        if watched:
            self._count_down(path)
        weight = 0  # number of requests that this one was chosen to stand for
        if number <= _WARM_UP_REQUESTS:
            weight = 1
        elif number % self._cpu_every == 0:
            weight = self._cpu_every
        if (weight or watched) and self.cpu_known and not self.load.shed:
            if weight:
                span.fast = FAST_OFF
            span.weight = -weight if watched else weight
            span.run_queue_began = recorder.clock.run_queue_ns()
            span.cpu_began = recorder.clock.thread_ns()

    def _count_down(self, path: str) -> None:
        """Count down the requests for which a path is watched."""
        requests_left = self.slow_urls.get(path, 0) - 1
        if requests_left > 0:
            self.slow_urls[path] = requests_left
        else:
            self.slow_urls.pop(path, None)

    def _next_prepared(self, number: int) -> int:
        """Return the number of the next request to prepare after request ``number``."""
        if number < _WARM_UP_REQUESTS or self.prepare_always or self.recorder.collectors:
            return number + 1
        every, stride, offset = self._cpu_every, _COST_STRIDE, _COST_OFFSET
        meter = self.retained_bytes_meter
        return min(
            number // every * every + every,
            (number - offset) // stride * stride + stride + offset,
            _NEVER if meter is None else meter.due,
        )

    def prepare_next(self) -> None:
        """Have :meth:`prepare` called before the next request."""
        self.prepare_at = 0

    def _mark_concurrent(self, span: Span) -> None:
        """Mark this span and all running spans as concurrent."""
        span.concurrent = True
        others = list(self.recorder.spans)
        for other in others:
            other.concurrent = True
        if not self._busy_since and others:
            self._busy_since = min(other.began for other in others)
        span.process_began = self.recorder.clock.process_ns()

    # -- at its end ----------------------------------------------------------------------------------

    def end_busy_period(self, span: Span, wall: int) -> None:
        """Account for a period with requests in flight, when the last of them ends."""
        since, self._busy_since = self._busy_since, 0
        self.busy_ns += max(0, span.began + wall - since) if since else wall

    def finish(self, span: Span, method: str, *, killed: bool = False, disconnected: bool = False,
               same_thread: bool = True, streamed: bool = False) -> None:  # fmt: skip
        """End a span, once, and record its observations.

        Args:
            span: the request.
            method: its method.
            killed: whether its worker is ending.
            disconnected: whether the client closed the connection.
            same_thread: whether the clock of this thread is that of the request.
            streamed: whether its body was streamed.
        """
        recorder, clock = self.recorder, self.recorder.clock
        now = clock.monotonic_ns()
        if span.ended:
            return
        recorder.spans.pop(span, None)
        cpu, run_queue = None, 0
        if span.cpu_began is not None and same_thread:
            cpu = clock.thread_ns() - span.cpu_began
            run_queue = clock.run_queue_ns() - span.run_queue_began
        if span.stack:
            span.close_all(now, None if cpu is None else clock.runnable_ns())
        span.finish()
        wall = span.wall = max(0, now - span.began)
        if span.weight <= 0:  # on a watched path
            span.weight = 1 if wall > SLOW_NS else -span.weight
            if not span.weight:
                cpu = span.cpu_began = None
        if cpu is not None:
            span.runnable_ns = min(wall, cpu + max(0, run_queue))
        span.ended = True
        series = self._series_of(span.endpoint or UNMATCHED, method)
        first = not series.warm
        group = [self._count(span, series, killed)]
        add_body(span, series, group, disconnected=disconnected, streamed=streamed)
        pause = add_gc(span, series, group)
        if cpu is not None:
            self._add_cpu(span, series, group, min(cpu, wall), run_queue)
        if span.parts:
            add_parts(span, series, group)
        if not first:
            add_rows(span, series, group)
        if wall > SLOW_NS:
            self._on_slow(span, series)
            self.in_flight.close(span, group)
        if not recorder.spans:
            self.end_busy_period(span, wall)
        recorder.emit(group)
        recorder.request_finished(span)
        if not killed:
            figures = RequestFigures(cpu, run_queue, min(pause, wall), first, disconnected)
            self._offer(span, series, figures)

    def _offer(self, span: Span, series: EndpointSeries, figures: RequestFigures) -> None:
        """Offer a request to the reservoir; one failure switches the reservoir off."""
        meter = self.retained_bytes_meter
        if self.reservoir is None or (meter is not None and meter.measured is span):
            return
        try:
            self.reservoir.offer(span, series, figures)
        except Exception as error:
            self.reservoir = None
            self.recorder.failed("single requests", error)
            self.recorder.worker.degraded["requests"] = f"single requests are not kept: {error!r}"

    def _count(self, span: Span, series: EndpointSeries, killed: bool) -> Observation:
        """Return the observation that counts a request."""
        if killed:
            return series.id(KILLED), 1, float(span.wall)
        when = (_CONCURRENT if span.concurrent else _SOLO) if series.warm else _FIRST
        request = series.id(REQUEST, f"{span.status[:1] or '5'}xx", when)
        if series.warm:
            self._enable_fast_path(span, series, request)
        series.warm = True
        return request, 1, float(span.wall)

    def _enable_fast_path(self, span: Span, series: EndpointSeries, request: int) -> None:
        """Let the fast path record the next request like this one under the id of this one."""
        endpoint, method = series.key
        if method == "HEAD" or method is OTHER or span.status[:3] in ("204", "304"):
            return
        key = (endpoint, method, span.status)
        request_series = self.request_series.get(key)
        if request_series is None:
            if len(self.request_series) >= _MAX_REQUEST_SERIES:
                return
            request_series = self.request_series.setdefault(
                key, RequestSeries(series.worker, series.id(BYTES_OUT))
            )
        if span.concurrent:
            request_series.concurrent = request
        else:
            request_series.solo = request

    def _add_cpu(
        self, span: Span, series: EndpointSeries, group: list[Observation], cpu: int, run_queue: int
    ) -> None:
        """Add the CPU, run-queue and contention time of a sampled request."""
        weight, wall = span.weight, span.wall
        run_queue = min(run_queue, wall - cpu)
        if run_queue > 0:
            group.append((series.id(RUN_QUEUE), weight, float(run_queue)))
        group.append((series.id(CPU), weight, float(cpu)))
        group.append((series.id(SAMPLED_WALL), weight, float(wall)))
        if span.concurrent and span.process_began:
            others = self.recorder.clock.process_ns() - span.process_began - cpu
            waited = max(0, min(wall - cpu - run_queue, others))
            group.append((series.id(CONTENTION), weight, float(waited)))
            self.load.waited += waited * weight
        self.load.sampled += wall * weight

    def _on_slow(self, span: Span, series: EndpointSeries) -> None:
        """Watch the path of a slow request, and record which requests ran concurrently."""
        path = span.environ.get("PATH_INFO", "")
        room = path in self.slow_urls or len(self.slow_urls) < _MAX_SLOW_PATHS
        if room and len(path) <= _MAX_PATH_CHARS:
            self.slow_urls[path] = _WATCHED_REQUESTS
        if span.wall > self._moderate_ns and span.concurrent and not self.load.shed:
            victim = series.key[0]
            for other in list(self.recorder.spans):
                culprit = routed_endpoint(other.environ)
                overlap = min(span.wall, self.recorder.clock.monotonic_ns() - other.began)
                if culprit is not None and culprit != victim:
                    key = NeighbourKey(victim, culprit)
                    self.recorder.note(NEIGHBOUR, key, overlap, NoDetail())

    # -- load ----------------------------------------------------------------------------------------

    def record_cost(self, took_ns: int) -> None:
        """Add our own cost of one request, in nanoseconds; a sample of the requests is timed."""
        self.load.add_cost(took_ns)

    def record_load(self) -> None:
        """Record the load of this worker, and our own cost (a job of the housekeeper)."""
        now = self.recorder.clock.monotonic_ns()
        in_flight = list(self.recorder.spans)
        since = self._busy_since or (in_flight[0].began if in_flight else now)
        self.load.record(now, self.busy_ns + max(0, now - since))
