"""Recording of requests: all observations of one request in one group, when it ends.

This is the slow path; :mod:`...recording.fastpath` records most requests, and chooses of which the CPU
time is measured. What a request has that its endpoint's requests had not before (a status, a pause, a
CPU sample) is recorded here once, and its series are then known to the fast path.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Protocol

from ...metrics.catalogue import (
    BYTES_OUT,
    CONTENTION,
    CONVERSATION,
    CPU,
    FAILURE_STATUSES,
    GC,
    KILLED,
    MIN_QUEUEING_NS,
    NEIGHBOUR,
    PART,
    PART_CPU,
    PART_WALL,
    QUEUEING,
    REQUEST,
    RUN_QUEUE,
    SAMPLED_WALL,
    STREAMED,
    ConversationEnd,
    ConversationKind,
    NeighbourKey,
    NoDetail,
    Queueing,
    StatusClass,
    When,
)
from ...metrics.instruments import OTHER
from ...metrics.log_format import Observation
from ...recording.fastpath import FAST_OFF, SLOW_NS, ProfileBase, end_busy_period
from ...recording.recorder import Recorder
from ...recording.span import Span
from ...storage.writer import Worker
from ..waits.hooks import WAIT_HOOKS
from ..waits.thread_pools import computed_in_pools
from .conversations import Conversations
from .endpoint_series import (
    METHODS,
    UNMATCHED,
    EndpointKey,
    EndpointSeries,
    RequestFigures,
    RequestSeries,
    is_bodiless,
    routed_endpoint,
)
from .in_flight import InFlightMonitor
from .load import Load
from .request_observations import add_body, add_gc, add_parts, add_rows

_MAX_SLOW_PATHS = 512
_MAX_PATH_CHARS = 300
_MIN_WATCHED_REQUESTS, _MAX_WATCHED_REQUESTS = 256, 4096
"""Number of the worker's requests for which a path is watched after a slow request: twice those since
the slow one before, within these limits."""
_MAX_REQUEST_SERIES = 2000
_MAX_FAST_PARTS = 100
"""Number of names of parts on the fast path, for one endpoint, method and status."""
_PREPARE_EVERY = 1024
"""Number of requests of which one at least is prepared, so that a fork unknown to Python is noticed."""
_NEVER = sys.maxsize
_VALID_STATUSES = ("1", "2", "3", "4", "5")  # first digits
_FIRST, _SOLO, _CONCURRENT = (when.value for when in When)


class ExemplarReservoir(Protocol):
    """Receives requests that have just ended; see :mod:`.exemplar_reservoir`."""

    def bounds(self, key: EndpointKey) -> tuple[int, int]:
        """Return from which time on, and above which wall time, a request is retained."""

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
        is_websocket: returns whether an endpoint has a rule with ``websocket=True``.
        long_polls: endpoints that are long polls.

    Attributes:
        endpoints: the series of each endpoint and method.
        load: load of this worker, and our own cost.
        in_flight: monitor of the requests in flight.
        reservoir: retains single requests, if any.
        retained_bytes_meter: measures single requests, if any.
        prepare_every: number of requests of which at least one is prepared (:meth:`prepare`).
    """

    def __init__(
        self, recorder: Recorder, moderate_ns: int, cpu_every: int = 8,
        cost_budget_ns: int = 150_000, is_websocket: Callable[[str], bool] = lambda _: False,
        long_polls: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        self.recorder = recorder
        self._moderate_ns = moderate_ns
        self._cpu_sample = cpu_every
        self.endpoints: dict[EndpointKey, EndpointSeries] = {}
        self.request_series: dict[tuple[str | None, str, str], RequestSeries] = {}
        self._worker: Worker | None = None
        self.slow_urls: dict[str, int] = {}
        self._slow_at: dict[str, int] = {}  # number of the latest slow request of each watched path
        self.load = Load(recorder, cost_budget_ns)
        self._conversations = Conversations(is_websocket, long_polls)
        self.in_flight = InFlightMonitor(
            recorder, self._series_of, self._conversations.in_flight, self
        )
        self._cpu_known = True
        self.reservoir: ExemplarReservoir | None = None
        self.retained_bytes_meter: RetainedBytesMeter | None = None
        self.prepare_every = _PREPARE_EVERY
        self._choose_cpu_every()
        recorder.on_change.append(self._reset)
        recorder.after_response.wake = self.prepare_next

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

    def prepare(self, span: Span) -> None:
        """Prepare a request that the fast path may not suffice for.

        Called for the first request of a process, for every request from number ``prepare_at`` on,
        which is set here, and for those of clients that may see ``Server-Timing``.
        """
        recorder, number = self.recorder, self.requests_started
        worker = recorder.worker
        recorder.start_missing_threads()
        if worker is not self._worker:
            self._use(worker)
        meter = self.retained_bytes_meter
        if meter is not None and number >= meter.due:
            meter.before_request(span, number, solo=not self._is_serving())
        if self._slow_path_needed():
            span.fast = FAST_OFF
        self.prepare_at = self._next_prepared(number)

    def _slow_path_needed(self) -> bool:
        """Return whether a collector is to be notified, or a job waits for the end of a response."""
        return bool(self.recorder.collectors or self.recorder.after_response)

    def _is_serving(self) -> bool:
        return bool(self.recorder.spans or self.recorder.conversations)

    def _next_prepared(self, number: int) -> int:
        """Return the number of the next request to prepare after request ``number``."""
        meter = self.retained_bytes_meter
        # where only jobs have recorded so far, the next request may be the first of a server
        is_due = self._slow_path_needed() or not self.recorder.serving
        latest = number + (1 if is_due else self.prepare_every)
        return latest if meter is None else min(latest, meter.due)

    def prepare_next(self) -> None:
        """Have :meth:`prepare` called before the next request."""
        self.prepare_at = 0

    # -- what is sampled -----------------------------------------------------------------------------

    @property
    def cpu_known(self) -> bool:
        """Whether a thread's clock shows the CPU time of a request."""
        return self._cpu_known

    @cpu_known.setter
    def cpu_known(self, known: bool) -> None:
        self._cpu_known = known
        self._choose_cpu_every()

    def _choose_cpu_every(self) -> None:
        """Sample no CPU time where it is not known, and while measuring costs too much."""
        self.cpu_every = self._cpu_sample if self._cpu_known and not self.load.shed else 0

    # -- at its end ----------------------------------------------------------------------------------

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
        was_counted_busy = span in recorder.spans
        recorder.spans.pop(span, None)
        cpu, run_queue = None, 0
        if span.cpu_began is not None and same_thread:
            cpu = clock.thread_ns() - span.cpu_began
            run_queue = clock.run_queue_ns() - span.run_queue_began
        if span.hook is not None or span.hooks or span.stack:
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
        recorder.conversations.pop(span, None)
        series = self._series_of(span.endpoint or UNMATCHED, method)
        if was_counted_busy and not recorder.spans:
            end_busy_period(self, span.began, wall)
        kind = self._conversations.kind(span)
        if kind is not None:
            self._record_conversation(span, series, kind, killed=killed)
        else:
            self._record_request(span, series, cpu, run_queue, killed=killed,
                                 disconnected=disconnected, streamed=streamed)  # fmt: skip

    def _record_request(
        self, span: Span, series: EndpointSeries, cpu: int | None, run_queue: int, *, killed: bool,
        disconnected: bool, streamed: bool,
    ) -> None:  # fmt: skip
        """Record a request that has ended, and offer it to the reservoir and to the fast path."""
        wall, first = span.wall, not series.warm
        counted = self._count(span, series, killed)
        group = [counted]
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
        self.recorder.emit(group)
        self.recorder.request_finished(span)
        WAIT_HOOKS.install_imported()
        if not killed:
            figures = RequestFigures(cpu, run_queue, min(pause, wall), first, disconnected)
            self._offer(span, series, figures)
            if not first:
                self._enable_fast_path(span, series, counted[0], figures, streamed=streamed)

    def _record_conversation(
        self, span: Span, series: EndpointSeries, kind: ConversationKind, *, killed: bool
    ) -> None:
        """Record a websocket or a long poll: its duration alone."""
        has_failed = killed or span.status[:1] == "5"
        end = ConversationEnd.FAILED if has_failed else ConversationEnd.REGULAR
        group = [(series.id(CONVERSATION, end, kind), 1, float(span.wall))]
        self.in_flight.close(span, group)
        self.recorder.emit(group)
        self.recorder.request_finished(span)

    def abandon(self, span: Span) -> None:
        """End a span of which nothing can be recorded."""
        span.ended = True
        recorder = self.recorder
        recorder.spans.pop(span, None)
        recorder.conversations.pop(span, None)
        if not recorder.spans:
            self.busy_since = 0

    def set_apart(self, span: Span) -> None:
        """Count a request in flight as a conversation: other requests no longer run beside it."""
        recorder = self.recorder
        recorder.conversations[span] = None
        recorder.spans.pop(span, None)
        if span.ended:
            recorder.conversations.pop(span, None)
        elif not recorder.spans:
            age = recorder.clock.monotonic_ns() - span.began
            end_busy_period(self, span.began, age)

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
        series.warm = True
        return series.id(REQUEST, _status_label(span.status), when), 1, float(span.wall)

    def _enable_fast_path(
        self, span: Span, series: EndpointSeries, request: int, figures: RequestFigures, *,
        streamed: bool,
    ) -> None:  # fmt: skip
        """Let the fast path record requests like this one under the ids of this one."""
        endpoint, method = series.key
        if method is OTHER:
            return
        key = (endpoint, method, span.status)
        request_series = self.request_series.get(key)
        if request_series is None:
            if len(self.request_series) >= _MAX_REQUEST_SERIES:
                return
            bodiless = is_bodiless(method, span.status)
            request_series = self.request_series.setdefault(
                key, RequestSeries(series.worker, bodiless=bodiless)
            )
        if span.concurrent:
            request_series.concurrent = request
        else:
            request_series.solo = request
        if not request_series.bodiless:
            request_series.bytes_out = series.id(BYTES_OUT)
            if streamed:
                request_series.streamed = series.id(STREAMED)
        if figures.gc:
            request_series.gc = series.id(GC)
        if figures.cpu is not None:
            if figures.run_queue > 0:
                request_series.run_queue = series.id(RUN_QUEUE)
            request_series.sampled_wall = series.id(SAMPLED_WALL)
            request_series.cpu = series.id(CPU)
        if span.fast and span.parts:
            _enable_parts(request_series, series, span.parts, sampled=figures.cpu is not None)
        bounds = (_NEVER, _NEVER) if self.reservoir is None else self.reservoir.bounds(series.key)
        request_series.detailed_at, request_series.detailed_above = bounds

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
        if wall > MIN_QUEUEING_NS:
            without = float(wall - max(0, run_queue))
            group.append((series.id(QUEUEING, Queueing.INCLUDED), weight, float(wall)))
            group.append((series.id(QUEUEING, Queueing.EXCLUDED), weight, without))
        if span.concurrent and span.process_began:
            others = self.recorder.clock.process_ns() - span.process_began - cpu
            others -= computed_in_pools(span)
            waited = max(0, min(wall - cpu - run_queue, others))
            group.append((series.id(CONTENTION), weight, float(waited)))
            self.load.waited += waited * weight
        self.sampled_ns += wall * weight

    def _on_slow(self, span: Span, series: EndpointSeries) -> None:
        """Watch the path of a slow request, and record which requests ran concurrently."""
        self._watch(span.environ.get("PATH_INFO", ""))
        if span.wall > self._moderate_ns and span.concurrent and not self.load.shed:
            victim = series.key[0]
            for other in list(self.recorder.spans):
                culprit = routed_endpoint(other)
                overlap = min(span.wall, self.recorder.clock.monotonic_ns() - other.began)
                if culprit is not None and culprit != victim:
                    key = NeighbourKey(victim, culprit)
                    self.recorder.note(NEIGHBOUR, key, overlap, NoDetail())

    def _watch(self, path: str) -> None:
        """Watch a path; if there are too many, only after those no longer watched are removed."""
        if path not in self.slow_urls and len(self.slow_urls) >= _MAX_SLOW_PATHS:
            oldest = self.requests_started - _MAX_WATCHED_REQUESTS
            self._slow_at = {
                known: at for known, at in self._slow_at.copy().items() if at >= oldest
            }
            self.slow_urls = {
                known: until for known, until in self.slow_urls.copy().items()
                if known in self._slow_at
            }  # fmt: skip
            if len(self.slow_urls) >= _MAX_SLOW_PATHS:
                return
        if len(path) <= _MAX_PATH_CHARS:
            now, before = self.requests_started, self._slow_at.get(path)
            gap = 0 if before is None or now - before > _MAX_WATCHED_REQUESTS else now - before
            self._slow_at[path] = now
            self.slow_urls[path] = now + min(
                max(2 * gap, _MIN_WATCHED_REQUESTS), _MAX_WATCHED_REQUESTS
            )

    # -- load ----------------------------------------------------------------------------------------

    def record_cost(self, took_ns: int) -> None:
        """Add our own cost of one request, in nanoseconds; a sample of the requests is timed."""
        self.load.add_cost(took_ns)

    def record_load(self) -> None:
        """Record the load of this worker, and our own cost (a job of the housekeeper)."""
        now = self.recorder.clock.monotonic_ns()
        in_flight = list(self.recorder.spans)
        since = self.busy_since or (in_flight[0].began if in_flight else now)
        busy_ns = self.busy_ns + max(0, now - since)
        self.load.record(now, busy_ns, self.sampled_ns, self.requests_started)
        self._choose_cpu_every()


def _status_label(status: str) -> str:
    """Return the label of a status line: the class of its status, of a failure the exact status."""
    code, class_ = status[:3], status[:1]
    if code in FAILURE_STATUSES:
        return code
    # RFC 9110, 15: an invalid status is to be processed as one of 500 and above
    return f"{class_}xx" if class_ in _VALID_STATUSES else StatusClass.SERVER_ERROR


def _enable_parts(
    request_series: RequestSeries, series: EndpointSeries, parts: Iterable[str], *, sampled: bool
) -> None:
    """Let the fast path record parts; those of CPU samples only once there was one."""
    known = request_series.parts or {}
    new = {
        name: (
            series.id(PART, name),
            series.id(PART_WALL, name) if sampled else 0,
            series.id(PART_CPU, name) if sampled else 0,
        )
        for name in parts
        if name not in known or (sampled and not known[name][1])
    }
    if new and len(known) + len(new) <= _MAX_FAST_PARTS:
        request_series.parts = {**known, **new}  # replaced: other threads may read the old one
