"""Totals: batched queries return the same as one series after another."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_knitperf.metrics.columns import Series
from flask_knitperf.metrics.histogram import (
    ZERO,
    Histogram,
    join_codes,
    sum_by_bucket,
    sum_by_code,
)
from flask_knitperf.metrics.instruments import Key, Kind, Merge
from flask_knitperf.metrics.table import Table
from flask_knitperf.metrics.totals import Totals

WHEN = ("first", "solo", "concurrent")
WANTED = {"every": None, "warm": frozenset({"solo", "concurrent"}), "first": frozenset({"first"})}
times = st.lists(st.one_of(st.just(0), st.integers(1, 10**12)), max_size=12)
observed = st.lists(
    st.tuples(
        st.sampled_from("abc"), st.sampled_from(("2xx", "5xx")), st.sampled_from(WHEN), times
    ),
    max_size=12,
)


def table(seen: list[tuple[str, str, str, list[int]]]) -> Table:
    """Return a table of requests: endpoint, status, when, times."""
    table_ = Table()
    for endpoint, status, when, values in seen:
        key = Key("request", (endpoint, "GET", status, when))
        series = table_.series.setdefault(key, Series(Kind.HISTOGRAM, "ns", Merge.SUM))
        for value in values:
            series.data.add(value)
    return table_


def one_by_one(of: Table, endpoint: str, wanted: frozenset[str] | None) -> Histogram:
    """Return the sum of an endpoint's series, added one after another."""
    table_ = Histogram()
    for key, series in of.series.items():
        if key.labels[0] == endpoint and (wanted is None or key.labels[-1] in wanted):
            table_.include(series.data)
    return table_


@pytest.mark.slow
@given(observed, st.booleans())
def test_sums_are_those_of_one_after_another(
    seen: list[tuple[str, str, str, list[int]]], batched: bool
) -> None:
    table_ = table(seen)
    totals = Totals.of(table_)
    groups = {pair: by["request"] for pair, by in totals.pairs.items()}
    sums = totals.sums(list(groups.values()), WANTED)
    for name, wanted in WANTED.items():
        if batched:
            assert sums[name].batch().members is sums[name].histograms
        for (endpoint, _), result in zip(groups, sums[name].histograms, strict=True):
            assert result == one_by_one(table_, endpoint, wanted)


@pytest.mark.slow
@given(observed)
def test_a_tally_is_the_count_and_the_exact_sum(
    seen: list[tuple[str, str, str, list[int]]],
) -> None:
    totals = Totals.of(table(seen))
    values = [value for *_, those in seen for value in those]
    tally = totals.tally(totals.rows("request"))
    assert (tally.count, tally.total) == (len(values), sum(values))
    assert tally.mean == (sum(values) / len(values) if values else None)


def test_series_are_found_by_meter_and_by_their_first_two_labels() -> None:
    table_ = table([("a", "2xx", "solo", [1]), ("b", "2xx", "solo", [2, 3])])
    table_.series[Key("size", ())] = Series(Kind.GAUGE, "bytes", Merge.PER_WORKER, gauge={"w": 7.0})
    totals = Totals.of(table_)
    assert [labels for labels, _ in totals.rows("request")] == [
        ("a", "GET", "2xx", "solo"), ("b", "GET", "2xx", "solo")
    ]  # fmt: skip
    assert [labels for labels, _ in totals.pairs["b", "GET"]["request"]] == [("2xx", "solo")]
    assert totals.gauges(totals.rows("size")) == {"w": 7.0}
    assert totals.tallies(totals.rows("request"))["b"].total == 5
    assert totals.rows("unknown") == ()
    assert totals.histogram(()).count == 0


def test_where_series_stand_is_worked_out_once_for_the_same_heads() -> None:
    columns = Totals.of(table([("a", "2xx", "solo", [1])]))._columns
    assert Totals(columns).pairs is Totals(columns).pairs


def test_a_report_leaves_nothing_to_the_garbage_collector() -> None:
    """The buckets of a large application are megabytes; in a cycle they would pile up."""
    totals = Totals.of(table([("a", "2xx", "solo", [1, 2])]))
    gc.disable()
    try:
        sums = totals.sums([totals.pairs["a", "GET"]["request"]], WANTED)["every"]
        kept = weakref.ref(sums)
        assert sums.histograms[0].quantile(1.0) == 2
        del sums
        assert kept() is None
    finally:
        gc.enable()


@given(st.lists(st.tuples(st.integers(-(2**62), 2**62), st.integers(1, 9)), max_size=30))
def test_codes_that_leave_no_room_for_their_place_are_added_up_too(
    pairs: list[tuple[int, int]],
) -> None:
    wanted: dict[int, int] = {}
    for code, weight in pairs:
        wanted[code] = wanted.get(code, 0) + weight
    codes = np.array([code for code, _ in pairs], np.int64)
    result = sum_by_code(codes, np.array([weight for _, weight in pairs], np.int64))
    assert dict(zip(*(array.tolist() for array in result), strict=True)) == wanted
    assert result[0].tolist() == sorted(wanted)


@given(pairs=st.lists(st.tuples(
    st.integers(0, 3) | st.just(900), st.integers(0, 20) | st.just(ZERO), st.integers(0, 2**32 - 1)
)))  # fmt: skip
def test_buckets_of_observations_are_summed_as_codes_are(pairs: list[tuple[int, int, int]]) -> None:
    owner, index, weight = np.array(pairs, np.int64).reshape(-1, 3).T
    expected = sum_by_code(join_codes(owner, index), weight)
    chosen = expected[1] > 0
    code, total = sum_by_bucket(owner, index, weight)
    chosen_too = total > 0
    assert code[chosen_too].tolist() == expected[0][chosen].tolist()
    assert total[chosen_too].tolist() == expected[1][chosen].tolist()
