"""Pools of connections: how long requests wait for a connection, and for how long they hold it.

SQLAlchemy tells when a connection leaves its pool and comes back; that somebody waits for one no event
tells, so the pool's ``connect`` is stood in for. Waiting is told from opening a new connection, which
takes its time too. How many were out at each checkout is counted as well: arrivals see what there is on
the average over time (Wolff 1982, "Poisson arrivals see time averages"), so that is how busy a pool is.

A connection whose request is over and that did not come back has leaked; the stack that took it is kept.
"""

from __future__ import annotations

import os
import weakref
from typing import Any, NamedTuple

from ...core.code_locations import callers
from ...core.locks import Lock
from ...metrics.catalogue import (
    POOL_HOLD,
    POOL_IN_USE,
    POOL_INVALIDATED,
    POOL_LEAK,
    POOL_LIMIT,
    POOL_OPENED,
    POOL_SIZE,
    POOL_TIMEOUTS,
    POOL_WAIT,
    PartKind,
    PoolLeakDetail,
    PoolLeakKey,
)
from ...metrics.instruments import Meter
from ...recording.recorder import QueryTracking, Recorder
from ...recording.span import Span, current

PART = PartKind.POOL.value
TOLD_NS = 1_000_000
"""Waiting is a part of its request from here on."""
_OPENING = 1000
_STACK = 12
"""Lines of own code that are kept of who took a connection."""
LEAKED_NS = 5_000_000_000
"""A connection has leaked when its request is over for so long."""


class Out(NamedTuple):
    """A connection that is out.

    Attributes:
        span: the request that took it.
        stack: the lines of own code that did, the innermost first.
        began: when, in nanoseconds on the recorder's clock.
    """

    span: Span
    stack: tuple[str, ...]
    began: int


def name_of(engine: Any) -> str:
    """Return how an engine's pool is called: kind, host and database, without user and password."""
    url = engine.url
    database = os.path.basename(str(url.database or "")) or ":memory:"
    return f"{engine.dialect.name}://{url.host or ''}/{database}"


class PoolWatcher:
    """Watches the pool of one engine.

    Args:
        engine: an ``Engine``.

    Attributes:
        name: of the pool.
        out: connections that are out, by the id of their record; of requests only.
    """

    def __init__(self, engine: Any) -> None:
        self._engine = weakref.ref(engine)
        self.name = name_of(engine)
        self.out: dict[int, Out] = {}
        self._leaked: set[int] = set()
        self._opened: set[int] = set()
        self._turn = Lock()
        self._listeners = (
            ("connect", self._connected), ("checkout", self._taken), ("checkin", self._back),
            ("invalidate", self._invalid), ("soft_invalidate", self._invalid),
            ("engine_disposed", self._renewed),
        )  # fmt: skip

    def listen(self) -> None:
        """Begin to watch."""
        from sqlalchemy import event

        engine = self._engine()
        for name, listener in self._listeners:
            event.listen(engine, name, listener)
        if engine is not None:
            self._stand_in(engine.pool)

    def remove(self) -> None:
        """Watch no more."""
        from sqlalchemy import event

        engine = self._engine()
        if engine is None:
            return
        for name, listener in self._listeners:
            if event.contains(engine, name, listener):
                event.remove(engine, name, listener)
        pool = engine.pool
        if getattr(pool.connect, "__knitperf__", None) is self:
            del pool.connect

    def _stand_in(self, pool: Any) -> None:
        connect = pool.connect
        if getattr(connect, "__knitperf__", None) is self:
            return

        def watched() -> Any:
            span = current()
            return connect() if span is None else self._connect(connect, span)

        watched.__knitperf__ = self  # type: ignore[attr-defined]
        pool.connect = watched

    def _renewed(self, engine: Any) -> None:
        self._stand_in(engine.pool)

    def _connect(self, connect: Any, span: Span) -> Any:
        """Take a connection, and the time of waiting for it."""
        recorder, me = span.owner, id(span)
        self._opened.discard(me)
        clock, before = recorder.clock, span.nested()
        began = clock.monotonic_ns()
        try:
            found = connect()
        except Exception as error:
            if type(error).__name__ == "TimeoutError":
                self._waited(span, began, before, POOL_TIMEOUTS)
            raise
        opened = me in self._opened
        self._opened.discard(me)
        self._waited(span, began, before, POOL_OPENED if opened else POOL_WAIT)
        return found

    def _waited(self, span: Span, began: int, before: tuple[int, int], meter: Meter) -> None:
        recorder: Recorder = span.owner
        try:
            now = recorder.clock.monotonic_ns()
            if now - began >= TOLD_NS:
                span.insert(PART, began, now, None, before)
            recorder.record((recorder.series(meter, self.name), float(now - began)))
        except Exception as error:
            recorder.failed("pools", error)

    def _connected(self, _connection: Any, _record: Any) -> None:
        span = current()
        if span is not None:
            if len(self._opened) >= _OPENING:
                self._opened.clear()
            self._opened.add(id(span))

    def _taken(self, _connection: Any, record: Any, _proxy: Any) -> None:
        span = current()
        if span is None:
            return
        recorder: Recorder = span.owner
        try:
            with_stack = recorder.query_tracking == QueryTracking.COUNT_WITH_CALL_SITE
            stack = callers(_STACK) if with_stack else ()
            out = Out(span, stack, recorder.clock.monotonic_ns())
            self.out[id(record)] = out
            recorder.record((recorder.series(POOL_IN_USE, self.name), float(len(self.out))))
        except Exception as error:
            recorder.failed("pools", error)

    def _back(self, _connection: Any, record: Any) -> None:
        out = self.out.pop(id(record), None)
        if out is None:
            return
        self._leaked.discard(id(record))
        recorder: Recorder = out.span.owner
        try:
            held = recorder.clock.monotonic_ns() - out.began
            recorder.record((recorder.series(POOL_HOLD, self.name), float(held)))
        except Exception as error:
            recorder.failed("pools", error)

    def _invalid(self, _connection: Any, _record: Any, error: BaseException | None) -> None:
        span = current()
        if span is None:
            return
        recorder: Recorder = span.owner
        try:
            why = "asked for" if error is None else type(error).__name__
            recorder.record((recorder.series(POOL_INVALIDATED, self.name, why), 1.0))
        except Exception as failure:
            recorder.failed("pools", failure)

    def look(self, recorder: Recorder) -> None:
        """Record how large the pool is, and what has leaked of it (a housekeeper's job)."""
        engine = self._engine()
        if engine is None:
            return
        pool = engine.pool
        size = getattr(pool, "size", None)
        if callable(size):
            limit = size() + max(0, int(getattr(pool, "_max_overflow", 0)))
            recorder.record((recorder.series(POOL_SIZE, self.name), float(size())))
            recorder.record((recorder.series(POOL_LIMIT, self.name), float(limit)))
        now = recorder.clock.monotonic_ns()
        with self._turn:
            for record, out in list(self.out.items()):
                span = out.span
                over = span.ended and now - span.began - span.wall > LEAKED_NS
                if over and span.owner is recorder and record not in self._leaked:
                    self._leaked.add(record)
                    where = out.stack[0].partition(" in ")[0] if out.stack else ""
                    key, waited = PoolLeakKey(self.name, where), now - out.began
                    detail = PoolLeakDetail(stack=list(out.stack))
                    recorder.note(POOL_LEAK, key, waited, detail)
