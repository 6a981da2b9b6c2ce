"""Scans list the live frames with the memory behind them."""

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
from flask_knitperf.frames.live_frames import MAX_LISTED, LiveFrame, Scan, scan

MB = 1 << 20


def listed(result: Scan, *frames: pd.DataFrame) -> list[LiveFrame]:
    """Return the entries of some frames, by their column names, which are unique to each test."""
    by_names = {row.names: row for row in result.frames}
    return [by_names[tuple(map(str, frame.columns[:8]))] for frame in frames]


@pytest.fixture(autouse=True)
def few_frames() -> Iterator[None]:
    """Frames of other tests are freed before each test."""
    gc.collect()
    yield
    gc.collect()


def numbers(name: str, rows: int = 200_000) -> pd.DataFrame:
    return pd.DataFrame({name: np.arange(rows), f"{name} too": np.arange(rows) * 0.5})


def test_a_frame_is_listed_with_its_shape_and_bytes() -> None:
    frame = numbers("shape")
    (row,) = listed(scan(), frame)
    assert (row.rows, row.columns) == frame.shape
    assert row.bytes == 200_000 * 16


def test_a_frame_of_a_subclass_is_listed_too() -> None:
    class Table(pd.DataFrame):
        """Subclass in the application."""

    table = Table({"of a subclass": np.arange(1000)})
    (row,) = listed(scan(), table)
    assert row.rows == 1000


def test_a_scan_keeps_no_frame_alive() -> None:
    frame = numbers("gone")
    gone = weakref.ref(frame)
    scan()
    del frame
    assert gone() is None


def test_a_shallow_copy_shares_and_is_counted_once() -> None:
    before = scan().bytes
    frame = numbers("shared")
    shallow = frame.copy(deep=False)
    shallow.columns = ["shared b", "shared b too"]
    result = scan()
    one, other = listed(result, frame, shallow)
    assert one.shared == one.bytes == other.shared
    assert result.bytes - before == pytest.approx(one.bytes, abs=10_000)


def test_a_view_of_few_rows_is_listed_with_the_memory_it_pins() -> None:
    view = numbers("pinned").iloc[:10]
    (row,) = listed(scan(), view)
    assert row.bytes < 1000
    assert row.pinned == pytest.approx(200_000 * 16, rel=0.01)


def test_a_view_that_pins_much_is_listed_before_a_larger_frame() -> None:
    view, frame = numbers("pinning").iloc[:10], numbers("larger", 100_000)
    names = [row.names[:1] for row in scan().frames]
    assert names.index(("pinning",)) < names.index(("larger",))
    del view, frame


def test_a_view_pins_nothing_while_its_frame_is_alive() -> None:
    whole = numbers("beside")
    view = whole.iloc[:10].rename(columns={"beside": "viewed"})
    (row,) = listed(scan(), view)
    assert row.pinned == 0


def test_frames_with_equal_content_are_copies() -> None:
    before = scan().duplicated
    frame = numbers("twice")
    copy = frame.copy()
    result = scan()
    both = [row for row in result.frames if row.names == ("twice", "twice too")]
    assert [row.copies for row in both] == [1, 1]
    assert result.duplicated - before == pytest.approx(
        copy.memory_usage(index=False).sum(), rel=0.01
    )


def test_frames_that_differ_in_their_last_cell_are_not_copies() -> None:
    frame = numbers("nearly")
    other = frame.copy()
    other.iloc[-1, 0] = -1
    both = [row for row in scan().frames if row.names == ("nearly", "nearly too")]
    assert [row.copies for row in both] == [0, 0]


def test_text_and_missing_cells_are_compared_too() -> None:
    frame = pd.DataFrame({"text twice": ["a", None, "b"] * 1000, "n": range(3000)})
    copy = pd.DataFrame({"text twice": ["a", None, "b"] * 1000, "n": range(3000)})
    other = pd.DataFrame({"text twice": ["a", "", "b"] * 1000, "n": range(3000)})
    copies = [row.copies for row in scan().frames if row.names == ("text twice", "n")]
    assert sorted(copies) == [0, 1, 1]
    assert len(copy) == len(other) == len(frame)


def test_frames_with_cells_that_cannot_be_compared_are_not_copies() -> None:
    frames = [pd.DataFrame({"lists": [[1], [2]] * 600}) for _ in range(2)]
    copies = [row.copies for row in scan().frames if row.names == ("lists",)]
    assert copies == [0, 0]
    assert len(frames) == 2


def test_a_frame_is_listed_with_its_origin() -> None:
    frame = numbers("came from")
    ORIGINS.remember(frame, "read_csv stock.csv", "mill.py:7")
    (row,) = listed(scan(), frame)
    assert (row.origin, row.where) == ("read_csv stock.csv", "mill.py:7")


def test_savings_are_estimated_for_the_largest_frames_first() -> None:
    sizes: list[int] = []

    def estimate(_: Any, size: int) -> int:
        sizes.append(size)
        return size // 2

    frames = [numbers(f"plan {rows}", rows) for rows in (1000, 50_000)]
    rows = listed(scan(estimate), *frames)
    assert [row.saves for row in rows] == [8_000, 400_000]
    assert sizes.index(800_000) < sizes.index(16_000)


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
    copies = [frame.copy(), frame.copy()]  # the session froze the frame itself
    names = tuple(map(str, frame.columns[:8]))
    rows = [(row.rows, row.columns, row.names) for row in scan().frames]
    assert rows.count((*copies[0].shape, names)) >= 2


def test_frames_beyond_the_largest_are_counted_and_not_listed() -> None:
    frames = [pd.DataFrame({"many": [number]}) for number in range(MAX_LISTED + 50)]
    result = scan()
    assert len(result.frames) == MAX_LISTED
    assert result.count >= len(frames)


def test_without_pandas_nothing_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pandas")
    assert scan().count == 0


def test_a_list_is_json() -> None:
    frame = numbers("as json")
    document = scan().as_dict()
    (row,) = [row for row in document["frames"] if row["names"] == ["as json", "as json too"]]
    assert row["mb"] == round(frame.memory_usage(index=False).sum() / MB, 3)
    assert row["saves_mb"] is None


def test_frozen_objects_are_counted_and_their_frames_not_listed(thawed: None) -> None:
    frame = numbers("frozen")
    gc.freeze()
    result = scan()
    assert result.frozen > 0
    assert not [row for row in result.frames if row.names == tuple(frame.columns)]
