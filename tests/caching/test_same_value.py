"""Two results are the same if a caller would take them for one answer."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import math
import zoneinfo
from array import array
from collections import OrderedDict, deque, namedtuple
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flask_knitperf.caching.same_value import is_same

Point = namedtuple("Point", "x y")


class Color(enum.Enum):
    RED = 1
    BLUE = 2


@dataclasses.dataclass
class Order:
    number: int
    kg: float
    notes: list[str] = dataclasses.field(default_factory=list)


class Slotted:
    __slots__ = ("a",)

    def __init__(self, a: Any) -> None:
        self.a = a


def _cycle(end: int) -> list[Any]:
    items: list[Any] = [1, end]
    items.append(items)
    return items


_NOON = dt.datetime(2026, 11, 30, 12, tzinfo=dt.UTC)
_SAME: list[Any] = [
    lambda: Decimal("nan"), lambda: {float("nan"), 1}, lambda: deque([float("nan")]),
    lambda: np.array([(math.nan, 1)], dtype=[("a", "f8"), ("b", "i4")]),
    lambda: None, lambda: 0.1 + 0.2, lambda: math.nan, lambda: Decimal("1.10"), lambda: _NOON,
    lambda: "text" * 3, lambda: b"bytes", lambda: [1, [2.5, {"a": {1, 2}}]], lambda: deque([1, 2]),
    lambda: OrderedDict(a=1), lambda: Point(1, [2]), lambda: Color.RED, lambda: Order(1, 2.5, ["x"]),
    lambda: Slotted([1]), object, lambda: ValueError("x", 1), lambda: np.float64(1.5),
    lambda: np.array([1.0, math.nan]), lambda: np.array([[1], "a"], dtype=object),
    lambda: np.array(["NaT", "2026-01-01"], dtype="M8[ns]"), lambda: pd.NaT, lambda: pd.NA,
    lambda: pd.DataFrame({"kg": [1.5, math.nan], "style": ["a", None]}),
    lambda: pd.DataFrame({"notes": [[1], {"a": 2}]}), lambda: pd.Series(["a", "b"], dtype="category"),
    lambda: pd.Index([1, 2], name="n"), pd.DataFrame, lambda: _cycle(2),
    lambda: pd.Timestamp("2026-11-30", tz="Europe/Berlin"), lambda: {"a": pd.Series([1])},
]  # fmt: skip


@pytest.mark.parametrize("create", _SAME, ids=[str(number) for number in range(len(_SAME))])
def test_two_equal_values_are_the_same(create: Any) -> None:
    assert is_same(create(), create())


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (0.1 + 0.2, 0.3),
        (sum([0.1] * 10), 1.0),
        (1e300 * (1 + 1e-12), 1e300),
        ([0.1 + 0.2], [0.3]),
        (pd.DataFrame({"kg": [0.1 + 0.2]}), pd.DataFrame({"kg": [0.3]})),
        (np.array([0.1 + 0.2]), np.array([0.3])),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (0.0, -0.0),
        (0.0, 1e-17),
        ({0.1 + 0.2, 5}, {5, 0.3}),
        (np.array([0.0]), np.array([1e-17])),
        (deque([0.1 + 0.2]), deque([0.3])),
        (pd.DataFrame({"kg": [0.0]}), pd.DataFrame({"kg": [1e-17]})),
        (array("d", [0.1 + 0.2]), array("d", [0.3])),
        (complex(0.1 + 0.2, 1), complex(0.3, 1)),
    ],
)
def test_the_last_digits_and_the_order_of_keys_do_not_matter(first: Any, second: Any) -> None:
    assert is_same(first, second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (1, True), (1, 1.0), (1.0, 1.0000001), (math.nan, 0.0), (0.0, 1e-9), ({0.1}, {0.3}),
        (None, ""), ("", b""), ("a", "A"), (Decimal("1.0"), Decimal("1.00")), ([1], (1,)),
        ([1, 2], [1]), ({"a": 1}, {"a": 1, "b": None}), ({"a": None}, {"b": None}), ({1}, {1, 2}),
        (_NOON, _NOON.astimezone(zoneinfo.ZoneInfo("Europe/Berlin"))),
        (Point(1, 2), Point(1, 3)), (Color.RED, Color.BLUE), (Order(1, 2.5), Order(1, 2.6)),
        (Slotted(1), Slotted(2)), (ValueError("a"), ValueError("b")), (ValueError("a"), KeyError("a")),
        (np.array([1, 2]), np.array([1, 3])), (np.array([1]), np.array([1.0])),
        (np.array([1]), np.array([[1]])), (np.float64(1), np.float64(2)), (np.int32(1), np.int64(1)),
        (np.array([1, "a"], dtype=object), np.array([1, "b"], dtype=object)),
        (pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [2]})),
        (pd.DataFrame({"a": [1]}), pd.DataFrame({"b": [1]})),
        (pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [1.0]})),
        (pd.DataFrame({"a": [1]}, index=[0]), pd.DataFrame({"a": [1]}, index=[1])),
        (pd.DataFrame({"a": [1, "x"]}), pd.DataFrame({"a": [True, "x"]})),
        (pd.DataFrame({"a": [[1]]}), pd.DataFrame({"a": [[2]]})),
        (pd.Series([1.0, math.nan]), pd.Series([1.0, 0.0])), (pd.NaT, None),
        (pd.Series(["a"], dtype="category"), pd.Series(["a"], dtype=object)),
        (_cycle(2), _cycle(3)), (object(), 1),
    ],
)  # fmt: skip
def test_two_different_values_are_not(first: Any, second: Any) -> None:
    assert not is_same(first, second) and not is_same(second, first)


def test_the_attributes_of_a_frame_and_of_a_list_with_attributes_count() -> None:
    class Rows(list[int]):
        total = 0

    first, second = Rows([1]), Rows([1])
    assert is_same(first, second)
    second.total = 7
    assert not is_same(first, second)
    one, other = pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [1]})
    other.attrs["unit"] = "kg"
    assert not is_same(one, other)
