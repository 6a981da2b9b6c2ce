"""Where the added time goes: the middleware taken apart, in place and piece by piece.

The ladder runs like the main measurement, with one piece of the extension after another taken out;
a difference between two rungs is what that piece costs where it runs, caches cold. The second table
calls single pieces in a loop, where they are warm: a lower bound.
"""

from __future__ import annotations

import os
import threading
import time
import timeit
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from flask_knitperf.core.log import pack
from flask_knitperf.core.span import CURRENT, Span

from .apps import small
from .outcome import Grid, Spread
from .wsgi import Get


def measure(state: Path, rounds: int, requests: int, quick: bool) -> tuple[Grid, Grid]:
    """Return the ladder, and the table of single pieces."""
    return _ladder(state, rounds, requests), _pieces(state, 2_000 if quick else 60_000)


# -- the ladder ------------------------------------------------------------------------------------


def _perf(state: Path, name: str) -> Any:
    return small({"KNITPERF_STATE_DIR": str(state / name)})


def _no_write(app: Any) -> None:
    app.extensions["knitperf"].recorder.emit = lambda group: None


def _no_end(app: Any) -> None:
    session = app.extensions["knitperf"]
    spans = session.recorder.spans

    def end(span: Span, *_: Any, **__: Any) -> None:
        spans.pop(id(span), None)
        span.ended = True

    session.profile.end = end


def _no_start(app: Any) -> None:
    _no_end(app)
    app.wsgi_app._started = lambda span, start, *rest: start(*rest)


def _no_begin(app: Any) -> None:
    _no_start(app)
    app.extensions["knitperf"].profile.begin = lambda span, path: None


def _wrapper_only(app: Any) -> None:
    inner = app.wsgi_app.app
    app.wsgi_app = lambda environ, start: inner(environ, start)


_RUNGS: tuple[tuple[str, Callable[[Any], None]], ...] = (
    ("everything", lambda app: None),
    ("without mmap.write and pack", _no_write),
    ("and without RequestProfile.end", _no_end),
    ("and without reading start_response", _no_start),
    ("and without RequestProfile.begin", _no_begin),
    ("only an empty wrapper", _wrapper_only),
)


def _ladder(state: Path, rounds: int, requests: int) -> Grid:
    from . import overhead

    gets = {overhead.BARE: Get(small(None))}
    apps = []
    for place, (name, change) in enumerate(_RUNGS):
        app = _perf(state, f"rung{place}")
        Get(app)()
        change(app)
        apps.append(app)
        gets[name] = Get(app)
    added = overhead.differences(overhead.measure(gets, max(2, rounds), requests, seed=2))
    for app in apps:
        app.extensions["knitperf"].close()
    lines = []
    for place, (name, _) in enumerate(_RUNGS):
        own = added[name].median
        below = added[_RUNGS[place + 1][0]].median if place + 1 < len(_RUNGS) else 0.0
        lines.append((name, added[name].text(), f"{own - below:.1f}"))
    heads = ("what is left", "µs added (quartiles)", "the piece taken out next, µs")
    return Grid("The middleware taken apart, in place", heads, tuple(lines))


# -- single pieces ---------------------------------------------------------------------------------


def _pieces(state: Path, turns: int) -> Grid:
    app = _perf(state, "pieces")
    Get(app).times(600)
    session = app.extensions["knitperf"]
    lines = []
    for name, piece in _calls(app, session).items():
        spread = Spread.of(
            took / turns * 1e6 for took in timeit.repeat(piece, number=turns, repeat=7)
        )
        lines.append((name, f"{spread.median:.2f}", f"{spread.low:.2f} to {spread.high:.2f}"))
    session.close()
    return Grid("Single pieces in a loop (warm)", ("piece", "µs", "quartiles"), tuple(lines))


def _calls(app: Any, session: Any) -> dict[str, Callable[[], object]]:
    """Return the pieces, each a function without arguments."""
    recorder, profile, clock = session.recorder, session.profile, session.recorder.clock
    environ: dict[str, Any] = {"REQUEST_METHOD": "GET", "PATH_INFO": "/api/items/7"}
    line = next(iter(profile.lines.values()))
    request = next(series for key, series in line.ids.items() if "request" in key)
    group = [(request, 1, 1234567.0), (request, 1, 55.0)]
    packed = pack(group)
    log = recorder.worker

    def span() -> Span:
        return Span(recorder, environ, clock.monotonic_ns(), threading.get_ident())

    def whole() -> None:
        made = span()
        profile.begin(made, "/api/items/7")
        made.status, made.length, made.endpoint = 200, 55, "item"
        profile.end(made, "item", "GET")

    def begin() -> None:
        made = span()
        profile.begin(made, "/api/items/7")
        recorder.spans.pop(id(made))

    def variable() -> None:
        CURRENT.reset(CURRENT.set(None))

    started = app.wsgi_app._started
    headers = [("Content-Type", "application/json"), ("Content-Length", "55")]
    idle = span()
    idle.endpoint = "item"

    def start_response() -> None:
        partial(started, idle, _nothing)("200 OK", headers)

    return {
        "a call of nothing (in each figure)": _nothing,
        "new span, begin, end, written": whole,
        "new span and begin": begin,
        "new span": span,
        "begin of a timed span (the writer is looked up)": lambda: recorder.worker,
        "context variable set and reset": variable,
        "start_response, read": start_response,
        "series looked up by endpoint, method, status": lambda: profile._line(
            recorder.worker, "item", "GET"
        ),
        "pack and write of two observations": lambda: recorder.emit(group),
        "pack of two observations": lambda: pack(group),
        "mmap.write of two observations": lambda: log.write(packed),
        "monotonic clock": time.perf_counter_ns,
        "CPU clock of a thread (a system call)": time.thread_time_ns,
        "CPU clock of the process": time.process_time_ns,
        "thread id": threading.get_ident,
        "process id": os.getpid,
    }


def _nothing(*_: Any) -> None:
    return None
