"""The fast path of a request: everything that a common request costs, in a few functions.

Nearly every request can take the *fast path*: it was not slow, its details are not kept, all its
collectors (:meth:`~.span.Span.attach`) leave it to the fast path, and a request of the same endpoint,
method and status, with the same parts and measured in the same way, was recorded before. The cost of
such a request is the cost of the extension. So the whole fast path stands in this module, and it exists
twice: in Python, to be read and to run anywhere, and in C (``_speedups.c``), built where there is a
compiler. Between two requests our code and data drop out of the processor's caches, and then a few
hundred bytecodes take twice as long as the same steps in C. Everything else is the *slow path*: methods
in Python, the same for both implementations. The tests run on both; the functions have the same names
in both.

The steps: our own pages and ignored paths bypass the rest; a span is created, registered as in flight
and made current; the application runs, with the span as its ``start_response``; then one look-up by
endpoint, method and status returns the :class:`RequestSeriesBase`, by which wall time and bytes sent
are written as one group, with what else was measured: the pause of a garbage collection, a CPU sample,
the parts of the request, and ``before_request`` functions that took their time. Marks between those
functions time them. A streamed body is wrapped, and its end takes the same steps.

CPU time is sampled: for the first requests of a worker, then for one in many, and for each slow request
on a path that was slow in its latest requests (a *watched* path). The choice is made before the request
runs and keeps step with no rhythm of the requests (:mod:`..core.sampling`), and each sample carries the
number of requests that it stands for as its weight, so sums are unbiased. On a watched path the clocks
are read before every request, and the weight depends on how long it took: a slow one stands for itself,
a fast one for the many, if it was chosen as one of them. So the fast requests of a watched path stay on
the fast path.

Our own cost is the CPU time of all stretches of one request in which our code runs, fast or slow. It is
measured for one request in many, whose choice is independent of the choice of CPU samples, so that these
have their share of it.

``KNITPERF_PURE_PYTHON=1`` in the environment disables the implementation in C.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from threading import get_ident
from types import MethodType
from typing import TYPE_CHECKING, Any

from ..core.sampling import is_chosen, position
from ..metrics.log_format import Observation, pack

FAST_OFF = 0  # the slow path finishes the span
FAST_ON = 1  # the fast path may finish the span
FAST_COLLECT = 2  # it may, once the collectors have recorded what they buffered
SLOW_NS = 20_000_000  # wall time from which a request takes the slow path, in nanoseconds
SHORT_PAUSE_NS = 1_000_000  # garbage collection above which it does
MIN_HOOK_NS = 50_000  # duration from which a ``before_request`` function is a part of its request
MAX_PARTS = 12  # that one request may have on the fast path, those functions included
MAX_INTERVALS = 8  # remembered of the time that parts have taken; they are merged where they meet
MAX_NESTED_BODIES = 4  # iterators of Werkzeug that are unwrapped to reach the response
WARM_UP_REQUESTS = 256  # a worker's first requests, of which all have their CPU time sampled
COST_EVERY = 64  # our own cost of one request in this many is measured
COST_STRIDE = 65  # of which ones: independent of those whose CPU time is sampled

Environ = dict[str, Any]
StartResponse = Callable[..., Any]


class SpanBase:
    """The fields of a request in flight, and its ``start_response``. See :class:`~.span.Span`."""

    # The defaults are attributes of the class: a request sets few of them, and pays only for those.
    cpu_began: int | None = None
    run_queue_began = 0
    process_began = 0
    thread = 0
    weight = 1
    gc_began = 0
    concurrent = False
    status = ""
    headers: Any = None
    fast = FAST_ON
    endpoint: str | None = None
    length = -1
    wall = 0
    runnable_ns = -1
    timed = 0
    cost = 0
    start_record: tuple[int, int, float] | None = None
    ended = False
    stack: list[Any] | None = None
    parts: dict[str, list[int]] | None = None
    notes: Any = None
    hook: str | None = None
    hook_began = 0
    hook_start: Any = None
    hooks: list[tuple[str, int, int, int | None]] | None = None
    start_response: Any = None
    middleware: Any = None

    def __init__(self, owner: Any = None, environ: Any = None, began: int = 0) -> None:
        self.owner = owner
        self.environ: Environ = environ
        self.began = began

    def __call__(self, status: str, headers: Any, exc_info: Any = None) -> Any:
        """Start the response; the endpoint is read here, while the request context is alive."""
        if self.timed:
            measure_cost(self, -1)
        self.status = status
        self.headers = headers
        try:
            self.endpoint = self.environ["werkzeug.request"].url_rule.endpoint
        except Exception as error:
            if self.endpoint is None:
                self.middleware.unrouted(self, error)
        if self.timed:
            measure_cost(self, 1)
        if exc_info is None:
            return self.start_response(status, headers)
        return self.start_response(status, headers, exc_info)


Interval = tuple[int, int, int]
"""A stretch of a request that parts have taken: its start, its end, the time taken up to its end."""


class NotesBase:
    """The total time of a request's parts, divided among them. See :class:`~.span.Notes`."""

    __slots__ = ("_intervals", "nested_cpu_ns", "nested_ns", "queries", "sleeps")
    nested_ns: int
    nested_cpu_ns: int
    queries: Any
    sleeps: Any

    def __init__(self) -> None:
        self.nested_ns = self.nested_cpu_ns = 0
        self.queries = self.sleeps = None
        self._intervals: tuple[Interval, ...] = ()  # disjoint, the latest last; threads replace it

    def take(self, began: int, ended: int, before: int) -> int:
        """Add a part that ends; return its exclusive wall time: what no part that ended has taken.

        Args:
            began: its start, in nanoseconds.
            ended: its end.
            before: ``nested_ns`` at its start. A part that was running then, and has ended since, took
                some of the time before that start, which its interval shows.
        """
        intervals, first, last = self._intervals, began, ended
        while intervals and intervals[-1][1] >= began:
            other_began, other_ended, total_ns = intervals[-1]
            intervals = intervals[:-1]
            if other_began < began:
                first, before = other_began, max(before, total_ns - (other_ended - began))
            last = max(last, other_ended)
        if len(intervals) == MAX_INTERVALS:
            intervals = intervals[1:]
        own = ended - began - self.nested_ns + before
        if own > 0:
            self.nested_ns += own
        self._intervals = (*intervals, (first, last, self.nested_ns))
        return max(0, own)

    def take_work(self, began: int, ended: int, before: int) -> int:
        """Add a part as :meth:`take` does; return its time with that of sleeps beside it."""
        own = self.take(began, ended, before)
        return own if self.sleeps is None else own + int(self.sleeps.take(began, ended))

    def take_cpu(self, used: int, before: int) -> int:
        """Add the CPU time of a part that ends; return the time that no part which ended has taken.

        Args:
            used: CPU time of its thread while it ran, in nanoseconds.
            before: ``nested_cpu_ns`` at its start.
        """
        own = max(0, used - self.nested_cpu_ns + before)
        self.nested_cpu_ns += own
        return own


class PauseTotalBase:
    """A callback of ``gc`` that measures collections. See :class:`~.gc_pauses.GCWatch`.

    A signal that arrives during a collection is handled before the next bytecode. Where that is one of a
    callback in Python, what the host's handler raises is lost, since ``gc`` only prints the exceptions
    of callbacks. The implementation in C runs no bytecode.

    Attributes:
        now: the clock, in nanoseconds.
        total: nanoseconds spent in collections.
        began: start of the collection that runs, else 0.
        pauses: ``[count, nanoseconds]`` by generation.
        latest: start and end in nanoseconds, and thread, of the latest pauses that were not short.
    """

    now: Callable[[], int]
    total = 0
    began = 0
    pauses: list[list[int]]
    latest: deque[tuple[int, int, int]]

    def __call__(self, phase: str, info: dict[str, Any]) -> None:
        """Read the clock at the start or the end of a collection (called by ``gc``)."""
        now = self.now()
        began, self.began = self.began, 0
        if phase == "start":
            self.began = now
        elif began:
            took = now - began
            self.total += took
            if took > SHORT_PAUSE_NS:
                self.latest.append((began, now, get_ident()))
            row = self.pauses[info["generation"]]
            row[0] += 1
            row[1] += took


class RequestSeriesBase:
    """The series to which requests of one endpoint, method and status are recorded.

    Attributes:
        append: appends a group to the current log; raises ``ValueError`` once that is full.
        solo: series of requests that ran alone, 0 until there was one.
        concurrent: series of requests that overlapped with others, 0 until there was one.
        bodiless: whether their responses have no body.
        bytes_out: series of the bytes sent.
        streamed: series of the bytes of streamed bodies, 0 until there was one.
        gc: series of garbage collection pauses, 0 until there was one.
        cpu: series of sampled CPU time, 0 until there was a sample.
        sampled_wall: series of the wall time of CPU samples.
        run_queue: series of run-queue waits, 0 until there was one.
        detailed_at: time on the recorder's clock from which a request with a CPU sample or collectors
            takes the slow path, so that its details may be kept.
        detailed_above: wall time above which it does, in nanoseconds.
        parts: series of each part by its name: of its wall time, and of its wall and CPU time in CPU
            samples, both 0 until there was one.
    """

    append: Callable[[bytes], Any]
    solo = 0
    concurrent = 0
    bodiless = False
    bytes_out = 0
    streamed = 0
    gc = 0
    cpu = 0
    sampled_wall = 0
    run_queue = 0
    detailed_at = 0
    detailed_above = 0
    parts: dict[str, tuple[int, int, int]] | None = None

    if TYPE_CHECKING:

        def append_to_next_log(self, group: bytes) -> None:
            """Write a group for which the current log had no room."""


class ProfileBase:
    """The state of a worker that the fast path reads and writes.

    Attributes:
        requests_started: number of requests so far.
        prepare_at: value of ``requests_started`` from which on :meth:`FastPathBase.prepare_slow_path`
            is called.
        cpu_every: number of requests that one CPU sample stands for, 0 for no samples.
        busy_ns: nanoseconds in which this worker had a request in flight, until the last one ended.
        busy_since: start of the requests in flight, once they overlapped, else 0.
        sampled_ns: wall time of CPU samples, weighted, in nanoseconds.
        slow_urls: watched paths, with the number of the last request for which each is watched.
        request_series: :class:`RequestSeriesBase` by endpoint, method and status.
    """

    requests_started = 0
    prepare_at = 0
    cpu_every = 0
    busy_ns = 0
    busy_since = 0
    sampled_ns = 0
    slow_urls: dict[str, int]
    request_series: dict[tuple[str | None, str, str], Any]

    if TYPE_CHECKING:

        def record_cost(self, took_ns: int) -> None:
            """Record the nanoseconds that recording one request took."""


def measure_cost(span: Any, sign: int) -> None:
    """Start or end a stretch of our code in a request whose cost is measured.

    Args:
        span: the request; ``timed`` is positive.
        sign: -1 at the start, 1 at the end.
    """
    try:
        span.cost += sign * span.owner.clock.thread_ns()
        if sign > 0:
            span.timed += 1
    except Exception as error:
        span.timed = 0
        span.middleware.on_fastpath_error(error)


def call_application(
    app: Callable[..., Iterable[bytes]],
    instance: Any,
    environ: Environ,
    start_response: StartResponse,
) -> Iterable[bytes]:
    """Call a WSGI application, as a method of an instance unless that is ``None``."""
    if instance is None:
        return app(environ, start_response)
    return app(instance, environ, start_response)


def end_busy_period(profile: ProfileBase, began: int, wall: int) -> None:
    """Add the time in which requests were in flight, when the last of them ends.

    Args:
        profile: of the worker.
        began: start of the last one, in nanoseconds.
        wall: its duration, in nanoseconds.
    """
    since, profile.busy_since = profile.busy_since, 0
    profile.busy_ns += max(0, began + wall - since) if since else wall


class FastPathBase:
    """A WSGI middleware that records each request.

    Subclasses implement the slow path: ``bypass``, ``prepare_slow_path``, ``unrouted``, ``collect``,
    ``on_exception``, ``on_fastpath_error`` and ``finish_slow``.

    Args:
        app: the WSGI application, or the method that is one, whose instance each call passes.
        recorder: owner of the spans; its clock is read.
        profile: counters and series of this worker.
        spans: the recorder's requests in flight.
        bypassed: prefixes of paths for which ``bypass`` is called.
        span_class: class of spans.
        current: variable that holds the current span.
        pauses: total time of garbage collections.
        body_class: class of bodies whose last callback is a method of the response.
        viewer_cookie: name of a cookie; requests that carry it are prepared for the slow path.
    """

    def __init__(
        self, app: Any, recorder: Any, profile: ProfileBase, spans: dict[Any, None],
        bypassed: tuple[str, ...], span_class: type[SpanBase], current: ContextVar[Any],
        pauses: PauseTotalBase, body_class: type, viewer_cookie: str,
    ) -> None:  # fmt: skip
        self.app = app
        self.recorder = recorder
        self.profile: Any = profile
        self._spans = spans
        self._bypassed = bypassed
        self._span_class = span_class
        self._current = current
        self._pauses = pauses
        self._body_class = body_class
        self._viewer_cookie = viewer_cookie

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        return self.serve(environ, start_response, None)

    def serve(
        self, environ: Environ, start_response: StartResponse, instance: Any
    ) -> Iterable[bytes]:
        """Serve one request by an application that is not bound to its instance.

        Args:
            environ: the request.
            start_response: starts its response.
            instance: first argument of ``app``, ``None`` where that takes the other two alone.
        """
        path: str = environ.get("PATH_INFO", "")
        if path.startswith(self._bypassed):
            response = self.bypass(environ, start_response, instance, path)
            if response is not None:
                return response
        return self._record_request(environ, start_response, instance, path)

    def _record_request(
        self, environ: Environ, start_response: StartResponse, instance: Any, path: str
    ) -> Iterable[bytes]:
        """Start a span, run the application, finish the span."""
        now = self.recorder.clock.monotonic_ns
        span: Any = object.__new__(self._span_class)
        span.owner = self.recorder
        span.middleware = self
        span.environ = environ
        span.start_response = start_response
        span.thread = get_ident()
        self.profile.requests_started += 1
        if self._spans:
            self._mark_concurrent(span)
        if position(self.profile.requests_started * COST_STRIDE, COST_EVERY) == COST_EVERY - 1:
            span.timed = 1
            measure_cost(span, -1)
        if self._needs_preparation(environ):
            self.prepare_slow_path(span, environ)
        try:
            self._sample_cpu(span, path)
        except Exception as error:
            self.on_fastpath_error(error)
        span.gc_began = self._pauses.total
        span.began = now()
        self._spans[span] = None
        try:
            if span.timed:
                measure_cost(span, 1)
            body = self._run(environ, span, instance)
            ended = now()
            if span.timed:
                measure_cost(span, -1)
            body = self._finish(span, body, ended)
        except BaseException as error:  # also what a signal's handler raises in the middle of ours
            if not span.ended:
                self.on_exception(span, error)
            raise
        if span.timed and span.ended:
            self.end_cost(span)
        elif span.timed:  # at the end of its body
            measure_cost(span, 1)
        return body

    def _needs_preparation(self, environ: Environ) -> bool:
        """Return whether a request must be prepared before it runs."""
        if self.profile.requests_started >= self.profile.prepare_at:
            return True
        return self._viewer_cookie in (environ.get("HTTP_COOKIE") or "")

    def _mark_concurrent(self, span: Any) -> None:
        """Mark a span and all that are in flight as concurrent."""
        others = list(self._spans)
        for one in (span, *others):
            one.concurrent = True
        if not self.profile.busy_since and others:
            self.profile.busy_since = min(other.began for other in others)

    def _is_watched(self, path: str) -> bool:
        """Return whether a path was slow in its latest requests."""
        until: int | None = self.profile.slow_urls.get(path)
        return until is not None and self.profile.requests_started <= until

    def _sample_cpu(self, span: Any, path: str) -> None:
        """Start to measure the CPU time of a request, if it is to be measured."""
        number, every = self.profile.requests_started, self.profile.cpu_every
        if every <= 0:
            return
        watched, weight = self._is_watched(path), 0
        if number <= WARM_UP_REQUESTS:
            weight = 1
        elif is_chosen(number, every):
            weight = every
        if not weight and not watched:
            return
        span.weight = -weight if watched else weight
        clock = self.recorder.clock
        if span.concurrent:
            span.process_began = clock.process_ns()
        span.run_queue_began = clock.run_queue_ns()
        span.cpu_began = clock.thread_ns()

    def _run(self, environ: Environ, span: Any, instance: Any) -> Iterable[bytes]:
        """Call the application with the span current."""
        token = self._current.set(span)
        try:
            body = call_application(self.app, instance, environ, span)
        except BaseException:
            with contextlib.suppress(ValueError):  # the application's error is the one to raise
                self._current.reset(token)
            raise
        self._current.reset(token)
        return body

    def _finish(self, span: Any, body: Iterable[bytes], ended: int) -> Iterable[bytes]:
        """Finish a span, at once or with its body; return the body."""
        if span.fast:
            try:
                if self._record(span, body, ended):
                    return body
            except Exception as error:
                self.on_fastpath_error(error)
        return self.finish_slow(span, body)

    def end_cost(self, span: Any) -> None:
        """Record our own cost of a request that has ended: the CPU time of all its stretches.

        Without the time of reading the clock. Call it at the end of the last stretch; a second call has
        no effect.
        """
        measure_cost(span, 1)
        if not span.timed:
            return
        stretches, span.timed = span.timed - 1, 0
        try:
            clock_ns = self.recorder.clock.thread_ns
            overhead = -clock_ns() + clock_ns()
            if stretches > 0 and span.cost >= 0:  # negative: a stretch was interrupted
                self.profile.record_cost(max(0, span.cost - stretches * overhead))
        except Exception as error:
            self.on_fastpath_error(error)

    def _record(self, span: Any, body: Any, ended: int) -> bool:
        """Record a request; return ``False`` if it must take the slow path."""
        if type(body) is not self._body_class:
            return False
        request_series = self._find_request_series(span)
        if request_series is None:
            return False
        length = 0 if request_series.bodiless else _body_length(body, self._body_class)
        return length >= 0 and self._record_group(
            span, request_series, ended, length, streamed=False
        )

    def record_streamed(self, span: Any, length: int) -> bool:
        """Record a request whose streamed body was sent; return ``False`` if that takes the slow path.

        Args:
            span: the request.
            length: bytes of the body.
        """
        if not span.fast or span.ended or span not in self._spans:
            return False
        try:
            request_series = self._find_request_series(span)
            if request_series is None or request_series.bodiless or not request_series.streamed:
                return False
            ended = self.recorder.clock.monotonic_ns()
            return self._record_group(span, request_series, ended, length, streamed=True)
        except Exception as error:
            self.on_fastpath_error(error)
            return False

    def _find_request_series(self, span: Any) -> Any:
        """Return the series of requests like this one, ``None`` if there are none."""
        key = (span.endpoint, span.environ["REQUEST_METHOD"], span.status)
        return self.profile.request_series.get(key)

    def _record_group(
        self, span: Any, request_series: RequestSeriesBase, ended: int, length: int, *, streamed: bool
    ) -> bool:  # fmt: skip
        """Write the group of a request; return ``False`` if it must take the slow path."""
        wall, pause = ended - span.began, self._pauses.total - span.gc_began
        series = request_series.concurrent if span.concurrent else request_series.solo
        if not series or not 0 < wall < SLOW_NS or pause > SHORT_PAUSE_NS:
            return False
        if pause > 0 and not request_series.gc:
            return False
        if span.fast == FAST_COLLECT:
            if _is_detailed(request_series, wall, ended):
                return False
            self.collect(span)
        group: list[Observation] = [(series, 1, wall)]
        if pause > 0:
            group.append((request_series.gc, 1, min(pause, wall)))
        if not _add_parts(span, request_series, ended, group):
            return False
        if not self._add_cpu(span, request_series, wall, group):
            return False
        if length:
            group.append((request_series.bytes_out, 1, length))
            if streamed:
                group.append((request_series.streamed, 1, length))
        self._finish_span(span, wall)
        _write_group(request_series, pack(group))
        return True

    def _add_cpu(
        self, span: Any, request_series: RequestSeriesBase, wall: int, group: list[Observation]
    ) -> bool:
        """Add the CPU time of a sampled request; return ``False`` if it must take the slow path."""
        weight, ended = _sample_weight(span), span.began + wall
        if not weight:
            return True
        if span.concurrent or span.hooks or not request_series.cpu or span.thread != get_ident():
            return False
        if _is_detailed(request_series, wall, ended):
            return False
        clock = self.recorder.clock
        cpu = min(clock.thread_ns() - span.cpu_began, wall)
        run_queue = min(clock.run_queue_ns() - span.run_queue_began, wall - cpu)
        if cpu < 0 or (run_queue > 0 and not request_series.run_queue):
            return False
        if run_queue > 0:
            group.append((request_series.run_queue, weight, run_queue))
        group += (request_series.cpu, weight, cpu), (request_series.sampled_wall, weight, wall)
        self.profile.sampled_ns += wall * weight
        return True

    def _finish_span(self, span: Any, wall: int) -> None:
        """Remove a span from those in flight, and add its time to the worker's busy time."""
        del self._spans[span]
        span.wall = wall
        span.ended = True
        if not self._spans:
            end_busy_period(self.profile, span.began, wall)

    if TYPE_CHECKING:

        def bypass(
            self, environ: Environ, start_response: StartResponse, instance: Any, path: str
        ) -> Iterable[bytes] | None:
            """Serve a request that is not recorded; return ``None`` for all others."""

        def prepare_slow_path(self, span: Any, environ: Environ) -> None:
            """Do what only some requests need before they run."""

        def unrouted(self, span: Any, error: Exception) -> None:
            """Determine the endpoint of a response whose request context is gone or unmatched."""

        def collect(self, span: Any) -> None:
            """Have the collectors of a request record what they buffered."""

        def on_exception(self, span: Any, error: BaseException) -> None:
            """Finish a span whose application raised, or whose end the host interrupted."""

        def on_fastpath_error(self, error: Exception) -> None:
            """Handle a body of an unexpected kind, or a failure of a clock or of the fast path."""

        def finish_slow(self, span: Any, body: Iterable[bytes]) -> Iterable[bytes]:
            """Finish a span now, or wrap its body so that the span finishes with it."""


def _body_length(body: Any, body_class: type) -> int:
    """Return the bytes of a body that is complete, -1 if it is of another kind.

    Werkzeug returns a response as an iterator whose last callback is a method of the response. That of
    an error page has another iterator in the place of the list.
    """
    for depth in range(MAX_NESTED_BODIES):
        last = body._callbacks[-1]
        if type(last) is not MethodType:
            return -1  # a callback of the host: finish_slow() determines what the body is
        owner: Any = last.__self__
        direct = type(owner) is body_class
        if direct and not depth:
            return -1  # a middleware of the host iterates over the body, and may change it
        chunks = owner if direct else owner.response
        if type(chunks) is not body_class:
            return _length_of_chunks(chunks)
        body = chunks
    return -1


def _length_of_chunks(chunks: Any) -> int:
    """Return the bytes of a list of at most one piece, -1 for anything else."""
    if type(chunks) is not list or len(chunks) > 1:
        return -1
    if not chunks:
        return 0
    return len(chunks[0]) if type(chunks[0]) is bytes else -1


def _is_detailed(request_series: RequestSeriesBase, wall: int, ended: int) -> bool:
    """Return whether a request takes the slow path so that its details may be kept."""
    return ended >= request_series.detailed_at or wall > request_series.detailed_above


def _sample_weight(span: Any) -> int:
    """Return the number of requests that the CPU sample of a fast request stands for, 0 for none."""
    return 0 if span.cpu_began is None else abs(span.weight)


def _add_parts(
    span: Any, request_series: RequestSeriesBase, ended: int, group: list[Observation]
) -> bool:
    """Add the parts of a request; return ``False`` if it must take the slow path."""
    if span.hook is not None and ended - span.hook_began >= MIN_HOOK_NS:
        return False  # it answered the request
    hooks, parts, series = span.hooks or (), span.parts or {}, request_series.parts or {}
    if span.stack or len(hooks) + len(parts) > MAX_PARTS:
        return False
    weight = _sample_weight(span)
    for name, began, hook_ended, _ in hooks:
        if name not in series:
            return False
        group.append((series[name][0], 1, hook_ended - began))
    for name, (count, wall, cpu) in list(parts.items()):  # another thread may add one
        if name not in series:
            return False
        of_wall, of_sampled_wall, of_cpu = series[name]
        group.append((of_wall, 1, wall))
        if count > 1:  # the first carries the sum, these only the count
            group.append((of_wall, count - 1, 0))
        if weight:
            if not of_sampled_wall:
                return False
            group += (of_sampled_wall, weight, wall), (of_cpu, weight, min(cpu, wall))
    return True


def _write_group(request_series: RequestSeriesBase, group: bytes) -> None:
    """Append a group to the current log, or to the next one if that is full."""
    try:
        request_series.append(group)
    except ValueError:
        request_series.append_to_next_log(group)


class HookMarkBase:
    """A mark in time before, between and after the ``before_request`` functions of an application.

    It ends the time of the one before it and starts that of the next one. Nothing of the application is
    wrapped. Subclasses implement what only some requests need: ``start_hook`` and ``end_hook`` where
    parts were opened, ``failed`` where one of them, or a clock, raised.

    Args:
        recorder: of the application; only its requests are marked.
        current: variable that holds the current span.
        name: of the next function as a part of the request, ``None`` after the last one.
    """

    def __init__(self, recorder: Any, current: ContextVar[Any], name: str | None) -> None:
        self.recorder = recorder
        self._current = current
        self.name = name

    def __call__(self) -> None:
        """End the time of the function before, and start that of the next one."""
        span = self._current.get(None)
        if span is None or span.owner is not self.recorder or span.ended:
            return
        if span.timed:
            measure_cost(span, -1)
        try:
            self._mark(span, self.recorder.clock.monotonic_ns())
        except Exception as error:
            self.failed(error)
        if span.timed:
            measure_cost(span, 1)

    def _mark(self, span: Any, now: int) -> None:
        simple = span.fast and span.parts is None and span.notes is None
        try:
            if span.hook is not None and now - span.hook_began >= MIN_HOOK_NS:
                if simple:
                    clock, sampled = self.recorder.clock, span.cpu_began is not None
                    runnable = clock.thread_ns() + clock.run_queue_ns() if sampled else None
                    hook = (span.hook, span.hook_began, now, runnable)
                    span.hooks = [*(span.hooks or ()), hook]
                else:
                    self.end_hook(span)
        finally:
            span.hook, span.hook_began, span.hook_start = self.name, now, None
        if self.name is None:
            return
        if not span.fast or span.parts is not None or span.notes is not None:
            self.start_hook(span)

    if TYPE_CHECKING:

        def start_hook(self, span: Any) -> None:
            """Note the time of parts before a function starts, in a request that has parts."""

        def end_hook(self, span: Any) -> None:
            """Record a function that has just ended as a part."""

        def failed(self, error: Exception) -> None:
            """Handle a failure of ours."""


COMPILED = False  # whether the classes above are those of _speedups.c

if not TYPE_CHECKING and not os.environ.get("KNITPERF_PURE_PYTHON"):
    with contextlib.suppress(ImportError):
        from ._speedups import (  # noqa: F401
            FastPathBase,
            HookMarkBase,
            NotesBase,
            PauseTotalBase,
            ProfileBase,
            RequestSeriesBase,
            SpanBase,
        )

        COMPILED = True
