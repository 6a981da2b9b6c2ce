"""Rows are limited, and removed only on demand: with a warning, or with the removed rows returned."""

from __future__ import annotations

import asyncio
import collections
import warnings
from typing import Any, NamedTuple

import pandas as pd
import pytest

from flask_knitperf import KnitPerf
from flask_knitperf.frames import (
    FrameError,
    FrameSizeWarning,
    FrameTooLargeError,
    drop_duplicate_rows,
    limit_dataframe_size,
    limit_rows,
)
from flask_knitperf.frames.verify import differences

FRAME = pd.DataFrame({"style": ["a", "b", "a", "a"], "pounds": [1, 2, 1, 3]}, index=[5, 6, 7, 8])


class Stock(NamedTuple):
    """A result with names."""

    name: str
    rows: pd.DataFrame


def stock() -> pd.DataFrame:
    return FRAME


def test_duplicate_rows_are_returned_apart() -> None:
    before = FRAME.copy()
    unique, repeated = drop_duplicate_rows(FRAME)
    assert unique.index.tolist() == [5, 6, 8] and repeated.index.tolist() == [7]
    unique, repeated = drop_duplicate_rows(FRAME, ["style"])
    assert unique.index.tolist() == [5, 6] and repeated.index.tolist() == [7, 8]
    unique.iloc[0, 1] = 99
    assert differences(before, FRAME) == []
    with pytest.raises(FrameError, match="rows cannot be compared"):
        drop_duplicate_rows(pd.DataFrame({"a": [[1], [1]], "b": [1, 1]}))


@pytest.mark.parametrize(("max_rows", "first_rows"), [(0, 0), (3, 3), (4, 4), (9, 4)])
def test_rows_beyond_the_limit_are_returned_apart(max_rows: int, first_rows: int) -> None:
    first, rest = limit_rows(FRAME, max_rows)
    assert len(first) == first_rows and differences(pd.concat([first, rest]), FRAME) == []
    with pytest.raises(FrameError, match="max_rows is -1"):
        limit_rows(FRAME, -1)


def test_too_many_rows_raise_unless_another_behaviour_is_chosen() -> None:
    with pytest.raises(FrameTooLargeError, match="stock returned 4 rows, and max_rows is 3; "):
        limit_dataframe_size(3)(stock)()
    assert limit_dataframe_size(4)(stock)() is FRAME
    with pytest.warns(FrameSizeWarning, match="and max_rows is 3$") as caught:
        assert limit_dataframe_size(3, "warn")(stock)() is FRAME
    assert caught[0].filename == __file__
    with pytest.warns(FrameSizeWarning, match="the last one was removed$"):
        assert limit_dataframe_size(3, "truncate")(stock)().index.tolist() == [5, 6, 7]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        limit_dataframe_size(4, "truncate")(stock)()


def test_a_single_row_is_counted_in_the_singular() -> None:
    frame = pd.DataFrame({"a": [1]})
    with pytest.raises(FrameTooLargeError, match="has 1 row, and max_rows is 0; "):
        limit_dataframe_size(frame, 0)


def test_a_coroutine_function_is_limited_too() -> None:
    async def fetch() -> pd.DataFrame:
        return FRAME

    assert asyncio.run(limit_dataframe_size(4)(fetch)()) is FRAME
    with pytest.raises(FrameTooLargeError, match="fetch returned 4 rows"):
        asyncio.run(limit_dataframe_size(3)(fetch)())


@pytest.mark.parametrize(("value", "path"), [
    ({"stock": FRAME}, "['stock']"), ([1, FRAME], "[1]"), ((FRAME, 1), "[0]"),
    ({"a": 1, "b": {"c": [{}, {"d": (1, FRAME)}]}}, "['b']['c'][1]['d'][1]"),
    (collections.OrderedDict(a=FRAME), "['a']"), (Stock("x", FRAME), "[1]"),
    (collections.defaultdict(list, {7: [FRAME]}), "[7][0]"),
], ids=str)  # fmt: skip
def test_frames_in_containers_are_limited_at_any_depth(value: Any, path: str) -> None:
    with pytest.raises(FrameTooLargeError) as caught:
        limit_dataframe_size(3)(lambda: value)()
    assert f"returned 4 rows in {path}, and max_rows is 3; " in str(caught.value)
    with pytest.raises(FrameTooLargeError, match=r"^the argument has 4 rows in "):
        limit_dataframe_size(value, 3)
    assert limit_dataframe_size(4)(lambda: value)() is value
    with pytest.warns(FrameSizeWarning) as warned:
        assert limit_dataframe_size(3, "warn")(lambda: value)() is value
    assert len(warned) == 1 and warned[0].filename == __file__


@pytest.mark.parametrize("make", [
    lambda frame: {"rows": frame, "total": 4}, lambda frame: ["a", frame], lambda frame: (frame, None),
    lambda frame: Stock("a", frame), lambda frame: collections.OrderedDict(a=1, b=frame),
    lambda frame: {"a": [{"b": frame}], "c": frame},
])  # fmt: skip
def test_truncating_leaves_the_containers_of_the_function_alone(make: Any) -> None:
    original = make(FRAME)
    with pytest.warns(FrameSizeWarning, match="the last one was removed$"):
        limited = limit_dataframe_size(3, "truncate")(lambda: original)()
    assert type(limited) is type(original) and str(limited) == str(make(FRAME.iloc[:3]))
    assert str(original) == str(make(FRAME))


def test_a_container_that_contains_itself_is_checked_once() -> None:
    ring: dict[str, Any] = {"rows": FRAME}
    ring["ring"] = ring
    assert limit_dataframe_size(4)(lambda: ring)() is ring
    with pytest.raises(FrameTooLargeError, match=r"4 rows in \['rows'\]"):
        limit_dataframe_size(3)(lambda: ring)()


@pytest.mark.parametrize(
    "value", [None, 5, [1, [2]], {"a": {}}, pd.Series([1]), "text", {1, 2}, ()]
)
def test_results_without_frames_are_returned_unchanged(value: Any) -> None:
    assert limit_dataframe_size(0)(lambda: value)() is value


def test_wrong_arguments_raise_when_the_function_is_decorated() -> None:
    for max_rows in (-5, None, "many", 0.5):
        with pytest.raises(FrameError, match=f"max_rows is {max_rows!r}"):
            limit_dataframe_size(max_rows)  # type: ignore[call-overload]
    with pytest.raises(FrameError, match='on_exceed is \'drop\'; it must be "raise", "warn"'):
        limit_dataframe_size(5, "drop")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="unexpected keyword argument 'rows'"):
        limit_dataframe_size(rows=5)  # type: ignore[call-overload]


def test_the_extension_has_the_decorator_too() -> None:
    limited = KnitPerf().memory.limit_dataframe_size(max_rows=3)(stock)
    with pytest.raises(FrameTooLargeError):
        limited()
