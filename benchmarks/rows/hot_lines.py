"""Planted hot lines: the sampler has to name them first, and distinguish running from waiting.

The views were written by an author who had not seen the sampler (see ``corpus``), and committed before
it ran on them. An application serves them one after another for a minute, in one thread, the sampler at
its default rate; then the line with most samples of each endpoint is compared with the key, and the
share of its time that was running with the planted share.

The dose of a line that both computes and waits was chosen by the speed of the machine at the time of
writing, and in the run the machine may be twice as fast or as slow. So the share of such a line is
measured where it runs, by the clocks of its thread around its calls.
"""

from __future__ import annotations

import contextlib
import hashlib
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from flask import Flask

from flask_knitperf import KnitPerf
from flask_knitperf.analysis.hot_lines import top_lines, whole
from flask_knitperf.core.clock import SYSTEM

from ..corpus import hot_lines_unseen as corpus
from ..harness.outcome import Grid, Outcome
from ..harness.wsgi import Get

SEEDS = tuple(range(10))
SECONDS = 60.0
MIN_NAMED = 0.95
"""Share of the hot lines that has to be named first."""
MAX_SPLIT_ERROR = 0.05
"""Largest error of the share of running time."""


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    cases: list[dict[str, Any]] = []
    for seed in SEEDS[:1] if quick else SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            cases += _try(Path(folder), seed, 20.0 if quick else SECONDS)
    named = [row["named"] for row in cases]
    splits = [row["off"] for row in cases if row["off"] is not None]
    outcome.judge("hot_lines.named", f"{len(cases)} planted hot lines, named first", "≥ 95 %",
                  f"{sum(named)} of {len(named)}", sum(named) >= MIN_NAMED * len(named))  # fmt: skip
    within = [off for off in splits if off <= MAX_SPLIT_ERROR]
    outcome.judge("hot_lines.split", "running and waiting time distinguished", "± 5 points",
                  f"{len(within)} of {len(splits)} within, worst {max(splits, default=1):.0%}",
                  len(within) == len(splits) > 0)  # fmt: skip
    outcome.grids.append(_by_kind(cases))
    outcome.notes += [f"seed {r['seed']}, {r['name']}: {r['top']}" for r in cases
                      if not r["named"] or (r["off"] or 0) > MAX_SPLIT_ERROR]  # fmt: skip
    return outcome


def _by_kind(cases: list[dict[str, Any]]) -> Grid:
    lines = []
    for kind in sorted({row["kind"] for row in cases}):
        rows = [row for row in cases if row["kind"] == kind]
        worst = max((row["off"] for row in rows if row["off"] is not None), default=0.0)
        named, least = sum(row["named"] for row in rows), min(row["samples"] for row in rows)
        lines.append((kind, f"{named} of {len(rows)}", f"{worst:.0%}", f"{least:,} or more"))
    return Grid("By kind", ("kind", "named", "worst split", "samples each"), tuple(lines))


def _try(folder: Path, seed: int, seconds: float) -> list[dict[str, Any]]:
    cases = corpus.cases(seed)
    app = Flask("hot")
    app.config.update(KNITPERF_STATE_DIR=str(folder / "state"), KNITPERF_SAMPLER=True)
    mixed = {case.name: _Mixed(case.view) for case in cases if 0.0 < case.running < 1.0}
    for case in cases:
        app.add_url_rule(f"/{case.name}", case.name, mixed.get(case.name, case.view))
    KnitPerf(app)
    gets = [Get(app, f"/{case.name}") for case in cases]
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for get in gets:
            get()
    time.sleep(0.3)
    session = app.extensions["knitperf"]
    tries = session.details.read(session.recorder.worker.run, 0.0, time.time())
    session.close()
    rows = []
    for case in cases:
        trie = whole(tries.get((case.name, "GET"), {}))
        lines = top_lines(trie)
        hot = {corpus.line_of(marker) for marker in case.hot}
        first = lines[0] if lines else None
        named = first is not None and first.where.rpartition("/")[2] in hot
        planted = mixed[case.name].running() if case.name in mixed else case.running
        off = abs(first.running / first.total - planted) if named and first else None
        top = [f"{line.where} {line.total / max(1, trie.total):.0%}" for line in lines[:3]]
        if off is not None and first is not None:
            top.append(f"running {first.running / first.total:.0%}, planted {planted:.0%}")
        rows.append({
            "seed": seed, "name": case.name, "kind": case.kind, "named": named, "off": off,
            "samples": sum(line.samples for line in lines), "top": "; ".join(top),
        })  # fmt: skip
    return rows


_LIBRARY = """
import sys

def timed(real, clock, sums):
    def call(*args):
        if sys._getframe(1).f_code.co_name != "_sealed_price":
            return real(*args)
        wall, runnable = clock.monotonic_ns(), clock.runnable_ns()
        try:
            return real(*args)
        finally:
            sums["wall"] += clock.monotonic_ns() - wall
            sums["runnable"] += clock.runnable_ns() - runnable
    return call

class Line:
    def __init__(self, real, recv):
        self._real, self.recv = real, recv

    def __getattr__(self, name):
        return getattr(self._real, name)
"""
_TIMED: dict[str, Any] = {}
# as code of a library, so that its time counts for the line that calls it
exec(compile(_LIBRARY, str(Path(sysconfig.get_path("purelib")) / "timed.py"), "exec"), _TIMED)


class _Mixed:
    """A view whose hot line waits for a socket and then computes: both calls are timed."""

    def __init__(self, view: Callable[[], Any]) -> None:
        self._view = view
        self._sums = {"wall": 0, "runnable": 0}

    def __call__(self) -> Any:
        """Answer a request."""
        supplier = corpus._supplier

        @contextlib.contextmanager
        def timed_supplier(seconds: float) -> Iterator[Any]:
            with supplier(seconds) as line:
                yield _TIMED["Line"](line, self._timed(line.recv))

        seal = self._timed(hashlib.pbkdf2_hmac)
        with (
            mock.patch.object(corpus, "_supplier", timed_supplier),
            mock.patch.object(hashlib, "pbkdf2_hmac", seal),
        ):
            return self._view()

    def _timed(self, real: Callable[..., Any]) -> Any:
        return _TIMED["timed"](real, SYSTEM, self._sums)

    def running(self) -> float:
        """Return the share of the line's time in which its thread was runnable."""
        return self._sums["runnable"] / self._sums["wall"]
