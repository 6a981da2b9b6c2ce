"""Work that a request submits to a thread pool and waits for: it is part of the request.

A task runs with a separate span (:class:`PoolTask`), which collects its parts, file reads, statements
and waits. Once the request waits for the task, they count as the request's. Tasks run at the same time,
and their times may sum to more than the request waited. So of each part the share counts that the
waiting time is of the time of the tasks. The rest of it, in which they computed or queued for a free
thread, remains waiting for threads, with the CPU time of the tasks. Tasks that a request does not wait
for are not part of it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextvars import Context
from threading import get_ident
from typing import Any

from ...core.code_locations import caller
from ...metrics.catalogue import PartKind, WaitThread
from ...recording.span import CURRENT, EVENTS, Span, current
from .replacements import Switch, Target
from .request_waits import (
    COLLECTOR,
    IN_WAIT,
    MIN_WAIT_NS,
    RequestWaits,
    Started,
    begin,
    end,
    waits_of,
)

_Function = Callable[..., Any]
_PART = PartKind.THREADS.value
_TASK = "_knitperf_task"  # attribute of a future: its task
_MAX_TASKS = 1000  # of one request; further ones are only waited for


class PoolTask:
    """A function that a pool calls for a request.

    Args:
        span: the request.
        function: the function.
        where: the line that submits it, empty where unknown.

    Attributes:
        own: span of the task, once it is done and until it is counted.
        is_done: whether the function has returned, or raised.
        wall: its duration in nanoseconds, once it is done.
        cpu: its CPU time outside of parts in nanoseconds, 0 where the request's is not sampled.
        thread: identity of the thread that calls the function at present, 0 for none.
        computed: its CPU time in nanoseconds, 0 where that of the request is not sampled.
    """

    __slots__ = (
        "_function", "_span", "_where", "computed", "cpu", "is_done", "own", "thread", "wall",
    )  # fmt: skip

    def __init__(self, span: Span, function: _Function, where: str) -> None:
        self._span, self._function, self._where = span, function, where
        self.own: Span | None = None
        self.is_done = False
        self.wall = self.cpu = self.computed = self.thread = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function; what it does is collected for the request, if that still runs."""
        span, function = self._span, self._function
        del self._span, self._function  # the future may live longer than the request
        own = None if span.ended else self._start(span)
        if own is None:
            return function(*args, **kwargs)
        try:
            return _call_within(own, function, args, kwargs)
        finally:
            self._end(own, span)

    def _start(self, span: Span) -> Span | None:
        """Return the span of the task, ``None`` where it is not recorded."""
        try:
            own = type(span)(span.owner, span.environ, span.owner.clock.monotonic_ns())
            self.thread = own.thread = get_ident()
            own.endpoint = span.endpoint
            if span.cpu_began is not None:
                own.cpu_began = own.owner.clock.thread_ns()
            own.attach(COLLECTOR, RequestWaits(WaitThread.POOL, self._where))
        except Exception as error:
            span.owner.failed("thread pools", error)
            return None
        return own

    def _end(self, own: Span, span: Span) -> None:
        try:
            now = own.owner.clock.monotonic_ns()
            clock, began = own.owner.clock, own.cpu_began
            own.close_all(now, None if began is None else clock.runnable_ns())
            self.thread = 0
            if began is not None:
                in_parts = sum(cpu for _, _, cpu in (own.parts or {}).values())
                self.computed = clock.thread_ns() - began
                self.cpu = max(0, self.computed - in_parts)
            self.wall = own.wall = max(1, now - own.began)
            own.ended = True
            self.own = None if span.ended else own
            self.is_done = True  # last: another thread may wait for it
        except Exception as error:
            own.owner.failed("thread pools", error)

    def move_to(self, span: Span, share: float) -> int:
        """Count the work as the request's; return the nanoseconds of its parts. Only once.

        Args:
            span: the request.
            share: of the task's time that the request has waited for, 0 to 1.
        """
        own, self.own = self.own, None
        if own is None or own.notes is None:
            return 0
        own.endpoint = span.endpoint
        collectors = dict(own.notes.collectors)
        waits: RequestWaits = collectors.pop(COLLECTOR)
        of_request = waits_of(span)
        of_request.absorb(waits, share)
        of_request.cpu += self.computed
        for collector in collectors.values():
            absorb = getattr(collector, "absorb", None)
            if absorb is not None:
                absorb(span, own)
            else:
                collector.settle(own)
                collector.finish(own)
        moved = 0
        for name, (count, wall, cpu) in (own.parts or {}).items():
            time = round(wall * share)
            span.add(name, count, time, round(cpu * share))
            moved += time
        notes = span.ensure_notes()
        room = max(0, EVENTS - len(notes.events))
        notes.events += own.notes.events[:room]
        notes.dropped_events += own.notes.dropped_events + len(own.notes.events[room:])
        notes.rows += own.notes.rows
        return moved


def _call_within(own: Span, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a function with a current span, one that runs in a context of the request too.

    ``asyncio.to_thread`` submits ``context.run``, in whose context the request's span is current.
    """
    method = function.func if type(function) is functools.partial else function
    if type(getattr(method, "__self__", None)) is Context and method.__name__ == "run":
        if method is not function:
            args, kwargs = (*function.args, *args), {**function.keywords, **kwargs}
        if args:
            return method(_call_within, own, args[0], args[1:], kwargs)
    token = CURRENT.set(own)
    try:
        return function(*args, **kwargs)
    finally:
        CURRENT.reset(token)


def _move(span: Span, tasks: list[PoolTask], waited: int) -> int:
    """Count the work of finished tasks as the request's that waited for them.

    Args:
        span: the request.
        tasks: that it has waited for.
        waited: nanoseconds that it has waited.

    Returns:
        Their CPU time outside of parts in nanoseconds. It is not scaled: of threads that compute, one
        runs at a time.
    """
    whole = sum(task.wall for task in tasks)
    share = min(1.0, waited / whole) if whole and waited >= MIN_WAIT_NS else 0.0
    scope = span.scope()
    scope.nested_ns += sum([task.move_to(span, share) for task in tasks])
    return sum(task.cpu for task in tasks)


def add_computing(span: Span, cpu: int) -> None:
    """Add CPU time of tasks, in nanoseconds, to the part of waiting for threads, if there is one."""
    if cpu and _PART in (span.parts or {}):
        span.add(_PART, 0, 0, cpu)


def computed_in_pools(span: Span) -> int:
    """Return the CPU time of the tasks of a sampled request in nanoseconds."""
    waits = None if span.notes is None else span.notes.collectors.get(COLLECTOR)
    return 0 if waits is None else waits.cpu


def working_thread(span: Span, number: int) -> int | None:
    """Return a thread that works for a request while its thread waits for a pool, ``None`` without one.

    Args:
        span: the request.
        number: of the look, so that several threads take turns.
    """
    waits = None if span.notes is None else span.notes.collectors.get(COLLECTOR)
    if waits is None or not waits.is_blocked:
        return None
    threads = [task.thread for task in waits.tasks.copy() if task.thread]
    return threads[number % len(threads)] if threads else None


def _finish(wait: Started, task: PoolTask | None = None) -> None:
    """End a wait for one task, or for any tasks of the request. Never raises."""
    span, cpu = wait.span, 0
    try:
        waits = waits_of(span)
        waits.is_blocked, tasks = False, waits.tasks
        done = [one for one in ([task] if task else list(tasks)) if one.is_done]
        for one in done:
            tasks.pop(one, None)
        if done and not span.ended:
            cpu = _move(span, done, span.owner.clock.monotonic_ns() - wait.began)
    except Exception as error:
        span.owner.failed("thread pools", error)
    end(wait, _PART)
    add_computing(span, cpu)


def _begin() -> Started | None:
    """Start a wait for tasks of the request; return ``None`` as :func:`.request_waits.begin` does."""
    wait = begin()
    if wait is not None:
        try:
            waits_of(wait.span).is_blocked = True
        except Exception as error:
            wait.span.owner.failed("thread pools", error)
    return wait


# -- replacements ----------------------------------------------------------------------------------


def _submit(original: _Function, switch: Switch) -> _Function:
    @functools.wraps(original)
    def submit(self: Any, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        span = current() if switch.is_on and type(fn) is not PoolTask else None
        task = None if span is None else new_task(span, fn, caller())
        future = original(self, fn if task is None else task, *args, **kwargs)
        if task is not None:
            setattr(future, _TASK, task)
        return future

    return submit


def new_task(span: Span, function: Any, where: str) -> PoolTask | None:
    """Return a task of a request, ``None`` where there is no room for another one.

    Args:
        span: the request.
        function: the function that a pool is to call.
        where: the line that submits it, empty where unknown.
    """
    try:
        tasks = waits_of(span).tasks
        if not callable(function) or len(tasks) >= _MAX_TASKS:
            return None
        task = PoolTask(span, function, where)
        tasks[task] = None
    except Exception as error:
        span.owner.failed("thread pools", error)
        return None
    return task


def _wait_for_future(original: _Function, switch: Switch) -> _Function:
    @functools.wraps(original)
    def wait_for_future(self: Any, *args: Any, **kwargs: Any) -> Any:
        task = vars(self).get(_TASK)
        wait = _begin() if switch.is_on else None
        if wait is None:
            return original(self, *args, **kwargs)
        token = IN_WAIT.set(True)
        try:
            return original(self, *args, **kwargs)
        finally:
            IN_WAIT.reset(token)
            _finish(wait, task)

    return wait_for_future


def _wait_for_all(original: _Function, switch: Switch) -> _Function:
    @functools.wraps(original)
    def wait_for_all(*args: Any, **kwargs: Any) -> Any:
        wait = _begin() if switch.is_on else None
        if wait is None:
            return original(*args, **kwargs)
        token = IN_WAIT.set(True)
        try:
            return original(*args, **kwargs)
        finally:
            IN_WAIT.reset(token)
            _finish(wait)

    return wait_for_all


def _as_completed(original: _Function, switch: Switch) -> _Function:
    @functools.wraps(original)
    def as_completed(*args: Any, **kwargs: Any) -> Iterator[Any]:
        futures = original(*args, **kwargs)
        following = _wait_for_all(functools.partial(next, futures, None), switch)
        try:
            while (future := following()) is not None:
                yield future
        finally:
            futures.close()

    return as_completed


def targets() -> Iterator[Target]:
    """Yield the functions and methods that submit work to pools, or wait for it."""
    import concurrent.futures
    from concurrent.futures import thread

    yield Target(thread.ThreadPoolExecutor, "submit", _submit)
    yield Target(thread.ThreadPoolExecutor, "shutdown", _wait_for_all)
    for name in ("result", "exception"):
        yield Target(concurrent.futures.Future, name, _wait_for_future)
    for name, wrap in (("wait", _wait_for_all), ("as_completed", _as_completed)):
        yield Target(concurrent.futures, name, wrap, is_imported=True)
