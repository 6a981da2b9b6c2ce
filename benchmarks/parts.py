"""Where the added time goes: the middleware taken apart, in place and piece by piece.

The ladder runs like the main measurement, with one piece of the extension after another taken out;
a difference between two rungs is what that piece costs where it runs, caches cold. The second table
calls single pieces in a loop, where they are warm: a lower bound.
"""

from __future__ import annotations

import os
import statistics
import threading
import time
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask_knitperf.core.gcwatch import WATCH
from flask_knitperf.core.log import pack
from flask_knitperf.core.span import CURRENT, Span

from .apps import small
from .outcome import Grid, Spread
from .wsgi import Get


# -- the ladder ------------------------------------------------------------------------------------


def _perf(state: Path, name: str) -> Any:
    return small({"KNITPERF_STATE_DIR": str(state / name)})


def _no_samples(app: Any) -> None:
    """No CPU samples, and no timing of our own cost."""
    app.extensions["knitperf"].profile.special = 1 << 60


def _no_write(app: Any) -> None:
    _no_samples(app)
    for line in app.extensions["knitperf"].profile.lines.values():
        line.write = _nothing


def _no_end(app: Any) -> None:
    _no_write(app)
    session = app.extensions["knitperf"]
    spans = session.recorder.spans

    def end_usual(span: Span, *_: Any) -> bool:
        spans.pop(span, None)
        span.ended = True
        return True

    session.profile.end_usual = end_usual


def _wrapper_only(app: Any) -> None:
    inner = app.wsgi_app.app
    app.wsgi_app = lambda environ, start: inner(environ, start)


_RUNGS: tuple[tuple[str, Callable[[Any], None]], ...] = (
    ("everything", lambda app: None),
    ("without CPU samples", _no_samples),
    ("and without mmap.write", _no_write),
    ("and without the end of the span", _no_end),
    ("only an empty wrapper", _wrapper_only),
)


def ladder(state: Path, rounds: int, requests: int, seed: int) -> dict[str, list[float]]:
    """Return CPU microseconds of each block, by rung."""
    from . import overhead

    gets = {overhead.BARE: Get(small(None))}
    apps = []
    for place, (name, change) in enumerate(_RUNGS):
        app = _perf(state, f"rung{place}")
        Get(app).times(600)
        change(app)
        apps.append(app)
        gets[name] = Get(app)
    found = overhead.measure(gets, rounds, requests, seed)
    for app in apps:
        app.extensions["knitperf"].close()
    return found


def ladder_grid(added: dict[str, Spread]) -> Grid:
    """Return the ladder as a table, from what each rung adds to bare."""
    lines = []
    for place, (name, _) in enumerate(_RUNGS):
        own = added[name].median
        below = added[_RUNGS[place + 1][0]].median if place + 1 < len(_RUNGS) else 0.0
        lines.append((name, added[name].text(), f"{own - below:.1f}"))
    heads = ("what is left", "µs added (quartiles)", "the piece taken out next, µs")
    return Grid("The middleware taken apart, in place", heads, tuple(lines))


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
    key, line = next(iter(profile.lines.items()))
    group = [(series, 1, 1234567.0) for series in list(line.ids.values())[:2]]
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
        "endpoint and method looked up": lambda: profile.lines.get(key),
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
