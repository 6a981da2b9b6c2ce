"""A million rows of twenty columns: the CPU time beside others, and the memory at its peak.

The frame is one of orders: ten columns of integers, five of floating-point numbers (prices, weights,
quantities that are whole), five of text, from two values to nearly as many as rows.

CPU: planning, applying and checking, ``to_numeric(downcast=…)`` of the columns of numbers, and klib take
turns in one process. Memory: in a fresh process that has done the same to a small frame, all that can be
given back to the system is; then the kernel's mark of the highest resident size is reset, and what it
rises above the size before is the peak.
"""

from __future__ import annotations

import ctypes
import gc
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flask_knitperf.frames import optimize_dataframe

from .founding import shared
from .peers import convert_klib, to_numeric
from .sizes import own_bytes, true_bytes

ROWS, FEW = 1_000_000, 20_000
TURNS, SLOW = 9, 3
"""Turns of each, and those of them in which klib takes part."""


def frame(rows: int) -> pd.DataFrame:
    """Return orders."""
    draw = np.random.default_rng(20)
    whole = {
        f"count {most}": draw.integers(0, most, rows)
        for most in (2, 50, 100, 1_000, 30_000, 40_000, 100_000, 10**6, 10**8, 10**12)
    }
    floats = {
        "price": draw.uniform(1, 500, rows).round(2), "weight": draw.normal(50, 9, rows),
        "yards": draw.integers(0, 400, rows).astype(float), "rate": draw.uniform(0, 1, rows),
        "share": draw.integers(0, 64, rows) / 64,
    }  # fmt: skip
    floats["yards"][draw.integers(0, rows, rows // 20)] = np.nan
    texts = {
        "state": _texts(draw, 2, rows), "unit": _texts(draw, 12, rows),
        "customer": _texts(draw, 2_000, rows), "style": _texts(draw, 2_000, rows),
        "roll": [f"R{number:09}" for number in draw.permutation(rows * 3)[:rows]],
    }  # fmt: skip
    return shared(pd.DataFrame({**whole, **floats, **texts}))


def _texts(draw: Any, count: int, rows: int) -> list[str]:
    names = [f"name {number:05}" for number in range(count)]
    return [names[place] for place in draw.integers(0, count, rows)]


def measure_cpu(quick: bool) -> dict[str, Any]:
    """Return CPU milliseconds of each way, in turns."""
    given = frame(FEW if quick else ROWS)
    ways: dict[str, Callable[[], Any]] = {
        "safe": lambda: optimize_dataframe(given, level="safe"),
        "balanced": lambda: optimize_dataframe(given, level="balanced"),
        "compact": lambda: optimize_dataframe(given, level="compact"),
        "to_numeric": lambda: to_numeric(given.copy(deep=False)),
        "klib": lambda: convert_klib(given),
    }
    for way in ways.values():
        way()
    found: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(TURNS):
        for name, way in ways.items():
            if name == "klib" and turn >= SLOW:
                continue
            gc.collect()
            began = time.process_time()
            way()
            found[name].append(1000 * (time.process_time() - began))
    ratios = [ours / theirs for ours, theirs in
              zip(found["compact"], found["to_numeric"], strict=True)]  # fmt: skip
    return {"bytes": true_bytes(given), "ms": found, "ratio": statistics.median(ratios)}


def measure_peak(quick: bool, level: Any) -> dict[str, Any]:
    """Return how far memory rises while a frame is made smaller, in bytes."""
    optimize_dataframe(frame(FEW), level=level)
    given = frame(FEW if quick else ROWS)
    before = true_bytes(given)
    _give_back()
    Path("/proc/self/clear_refs").write_text("5")
    resident = _status("VmRSS")
    made = optimize_dataframe(given, level=level)
    peak = _status("VmHWM") - resident
    kept = _status("VmRSS") - resident
    return {"before": before, "after": true_bytes(made), "peak": peak, "kept": kept,
            "own": own_bytes(made, given)}  # fmt: skip


def _give_back() -> None:
    """Give all memory that is free to the system, so that none of it hides what is taken next."""
    import pyarrow as pa

    gc.collect()
    pa.default_memory_pool().release_unused()
    ctypes.CDLL("libc.so.6").malloc_trim(0)


def _status(key: str) -> int:
    lines = Path(f"/proc/{os.getpid()}/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))
