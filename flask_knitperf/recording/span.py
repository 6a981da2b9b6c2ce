"""One request while it runs: a stack of parts with exclusive time.

A part's time is its own, without the parts inside it; so parts and the remainder add up to the wall
time and no share passes 100 %. The span in progress is found through a context variable, which
follows async views and copied contexts; only whoever began a span ends it, once.

A part closed out of order (a generator kept alive beyond its request) closes what is above it; a part
closed after its span has ended counts nothing.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Protocol

from ..metrics.instruments import OTHER
from ..metrics.stack_trie import Sampled
from .fastpath import FAST_OFF, NotesBase, ScopeBase, SpanBase

NAMES = 100
"""Names of parts that one request may have; later ones are put together."""
EVENTS = 100
"""Parts of one request that are kept one by one; later ones are only added up."""
CURRENT: ContextVar[Span | None] = ContextVar("flask_knitperf_span", default=None)


class Detail(Protocol):
    """What a collector knows of a part, without anything that users sent."""

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""


class Event(Protocol):
    """A part that is over: see :class:`Part`."""

    began: int
    ended: int

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def detail(self) -> Detail | None:
        """What its collector knows of it."""


class DeferredCollector(Protocol):
    """A collector that leaves its work until a request ends."""

    def settle(self, span: Span) -> None:
        """Count what there is so far; may be called more than once."""

    def finish(self, span: Span) -> None:
        """Record what can only be told of the whole request."""

    def add_events(self, span: Span) -> None:
        """Put its parts into the timeline of a request that is kept."""


class Part(ScopeBase):
    """A stretch of a request.

    Attributes:
        name: what it is called.
        began: when it began, in nanoseconds on the recorder's clock.
        ended: when it ended, 0 while it runs.
        cpu_began: CPU of its thread when it began, ``None`` where that is not sampled.
        inside: nanoseconds of the parts that ran inside it.
        cpu_inside: CPU of those.
        detail: what its collector knows of it.
    """

    __slots__ = ("began", "cpu_began", "detail", "ended", "name")

    def __init__(self, name: str, began: int, cpu_began: int | None) -> None:
        self.name = name
        self.began = began
        self.cpu_began = cpu_began
        self.nested_ns = self.nested_cpu_ns = self.ended = 0
        self.detail: Detail | None = None


class Notes(NotesBase):
    """What is known of one request beyond its figures.

    Attributes:
        inside: nanoseconds of the parts that ran within no other.
        cpu_inside: CPU of those.
        events: parts that are over, in the order in which they were counted.
        dropped_events: parts that there was no room for.
        streaming: when its body began to be sent piece by piece, 0 where it was not.
        sampled: what was sampled of it.
        reading: whether something is being read now.
        reads: what was read and is not counted yet; its collector knows what these are.
        queries: what was asked of databases; likewise.
        collectors: collectors that left something to be counted when the request ends, by name.
        rows: that the request works on, as far as that is known.
    """

    __slots__ = (
        "collectors",
        "dropped_events",
        "events",
        "reading",
        "reads",
        "rows",
        "sampled",
        "streaming",
    )  # fmt: skip

    def __init__(self) -> None:
        self.nested_ns = self.nested_cpu_ns = 0
        self.events: list[Event] = []
        self.dropped_events = 0
        self.streaming = 0
        self.reading = False
        self.sampled: Sampled | None = None
        self.reads: list[Any] = []
        self.queries: Any = None
        self.collectors: dict[str, DeferredCollector] = {}
        self.rows = 0


class Span(SpanBase):
    """A request in flight, and its ``start_response``. Times are nanoseconds on the recorder's clock.

    Attributes:
        owner: the recorder that it belongs to.
        middleware: what took the request in.
        environ: the request's WSGI environment.
        start_response: the server's ``start_response``.
        began: when it began.
        cpu_began: CPU of its thread then, ``None`` where this request is not sampled.
        run_queue_began: how long its thread had waited for a core then.
        process_began: CPU of all threads then, 0 where nothing else ran.
        thread: the thread that began it.
        weight: how many requests its CPU sample stands for.
        gc_began: time spent in collections before it.
        concurrent: whether another request ran in this worker meanwhile.
        status: the status line of its response, empty until that begins.
        headers: the headers of its response, ``None`` until that begins.
        fast: whether it may be ended in one step; who finds out more only ever says no.
        endpoint: what it was routed to, once known.
        length: bytes of the body, -1 where unknown.
        wall: how long it took, 0 before it has ended.
        runnable_ns: for how long its thread wanted a core, -1 where that is not known (yet).
        cost: nanoseconds that recording took so far, 0 where it is not timed.
        start_record: what says that it was begun, once it takes long.
        parts: finished parts by name: ``[count, wall, cpu]``, exclusive; their CPU holds the time
            they waited for a core.
        notes: what is known of it beyond its figures, ``None`` where that is nothing.
        ended: whether it has ended; it then counts nothing more.
    """

    __slots__ = ()

    def ensure_notes(self) -> Notes:
        """Return its notes, made if need be; what has some is not ended in one step."""
        if self.notes is None:
            self.fast = FAST_OFF
            self.notes = Notes()
        made: Notes = self.notes
        return made

    def settle(self) -> None:
        """Have counted what a collector left until now."""
        if self.notes is not None:
            for collector in list(self.notes.collectors.values()):
                collector.settle(self)

    def finish(self) -> None:
        """Have counted all that collectors left: the request ends."""
        if self.notes is not None:
            for collector in list(self.notes.collectors.values()):
                collector.settle(self)
                collector.finish(self)

    def add_events(self) -> None:
        """Have its timeline completed: it is kept."""
        for collector in list(self.ensure_notes().collectors.values()):
            collector.add_events(self)

    def open(self, name: str, now: int, cpu: int | None = None) -> Part:
        """Begin a part."""
        if self.stack is None or self.parts is None:
            self.fast = FAST_OFF
            self.stack, self.parts = [], {}
        elif len(self.parts) >= NAMES and name not in self.parts:
            name = OTHER
        part = Part(name, now, cpu)
        self.stack.append(part)
        return part

    def close(self, part: Part, now: int, cpu: int | None = None) -> None:
        """End a part, and whatever was left open above it."""
        stack = self.stack
        if self.ended or stack is None or part not in stack:
            return
        top = None
        while top is not part:
            top = stack.pop()
            self._account(top, now, cpu)

    def scope(self) -> Part | Notes:
        """Return what sums up the parts that are over within whatever runs now."""
        return self.stack[-1] if self.stack else self.ensure_notes()

    def nested(self) -> tuple[int, int]:
        """Return wall and CPU of the parts that are over within whatever runs now."""
        scope = self.stack[-1] if self.stack else self.notes
        return (0, 0) if scope is None else (scope.nested_ns, scope.nested_cpu_ns)

    def insert(
        self, name: str, began: int, ended: int, cpu: int | None, before: tuple[int, int]
    ) -> None:
        """Count a part that is over and was not opened, for it might not have been worth it.

        Args:
            name: the part's.
            began: when it began.
            ended: when it ended.
            cpu: nanoseconds for which it wanted a core, ``None`` where that is not sampled.
            before: of :meth:`inside`, when it began.
        """
        if self.ended:
            return
        part = self.open(name, began, None if cpu is None else 0)
        assert self.stack is not None
        self.stack.pop()
        scope = self.scope()
        part.nested_ns, part.nested_cpu_ns = (
            scope.nested_ns - before[0],
            scope.nested_cpu_ns - before[1],
        )
        scope.nested_ns, scope.nested_cpu_ns = before  # for what ran inside it is in it
        self._account(part, ended, cpu)

    def drop(self, part: Part) -> None:
        """Forget the innermost part: its time counts for what is around it."""
        if self.stack and self.stack[-1] is part:
            self.stack.pop()
            scope = self.scope()
            scope.nested_ns += part.nested_ns
            scope.nested_cpu_ns += part.nested_cpu_ns

    def close_all(self, now: int, cpu: int | None = None) -> None:
        """End all parts that are open (the request ends)."""
        while self.stack:
            self._account(self.stack.pop(), now, cpu)

    def add(self, name: str, count: int, wall: int, cpu: int) -> None:
        """Count several parts that are over; what is around them knows of them already."""
        if self.parts is None:
            self.stack, self.parts = [], {}
        row = self.parts.setdefault(name, [0, 0, 0])
        row[0] += count
        row[1] += max(0, wall)
        row[2] += max(0, cpu)

    def count(self, part: Event, wall: int, cpu: int) -> None:
        """Count a part that is over; what is around it knows of it already.

        Args:
            part: it.
            wall: nanoseconds of it, without the parts inside it.
            cpu: its CPU, likewise.
        """
        self.add(part.name, 1, wall, cpu)
        notes = self.notes or self.ensure_notes()
        if len(notes.events) < EVENTS:
            notes.events.append(part)
        else:
            notes.dropped_events += 1

    def _account(self, part: Part, now: int, cpu: int | None) -> None:
        wall = max(0, now - part.began)
        used = 0 if cpu is None or part.cpu_began is None else max(0, cpu - part.cpu_began)
        scope = self.scope()
        scope.nested_ns += wall
        scope.nested_cpu_ns += used
        part.ended = part.began + wall
        self.count(part, wall - part.nested_ns, used - part.nested_cpu_ns)


def current() -> Span | None:
    """Return the span of the request that runs here, if any."""
    span = CURRENT.get()
    return None if span is None or span.ended else span
