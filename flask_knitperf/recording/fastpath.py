"""The usual request, from its first line of ours to its last, in one step.

Nearly every request is *usual*: its answer is there when the application returns, it opened no part,
its CPU is not sampled, no collection ran meanwhile, it was not slow, and one like it was seen before.
What such a request costs is what the extension costs. So its whole way stands here in one piece, and
twice: in Python, to be read and to run anywhere, and in C (``_speedups.c``), built where there is a
compiler. Between two requests everything of ours grows cold in the processor's caches, and there a few
hundred bytecodes cost twice what the same costs in C. All that is not usual is left to methods in
Python, the same for both; the tests run on both.

The steps, in order: pages of ours and ignored paths bypass the rest; the span is created, registered
as in flight and made current; the application runs, with the span as its ``start_response``; then one
look-up by endpoint, method and status returns the :class:`RequestSeriesBase`, by which wall time and
bytes are written as one group of two observations.

``KNITPERF_PURE_PYTHON=1`` in the environment keeps C out.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from threading import get_ident
from typing import TYPE_CHECKING, Any

from ..metrics.log_format import pack_pair

FAST_OFF = 0  # the slow path finishes the span
FAST_ON = 1  # the fast path may finish the span
FAST_TIMED = 2  # as FAST_ON, and the cost of the fast path is measured
SLOW_NS = 20_000_000
"""Wall time from which on a request is looked at more closely."""

Environ = dict[str, Any]
Start = Callable[..., Any]


class SpanBase:
    """What is known of a request, and its ``start_response``. See :class:`~.span.Span`."""

    # Defaults stand in the class: a request sets few of them, and pays for those.
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
    cost = 0
    start_record: tuple[int, int, float] | None = None
    ended = False
    stack: list[Any] | None = None
    parts: dict[str, list[int]] | None = None
    notes: Any = None
    start_response: Any = None
    middleware: Any = None

    def __init__(self, owner: Any = None, environ: Any = None, began: int = 0) -> None:
        self.owner = owner
        self.environ: Environ = environ
        self.began = began

    def __call__(self, status: str, headers: Any, exc_info: Any = None) -> Any:
        """Begin the response: the endpoint is read here, where the request is still at hand."""
        self.status = status
        self.headers = headers
        try:
            self.endpoint = self.environ["werkzeug.request"].url_rule.endpoint
        except Exception as error:
            if self.endpoint is None:
                self.middleware.unrouted(self, error)
        if exc_info is None:
            return self.start_response(status, headers)
        return self.start_response(status, headers, exc_info)


class ScopeBase:
    """Sums up the parts that are over within something that runs. See :class:`~.span.Part`."""

    __slots__ = ("nested_cpu_ns", "nested_ns")
    nested_ns: int
    nested_cpu_ns: int


class NotesBase(ScopeBase):
    """What sums them up for a whole request. See :class:`~.span.Notes`."""

    __slots__ = ("queries",)
    queries: Any


class PauseTotalBase:
    """Nanoseconds spent in collections so far. See :class:`~.gc_pauses.GCWatch`."""

    total = 0


class RequestSeriesBase:
    """Where a usual request of one endpoint, method and status is written down.

    Attributes:
        append: puts a group at the end of the current log; ``ValueError`` once that is full.
        solo: series of a request that ran solo, 0 before there was one.
        concurrent: series of a request that ran concurrent others, 0 before there was one.
        bytes_out: series of the bytes it sent, with the mark that ends a group.
    """

    append: Callable[[bytes], Any]
    solo = 0
    concurrent = 0
    bytes_out = 0

    if TYPE_CHECKING:

        def append_to_next_log(self, group: bytes) -> None:
            """Write a group that the log had no room for."""


class ProfileBase:
    """What the way of a request asks of a profile.

    Attributes:
        requests_started: requests begun so far.
        prepare_at: the turn from which on a request is looked at before it runs.
        busy_ns: nanoseconds in which this worker had a request in flight.
        slow_urls: paths that were slow, whose requests are looked at.
        request_series: the plan of each endpoint, method and status.
    """

    requests_started = 0
    prepare_at = 0
    busy_ns = 0
    slow_urls: dict[str, int]
    request_series: dict[tuple[str | None, str, str], Any]

    if TYPE_CHECKING:

        def end_busy_period(self, span: Any, wall: int) -> None:
            """Account for the stretch in which this worker was busy, at its end."""

        def record_cost(self, took_ns: int) -> None:
            """Take note of what one request cost us."""


class FastPathBase:
    """Takes each request through the application.

    A subclass does what is not usual: ``bypass``, ``prepare_slow_path``, ``unrouted``, ``on_exception``,
    ``on_fastpath_error`` and ``finish_slow``.

    Args:
        app: the application.
        recorder: whose clock is read, and whose spans these are.
        profile: turns, request_series, busy time.
        spans: the recorder's requests in flight.
        aside: beginnings of paths that may be set aside.
        span: the class of spans.
        current: the variable that holds the current span.
        pauses: time in collections.
        closing: the class of bodies whose response is behind their last callback.
        viewer: a cookie whose bearer's requests are looked at before they run.
    """

    def __init__(
        self, app: Any, recorder: Any, profile: ProfileBase, spans: dict[Any, None],
        aside: tuple[str, ...], span: type[SpanBase], current: ContextVar[Any],
        pauses: PauseTotalBase, closing: type, viewer: str,
    ) -> None:  # fmt: skip
        self.app = app
        self.recorder = recorder
        self.profile: Any = profile
        self._spans = spans
        self._aside = aside
        self._span = span
        self._current = current
        self._pauses = pauses
        self._closing = closing
        self._viewer = viewer

    def __call__(self, environ: Environ, start_response: Start) -> Iterable[bytes]:
        """Serve one request."""
        path: str = environ.get("PATH_INFO", "")
        if path.startswith(self._aside):
            answer = self.bypass(environ, start_response, path)
            if answer is not None:
                return answer
        profile, spans, now = self.profile, self._spans, self.recorder.clock.monotonic_ns
        span: Any = object.__new__(self._span)
        span.owner = self.recorder
        span.middleware = self
        span.environ = environ
        span.start_response = start_response
        span.thread = get_ident()
        profile.requests_started += 1
        if (
            spans or profile.requests_started >= profile.prepare_at or path in profile.slow_urls
            or self._viewer in (environ.get("HTTP_COOKIE") or "")
        ):  # fmt: skip
            self.prepare_slow_path(span, environ, path)
        span.gc_began = self._pauses.total
        span.began = now()
        spans[span] = None
        token = self._current.set(span)
        try:
            body: Iterable[bytes] = self.app(environ, span)
        except BaseException as error:
            self.on_exception(span, error)
            raise
        finally:
            self._current.reset(token)
        ended = now()
        if span.fast:
            try:
                if self._written(span, body, ended):
                    if span.fast == FAST_TIMED:
                        profile.record_cost(now() - ended + span.cost)
                    return body
            except Exception as error:
                self.on_fastpath_error(error)
        return self.finish_slow(span, body)

    def _written(self, span: Any, body: Any, ended: int) -> bool:
        """Write a usual request down; ``False`` if it is none."""
        if type(body) is not self._closing or span.gc_began != self._pauses.total:
            return False
        profile, spans = self.profile, self._spans
        plan = profile.request_series.get(
            (span.endpoint, span.environ["REQUEST_METHOD"], span.status)
        )
        behind: Any = body
        pieces = behind._callbacks[-1].__self__.response
        if plan is None or type(pieces) is not list or len(pieces) != 1:
            return False
        series = plan.concurrent if span.concurrent else plan.solo
        piece, wall = pieces[0], ended - span.began
        if not (series and type(piece) is bytes and piece and 0 < wall < SLOW_NS):
            return False
        span.wall = wall
        span.ended = True
        del spans[span]
        if not spans:
            if span.concurrent:
                profile.end_busy_period(span, wall)
            else:
                profile.busy_ns += wall
        group = pack_pair(series, 1, wall, plan.bytes_out, 1, len(piece))
        try:
            plan.append(group)
        except ValueError:
            plan.append_to_next_log(group)
        return True

    if TYPE_CHECKING:

        def bypass(
            self, environ: Environ, start_response: Start, path: str
        ) -> Iterable[bytes] | None:
            """Serve what is not recorded; return ``None`` for everything else."""

        def prepare_slow_path(self, span: Any, environ: Environ, path: str) -> None:
            """Do what only some requests need before they run."""

        def unrouted(self, span: Any, error: Exception) -> None:
            """Find the endpoint of a response whose request does not tell it."""

        def on_exception(self, span: Any, error: BaseException) -> None:
            """End a span whose application raised."""

        def on_fastpath_error(self, error: Exception) -> None:
            """Take note of a body of an unknown make, or of a failure of ours."""

        def finish_slow(self, span: Any, body: Iterable[bytes]) -> Iterable[bytes]:
            """End a span now, or see to it that it ends when its body does."""


COMPILED = False
"""Whether the classes above are those of ``_speedups.c``."""

if not TYPE_CHECKING and not os.environ.get("KNITPERF_PURE_PYTHON"):
    with contextlib.suppress(ImportError):
        from ._speedups import (  # noqa: F401
            FastPathBase,
            NotesBase,
            PauseTotalBase,
            ProfileBase,
            RequestSeriesBase,
            ScopeBase,
            SpanBase,
        )

        COMPILED = True
