"""What the extension adds to a request, in CPU time, against bare and against a peer.

All variants live in one process and take turns in blocks, in a new order each round, so that a slow
second of the machine hits all of them. Each block is compared with the bare block of its own round;
the median of these differences is the figure. Several processes do this one after another, because
where things happen to lie in memory is worth a microsecond. Time is CPU time of the requesting thread;
what the housekeeper's thread uses beside it is reported apart.

The way of a usual request is built in C where there is a compiler; the same in Python, for where there
is none, is measured in processes of its own, and so is what it consists of.

The unit is a **hook**: what one empty ``after_request`` function costs an application that has none.
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
_PURE = "KNITPERF_PURE_PYTHON"


def variants(state: Path) -> dict[str, Any]:
    """Return the applications that are compared, by name."""

    def perf(name: str, **config: Any) -> Any:
        folder = str(state / name)
        return small({"KNITPERF_STATE_DIR": folder, **config})

    made = {
        BARE: small(None), HOOK: small(None), HOOKS: small(None),
        FULL: perf("full"), PLAIN: perf("plain", KNITPERF_CPU_SAMPLE=10_000),
        OFF: perf("off", KNITPERF_ENABLED=False),
    }  # fmt: skip
    for name, count in ((HOOK, 1), (HOOKS, 4)):
        for _ in range(count):
            made[name].after_request(_empty())
    peer = _peer(small(None))
    if peer is not None:
        made[PEER] = peer
    return made


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


class Measured(NamedTuple):
    """What one process measured."""

    compiled: bool
    blocks: dict[str, list[float]]
    ladder: dict[str, list[float]]
    pieces: dict[str, float]
    beside_ms: float
    said_us: float | None


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    processes, rounds, requests = (1, 4, 60) if quick else (5, 50, 300)
    each = _spawned(processes, rounds, requests)
    slower = _spawned((processes + 1) // 2, rounds, requests, pure=True)
    found = {name: [v for one in each for v in one.blocks[name]] for name in each[0].blocks}
    in_python = {name: [v for one in slower for v in one.blocks[name]] for name in found}
    added, python = differences(found), differences(in_python)
    hook = added[HOOK].median
    _judge(outcome, added)
    outcome.judge(
        "overhead.compiled", "the classes measured above are those in C", "yes",
        "yes" if all(one.compiled for one in each) else "no, no compiler was found",
        all(one.compiled for one in each),
    )  # fmt: skip
    outcome.judge(
        "overhead.python", "CPU added in Python alone: wall, count, status; everything", "–",
        f"{python[PLAIN].median:.1f} µs; {python[FULL].median:.1f} µs "
        f"({python[FULL].median / python[HOOK].median:.1f} hooks)", None,
    )  # fmt: skip
    _table(outcome, found, added)
    _table(outcome, in_python, python, "The same without C")
    ladder = {name: [v for one in slower for v in one.ladder[name]] for name in slower[0].ladder}
    outcome.grids.append(overhead_ladder.ladder_grid(differences(ladder)))
    outcome.grids.append(overhead_ladder.pieces_grid([one.pieces for one in slower]))
    outcome.details = {
        "processes": processes, "rounds": rounds, "requests_per_block": requests,
        "hook_us": round(hook, 3),
        "added_us": {name: spread.document() for name, spread in added.items()},
        "added_us_in_python": {name: spread.document() for name, spread in python.items()},
        "added_us_by_process": [
            {name: round(s.median, 2) for name, s in differences(one.blocks).items()}
            for one in each
        ],
        "beside_ms": [round(one.beside_ms, 1) for one in each],
        "self_us_per_request": [one.said_us for one in each],
    }  # fmt: skip
    beside = statistics.median(one.beside_ms for one in each)
    said = statistics.median(one.said_us or 0.0 for one in each)
    outcome.notes.append(
        f"{processes} processes, each {rounds} rounds of one block of {requests} requests per "
        "variant; direct WSGI calls"
    )
    outcome.notes.append(
        f"Threads beside the requesting one (two housekeepers, folding) used {beside:.0f} ms per "
        f"process; the extension itself reports {said:.1f} µs of its own per request"
    )
    return outcome


def _spawned(processes: int, rounds: int, requests: int, *, pure: bool = False) -> list[Measured]:
    """Measure in several processes, one after another."""
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


def _in_process(rounds: int, requests: int, seed: int, with_parts: bool) -> Measured:
    """Measure in a process of its own."""
    from flask_knitperf.recording.fastpath import COMPILED

    ladder: dict[str, list[float]] = {}
    pieces: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        apps = variants(Path(folder))
        gets = {name: Get(app) for name, app in apps.items()}
        process, thread = time.process_time_ns(), time.thread_time_ns()
        blocks = measure(gets, rounds, requests, seed)
        beside = (time.process_time_ns() - process) - (time.thread_time_ns() - thread)
        session = apps[FULL].extensions["knitperf"]
        session.profile.record_load()
        session.recorder.worker.fold()
        said = session.documents.report("run")["self"]["us_per_request"]
        for app in apps.values():
            if "knitperf" in app.extensions:
                app.extensions["knitperf"].close()
        if with_parts:
            ladder = overhead_ladder.ladder(Path(folder), max(2, rounds // 2), requests, seed)
            pieces = overhead_ladder.pieces(Path(folder), requests * 100)
    return Measured(COMPILED, blocks, ladder, pieces, beside / 1e6, said)


def _judge(outcome: Outcome, added: dict[str, Spread]) -> None:
    hook, quarter = added[HOOK].median, added[HOOKS].median / 4
    outcome.judge("overhead.hook", "one empty after_request hook (a quarter of four)",
                  "–", f"{hook:.2f} µs ({quarter:.2f} µs)", None)  # fmt: skip
    for key, name, most in (("plain", PLAIN, 4.0), ("everything", FULL, 5.0)):
        micro = added[name].median
        outcome.judge(
            f"overhead.{key}", f"CPU added, {name.partition('knitperf')[2].strip(' :,')}",
            f"≤ {most:.0f} hooks (aim 3)",
            f"{micro / hook:.1f} hooks ({micro / quarter:.1f} quarters of four), {micro:.1f} µs",
            micro / hook <= most,
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


def _table(
    outcome: Outcome, found: dict[str, list[float]], added: dict[str, Spread],
    title: str = "CPU time of one request",
) -> None:  # fmt: skip
    bare, hook, quarter = Spread.of(found[BARE]), added[HOOK].median, added[HOOKS].median / 4
    lines = [(BARE, f"{bare.text()}", "", "", "", "")]
    for name, spread in sorted(added.items(), key=lambda item: item[1].median):
        lines.append((
            name, f"{Spread.of(found[name]).median:.1f}", spread.text(2),
            f"{spread.median / hook:.1f}", f"{spread.median / quarter:.1f}",
            f"{spread.median / bare.median:.0%}",
        ))  # fmt: skip
    heads = ("variant", "µs a request", "added (quartiles)", "hooks", "quarters of four", "of bare")
    outcome.grids.append(Grid(title, heads, tuple(lines)))
