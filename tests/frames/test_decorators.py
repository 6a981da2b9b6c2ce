"""A decorated function returns the same values in fewer bytes."""

from __future__ import annotations

import asyncio
import inspect
import logging
from typing import Any

import pandas as pd
import pytest

from flask_knitperf import KnitPerf
from flask_knitperf.frames import FrameError, decorators, limit_dataframe_size, memory_efficient

FRAME = pd.DataFrame({"style": ["a", "b", "a", "a"], "pounds": [1, 2, 1, 3]}, index=[5, 6, 7, 8])


def test_a_returned_frame_is_smaller_and_the_saving_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @memory_efficient()
    def stock(count: int, *, price: float = 0.5) -> pd.DataFrame:
        """Return the stock."""
        return pd.DataFrame({"n": range(count), "price": price})

    with caplog.at_level(logging.INFO, "flask_knitperf"):
        smaller = stock(1000, price=0.25)
    assert str(smaller["n"].dtype) == "int32" and smaller["n"].tolist() == list(range(1000))
    saved: decorators.Saved = stock.saved  # type: ignore[attr-defined]
    assert (saved.frames, saved.before, saved.after) == (1, 16_000, 12_000)
    assert "stock returns 11.7 KB instead of 15.6 KB" in caplog.text
    assert stock.__name__ == "stock" and stock.__doc__ == "Return the stock."
    assert list(inspect.signature(stock).parameters) == ["count", "price"]


def test_a_decorator_without_parentheses_works_too() -> None:
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
def test_a_result_that_is_not_a_frame_is_returned_unchanged(value: Any) -> None:
    assert memory_efficient()(lambda: value)() is value


def test_coroutine_functions_remain_coroutine_functions() -> None:
    @limit_dataframe_size(10)
    @memory_efficient(level="compact")
    async def stock() -> pd.DataFrame:
        return FRAME

    assert inspect.iscoroutinefunction(stock)
    assert str(asyncio.run(stock())["pounds"].dtype) == "int8"


def test_an_internal_error_is_logged_once_and_the_frame_is_returned(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("ours")

    monkeypatch.setattr(decorators, "smaller_frame", fail)
    stock = memory_efficient()(lambda: FRAME)
    assert stock() is FRAME and stock() is FRAME
    assert caplog.text.count("is returned unchanged") == 1


def test_a_wrong_level_raises_when_the_function_is_decorated() -> None:
    with pytest.raises(FrameError, match="no level"):
        memory_efficient("x")  # type: ignore[arg-type]


def test_the_extension_has_the_decorator_in_both_forms() -> None:
    memory = KnitPerf().memory

    @memory.memory_efficient
    def plain() -> pd.DataFrame:
        return FRAME

    @memory.memory_efficient(level="compact")
    def compact() -> pd.DataFrame:
        return FRAME

    assert str(plain()["pounds"].dtype) == "int32" and str(compact()["pounds"].dtype) == "int8"
