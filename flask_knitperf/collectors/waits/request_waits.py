"""Waits of one request: parts of it, and the lines of own code that wait.

A wait is recorded when it is over, with the time of those nested in it left out. Its CPU time counts as
zero: a thread that waits computes little, and reading the clocks would take longer than that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextvars import ContextVar
from threading import get_ident
from typing import TYPE_CHECKING, Any, NamedTuple

from ...core.code_locations import caller
from ...metrics.catalogue import WAIT, WaitThread
from ...metrics.instruments import OTHER
from ...metrics.log_format import Observation, with_total
from ...recording.sleeps import EndedSleep, Sleeps
from ...recording.span import CURRENT, Span
from ..requests.endpoint_series import endpoint_of

if TYPE_CHECKING:
    from .async_waits import RunningWaits
    from .thread_pools import PoolTask

COLLECTOR = "waits"
MIN_WAIT_NS = 100_000  # below which a wait is not a part
_MAX_ROWS = 200  # combinations of part and line in one request; further ones are merged
IN_WAIT: ContextVar[bool] = ContextVar("knitperf_in_wait", default=False)
"""Whether a wait runs here that is recorded as a whole, with every wait inside of it."""


class CallSite:
    """A :class:`...recording.span.Detail`: the line that waits."""

    __slots__ = ("_where",)

    def __init__(self, where: str) -> None:
        self._where = where

    def as_dict(self) -> dict[str, Any]:
        """Return the line as JSON values."""
        return {"where": self._where or None}


class WaitEvent:
    """A :class:`...recording.span.Event`: a wait that is over.

    Args:
        name: of the part.
        began: its start, in nanoseconds on the recorder's clock.
        ended: its end.
        where: the line that waits, empty where unknown.
    """

    __slots__ = ("began", "ended", "name", "where")

    def __init__(self, name: str, began: int, ended: int, where: str) -> None:
        self.name, self.began, self.ended, self.where = name, began, ended, where

    @property
    def detail(self) -> CallSite:
        """The line that waits."""
        return CallSite(self.where)


class Started(NamedTuple):
    """A wait that runs.

    Attributes:
        span: the request.
        before: wall time that parts had taken at its start, see :meth:`.Span.nested`.
        began: its start, in nanoseconds on the recorder's clock.
    """

    span: Span
    before: int
    began: int

    def exclusive_ns(self) -> int:
        """Return its time so far without parts that have ended since its start, in nanoseconds."""
        now = self.span.owner.clock.monotonic_ns()
        return int(now - self.began - (self.span.nested()[0] - self.before))


class RequestWaits:
    """Waits of one request that are not recorded yet.

    Args:
        thread: that waits.
        where: line of waits without own code on the stack, empty where unknown.

    Attributes:
        rows: number and nanoseconds of waits, by part, line and thread.
        running: waits of tasks of asyncio that run (:mod:`.async_waits`), ``None`` without any so far.
        tasks: work that the request has submitted to thread pools, until it has waited for it.
        is_blocked: whether its thread waits for them at present.
        cpu: CPU time of those that it has waited for, in nanoseconds, where it is sampled.
    """

    def __init__(self, thread: WaitThread = WaitThread.REQUEST, where: str = "") -> None:
        self._thread, self._where = thread, where
        self.tasks: dict[PoolTask, None] = {}
        self.is_blocked, self.cpu = False, 0
        self.running: RunningWaits | None = None
        self.rows: dict[tuple[str, str, str], list[int]] = {}

    def add(
        self, part: str, where: str, times: int, wall: int, thread: WaitThread | None = None
    ) -> None:
        """Add waits.

        Args:
            part: name of the part.
            where: the line that waits, empty where unknown.
            times: number of waits; 0 for the rest of one that was counted already.
            wall: exclusive nanoseconds.
            thread: that waits, ``None`` for that of all other waits.
        """
        self._add((part, where or self._where, thread or self._thread), times, wall)

    def _add(self, key: tuple[str, str, str], times: int, wall: int) -> None:
        row = self.rows.get(key)
        if row is None:
            if len(self.rows) >= _MAX_ROWS:
                key = (OTHER, "", self._thread)
            row = self.rows.setdefault(key, [0, 0])
        row[0] += times
        row[1] += wall

    def add_sleep(self, span: Span, event: WaitEvent, before: int, is_concurrent: bool) -> None:
        """Add a sleep of a task: what is left of it beside other parts counts when they have ended.

        Args:
            span: the request.
            event: the sleep.
            before: wall time that parts had taken at its start.
            is_concurrent: whether another sleep ran at the same time.
        """
        notes = span.scope()
        own = notes.take(event.began, event.ended, before)
        sleep = EndedSleep(event.began, event.ended, own, (event, is_concurrent))
        self._count_sleeps(span, notes.sleeps.add(sleep))

    def _count_sleeps(self, span: Span, sleeps: Iterable[EndedSleep]) -> None:
        for sleep in sleeps:
            event, is_concurrent = sleep.data
            span.count(event, sleep.own, 0)
            thread = WaitThread.TASK if is_concurrent else None
            self.add(event.name, event.where, 1, sleep.own, thread)

    def absorb(self, other: RequestWaits, share: float) -> None:
        """Add a share, 0 to 1, of the time of waits in another thread, with their number."""
        for key, (times, wall) in other.rows.items():
            self._add(key, times, round(wall * share))

    def settle(self, span: Span) -> None:
        """Record the waits so far. Never raises."""
        try:
            sleeps: Sleeps | None = span.scope().sleeps
            if sleeps is not None:
                self._count_sleeps(span, sleeps.settle())
            rows, self.rows = _counted(self.rows), {}
            worker, endpoint = span.owner.worker, endpoint_of(span)
            batch: list[Observation] = []
            for labels, (times, wall) in rows.items():
                batch += with_total(worker.series(WAIT, (*endpoint, *labels)), times, wall)
            if batch:
                span.owner.emit(batch, worker)
        except Exception as error:
            span.owner.failed("waits", error)

    def finish(self, span: Span) -> None:  # noqa: ARG002
        """Drop the tasks that the request has not waited for."""
        tasks, self.tasks = self.tasks, {}
        for task in tasks:
            task.own = None

    def add_events(self, span: Span) -> None:
        """Do nothing: waits are in the timeline already."""


def _counted(rows: dict[tuple[str, str, str], list[int]]) -> dict[tuple[str, str, str], list[int]]:
    """Return the rows with the same sum of waits, and at least one in each.

    The body of an answer may be read at another line than the call: such a row takes one of the waits at
    the line of the call, or both are one row, at the line that waited longer.
    """
    for rest in [key for key, (times, _) in rows.items() if not times]:
        calls = [key for key, (times, _) in rows.items() if times and key[0] == rest[0]]
        here = [key for key in calls if key[2] == rest[2]]
        start = max(here or calls, key=lambda key: rows[key], default=None)
        if start is None:  # the rest of an answer that began outside of the request
            rows[rest][0] = 1
        elif not here:  # the body was read alone, and the calls ran side by side
            rows[start][1] += rows.pop(rest)[1]
        elif rows[start][0] > 1:
            rows[start][0] -= 1
            rows[rest][0] = 1
        else:
            longer, shorter = sorted((start, rest), key=lambda key: -rows[key][1])
            rows[longer] = [1, rows[longer][1] + rows.pop(shorter)[1]]
    return rows


def waits_of(span: Span) -> RequestWaits:
    """Return the waits of a request; create them if need be."""
    waits: RequestWaits | None = None
    if span.notes is not None:
        waits = span.notes.collectors.get(COLLECTOR)
    if waits is None:
        waits = RequestWaits()
        span.attach(COLLECTOR, waits, fast=True)
    return waits


def begin() -> Started | None:
    """Start a wait; return ``None`` outside of requests, and within a wait that counts as a whole."""
    span = CURRENT.get()
    if span is None or span.ended or IN_WAIT.get():
        return None
    try:
        return Started(span, span.nested()[0], span.owner.clock.monotonic_ns())
    except Exception as error:
        span.owner.failed("waits", error)
        return None


def end(
    started: Started, part: str, times: int = 1, min_ns: int = MIN_WAIT_NS,
    max_ns: float = math.inf,
) -> None:  # fmt: skip
    """End a wait: record it as a part of its request, unless it was short. Never raises.

    Args:
        started: of :func:`begin`.
        part: name of the part.
        times: number of waits that it counts as; 0 for the rest of one that was counted already.
        min_ns: duration from which it is recorded.
        max_ns: duration above which it did not wait for that any more, but for a core or the GIL.
    """
    span, before, began = started
    try:
        ended = span.owner.clock.monotonic_ns()
        if ended - began < min_ns or span.ended:
            return
        if span.hook is not None and span.thread == get_ident():
            return  # a before_request function keeps the time for which it waits
        if ended - began > max_ns:
            ended = began + int(max_ns)
        where = caller(1)
        waits = waits_of(span)
        own = span.insert_event(WaitEvent(part, began, ended, where), before, times)
        waits.add(part, where, times, own)
    except Exception as error:
        span.owner.failed("waits", error)
