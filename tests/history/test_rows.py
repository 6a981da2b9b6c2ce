"""Rows hold exactly what was observed, and adding rows adds it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flask_knitperf.core.errors import HistoryError
from flask_knitperf.history import rows
from flask_knitperf.history.rows import GaugeRow, NoteRow
from flask_knitperf.history.slots import by_owner, heat
from flask_knitperf.metrics import columns
from flask_knitperf.metrics.columns import Columns, Descriptor, Series
from flask_knitperf.metrics.histogram import Histogram
from flask_knitperf.metrics.instruments import Key, Kind, Merge

DURATIONS = st.lists(st.integers(0, 10**12), max_size=6)
Values = list[tuple[bool, list[int]]]
"""Of each series whether it has buckets, and its observations."""
VALUES = st.lists(st.tuples(st.booleans(), DURATIONS), max_size=12)


def columns_with(values: Values) -> Columns:
    """Return columns with some series."""
    descriptors, series = [], dict[Key, Series]()
    for number, (has_buckets, observed) in enumerate(values):
        kind = Kind.HISTOGRAM if has_buckets else Kind.COUNTER
        key = Key("meter", (str(number),))
        descriptors.append(Descriptor(key, kind, "ns", Merge.SUM))
        data = Histogram.of(observed)
        series[key] = Series(
            kind, "ns", Merge.SUM, data if has_buckets else Histogram(data.count, data.total)
        )
    return columns.of(tuple(descriptors), series)


def content(of: Columns) -> list[list[int]]:
    """Return the arrays of columns, without extremes."""
    return [array.tolist() for array in (of.count, of.total, of.row, of.bucket, of.weight)]


@pytest.mark.slow
@given(VALUES)
def test_series_are_read_as_they_were_written(values: Values) -> None:
    before = columns_with(values)
    active, blobs = rows.rows_of(before)
    assert active.tolist() == [n for n, (_, observed) in enumerate(values) if observed]
    assert content(rows.columns_of(before.descriptors, active, blobs)) == content(before)


@pytest.mark.slow
@given(VALUES, st.data())
def test_the_sum_of_rows_is_the_row_of_the_sum(values: Values, data: st.DataObject) -> None:
    more = [(has, data.draw(DURATIONS)) for has, _ in values]
    parts = [columns_with(values), columns_with(more)]
    written = [rows.rows_of(part) for part in parts]
    owner = np.concatenate([active for active, _ in written])
    blobs = [blob for _, some in written for blob in some]
    whole = columns.add(parts)
    assert content(rows.columns_of(whole.descriptors, owner, blobs)) == content(whole)
    active, sums = rows.rows_of(whole)
    merged, added = rows.merged(owner, blobs)
    assert (merged, added) == (active.tolist(), sums)


def test_extremes_are_those_of_the_buckets() -> None:
    before = columns_with([(True, [10**6, 2 * 10**6])])
    after = rows.columns_of(before.descriptors, *rows.rows_of(before))
    assert after.low[0] == pytest.approx(10**6, rel=0.006)
    assert after.high[0] == pytest.approx(2 * 10**6, rel=0.006)


@pytest.mark.parametrize(
    "row", [b"\x01", b"\x01\x02\x04", b"\x02\x04\x04\x00\x03", b"\x02\x04\x04\x00\x03\x80"],
    ids=["no sum", "a first bucket without a code", "steps that do not follow", "half a number"],
)  # fmt: skip
def test_a_damaged_row_is_refused(row: bytes) -> None:
    good = encode_one([10**6])
    descriptors = columns_with([(True, [1]), (True, [1])]).descriptors
    for blobs in ([row, good], [good, row]):
        with pytest.raises(HistoryError):
            rows.columns_of(descriptors, np.array([0, 1]), blobs)


@given(st.binary(max_size=24))
@example(b"\x01\x04\xff\xff\xff\xff\x7f\x00")  # a bucket far beyond those of doubles
@example(b"\x01\x04\x02" + b"\xff" * 9 + b"\x01")  # a negative weight
def test_any_bytes_are_a_row_or_are_refused(row: bytes) -> None:
    readers: list[Callable[[], object]] = [
        lambda: heat([by_owner(np.array([0]), [row])[0]]), lambda: rows.gauges_of([row]),
        lambda: rows.notes_of([row]),
    ]  # fmt: skip
    for read in readers:
        with contextlib.suppress(HistoryError):
            read()


def encode_one(observed: list[int]) -> bytes:
    [row] = rows.rows_of(columns_with([(True, observed)]))[1]
    return row


def test_a_bucket_near_the_one_before_takes_one_byte() -> None:
    near = encode_one([10**6, round(10**6 * 1.012), round(10**6 * 1.03)])
    assert len(near) == len(encode_one([10**6, round(10**6 * 1.012)])) + 1


FRACTIONS = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(st.builds(GaugeRow, st.integers(1, 99), st.integers(1, 99), *[FRACTIONS] * 3)))
def test_gauges_are_read_as_they_were_written(gauges: list[GaugeRow]) -> None:
    assert rows.gauges_of(rows.gauge_rows(gauges)) == gauges


@given(st.lists(st.builds(NoteRow, st.integers(1, 2**40), FRACTIONS)))
def test_notes_are_read_as_they_were_written(notes: list[NoteRow]) -> None:
    assert rows.notes_of(rows.note_rows(notes)) == notes


def test_gauges_and_notes_add_up() -> None:
    assert GaugeRow(1, 2, 5.0, 1.0, 4.0).plus(GaugeRow(1, 1, 9.0, 9.0, 9.0)) == (
        2,
        3,
        14.0,
        1.0,
        9.0,
    )
    assert NoteRow(1, 0.5).plus(NoteRow(2, 1.5)) == (3, 2.0)


def test_a_round_fraction_takes_few_bytes() -> None:
    assert len(rows.note_rows([NoteRow(1, 4.0)])[0]) <= 4
