"""Examining each distinct object once gives the same results as examining every cell."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_knitperf.frames import optimize_dataframe, plan_dataframe
from flask_knitperf.frames.object_arrays import Objects, pointers, unequal, unique_objects
from flask_knitperf.frames.verify import differences

NAN = float("nan")
ROWS = 5000


def equal_copy(text: str) -> str:
    """Return an equal text that is a different object."""
    return "".join([text[:1], text[1:]])


def objects(values: list[Any]) -> Any:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


cells = st.one_of(
    st.none(), st.booleans(), st.integers(-1, 2), st.sampled_from([0.0, 1.0, NAN]),
    st.just(float("nan")),
    st.sampled_from(["a", "b", "a\x00"]), st.just("a").map(equal_copy), st.just(Decimal(1)),
    st.just(pd.NaT),
    st.lists(st.integers(), max_size=1), st.just(np.array([1, 2])), st.just(np.str_("a")),
)  # fmt: skip


def same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    answer = one == other
    nan = isinstance(one, float) and one != one and other != other
    return nan or (isinstance(answer, bool) and answer)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(cells, cells), max_size=20))
def test_unequal_cells_are_those_that_differ_pair_by_pair(pairs: list[tuple[Any, Any]]) -> None:
    before, after = objects([one for one, _ in pairs]), objects([other for _, other in pairs])
    expected = [n for n, (one, other) in enumerate(pairs) if not same(one, other)]
    assert unequal(before, Objects(after, None)).tolist() == expected
    codes = np.arange(len(after))[::-1].copy()
    assert unequal(before, Objects(after[::-1].copy(), codes)).tolist() == expected


@settings(deadline=None)
@given(st.lists(cells, min_size=1, max_size=5), st.integers(1, 40))
def test_every_cell_refers_to_one_of_the_distinct_objects(few: list[Any], times: int) -> None:
    array = objects(few * times)
    distinct = unique_objects(array)
    assert all(
        one is other for one, other in zip(array, distinct.per_cell(distinct.values), strict=True)
    )
    assert pointers(array).tolist() == list(map(id, array))
    if times > 1:
        assert distinct.codes is not None and len(distinct.values) == len(set(map(id, few)))


@pytest.mark.parametrize("level", ["safe", "balanced", "compact", "pack"])
@pytest.mark.parametrize("change", [
    lambda text, n: text, lambda text, n: equal_copy(text), lambda text, n: NAN if n % 9 == 0 else text,
    lambda text, n: float("nan") if n % 9 == 0 else equal_copy(text),
    lambda text, n: None if n == 3 else text,
    lambda text, n: None if n == 3 else equal_copy(text), lambda text, n: 5 if n == 3 else text,
    lambda text, n: 5 if n == 3 else equal_copy(text), lambda text, n: np.str_(text) if n == 3 else text,
    lambda text, n: np.str_(text) if n == 3 else equal_copy(text),
    lambda text, n: text + "\x00" * (n % 2),
    lambda text, n: f"{text} {n}", lambda text, n: 5 if n == 3 else f"{text} {n}",
    lambda text, n: pd.NA if n == 3 else text, lambda text, n: [n] if n == 3 else equal_copy(text),
])  # fmt: skip
def test_text_is_unchanged_whether_its_objects_are_shared_or_not(change: Any, level: Any) -> None:
    texts = [f"yarn {n}" for n in range(7)]
    array = objects([change(texts[n % 7], n) for n in range(ROWS)])
    frame = pd.DataFrame({"a": pd.Series(array, dtype=object)})
    smaller = optimize_dataframe(frame, level=level)
    assert differences(frame, smaller) == []
    assert [type(one) for one in smaller["a"]] == [type(one) for one in array]
    plan = plan_dataframe(frame, level)
    plan.verify(frame, plan.apply(frame))
    assert str(smaller["a"].dtype) == plan.columns[0].to


def test_one_different_cell_is_detected_among_many() -> None:
    array = objects([f"yarn {n % 7}" for n in range(ROWS)])
    frame = pd.DataFrame({"a": pd.Series(array, dtype=object)})
    smaller = optimize_dataframe(frame, level="compact")
    assert str(smaller["a"].dtype) == "category"
    for value, difference in (("yarn 6", "1 cell differs"), (NAN, "other cells are missing")):
        wrong = smaller.copy()
        wrong.loc[ROWS - 1, "a"] = value
        assert difference in differences(frame, wrong)[0]
    other = frame.copy()
    other.loc[4000, "a"] = np.str_(other.loc[4000, "a"])
    assert "1 cell differs" in differences(other, smaller)[0]
    other.loc[4000, "a"] = None
    assert "other cells are missing" in differences(other, smaller)[0]
