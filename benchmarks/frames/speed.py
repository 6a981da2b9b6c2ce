"""A million rows of twenty columns: CPU time beside peers, and peak memory.

The frame is one of orders: ten columns of integers, five of floating-point numbers (prices, weights,
quantities that are whole), five of text, from two values to nearly as many as rows.

CPU: planning, applying and checking, ``to_numeric(downcast=…)`` of the columns of numbers, and klib take
turns in one process. Memory: a fresh process does the same to a small frame and returns free memory to
the system; then the kernel's high-water mark of resident memory is reset, and its rise above the size
before is the peak.
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

ROWS = 1_000_000
FEW_ROWS = 20_000
"""Rows of the frame that warms up, and of a quick run."""
TURNS = 9
KLIB_TURNS = 3
"""Turns in which klib takes part: it is slow."""


def frame(rows: int) -> pd.DataFrame:
    """Return orders."""
    draw = np.random.default_rng(20)
    whole = {
        f"count {high}": draw.integers(0, high, rows)
        for high in (2, 50, 100, 1_000, 30_000, 40_000, 100_000, 10**6, 10**8, 10**12)
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
    return [names[number] for number in draw.integers(0, count, rows)]


def measure_cpu(quick: bool) -> dict[str, Any]:
    """Return the CPU milliseconds of each way, in turns."""
    orders = frame(FEW_ROWS if quick else ROWS)
    ways: dict[str, Callable[[], Any]] = {
        "safe": lambda: optimize_dataframe(orders, level="safe"),
        "balanced": lambda: optimize_dataframe(orders, level="balanced"),
        "compact": lambda: optimize_dataframe(orders, level="compact"),
        "to_numeric": lambda: to_numeric(orders.copy(deep=False)),
        "klib": lambda: convert_klib(orders),
    }
    for way in ways.values():
        way()
    ms: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(TURNS):
        for name, way in ways.items():
            if name == "klib" and turn >= KLIB_TURNS:
                continue
            gc.collect()
            start = time.process_time()
            way()
            ms[name].append(1000 * (time.process_time() - start))
    ratios = [ours / theirs for ours, theirs in
              zip(ms["compact"], ms["to_numeric"], strict=True)]  # fmt: skip
    return {"bytes": true_bytes(orders), "ms": ms, "ratio": statistics.median(ratios)}


def measure_peak(quick: bool, level: Any) -> dict[str, Any]:
    """Return the peak of memory while a frame is made smaller, in bytes."""
    optimize_dataframe(frame(FEW_ROWS), level=level)
    orders = frame(FEW_ROWS if quick else ROWS)
    before = true_bytes(orders)
    _release_free_memory()
    Path("/proc/self/clear_refs").write_text("5")
    resident = _status("VmRSS")
    smaller = optimize_dataframe(orders, level=level)
    peak = _status("VmHWM") - resident
    return {"before": before, "after": true_bytes(smaller), "peak": peak,
            "own": own_bytes(smaller, orders)}  # fmt: skip


def _release_free_memory() -> None:
    """Return free memory to the system, so that it cannot hide later allocations."""
    import pyarrow as pa

    gc.collect()
    pa.default_memory_pool().release_unused()
    ctypes.CDLL("libc.so.6").malloc_trim(0)


def _status(key: str) -> int:
    lines = Path(f"/proc/{os.getpid()}/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))
