"""Following the advice for pandas is faster, by pandas 2 and pandas 3.

For each advice of the table that rewrites code for pandas there is the code as it is found and the code
as it is advised; both return the same. Where ``BENCH_PANDAS_2`` names an interpreter with pandas 2, the
same is measured there.
"""

from __future__ import annotations

import io
import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ROUNDS = 7
_OTHER = "BENCH_PANDAS_2"

_ROWS = 2_000
_TABLE = pd.DataFrame({
    "style": [f"S{n % 80}" for n in range(_ROWS)], "kg": np.arange(_ROWS) * 1.5,
    "lot": np.arange(_ROWS),
})  # fmt: skip
_OBJECTS = _TABLE.astype({"style": object})
_CATEGORIES = _TABLE.astype({"style": "category"})
_STYLES = [f"S{n}" for n in range(80)]
_PRICES = pd.DataFrame({"lot": np.arange(_ROWS), "price": np.arange(_ROWS) * 0.25})
_PIECES = [_TABLE.iloc[n : n + 20] for n in range(0, _ROWS, 20)]


def _set_cells() -> list[float]:
    table = _TABLE.head(200).copy()
    for n in range(200):
        table.loc[n, "kg"] = n * 2.0
    return list(table["kg"])


def _set_column() -> list[float]:
    table = _TABLE.head(200).copy()
    table["kg"] = [n * 2.0 for n in range(200)]
    return list(table["kg"])


def _grow() -> int:
    table = _PIECES[0]
    for piece in _PIECES[1:]:
        table = pd.concat([table, piece])
    return len(table)


def _merge_each() -> float:
    return sum(float(piece.merge(_PRICES, on="lot")["price"].sum()) for piece in _PIECES)


def _merge_once() -> float:
    prices = _TABLE.merge(_PRICES, on="lot")["price"].to_numpy()
    return sum(float(prices[n : n + 20].sum()) for n in range(0, _ROWS, 20))


def _group_each() -> list[float]:
    return [float(_TABLE.groupby("style")["kg"].sum()[style]) for style in _STYLES]


def _group_once() -> list[float]:
    sums = _TABLE.groupby("style")["kg"].sum()
    return [float(sums[style]) for style in _STYLES]


def _groups() -> list[float]:
    parts = dict(iter(_TABLE.groupby("style")["kg"]))
    return [float(parts[style].sum()) for style in _STYLES]


def _sort_each() -> list[int]:
    return [int(_TABLE.sort_values("kg")["lot"].iloc[n]) for n in range(20)]


def _sort_once() -> list[int]:
    lots = _TABLE.sort_values("kg")["lot"]
    return [int(lots.iloc[n]) for n in range(20)]


def _cells() -> float:
    return sum(float(_TABLE.loc[n, "kg"]) for n in range(500))


def _array() -> float:
    kg = _TABLE["kg"].to_numpy()
    return sum(float(kg[n]) for n in range(500))


def _values() -> float:
    column = _TABLE["kg"]
    return sum(float(column[n]) for n in range(500))


def _compare_each() -> list[int]:
    return [int((_TABLE["kg"] > 100.0).sum()) + n for n in range(50)]


def _compare_once() -> list[int]:
    number = int((_TABLE["kg"] > 100.0).sum())
    return [number + n for n in range(50)]


Pair = tuple[Callable[[], Any], Callable[[], Any]]
REWRITES: dict[str, Pair] = {
    "iterrows": (
        lambda: sum(float(row["kg"]) for _, row in _TABLE.iterrows()),
        lambda: sum(float(row["kg"]) for row in _TABLE.to_dict("records")),
    ),
    "itertuples": (
        lambda: sum(row.kg for row in _TABLE.itertuples()),
        lambda: sum(kg for (kg,) in zip(_TABLE["kg"], strict=True)),
    ),
    "apply(axis=1)": (
        lambda: list(_TABLE.apply(lambda row: row["kg"] * 2 + row["lot"], axis=1)),
        lambda: list(_TABLE["kg"] * 2 + _TABLE["lot"]),
    ),
    "groupby.apply": (
        lambda: list(_TABLE.groupby("style")[["kg"]].apply(lambda part: part["kg"].sum())),
        lambda: list(_TABLE.groupby("style")["kg"].sum()),
    ),
    "a function for each value": (
        lambda: list(_TABLE["kg"].apply(lambda kg: kg * 2.0)),
        lambda: list(_TABLE["kg"] * 2.0),
    ),
    "a filter of the whole table": (
        lambda: [float(_TABLE[_TABLE["style"] == style]["kg"].sum()) for style in _STYLES],
        _groups,
    ),
    "comparing a column of Python objects": (
        lambda: [int((_OBJECTS["style"] == style).sum()) for style in _STYLES],
        lambda: [int((_CATEGORIES["style"] == style).sum()) for style in _STYLES],
    ),
    "comparing columns in a loop": (_compare_each, _compare_once),
    "single cells or rows by loc": (_cells, _array),
    "single values of a Series": (_values, _array),
    "single cells set by loc": (_set_cells, _set_column),
    "concat in a loop": (_grow, lambda: len(pd.concat(_PIECES))),
    "merge in a loop": (_merge_each, _merge_once),
    "grouping in a loop": (_group_each, _group_once),
    "sorting a table in a loop": (_sort_each, _sort_once),
    "writing a workbook": (
        lambda: bool(_TABLE.head(200).to_excel(io.BytesIO())),
        lambda: bool(_TABLE.head(200).to_csv(io.BytesIO())),
    ),
}
"""Code as it is found, and as it is advised, by the name of the callee."""


def speedups() -> Iterator[tuple[str, float, bool]]:
    """Yield each callee with the factor by which its advice is faster, and whether results agree."""
    for name, (slow, advised) in REWRITES.items():
        try:
            same = slow() == advised()
        except ImportError:  # a workbook needs openpyxl
            continue
        times: dict[Callable[[], Any], list[float]] = {slow: [], advised: []}
        for _ in range(ROUNDS):
            for work in times:
                start = time.perf_counter()
                work()
                times[work].append(time.perf_counter() - start)
        factor = statistics.median(times[slow]) / statistics.median(times[advised])
        yield name, factor, same


def document() -> dict[str, Any]:
    """Return the version of pandas and the speed-ups, as JSON values."""
    return {"pandas": pd.__version__, "speedups": list(speedups())}


def run(quick: bool = False) -> Any:
    """Measure."""
    from flask_knitperf.analysis.callee_table import CALLEES

    from ..harness.outcome import Grid, Outcome

    outcome, documents = Outcome(), [document()]
    if other := os.environ.get(_OTHER):
        code = "import json, advice; print(json.dumps(advice.document()))"
        folder = Path(__file__).parent
        answer = subprocess.run([other, "-c", code], capture_output=True, text=True, check=True,
                                env={**os.environ, "PYTHONPATH": str(folder)})  # fmt: skip
        documents.append(json.loads(answer.stdout))
    else:
        outcome.notes.append(f"{_OTHER} is not set: pandas 2 was not measured.")
    for measured in documents:
        rows = measured["speedups"]
        slower = [name for name, factor, _ in rows if factor <= 1.0]
        differ = [name for name, _, same in rows if not same]
        major = measured["pandas"].partition(".")[0]
        worst = min((factor for _, factor, _ in rows), default=0.0)
        outcome.judge(f"advice.pandas_{major}", f"{len(rows)} rewrites, pandas {measured['pandas']}",
                      "each faster, the same result",
                      f"{len(slower)} slower, {len(differ)} differ, least {worst:.1f} ×",
                      bool(rows) and not slower and not differ)  # fmt: skip
        lines = tuple((name, f"{factor:.1f} ×") for name, factor, _ in rows)
        outcome.grids.append(Grid(f"pandas {measured['pandas']}", ("callee", "faster"), lines))
    missing = {
        callee.name for callee in CALLEES
        if callee.library == "pandas" and not callee.name.startswith("reading")
    } - REWRITES.keys()  # fmt: skip
    outcome.judge("advice.measured", "advice for pandas without a measurement", "none",
                  ", ".join(sorted(missing)) or "none", not missing)  # fmt: skip
    return outcome
