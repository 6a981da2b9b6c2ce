"""Columns: adding up and taking away, against the same done one histogram at a time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_knitperf.core import columns
from flask_knitperf.core.columns import Columns, Head, Series
from flask_knitperf.core.errors import StateError
from flask_knitperf.core.meters import Key, Kind, Merge
from flask_knitperf.core.stats import Histogram, middle

Values = dict[str, list[int]]
values = st.dictionaries(
    st.sampled_from("abcd"), st.lists(st.integers(0, 10**12), min_size=1, max_size=20), max_size=4
)


def made(data: Values) -> Columns:
    heads, series = [], {}
    for name, numbers in data.items():
        key = Key("request", (name,))
        heads.append(Head(key, Kind.HISTOGRAM, "ns", Merge.SUM))
        series[key] = Series(Kind.HISTOGRAM, "ns", Merge.SUM, Histogram.of(numbers))
    return columns.of(heads, series)


def read(found: Columns) -> dict[str, Histogram]:
    return {key.labels[0]: s.data for key, s in columns.series(found).items()}


def together(parts: list[Values]) -> dict[str, Histogram]:
    total: Values = {}
    for part in parts:
        for name, numbers in part.items():
            total.setdefault(name, []).extend(numbers)
    return {name: Histogram.of(numbers) for name, numbers in total.items()}


@given(values)
def test_columns_hold_what_they_were_made_of(data: Values) -> None:
    assert read(made(data)) == together([data])


@given(st.lists(values, max_size=4))
def test_adding_is_observing_all_of_it_in_one_place(parts: list[Values]) -> None:
    assert read(columns.add([made(part) for part in parts])) == together(parts)


@given(st.lists(values, max_size=3), st.randoms())
def test_the_order_of_adding_does_not_matter(parts: list[Values], chance: object) -> None:
    forward = columns.add([made(part) for part in parts])
    backward = columns.add([made(part) for part in reversed(parts)])
    assert read(forward) == read(backward)


@given(values, values)
def test_a_difference_has_the_counts_sums_and_buckets_of_what_came_later(
    early: Values, late: Values
) -> None:
    now = columns.add([made(early), made(late)])
    found = read(columns.subtract(now, made(early)))
    for name, expected in together([late]).items():
        assert (found[name].count, found[name].total) == (expected.count, expected.total)
        assert found[name].buckets == expected.buckets
    assert set(found) == set(late)


@given(values, values)
def test_the_extremes_of_a_difference_come_from_its_outermost_buckets(
    early: Values, late: Values
) -> None:
    now = columns.add([made(early), made(late)])
    for name, data in read(columns.subtract(now, made(early))).items():
        if name in early:
            assert data.low == pytest.approx(middle(min(data.buckets)))
            assert data.high == pytest.approx(middle(max(data.buckets)))
        else:
            assert data.low == min(late[name])


def test_taking_away_everything_leaves_no_series() -> None:
    data = {"a": [1, 2, 3], "b": [0]}
    assert not columns.series(columns.subtract(made(data), made(data)))


def test_taking_nothing_away_changes_nothing() -> None:
    data = {"a": [1, 2, 3]}
    assert read(columns.subtract(made(data), made({}))) == together([data])
    assert read(columns.subtract(made({}), made(data))) == {}


def test_gauges_and_what_is_under_way_survive_bytes_and_adding() -> None:
    head = Head(Key("rss", ()), Kind.GAUGE, "bytes", Merge.PER_WORKER)
    begun = Head(Key("started", ("e",)), Kind.OPEN, "1", Merge.SUM)
    parts = [
        columns.of([head, begun], {
            head.key: Series(*head[1:], gauge={worker: 5.0}),
            begun.key: Series(*begun[1:], open={7: 1.5}),
        })
        for worker in ("w-1", "w-2")
    ]  # fmt: skip
    total, about = columns.decode(columns.encode(columns.add(parts), {"worker": "x"}))
    found = columns.series(total)
    assert found[head.key].gauge == {"w-1": 5.0, "w-2": 5.0}
    assert found[begun.key].open == {7: 1.5}
    assert about["worker"] == "x"


@given(values)
def test_bytes_give_back_what_they_were_made_of(data: Values) -> None:
    found, _ = columns.decode(columns.encode(made(data), {}))
    assert read(found) == together([data])


@given(st.data())
def test_no_damage_goes_unnoticed(data: st.DataObject) -> None:
    whole = bytearray(columns.encode(made({"a": [1, 2]}), {}))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(StateError):
        columns.decode(bytes(whole))


def test_another_format_is_refused() -> None:
    import zlib

    body = b'{"format": 1}\n[]\n'
    with pytest.raises(StateError, match="format 1"):
        columns.decode(b"%08x\n" % zlib.crc32(body) + body)


def test_only_so_many_texts_of_heads_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "_HEADS_KEPT", 2)
    for name in "abcdef":
        columns.decode(columns.encode(made({name: [1]}), {}))
    assert len(columns._heads_known) <= 2
