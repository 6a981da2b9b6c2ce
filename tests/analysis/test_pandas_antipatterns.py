"""Pandas anti-patterns: reported with their line, and checked against pandas itself."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flask_knitperf.analysis.pandas_antipatterns import patterns
from flask_knitperf.metrics.stack_trie import SLOW, StackFrame, Trie
from flask_knitperf.reports.endpoint_rows import pattern_row
from tests.reports.building import report_of

from .tables import Mill

MS = 1_000_000
VIEW = StackFrame("mill/views.py", 5, "forecast", True)
LAMBDA = StackFrame("mill/views.py", 6, "forecast.<locals>.<lambda>", True)


def library(name: str) -> StackFrame:
    return StackFrame("pandas/frame.py", 0, name, False)


def stacks(*rows: tuple[list[StackFrame], float]) -> Trie:
    trie = Trie()
    for path, ms in rows:
        trie.add(path, round(ms * MS), 0)
    return trie


def test_a_pattern_is_reported_with_its_line_seconds_and_rewrite() -> None:
    trie = stacks(
        ([VIEW, library("DataFrame.iterrows"), library("Series.__init__")], 700), ([VIEW], 300)
    )
    [use] = patterns(trie)
    assert pattern_row(use, trie.total) == {
        "name": "iterrows", "where": "mill/views.py:5", "share": 0.7, "seconds": 0.7, "samples": 1,
        "rewrite": use.pattern.rewrite,
    }  # fmt: skip


def test_the_line_is_the_one_that_called_pandas_not_the_one_that_pandas_calls() -> None:
    [use] = patterns(stacks(([VIEW, library("FrameApply.apply_series_generator"), LAMBDA], 500)))
    assert (use.pattern.name, use.where) == ("apply(axis=1)", "mill/views.py:5")


def test_a_pattern_inside_another_is_the_outer_one_s() -> None:
    inner = [VIEW, library("DataFrame.iterrows"), library("DataFrame._getitem_bool_array")]
    assert [use.pattern.name for use in patterns(stacks((inner, 500)))] == ["iterrows"]


def test_cheap_patterns_are_not_reported() -> None:
    iterrows = [VIEW, library("DataFrame.iterrows")]
    assert patterns(stacks((iterrows, 90))) == []
    assert patterns(stacks((iterrows, 500), ([VIEW], 6000))) == []
    assert patterns(stacks(([library("DataFrame.iterrows")], 500))) == []


def test_the_sentence_of_a_slow_endpoint_names_the_pattern_and_its_rewrite() -> None:
    mill = Mill().requests("forecast", [650] * 10).sampled("forecast", wall=650, cpu=640)
    trie = stacks(([VIEW, library("DataFrame.iterrows")], 900))
    document = report_of(mill, tries={("forecast", "GET"): {SLOW: trie}})
    [finding] = document["bottlenecks"]
    assert "running Python code, much of it in iterrows (mill/views.py:5)" in finding["text"]
    assert finding["recommendation"].startswith("Work on whole columns")
    assert document["endpoints"][0]["patterns"][0]["share"] == 1.0


# -- against pandas itself -------------------------------------------------------------------------

TABLE = pd.DataFrame({"a": np.arange(3000), "s": [f"k{i % 300}" for i in range(3000)]})
OBJECTS = TABLE.astype({"s": object})
WORKBOOK = io.BytesIO()
TABLE.head(3).to_excel(WORKBOOK, index=False)


def cells() -> int:
    return sum(int(TABLE.loc[i, "a"]) for i in range(500))


def set_cells() -> None:
    copy = TABLE.copy()
    for i in range(50):
        copy.loc[i, "a"] = 1


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("iterrows", lambda: [row["a"] for _, row in TABLE.iterrows()]),
        ("apply(axis=1)", lambda: TABLE.apply(lambda row: row["a"], axis=1)),
        ("a filter of the whole table", lambda: [len(TABLE[TABLE["a"] > n]) for n in range(100)]),
        ("single cells by loc or at", cells),
        ("single cells set by loc", set_cells),
        ("comparing a column of Python objects", lambda: [OBJECTS["s"] == "k1" for _ in range(50)]),
        ("concat in a loop", lambda: [pd.concat([TABLE, TABLE]) for _ in range(3)]),
        ("merge in a loop", lambda: [TABLE.merge(TABLE, on="a") for _ in range(3)]),
        ("grouping in a loop", lambda: [TABLE.groupby("s")["a"].sum() for _ in range(3)]),
        ("reading a workbook", lambda: pd.read_excel(WORKBOOK)),
    ],
)
def test_the_function_that_gives_a_pattern_away_is_the_one_that_pandas_runs(
    name: str, use: Callable[[], Any]
) -> None:
    from flask_knitperf.analysis.pandas_antipatterns import PATTERNS

    wanted = next(pattern for pattern in PATTERNS if pattern.name == name)
    seen: set[tuple[str, bool]] = set()

    def profile(frame: Any, event: str, _: Any) -> None:
        if event == "call":
            file = frame.f_code.co_filename.replace("\\", "/")
            seen.add((frame.f_code.co_qualname, file.endswith(wanted.file)))

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        use()
    finally:
        sys.setprofile(before)
    assert (wanted.function, True) in seen


def test_some_patterns_are_reported_only_inside_loops() -> None:
    once, often = VIEW, VIEW._replace(loop=True)
    concat = StackFrame("reshape/concat.py", 0, "concat", False)
    assert patterns(stacks(([once, concat], 500))) == []
    [use] = patterns(stacks(([often, LAMBDA, concat], 500)))
    assert (use.pattern.name, use.where) == ("concat in a loop", "mill/views.py:6")


def test_a_function_of_that_name_elsewhere_is_no_pattern() -> None:
    other = StackFrame("polars/functions.py", 0, "concat", False)
    assert patterns(stacks(([VIEW._replace(loop=True), other], 500))) == []
