"""Columns: adding up and taking away, against the same done one histogram at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_knitperf.core.errors import StateError
from flask_knitperf.metrics import codec, columns
from flask_knitperf.metrics.columns import Columns, Descriptor, Series
from flask_knitperf.metrics.histogram import Histogram, midpoint
from flask_knitperf.metrics.instruments import Key, Kind, Merge

Values = dict[str, list[int]]
values = st.dictionaries(
    st.sampled_from("abcd"), st.lists(st.integers(0, 10**12), min_size=1, max_size=20), max_size=4
)


def columns_of(data: Values) -> Columns:
    descriptors, series = [], {}
    for name, numbers in data.items():
        key = Key("request", (name,))
        descriptors.append(Descriptor(key, Kind.HISTOGRAM, "ns", Merge.SUM))
        series[key] = Series(Kind.HISTOGRAM, "ns", Merge.SUM, Histogram.of(numbers))
    return columns.of(descriptors, series)


def read(result: Columns) -> dict[str, Histogram]:
    return {key.labels[0]: s.data for key, s in columns.series(result).items()}


def together(parts: list[Values]) -> dict[str, Histogram]:
    total: Values = {}
    for part in parts:
        for name, numbers in part.items():
            total.setdefault(name, []).extend(numbers)
    return {name: Histogram.of(numbers) for name, numbers in total.items()}


@given(values)
def test_columns_hold_what_they_were_made_of(data: Values) -> None:
    assert read(columns_of(data)) == together([data])


@pytest.mark.slow
@given(st.lists(values, max_size=4))
def test_adding_is_observing_all_of_it_in_one_place(parts: list[Values]) -> None:
    assert read(columns.add([columns_of(part) for part in parts])) == together(parts)


@pytest.mark.slow
@given(st.lists(values, max_size=3), st.randoms())
def test_the_order_of_adding_does_not_matter(parts: list[Values], chance: object) -> None:
    forward = columns.add([columns_of(part) for part in parts])
    backward = columns.add([columns_of(part) for part in reversed(parts)])
    assert read(forward) == read(backward)


@pytest.mark.slow
@given(values, values)
def test_a_difference_has_the_counts_sums_and_buckets_of_what_came_later(
    early: Values, late: Values
) -> None:
    now = columns.add([columns_of(early), columns_of(late)])
    result = read(columns.subtract(now, columns_of(early)))
    for name, expected in together([late]).items():
        assert (result[name].count, result[name].total) == (expected.count, expected.total)
        assert result[name].buckets == expected.buckets
    assert set(result) == set(late)


@pytest.mark.slow
@given(values, values)
def test_the_extremes_of_a_difference_come_from_its_outermost_buckets(
    early: Values, late: Values
) -> None:
    now = columns.add([columns_of(early), columns_of(late)])
    for name, data in read(columns.subtract(now, columns_of(early))).items():
        if name in early:
            assert data.low == pytest.approx(midpoint(min(data.buckets)))
            assert data.high == pytest.approx(midpoint(max(data.buckets)))
        else:
            assert data.low == min(late[name])


def test_taking_away_everything_leaves_no_series() -> None:
    data = {"a": [1, 2, 3], "b": [0]}
    assert not columns.series(columns.subtract(columns_of(data), columns_of(data)))


def test_taking_nothing_away_changes_nothing() -> None:
    data = {"a": [1, 2, 3]}
    assert read(columns.subtract(columns_of(data), columns_of({}))) == together([data])
    assert read(columns.subtract(columns_of({}), columns_of(data))) == {}


def test_gauges_and_what_is_in_progress_survive_bytes_and_adding() -> None:
    descriptor = Descriptor(Key("rss", ()), Kind.GAUGE, "bytes", Merge.PER_WORKER)
    begun = Descriptor(Key("started", ("e",)), Kind.OPEN, "1", Merge.SUM)
    parts = [
        columns.of((descriptor, begun), {
            descriptor.key: Series(*descriptor[1:], gauge={worker: 5.0}),
            begun.key: Series(*begun[1:], open={7: 1.5}),
        })
        for worker in ("w-1", "w-2")
    ]  # fmt: skip
    total, about = codec.decode(codec.encode(columns.add(parts), {"worker": "x"}))
    result = columns.series(total)
    assert result[descriptor.key].gauge == {"w-1": 5.0, "w-2": 5.0}
    assert result[begun.key].open == {7: 1.5}
    assert about["worker"] == "x"


@given(values)
def test_bytes_give_back_what_they_were_made_of(data: Values) -> None:
    result, _ = codec.decode(codec.encode(columns_of(data), {}))
    assert read(result) == together([data])


@given(st.data())
def test_no_damage_goes_unnoticed(data: st.DataObject) -> None:
    whole = bytearray(codec.encode(columns_of({"a": [1, 2]}), {}))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(StateError):
        codec.decode(bytes(whole))


def test_another_format_is_refused() -> None:
    import zlib

    body = b'{"format": 1}\n[]\n'
    with pytest.raises(StateError, match="format 1"):
        codec.decode(b"%08x\n" % zlib.crc32(body) + body)


def test_only_so_many_texts_of_heads_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "_MAX_DESCRIPTORS", 2)
    for name in "abcdef":
        codec.decode(codec.encode(columns_of({name: [1]}), {}))
    assert len(codec._descriptors_by_hash) <= 2


# -- a log's observations ---------------------------------------------------------------------------

KINDS = [Kind.HISTOGRAM, Kind.COUNTER, Kind.GAUGE]
HEADS = tuple(
    Descriptor(Key(f"{kind.value}{number}", ()), kind, "ns", Merge.SUM)
    for kind in KINDS for number in range(2)
)  # fmt: skip
observations = st.lists(
    st.tuples(
        st.integers(0, len(HEADS) - 1), st.integers(1, 64), st.integers(0, 10**12).map(float)
    ),
    max_size=60,
)


@given(observations)
def test_observations_at_once_are_the_same_as_one_after_another(
    seen: list[tuple[int, int, float]],
) -> None:
    expected = {
        descriptor.key: Series(descriptor.kind, descriptor.unit, descriptor.merge)
        for descriptor in HEADS
    }
    for row, weight, value in seen:
        one = expected[HEADS[row].key]
        if one.kind is Kind.GAUGE:
            one.gauge = {"w": value}
        elif one.kind is Kind.HISTOGRAM:
            one.data.add(value, weight)
        else:
            one.data.count += weight
            one.data.total += round(value) * weight
    rows = np.array([row for row, _, _ in seen], np.int64)
    weights = np.array([weight for _, weight, _ in seen], np.int64)
    numbers = np.array([value for _, _, value in seen], np.float64)
    result, implausible = columns.observed(HEADS, "w", rows, weights, numbers)
    known = {key: one for key, one in expected.items() if one.data.count or one.gauge}
    assert (columns.series(result), implausible) == (known, 0)


def test_what_belongs_to_no_observation_stays_empty() -> None:
    nothing = np.empty(0, np.int64)
    result, implausible = columns.observed(HEADS, "w", nothing, nothing, nothing.astype(np.float64))
    assert (columns.series(result), implausible) == ({}, 0)


# -- descriptors that are looked up once ----


def test_a_table_that_grew_is_added_up_with_what_is_new() -> None:
    descriptors, new = (HEADS[0],), HEADS[1]
    series = {HEADS[0].key: Series(Kind.HISTOGRAM, "ns", Merge.SUM, Histogram.of([1]))}
    assert len(columns.add([columns.of(descriptors, series)]).descriptors) == 1
    descriptors = columns.extended(descriptors, [new])
    series[new.key] = Series(Kind.HISTOGRAM, "ns", Merge.SUM, Histogram.of([2]))
    assert set(columns.series(columns.add([columns.of(descriptors, series)]))) == set(series)


@pytest.mark.slow
@given(values, values)
def test_adding_up_again_gives_the_same_though_the_heads_are_known(a: Values, b: Values) -> None:
    first, second = columns_of(a), columns_of(b)
    twice = [read(columns.add([first, second])) for _ in range(2)]
    assert twice == [together([a, b])] * 2


def test_more_sums_are_known_than_are_kept() -> None:
    kept = [columns_of({"a": [number]}) for number in range(30)]
    for _ in range(2):
        assert [read(columns.add([part]))["a"].total for part in kept] == list(range(30))


def test_heads_with_the_same_new_ones_behind_are_the_same_object() -> None:
    old = HEADS[:3]
    both = [columns.extended(old, list(HEADS[3:])) for _ in range(2)]
    assert both[0] == HEADS
    assert both[0] is both[1]


def test_heads_without_new_ones_are_themselves() -> None:
    assert columns.extended(HEADS, []) is HEADS


def test_more_extended_heads_are_made_than_are_kept() -> None:
    old = [(descriptor,) for descriptor in HEADS * 30]
    assert all(
        columns.extended(descriptors, [HEADS[0]]) == (*descriptors, HEADS[0]) for descriptors in old
    )


@given(values)
def test_a_wider_table_holds_the_same(data: Values) -> None:
    result = columns_of(data)
    new = Descriptor(Key("request", ("new",)), Kind.HISTOGRAM, "ns", Merge.SUM)
    wide = columns.widened(result, (*result.descriptors, new))
    assert (len(wide.count), read(wide)) == (len(result.descriptors) + 1, together([data]))
