"""What is recorded of a request: all of it in one group, when the request ends.

CPU time is read for the first requests of a worker, then for one in many, and for all on a path that was
slow within its last requests; the choice is made before the request runs and each sample weighs what it
stands for, so sums are unbiased.
"""

from __future__ import annotations

import itertools
import math
import sys
from typing import Any, Protocol

from ...core.locks import Lock
from ...metrics.catalogue import (
    BY_ROWS,
    BYTES_OUT,
    CONTENTION,
    CPU,
    DISCONNECTED,
    GC,
    GC_OWN,
    IN_FLIGHT,
    KILLED,
    NEIGHBOUR,
    PART,
    PART_CPU,
    PART_WALL,
    QUEUE,
    REQUEST,
    ROWS,
    RUN_QUEUE,
    SAMPLED_WALL,
    STARTED,
    STREAMED,
    NeighbourKey,
    NoDetail,
    When,
)
from ...metrics.instruments import OTHER
from ...recording.fastpath import FAST_OFF, FAST_TIMED, SLOW_NS, ProfileBase
from ...recording.gc_pauses import WATCH, WORTH_KEEPING_NS
from ...recording.recorder import Recorder
from ...recording.span import Span
from ...storage.writer import Worker
from .endpoint_series import METHODS, UNMATCHED, Figures, Line, RequestSeries, endpoint_in
from .load import Load

_NOTE_NS = 1_000_000_000
_PATHS = 512
_KEPT_SLOW = 256
_PATH_CHARS = 300
_PLANS = 2000
_TIMED = 3  # of 64 requests: one whose CPU is not sampled
_EVERY_REQUEST = 256
_NEVER = sys.maxsize
_FIRST, _SOLO, _CONCURRENT = (when.value for when in When)


class ExemplarReservoir(Protocol):
    """Takes requests that have just ended; see :mod:`.exemplar_reservoir`."""

    def ended(self, span: Span, line: Line, figures: Figures) -> None:
        """Keep a request, if it is worth it."""


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
        recorder: where they go.
        moderate_ns: requests above it keep evidence on their neighbours.
        cpu_every: how many requests one CPU sample stands for once a worker is warm.
        cost_budget_ns: own cost per request above which detail is left out.

    Attributes:
        load: how busy this worker is, and what measuring costs.
        cpu_known: whether a thread's clock tells the CPU time of a request.
        reservoir: keeps single requests, if any.
        retained_bytes_meter: measures single requests, if any.
        always: whether to look around before every request.
    """

    def __init__(
        self, recorder: Recorder, moderate_ns: int, cpu_every: int = 8,
        cost_budget_ns: int = 150_000,
    ) -> None:  # fmt: skip
        self.recorder = recorder
        self._moderate = moderate_ns
        self._every = cpu_every
        self.lines: dict[tuple[str | None, str], Line] = {}
        self.request_series: dict[tuple[str | None, str, str], RequestSeries] = {}
        self._worker: Worker | None = None
        self.slow_urls: dict[str, int] = {}  # and how many more requests on each are sampled
        self._tokens = itertools.count(1)
        self._noting = Lock()
        self._busy_since = 0
        self.load = Load(recorder, cost_budget_ns)
        self.cpu_known = True
        self.reservoir: ExemplarReservoir | None = None
        self.retained_bytes_meter: RetainedBytesMeter | None = None
        self.always = False
        recorder.on_change.append(self._restart)

    def _restart(self) -> None:
        """Forget what belonged to a writer that is gone; the next request looks around."""
        self._use(None)
        self.prepare_at = 0

    def _use(self, worker: Worker | None) -> None:
        """Have what is looked up belong to a writer."""
        self.lines, self.request_series, self._worker = {}, {}, worker

    def begin(self, span: Span, path: str) -> None:
        """Look around before a request that may be special, and take it on.

        Called when others are in flight, on a path that was slow, and at every turn from
        ``prepare_at`` on; the next such turn is set here.
        """
        recorder, turn = self.recorder, self.requests_started
        worker = recorder.worker
        if worker is not self._worker:
            self._use(worker)
        if self.retained_bytes_meter is not None and turn >= self.retained_bytes_meter.due:
            self.retained_bytes_meter.before_request(span, turn, solo=not recorder.spans)
        if recorder.spans:
            self._crowded(span)
        sampled = turn <= _EVERY_REQUEST or turn % self._every == 0 or path in self.slow_urls
        if turn & 63 == _TIMED:
            span.fast = FAST_TIMED
        self.prepare_at = turn + 1 if turn < _EVERY_REQUEST or self.always else min(
            turn // self._every * self._every + self._every,
            (turn - _TIMED) // 64 * 64 + 64 + _TIMED,
            _NEVER if self.retained_bytes_meter is None else self.retained_bytes_meter.due,
        )  # fmt: skip
        if sampled and self.cpu_known and not self.load.shed:
            known = turn <= _EVERY_REQUEST or path in self.slow_urls
            span.weight = 1 if known else self._every
            span.fast = FAST_OFF
            span.run_queue_began = recorder.clock.run_queue_ns()
            span.cpu_began = recorder.clock.thread_ns()

    def _crowded(self, span: Span) -> None:
        """Note that a span runs beside others, and they beside it."""
        span.concurrent = True
        others = list(self.recorder.spans)
        for other in others:
            other.concurrent = True
        if not self._busy_since and others:
            self._busy_since = min(other.began for other in others)
        span.process_began = self.recorder.clock.process_ns()

    def look_at_next(self) -> None:
        """Have :meth:`begin` look around before the next request."""
        self.prepare_at = 0

    def end_busy_period(self, span: Span, wall: int) -> None:
        """Account for the stretch in which this worker was busy, at its end."""
        since, self._busy_since = self._busy_since, 0
        self.busy_ns += max(0, span.began + wall - since) if since else wall

    def end(self, span: Span, method: str, *, killed: bool = False, disconnected: bool = False,
            same_thread: bool = True, streamed: bool = False) -> None:  # fmt: skip
        """End a span, once, and record all that is known of it."""
        recorder = self.recorder
        now = recorder.clock.monotonic_ns()
        if span.ended:
            return
        recorder.spans.pop(span, None)
        cpu, ready = None, 0
        if span.cpu_began is not None and same_thread:
            cpu = recorder.clock.thread_ns() - span.cpu_began
            ready = recorder.clock.run_queue_ns() - span.run_queue_began
        if span.stack:
            span.close_all(now, None if cpu is None else recorder.clock.runnable_ns())
        span.finish()
        wall = span.wall = max(0, now - span.began)
        if cpu is not None:
            span.runnable_ns = min(wall, cpu + max(0, ready))
        span.ended = True
        line = self._line(recorder.worker, span.endpoint or UNMATCHED, method)
        first = not line.seen
        group = [self._outcome(span, line, wall, killed)]
        if span.length > 0:
            group.append((line.id(BYTES_OUT), 1, float(span.length)))
            if streamed:
                group.append((line.id(STREAMED), 1, float(span.length)))
        if disconnected:
            group.append((line.id(DISCONNECTED), 1, 1.0))
        pause = WATCH.total - span.gc_began
        if pause > 0:
            group.append((line.id(GC), 1, float(min(pause, wall))))
            own = WATCH.own(span.thread, span.began) if pause > WORTH_KEEPING_NS else 0
            if own:
                group.append((line.id(GC_OWN), 1, float(min(own, wall))))
        if cpu is not None:
            self._sampled(span, line, group, wall, min(cpu, wall), ready)
        if span.parts:
            self._parts(span, line, group)
        if span.notes is not None and span.notes.rows and not first and span.status[:1] == "2":
            class_ = str(round(2 * math.log2(span.notes.rows)))  # half a power of two wide
            group.append((line.id(BY_ROWS, class_), 1, float(wall)))
            group.append((line.id(ROWS, class_), 1, float(span.notes.rows)))
        if wall > SLOW_NS:
            self._slow(span, line, group, wall)
        elif self.slow_urls:
            self._fast(span)
        if not recorder.spans:
            self.end_busy_period(span, wall)
        recorder.emit(group)
        measured = (
            self.retained_bytes_meter is not None and self.retained_bytes_meter.measured is span
        )
        if self.reservoir is not None and not (killed or measured):
            figures = Figures(cpu, ready, min(max(0, pause), wall), first, disconnected)
            self._keep(self.reservoir, span, line, figures)

    def _keep(self, reservoir: ExemplarReservoir, span: Span, line: Line, figures: Figures) -> None:
        """Offer a request to be kept whole; one failure switches that off."""
        try:
            reservoir.ended(span, line, figures)
        except Exception as error:
            self.reservoir = None
            self.recorder.failed("single requests", error)
            self.recorder.worker.degraded["requests"] = f"single requests are not kept: {error!r}"

    def _outcome(self, span: Span, line: Line, wall: int, killed: bool) -> tuple[int, int, float]:
        """Return the observation that counts a request, and have the next one like it be quick."""
        if killed:
            return line.id(KILLED), 1, float(wall)
        when = (_CONCURRENT if span.concurrent else _SOLO) if line.seen else _FIRST
        series = line.id(REQUEST, f"{span.status[:1] or '5'}xx", when)
        if line.seen:
            self._learn(span, line, series)
        line.seen = True
        return series, 1, float(wall)

    def _learn(self, span: Span, line: Line, series: int) -> None:
        """Have the next request like this one be quick."""
        endpoint, method = line.labels
        if method == "HEAD" or method is OTHER or span.status[:3] in ("204", "304"):
            return
        key = (endpoint, method, span.status)
        request_series = self.request_series.get(key)
        if request_series is None:
            if len(self.request_series) >= _PLANS:
                return
            request_series = self.request_series.setdefault(
                key, RequestSeries(line.worker, line.id(BYTES_OUT))
            )
        if span.concurrent:
            request_series.concurrent = series
        else:
            request_series.solo = series

    def _line(self, worker: Worker, endpoint: str, method: str) -> Line:
        if worker is not self._worker:
            self._use(worker)
        if method not in METHODS:
            method = OTHER
        line = self.lines.get((endpoint, method))
        if line is None:
            line = self.lines.setdefault((endpoint, method), Line(worker, endpoint, method))
        return line

    def _sampled(
        self, span: Span, line: Line, group: list[Any], wall: int, cpu: int, ready: int
    ) -> None:
        weight = span.weight
        ready = min(ready, wall - cpu)
        if ready > 0:
            group.append((line.id(RUN_QUEUE), weight, float(ready)))
        group.append((line.id(CPU), weight, float(cpu)))
        group.append((line.id(SAMPLED_WALL), weight, float(wall)))
        if span.concurrent and span.process_began:
            others = self.recorder.clock.process_ns() - span.process_began - cpu
            waited = max(0, min(wall - cpu - ready, others))
            group.append((line.id(CONTENTION), weight, float(waited)))
            self.load.waited += waited * weight
        self.load.sampled += wall * weight

    def _parts(self, span: Span, line: Line, group: list[Any]) -> None:
        for name, (count, wall, cpu) in (span.parts or {}).items():
            ids = line.id(PART, name)
            group.append((ids, 1, float(wall)))
            if count > 1:  # the sum is in the first; these only count
                group.append((ids, count - 1, 0.0))
            if span.cpu_began is not None:
                group.append((line.id(PART_WALL, name), span.weight, float(wall)))
                group.append((line.id(PART_CPU, name), span.weight, float(min(cpu, wall))))

    def _slow(self, span: Span, line: Line, group: list[Any], wall: int) -> None:
        path = span.environ.get("PATH_INFO", "")
        known = path in self.slow_urls or len(self.slow_urls) < _PATHS
        if known and len(path) <= _PATH_CHARS:
            self.slow_urls[path] = _KEPT_SLOW
        if wall > self._moderate and span.concurrent and not self.load.shed:
            victim = line.labels[0]
            for other in list(self.recorder.spans):
                culprit = endpoint_in(other.environ)
                overlap = min(wall, self.recorder.clock.monotonic_ns() - other.began)
                if culprit is not None and culprit != victim:
                    key = NeighbourKey(victim, culprit)
                    self.recorder.note(NEIGHBOUR, key, overlap, NoDetail())
        if wall > _NOTE_NS * 0.8:
            with self._noting:
                if span.start_record is not None:
                    group.append(span.start_record)

    def _fast(self, span: Span) -> None:
        """Have a path that is not slow any more, or was so only once, cost no more than others."""
        path = span.environ.get("PATH_INFO", "")
        left = self.slow_urls.get(path, 0) - 1
        if left > 0:
            self.slow_urls[path] = left
        else:
            self.slow_urls.pop(path, None)

    def queued(self, seconds: float) -> None:
        """Record how long a request waited before this worker took it."""
        recorder = self.recorder
        recorder.record((recorder.series(QUEUE), round(seconds * 1e9)))

    # -- the housekeeper's side ------------------------------------------------------------------

    def record_cost(self, took_ns: int) -> None:
        """Take note of what one request cost us, in nanoseconds (a sample of them is timed)."""
        self.load.spent(took_ns)

    def account(self) -> None:
        """Record how busy this worker is, and what measuring costs (a housekeeper's job)."""
        now = self.recorder.clock.monotonic_ns()
        flying = list(self.recorder.spans)
        since = self._busy_since or (flying[0].began if flying else now)
        self.load.account(now, self.busy_ns + max(0, now - since))

    def watch(self) -> None:
        """Note what has been in flight for over a second (a housekeeper's job)."""
        recorder = self.recorder
        now = recorder.clock.monotonic_ns()
        flying: dict[tuple[str, str], int] = {}
        for span in list(recorder.spans):
            method = span.environ.get("REQUEST_METHOD", "GET")
            endpoint = span.endpoint or endpoint_in(span.environ)
            if endpoint is None and now - span.began < _NOTE_NS:
                continue  # not routed yet
            endpoint = endpoint or UNMATCHED
            line = self._line(recorder.worker, endpoint, method)
            flying[line.labels] = flying.get(line.labels, 0) + 1
            if span.start_record is None and now - span.began > _NOTE_NS:
                began = recorder.clock.wall() - (now - span.began) / 1e9
                with self._noting:
                    if not span.ended:
                        series, token = line.id(STARTED), next(self._tokens)
                        recorder.emit([(series, token, began)])
                        span.start_record = (series, token, -began)
        for line in list(self.lines.values()):
            number = flying.get(line.labels, 0)
            if number or line.ids.get("flying"):
                recorder.emit([(line.id(IN_FLIGHT), 1, float(number))])
                line.ids["flying"] = number


def is_green() -> bool:
    """Return whether threads here are gevent's or eventlet's, whose CPU time nobody can tell."""
    gevent = sys.modules.get("gevent.monkey")
    if gevent is not None and gevent.is_module_patched("threading"):
        return True
    eventlet = sys.modules.get("eventlet.patcher")
    return eventlet is not None and bool(eventlet.is_monkey_patched("thread"))


def queue_seconds(environ: dict[str, Any], now: float) -> float | None:
    """Return how long ago a proxy took the request, from ``X-Request-Start``.

    Understands seconds, milliseconds and microseconds since the epoch, with or without ``t=``.
    ``None`` where the header is missing, unreadable, or says something impossible.
    """
    text = environ.get("HTTP_X_REQUEST_START", "").removeprefix("t=")
    try:
        moment = float(text)
    except ValueError:
        return None
    for unit in (1.0, 1e3, 1e6):
        waited = now - moment / unit
        if 0 <= waited < 3600:
            return waited
    return None
