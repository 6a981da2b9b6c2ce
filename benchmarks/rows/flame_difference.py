"""One request in fifty takes another path, which has to come first among the differences of slow ones.

An application serves one endpoint for half a minute, in one thread, the sampler at its default rate. The
common and the rare path are drawn for each seed: computing or waiting, and their durations. Some rare
paths are within the endpoint's threshold, where only its p99 distinguishes them.
"""

from __future__ import annotations

import inspect
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Flask

from flask_knitperf import KnitPerf
from flask_knitperf.analysis.hot_lines import difference

from ..harness.outcome import Grid, Outcome
from ..harness.wsgi import Get

SEEDS = tuple(range(10))
SECONDS = 40.0
ONE_IN = 50


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    cases = []
    for seed in SEEDS[:2] if quick else SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            cases.append(_try(Path(folder), seed, 15.0 if quick else SECONDS))
    first = sum(row["first"] for row in cases)
    outcome.judge(
        "flame_difference",
        f"the path of one request in {ONE_IN}, first of what slow requests do differently",
        "every seed", f"{first} of {len(cases)}", first == len(cases),
    )  # fmt: skip
    outcome.grids.append(Grid("By seed", ("rare path", "first", "slow requests", "others"), tuple(
        (row["path"], "yes" if row["first"] else f"no: {row['top']}", f"{row['slow']:.0%}",
         f"{row['normal']:.0%}") for row in cases
    )))  # fmt: skip
    return outcome


def _computes(seconds: float) -> None:
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:  # computes
        pass


def _waits(seconds: float) -> None:
    time.sleep(seconds)  # waits


def _rare_computes(seconds: float) -> None:
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:  # rare, computes
        pass


def _rare_waits(seconds: float) -> None:
    time.sleep(seconds)  # rare, waits


def _line_of(function: Callable[..., Any], mark: str) -> str:
    lines, start = inspect.getsourcelines(function)
    number = next(n for n, line in enumerate(lines) if line.rstrip().endswith(f"# {mark}"))
    return f"rows/flame_difference.py:{start + number}"


def _try(folder: Path, seed: int, seconds: float) -> dict[str, Any]:
    rng = random.Random(seed)
    common = rng.choice((_computes, _waits))
    common_s = rng.uniform(0.004, 0.012)
    rare, mark = rng.choice(((_rare_computes, "rare, computes"), (_rare_waits, "rare, waits")))
    rare_s = rng.choice((0.05, 0.08, 0.15, 0.3))
    served = 0

    def view() -> str:
        nonlocal served
        served += 1
        common(common_s * rng.uniform(0.8, 1.2))
        if served % ONE_IN == seed % ONE_IN:
            rare(rare_s * rng.uniform(0.8, 1.2))
        return "ok"

    app = Flask("rare")
    app.config.update(KNITPERF_STATE_DIR=str(folder / "state"), KNITPERF_SAMPLER=True)
    app.add_url_rule("/", "view", view)
    KnitPerf(app)
    get, deadline = Get(app, "/"), time.monotonic() + seconds
    while time.monotonic() < deadline:
        get()
    time.sleep(0.3)
    session = app.extensions["knitperf"]
    tries = session.details.read(session.recorder.worker.run, 0.0, time.time())
    session.close()
    rows = difference(tries.get(("view", "GET"), {}))
    # samples of a loop that computes fall on either of its two lines
    expected = {_line_of(rare, mark)}
    if rare is _rare_computes:
        place, _, line = next(iter(expected)).rpartition(":")
        expected.add(f"{place}:{int(line) + 1}")
    top = rows[0] if rows else {"where": "no difference", "slow_share": 0.0, "normal_share": 0.0}
    return {
        "path": f"{seed}: {rare_s * 1000:.0f} ms beside {common_s * 1000:.0f} ms, {mark}",
        "first": top["where"] in expected, "top": top["where"], "slow": top["slow_share"],
        "normal": top["normal_share"],
    }  # fmt: skip
