"""Functions that return frames: no value is another, and no row goes without a word."""

from __future__ import annotations

import asyncio
import inspect
import logging
import warnings
from typing import Any

import pandas as pd
import pytest

from flask_knitperf import KnitPerf
from flask_knitperf.frames import (
    FrameError,
    FrameSizeWarning,
    FrameTooLargeError,
    decorators,
    drop_duplicate_rows,
    limit_dataframe_size,
    limit_rows,
    memory_efficient,
)
from flask_knitperf.frames.verify import differences

FRAME = pd.DataFrame({"style": ["a", "b", "a", "a"], "pounds": [1, 2, 1, 3]}, index=[5, 6, 7, 8])


def test_equal_rows_are_given_back(caplog: pytest.LogCaptureFixture) -> None:
    before = FRAME.copy()
    kept, gone = drop_duplicate_rows(FRAME)
    assert kept.index.tolist() == [5, 6, 8] and gone.index.tolist() == [7]
    kept, gone = drop_duplicate_rows(FRAME, ["style"])
    assert kept.index.tolist() == [5, 6] and gone.index.tolist() == [7, 8]
    kept.iloc[0, 1] = 99
    assert differences(before, FRAME) == []
    with pytest.raises(FrameError, match="rows cannot be compared"):
        drop_duplicate_rows(pd.DataFrame({"a": [[1], [1]], "b": [1, 1]}))


@pytest.mark.parametrize(("most", "kept"), [(0, 0), (3, 3), (4, 4), (9, 4)])
def test_the_rest_of_a_frame_is_given_back(most: int, kept: int) -> None:
    first, rest = limit_rows(FRAME, most)
    assert len(first) == kept and differences(pd.concat([first, rest]), FRAME) == []
    with pytest.raises(FrameError, match="max_rows is -1"):
        limit_rows(FRAME, -1)


def test_a_returned_frame_is_smaller_and_says_by_how_much(caplog: pytest.LogCaptureFixture) -> None:
    @memory_efficient()
    def stock(count: int, *, price: float = 0.5) -> pd.DataFrame:
        """Return the stock."""
        return pd.DataFrame({"n": range(count), "price": price})

    with caplog.at_level(logging.INFO, "flask_knitperf"):
        made = stock(1000, price=0.25)
    assert str(made["n"].dtype) == "int32" and made["n"].tolist() == list(range(1000))
    saved: decorators.Saved = stock.saved  # type: ignore[attr-defined]
    assert (saved.frames, saved.before, saved.after) == (1, 16_000, 12_000)
    assert "stock returns 11.7 KB instead of 15.6 KB" in caplog.text
    assert stock.__name__ == "stock" and stock.__doc__ == "Return the stock."
    assert list(inspect.signature(stock).parameters) == ["count", "price"]


def test_a_decorator_without_arguments_is_one_too() -> None:
    @memory_efficient
    def stock() -> pd.DataFrame:
        return FRAME

    assert str(stock()["pounds"].dtype) == "int32" and stock.__name__ == "stock"
    assert stock.saved.frames == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("keep", ["pounds", ["pounds", "of another frame"]])
def test_a_decorator_keeps_the_columns_that_a_frame_has(keep: Any) -> None:
    stock = memory_efficient("compact", keep)(lambda: FRAME.assign(rolls=FRAME["pounds"]))
    assert stock()[["pounds", "rolls"]].dtypes.tolist() == ["int64", "int8"]


@pytest.mark.parametrize("value", [None, 5, [FRAME], pd.Series([1]), "text"])
def test_whatever_is_no_frame_is_returned_as_it_is(value: Any) -> None:
    assert memory_efficient()(lambda: value)() is value
    assert limit_dataframe_size(0)(lambda: value)() is value


def test_coroutines_stay_coroutines() -> None:
    @limit_dataframe_size(10)
    @memory_efficient(level="compact")
    async def stock() -> pd.DataFrame:
        return FRAME

    assert inspect.iscoroutinefunction(stock)
    assert str(asyncio.run(stock())["pounds"].dtype) == "int8"


def test_what_fails_of_ours_is_said_once_and_the_frame_is_returned(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("ours")

    monkeypatch.setattr(decorators, "optimize_dataframe", fail)
    stock = memory_efficient()(lambda: FRAME)
    assert stock() is FRAME and stock() is FRAME
    assert caplog.text.count("stays as it is") == 1


def test_too_many_rows_raise_unless_something_else_was_asked_for() -> None:
    def stock() -> pd.DataFrame:
        return FRAME

    with pytest.raises(FrameTooLargeError, match="stock returned 4 rows, and 3 are allowed"):
        limit_dataframe_size(3)(stock)()
    assert limit_dataframe_size(4)(stock)() is FRAME
    with pytest.warns(FrameSizeWarning, match="and 3 are allowed$") as caught:
        assert limit_dataframe_size(3, "warn")(stock)() is FRAME
    assert caught[0].filename == __file__
    with pytest.warns(FrameSizeWarning, match="the last 1 were cut$"):
        assert limit_dataframe_size(3, "truncate")(stock)().index.tolist() == [5, 6, 7]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        limit_dataframe_size(4, "truncate")(stock)()


def test_wrong_arguments_are_said_when_a_function_is_decorated() -> None:
    with pytest.raises(FrameError, match="max_rows is -5"):
        limit_dataframe_size(-5)
    with pytest.raises(FrameError, match="raise, warn or truncate, and not 'drop'"):
        limit_dataframe_size(5, "drop")  # type: ignore[arg-type]
    with pytest.raises(FrameError, match="no level"):
        memory_efficient("x")  # type: ignore[arg-type]


def test_the_extension_has_them_in_both_ways_of_writing() -> None:
    memory = KnitPerf().memory

    @memory.memory_efficient
    def plain() -> pd.DataFrame:
        return FRAME

    @memory.memory_efficient(level="compact")
    def asked() -> pd.DataFrame:
        return FRAME

    @memory.limit_dataframe_size(max_rows=3)
    def limited() -> pd.DataFrame:
        return FRAME

    assert str(plain()["pounds"].dtype) == "int32" and str(asked()["pounds"].dtype) == "int8"
    with pytest.raises(FrameTooLargeError):
        limited()
