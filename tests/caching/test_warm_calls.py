"""Calls that can be repeated in another process are written as data, and read as the same calls."""

from __future__ import annotations

import enum
import inspect
import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_knitperf.caching.warm_calls import MAX_CALL_BYTES, Call, call_of, restored, stored

PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**200), 2**200), st.floats(), st.text(max_size=20),
    st.binary(max_size=20), st.dates(), st.decimals(),
    st.datetimes().map(lambda moment: moment.replace(fold=0)),
)  # fmt: skip


class Size(enum.IntEnum):
    SMALL = 1


class Text(str):
    """A text that may be equal to another one by rules that it defines."""


def load(style: Any, quantity: Any = 1, *rest: Any, unit: Any = "kg", **more: Any) -> None:
    """A function with parameters of every kind but one."""


def again(call: Call, function: Callable[..., Any] = load) -> Call | None:
    """Return a call after it was written and read."""
    document = json.loads(json.dumps(stored(inspect.signature(load), call)))
    return restored(inspect.signature(function), document)


@given(st.recursive(PLAIN, lambda inner: st.tuples(inner, inner), max_leaves=4))
def test_plain_arguments_are_the_same_after_reading(value: Any) -> None:
    call = call_of((value, 2, value), {"unit": value, "other": value})
    assert call is not None
    result = again(call)
    assert result is not None
    assert repr(result[:2]) == repr(call[:2])


@pytest.mark.parametrize(
    "value",
    [
        [1], {"a": 1}, {1}, object(), Size.SMALL, Text("a"), 1j, lambda: 1, range(3),
        UTC, timedelta(1), ((((((1,),),),),),), 1 << 300, "x" * MAX_CALL_BYTES,
        datetime(2026, 1, 1, tzinfo=ZoneInfo("Europe/Berlin")),
        datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1))),
        datetime(2026, 10, 25, 2, tzinfo=UTC, fold=1), ([1],),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_a_call_with_any_other_argument_is_not_remembered(value: Any) -> None:
    assert call_of((value,), {}) is None
    assert call_of((), {"style": value}) is None


def test_types_that_are_equal_stay_apart() -> None:
    for value in (1, True, 1.0, Decimal("1.0"), Decimal("1.00"), -0.0, date(2026, 1, 1),
                  datetime(2026, 1, 1, tzinfo=UTC)):  # fmt: skip
        call = call_of((value,), {})
        assert call is not None
        result = again(call)
        assert result is not None
        assert repr(result.args[0]) == repr(value)


def test_arguments_that_are_the_default_are_not_written() -> None:
    call = call_of(("a", 1), {"unit": "kg"})
    assert call is not None
    assert stored(inspect.signature(load), call) == {"style": "a"}


def test_a_call_fits_a_function_that_got_another_parameter() -> None:
    def load(mill: int = 7, style: Any = None) -> None:
        pass

    call = call_of(("a",), {})
    assert call is not None
    result = again(call, load)
    assert result is not None
    assert inspect.signature(load).bind(*result.args, **result.kwargs).arguments["style"] == "a"


@pytest.mark.parametrize(
    "document",
    [
        None, [], "a", {"nosuch": 1}, {"style": ["pickle", "x"]}, {"style": ["int", "x"]},
        {"style": []}, {"style": 1.5}, {"style": ["tuple", 5]}, {}, {"style": ["bytes", "a"]},
        {"style": "a", "more": []}, {"style": {"a": 1}}, {"style": ["date", "99"]},
        {"style": ["int", "9" * 300]},
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_a_document_that_does_not_fit_the_function_is_no_call(document: Any) -> None:
    assert restored(inspect.signature(load), document) is None
