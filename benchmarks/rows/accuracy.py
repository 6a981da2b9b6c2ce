"""How far a quantile is from the exact one, whatever the values look like and however it was merged.

Values go the whole way: packed into logs of several workers, folded, written as a table and read
back, and the tables merged in random orders. The exact answer is the nearest rank among the sorted
values. Windows are asked too: their buckets are a difference, and their extremes come from buckets.
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
MOST = 0.006

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
                  "order", "≤ 0.6 %", f"worst {worst:.3%}", worst <= MOST)  # fmt: skip
    outcome.judge("accuracy.window", "the same of a window (a difference of snapshots)", "≤ 0.6 %",
                  f"worst {worst_window:.3%}", worst_window <= MOST)  # fmt: skip
    heads = ("distribution", *(f"{size:,} values" for size in sizes))
    outcome.grids.append(Grid("Worst relative error of 13 quantiles", heads, tuple(lines)))
    outcome.notes.append(f"{orders} random splits among workers and orders of merging each")
    outcome.details = {"worst": worst, "worst_window": worst_window}
    return outcome


def _errors(values: Values, orders: int, rng: random.Random) -> tuple[float, float]:
    """Return the worst error of the whole, and of windows."""
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
    """Record values with a worker that keeps its logs in memory; return its table, read back."""
    worker = Worker(None, {"pid": 1}, clock=SYSTEM, disk=Disk())
    series = worker.series(_METER, ())
    cells = np.empty(len(values), _CELLS)
    cells["series"], cells["weight"] = series | END, 1
    cells["value"] = np.where(values == 0, -0.0, values)
    for start in range(0, len(cells), _CHUNK):
        worker.write(cells[start : start + _CHUNK].tobytes())
    return decode(encode(worker.totals()))[1]


def _merged(tables: list[Columns], rng: random.Random) -> Columns:
    """Merge two at a time, at random, until one is left."""
    left = list(tables)
    while len(left) > 1:
        rng.shuffle(left)
        left.append(columns.add([left.pop(), left.pop()]))
    return left[0]


def histogram(found: Columns) -> Histogram:
    """Return the only histogram."""
    return columns.series(found)[Key("value", ())].data


def worst(found: Histogram, values: Values) -> float:
    """Return the largest relative error of the quantiles; infinite where zero is not zero."""
    ordered = np.sort(values)
    if found.count != len(ordered) or found.total != int(values.sum()):
        return math.inf
    most = 0.0
    for q in QUANTILES:
        exact = float(ordered[max(1, math.ceil(q * len(ordered))) - 1])
        told = found.quantile(q)
        if told is None:
            return math.inf
        error = abs(told - exact)
        most = max(most, error / exact if exact else (math.inf if error else 0.0))
    return most
