"""Planted hot lines: does the sampler name them first, and tell running from waiting?

The views were written by somebody who had not seen the sampler (see ``corpus``), and committed
before it ran on them. An application serves them one after another for a minute, in one thread, the
sampler at its default rate; then the line that took most samples of each endpoint is held against
the key, and the share of its time that was running against the share that was planted.

A line that both computes and waits was given its dose by how fast the machine was when the case was
made, and in the run it may be twice as fast or as slow. So what such a line does is measured where it is
run, by the clocks of its thread around what it calls.
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
    cases = corpus.cases(seed)
    app = Flask("hot")
    app.config.update(KNITPERF_STATE_DIR=str(folder / "state"), KNITPERF_SAMPLER=True)
    mixed = {case.name: _Mixed(case.view) for case in cases if 0.0 < case.running < 1.0}
    for case in cases:
        app.add_url_rule(f"/{case.name}", case.name, mixed.get(case.name, case.view))
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
        hot = {corpus.line_of(marker) for marker in case.hot}
        first = lines[0] if lines else None
        named = first is not None and first.where.rpartition("/")[2] in hot
        planted = mixed[case.name].running() if case.name in mixed else case.running
        off = abs(first.running / first.total - planted) if named and first else None
        said = [f"{line.where} {line.total / max(1, trie.total):.0%}" for line in lines[:3]]
        if off is not None and first is not None:
            said.append(f"running {first.running / first.total:.0%}, planted {planted:.0%}")
        found.append({
            "seed": seed, "name": case.name, "kind": case.kind, "named": named, "off": off,
            "samples": sum(line.samples for line in lines), "said": "; ".join(said),
        })  # fmt: skip
    return found


_LIBRARY = """
import sys

def timed(real, clock, sums):
    def call(*args):
        if sys._getframe(1).f_code.co_name != "_sealed_price":
            return real(*args)
        wall, wanted = clock.monotonic_ns(), clock.runnable_ns()
        try:
            return real(*args)
        finally:
            sums["wall"] += clock.monotonic_ns() - wall
            sums["wanted"] += clock.runnable_ns() - wanted
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
        self._sums = {"wall": 0, "wanted": 0}

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
        """Return the share of the line's time in which its thread wanted a core."""
        return self._sums["wanted"] / self._sums["wall"]
