"""Objects are looked at once each, and what is said of them is what every cell would have said."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_knitperf.frames import optimize_dataframe, plan_dataframe
from flask_knitperf.frames.object_arrays import Objects, objects_of, pointers, unequal
from flask_knitperf.frames.verify import differences

NAN = float("nan")
ROWS = 5000


def apart(text: str) -> str:
    """Return an equal text that is another object."""
    return "".join([text[:1], text[1:]])


def objects(values: list[Any]) -> Any:
    held = np.empty(len(values), dtype=object)
    held[:] = values
    return held


cells = st.one_of(
    st.none(), st.booleans(), st.integers(-1, 2), st.sampled_from([0.0, 1.0, NAN]),
    st.just(float("nan")),
    st.sampled_from(["a", "b", "a\x00"]), st.just("a").map(apart), st.just(Decimal(1)), st.just(pd.NaT),
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


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(cells, cells), max_size=20))
def test_what_is_unequal_is_what_comparing_each_pair_finds(pairs: list[tuple[Any, Any]]) -> None:
    was, now = objects([one for one, _ in pairs]), objects([other for _, other in pairs])
    wanted = [n for n, (one, other) in enumerate(pairs) if not same(one, other)]
    assert unequal(was, Objects(now, None)).tolist() == wanted
    places = np.arange(len(now))[::-1].copy()
    assert unequal(was, Objects(now[::-1].copy(), places)).tolist() == wanted


@settings(deadline=None)
@given(st.lists(cells, min_size=1, max_size=5), st.integers(1, 40))
def test_every_cell_is_found_among_the_objects(few: list[Any], times: int) -> None:
    held = objects(few * times)
    seen = objects_of(held)
    assert all(one is other for one, other in zip(held, seen.spread(seen.each), strict=True))
    assert pointers(held).tolist() == list(map(id, held))
    if times > 1:
        assert seen.places is not None and len(seen.each) == len(set(map(id, few)))


@pytest.mark.parametrize("level", ["safe", "balanced", "compact", "pack"])
@pytest.mark.parametrize("change", [
    lambda text, n: text, lambda text, n: apart(text), lambda text, n: NAN if n % 9 == 0 else text,
    lambda text, n: float("nan") if n % 9 == 0 else apart(text),
    lambda text, n: None if n == 3 else text,
    lambda text, n: None if n == 3 else apart(text), lambda text, n: 5 if n == 3 else text,
    lambda text, n: 5 if n == 3 else apart(text), lambda text, n: np.str_(text) if n == 3 else text,
    lambda text, n: np.str_(text) if n == 3 else apart(text), lambda text, n: text + "\x00" * (n % 2),
    lambda text, n: f"{text} {n}", lambda text, n: 5 if n == 3 else f"{text} {n}",
    lambda text, n: pd.NA if n == 3 else text, lambda text, n: [n] if n == 3 else apart(text),
])  # fmt: skip
def test_shared_and_other_objects_become_the_same_and_stay_what_they_are(
    change: Any, level: Any
) -> None:
    texts = [f"yarn {n}" for n in range(7)]
    held = objects([change(texts[n % 7], n) for n in range(ROWS)])
    frame = pd.DataFrame({"a": pd.Series(held, dtype=object)})
    made = optimize_dataframe(frame, level=level)
    assert differences(frame, made) == []
    assert [type(one) for one in made["a"]] == [type(one) for one in held]
    plan = plan_dataframe(frame, level)
    plan.verify(frame, plan.apply(frame))
    assert str(made["a"].dtype) == plan.columns[0].to


def test_one_cell_that_is_another_is_found_among_many() -> None:
    held = objects([f"yarn {n % 7}" for n in range(ROWS)])
    frame = pd.DataFrame({"a": pd.Series(held, dtype=object)})
    made = optimize_dataframe(frame, level="compact")
    assert str(made["a"].dtype) == "category"
    for value, said in (("yarn 6", "1 cells differ"), (NAN, "other cells are empty")):
        wrong = made.copy()
        wrong.loc[ROWS - 1, "a"] = value
        assert said in differences(frame, wrong)[0]
    other = frame.copy()
    other.loc[4000, "a"] = np.str_(other.loc[4000, "a"])
    assert "1 cells differ" in differences(other, made)[0]
    other.loc[4000, "a"] = None
    assert "other cells are empty" in differences(other, made)[0]
