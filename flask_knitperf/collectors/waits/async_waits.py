"""Waits of coroutines, of which several of one request may run at the same time.

A thread waits for one thing after another, the tasks of an event loop side by side. Each moment belongs
to the wait that ends first (:mod:`...recording.span`), so that together they take the time in which at
least one of them runs; sleeps have only what is left (:mod:`...recording.sleeps`). Those that run beside
another one of their kind are counted apart: they do not run one after another.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from contextvars import ContextVar
from types import CoroutineType
from typing import Any, NamedTuple

from ...core.code_locations import call_site, caller, is_own
from ...core.host_exceptions import raise_if_of_host
from ...metrics.catalogue import PartKind, WaitThread
from ...recording.sleeps import Sleeps
from ...recording.span import CURRENT, Span
from .request_waits import IN_WAIT, MIN_WAIT_NS, WaitEvent, waits_of
from .thread_pools import PoolTask

_MAX_DEPTH = 100  # coroutines that are followed from one that awaits to the one that is awaited
_OUTER: ContextVar[TaskWait | None] = ContextVar("knitperf_outer_wait", default=None)
"""The innermost wait that runs in a task."""


class TaskWait:
    """A wait of a task that runs.

    Args:
        span: the request.
        kind: of the part.

    Attributes:
        calls: number of calls that waits within it have counted.
        host: of the first of those, if any.
        is_concurrent: whether another wait of its kind ran at the same time.
        outer: the wait that it is within, ``None`` for none.
    """

    __slots__ = ("before", "began", "calls", "host", "is_concurrent", "kind", "outer", "span")

    def __init__(self, span: Span, kind: str) -> None:
        self.span, self.kind = span, kind
        self.calls = 0
        self.host: Any = None
        self.is_concurrent = False
        self.outer = _OUTER.get()
        self.before = span.nested()[0]
        self.began = span.owner.clock.monotonic_ns()

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
    """Waits of one request's tasks that run.

    Attributes:
        waits: the waits.
        awaiting: the latest line that was looked up for a task, ``None`` before the first.
    """

    __slots__ = ("awaiting", "waits")

    def __init__(self) -> None:
        self.waits: list[TaskWait] = []
        self.awaiting: Awaiting | None = None

    def add(self, wait: TaskWait) -> None:
        """Add a wait that begins."""
        for other in self.waits:
            if other.kind == wait.kind and not wait.is_within(other):
                wait.is_concurrent = other.is_concurrent = True
        self.waits.append(wait)


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
        wait = TaskWait(span, kind)
        running_of(span).add(wait)
        if kind == PartKind.SLEEP and span.scope().sleeps is None:
            span.scope().sleeps = Sleeps()
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
    wait: TaskWait, part: str | None, times: int = 1, min_ns: int = MIN_WAIT_NS,
    max_ns: float = math.inf,
) -> None:  # fmt: skip
    """End a wait of :func:`enter`; see :func:`end`. Never raises."""
    _OUTER.set(wait.outer)  # not reset(): a coroutine that is closed late ends in another context
    end(wait, part, times, min_ns, max_ns)


def end(
    wait: TaskWait, part: str | None, times: int = 1, min_ns: int = MIN_WAIT_NS,
    max_ns: float = math.inf, where: str | None = None, task: PoolTask | None = None,
) -> None:  # fmt: skip
    """End a wait: record it as a part of its request. Never raises.

    Args:
        wait: of :func:`begin`.
        part: name of the part, ``None`` where it is not recorded.
        times: number of waits that it counts as; 0 for the rest of one that was counted already.
        min_ns: duration from which it is recorded.
        max_ns: duration above which it did not wait for that any more, but for a core or the GIL.
        where: the line that waits, ``None`` for the one on the stack, or the one that awaits this task.
        task: work of a thread pool that it waited for, which is part of the request too.
    """
    span, began = wait.span, wait.began
    try:
        ended = span.owner.clock.monotonic_ns()
        running_of(span).waits.remove(wait)
        if part is None or ended - began < min_ns or span.ended:
            return
        if span.hook is not None:
            return  # a before_request function keeps the time for which it waits
        if wait.outer is not None:
            wait.outer.calls += times
        if ended - began > max_ns:
            ended = began + int(max_ns)
        if where is None:
            where = caller(1) or awaited_at(span)
        waits = waits_of(span)
        if wait.kind == PartKind.SLEEP:
            waits.add_sleep(
                span, WaitEvent(part, began, ended, where), wait.before, wait.is_concurrent
            )
            return
        own, computed = span.scope().take_work(began, ended, wait.before), 0
        if task is not None:
            waits.tasks.pop(task, None)
            own -= task.move_to(span, min(1.0, own / task.wall))
            computed = min(task.cpu, max(0, own))
        span.count(WaitEvent(part, began, ended, where), own, computed, times)
        waits.add(part, where, times, own, WaitThread.TASK if wait.is_concurrent else None)
    except Exception as error:
        span.owner.failed("waits", error)


# -- the line that awaits --------------------------------------------------------------------------


def awaited_at(span: Span) -> str:
    """Return the line of the application that awaits the current task, empty where unknown.

    It is not on the stack: ``await asyncio.gather(client.get(url), …)`` runs each call as a task.
    """
    try:
        return _awaited_at(running_of(span), asyncio.current_task())
    except RuntimeError as error:  # outside of a loop
        raise_if_of_host(error)
    except Exception as error:
        span.owner.failed("waits", error)
    return ""


def _awaited_at(running: RunningWaits, task: asyncio.Task[Any] | None) -> str:
    current = task
    for _ in range(_MAX_DEPTH):
        if task is None:
            break
        if running.awaiting is not None and task in running.awaiting.tasks:
            return running.awaiting.where
        task, tasks = _awaiter(task)
        where = "" if task is None else _line(task.get_coro())
        if where:
            running.awaiting = Awaiting(tasks, where)
            return where
    return "" if current is None else _only_line(running, current)


def _only_line(running: RunningWaits, task: asyncio.Task[Any]) -> str:
    """Return the line at which the other tasks of a loop wait, if it is one: e.g. of a ``TaskGroup``."""
    others = [other for other in asyncio.all_tasks() if other is not task]
    lines = {line for other in others if (line := _line(other.get_coro()))}
    if len(lines) != 1:
        return ""
    running.awaiting = Awaiting([other for other in others if not _line(other.get_coro())], *lines)
    return running.awaiting.where


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
