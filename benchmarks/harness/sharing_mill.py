"""An application whose cached functions several processes call, by commands on their input.

``python -m benchmarks.harness.sharing_mill`` answers each line, a JSON list of the name of a function
here and its arguments, with a JSON value. ``STATE`` is the state directory, ``LOG`` has a line for each
load, and ``NUMBERS`` is a file of 16 bytes.
"""

from __future__ import annotations

import json
import mmap
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from flask import Flask

from flask_knitperf import KnitPerf

app = Flask("mill")
app.config.update(KNITPERF_STATE_DIR=os.environ["STATE"])
perf = KnitPerf(app)


def numbers() -> memoryview:
    """Return the number that is loaded, and the latest one whose invalidation has returned."""
    with open(os.environ["NUMBERS"], "r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), 0)).cast("Q")


@perf.cache.cached
def slow(key: int, seconds: float) -> pd.DataFrame:
    """Load a frame of 240 kB for some seconds."""
    with open(os.environ["LOG"], "a") as file:
        file.write(f"{key}\n")
    time.sleep(seconds)
    return pd.DataFrame({"key": np.full(30_000, key)})


@perf.cache.cached
def large(rows: int) -> pd.DataFrame:
    """Load a frame of six columns of numbers."""
    columns = {f"c{number}": np.arange(rows, dtype=float) + number for number in range(6)}
    return pd.DataFrame(columns)


@perf.cache.cached
def number() -> int:
    """Load the shared number."""
    return int(SHARED[0])


@perf.cache.cached(share=True)
def shared_number() -> int:
    """Load the shared number, for all processes."""
    return int(SHARED[0])


SHARED = numbers()


# -- commands ----------------------------------------------------------------------------------------


def call_slow(keys: list[int], threads: int, seconds: float, at: float) -> list[float]:
    """Call ``slow`` with each key in some threads from a time on; return when each was served."""
    served: list[float] = []

    def work(key: int) -> None:
        time.sleep(max(0.0, at - time.time()))
        with app.app_context():
            frame = slow(key, seconds)
        if int(frame["key"].iloc[-1]) == key:
            served.append(time.time() - at)

    workers = [threading.Thread(target=work, args=(key,)) for key in keys for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return served


def read_numbers(count: int) -> int:
    """Read both cached numbers, ``count`` times in all; return the number of stale reads."""
    stale = 0
    with app.app_context():
        for _ in range(count // 2):
            least = SHARED[1]
            stale += number() < least
            least = SHARED[1]
            stale += shared_number() < least
    return stale


def change_numbers(count: int, pause: float) -> int:
    """Change and invalidate the numbers ``count`` times; return 0."""
    with app.app_context():
        for _ in range(count):
            SHARED[0] += 1
            perf.cache.invalidate(number.__module__ + ".number")
            perf.cache.invalidate(number.__module__ + ".shared_number")
            SHARED[1] = SHARED[0]
            time.sleep(pause)
    return 0


KEPT: list[Any] = []


def hold(rows: int) -> tuple[float, float]:
    """Hold a large frame and read all of it; return the CPU seconds of the call, and the sum."""
    with app.app_context():
        began = time.thread_time()
        frame = large(rows)
        spent = time.thread_time() - began
    KEPT.append(frame)
    return spent, float(frame.to_numpy().sum())


def pss() -> int:
    """Return the proportional set size of this process in bytes."""
    text = Path("/proc/self/smaps_rollup").read_text()
    return 1024 * int(
        next(line for line in text.splitlines() if line.startswith("Pss:")).split()[1]
    )


def main() -> None:
    """Answer lines."""
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(globals()[name](*arguments)), flush=True)


if __name__ == "__main__":
    main()
