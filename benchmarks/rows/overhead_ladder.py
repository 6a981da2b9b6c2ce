"""Breakdown of the time added in Python: a wrapper built up step by step, and its single pieces.

The ladder runs like the main measurement. Its lower rungs are small stand-ins for the middleware, each
with one step more; the difference between two rungs is the cost of that step where it runs, caches
cold. The second table calls single pieces in a loop, where they are warm: a lower bound.
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
    start_response: Any
    began = 0
    endpoint: str | None = None
    status = ""

    def __call__(self, status: str, headers: Any, exc_info: Any = None) -> Any:
        self.status = status
        self.endpoint = self.environ["werkzeug.request"].url_rule.endpoint
        return self.start_response(status, headers)


def _wrapper(inner: Any) -> Any:
    def call(environ: dict[str, Any], start: Any) -> Any:
        return inner(environ, start)

    return call


def _path(inner: Any) -> Any:
    bypassed = ("/perf", "perf", "//")

    def call(environ: dict[str, Any], start: Any) -> Any:
        if environ.get("PATH_INFO", "").startswith(bypassed):
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
    ("and a test of the path", _path),
    ("and status and endpoint", _status),
    ("and a context variable for the span", _current),
    ("and two clocks, and the table of requests in flight", _timed),
)
_TOP = (
    ("and look-up, packing and writing: wall, count, status, bytes", 10_000),
    ("and the CPU time of one in 64: everything", 64),
)


def ladder(state: Path, rounds: int, requests: int, seed: int) -> dict[str, list[float]]:
    """Return the CPU microseconds of each block, by rung."""
    apps, gets = [], {BARE: Get(small(None))}
    for name, wrap in _RUNGS:
        app = small(None)
        app.wsgi_app = wrap(app.wsgi_app)  # type: ignore[method-assign]
        gets[name] = Get(app)
    for name, sample in _TOP:
        apps.append(_perf(state, f"sample{sample}", KNITPERF_CPU_SAMPLE=sample))
        gets[name] = Get(apps[-1])
    blocks = measure(gets, rounds, requests, seed)
    for app in apps:
        app.extensions["knitperf"].close()
    return blocks


def ladder_grid(added: dict[str, Spread]) -> Grid:
    """Return the ladder as a table, from what each rung adds to bare."""
    lines, below = [], 0.0
    for name in (*(name for name, _ in _RUNGS), *(name for name, _ in _TOP)):
        median = added[name].median
        lines.append((name, added[name].text(2), f"{median - below:+.2f}"))
        below = median
    heads = ("step", "µs added (quartiles)", "more than the line above")
    return Grid("The same built up in place, in Python", heads, tuple(lines))


# -- single pieces ---------------------------------------------------------------------------------


def pieces(state: Path, turns: int) -> dict[str, float]:
    """Return the microseconds of each single piece."""
    app = _perf(state, "pieces")
    Get(app).times(600)
    session = app.extensions["knitperf"]
    durations = {
        name: statistics.median(timeit.repeat(piece, number=turns, repeat=5)) / turns * 1e6
        for name, piece in _calls(app, session).items()
    }
    session.close()
    return durations


def pieces_grid(processes: list[dict[str, float]]) -> Grid:
    """Return the single pieces as a table, one set of them from each process."""
    spreads = {name: Spread.of(one[name] for one in processes) for name in processes[0]}
    lines = tuple((name, spread.text(2)) for name, spread in spreads.items())
    return Grid("Single pieces in a loop (warm)", ("piece", "µs (over processes)"), lines)


def _calls(app: Any, session: Any) -> dict[str, Callable[[], object]]:
    """Return the pieces as functions without arguments."""
    recorder, profile = session.recorder, session.profile
    environ: dict[str, Any] = {"REQUEST_METHOD": "GET", "PATH_INFO": "/api/items/7"}
    key, series = next(iter(profile.request_series.items()))
    group = [(series.solo, 1, 1234567.0), (series.solo, 1, 1234567.0)]
    packed, worker = pack(group), recorder.worker
    span = Span(recorder, environ, 0)

    def variable() -> None:
        CURRENT.reset(CURRENT.set(None))

    def in_flight() -> None:
        recorder.spans[span] = None
        recorder.spans.pop(span, None)

    return {
        "an empty call (part of each figure)": _nothing,
        "new span": lambda: Span(recorder, environ, 0),
        "set and reset of a context variable": variable,
        "in and out of the requests in flight": in_flight,
        "look-up by endpoint, method and status": lambda: profile.request_series.get(key),
        "look-up of the GC pauses": lambda: WATCH.total,
        "two observations: mmap.write": lambda: worker.write(packed),
        "two observations: packing a list": lambda: pack(group),
        "two observations: packing and writing a list": lambda: recorder.emit(group),
        "look-up of the writer of this process": lambda: recorder.worker,
        "monotonic clock": time.perf_counter_ns,
        "CPU clock of a thread (a system call)": time.thread_time_ns,
        "CPU clock of the process": time.process_time_ns,
        "thread id": threading.get_ident,
        "process id": os.getpid,
    }


def _nothing(*_: Any) -> None:
    return None
