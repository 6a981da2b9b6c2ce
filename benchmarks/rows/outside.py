"""The added CPU time of everything as an outsider measures it: defaults, all threads, one plain view.

Three applications with ``SECRET_KEY`` and one view, each in a process by itself: bare, with
``KnitPerf(app)`` and nothing configured, and with ``PrometheusMetrics(app)``. They serve blocks of
requests in turns, in a new order each round. A block counts the CPU time of all threads of its process,
the housekeeper's included; it is compared with the bare block of the same round, and the median of these
differences is the figure. Many sets of processes run one after another, because the layout of memory is
worth up to three microseconds: a bare process that has only imported the extension differs by as much.

Between its blocks a process is idle, and its housekeeper folds what the last block has left. So the CPU
time from one block's start to the next one's stands beside: an upper bound, for most of that time no
request runs.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from ..harness.blocks import BARE, differences
from ..harness.outcome import Grid, Outcome, Spread
from ..harness.wsgi import Get

OURS, PEER = "flask_knitperf", "prometheus_flask_exporter"
VARIANTS = (BARE, OURS, PEER)
MAX_SHARE = 1 / 5
WARM_UP = 2_000
"""Requests before the first block: a worker samples its first 256 in full."""


class Block(NamedTuple):
    """CPU time of one block, in microseconds per request.

    Attributes:
        request_us: of the thread that serves requests.
        process_us: of all threads, during the block.
        cycle_us: of all threads, from the end of the block before to the end of this one.
    """

    request_us: float
    process_us: float
    cycle_us: float


Blocks = dict[str, list[Block]]


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    sets, rounds, requests = (1, 4, 2_000) if quick else (12, 10, 8_000)
    blocks: Blocks = {name: [] for name in VARIANTS}
    for number in range(sets):
        for name, more in _set(rounds, requests, number).items():
            blocks[name] += more
    added = {
        field: differences({name: [getattr(block, field) for block in rows]
                            for name, rows in blocks.items()})
        for field in Block._fields
    }  # fmt: skip
    ours, peer = (added["process_us"][name].median for name in (OURS, PEER))
    share = ours / peer
    outcome.judge(
        "outside", f"CPU added by KnitPerf(app), defaults, as a share of {PEER}", "≤ 1/5",
        f"{share:.3f} (1/{1 / share:.1f}): {ours:.1f} µs beside {peer:.1f} µs", share <= MAX_SHARE,
    )  # fmt: skip
    outcome.grids.append(_grid(blocks, added))
    outcome.figures = {
        "share": round(share, 3),
        "added_us": round(ours, 2),
        "peer_us": round(peer, 2),
    }
    outcome.notes.append(
        f"{sets} sets of processes, {rounds} rounds of one block of {requests:,} requests per "
        "application; direct WSGI calls"
    )
    return outcome


def _grid(blocks: Blocks, added: dict[str, dict[str, Spread]]) -> Grid:
    bare = Spread.of(block.process_us for block in blocks[BARE])
    lines = [(BARE, bare.text(), "", "", "")]
    for name in (OURS, PEER):
        process, request, cycle = (
            added[field][name] for field in ("process_us", "request_us", "cycle_us")
        )
        lines.append((name, f"{bare.median + process.median:.1f}", process.text(2),
                      f"{request.median:.2f}", f"{cycle.median:.2f}"))  # fmt: skip
    heads = ("application", "µs a request", "added (quartiles)", "of it by the serving thread",
             "added, pauses included")  # fmt: skip
    return Grid("CPU time of all threads", heads, tuple(lines))


def _set(rounds: int, requests: int, seed: int) -> Blocks:
    """Return the blocks of one set of processes."""
    blocks: Blocks = {name: [] for name in VARIANTS}
    order, rng = list(VARIANTS), random.Random(seed)
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        pipes: dict[str, Connection] = {}
        for name in VARIANTS:
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, name, folder))
            process.start()
            stack.callback(process.join)
            stack.callback(ours.send, 0)
            pipes[name] = ours
        for turn in range(rounds + 1):  # the first round warms up
            rng.shuffle(order)
            for name in order:
                pipes[name].send(requests if turn else WARM_UP)
                block = Block(*pipes[name].recv())
                if turn:
                    blocks[name].append(block)
    return blocks


def _serve(pipe: Connection, name: str, folder: str) -> None:
    """Serve blocks of requests in a process by itself, until a block of none is requested."""
    os.environ["TMPDIR"] = tempfile.tempdir = folder  # the default state directory lies below
    get = Get(_APPLICATIONS[name](_application()), "/")
    before = time.process_time_ns()
    while requests := pipe.recv():
        process, thread = time.process_time_ns(), time.thread_time_ns()
        get.times(requests)
        thread_end, process_end = time.thread_time_ns(), time.process_time_ns()
        spans = (thread_end - thread, process_end - process, process_end - before)
        pipe.send([ns / requests / 1000 for ns in spans])
        before = process_end


# -- the applications ------------------------------------------------------------------------------


def _application() -> Any:
    from flask import Flask

    app = Flask("outside")
    app.config["SECRET_KEY"] = "outside"

    @app.get("/")
    def index() -> str:
        return "Hello"

    return app


def _with_knitperf(app: Any) -> Any:
    from flask_knitperf import KnitPerf

    KnitPerf(app)
    return app


def _with_exporter(app: Any) -> Any:
    from prometheus_flask_exporter import PrometheusMetrics

    PrometheusMetrics(app)
    return app


_APPLICATIONS: dict[str, Callable[[Any], Any]] = {
    BARE: lambda app: app,
    OURS: _with_knitperf,
    PEER: _with_exporter,
}
