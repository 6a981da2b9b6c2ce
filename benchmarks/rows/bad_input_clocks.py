"""Clocks that jump: the wall clock back by an hour and forward by a day, the monotonic one backwards.

The application answers, no report has an impossible value, and counts stay exact.
"""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path

from flask_knitperf.core.clock import Clock

from ..harness.apps import small
from ..harness.client import impossible
from ..harness.outcome import Outcome
from ..harness.wsgi import Get


def run(outcome: Outcome, total: int) -> None:
    """Judge both clocks."""
    for name, wall, monotonic in (("wall", True, False), ("monotonic", False, True)):
        with tempfile.TemporaryDirectory() as folder:
            text, ok = _serve(Path(folder), total, wall, monotonic)
        outcome.judge(f"bad_input.clock_{name}", f"the {name} clock jumps back and forth",
                      "answers, no impossible value", text, ok)  # fmt: skip


def _serve(folder: Path, total: int, wall: bool, monotonic: bool) -> tuple[str, bool]:
    """Serve requests while clocks jump; return the measured text, and whether it is as it should be."""
    rng, shift = random.Random(9), [0.0, 0]
    app = small({"KNITPERF_STATE_DIR": str(folder / "state"), "KNITPERF_LOG_BYTES": 65536})
    session = app.extensions["knitperf"]
    session.recorder.clock = Clock(
        monotonic_ns=lambda: time.perf_counter_ns() + int(shift[1]),
        wall=lambda: time.time() + shift[0],
    )
    get, bodies, wrong = Get(app), set(), []
    for turn in range(total):
        if turn % 50 == 0:
            shift[0] = rng.choice((0.0, -3600.0, 86400.0, -5.0)) if wall else 0.0
            shift[1] = rng.choice((0, -(10**9), 10**9, -(10**12))) if monotonic else 0
        if monotonic:
            shift[1] -= rng.choice((0, 0, 200_000))  # also within a request
        bodies.add(get())
        if turn % (total // 20) == 0:
            session.jobs.fold()
            session.jobs.publish_heartbeat()
            for window in ("5m", "1h", "run"):
                wrong += impossible(session.documents.report(window))
    document = session.documents.report("run")
    counted = sum(row["count"] for row in document["endpoints"])
    failures = session.recorder.failures
    session.close()
    ok = len(bodies) == 1 and not wrong and counted == total and not failures
    text = f"{counted:,} of {total:,} counted, {len(wrong)} impossible values"
    return text + (f"; {wrong[:2]} {failures}" if wrong or failures else ""), ok
