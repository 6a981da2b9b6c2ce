"""Verification of hits: whether a dependency that was left out is named, and what that costs.

A cached function declares a table and reads a file besides. Of each thousand hits, in requests of fifty
hits each, the last hundred are of a value that the file has changed since. One hit in a thousand is
verified. The time by which verification is bounded passes as at a thousand hits per second. A run has
50,000 hits; its counterpart changes no file.
"""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import flask

from flask_knitperf import KnitPerf
from flask_knitperf.caching.dependencies import Table

from ..harness.outcome import Grid, Outcome

RUNS = 100
HITS = 50_000
EVERY = 1_000
CYCLE, FRESH = 1_000, 900
PER_REQUEST = 50
PER_SECOND = 1_000
MIN_NAMED = 99
STYLES = 3


def run(quick: bool = False) -> Outcome:
    """Measure."""
    runs = 3 if quick else RUNS
    with tempfile.TemporaryDirectory() as folder:
        changing = [_Run(Path(folder), seed, changes=True).measure() for seed in range(runs)]
        still = [_Run(Path(folder), seed, changes=False).measure() for seed in range(runs)]
    named = sum(result["named"] for result in changing)
    wrongly = sum(bool(result["findings"]) for result in still)
    outcome = Outcome()
    outcome.judge(
        "cache_verification.named", f"runs in which the file was named within {HITS:,} hits, a tenth of "
        "them outdated", f"≥ {MIN_NAMED} of {RUNS}", f"{named} of {runs}",
        named >= MIN_NAMED * runs // RUNS,
    )  # fmt: skip
    outcome.judge(
        "cache_verification.quiet", "runs without a change in which anything was named", "0",
        str(wrongly), wrongly == 0,
    )  # fmt: skip
    outcome.grids.append(Grid(
        "All runs together", ("runs", "hits", "verified", "outdated", "share by verification"),
        tuple(_line(name, results) for name, results in (
            ("the file changes", changing), ("no file changes", still),
        )),
    ))  # fmt: skip
    return outcome


def _line(name: str, results: list[dict[str, Any]]) -> tuple[str, ...]:
    hits, verified, differed = (
        sum(result[key] for result in results) for key in ("hits", "verified", "differed")
    )
    share = f"{differed / verified:.1%}" if verified else "none"
    return name, f"{hits:,}", f"{verified:,}", f"{differed:,}", share


class _Run:
    """One application, its requests, and a file that may change."""

    def __init__(self, folder: Path, seed: int, *, changes: bool) -> None:
        self.changes, self.hits = changes, 0
        self.path = folder / f"rates-{seed}-{changes}"
        self.path.write_text("0")
        self.app = flask.Flask("mill")
        self.app.config.update(TESTING=True, KNITPERF_CACHE_VERIFY=EVERY)
        self.perf = KnitPerf(self.app)
        verification: Any = self.perf.cache._verification
        verification._draw = random.Random(seed).random
        verification._clock = lambda: self.hits / PER_SECOND
        verification._began = 0.0
        self.total = self.perf.cache.cached(namespace="totals", depends=Table("orders"))(self._load)
        self.app.add_url_rule("/", "totals", self._view)

    def _load(self, style: int) -> tuple[int, str]:
        return style, self.path.read_text()

    def _view(self) -> str:
        for number in range(PER_REQUEST):
            self.total(number % STYLES)
        return "done"

    def measure(self) -> dict[str, Any]:
        """Send the requests; return the counts and the findings."""
        client = self.app.test_client()
        for number in range(HITS // PER_REQUEST):
            place = number * PER_REQUEST % CYCLE
            if place == FRESH and self.changes:
                self.path.write_text(str(number))
            if not place:
                self.perf.cache.invalidate("totals")
            client.get("/")
            self.hits += PER_REQUEST
        findings = [
            row for row in self.perf.report()["bottlenecks"] if row["type"] == "CACHE_STALE"
        ]
        counts = self.perf.cache.get_cache_statistics()["total"]
        self.app.extensions["knitperf"].close()
        return {
            "hits": counts["hits"], "verified": counts["verified"], "differed": counts["differed"],
            "findings": findings, "named": any(str(self.path) in row["text"] for row in findings),
        }  # fmt: skip
