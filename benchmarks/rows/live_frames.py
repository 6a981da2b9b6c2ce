"""How long a list of live frames stops the other threads of a worker that has a million objects.

A fresh process has a million objects that the collector tracks, and frames as an ERP has them: of
numbers, text, categories and Python's objects, copies and views among them, 200 MB together. A thread
does nothing but look at the clock; the longest time that it did not come to that, less what it misses
without a scan, is the stall. The walk of the collector is one step, in C, that nothing interrupts.
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

class Watch(threading.Thread):
    def run(self):
        self.over, self.worst, last = False, 0.0, time.perf_counter()
        while not self.over:
            now = time.perf_counter()
            self.worst, last = max(self.worst, now - last), now

def longest(work):
    watch = Watch(); watch.start(); time.sleep(0.05); watch.worst = 0.0
    began = time.perf_counter(); work(); took = time.perf_counter() - began
    worst = watch.worst; watch.over = True; watch.join()
    return worst, took

def busy():
    ends = time.perf_counter() + 0.2
    while time.perf_counter() < ends: pass

rows = []
for _ in range(int(sys.argv[2])):
    idle, _ = longest(busy)
    told = []
    worst, took = longest(lambda: told.append(scan()))
    rows.append((idle, worst, took, told[0].stalled_ns / 1e9))
print(json.dumps({"rows": rows, "frames": told[0].count, "mb": told[0].bytes / 2**20,
                  "tracked": len(gc.get_objects())}))
"""


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    found = _scans(100_000 if quick else 1_000_000, 3 if quick else SCANS)
    idle, worst, took, walk = (
        statistics.median(each) * 1000 for each in zip(*found["rows"], strict=True)
    )
    outcome.judge(
        "live_frames.stall", f"a list of {found['frames']} frames beside {found['tracked']:,} objects",
        "≤ 30 ms", f"{worst:.1f} ms, of which the walk {walk:.1f}; {idle:.1f} without a scan",
        worst <= 30,
    )  # fmt: skip
    lines = tuple(tuple(f"{value * 1000:.1f}" for value in row) for row in found["rows"])
    heads = ("longest pause without, ms", "longest pause, ms", "whole scan, ms", "walk, ms")
    outcome.grids.append(Grid("Each scan", heads, lines))
    outcome.notes.append(
        f"The frames hold {found['mb']:.0f} MB; the whole scan takes {took:.0f} ms, most of it beside "
        "other threads."
    )
    return outcome


def _scans(objects: int, scans: int) -> Any:
    told = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(objects), str(scans)], cwd=machine.ROOT,
        capture_output=True, text=True, check=True, timeout=600,
    )  # fmt: skip
    return json.loads(told.stdout)
