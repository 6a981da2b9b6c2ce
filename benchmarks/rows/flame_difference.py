"""One request in fifty takes another path: is that path first among what slow requests do otherwise?

An application serves one endpoint for half a minute, in one thread, the sampler at its default rate.
What is usual and what is rare is drawn for each seed: computing or waiting, and by how much slower. Some
rare ways are within the endpoint's threshold, where only its own p99 tells.
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
    tried = []
    for seed in SEEDS[:2] if quick else SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            tried.append(_try(Path(folder), seed, 15.0 if quick else SECONDS))
    first = sum(row["first"] for row in tried)
    outcome.judge(
        "flame_difference", f"the path of one request in {ONE_IN}, first of what slow ones do otherwise",
        "every seed", f"{first} of {len(tried)}", first == len(tried),
    )  # fmt: skip
    outcome.grids.append(Grid("By seed", ("rare way", "first", "slow ones", "others"), tuple(
        (row["way"], "yes" if row["first"] else f"no: {row['said']}", f"{row['slow']:.0%}",
         f"{row['normal']:.0%}") for row in tried
    )))  # fmt: skip
    outcome.details = {"cases": tried}
    return outcome


def _computes(seconds: float) -> None:
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends:  # computes
        pass


def _waits(seconds: float) -> None:
    time.sleep(seconds)  # waits


def _rare_computes(seconds: float) -> None:
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends:  # rare, computes
        pass


def _rare_waits(seconds: float) -> None:
    time.sleep(seconds)  # rare, waits


def _line_of(function: Callable[..., Any], mark: str) -> str:
    lines, begins = inspect.getsourcelines(function)
    number = next(n for n, line in enumerate(lines) if line.rstrip().endswith(f"# {mark}"))
    return f"rows/flame_difference.py:{begins + number}"


def _try(folder: Path, seed: int, seconds: float) -> dict[str, Any]:
    rng = random.Random(seed)
    usual = rng.choice((_computes, _waits))
    usual_s = rng.uniform(0.004, 0.012)
    rare, mark = rng.choice(((_rare_computes, "rare, computes"), (_rare_waits, "rare, waits")))
    rare_s = rng.choice((0.05, 0.08, 0.15, 0.3))
    asked = 0

    def view() -> str:
        nonlocal asked
        asked += 1
        usual(usual_s * rng.uniform(0.8, 1.2))
        if asked % ONE_IN == seed % ONE_IN:
            rare(rare_s * rng.uniform(0.8, 1.2))
        return "ok"

    app = Flask("rare")
    app.config.update(KNITPERF_STATE_DIR=str(folder / "state"), KNITPERF_SAMPLER=True)
    app.add_url_rule("/", "view", view)
    KnitPerf(app)
    get, ends = Get(app, "/"), time.monotonic() + seconds
    while time.monotonic() < ends:
        get()
    time.sleep(0.3)
    session = app.extensions["knitperf"]
    tries = session.details.read(session.recorder.worker.run, 0.0, time.time())
    session.close()
    rows = difference(tries.get(("view", "GET"), {}))
    # of a loop that computes either of its two lines may be met
    wanted = {_line_of(rare, mark)}
    if rare is _rare_computes:
        place, _, line = next(iter(wanted)).rpartition(":")
        wanted.add(f"{place}:{int(line) + 1}")
    top = rows[0] if rows else {"where": "no difference", "slow_share": 0.0, "normal_share": 0.0}
    return {
        "seed": seed, "way": f"{seed}: {rare_s * 1000:.0f} ms beside {usual_s * 1000:.0f} ms, {mark}",
        "first": top["where"] in wanted, "said": top["where"], "slow": top["slow_share"],
        "normal": top["normal_share"],
    }  # fmt: skip
