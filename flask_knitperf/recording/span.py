"""One request while it runs: its parts, with exclusive time.

*Each moment belongs to the part that ends first* of those that run at it. So the time of a part excludes
the parts nested in it, which end before it does; and where parts overlap (tasks of ``asyncio.gather``,
threads with a copied context), each takes what no part before it has taken. Exclusive times are never
negative, parts and the remainder add up to the wall time, and the time of one kind of part is that in
which at least one ran, unless a part of another kind ended first.

The rule needs no knowledge of tasks and threads. A request has one total of the time that its parts have
taken. A part remembers the total at its start; at its end, its time is the wall time since then without
the growth of the total. Only where a part that was running at that start has ended meanwhile does the
growth contain time from before the start. The latest taken intervals are remembered, by which that time
is known exactly (:meth:`.NotesBase.take`); nothing is added to the start of a part.

The current span is found through a context variable, which follows async views and copied contexts; only
the middleware that started a span finishes it, once.

Closing a part out of order (a generator kept alive beyond its request) closes the parts of its thread
above it, except in an event loop, whose tasks end in any order; closing a part after its span has ended
records nothing. Every change of the stack is one operation that cannot fail midway: a part is removed by
its identity, never by its position.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar
from threading import get_ident
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from ..core.host_exceptions import raise_if_of_host
from ..metrics.instruments import OTHER
from ..metrics.stack_trie import Sampled
from .fastpath import (
    FAST_COLLECT,
    FAST_OFF,
    MIN_HOOK_NS,
    NotesBase,
    SpanBase,
    measure_cost,
)

if TYPE_CHECKING:
    from .collector import RequestCollector

MAX_PART_NAMES = 100  # names of parts per request; further ones are merged into OTHER
EVENTS = (
    100  # parts of one request kept for its timeline; further ones are only added to the totals
)
CURRENT: ContextVar[Span | None] = ContextVar("flask_knitperf_span", default=None)


class Detail(Protocol):
    """Details of a part, without data that users sent."""

    def as_dict(self) -> dict[str, Any]:
        """Return the details as JSON values."""


class Event(Protocol):
    """A finished part in the timeline of a request: see :class:`Part`."""

    began: int
    ended: int

    @property
    def name(self) -> str:
        """Name of the part."""

    @property
    def detail(self) -> Detail | None:
        """Details from the collector, ``None`` if there are none."""


class Part:
    """A stretch of a request. Times are nanoseconds.

    Attributes:
        name: its name.
        began: start on the recorder's clock.
        ended: end on the recorder's clock, 0 while it runs.
        cpu_began: runnable time of its thread at the start, ``None`` if not sampled.
        before: :meth:`Span.nested` at the start.
        detail: details from its collector.
        thread: identifier of the thread that opened it.
    """

    __slots__ = ("before", "began", "cpu_began", "detail", "ended", "name", "thread")

    def __init__(
        self, name: str, began: int, cpu_began: int | None, before: tuple[int, int] = (0, 0)
    ) -> None:
        self.name = name
        self.began = began
        self.cpu_began = cpu_began
        self.before = before
        self.ended = 0
        self.detail: Detail | None = None
        self.thread = get_ident()


class OpenPart:
    """A context whose code is timed as a part of a request, on the clock of the recorder.

    It may be entered again, also while it is open. Whatever a signal handler of the host raises, in the
    middle of our code too, the part is closed.

    Args:
        span: the request.
        name: of the part.
    """

    __slots__ = ("_name", "_outer", "_part", "_span")

    def __init__(self, span: Span, name: str) -> None:
        self._span = span
        self._name = name
        self._part: Part | None = None
        self._outer: list[Part] | None = None  # parts of earlier entries, the latest last

    def __enter__(self) -> None:
        """Open the part."""
        span = self._span
        try:
            if span.timed:
                measure_cost(span, -1)
            clock = span.owner.clock
            cpu = None if span.cpu_began is None else clock.runnable_ns()
            if self._part is not None:
                self._outer = [*(self._outer or ()), self._part]
            self._part = part = span.new_part(self._name, clock.monotonic_ns(), cpu)
            if span.stack is None:
                span.stack = []
            span.stack.append(part)
            if span.timed:
                measure_cost(span, 1)
        except BaseException:
            self._close()  # it may be open already
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the part."""
        span, part = self._span, self._part
        assert part is not None
        try:
            if span.timed:
                measure_cost(span, -1)
            clock = span.owner.clock  # as _close(), which would be another call in every request
            cpu = None if span.cpu_began is None else clock.runnable_ns()
            span.close(part, clock.monotonic_ns(), cpu)
            if span.timed:
                measure_cost(span, 1)
        except BaseException:
            self._close()  # the first attempt may have been interrupted before its effect
            raise
        finally:
            if self._outer:
                self._part = self._outer.pop()

    def _close(self) -> None:
        span, part = self._span, self._part
        if part is not None:
            clock = span.owner.clock
            cpu = None if span.cpu_began is None else clock.runnable_ns()
            span.close(part, clock.monotonic_ns(), cpu)


class Notes(NotesBase):
    """Data about one request that only some requests have.

    Attributes:
        nested_ns: wall time that parts have taken, in nanoseconds.
        nested_cpu_ns: runnable time that parts have taken, in nanoseconds.
        events: finished parts, in the order in which they were recorded.
        dropped_events: number of parts for which there was no room.
        clocks: end of the latest hook whose CPU time was measured, and the runnable time of its thread
            then; ``None`` before the first.
        streaming: start of the streamed body in nanoseconds, 0 if the body is not streamed.
        finished: whether the collectors have recorded everything.
        sampled: stacks sampled during the request.
        reading: threads that read a file now.
        reads: file reads not recorded yet (:mod:`flask_knitperf.collectors.files`).
        queries: queries not recorded yet (:mod:`flask_knitperf.collectors.sql`).
        sleeps: those of its tasks (:mod:`.sleeps`), ``None`` before the first.
        collectors: collectors to call when the request ends, by name.
        rows: number of rows that the request works on, as far as known.
    """

    __slots__ = (
        "clocks",
        "collectors",
        "dropped_events",
        "events",
        "finished",
        "reading",
        "reads",
        "rows",
        "sampled",
        "streaming",
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Event] = []
        self.dropped_events = 0
        self.clocks: tuple[int, int] | None = None
        self.streaming = 0
        self.finished = False
        self.reading: set[int] = set()
        self.sampled: Sampled | None = None
        self.reads: list[Any] = []
        self.collectors: dict[str, RequestCollector] = {}
        self.rows = 0


class Span(SpanBase):
    """A request in flight, and its ``start_response``. Times are nanoseconds on the recorder's clock.

    Attributes:
        owner: the recorder that it belongs to.
        middleware: the middleware that started it.
        environ: the WSGI environment of the request.
        start_response: the server's ``start_response``.
        began: start of the request.
        cpu_began: CPU time of its thread at the start, ``None`` if that was not read.
        run_queue_began: run-queue wait of its thread at the start.
        process_began: CPU time of the process at the start, 0 if no other request was in flight.
        thread: identifier of the thread that started it.
        weight: number of requests that its CPU sample stands for; on a watched path it is decided at
            the end, and until then 0 or the negative number that a fast request stands for.
        gc_began: total time of garbage collections at the start.
        concurrent: whether it overlapped with another request in this worker.
        status: status line of the response, empty until that starts.
        headers: headers of the response, ``None`` until that starts.
        fast: whether the fast path may finish this span: ``FAST_ON``, ``FAST_COLLECT`` (see
            :meth:`attach`), or ``FAST_OFF``, which it remains.
        endpoint: endpoint that the request was routed to, ``None`` until known.
        length: bytes of the body, -1 if unknown.
        wall: wall time of the request, 0 until it has ended.
        runnable_ns: runnable time of its thread, -1 until known.
        timed: 0 if our own cost is not measured, else one more than the stretches measured so far.
        cost: CPU time of our code in those stretches.
        start_record: the in-progress record, written once the request exceeds a second.
        parts: finished parts by name: ``[count, wall, cpu]``, exclusive; ``cpu`` is runnable time.
        notes: data that only some requests have, ``None`` if there is none.
        hook: the ``before_request`` function that runs now, as the name of a part.
        hook_began: its start.
        hook_start: :meth:`nested` at its start; ``None`` where nothing was nested by then.
        hooks: finished ones that are not parts yet, in order: name, start, end, and runnable time of
            the thread at the end, ``None`` if not sampled.
        ended: whether it has ended; nothing is recorded for it after that.
    """

    __slots__ = ()

    def ensure_notes(self) -> Notes:
        """Return the notes for a collector, which disables the fast path; create them if necessary."""
        self.fast = FAST_OFF
        return self._notes_of_parts()

    def _notes_of_parts(self) -> Notes:
        """Return the notes for what every part adds to them; create them if necessary."""
        if self.notes is None:
            self.notes = Notes()
            self.add_hooks()  # a part that starts now must not have their time
        notes: Notes = self.notes
        return notes

    def name_of(self, rule: Any) -> str:
        """Return the name of a URL rule's endpoint."""
        return str(rule.endpoint)

    def attach(self, name: str, collector: RequestCollector, *, fast: bool = False) -> None:
        """Have a collector called when this request ends.

        Args:
            name: of the collector; a later one with the same name replaces it.
            collector: the collector. Its methods must not raise.
            fast: whether the fast path may record the rest of the request: the collector leaves nothing
                in the notes that is recorded with the request.
        """
        if not fast:
            self.fast = FAST_OFF
        elif self.fast:
            self.fast = FAST_COLLECT
        self._notes_of_parts().collectors[name] = collector

    def settle(self) -> None:
        """Record hooks that have ended, and have collectors record what they have buffered so far."""
        self.add_hooks()
        if self.notes is not None:
            for collector in list(self.notes.collectors.values()):
                collector.settle(self)

    def finish(self) -> None:
        """Have collectors record everything, once: the request ends."""
        if self.notes is not None and not self.notes.finished:
            self.notes.finished = True
            for collector in list(self.notes.collectors.values()):
                collector.settle(self)
                collector.finish(self)

    def add_events(self) -> None:
        """Have collectors add their events: the timeline of this request is kept."""
        for collector in list(self.ensure_notes().collectors.values()):
            collector.add_events(self)

    def part(self, name: str) -> OpenPart:
        """Return a context whose code is timed as a part."""
        return OpenPart(self, name)

    def open(self, name: str, now: int, cpu: int | None = None) -> Part:
        """Start a part."""
        part = self.new_part(name, now, cpu)
        if self.stack is None:
            self.stack = []
        self.stack.append(part)
        return part

    def new_part(self, name: str, now: int, cpu: int | None) -> Part:
        """Return a part that is not open yet."""
        if self.parts is None:
            self.parts = {}
        elif len(self.parts) >= MAX_PART_NAMES and name not in self.parts:
            name = OTHER
        notes = self.notes or self._notes_of_parts()
        return Part(name, now, cpu, (notes.nested_ns, notes.nested_cpu_ns))

    def close(self, part: Part, now: int, cpu: int | None = None) -> None:
        """End a part, and the parts of its thread left open above it that are not of other tasks."""
        stack = self.stack
        if self.ended or not stack:
            return
        if stack[-1:] != [part]:
            parts = stack.copy()
            if part not in parts:
                return
            for above in [] if _in_event_loop() else reversed(parts[parts.index(part) + 1 :]):
                if above.thread == part.thread:
                    self._end(above, now, cpu)
        self._end(part, now, cpu)

    def _end(self, part: Part, now: int, cpu: int | None) -> None:
        """Record an open part; do nothing if another thread was faster."""
        try:
            (self.stack or []).remove(part)
        except ValueError as error:
            raise_if_of_host(error)
            return
        part.ended = max(part.began, now)
        own = self.scope().take(part.began, part.ended, part.before[0])
        self._count_with_cpu(part, own, cpu)

    def scope(self) -> Notes:
        """Return the notes, which divide the time of the request among its parts."""
        notes: Notes = self.notes or self._notes_of_parts()
        return notes

    def nested(self) -> tuple[int, int]:
        """Return the wall time and the runnable time that parts have taken."""
        if self.notes is None and not self.hooks:
            return 0, 0
        notes = self.scope()
        return notes.nested_ns, notes.nested_cpu_ns

    def insert(
        self, name: str, began: int, ended: int, cpu: int | None, before: tuple[int, int],
        detail: Detail | None = None, times: int = 1,
    ) -> int:  # fmt: skip
        """Record a finished part that was not opened, because it might have been too short to keep.

        Args:
            name: name of the part.
            began: start, in nanoseconds.
            ended: end, in nanoseconds.
            cpu: runnable time of its thread in nanoseconds, ``None`` if not sampled.
            before: :meth:`nested` at its start.
            detail: details from its collector.
            times: number of runs that it counts as; 0 for the rest of one that was counted already.

        Returns:
            Its wall time without nested parts, in nanoseconds.
        """
        if self.ended:
            return 0
        part = self.new_part(name, began, None if cpu is None else 0)
        part.detail, part.before = detail, before
        part.ended = max(began, ended)
        own = self.scope().take_work(began, part.ended, before[0])
        self._count_with_cpu(part, own, cpu, times)
        return own

    def insert_event(self, event: Event, before: int, times: int = 1) -> int:
        """Record a finished part that used no CPU time, as :meth:`insert` does, by its event.

        Args:
            event: the part.
            before: wall time that parts had taken at its start, the first value of :meth:`nested`.
            times: number of runs that it counts as; 0 for the rest of one that was counted already.

        Returns:
            Its wall time without nested parts, in nanoseconds.
        """
        own = self.scope().take_work(event.began, event.ended, before)
        self.count(event, own, 0, times)
        return own

    def end_hook(self, now: int, cpu: int | None = None) -> None:
        """Record the ``before_request`` function that runs, if any and not short, as a part."""
        name, self.hook = self.hook, None
        if name is None or now - self.hook_began < MIN_HOOK_NS:
            return
        before = self.hook_start or (0, 0)
        used = None if cpu is None else self._runnable_in_hook(self.hook_began, now, cpu)
        self.insert(name, self.hook_began, now, used, before)

    def _runnable_in_hook(self, began: int, now: int, runnable: int) -> int:
        """Return the runnable time of a hook that ends, in nanoseconds.

        The clocks are read at the end of a long hook only. Between the reading before (or the start of
        the request) and the start of the hook there were only Flask and short hooks, which compute.

        Args:
            began: its start.
            now: its end.
            runnable: runnable time of its thread at its end.
        """
        notes = self._notes_of_parts()
        read_at, before = notes.clocks or (self.began, (self.cpu_began or 0) + self.run_queue_began)
        notes.clocks = now, runnable
        used = runnable - before - (began - read_at)
        return max(0, min(now - began, used))

    def add_hooks(self) -> None:
        """Record finished ``before_request`` functions as parts; nothing is nested in them."""
        if not self.hooks:
            return
        hooks, self.hooks = self.hooks, None
        whole = whole_cpu = 0
        for name, began, ended, runnable in hooks:
            wall = ended - began
            cpu = 0 if runnable is None else self._runnable_in_hook(began, ended, runnable)
            part = self.new_part(name, began, None)
            part.ended = ended
            self.count(part, wall, cpu)
            whole, whole_cpu = whole + wall, whole_cpu + cpu
        notes = self._notes_of_parts()
        notes.nested_ns += whole
        notes.nested_cpu_ns += whole_cpu
        self.hook_start = whole, whole_cpu  # they ended before the one that runs, if any

    def close_all(self, now: int, cpu: int | None = None) -> None:
        """End all open parts, and those of hooks (the request ends)."""
        self.add_hooks()
        self.end_hook(now, cpu)
        for part in reversed((self.stack or []).copy()):
            self._end(part, now, cpu)

    def add(self, name: str, count: int, wall: int, cpu: int) -> None:
        """Add finished parts whose time the enclosing scope has already."""
        if self.parts is None:
            self.parts = {}
        row = self.parts.setdefault(name, [0, 0, 0])
        row[0] += count
        if wall > 0:
            row[1] += wall
        if cpu > 0:
            row[2] += cpu

    def count(self, part: Event, wall: int, cpu: int, times: int = 1) -> None:
        """Record a finished part whose time the enclosing scope has already.

        Args:
            part: the part.
            wall: its wall time without nested parts, in nanoseconds.
            cpu: its runnable time without nested parts, in nanoseconds.
            times: number of runs that it counts as.
        """
        name, parts = part.name, self.parts
        if parts is not None and len(parts) >= MAX_PART_NAMES and name not in parts:
            name = OTHER
        self.add(name, times, wall, cpu)
        notes = self.notes or self._notes_of_parts()
        if len(notes.events) < EVENTS:
            notes.events.append(part)
        else:
            notes.dropped_events += 1

    def _count_with_cpu(self, part: Part, own: int, cpu: int | None, times: int = 1) -> None:
        """Record a finished part by its exclusive wall time; ``cpu`` as for :meth:`insert`."""
        used = 0 if cpu is None or part.cpu_began is None else cpu - part.cpu_began
        used = self.scope().take_cpu(used, part.before[1]) if used > 0 else 0
        self.count(part, own, used, times)


def _in_event_loop() -> bool:
    """Return whether an event loop of asyncio runs in this thread."""
    events = sys.modules.get("asyncio.events")
    return events is not None and events._get_running_loop() is not None


def current() -> Span | None:
    """Return the span of the current request, ``None`` outside of requests."""
    span = CURRENT.get()
    return None if span is None or span.ended else span
