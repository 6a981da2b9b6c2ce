"""Where the added time goes in Python: a wrapper built up in place, and its pieces by themselves.

The ladder runs like the main measurement. Its lower rungs are small stand-ins for what the middleware
does, each with one thing more; the difference between two rungs is what that thing costs where it runs,
caches cold. The second table calls single pieces in a loop, where they are warm: a lower bound.
"""

from __future__ import annotations

import os
import statistics
import threading
import time
import timeit
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from flask_knitperf.metrics.log_format import pack
from flask_knitperf.recording.gc_pauses import WATCH
from flask_knitperf.recording.span import CURRENT, Span

from ..harness.apps import small
from ..harness.blocks import BARE, measure
from ..harness.outcome import Grid, Spread
from ..harness.wsgi import Get

# -- the ladder ------------------------------------------------------------------------------------


def _perf(state: Path, name: str, **config: Any) -> Any:
    return small({"KNITPERF_STATE_DIR": str(state / name), **config})


class _Span:
    """A stand-in for a request's span, which is also its ``start_response``."""

    environ: dict[str, Any]
    start: Any
    began = 0
    endpoint: str | None = None
    status = ""

    def __call__(self, status: str, headers: Any, exc_info: Any = None) -> Any:
        self.status = status
        self.endpoint = self.environ["werkzeug.request"].url_rule.endpoint
        return self.start(status, headers)


def _wrapper(inner: Any) -> Any:
    def call(environ: dict[str, Any], start: Any) -> Any:
        return inner(environ, start)

    return call


def _path(inner: Any) -> Any:
    aside = ("/perf", "perf", "//")

    def call(environ: dict[str, Any], start: Any) -> Any:
        if environ.get("PATH_INFO", "").startswith(aside):
            return None
        return inner(environ, start)

    return call


def _status(inner: Any) -> Any:
    def begun(environ: dict[str, Any], start: Any) -> Any:
        span = _Span()
        span.environ = environ
        span.start_response = start
        return inner(environ, span)

    return _path(begun)


def _current(inner: Any) -> Any:
    def begun(environ: dict[str, Any], start: Any) -> Any:
        span = _Span()
        span.environ = environ
        span.start_response = start
        token = _CURRENT.set(span)
        try:
            return inner(environ, span)
        finally:
            _CURRENT.reset(token)

    return _path(begun)


def _timed(inner: Any) -> Any:
    now, spans = time.perf_counter_ns, dict[_Span, None]()

    def begun(environ: dict[str, Any], start: Any) -> Any:
        span = _Span()
        span.environ = environ
        span.start_response = start
        span.began = now()
        spans[span] = None
        token = _CURRENT.set(span)
        try:
            return inner(environ, span)
        finally:
            _CURRENT.reset(token)
            del spans[span]
            span.began -= now()

    return _path(begun)


_CURRENT: ContextVar[_Span | None] = ContextVar("benchmark_span", default=None)
_RUNGS: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("an empty wrapper", _wrapper),
    ("and the path is looked at", _path),
    ("and status and endpoint are read", _status),
    ("and the span is current", _current),
    ("and two clocks; in and out of those in flight", _timed),
)
_TOP = (
    ("and looked up, packed and written: wall, count, status, bytes", 10_000),
    ("and one in 64 with its CPU time: everything", 64),
)


def ladder(state: Path, rounds: int, requests: int, seed: int) -> dict[str, list[float]]:
    """Return CPU microseconds of each block, by rung."""
    apps, gets = [], {BARE: Get(small(None))}
    for name, wrap in _RUNGS:
        app = small(None)
        app.wsgi_app = wrap(app.wsgi_app)  # type: ignore[method-assign]
        gets[name] = Get(app)
    for name, sample in _TOP:
        apps.append(_perf(state, f"sample{sample}", KNITPERF_CPU_SAMPLE=sample))
        gets[name] = Get(apps[-1])
    found = measure(gets, rounds, requests, seed)
    for app in apps:
        app.extensions["knitperf"].close()
    return found


def ladder_grid(added: dict[str, Spread]) -> Grid:
    """Return the ladder as a table, from what each rung adds to bare."""
    lines, below = [], 0.0
    for name in (*(name for name, _ in _RUNGS), *(name for name, _ in _TOP)):
        own = added[name].median
        lines.append((name, added[name].text(2), f"{own - below:+.2f}"))
        below = own
    heads = ("what is done", "µs added (quartiles)", "more than the line above")
    return Grid("The same built up in place, in Python", heads, tuple(lines))


# -- single pieces ---------------------------------------------------------------------------------


def pieces(state: Path, turns: int) -> dict[str, float]:
    """Return microseconds of each single piece."""
    app = _perf(state, "pieces")
    Get(app).times(600)
    session = app.extensions["knitperf"]
    found = {
        name: statistics.median(timeit.repeat(piece, number=turns, repeat=5)) / turns * 1e6
        for name, piece in _calls(app, session).items()
    }
    session.close()
    return found


def pieces_grid(each: list[dict[str, float]]) -> Grid:
    """Return the single pieces as a table, one set of them from each process."""
    spreads = {name: Spread.of(one[name] for one in each) for name in each[0]}
    lines = tuple((name, spread.text(2)) for name, spread in spreads.items())
    return Grid("Single pieces in a loop (warm)", ("piece", "µs (over processes)"), lines)


def _calls(app: Any, session: Any) -> dict[str, Callable[[], object]]:
    """Return the pieces, each a function without arguments."""
    recorder, profile = session.recorder, session.profile
    environ: dict[str, Any] = {"REQUEST_METHOD": "GET", "PATH_INFO": "/api/items/7"}
    key, plan = next(iter(profile.request_series.items()))
    group = [(plan.alone, 1, 1234567.0), (plan.alone, 1, 1234567.0)]
    packed, worker = pack(group), recorder.worker
    span = Span(recorder, environ, 0)

    def variable() -> None:
        CURRENT.reset(CURRENT.set(None))

    def in_flight() -> None:
        recorder.spans[span] = None
        recorder.spans.pop(span, None)

    return {
        "a call of nothing (in each figure)": _nothing,
        "new span": lambda: Span(recorder, environ, 0),
        "context variable set and reset": variable,
        "in and out of those in flight": in_flight,
        "endpoint, method and status looked up": lambda: profile.request_series.get(key),
        "pauses of the collector read": lambda: WATCH.total,
        "two observations: mmap.write": lambda: worker.write(packed),
        "two observations: pack, by way of a list": lambda: pack(group),
        "two observations: all of it, by way of a list": lambda: recorder.emit(group),
        "writer of this process looked up": lambda: recorder.worker,
        "monotonic clock": time.perf_counter_ns,
        "CPU clock of a thread (a system call)": time.thread_time_ns,
        "CPU clock of the process": time.process_time_ns,
        "thread id": threading.get_ident,
        "process id": os.getpid,
    }


def _nothing(*_: Any) -> None:
    return None
