"""Callees with advice: recognised in stacks, and checked against the libraries themselves."""

from __future__ import annotations

import copy
import csv
import difflib
import hashlib
import io
import json
import logging
import pickle
import re
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable
from datetime import datetime
from typing import Any
from xml.etree import ElementTree as ET

import jinja2
import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from flask_knitperf.analysis.callee_advice import recognise, uses
from flask_knitperf.analysis.callee_table import CALLEES
from flask_knitperf.collectors.sampler.stack_reader import StackReader
from flask_knitperf.metrics.stack_trie import SLOW, StackFrame, Trie
from flask_knitperf.reports.endpoint_rows import pattern_row
from tests.profiling import profiled_by
from tests.reports.building import report_of

from .tables import Mill

MS = 1_000_000
VIEW = StackFrame("mill/views.py", 5, "forecast", True)
LAMBDA = StackFrame("mill/views.py", 6, "forecast.<locals>.<lambda>", True)
APPLY = StackFrame("core/apply.py", 0, "FrameApply.apply_standard", False)
FILTER = StackFrame("core/frame.py", 0, "DataFrame._getitem_bool_array", False)
ITERROWS = StackFrame("core/frame.py", 0, "DataFrame.iterrows", False)
COMPARE = StackFrame("ops/array_ops.py", 0, "comp_method_OBJECT_ARRAY", False)
SEARCH = StackFrame("", 0, "re.Pattern.search", False)
CONCAT = StackFrame("reshape/concat.py", 0, "concat", False)
LOCK = StackFrame("", 0, "threading.Lock.acquire", False)
SLEEP = StackFrame("", 0, "time.sleep", False)
LOG = StackFrame("logging/__init__.py", 0, "Logger.info", False)
OTHER = StackFrame("mill/other.py", 0, "other", False)


def stacks(*rows: tuple[list[StackFrame], float]) -> Trie:
    trie = Trie()
    for path, ms in rows:
        trie.add(path, round(ms * MS), 0)
    return trie


def names(trie: Trie) -> list[tuple[str, str]]:
    return [(use.callee.name, use.where) for use in uses(trie)]


def test_a_callee_is_reported_with_its_line_seconds_and_advice() -> None:
    trie = stacks(([VIEW, ITERROWS, OTHER], 700), ([VIEW], 300))
    [use] = uses(trie)
    assert pattern_row(use, trie.total) == {
        "name": "iterrows", "where": "mill/views.py:5", "share": 0.7, "seconds": 0.7, "samples": 1,
        "rewrite": use.callee.advice,
    }  # fmt: skip


def test_the_line_is_the_one_that_called_pandas_not_the_one_that_pandas_calls() -> None:
    assert names(stacks(([VIEW, APPLY, LAMBDA], 500))) == [("apply(axis=1)", "mill/views.py:5")]


def test_a_callee_inside_another_is_the_outer_one_s() -> None:
    assert names(stacks(([VIEW, ITERROWS, FILTER], 500))) == [("iterrows", "mill/views.py:5")]
    inner = [VIEW, APPLY, LAMBDA, FILTER]
    assert names(stacks((inner, 500))) == [("apply(axis=1)", "mill/views.py:5")]


def test_a_callee_of_another_library_in_a_function_called_back_has_its_own_line() -> None:
    trie = stacks(([VIEW, APPLY, LAMBDA, SEARCH], 500))
    assert names(trie) == [("a regular expression", "mill/views.py:6")]


def test_a_slow_log_handler_is_reported_at_the_line_that_logs() -> None:
    emit = StackFrame("mill/handlers.py", 9, "Mail.emit", True)
    assert names(stacks(([VIEW, LOG, emit, SLEEP], 500))) == [("logging", "mill/views.py:5")]


def test_a_handler_that_sleeps_is_advised_as_logging_not_as_a_sleep() -> None:
    emit = StackFrame("mill/handlers.py", 9, "Mail.emit", True)
    mill = Mill().requests("forecast", [650] * 10).sampled("forecast", wall=650, cpu=10)
    mill.counter("part", "forecast", "GET", "sleep", ms=6000, count=10)
    tries = {("forecast", "GET"): {SLOW: stacks(([VIEW, LOG, emit, SLEEP], 6000), ([VIEW], 500))}}
    [finding] = report_of(mill, tries=tries)["bottlenecks"]
    assert "sleeping" in finding["why"][0]["detail"]
    assert finding["why"][0]["where"] == "mill/views.py:5"
    assert "QueueHandler" in finding["recommendation"]


def test_cheap_callees_are_not_reported() -> None:
    assert uses(stacks(([VIEW, ITERROWS], 90))) == []
    assert uses(stacks(([VIEW, ITERROWS], 500), ([LAMBDA], 6000))) == []
    assert uses(stacks(([ITERROWS], 500))) == []


def test_a_small_part_of_a_line_is_not_its_cause() -> None:
    assert uses(stacks(([VIEW, SEARCH], 300), ([VIEW], 700))) == []


@pytest.mark.parametrize("filtering", range(20, 100, 10))
def test_a_line_that_filters_has_one_advice_however_its_steps_divide_its_time(
    filtering: int,
) -> None:
    trie = stacks(([VIEW, FILTER], filtering * 10), ([VIEW, COMPARE], 1000 - filtering * 10))
    [use] = uses(trie)
    assert use.callee.name == "a filter of the whole table" and use.total == trie.total


def test_the_sentence_of_a_slow_endpoint_names_the_callee_and_its_advice() -> None:
    mill = Mill().requests("forecast", [650] * 10).sampled("forecast", wall=650, cpu=640)
    trie = stacks(([VIEW, ITERROWS], 900))
    document = report_of(mill, tries={("forecast", "GET"): {SLOW: trie}})
    [finding] = document["bottlenecks"]
    assert "running Python code, much of it in iterrows (mill/views.py:5)" in finding["text"]
    assert finding["recommendation"].startswith("Work on whole columns")
    assert document["endpoints"][0]["patterns"][0]["share"] == 1.0


def test_a_line_that_waits_for_a_lock_is_the_cause_and_has_the_advice_for_it() -> None:
    mill = Mill().requests("forecast", [650] * 10).sampled("forecast", wall=650, cpu=20)
    trie = Trie()
    trie.add([VIEW, LOCK], 0, 900 * MS)
    trie.add([VIEW], 60 * MS, 0)
    document = report_of(mill, tries={("forecast", "GET"): {SLOW: trie}})
    [finding] = document["bottlenecks"]
    assert "waiting for a lock (mill/views.py:5)" in finding["text"]
    assert finding["recommendation"].startswith("Hold that lock for less time")


def test_a_lock_whose_holder_computes_is_not_contention() -> None:
    mill = Mill().requests("forecast", [650] * 10).sampled("forecast", wall=650, cpu=20)
    mill.counter("contention", "forecast", "GET", ms=6000, count=10)
    trie = Trie()
    trie.add([VIEW, LOCK], 0, 900 * MS)
    document = report_of(mill, tries={("forecast", "GET"): {SLOW: trie}})
    [finding] = document["bottlenecks"]
    assert finding["type"] == "SLOW_RESPONSE"
    assert finding["why"][0]["detail"] == "waiting for a lock"


def test_a_lock_that_takes_a_small_part_of_a_line_is_not_what_it_waits_for() -> None:
    mill = Mill().requests("forecast", [650] * 10).sampled("forecast", wall=650, cpu=20)
    trie = Trie()
    trie.add([VIEW, LOCK], 0, 200 * MS)
    trie.add([VIEW, OTHER], 0, 700 * MS)
    document = report_of(mill, tries={("forecast", "GET"): {SLOW: trie}})
    [finding] = document["bottlenecks"]
    assert "waiting for a lock" not in finding["text"]
    assert finding["recommendation"].startswith("Find out what it waits for")


def test_where_only_the_line_is_known_there_is_no_advice() -> None:
    mill = Mill().requests("forecast", [650] * 10).sampled("forecast", wall=650, cpu=640)
    document = report_of(mill, tries={("forecast", "GET"): {SLOW: stacks(([VIEW], 900))}})
    [finding] = document["bottlenecks"]
    assert "running Python code (mill/views.py:5). Sure:" in finding["text"]
    assert finding["recommendation"] == "" and document["recommendations"] == []


def test_a_callee_far_from_the_line_that_takes_the_time_is_not_the_advice() -> None:
    mill = Mill().requests("forecast", [650] * 10).sampled("forecast", wall=650, cpu=640)
    trie = stacks(([VIEW], 800), ([LAMBDA, SEARCH], 200))
    document = report_of(mill, tries={("forecast", "GET"): {SLOW: trie}})
    assert document["bottlenecks"][0]["recommendation"] == ""
    assert [row["name"] for row in document["endpoints"][0]["patterns"]] == ["a regular expression"]


def test_some_callees_are_reported_only_inside_loops() -> None:
    often = VIEW._replace(loops=(4,))
    assert uses(stacks(([VIEW, CONCAT], 500))) == []
    trie = stacks(([often, LAMBDA, CONCAT], 500))
    assert names(trie) == [("concat in a loop", "mill/views.py:6")]


HEAD = VIEW._replace(loops=(8,))
BODY = StackFrame("mill/views.py", 7, "forecast", True, (8,))
NESTED = StackFrame("mill/views.py", 8, "forecast", True, (8, 30))
VALUE = StackFrame("core/series.py", 0, "Series.__getitem__", False)
PRICE = StackFrame("mill/prices.py", 3, "price", True)


def test_the_body_of_a_loop_over_rows_belongs_to_the_call_that_yields_them() -> None:
    trie = stacks(([HEAD, ITERROWS], 400), ([BODY, VALUE], 450), ([NESTED], 50),
                  ([BODY, PRICE, VALUE], 100))  # fmt: skip
    [use] = uses(trie)
    assert (use.callee.name, use.where) == ("iterrows", "mill/views.py:5")
    assert use.total == use.avoidable == 1000 * MS


def test_a_loop_over_rows_that_does_other_work_is_not_blamed_on_them() -> None:
    trie = stacks(([HEAD, ITERROWS], 100), ([BODY], 700), ([BODY, VALUE], 200))
    assert names(trie) == [("iterrows", "mill/views.py:5")]
    assert uses(trie)[0].total == 100 * MS


def test_another_library_in_a_loop_over_rows_keeps_its_line() -> None:
    trie = stacks(([HEAD, ITERROWS], 400), ([BODY, SEARCH], 600))
    assert names(trie) == [
        ("a regular expression", "mill/views.py:7"), ("iterrows", "mill/views.py:5")
    ]  # fmt: skip


def test_a_loop_elsewhere_in_the_function_is_another_one() -> None:
    behind = StackFrame("mill/views.py", 9, "forecast", True, (60,))
    trie = stacks(([HEAD, ITERROWS], 500), ([behind, VALUE], 500))
    assert sorted(names(trie)) == [
        ("iterrows", "mill/views.py:5"), ("single values of a Series", "mill/views.py:9")
    ]  # fmt: skip


def test_what_an_advice_saves_is_the_callee_at_all_lines_of_the_function() -> None:
    trie = stacks(
        ([HEAD, VALUE], 300), ([BODY, VALUE], 500), ([PRICE._replace(loops=(2,)), VALUE], 200)
    )
    assert [use.avoidable // MS for use in uses(trie)] == [800, 800, 200]


def test_a_real_loop_over_rows_has_one_advice_for_all_of_its_lines() -> None:
    def view() -> int:
        total = 0
        for _, row in TABLE.iterrows():
            if row["a"] > 3:
                total += row["a"]
        return total

    [use] = [use for use in uses(profiled(view)) if use.callee.library == "pandas"]
    assert use.callee.name == "iterrows"


def test_a_finding_states_what_its_advice_saves() -> None:
    mill = Mill().requests("forecast", [650] * 10).sampled("forecast", wall=650, cpu=640)
    tries = {("forecast", "GET"): {SLOW: stacks(([VIEW, ITERROWS], 900), ([VIEW, SEARCH], 100))}}
    [finding] = report_of(mill, tries=tries)["bottlenecks"]
    assert finding["saving"] == {
        "seconds": pytest.approx(5.85), "ms_per_request": pytest.approx(585), "share": 0.9,
        "at_most": False,
    }  # fmt: skip


def test_computing_that_goes_takes_its_queueing_for_a_core_with_it() -> None:
    mill = Mill().requests("forecast", [650] * 10).sampled("forecast", wall=650, cpu=240)
    mill.counter("run_queue", "forecast", "GET", ms=400)
    tries = {("forecast", "GET"): {SLOW: stacks(([VIEW, ITERROWS], 800), ([VIEW, SEARCH], 200))}}
    [finding] = report_of(mill, tries=tries)["bottlenecks"]
    assert finding["why"][0]["cause"] == "cpu_queue"
    assert finding["saving"]["share"] == 0.8


def test_an_advice_that_makes_work_smaller_saves_at_most_that() -> None:
    mill = Mill().requests("forecast", [650] * 10).sampled("forecast", wall=650, cpu=640)
    tries = {("forecast", "GET"): {SLOW: stacks(([VIEW, SEARCH], 1000))}}
    [finding] = report_of(mill, tries=tries)["bottlenecks"]
    assert finding["saving"]["at_most"] and finding["saving"]["share"] <= 1


EXECUTE = StackFrame("engine/base.py", 0, "Connection.execute", False)
LOADING = StackFrame("orm/loading.py", 0, "load_on_pk_identity", False)


def test_queries_of_a_database_that_is_not_watched_are_the_cause_with_the_way_to_watch_it() -> None:
    mill = Mill().requests("orders", [650] * 10).sampled("orders", wall=650, cpu=640)
    trie = stacks(([VIEW, LOADING, EXECUTE], 500), ([VIEW, LOADING], 400))
    [finding] = report_of(mill, tries={("orders", "GET"): {SLOW: trie}})["bottlenecks"]
    assert (finding["why"][0]["cause"], finding["why"][0]["where"]) == ("sql", "mill/views.py:5")
    assert "in queries of a database that is not watched" in finding["text"]
    assert "perf.queries.instrument(engine)" in finding["recommendation"]


def test_where_statements_are_watched_their_calls_are_not_advice() -> None:
    trie = stacks(([VIEW, EXECUTE], 300), ([VIEW, LOADING], 700))
    assert names(trie) == [("a query that is not watched", "mill/views.py:5")]
    assert [use.callee.name for use in uses(trie, watched=True)] == ["building ORM objects"]


@pytest.mark.parametrize(
    ("kind", "cause"), [("hook", "early_hook"), ("after", "late_hook"), ("teardown", "late_hook")]
)
def test_the_line_of_a_function_around_the_view_is_one_that_it_runs(kind: str, cause: str) -> None:
    hook = StackFrame("mill/hooks.py", 3, "load_tenant", True)
    secret = StackFrame("mill/hooks.py", 9, "secret", True)
    mill = Mill().requests("orders", [650] * 10).sampled("orders", wall=650, cpu=640)
    mill.counter("part", "orders", "GET", f"{kind}:load_tenant", ms=4000, count=10)
    trie = stacks(([hook, secret], 500), ([hook], 100), ([VIEW], 900))
    [finding] = report_of(mill, tries={("orders", "GET"): {SLOW: trie}})["bottlenecks"]
    top = finding["why"][0]
    assert (top["cause"], top["where"]) == (cause, "mill/hooks.py:9")


def test_the_line_of_garbage_collections_is_one_that_computes() -> None:
    mill = Mill().requests("orders", [650] * 10).sampled("orders", wall=650, cpu=640)
    mill.counter("gc", "orders", "GET", ms=6000, count=10)
    tries = {("orders", "GET"): {SLOW: stacks(([VIEW], 900))}}
    top = report_of(mill, tries=tries)["bottlenecks"][0]["why"][0]
    assert (top["cause"], top["where"]) == ("gc", "mill/views.py:5")


def test_a_function_of_that_name_elsewhere_is_not_a_callee() -> None:
    other = StackFrame("polars/functions.py", 0, "concat", False)
    assert uses(stacks(([VIEW._replace(loops=(4,)), other], 500))) == []


def test_each_advice_is_one_or_more_whole_sentences() -> None:
    for callee in CALLEES:
        assert callee.advice[:1].isupper() and callee.advice.endswith("."), callee.name


# -- against the libraries themselves --------------------------------------------------------------

TABLE = pd.DataFrame({"a": np.arange(300), "s": [f"k{i % 30}" for i in range(300)]})
OBJECTS = TABLE.astype({"s": object})
WORKBOOK = io.BytesIO()
TABLE.head(3).to_excel(WORKBOOK, index=False)
TEXT = "lot 17; merino; 12.5 kg; dyed navy " * 20
ROWS = [{"style": f"S{n}", "rows": list(range(9))} for n in range(40)]
DOCUMENT = json.dumps(ROWS)
PATTERN = re.compile(r"(\w+)\s*;")
SHEET = "lot,kg\n" + "L1,2.5\n" * 60
TEMPLATES = jinja2.Environment(autoescape=True)
PAGE = TEMPLATES.from_string("{% for row in rows %}<td>{{ row.style }}</td>{% endfor %}")


def cells() -> int:
    return sum(int(TABLE.loc[i, "a"]) for i in range(50))


def single_rows() -> int:
    return sum(int(TABLE.iloc[i]["a"]) for i in range(50))


def single_values() -> int:
    column = TABLE["a"]
    return sum(int(column[n]) for n in range(50))


def set_cells() -> None:
    copied = TABLE.copy()
    for i in range(50):
        copied.loc[i, "a"] = 1


def log() -> None:
    logger = logging.getLogger("mill.advice")
    logger.propagate, logger.handlers = False, [logging.StreamHandler(io.StringIO())]
    for _ in range(20):
        logger.warning("knitted")


def local_pattern() -> int:
    pattern = PATTERN
    return sum(pattern.search(TEXT) is not None for _ in range(50))


def lock() -> None:
    guard = threading.Lock()
    for _ in range(50):
        guard.acquire()
        guard.release()


def join() -> None:
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()


DATABASE = sqlite3.connect(":memory:")
ENGINE = sa.create_engine("sqlite://")


def query() -> list[Any]:
    return [DATABASE.execute("SELECT ?", (n,)).fetchall() for n in range(20)]


def orm_query() -> list[Any]:
    with ENGINE.connect() as connection:
        return [connection.execute(sa.text("SELECT 1")).all() for _ in range(9)]


def profiled(work: Callable[[], Any]) -> Trie:
    """Return the stacks of a function, one millisecond for each call in it."""
    trie, reader = Trie(), StackReader([profiled.__code__])

    def profile(frame: Any, event: str, _: Any) -> None:
        if event in ("call", "c_call"):
            trie.add(reader.stack(frame), MS, 0)

    with profiled_by(profile):
        work()
    for _, node in trie.stacks():  # seconds of each, so that none is below the minimum
        node.running *= 1000
    return trie


WORK: list[tuple[str, Callable[[], Any]]] = [
    ("iterrows", lambda: [0 for _ in TABLE.iterrows()]),
    ("apply(axis=1)", lambda: TABLE.apply(lambda row: row["a"], axis=1)),
    ("a function for each value", lambda: TABLE["a"].apply(lambda value: value + 1)),
    ("a function for each value", lambda: TABLE["s"].map(lambda value: value.upper())),
    ("groupby.apply", lambda: TABLE.groupby("s")[["a"]].apply(lambda part: part["a"].max())),
    ("a filter of the whole table", lambda: [len(TABLE[TABLE["a"] > n]) for n in range(20)]),
    ("a filter of the whole table", lambda: [len(TABLE.loc[TABLE["a"] > n]) for n in range(20)]),
    ("single cells or rows by loc", cells),
    ("single cells or rows by loc", single_rows),
    ("single values of a Series", single_values),
    ("single cells set by loc", set_cells),
    ("concat in a loop", lambda: [pd.concat([TABLE, TABLE]) for _ in range(3)]),
    ("merge in a loop", lambda: [TABLE.merge(TABLE, on="a") for _ in range(3)]),
    ("grouping in a loop", lambda: [TABLE.groupby("s")["a"].sum() for _ in range(3)]),
    ("sorting a table in a loop", lambda: [TABLE.sort_values("s") for _ in range(3)]),
    ("reading a workbook", lambda: pd.read_excel(WORKBOOK)),
    ("writing a workbook", lambda: TABLE.to_excel(io.BytesIO())),
    ("reading CSV into a table", lambda: pd.read_csv(io.StringIO(SHEET))),
    ("a regular expression", lambda: [PATTERN.sub("", TEXT) for _ in range(50)]),
    ("a regular expression", local_pattern),
    ("compiling a regular expression", lambda: [re.compile(f"a{n}+|b") for n in range(9)]),
    ("compiling a regular expression", lambda: [re.search(f"c{n}+|b", TEXT) for n in range(9)]),
    ("JSON", lambda: json.loads(DOCUMENT)),
    ("JSON", lambda: json.dumps(ROWS, indent=1)),
    ("password hashing", lambda: hashlib.pbkdf2_hmac("sha256", b"a", b"b", 10)),
    ("password hashing", lambda: hashlib.scrypt(b"a", salt=b"b", n=2, r=1, p=1)),
    ("hashing", lambda: [hashlib.sha256(b"a" * 99).hexdigest() for _ in range(9)]),
    ("copy.deepcopy", lambda: copy.deepcopy(ROWS)),
    ("a template", lambda: PAGE.render(rows=ROWS)),
    ("compiling a template", lambda: TEMPLATES.from_string("{{ a }}").render(a=1)),
    ("logging", log),
    ("compression", lambda: [zlib.compress(SHEET.encode(), 9) for _ in range(9)]),
    ("csv.DictReader and csv.DictWriter", lambda: list(csv.DictReader(io.StringIO(SHEET)))),
    ("XML", lambda: ET.fromstring("<a>" + "<b/>" * 50 + "</a>")),
    ("difflib", lambda: difflib.SequenceMatcher(None, TEXT, TEXT[9:]).ratio()),
    ("strptime", lambda: [datetime.strptime("2026 +0000", "%Y %z") for _ in range(9)]),
    ("sorting", lambda: [sorted(TEXT) for _ in range(9)]),
    ("pickling", lambda: [pickle.dumps(ROWS) for _ in range(9)]),
    ("a lock", lock),
    ("another thread", join),
    ("time.sleep", lambda: [time.sleep(0) for _ in range(9)]),
    ("a query that is not watched", query),
    ("a query that is not watched", orm_query),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "work"), WORK, ids=[f"{n}-{w[0]}" for n, w in enumerate(WORK)])
def test_the_callee_that_takes_the_time_of_a_line_is_recognised(
    name: str, work: Callable[[], Any]
) -> None:
    work()  # imports, caches
    trie = profiled(work)
    assert [use.callee.name for use in uses(trie)][:1] == [name]


@pytest.mark.parametrize(
    ("name", "work"),
    [
        ("itertuples", lambda: [0 for _ in TABLE.itertuples()]),
        ("comparing a column of Python objects", lambda: OBJECTS["s"] == "k1"),
    ],
)
def test_a_callee_with_few_calls_is_recognised(name: str, work: Callable[[], Any]) -> None:
    callees = [recognise(path)[1] for path, _ in profiled(work).stacks()]
    assert name in {callee.name for callee in callees if callee is not None}


def test_a_comparison_in_a_loop_has_the_advice_of_the_filter_that_it_is_a_step_of() -> None:
    advice = {callee.name: callee.advice for callee in CALLEES}
    assert advice["comparing columns in a loop"] == advice["a filter of the whole table"]
