"""Sizes of cached values, and dicts of the newest entries."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flask_knitperf.caching import sizes
from flask_knitperf.caching.sizes import newest_within, size_of

MB = 1 << 20


class Order:
    """An instance with an attribute."""

    def __init__(self, lines: Any) -> None:
        self.lines = lines


SIZES: list[tuple[str, Any, int]] = [
    ("bytes", bytes(MB), MB),
    ("array", np.zeros(MB, np.uint8), MB),
    ("view of an array", np.zeros(MB, np.uint8)[: MB // 2], MB // 2),
    ("frame", pd.DataFrame({"n": np.zeros(MB // 8)}), MB),
    ("series", pd.Series(np.zeros(MB // 8)), MB),
    ("index", pd.Index(np.zeros(MB // 8)), MB),
    ("list", [bytes(MB), bytes(MB)], 2 * MB),
    ("tuple in a dict", {"a": (bytes(MB),)}, MB),
    ("set", {bytes(MB)}, MB),
    ("instance", Order(bytes(MB)), MB),
]


@pytest.mark.parametrize(
    ("value", "size"), [row[1:] for row in SIZES], ids=[row[0] for row in SIZES]
)
def test_the_size_of_a_value_is_that_of_its_data(value: Any, size: int) -> None:
    assert size <= size_of([value]) < size * 1.01 + 2000


def test_an_object_is_counted_once() -> None:
    value = bytes(MB)
    assert size_of([value, [value], value]) < 1.01 * MB


def test_a_container_may_contain_itself() -> None:
    value: list[Any] = []
    value.append(value)
    assert size_of([value]) < 1000


def test_modules_and_classes_are_not_followed() -> None:
    assert size_of([Order([sys, Order])]) < 10_000


def test_the_number_of_objects_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "_MAX_OBJECTS", 10)
    assert size_of([bytes(1000) for _ in range(100)]) < 20_000


@pytest.mark.parametrize(
    ("max_mb", "kept"), [(10, [0, 1, 2]), (2.5, [1, 2]), (1.5, [2]), (0.5, []), (0, [])]
)
def test_the_newest_entries_within_a_limit_are_kept_in_order(
    max_mb: float, kept: list[int]
) -> None:
    assert list(newest_within({n: bytes(MB) for n in range(3)}, max_mb)) == kept
