"""Cost of sampling: its share of a core, its memory, and the slowdown of requests.

Eight threads send requests that compute forty calls deep, so that the sampler has to acquire the GIL and
to walk the deepest stacks that the target names. Its share of a core is reported by the sampler itself
and by the system for its thread. For the slowdown one thread sends requests in blocks, in turns with the
sampler at its default rate and without it, in one process, and the same with a profiler per request.
"""

from __future__ import annotations

import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psutil
from flask import Flask

from flask_knitperf import KnitPerf

from ..harness.outcome import Grid, Outcome, Spread
from ..harness.wsgi import Get

THREADS = 8
DEPTH = 40
"""Calls below each view."""
MAX_SHARE = 0.005
"""Share of one core."""
MAX_MEMORY_MB = 2.0
OFF, ON, PEER = "without", "sampled", "pyinstrument"


def _app(state: Path, *, sampler: bool) -> Flask:
    app = Flask("busy")
    app.config.update(KNITPERF_STATE_DIR=str(state), KNITPERF_SAMPLER=sampler)

    @app.get("/busy")
    def busy() -> str:
        return str(_deep(DEPTH))

    KnitPerf(app)
    return app


def _deep(levels: int) -> int:
    if levels:
        return _deep(levels - 1)
    total = 0
    for number in range(20_000):
        total += number * number % 7
    return total


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    seconds, rounds = (4.0, 3) if quick else (40.0, 30)
    with tempfile.TemporaryDirectory() as folder:
        own, used, grown = _eight_threads(Path(folder) / "eight", seconds)
        slower = _slower(Path(folder) / "one", rounds)
    outcome.judge("sampler.share", f"{THREADS} busy threads, depth {DEPTH}, of a core", "≤ 0.5 %",
                  f"{used:.2%} by the system, {own:.2%} by itself",
                  used <= MAX_SHARE * 1.02)  # fmt: skip
    outcome.judge("sampler.agrees", "the sampler's own figure against the system's", "within a tenth",
                  f"{own / used:.2f}", 0.9 <= own / used <= 1.1)  # fmt: skip
    outcome.judge("sampler.memory", "memory beyond a worker without the sampler",
                  f"≤ {MAX_MEMORY_MB:.0f} MB", f"{grown:+.2f} MB", grown <= MAX_MEMORY_MB)  # fmt: skip
    added, peer = slower[ON], slower.get(PEER)
    outcome.judge("sampler.slower", "requests slower", "less than the noise",
                  f"{added.text(2)} %", added.low <= 0 or added.median < 1.0)  # fmt: skip
    if peer is not None:
        outcome.judge("sampler.peer", "the same with pyinstrument on each request", "> 100 %",
                      f"{peer.median:+.0f} %", None)  # fmt: skip
    else:
        outcome.notes.append("pyinstrument is not installed: python -m pip install '.[peers]'")
    outcome.grids.append(Grid("Slower than without, in percent of CPU time", ("what", "% (quartiles)"),
                              tuple((name, s.text(1)) for name, s in slower.items())))  # fmt: skip
    return outcome


def _eight_threads(state: Path, seconds: float) -> tuple[float, float, float]:
    """Return the share of a core by the sampler and by the system, and the memory in MB."""
    grown = []
    own = used = 0.0
    for sampler in (False, True):
        app = _app(state / str(sampler), sampler=sampler)
        stopping = threading.Event()
        threads = [threading.Thread(target=_until, args=(Get(app, "/busy"), stopping))
                   for _ in range(THREADS)]  # fmt: skip
        for thread in threads:
            thread.start()
        time.sleep(min(5.0, seconds / 2))
        before, start = psutil.Process().memory_info().rss, time.monotonic()
        if sampler:
            native = next(t.native_id for t in threading.enumerate() if "sampler" in t.name)
            assert native is not None
            clock = ~native << 3 | 6
            cpu, shares = time.clock_gettime_ns(clock), []
            while time.monotonic() - start < seconds:
                time.sleep(0.5)
                shares.append(app.extensions["knitperf"].sampler.share)
            used = (time.clock_gettime_ns(clock) - cpu) / 1e9 / (time.monotonic() - start)
            own = sum(shares) / len(shares)
        else:
            time.sleep(seconds)
        grown.append((psutil.Process().memory_info().rss - before) / 1024**2)
        stopping.set()
        for thread in threads:
            thread.join()
        app.extensions["knitperf"].close()
    return own, used, grown[1] - grown[0]


def _until(get: Get, stopping: threading.Event) -> None:
    while not stopping.is_set():
        get()


def _slower(state: Path, rounds: int) -> dict[str, Spread]:
    """Return the percentage of CPU time by which blocks of each variant exceed those without."""
    app = _app(state, sampler=True)
    get = Get(app, "/busy")
    get.times(20)
    sampler = app.extensions["knitperf"].sampler
    variants: dict[str, Callable[[], Any]] = {
        OFF: lambda: _block(get), ON: lambda: _while_on(sampler, get),
    }  # fmt: skip
    peer = _peer(app)
    if peer is not None:
        variants[PEER] = lambda: _block(peer)
    sampler.stop()
    blocks: dict[str, list[float]] = {name: [] for name in variants}
    order, rng = list(variants), random.Random(1)
    for _ in range(rounds):
        rng.shuffle(order)
        for name in order:
            blocks[name].append(variants[name]())
    app.extensions["knitperf"].close()
    return {
        name: Spread.of((a / b - 1) * 100 for a, b in zip(values, blocks[OFF], strict=True))
        for name, values in blocks.items() if name != OFF
    }  # fmt: skip


def _block(get: Get, requests: int = 150) -> float:
    start = time.thread_time()
    get.times(requests)
    return time.thread_time() - start


def _while_on(sampler: Any, get: Get) -> float:
    sampler.start()
    try:
        return _block(get)
    finally:
        sampler.stop()


def _peer(app: Flask) -> Get | None:
    """Return the application with a profiler around each request, ``None`` without pyinstrument."""
    try:
        from pyinstrument import Profiler
    except ImportError:
        return None

    def profiled(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        profiler = Profiler()
        profiler.start()
        try:
            return list(app(environ, start))
        finally:
            profiler.stop()

    return Get(profiled, "/busy")
