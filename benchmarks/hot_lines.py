"""Planted hot lines: does the sampler name them first, and tell running from waiting?

The views were written by somebody who had not seen the sampler (see ``corpus``), and committed
before it ran on them. An application serves them one after another for a minute, in one thread, the
sampler at its default rate; then the line that took most samples of each endpoint is held against
the key, and the share of its time that was running against the share that was planted.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from flask import Flask

from flask_knitperf import KnitPerf
from flask_knitperf.analysis.lines import top_lines, whole

from .corpus import hot_lines_unseen
from .outcome import Grid, Outcome
from .wsgi import Get

SEEDS = tuple(range(10))
SECONDS = 60.0
NAMED, SPLIT = 0.95, 0.05


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    tried: list[dict[str, Any]] = []
    for seed in SEEDS[:1] if quick else SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            tried += _try(Path(folder), seed, 20.0 if quick else SECONDS)
    named = [row["named"] for row in tried]
    splits = [row["off"] for row in tried if row["off"] is not None]
    outcome.judge("hot_lines.named", f"{len(tried)} planted hot lines, named first", "≥ 95 %",
                  f"{sum(named)} of {len(named)}", sum(named) >= NAMED * len(named))  # fmt: skip
    within = [off for off in splits if off <= SPLIT]
    outcome.judge("hot_lines.split", "running and waiting told apart", "± 5 points",
                  f"{len(within)} of {len(splits)} within, worst {max(splits, default=1):.0%}",
                  len(within) == len(splits) > 0)  # fmt: skip
    outcome.grids.append(_by_kind(tried))
    outcome.notes += [f"seed {r['seed']}, {r['name']}: {r['said']}" for r in tried
                      if not r["named"] or (r["off"] or 0) > SPLIT]  # fmt: skip
    outcome.details = {"cases": tried}
    return outcome


def _by_kind(tried: list[dict[str, Any]]) -> Grid:
    lines = []
    for kind in sorted({row["kind"] for row in tried}):
        rows = [row for row in tried if row["kind"] == kind]
        worst = max((row["off"] for row in rows if row["off"] is not None), default=0.0)
        named, least = sum(row["named"] for row in rows), min(row["samples"] for row in rows)
        lines.append((kind, f"{named} of {len(rows)}", f"{worst:.0%}", f"{least:,} or more"))
    return Grid("By kind", ("kind", "named", "worst split", "samples each"), tuple(lines))


def _try(folder: Path, seed: int, seconds: float) -> list[dict[str, Any]]:
    cases = hot_lines_unseen.cases(seed)
    app = Flask("hot")
    app.config.update(KNITPERF_STATE_DIR=str(folder / "state"), KNITPERF_SAMPLER=True)
    for case in cases:
        app.add_url_rule(f"/{case.name}", case.name, case.view)
    KnitPerf(app)
    gets = [Get(app, f"/{case.name}") for case in cases]
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        for get in gets:
            get()
    time.sleep(0.3)
    session = app.extensions["knitperf"]
    tries = session.details.read(session.recorder.worker.run, 0.0, time.time())
    session.close()
    found = []
    for case in cases:
        trie = whole(tries.get((case.name, "GET"), {}))
        lines = top_lines(trie)
        hot = {hot_lines_unseen.line_of(marker) for marker in case.hot}
        first = lines[0] if lines else None
        named = first is not None and first.where.rpartition("/")[2] in hot
        off = abs(first.running / first.total - case.running) if named and first else None
        said = [f"{line.where} {line.total / max(1, trie.total):.0%}" for line in lines[:3]]
        if off is not None and first is not None:
            said.append(f"running {first.running / first.total:.0%}, planted {case.running:.0%}")
        found.append({
            "seed": seed, "name": case.name, "kind": case.kind, "named": named, "off": off,
            "samples": sum(line.samples for line in lines), "said": "; ".join(said),
        })  # fmt: skip
    return found
