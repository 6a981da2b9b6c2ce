"""Following the advice for pandas is faster, by pandas 2 and pandas 3.

For each advice of the table that rewrites code for pandas there is the code as it is found and the code
as it is advised; both return the same. Lines with several pandas operations in a loop are served with
the sampler on, in ten runs: a line must have the same advice in each, and following it must be faster.
Where ``BENCH_PANDAS_2`` names an interpreter with pandas 2, the same is measured there.
"""

from __future__ import annotations

import io
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from flask import Flask

from flask_knitperf import KnitPerf
from flask_knitperf.analysis.advice import ADVICE
from flask_knitperf.analysis.callee_table import CALLEES

from ..harness.outcome import Grid, Outcome
from ..harness.sampled import sampled_report
from ..harness.wsgi import Get

ROUNDS = 7
RUNS = 10  # of the lines
LINE_S = 3.0  # CPU time for which a line is served in a run
QUICK_RUNS, QUICK_LINE_S = 1, 1.0
_REQUEST_S = 0.05  # least CPU time of a request
_OTHER = "BENCH_PANDAS_2"

_ROWS = 2_000
_TABLE = pd.DataFrame({
    "style": [f"S{n % 80}" for n in range(_ROWS)], "kg": np.arange(_ROWS) * 1.5,
    "lot": np.arange(_ROWS),
})  # fmt: skip
_OBJECTS = _TABLE.astype({"style": object})
_CATEGORIES = _TABLE.astype({"style": "category"})
_STYLES = [f"S{n}" for n in range(80)]
_LARGER = _TABLE.assign(style=[f"S{n % 30}" for n in range(_ROWS)])  # 67 rows of each style
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


class Line(NamedTuple):
    """A line with several pandas operations in a loop, and the advised code by name of the callee."""

    work: Callable[[], Any]
    advised: dict[str, Callable[[], Any]]


def _filter_and_sum() -> list[float]:
    return [float(_OBJECTS[_OBJECTS["style"] == style]["kg"].sum()) for style in _STYLES * 2]


def _filter_of_groups() -> list[float]:
    parts = dict(iter(_OBJECTS.groupby("style")["kg"]))
    return [float(parts[style].sum()) for style in _STYLES * 2]


def _filter_and_iterate() -> float:
    return sum(
        sum(float(row["kg"]) for _, row in _LARGER[_LARGER["style"] == style].iterrows())
        for style in _STYLES[:30]
    )


def _filter_and_records() -> float:
    return sum(
        sum(float(row["kg"]) for row in _LARGER[_LARGER["style"] == style].to_dict("records"))
        for style in _STYLES[:30]
    )


def _two_filters() -> list[float]:
    return [
        float(_TABLE[_TABLE["style"] == a]["kg"].sum() - _TABLE[_TABLE["style"] == b]["kg"].sum())
        for a, b in zip(_STYLES, reversed(_STYLES), strict=True)
    ]


def _two_groups() -> list[float]:
    parts = dict(iter(_TABLE.groupby("style")["kg"]))
    return [
        float(parts[a].sum() - parts[b].sum())
        for a, b in zip(_STYLES, reversed(_STYLES), strict=True)
    ]


def _group_and_sort() -> list[float]:
    return [float(_TABLE.sort_values("kg").groupby("style")["kg"].sum().iloc[n]) for n in range(40)]


def _group_and_sort_once() -> list[float]:
    sums = _TABLE.sort_values("kg").groupby("style")["kg"].sum()
    return [float(sums.iloc[n]) for n in range(40)]


def _merge_and_filter() -> list[float]:
    return [
        float(_TABLE[_TABLE["style"] == style].merge(_PRICES, on="lot")["price"].sum())
        for style in _STYLES
    ]


def _merge_and_group() -> list[float]:
    parts = dict(iter(_TABLE.groupby("style")))
    return [float(parts[style].merge(_PRICES, on="lot")["price"].sum()) for style in _STYLES]


def _merge_once_and_group() -> list[float]:
    parts = dict(iter(_TABLE.merge(_PRICES, on="lot").groupby("style")["price"]))
    return [float(parts[style].sum()) for style in _STYLES]


def _cells_and_values() -> float:
    return sum(float(_TABLE.loc[n, "kg"]) * float(_TABLE["lot"][n]) for n in range(500))


def _arrays() -> float:
    kg, lot = _TABLE["kg"].to_numpy(), _TABLE["lot"].to_numpy()
    return sum(float(kg[n]) * float(lot[n]) for n in range(500))


LINES: dict[str, Line] = {
    "filter, sum": Line(_filter_and_sum, {"a filter of the whole table": _filter_of_groups}),
    "filter, iterate": Line(_filter_and_iterate, {"iterrows": _filter_and_records}),
    "two filters": Line(_two_filters, {"a filter of the whole table": _two_groups}),
    "sort, group": Line(_group_and_sort, {
        "grouping in a loop": _group_and_sort_once, "sorting a table in a loop": _group_and_sort_once,
    }),
    "filter, merge": Line(_merge_and_filter, {
        "merge in a loop": _merge_once_and_group, "a filter of the whole table": _merge_and_group,
    }),
    "cells, values": Line(_cells_and_values, {
        "single cells or rows by loc": _arrays, "single values of a Series": _arrays,
    }),
}  # fmt: skip
"""Lines by their operations, none of which takes about as long as the largest: chance would choose."""


class Advised(NamedTuple):
    """The advice at one line over all runs; JSON values only.

    Attributes:
        line: its operations.
        counts: number of runs by the name of the advised callee, empty for other advice or none.
        factor: by which the code is faster as the most frequent advice rewrites it, 0 without a rewrite.
        is_same: whether both return the same.
    """

    line: str
    counts: dict[str, int]
    factor: float
    is_same: bool


def advised_lines(runs: int, seconds: float) -> list[Advised]:
    """Serve the lines in several runs, each with another application.

    Args:
        runs: number of runs.
        seconds: CPU time for which a line is served in each.
    """
    counts: dict[str, Counter[str]] = {name: Counter() for name in LINES}
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            for name, advice in _served(Path(folder), seconds).items():
                counts[name][advice] += 1
    rows = []
    for name, line in LINES.items():
        advice = counts[name].most_common(1)[0][0]
        advised = line.advised.get(advice)
        same = advised is not None and line.work() == advised()
        factor = 0.0 if advised is None else _factor(line.work, advised)
        rows.append(Advised(name, dict(counts[name]), factor, same))
    return rows


def _served(folder: Path, seconds: float) -> dict[str, str]:
    """Serve each line for some CPU time; return the name of the advised callee by line."""
    app = Flask("advice")
    app.config.update(KNITPERF_STATE_DIR=str(folder), KNITPERF_SAMPLER=True,
                      KNITPERF_MODERATE_MS=5, KNITPERF_SLOW_MS=10)  # fmt: skip
    KnitPerf(app)
    for number, line in enumerate(LINES.values()):
        app.add_url_rule(f"/{number}", str(number), _view(line.work))
    for number in range(len(LINES)):
        get, end = Get(app, f"/{number}"), time.thread_time() + seconds
        while time.thread_time() < end:
            get()
    report = sampled_report(app)
    app.extensions["knitperf"].close()
    names = {callee.advice: callee.name for callee in reversed(CALLEES)}  # the first of equal ones
    advice = {
        row["endpoint"]: names.get(row["recommendation"].removeprefix(ADVICE["cpu_queue"]).strip(), "")
        for row in report["bottlenecks"] if row["type"] in ("SLOW_RESPONSE", "MODERATE_RESPONSE")
    }  # fmt: skip
    return {name: advice.get(str(number), "") for number, name in enumerate(LINES)}


def _view(work: Callable[[], Any]) -> Callable[[], str]:
    def view() -> str:
        end = time.thread_time() + _REQUEST_S
        while time.thread_time() < end:
            work()
        return "done"

    return view


def _factor(work: Callable[[], Any], advised: Callable[[], Any]) -> float:
    """Return the factor by which advised code is faster, by medians of alternating calls."""
    times: dict[Callable[[], Any], list[float]] = {work: [], advised: []}
    for _ in range(ROUNDS):
        for one, taken in times.items():
            start = time.perf_counter()
            one()
            taken.append(time.perf_counter() - start)
    return statistics.median(times[work]) / statistics.median(times[advised])


def speedups() -> Iterator[tuple[str, float, bool]]:
    """Yield each callee with the factor by which its advice is faster, and whether results agree."""
    for name, (slow, advised) in REWRITES.items():
        try:
            same = slow() == advised()
        except ImportError:  # a workbook needs openpyxl
            continue
        yield name, _factor(slow, advised), same


def document(quick: bool = False) -> dict[str, Any]:
    """Return the version of pandas, the speed-ups, and the advice at each line, as JSON values."""
    lines = advised_lines(QUICK_RUNS, QUICK_LINE_S) if quick else advised_lines(RUNS, LINE_S)
    return {"pandas": pd.__version__, "speedups": list(speedups()), "lines": lines}


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome, documents = Outcome(), [document(quick)]
    if other := os.environ.get(_OTHER):
        documents.append(_measure_by(other, quick))
    else:
        outcome.notes.append(f"{_OTHER} is not set: pandas 2 was not measured.")
    for measured in documents:
        major = measured["pandas"].partition(".")[0]
        _judge_rewrites(outcome, major, measured)
        _judge_lines(outcome, major, [Advised(*row) for row in measured["lines"]])
    missing = {
        callee.name for callee in CALLEES
        if callee.library == "pandas" and not callee.name.startswith("reading")
    } - REWRITES.keys()  # fmt: skip
    outcome.judge("advice.measured", "advice for pandas without a measurement", "none",
                  ", ".join(sorted(missing)) or "none", not missing)  # fmt: skip
    return outcome


def _measure_by(interpreter: str, quick: bool) -> dict[str, Any]:
    """Return the document of another interpreter."""
    root = str(Path(__file__).resolve().parents[2])
    code = "import json; from benchmarks.rows import advice; "
    code += f"print(json.dumps(advice.document({quick})))"
    environment = {**os.environ, "PYTHONPATH": root, "KNITPERF_PURE_PYTHON": "1"}
    answer = subprocess.run([interpreter, "-c", code], cwd=root, stdout=subprocess.PIPE, text=True,
                            check=True, env=environment)  # fmt: skip
    document: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return document


def _judge_rewrites(outcome: Outcome, major: str, measured: dict[str, Any]) -> None:
    rows = measured["speedups"]
    slower = [name for name, factor, _ in rows if factor <= 1.0]
    differ = [name for name, _, same in rows if not same]
    worst = min((factor for _, factor, _ in rows), default=0.0)
    outcome.judge(f"advice.pandas_{major}", f"{len(rows)} rewrites, pandas {measured['pandas']}",
                  "each faster, the same result",
                  f"{len(slower)} slower, {len(differ)} differ, least {worst:.1f} ×",
                  bool(rows) and not slower and not differ)  # fmt: skip
    lines = tuple((name, f"{factor:.1f} ×") for name, factor, _ in rows)
    outcome.grids.append(Grid(f"pandas {measured['pandas']}", ("callee", "faster"), lines))


def _judge_lines(outcome: Outcome, major: str, rows: list[Advised]) -> None:
    steady = sum(len(row.counts) == 1 for row in rows)
    faster = sum(row.factor > 1.0 and row.is_same for row in rows)
    worst = min(row.factor for row in rows)
    outcome.judge(f"advice.lines_{major}",
                  f"{len(rows)} lines with several operations, pandas {major}: one advice in all runs, "
                  "and following it is faster", "each",
                  f"{steady} the same, {faster} faster, least {worst:.1f} ×",
                  steady == faster == len(rows))  # fmt: skip
    lines = tuple(
        (row.line, ", ".join(f"{count} × {name or 'none'}" for name, count in row.counts.items()),
         f"{row.factor:.1f} ×")
        for row in rows
    )  # fmt: skip
    heads = ("operations at the line", "advice by runs", "faster")
    outcome.grids.append(Grid(f"Several operations at one line, pandas {major}", heads, lines))
