"""Frames that came out of the cache are recognised by their buffers, and changed ones never."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flask_knitperf.caching import keys, served_frames
from flask_knitperf.caching.keys import Encoding
from flask_knitperf.caching.values import isolate
from flask_knitperf.core.errors import CacheKeyError

COPIES_ON_WRITE = int(pd.__version__.partition(".")[0]) >= 3


def frame() -> pd.DataFrame:
    return pd.DataFrame({
        "kg": np.arange(1000) / 3, "rolls": np.arange(1000), "style": ["12/1A", "7"] * 500,
        "day": pd.date_range("2026-01-01", periods=1000),
        "shift": pd.date_range("2026-01-01", periods=1000, tz="Europe/Berlin"),
        "checked": np.arange(1000) % 2 == 0,
    })  # fmt: skip


class Cached:
    """A cached frame, and the number of digests that are computed."""

    def __init__(self, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kept = isolate(value)
        self.computed = 0
        original = keys.array_digest

        def counted(*args: Any) -> bytes:
            self.computed += 1
            return original(*args)

        monkeypatch.setattr(keys, "array_digest", counted)

    def served(self) -> Any:
        assert self.kept.copy is not None
        return self.kept.copy(self.kept.value)


def digest(value: Any) -> bytes:
    encoding = Encoding()
    encoding.add(value)
    return encoding.digest()


@pytest.mark.parametrize("part", ["frame", "series", "sorted index"])
def test_a_served_frame_is_hashed_once_and_has_the_key_of_an_equal_one(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    value: Any = frame()
    value = value["kg"] if part == "series" else value
    value = value.set_index("day") if part == "sorted index" else value
    cached = Cached(value, monkeypatch)
    first = digest(cached.served())
    before = cached.computed
    assert {digest(cached.served()) for _ in range(3)} == {first}
    assert cached.computed == (before if COPIES_ON_WRITE else before + 3)
    assert digest(value) == first


def _add(one: pd.DataFrame) -> pd.DataFrame:
    one["kg"] += 1
    return one


def _set(setter: Callable[[pd.DataFrame], Any]) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(one: pd.DataFrame) -> pd.DataFrame:
        setter(one)
        return one

    return change


class Sheet(pd.DataFrame):
    """A frame of another class."""


CHANGES: dict[str, Callable[[pd.DataFrame], Any]] = {
    "a cell by iloc": _set(lambda one: one.iloc.__setitem__((0, 0), 9.0)),
    "a cell by loc": _set(lambda one: one.loc.__setitem__((0, "rolls"), 9)),
    "a cell by at": _set(lambda one: one.at.__setitem__((0, "style"), "x")),
    "a column": _set(lambda one: one.__setitem__("rolls", 1)),
    "a new column": _set(lambda one: one.__setitem__("new", 1)),
    "a column is gone": lambda one: one.drop(columns="kg"),
    "in place": _add,
    "columns renamed": _set(lambda one: setattr(one, "columns", list("abcdef"))),
    "one column renamed": lambda one: one.rename(columns={"kg": "lb"}),
    "columns in another order": lambda one: one[list(one.columns)[::-1]],
    "columns exchanged": _set(
        lambda one: setattr(one, "columns", ["rolls", "kg", *one.columns[2:]])
    ),
    "name of the index": _set(lambda one: setattr(one.index, "name", "row")),
    "name of the columns": _set(lambda one: setattr(one.columns, "name", "column")),
    "another index": _set(lambda one: setattr(one, "index", range(5, 1005))),
    "rows reversed": lambda one: one[::-1],
    "rows cut": lambda one: one.iloc[:999],
    "attrs": _set(lambda one: one.attrs.__setitem__("mill", 1)),
    "flags": lambda one: one.set_flags(allows_duplicate_labels=False),
    "fillna": lambda one: one.fillna(0).replace({"style": {"7": "8"}}),
    "another zone": lambda one: one.assign(shift=one["shift"].dt.tz_convert("UTC")),
    "sorted": lambda one: one.sort_values("kg", ascending=False),
    "another class": Sheet,
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_frame_is_never_taken_for_the_cached_one(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = Cached(frame(), monkeypatch)
    unchanged = digest(cached.served())
    changed = CHANGES[name](cached.served())
    if name == "another class":
        with pytest.raises(CacheKeyError):
            digest(changed)
    else:
        assert digest(changed) != unchanged
    assert digest(cached.served()) == unchanged


def test_a_frame_that_the_cache_dropped_is_hashed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    cached = Cached(frame(), monkeypatch)
    served = cached.served()
    unchanged = digest(served)
    del cached.kept
    gc.collect()
    served.iloc[0, 0] = 5.0
    assert digest(served) != unchanged


def test_frames_that_are_gone_are_not_remembered() -> None:
    gc.collect()
    before = len(served_frames._SERVED)
    for _ in range(20):
        isolate(frame())
    gc.collect()
    assert len(served_frames._SERVED) <= before
