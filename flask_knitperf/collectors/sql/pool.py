"""Connection pools: wait, hold and open times, usage at checkout, timeouts, and leaked connections.

SQLAlchemy has events for checkout and checkin, but none for waiting, so the pool's ``connect`` is
wrapped. Waiting is separated from opening a connection, which takes time too. The connections in use are
recorded at each checkout: arrivals see time averages (Wolff 1982, "Poisson arrivals see time averages"),
so their mean is the utilisation of the pool.

A connection leaks if it is not checked in after its request has ended; its checkout stack is kept.
"""

from __future__ import annotations

import hashlib
import os
import weakref
from collections.abc import Collection
from typing import Any, NamedTuple

from ...core.code_locations import callers
from ...core.locks import create_lock
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
MIN_PART_NS = 1_000_000
"""Wait from which it is a part of its request."""
LEAK_AFTER_NS = 5_000_000_000
"""Time after the end of its request at which a checked-out connection has leaked."""
_MAX_OPENING = 1000
_MAX_TWINS = 9
"""Number of engines of one database whose pools have separate names."""
_MAX_STACK_LINES = 12
"""Number of lines of own code in a checkout stack."""


class Checkout(NamedTuple):
    """A checked-out connection.

    Attributes:
        span: the request.
        stack: lines of own code, the innermost first.
        began: time of the checkout, in nanoseconds on the recorder's clock.
    """

    span: Span
    stack: tuple[str, ...]
    began: int


def pool_name(engine: Any, taken: Collection[str] = ()) -> str:
    """Return the name of an engine's pool: kind, host, port and database, without user and password.

    Of a file the name has the folder and a digest of the whole path, for tenants often have files and
    folders of equal names.

    Args:
        engine: an ``Engine``.
        taken: names of other pools; a pool with the same name has a number.
    """
    url = engine.url
    folder, database = os.path.split(str(url.database or ""))
    if folder:
        digest = hashlib.sha256(os.path.abspath(folder).encode("utf-8", "replace")).hexdigest()[:6]
        database = f"{os.path.basename(folder)}/{database}~{digest}"
    host = f"{url.host or _host_of_query(url)}" + ("" if url.port is None else f":{url.port}")
    name = f"{engine.dialect.name}://{host}/{database or ':memory:'}"
    label = getattr(engine.pool, "logging_name", None)
    if label:
        name += f" [{label}]"
    numbered = (name, *(f"{name} ({number})" for number in range(2, _MAX_TWINS + 1)))
    return next((free for free in numbered if free not in taken), numbered[-1])


def _host_of_query(url: Any) -> str:
    """Return the host that a URL has in its query, as those of libpq may."""
    hosts = dict(getattr(url, "query", ())).get("host", "")
    return hosts if isinstance(hosts, str) else ",".join(hosts)


class PoolListener:
    """Event listeners of the pool of one engine.

    Args:
        engine: an ``Engine``.
        taken: names of other pools.

    Attributes:
        name: of the pool.
        checkouts: checked-out connections by the id of their record; those of requests only.
        disposed: whether the engine was disposed of, after which another one may have its name.
    """

    def __init__(self, engine: Any, taken: Collection[str] = ()) -> None:
        self._engine = weakref.ref(engine)
        self.name = pool_name(engine, taken)
        self.checkouts: dict[int, Checkout] = {}
        self.disposed = False
        self._leaked: set[int] = set()
        self._opening: set[int] = set()  # ids of spans whose checkout opens a connection
        self._lock = create_lock()
        self._listeners = (
            ("connect", self._on_connect), ("checkout", self._on_checkout),
            ("checkin", self._on_checkin), ("invalidate", self._on_invalidate),
            ("soft_invalidate", self._on_invalidate), ("engine_disposed", self._on_dispose),
        )  # fmt: skip

    def install(self) -> None:
        """Register the listeners, and wrap the pool's ``connect``."""
        from sqlalchemy import event

        engine = self._engine()
        for name, listener in self._listeners:
            event.listen(engine, name, listener)
        if engine is not None:
            self._wrap_connect(engine.pool)

    def uninstall(self) -> None:
        """Remove the listeners and the wrapper."""
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

    def _wrap_connect(self, pool: Any) -> None:
        connect = pool.connect
        if getattr(connect, "__knitperf__", None) is self:
            return

        def timed_connect() -> Any:
            span = current()
            return connect() if span is None else self._connect(connect, span)

        timed_connect.__knitperf__ = self  # type: ignore[attr-defined]
        pool.connect = timed_connect

    def _on_dispose(self, engine: Any) -> None:
        self.disposed = True
        self._wrap_connect(engine.pool)

    def _connect(self, connect: Any, span: Span) -> Any:
        """Check out a connection, and record the time it takes."""
        recorder, key = span.owner, id(span)
        self._opening.discard(key)
        clock, before = recorder.clock, span.nested()
        began = clock.monotonic_ns()
        try:
            connection = connect()
        except Exception as error:
            if type(error).__name__ == "TimeoutError":
                self._record_wait(span, began, before, POOL_TIMEOUTS)
            raise
        opened = key in self._opening
        self._opening.discard(key)
        self._record_wait(span, began, before, POOL_OPENED if opened else POOL_WAIT)
        return connection

    def _record_wait(self, span: Span, began: int, before: tuple[int, int], meter: Meter) -> None:
        recorder: Recorder = span.owner
        try:
            now = recorder.clock.monotonic_ns()
            if now - began >= MIN_PART_NS:
                span.insert(PART, began, now, None, before)
            recorder.record((recorder.series(meter, self.name), float(now - began)))
        except Exception as error:
            recorder.failed("pools", error)

    def _on_connect(self, _connection: Any, _record: Any) -> None:
        span = current()
        if span is not None:
            if len(self._opening) >= _MAX_OPENING:
                self._opening.clear()
            self._opening.add(id(span))

    def _on_checkout(self, _connection: Any, record: Any, _proxy: Any) -> None:
        span = current()
        if span is None:
            return
        recorder: Recorder = span.owner
        try:
            with_stack = recorder.query_tracking == QueryTracking.COUNT_WITH_CALL_SITE
            stack = callers(_MAX_STACK_LINES) if with_stack else ()
            self.checkouts[id(record)] = Checkout(span, stack, recorder.clock.monotonic_ns())
            in_use = float(len(self.checkouts))
            recorder.record((recorder.series(POOL_IN_USE, self.name), in_use))
        except Exception as error:
            recorder.failed("pools", error)

    def _on_checkin(self, _connection: Any, record: Any) -> None:
        checkout = self.checkouts.pop(id(record), None)
        if checkout is None:
            return
        self._leaked.discard(id(record))
        recorder: Recorder = checkout.span.owner
        try:
            hold_ns = recorder.clock.monotonic_ns() - checkout.began
            recorder.record((recorder.series(POOL_HOLD, self.name), float(hold_ns)))
        except Exception as error:
            recorder.failed("pools", error)

    def _on_invalidate(self, _connection: Any, _record: Any, error: BaseException | None) -> None:
        span = current()
        if span is None:
            return
        recorder: Recorder = span.owner
        try:
            reason = "requested" if error is None else type(error).__name__
            recorder.record((recorder.series(POOL_INVALIDATED, self.name, reason), 1.0))
        except Exception as failure:
            recorder.failed("pools", failure)

    def record_gauges(self, recorder: Recorder) -> None:
        """Record the size and the limit of the pool, and its leaks (a job of the housekeeper)."""
        engine = self._engine()
        if engine is None:
            return
        try:
            self._record_leaks(recorder)
            self._record_size(recorder, engine.pool)
        except Exception as error:  # the pool may be of a class of the application
            recorder.failed("pools", error)

    def _record_size(self, recorder: Recorder, pool: Any) -> None:
        size = getattr(pool, "size", None)
        if callable(size):
            connections = float(size())
            recorder.record((recorder.series(POOL_SIZE, self.name), connections))
            overflow = int(getattr(pool, "_max_overflow", 0))
            if overflow >= 0:  # -1 means unlimited; SQLAlchemy sets it for a size of 0 too
                recorder.record((recorder.series(POOL_LIMIT, self.name), connections + overflow))

    def _record_leaks(self, recorder: Recorder) -> None:
        now = recorder.clock.monotonic_ns()
        with self._lock:
            for record, checkout in self.checkouts.copy().items():
                span = checkout.span
                leaked = span.ended and now - span.began - span.wall > LEAK_AFTER_NS
                if leaked and span.owner is recorder and record not in self._leaked:
                    self._leaked.add(record)
                    call_site = checkout.stack[0].partition(" in ")[0] if checkout.stack else ""
                    recorder.note(
                        POOL_LEAK, PoolLeakKey(self.name, call_site), now - checkout.began,
                        PoolLeakDetail(stack=list(checkout.stack)),
                    )  # fmt: skip
