"""Relative error of quantiles, for several distributions and in any order of merging.

Values take the whole path: packed into logs of several workers, folded, written as a table and read
back, and the tables merged in random orders. The exact answer is the nearest rank among the sorted
values. Windows are tested too: their buckets are a difference, and their extremes come from buckets.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from flask_knitperf.core.clock import SYSTEM
from flask_knitperf.metrics import columns
from flask_knitperf.metrics.columns import Columns
from flask_knitperf.metrics.histogram import Histogram
from flask_knitperf.metrics.instruments import Key, Kind, Meter
from flask_knitperf.metrics.log_format import END
from flask_knitperf.metrics.table import decode, encode
from flask_knitperf.storage.atomic_files import Disk
from flask_knitperf.storage.writer import Worker

from ..harness.outcome import Grid, Outcome

Values = npt.NDArray[np.float64]
_METER = Meter("value", Kind.HISTOGRAM, "ns")
_CELLS = np.dtype([("series", "<u4"), ("weight", "<u4"), ("value", "<f8")])
_CHUNK = 4096
SIZES = (20, 2_000, 1_000_000)
QUANTILES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999, 1.0)
MAX_ERROR = 0.006
"""Relative error of a quantile that is allowed."""

DISTRIBUTIONS: dict[str, Callable[[np.random.Generator, int], Values]] = {
    "uniform": lambda rng, n: rng.uniform(1e6, 9e8, n),
    "exponential": lambda rng, n: rng.exponential(5e7, n),
    "log-normal": lambda rng, n: rng.lognormal(17, 1.2, n),
    "bimodal": lambda rng, n: np.where(
        rng.random(n) < 0.8, rng.normal(4e6, 3e5, n), rng.normal(1.2e9, 1e8, n)
    ),
    "Pareto, heavy tail": lambda rng, n: (rng.pareto(1.05, n) + 1) * 1e5,
    "constant and zeros": lambda rng, n: np.where(rng.random(n) < 0.3, 0.0, 123_456_789.0),
}


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    sizes, orders = ((20, 2_000), 2) if quick else (SIZES, 6)
    lines, worst, worst_window = [], 0.0, 0.0
    for place, (name, draw) in enumerate(DISTRIBUTIONS.items()):
        errors = []
        for size in sizes:
            values = np.rint(np.abs(draw(np.random.default_rng(size + place), size)))
            whole, window = _errors(values, orders, random.Random(place))
            errors.append(whole)
            worst_window = max(worst_window, window)
        worst = max(worst, *errors)
        lines.append((name, *(f"{error:.3%}" for error in errors)))
    outcome.judge("accuracy", "quantile against exact nearest rank, six distributions, any merge "
                  "order", "≤ 0.6 %", f"worst {worst:.3%}", worst <= MAX_ERROR)  # fmt: skip
    outcome.judge("accuracy.window", "the same of a window (a difference of snapshots)", "≤ 0.6 %",
                  f"worst {worst_window:.3%}", worst_window <= MAX_ERROR)  # fmt: skip
    heads = ("distribution", *(f"{size:,} values" for size in sizes))
    outcome.grids.append(Grid("Worst relative error of 13 quantiles", heads, tuple(lines)))
    outcome.notes.append(f"{orders} random splits among workers and orders of merging each")
    return outcome


def _errors(values: Values, orders: int, rng: random.Random) -> tuple[float, float]:
    """Return the worst errors of whole runs and of windows."""
    whole, window = 0.0, 0.0
    for _ in range(orders):
        shuffled = np.random.default_rng(rng.getrandbits(32)).permutation(values)
        parts = [p for p in np.array_split(shuffled, rng.randint(1, 8)) if len(p)]
        tables = [folded(part) for part in parts]
        whole = max(whole, worst(histogram(_merged(tables, rng)), values))
        half = len(tables) // 2
        if half:
            late = columns.subtract(_merged(tables, rng), _merged(tables[:half], rng))
            window = max(window, worst(histogram(late), np.concatenate(parts[half:])))
    return whole, window


def folded(values: Values) -> Columns:
    """Record values by a writer with logs in memory; return its table, encoded and decoded."""
    worker = Worker(None, {"pid": 1}, clock=SYSTEM, disk=Disk())
    series = worker.series(_METER, ())
    cells = np.empty(len(values), _CELLS)
    cells["series"], cells["weight"] = series | END, 1
    cells["value"] = np.where(values == 0, -0.0, values)
    for start in range(0, len(cells), _CHUNK):
        worker.write(cells[start : start + _CHUNK].tobytes())
    return decode(encode(worker.totals()))[1]


def _merged(tables: list[Columns], rng: random.Random) -> Columns:
    """Merge two at a time, in random order, until one is left."""
    remaining = list(tables)
    while len(remaining) > 1:
        rng.shuffle(remaining)
        remaining.append(columns.add([remaining.pop(), remaining.pop()]))
    return remaining[0]


def histogram(table: Columns) -> Histogram:
    """Return the only histogram of a table."""
    return columns.series(table)[Key("value", ())].data


def worst(merged: Histogram, values: Values) -> float:
    """Return the largest relative error of the quantiles; infinite if a zero is not zero."""
    ordered = np.sort(values)
    if merged.count != len(ordered) or merged.total != int(values.sum()):
        return math.inf
    largest = 0.0
    for q in QUANTILES:
        exact = float(ordered[max(1, math.ceil(q * len(ordered))) - 1])
        estimate = merged.quantile(q)
        if estimate is None:
            return math.inf
        error = abs(estimate - exact)
        largest = max(largest, error / exact if exact else (math.inf if error else 0.0))
    return largest
