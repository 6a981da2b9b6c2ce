"""Waits of coroutines: several of one request may run at the same time, and then they share its time.

A thread waits for one thing after another; the tasks of an event loop wait side by side. The time in
which at least one wait of a request runs is divided equally among those that run, so that all of them
together take that time, and never more than the request. A wait within another one of the same task (the
look-up of an address within a call) takes the time of the outer one. Parts that block the loop meanwhile
(statements, file reads) keep theirs.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from contextvars import ContextVar
from types import CoroutineType
from typing import TYPE_CHECKING, Any, NamedTuple

from ...core.code_locations import call_site, caller, is_own
from ...metrics.catalogue import WaitThread
from ...recording.span import CURRENT, Notes, Span
from .request_waits import IN_WAIT, MIN_WAIT_NS, WaitEvent, waits_of

if TYPE_CHECKING:
    from .thread_pools import PoolTask

_MAX_DEPTH = 100  # coroutines that are followed from one that awaits to the one that is awaited
_OUTER: ContextVar[TaskWait | None] = ContextVar("knitperf_outer_wait", default=None)
"""The innermost wait that runs in a task."""


class TaskWait:
    """A wait of a task that runs.

    Args:
        span: the request.
        kind: of the part.
        began: its start, in nanoseconds on the recorder's clock.

    Attributes:
        shared: nanoseconds of the request that are its share so far.
        inner: number of waits within it that run.
        calls: number of calls that waits within it have counted.
        host: of the first of those, if any.
        is_concurrent: whether another wait of its kind ran at the same time.
    """

    __slots__ = (
        "began", "calls", "host", "inner", "is_concurrent", "kind", "outer", "shared", "span",
    )  # fmt: skip

    def __init__(self, span: Span, kind: str, began: int) -> None:
        self.span, self.kind, self.began = span, kind, began
        self.shared = 0.0
        self.inner = self.calls = 0
        self.host: Any = None
        self.is_concurrent = False
        self.outer: TaskWait | None = None

    def is_within(self, other: TaskWait) -> bool:
        """Return whether this wait runs within another one."""
        outer = self.outer
        while outer is not None and outer is not other:
            outer = outer.outer
        return outer is other


class Awaiting(NamedTuple):
    """Tasks that one line awaits.

    Attributes:
        tasks: the tasks.
        where: the line.
    """

    tasks: Sequence[Any]
    where: str


class RunningWaits:
    """Waits of one request's tasks that run, and share its time.

    Attributes:
        waits: those that run.
        awaiting: the latest line that was looked up for a task, ``None`` before the first.
    """

    __slots__ = ("_nested", "_scope", "_shared_at", "awaiting", "waits")

    def __init__(self) -> None:
        self.waits: list[TaskWait] = []
        self.awaiting: Awaiting | None = None
        self._shared_at = self._nested = 0
        self._scope: Notes | None = None

    def share(self, span: Span, now: int) -> None:
        """Divide the time since the latest call among the waits that run."""
        sharing = [wait for wait in self.waits if not wait.inner]
        scope = span.scope()
        elapsed = now - self._shared_at
        if scope is self._scope:
            elapsed -= scope.nested_ns - self._nested  # other parts, which blocked the loop
        if sharing and elapsed > 0:
            for wait in sharing:
                wait.shared += elapsed / len(sharing)
            scope.nested_ns += elapsed  # a section that ends before they do must not have it
        self.mark(scope, now)

    def mark(self, scope: Notes, now: int) -> None:
        """Begin to measure the time that is divided next."""
        self._scope, self._nested, self._shared_at = scope, scope.nested_ns, now


def running_of(span: Span) -> RunningWaits:
    """Return the waits of a request's tasks that run."""
    waits = waits_of(span)
    if waits.running is None:
        waits.running = RunningWaits()
    return waits.running


def begin(kind: str) -> TaskWait | None:
    """Start a wait; return ``None`` outside of requests, and within a wait that counts as a whole.

    Args:
        kind: of its part.
    """
    span = CURRENT.get()
    if span is None or span.ended or IN_WAIT.get():
        return None
    try:
        now = span.owner.clock.monotonic_ns()
        running = running_of(span)
        running.share(span, now)
        wait = TaskWait(span, kind, now)
        outer = _OUTER.get()
        if outer is not None and outer in running.waits:
            wait.outer = outer
            outer.inner += 1
        for other in running.waits:
            if other.kind == kind and not wait.is_within(other):
                wait.is_concurrent = other.is_concurrent = True
        running.waits.append(wait)
    except Exception as error:
        span.owner.failed("waits", error)
        return None
    return wait


def enter(kind: str) -> TaskWait | None:
    """Start a wait as :func:`begin` does; those that begin before :func:`leave` are within it."""
    wait = begin(kind)
    if wait is not None:
        _OUTER.set(wait)
    return wait


def leave(
    wait: TaskWait,
    part: str | None,
    times: int = 1,
    min_ns: int = MIN_WAIT_NS,
    max_ns: float = math.inf,
) -> None:
    """End a wait of :func:`enter`; see :func:`end`. Never raises."""
    _OUTER.set(wait.outer)  # not reset(): a coroutine that is closed late ends in another context
    end(wait, part, times, min_ns, max_ns)


def end(
    wait: TaskWait, part: str | None, times: int = 1, min_ns: int = MIN_WAIT_NS,
    max_ns: float = math.inf, task: PoolTask | None = None, where: str | None = None,
) -> None:  # fmt: skip
    """End a wait: record its share of the time as a part of its request. Never raises.

    Args:
        wait: of :func:`begin`.
        part: name of the part, ``None`` where it is not recorded.
        times: number of waits that it counts as; 0 for the rest of one that was counted already.
        min_ns: duration from which it is recorded.
        max_ns: share above which it did not wait for that any more, but for a core or the GIL.
        task: work of a thread pool that it waited for, which is part of the request too.
        where: the line that waits, ``None`` for the one on the stack, or the one that awaits this task.
    """
    span, outer = wait.span, wait.outer
    try:
        now = span.owner.clock.monotonic_ns()
        waits, running = waits_of(span), running_of(span)
        running.share(span, now)
        running.waits.remove(wait)
        if outer is not None:
            outer.inner -= 1
        if span.ended:
            return
        scope, whole = span.scope(), round(wait.shared)
        is_short = part is None or now - wait.began < min_ns
        if span.hook is not None or (is_short and outer is None):
            scope.nested_ns -= whole  # a hook keeps the time for which it waits
            running.mark(scope, now)
            return
        if part is None or is_short:
            if outer is not None:
                outer.shared += wait.shared
            return
        shared = round(min(whole, max_ns))
        scope.nested_ns -= whole - shared
        if task is not None:
            waits.tasks.pop(task, None)
            moved = task.move_to(span, min(1.0, shared / task.wall))
            scope.nested_ns += max(0, moved - shared)
            shared = max(0, shared - moved)
        if outer is not None:
            outer.calls += times
        if where is None:
            where = caller(1) or awaited_at(span)
        span.count(WaitEvent(part, wait.began, now, where), shared, 0, times)
        running.mark(scope, now)
        waits.add(part, where, times, shared, WaitThread.TASK if wait.is_concurrent else None)
    except Exception as error:
        span.owner.failed("waits", error)


# -- the line that awaits --------------------------------------------------------------------------


def awaited_at(span: Span) -> str:
    """Return the line of the application that awaits the current task, empty where unknown.

    It is not on the stack: ``await asyncio.gather(client.get(url), …)`` runs each call as a task.
    """
    running, task = running_of(span), asyncio.current_task()
    for _ in range(_MAX_DEPTH):
        if task is None:
            return ""
        if running.awaiting is not None and task in running.awaiting.tasks:
            return running.awaiting.where
        task, tasks = _awaiter(task)
        where = "" if task is None else _line(task.get_coro())
        if where:
            running.awaiting = Awaiting(tasks, where)
            return where
    return ""


def _awaiter(task: asyncio.Task[Any]) -> tuple[asyncio.Task[Any] | None, Sequence[Any]]:
    """Return the task that awaits another one, ``None`` where unknown, and all tasks that it awaits."""
    for other in asyncio.all_tasks():
        waiter = getattr(other, "_fut_waiter", None)  # private, and all that asyncio offers
        tasks = getattr(waiter, "_children", None) or (waiter,)  # those of ``gather``
        if task in tasks:
            return other, tasks
    return None, ()


def _line(coroutine: Any) -> str:
    """Return the innermost line of the application at which a coroutine is suspended."""
    where = ""
    for _ in range(_MAX_DEPTH):
        if not isinstance(coroutine, CoroutineType) or coroutine.cr_frame is None:
            break
        if is_own(coroutine.cr_code):
            where = call_site(coroutine.cr_frame)
        coroutine = coroutine.cr_await
    return where
