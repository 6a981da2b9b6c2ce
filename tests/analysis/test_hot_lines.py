"""Lines, flame graphs and differences from sampled stacks."""

from __future__ import annotations

import pytest

from flask_knitperf.analysis.endpoints import endpoints
from flask_knitperf.analysis.findings import findings
from flask_knitperf.analysis.hot_lines import (
    MIN_COMPARED_SAMPLES,
    ChangedLine,
    Difference,
    change,
    difference,
    flame,
    top_lines,
)
from flask_knitperf.metrics.stack_trie import NORMAL, SLOW, StackFrame, Trie
from tests.reports.building import report_of

from .tables import LIMITS, Mill

MS = 1_000_000
VIEW = StackFrame("mill/views.py", 5, "forecast", True)
HOT = StackFrame("mill/explode.py", 41, "explode", True)
COLD = StackFrame("mill/explode.py", 50, "explode", True)
PANDAS = StackFrame("pandas/frame.py", 0, "DataFrame.iterrows", False)
NUMPY = StackFrame("numpy/core.py", 0, "take", False)


def stacks(*rows: tuple[list[StackFrame], float, float]) -> Trie:
    trie = Trie()
    for path, running, waiting in rows:
        trie.add(path, round(running * MS), round(waiting * MS))
    return trie


def sampled(*rows: tuple[list[StackFrame], float, float]) -> Trie:
    """Return stacks of which each has as many samples as a comparison needs."""
    trie = Trie()
    for path, running, waiting in rows:
        trie.add(path, round(running * MS), round(waiting * MS), MIN_COMPARED_SAMPLES)
    return trie


def test_time_in_a_library_belongs_to_the_line_that_called_it() -> None:
    trie = stacks(([VIEW, HOT], 10, 0), ([VIEW, HOT, PANDAS, NUMPY], 70, 0), ([VIEW, COLD], 5, 15))
    first, second = top_lines(trie)
    assert (first.where, first.function, first.calls) == (
        "mill/explode.py:41", "explode", "DataFrame.iterrows"
    )  # fmt: skip
    assert (first.total, first.running, first.samples) == (80 * MS, 80 * MS, 2)
    assert (second.where, second.running, second.waiting) == ("mill/explode.py:50", 5 * MS, 15 * MS)


@pytest.mark.parametrize(
    ("functions", "calls"),
    [
        (["_unpack_zerodim_and_defer.<locals>.new_method", "OpsMixin.__add__"], "arithmetic"),
        (["_unpack_zerodim_and_defer.<locals>.new_method", "OpsMixin.__eq__"], "comparison"),
        (["deprecate.<locals>.wrapper", "read_csv", "_read"], "read_csv"),
        (["Series.__init__"], "Series()"),
        (["DataFrame.__getitem__", "DataFrame._getitem_bool_array"], "DataFrame[…]"),
        (["_LocIndexer.__getitem__", "_LocIndexer._getitem_axis"], "_LocIndexer.__getitem__"),
        (["<lambda>", "Session.get"], "Session.get"),
    ],
)
def test_internals_of_a_library_count_for_its_public_function(
    functions: list[str], calls: str
) -> None:
    below = [StackFrame("lib/file.py", 0, function, False) for function in functions]
    [line] = top_lines(stacks(([VIEW, *below], 10, 0)))
    assert line.calls == calls


def test_recursion_counts_a_line_once_for_each_sample() -> None:
    [line] = top_lines(stacks(([VIEW, HOT, HOT, HOT], 30, 0)))
    assert (line.where, line.total, line.samples) == ("mill/explode.py:41", 30 * MS, 1)


def test_a_stack_without_application_code_is_named_by_its_outermost_function() -> None:
    [line] = top_lines(stacks(([PANDAS, NUMPY], 3, 0)))
    assert line.where == "DataFrame.iterrows (pandas/frame.py)"


def test_a_stack_of_nothing_is_no_line() -> None:
    assert top_lines(stacks(([], 3, 0))) == []


def test_a_flame_graph_lays_boxes_within_those_that_call_them() -> None:
    boxes = flame(stacks(([VIEW, HOT, PANDAS, NUMPY], 75, 0), ([VIEW, COLD], 0, 25)))
    shown = [
        (box.place.line or box.place.function, box.depth, box.begin, box.width) for box in boxes
    ]
    assert shown == [
        (5, 0, 0.0, 1.0), (41, 1, 0.0, 0.75), (50, 1, 0.75, 0.25), ("DataFrame.iterrows", 2, 0.0, 0.75),
    ]  # fmt: skip
    assert [round(box.running, 2) for box in boxes] == [0.75, 1.0, 0.0, 1.0]


def test_boxes_too_narrow_to_see_are_left_out_and_depth_is_bounded() -> None:
    deep = [StackFrame("mill/a.py", n, f"f{n}", True) for n in range(90)]
    boxes = flame(stacks((deep, 999, 0), ([VIEW], 1, 0)))
    assert max(box.depth for box in boxes) == 47
    assert VIEW not in [box.place for box in boxes]
    assert flame(Trie()) == []


def test_what_slow_requests_do_otherwise_comes_first() -> None:
    kinds = {
        SLOW: sampled(([VIEW, HOT], 10, 0), ([VIEW, COLD], 0, 90)),
        NORMAL: sampled(([VIEW, HOT], 490, 0), ([VIEW], 10, 0)),
    }
    first, *others = difference(kinds)
    assert first == Difference("mill/explode.py:50", "explode", 0.9, 0.0)
    assert first.change == 0.9 and others[-1].change == pytest.approx(-0.88)


def test_slow_requests_are_not_compared_with_slow_ones_that_pass_for_normal() -> None:
    kinds = {SLOW: sampled(([HOT], 0, 500)), NORMAL: sampled(([HOT], 0, 400))}
    assert difference(kinds, normal_ns=None) and difference(kinds, normal_ns=300 * 1e6)
    assert difference(kinds, normal_ns=0.4 * 900 * 1e6 / 9) == []


def test_a_single_sample_is_no_comparison() -> None:
    few = Trie()
    few.add([VIEW], 50_000_000, 0, 1)
    many = sampled(([VIEW, HOT], 490, 0))
    assert difference({SLOW: few, NORMAL: many}) == difference({SLOW: many, NORMAL: few}) == []


def test_each_box_of_a_flame_graph_includes_its_share_in_other_stacks() -> None:
    other = stacks(([VIEW, HOT, NUMPY], 40, 10), ([VIEW], 50, 0))
    boxes = flame(stacks(([VIEW, HOT, PANDAS], 75, 0), ([VIEW, COLD], 0, 25)), other)
    assert [(box.place, box.other) for box in boxes] == [
        (VIEW, 1.0), (HOT, 0.5), (COLD, 0.0), (PANDAS, 0.0)
    ]  # fmt: skip
    assert [box.other for box in flame(other, Trie())] == [None] * 3


def test_a_line_that_stayed_is_not_blamed_for_another_that_became_faster() -> None:
    before = stacks(([VIEW, HOT], 80, 0), ([VIEW, COLD], 20, 0))
    now = stacks(([VIEW, HOT], 20, 0), ([VIEW, COLD], 20, 0))
    lines = change(now, before, 40.0, 100.0)
    assert lines == [
        ChangedLine("mill/explode.py:50", "explode", 20.0, 20.0),
        ChangedLine("mill/explode.py:41", "explode", 20.0, 80.0),
    ]
    assert [line.change_ms for line in lines] == [0.0, -60.0]


def test_there_is_no_change_without_samples_or_requests_of_both() -> None:
    one = stacks(([VIEW], 1, 0))
    assert change(one, Trie(), 1.0, 1.0) == change(Trie(), one, 1.0, 1.0) == []
    assert change(one, one, None, 1.0) == change(one, one, 1.0, None) == []


def test_there_is_no_difference_without_both_kinds() -> None:
    assert difference({SLOW: stacks(([VIEW], 1, 0))}) == []
    assert difference({SLOW: stacks(([VIEW], 1, 0)), NORMAL: Trie()}) == []


def slow(cpu: float = 600) -> Mill:
    return Mill().requests("forecast", [650] * 10).sampled("forecast", wall=650, cpu=cpu)


def sentences(mill: Mill, trie: Trie) -> list[tuple[str, str | None]]:
    document = report_of(mill, tries={("forecast", "GET"): {SLOW: trie}})
    return [(cause["cause"], cause["where"]) for cause in document["bottlenecks"][0]["why"]]


def test_own_computing_is_given_its_line() -> None:
    assert sentences(slow(), stacks(([VIEW, HOT], 90, 0), ([VIEW, COLD], 0, 10))) == [
        ("own_cpu", "mill/explode.py:41"), ("waiting", "mill/explode.py:50"),
    ]  # fmt: skip


def test_time_that_is_spread_over_many_lines_is_given_none() -> None:
    rows = [([VIEW, StackFrame("mill/a.py", n, "f", True)], 10, 0) for n in range(8)]
    assert sentences(slow(), stacks(*rows))[0] == ("own_cpu", None)


def test_a_section_is_given_the_line_that_costs_in_it() -> None:
    mill = slow().counter("part", "forecast", "GET", "section:explode", ms=6000, count=10)
    assert ("section", "mill/explode.py:41") in sentences(mill, stacks(([VIEW, HOT], 90, 0)))


def test_a_line_that_reads_files_is_not_blamed_for_computing() -> None:
    mill = slow().counter("part", "forecast", "GET", "file_read", ms=3000, count=10)
    mill.counter("file_read", "forecast", "GET", "a.csv", HOT.shown(), "first", ms=3000, count=10)
    trie = stacks(([VIEW, HOT, PANDAS], 50, 0), ([VIEW, COLD], 40, 0))
    assert ("own_cpu", COLD.shown()) in sentences(mill, trie)


def test_the_report_lists_the_most_expensive_lines() -> None:
    rows = [([VIEW, StackFrame("mill/a.py", n, "f", True)], 10 + n, 0) for n in range(30)]
    tries = {("forecast", "GET"): {NORMAL: stacks(*rows)}, ("other", "GET"): {}}
    document = report_of(slow(), tries=tries)
    lines = document["endpoints"][0]["lines"]
    assert len(lines) == 10 and lines[0]["where"] == "mill/a.py:29"


def test_without_samples_there_are_no_lines_and_nothing_breaks() -> None:
    rows = endpoints(slow().readings, LIMITS)
    assert not rows[0].lines
    assert findings(slow().readings, rows, LIMITS)[0].why[0].where is None
