"""Pause of all other threads while a worker with a million objects lists its live frames.

A fresh process has a million objects that the collector tracks, and frames as an ERP has them: of
numbers, text, categories and Python objects, copies and views among them, 200 MB in total. A thread
reads the clock in a loop; its longest gap, beside the one without a scan, is the pause. The walk of the
collector is one uninterruptible step in C.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from typing import Any

from ..harness import machine
from ..harness.outcome import Grid, Outcome

SCANS = 15
_PROGRAM = """
import gc, json, sys, threading, time
import numpy as np, pandas as pd
from flask_knitperf.frames.live_frames import scan

objects = [[] for _ in range(int(sys.argv[1]))]
rng = np.random.default_rng(1)
frames = []
for number in range(20):
    rows = 20_000 * (number % 5 + 1)
    frames.append(pd.DataFrame({
        "pounds": rng.normal(size=rows), "yarn": np.arange(rows), "supplier": rng.integers(0, 9, rows),
        "text": [f"colour {n % 400}" for n in range(rows)],
        "kind": pd.Categorical(rng.choice(["a", "b", "c"], rows)),
    }))
frames.append(pd.DataFrame({"object": pd.Series([f"roll {n}" for n in range(100_000)], dtype=object)}))
frames += [frame.copy() for frame in frames[:4]]
frames += [frame.head(10) for frame in frames[:8]]
frames.append(pd.DataFrame({"wide": np.arange(4_000_000)}).iloc[:100])
gc.collect()

class Clock(threading.Thread):
    def run(self):
        self.over, self.worst, last = False, 0.0, time.perf_counter()
        while not self.over:
            now = time.perf_counter()
            self.worst, last = max(self.worst, now - last), now

def longest(work):
    clock = Clock(); clock.start(); time.sleep(0.05); clock.worst = 0.0
    start = time.perf_counter(); work(); seconds = time.perf_counter() - start
    worst = clock.worst; clock.over = True; clock.join()
    return worst, seconds

def busy():
    deadline = time.perf_counter() + 0.2
    while time.perf_counter() < deadline: pass

rows = []
for _ in range(int(sys.argv[2])):
    idle, _ = longest(busy)
    lists = []
    worst, seconds = longest(lambda: lists.append(scan()))
    rows.append((idle, worst, seconds, lists[0].stalled_ns / 1e9))
print(json.dumps({"rows": rows, "frames": lists[0].count, "mb": lists[0].bytes / 2**20,
                  "tracked": len(gc.get_objects())}))
"""


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    scans = _scans(100_000 if quick else 1_000_000, 3 if quick else SCANS)
    idle, worst, scan, walk = (
        statistics.median(column) * 1000 for column in zip(*scans["rows"], strict=True)
    )
    outcome.judge(
        "live_frames.stall", f"pause by a list of {scans['frames']} frames beside "
        f"{scans['tracked']:,} objects",
        "≤ 30 ms", f"{worst:.1f} ms, of which the walk {walk:.1f}; {idle:.1f} without a scan",
        worst <= 30,
    )  # fmt: skip
    lines = tuple(tuple(f"{value * 1000:.1f}" for value in row) for row in scans["rows"])
    heads = ("longest gap without, ms", "longest gap, ms", "whole scan, ms", "walk, ms")
    outcome.grids.append(Grid("Each scan", heads, lines))
    outcome.notes.append(
        f"The frames take {scans['mb']:.0f} MB; the whole scan takes {scan:.0f} ms, most of it "
        "concurrent with other threads."
    )
    outcome.figures = {"objects": scans["tracked"], "walk_ms": round(walk, 1)}
    return outcome


def _scans(objects: int, scans: int) -> Any:
    process = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(objects), str(scans)], cwd=machine.ROOT,
        capture_output=True, text=True, check=True, timeout=600,
    )  # fmt: skip
    return json.loads(process.stdout)
