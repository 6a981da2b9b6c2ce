"""CPU time that the extension adds to a request, against bare and against a peer.

All variants live in one process and take turns in blocks, in a new order each round, so that a slow
second of the machine hits all of them. Each block is compared with the bare block of the same round;
the median of these differences is the figure. Several processes do this one after another, because the
layout of memory is worth a microsecond. Time is CPU time of the requesting thread; the housekeeper's
thread is reported apart.

The fast path of a request is built in C where there is a compiler. The same in Python, for where there
is none, is measured in separate processes, and so are its steps.

The unit is a **hook**: the cost of one empty ``after_request`` function in an application that has none.
A host where everything is twice as slow gives the same number of hooks. Each further hook costs less
than the first (its code is warm by then), so a quarter of four of them stands beside.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ..harness.apps import small
from ..harness.blocks import BARE, differences, measure
from ..harness.outcome import Grid, Outcome, Spread
from ..harness.wsgi import Get
from . import overhead_ladder

HOOK = "one empty after_request"
HOOKS = "four empty after_request"
PEER = "prometheus_flask_exporter"
FULL = "knitperf, everything on"
PLAIN = "knitperf: wall, count, status"
OFF = "knitperf, KNITPERF_ENABLED=False"
KEYS = {"off": OFF, "hook": HOOK, "hooks": HOOKS, "plain": PLAIN, "full": FULL, "peer": PEER}
"""Keys of the variants among the published figures."""
_PURE = "KNITPERF_PURE_PYTHON"


def variants(state: Path) -> dict[str, Any]:
    """Return the applications that are compared, by name."""

    def perf(name: str, **config: Any) -> Any:
        folder = str(state / name)
        return small({"KNITPERF_STATE_DIR": folder, **config})

    apps = {
        BARE: small(None), HOOK: small(None), HOOKS: small(None),
        FULL: perf("full"), PLAIN: perf("plain", KNITPERF_CPU_SAMPLE=10_000),
        OFF: perf("off", KNITPERF_ENABLED=False),
    }  # fmt: skip
    for name, count in ((HOOK, 1), (HOOKS, 4)):
        for _ in range(count):
            apps[name].after_request(_empty())
    peer = _peer(small(None))
    if peer is not None:
        apps[PEER] = peer
    return apps


def _empty() -> Callable[[Any], Any]:
    return lambda response: response


def _peer(app: Any) -> Any:
    """Return an app with the peer's default metrics, ``None`` where it is not installed."""
    try:
        from prometheus_client import CollectorRegistry
        from prometheus_flask_exporter import PrometheusMetrics
    except ImportError:
        return None
    PrometheusMetrics(app, registry=CollectorRegistry())
    return app


class Measurement(NamedTuple):
    """The measurements of one process.

    Attributes:
        compiled: whether the classes in C were used.
        blocks: CPU microseconds of each block, by variant.
        ladder: the same of the ladder's rungs; empty without it.
        pieces: microseconds of single pieces; empty without the ladder.
        background_ms: CPU time of all threads but the requesting one.
        self_us: the extension's own figure of its cost per request.
    """

    compiled: bool
    blocks: dict[str, list[float]]
    ladder: dict[str, list[float]]
    pieces: dict[str, float]
    background_ms: float
    self_us: float | None


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    processes, rounds, requests = (1, 4, 60) if quick else (5, 50, 300)
    compiled = _spawned(processes, rounds, requests)
    pure = _spawned((processes + 1) // 2, rounds, requests, pure=True)
    blocks = {
        name: [v for one in compiled for v in one.blocks[name]] for name in compiled[0].blocks
    }
    in_python = {name: [v for one in pure for v in one.blocks[name]] for name in blocks}
    added, python = differences(blocks), differences(in_python)
    _judge(outcome, added)
    _judge_classes(outcome, all(one.compiled for one in compiled), python)
    _table(outcome, blocks, added)
    _table(outcome, in_python, python, "The same without C")
    ladder = {name: [v for one in pure for v in one.ladder[name]] for name in pure[0].ladder}
    outcome.grids.append(overhead_ladder.ladder_grid(differences(ladder)))
    outcome.grids.append(overhead_ladder.pieces_grid([one.pieces for one in pure]))
    outcome.figures = {
        "bare_us": round(Spread.of(blocks[BARE]).median, 1),
        "added_us": _medians(added), "added_us_in_python": _medians(python),
    }  # fmt: skip
    background = statistics.median(one.background_ms for one in compiled)
    own = statistics.median(one.self_us or 0.0 for one in compiled)
    outcome.notes.append(
        f"{processes} processes, each {rounds} rounds of one block of {requests} requests per "
        "variant; direct WSGI calls"
    )
    outcome.notes.append(
        f"Background threads (two housekeepers, folding) used {background:.0f} ms per process; the "
        f"extension reports a cost of {own:.1f} µs per request"
    )
    return outcome


def _medians(added: dict[str, Spread]) -> dict[str, float]:
    return {key: round(added[name].median, 2) for key, name in KEYS.items() if name in added}


def _spawned(
    processes: int, rounds: int, requests: int, *, pure: bool = False
) -> list[Measurement]:
    """Measure in several processes, one after the other."""
    before = os.environ.pop(_PURE, None)
    if pure:
        os.environ[_PURE] = "1"
    try:
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            tasks = [(rounds, requests, number, pure) for number in range(processes)]
            return pool.starmap(_in_process, tasks, 1)
    finally:
        os.environ.pop(_PURE, None)
        if before is not None:
            os.environ[_PURE] = before


def _in_process(rounds: int, requests: int, seed: int, with_ladder: bool) -> Measurement:
    """Measure in the current process."""
    from flask_knitperf.recording.fastpath import COMPILED

    ladder: dict[str, list[float]] = {}
    pieces: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        apps = variants(Path(folder))
        gets = {name: Get(app) for name, app in apps.items()}
        process, thread = time.process_time_ns(), time.thread_time_ns()
        blocks = measure(gets, rounds, requests, seed)
        background = (time.process_time_ns() - process) - (time.thread_time_ns() - thread)
        session = apps[FULL].extensions["knitperf"]
        session.profile.record_load()
        session.recorder.worker.fold()
        own = session.documents.report("run")["self"]["us_per_request"]
        for app in apps.values():
            if "knitperf" in app.extensions:
                app.extensions["knitperf"].close()
        if with_ladder:
            ladder = overhead_ladder.ladder(Path(folder), max(2, rounds // 2), requests, seed)
            pieces = overhead_ladder.pieces(Path(folder), requests * 100)
    return Measurement(COMPILED, blocks, ladder, pieces, background / 1e6, own)


def _judge(outcome: Outcome, added: dict[str, Spread]) -> None:
    hook, quarter = added[HOOK].median, added[HOOKS].median / 4
    outcome.judge("overhead.hook", "one empty after_request hook (a quarter of four)",
                  "–", f"{hook:.2f} µs ({quarter:.2f} µs)", None)  # fmt: skip
    for key, name, limit in (("plain", PLAIN, 4.0), ("everything", FULL, 5.0)):
        micro = added[name].median
        outcome.judge(
            f"overhead.{key}", f"CPU added, {name.partition('knitperf')[2].strip(' :,')}",
            f"≤ {limit:.0f} hooks (aim 3)",
            f"{micro / hook:.1f} hooks ({micro / quarter:.1f} quarters of four), {micro:.1f} µs",
            micro / hook <= limit,
        )  # fmt: skip
    if PEER in added:
        share = added[FULL].median / added[PEER].median
        outcome.judge(
            "overhead.peer", f"everything on, as a share of {PEER}", "≤ 1/5",
            f"1/{1 / share:.1f}, it adds {added[PEER].median:.1f} µs", share <= 0.2,
        )  # fmt: skip
    else:
        outcome.judge("overhead.peer", f"share of {PEER}", "≤ 1/5", "it is not installed", False)
    off = added[OFF]
    outcome.judge(
        "overhead.off", "CPU added when disabled", "0 hooks (within noise)",
        f"{off.median / hook:+.1f} hooks", off.low <= 0 <= off.high or abs(off.median) < hook / 2,
    )  # fmt: skip


def _judge_classes(outcome: Outcome, compiled: bool, python: dict[str, Spread]) -> None:
    outcome.judge("overhead.compiled", "the classes measured above are those in C", "yes",
                  "yes" if compiled else "no, there is no compiler", compiled)  # fmt: skip
    outcome.judge(
        "overhead.python", "CPU added in Python alone: wall, count, status; everything", "–",
        f"{python[PLAIN].median:.1f} µs; {python[FULL].median:.1f} µs "
        f"({python[FULL].median / python[HOOK].median:.1f} hooks)", None,
    )  # fmt: skip


def _table(
    outcome: Outcome, blocks: dict[str, list[float]], added: dict[str, Spread],
    title: str = "CPU time of one request",
) -> None:  # fmt: skip
    bare, hook, quarter = Spread.of(blocks[BARE]), added[HOOK].median, added[HOOKS].median / 4
    lines = [(BARE, f"{bare.text()}", "", "", "", "")]
    for name, spread in sorted(added.items(), key=lambda item: item[1].median):
        lines.append((
            name, f"{Spread.of(blocks[name]).median:.1f}", spread.text(2),
            f"{spread.median / hook:.1f}", f"{spread.median / quarter:.1f}",
            f"{spread.median / bare.median:.0%}",
        ))  # fmt: skip
    heads = ("variant", "µs a request", "added (quartiles)", "hooks", "quarters of four", "of bare")
    outcome.grids.append(Grid(title, heads, tuple(lines)))
