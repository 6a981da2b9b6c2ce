"""Which frames are alive, and what they hold."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flask_knitperf.core.provenance import ORIGINS
from flask_knitperf.frames.live_frames import LISTED, LiveFrame, Scan, alive

MB = 1 << 20


def own(scan: Scan, *frames: pd.DataFrame) -> list[LiveFrame]:
    """Return what is told of some frames, found by their columns, which each test names its own way."""
    told = {frame.names: frame for frame in scan.frames}
    return [told[tuple(map(str, frame.columns[:8]))] for frame in frames]


@pytest.fixture(autouse=True)
def few_frames() -> Iterator[None]:
    """Other tests' frames are gone before each of these."""
    gc.collect()
    yield
    gc.collect()


def numbers(name: str, rows: int = 200_000) -> pd.DataFrame:
    return pd.DataFrame({name: np.arange(rows), f"{name} too": np.arange(rows) * 0.5})


def test_a_frame_is_found_with_its_shape_and_bytes() -> None:
    frame = numbers("found")
    (told,) = own(alive(), frame)
    assert (told.rows, told.columns) == frame.shape
    assert told.bytes == 200_000 * 16


def test_the_frame_of_a_subclass_is_found_too() -> None:
    class Table(pd.DataFrame):
        """A frame of the application's own."""

    table = Table({"of a subclass": np.arange(1000)})
    (told,) = own(alive(), table)
    assert told.rows == 1000


def test_looking_keeps_no_frame_alive() -> None:
    frame = numbers("gone")
    gone = weakref.ref(frame)
    alive()
    del frame
    assert gone() is None


def test_a_shallow_copy_shares_and_is_counted_once() -> None:
    before = alive().bytes
    frame = numbers("shared")
    shallow = frame.copy(deep=False)
    shallow.columns = ["shared b", "shared b too"]
    scan = alive()
    one, other = own(scan, frame, shallow)
    assert one.shared == one.bytes == other.shared
    assert scan.bytes - before == pytest.approx(one.bytes, abs=10_000)


def test_a_view_of_few_rows_says_what_it_keeps() -> None:
    view = numbers("pinned").iloc[:10]
    (told,) = own(alive(), view)
    assert told.bytes < 1000
    assert told.pinned == pytest.approx(200_000 * 16, rel=0.01)


def test_a_view_that_keeps_much_is_listed_before_a_frame_that_is_larger() -> None:
    view, frame = numbers("pinning").iloc[:10], numbers("larger", 100_000)
    names = [told.names[:1] for told in alive().frames]
    assert names.index(("pinning",)) < names.index(("larger",))
    del view, frame


def test_a_view_beside_its_frame_keeps_nothing_of_its_own() -> None:
    whole = numbers("beside")
    view = whole.iloc[:10].rename(columns={"beside": "viewed"})
    (told,) = own(alive(), view)
    assert told.pinned == 0


def test_frames_that_hold_the_same_are_copies_of_one_another() -> None:
    before = alive().duplicated
    frame = numbers("twice")
    copy = frame.copy()
    scan = alive()
    both = [one for one in scan.frames if one.names == ("twice", "twice too")]
    assert [one.copies for one in both] == [1, 1]
    assert scan.duplicated - before == pytest.approx(copy.memory_usage(index=False).sum(), rel=0.01)


def test_frames_that_differ_in_their_last_cell_are_no_copies() -> None:
    frame = numbers("nearly")
    other = frame.copy()
    other.iloc[-1, 0] = -1
    both = [one for one in alive().frames if one.names == ("nearly", "nearly too")]
    assert [one.copies for one in both] == [0, 0]


def test_text_and_missing_cells_are_compared_too() -> None:
    frame = pd.DataFrame({"text twice": ["a", None, "b"] * 1000, "n": range(3000)})
    copy = pd.DataFrame({"text twice": ["a", None, "b"] * 1000, "n": range(3000)})
    other = pd.DataFrame({"text twice": ["a", "", "b"] * 1000, "n": range(3000)})
    told = [one.copies for one in alive().frames if one.names == ("text twice", "n")]
    assert sorted(told) == [0, 1, 1]
    assert len(copy) == len(other) == len(frame)


def test_cells_that_cannot_be_compared_make_no_copies() -> None:
    frames = [pd.DataFrame({"lists": [[1], [2]] * 600}) for _ in range(2)]
    told = [one.copies for one in alive().frames if one.names == ("lists",)]
    assert told == [0, 0]
    assert len(frames) == 2


def test_where_a_frame_came_from_is_told() -> None:
    frame = numbers("came from")
    ORIGINS.remember(frame, "read_csv stock.csv", "mill.py:7")
    (told,) = own(alive(), frame)
    assert (told.origin, told.where) == ("read_csv stock.csv", "mill.py:7")


def test_what_a_plan_would_save_is_asked_for_the_largest_first() -> None:
    asked: list[int] = []

    def plan(_: Any, size: int) -> int:
        asked.append(size)
        return size // 2

    frames = [numbers(f"plan {rows}", rows) for rows in (1000, 50_000)]
    told = own(alive(plan), *frames)
    assert [one.saves for one in told] == [8_000, 400_000]
    assert asked.index(800_000) < asked.index(16_000)


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame(),
        pd.DataFrame(index=range(10)),
        pd.DataFrame({"one": [1]}).iloc[:0],
        pd.DataFrame([[1, 2]], columns=["same", "same"]),
        pd.DataFrame({"c": pd.Categorical(["a", "b"] * 50)}),
        pd.DataFrame({"m": pd.array([1, None] * 50, dtype="Int64")}),
        pd.DataFrame({"s": pd.arrays.SparseArray([0, 0, 1] * 50)}),
        pd.DataFrame({"z": pd.date_range("2024", periods=50, tz="UTC")}),
        pd.DataFrame({"p": pd.period_range("2024", periods=50, freq="D")}),
        pd.DataFrame({"i": pd.interval_range(0, 50)}),
        pd.DataFrame({"o": [object(), [], {}]}),
        pd.DataFrame({"x": [1, 2]}, index=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)])),
        pd.DataFrame({("a", "b"): [1]}),
    ],
    ids=lambda frame: ",".join(map(str, frame.columns)) or f"rows {len(frame)}",
)
def test_frames_of_any_kind_are_listed(frame: pd.DataFrame) -> None:
    copy = frame.copy()
    shapes = [(one.rows, one.columns) for one in alive().frames]
    assert shapes.count(frame.shape) >= 2
    assert copy.shape == frame.shape


def test_frames_beyond_the_largest_are_counted_and_not_listed() -> None:
    frames = [pd.DataFrame({"many": [number]}) for number in range(LISTED + 50)]
    scan = alive()
    assert len(scan.frames) == LISTED
    assert scan.count >= len(frames)


def test_without_pandas_nothing_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pandas")
    assert alive().count == 0


def test_a_list_is_json() -> None:
    frame = numbers("as json")
    told = alive().as_dict()
    (row,) = [one for one in told["frames"] if one["names"] == ["as json", "as json too"]]
    assert row["mb"] == round(frame.memory_usage(index=False).sum() / MB, 3)
    assert row["saves_mb"] is None


def test_what_is_frozen_is_said_not_to_be_seen() -> None:
    frame = numbers("frozen")
    try:
        gc.freeze()
        scan = alive()
    finally:
        gc.unfreeze()
    assert scan.frozen > 0
    assert not [one for one in scan.frames if one.names == tuple(frame.columns)]
