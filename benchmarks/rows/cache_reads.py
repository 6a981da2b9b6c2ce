"""The mill with ``KNITPERF_REUSE_READS`` switched on and nothing else changed.

The sick mill answers a list of requests twice: as it is, and with the option. The forecast reads six
real workbooks per request. All bodies must be equal. Then a file is replaced, put back in time,
truncated and deleted while four threads read it in one process: each answer must be one that the file
had while it was read.
"""

from __future__ import annotations

import os
import random
import tempfile
import threading
import time
from pathlib import Path

import pandas as pd
from flask import Flask

from demo_app import serve, traffic
from demo_app.mill import generate
from demo_app.plants import Plan, plan
from demo_app.settings import Settings
from flask_knitperf import KnitPerf

from ..harness.outcome import Grid, Outcome, Spread

KINDS = ("workbooks", "reread", "health", "stock", "search", "explosion", "suppliers", "roll")
REUSE = "KNITPERF_REUSE_READS"
CHANGES_S = 120.0


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    _judge_mill(outcome, quick)
    _judge_changes(outcome, 5.0 if quick else CHANGES_S)
    return outcome


def _judge_mill(outcome: Outcome, quick: bool) -> None:
    key = plan(0)
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data=Path(folder) / "mill")
        generate(settings.data, settings.scale, 0)
        listed = traffic.requests(
            key, 40 if quick else 160, 0, least=8 if quick else 40, only=KINDS
        )
        plain = _served(Path(folder) / "plain", settings, key, listed)
        reused = _served(Path(folder) / "reused", settings, key, listed, **{REUSE: "true"})
    different = [
        f"{before.request.path}: {before.status} {before.digest[:9]}, {after.status} {after.digest[:9]}"
        for before, after in zip(plain, reused, strict=True)
        if (before.status, before.digest) != (after.status, after.digest)
    ]
    outcome.judge("cache_reads.bodies", f"bodies of {len(listed)} requests that differ with the option",
                  "0", str(len(different)), not different)  # fmt: skip
    endpoint = key.places["workbooks"].endpoint
    before, after = (_p95(answers, endpoint) for answers in (plain, reused))
    outcome.judge("cache_reads.p95", "p95 of the forecast with the option, each worker warm",
                  "≤ 1/20", f"1/{before / after:.0f} ({before * 1e3:.0f} to {after * 1e3:.1f} ms)",
                  after <= before / 20)  # fmt: skip
    lines = tuple(
        (name, f"{_p95(plain, name) * 1e3:.1f}", f"{_p95(reused, name) * 1e3:.1f}")
        for name in sorted({answer.request.endpoint for answer in plain})
    )
    outcome.grids.append(Grid("p95, ms", ("endpoint", "as it is", "with the option"), lines))
    outcome.notes += different[:20]


def _served(
    state: Path, settings: Settings, key: Plan, listed: list[traffic.Request], **more: str
) -> list[traffic.Answer]:
    """Serve a mill of two workers; return the answers to a list, sent twice, the second time."""
    state.mkdir(mode=0o700)
    env = serve.environment(settings, state.name) | more | {"KNITPERF_STATE_DIR": str(state)}
    with serve.server(
        serve.Serving(gunicorn=True, workers=2), env, key.places["health"].url
    ) as address:
        traffic.drive(address, listed, 1)
        return traffic.drive(address, listed, 1)


def _p95(answers: list[traffic.Answer], endpoint: str) -> float:
    taken = [answer.seconds for answer in answers if answer.request.endpoint == endpoint]
    return traffic.quantile(taken, 0.95)


# -- changes under load ----------------------------------------------------------------------------


def _judge_changes(outcome: Outcome, seconds: float) -> None:
    app = Flask("mill")
    app.config.update(TESTING=True, KNITPERF_REUSE_READS=True)
    perf = KnitPerf(app)
    app.test_client().get("/")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "yarn.csv"
        scene = _Scene(path)
        threads = [threading.Thread(target=scene.read) for _ in range(4)]
        for thread in threads:
            thread.start()
        scene.change(seconds)
        for thread in threads:
            thread.join()
    counts = perf.cache.get_cache_statistics()["namespaces"]["pandas reads"]
    app.extensions["knitperf"].close()
    outcome.judge("cache_reads.stale", f"stale answers, {scene.reads:,} reads, {scene.number:,} changes",
                  "0", str(len(scene.stale)), not scene.stale and counts["hits"] > 0)  # fmt: skip
    outcome.notes.append(
        f"{counts['hits']:,} of these reads were hits; "
        f"changes {Spread.of(scene.pauses).text(2)} s apart"
    )


class _Scene:
    """A file whose content is a number that grows with each change, and threads that read it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._write(0)
        self.number = self.reads = 0
        self.stale: list[tuple[int, int, int]] = []
        self.pauses: list[float] = []
        self._done = False

    def _write(self, number: int) -> None:
        self._path.write_text(f"n\n{number:012}\n")

    def change(self, seconds: float) -> None:
        """Change the file in turn in each way, until the time is over."""
        rng = random.Random(1)
        until = time.monotonic() + seconds
        changes = (self._replace, self._rewrite, self._touch_back, self._truncate, self._delete)
        while time.monotonic() < until:
            rng.choice(changes)(self.number + 1)
            self.number += 1
            self.pauses.append(rng.choice((0.0, 0.0005, 0.01, 2.3)))
            time.sleep(self.pauses[-1])
        self._done = True

    def _replace(self, number: int) -> None:
        other = self._path.with_suffix(".new")
        other.write_text(f"n\n{number:012}\n")
        os.replace(other, self._path)

    def _rewrite(self, number: int) -> None:
        self._write(number)

    def _touch_back(self, number: int) -> None:
        status = self._path.stat() if self._path.exists() else None
        self._replace(number)
        if status is not None:
            os.utime(self._path, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _truncate(self, number: int) -> None:
        self._path.write_text("n\n")
        self._replace(number)

    def _delete(self, number: int) -> None:
        self._path.unlink(missing_ok=True)
        self._replace(number)

    def read(self) -> None:
        """Read until the changes are over; note answers that are older than the file was."""
        while not self._done:
            before = self.number
            try:
                frame = pd.read_csv(self._path)
            except (FileNotFoundError, pd.errors.EmptyDataError):
                continue
            after = self.number + 1
            self.reads += 1
            if len(frame) and not before <= int(frame["n"].iloc[0]) <= after:
                self.stale.append((before, int(frame["n"].iloc[0]), after))
