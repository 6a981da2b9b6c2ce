"""Values: each caller's is separate from every other's, or the value is refused."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import gc
import io
import pathlib
import sqlite3
import threading
import types
import uuid
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flask_knitperf.caching.cacheability import NotCacheable
from flask_knitperf.caching.immutability import is_immutable
from flask_knitperf.caching.values import isolate

MIDNIGHT = dt.datetime(2026, 10, 25)  # noqa: DTZ001


class Colour(enum.Enum):
    RED = 1


IMMUTABLE: list[Any] = [
    None, ..., NotImplemented, True, 1, 1.5, 1j, "a", b"a", range(3), decimal.Decimal(1),
    uuid.UUID(int=1),
    dt.date(2026, 1, 1), MIDNIGHT, dt.time(1), dt.timedelta(1), dt.UTC, (),
    (1, "a", (2.5,)), frozenset({1, "a"}), Colour.RED, pathlib.Path("a"), np.float64(1), np.int32(1),
    pd.Timestamp("2026-01-01"), pd.NaT, pd.NA, pd.Timedelta(1), pd.Period("2026-01"),
    pd.Interval(0, 1), len, int, types,
]  # fmt: skip
MUTABLE: list[Any] = [
    [], {}, set(), bytearray(b"a"), ([],), np.array([1]), pd.Series([1]), pd.Index([1]),
    pd.DataFrame({"a": [1]}), collections.deque(), types.SimpleNamespace(),
    np.zeros(1, dtype=[("a", "i4")])[0],
]  # fmt: skip


@pytest.mark.parametrize("value", IMMUTABLE, ids=lambda value: type(value).__name__)
def test_an_immutable_value_is_kept_as_it_is(value: Any) -> None:
    isolated = isolate(value)
    assert isolated.value is value and isolated.copy is None and isolated.size > 0


@pytest.mark.parametrize("value", MUTABLE, ids=lambda value: type(value).__name__)
def test_a_mutable_value_is_not_taken_for_an_immutable_one(value: Any) -> None:
    assert not is_immutable(value)


@dataclasses.dataclass
class Order:
    lines: list[int]


def shared() -> Any:
    lines = [1]
    return [lines, lines]


def cyclic() -> Any:
    loop: list[Any] = [1]
    loop.append((loop, {"me": loop}))
    return loop


COPIED: list[Any] = [
    [1, [2]], {"a": [1]}, ([1], 2), {1, 2}, bytearray(b"a"), Order([1]), shared(),
    collections.OrderedDict(a=[1]), collections.defaultdict(list, a=[1]), collections.Counter("ab"),
    np.array([1.5]), np.array([[1], None], dtype=object), {"frame": pd.DataFrame({"a": [1]})},
    types.SimpleNamespace(a=[1]), (1, (2, [3])),
]  # fmt: skip


@pytest.mark.parametrize("value", COPIED, ids=lambda value: type(value).__name__)
def test_a_copy_is_equal_and_separate(value: Any) -> None:
    isolated = isolate(value)
    assert isolated.copy is not None
    one, other = isolated.copy(isolated.value), isolated.copy(isolated.value)
    assert one is not other and one is not value and isolated.value is not value
    assert str(one) == str(other) == str(value) and type(one) is type(value)


def test_what_is_shared_within_a_value_is_shared_within_its_copy() -> None:
    isolated = isolate(shared())
    assert isolated.copy is not None
    one, other = isolated.copy(isolated.value)
    assert one is other
    loop = isolate(cyclic())
    assert loop.copy is not None
    copied = loop.copy(loop.value)
    assert copied[1][0] is copied and copied[1][1]["me"] is copied and copied is not loop.value
    frame = pd.DataFrame({"a": [1]})
    both = isolate([frame, frame])
    assert both.copy is not None
    first, second = both.copy(both.value)
    assert first is second


FRAMES: dict[str, Any] = {
    "numbers": pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5]}),
    "text": pd.DataFrame({"a": ["x", "y"]}),
    "lists": pd.DataFrame({"a": [[1], [2]], "b": [1, 2]}),
    "nested": pd.DataFrame({"a": [{"b": [1]}, None]}),
    "twice": pd.DataFrame([[[1], [2]], [[3], [4]]], columns=["a", "a"]),
    "mixed": pd.DataFrame({"a": [1, "x", decimal.Decimal(2)]}, dtype=object),
    "category": pd.DataFrame({"a": pd.Categorical(["x", "y"])}),
    "series": pd.Series([1, 2], name="s"),
    "series of lists": pd.Series([[1], [2]], name="s", index=["x", "y"]),
    "index": pd.Index(["x", "y"], name="i"),
    "index of tuples": pd.Index([("a", 1), ("b", 2)], tupleize_cols=False),
    "multi": pd.MultiIndex.from_tuples([("a", 1), ("b", 2)]),
    "empty": pd.DataFrame(),
}


def assert_equal(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other)
    elif isinstance(one, pd.Series):
        pd.testing.assert_series_equal(one, other)
    else:
        pd.testing.assert_index_equal(one, other)


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_is_equal_and_separate(name: str) -> None:
    frame = FRAMES[name]
    isolated = isolate(frame)
    assert isolated.copy is not None
    for _ in range(2):
        one = isolated.copy(isolated.value)
        assert_equal(one, frame)
        if isinstance(one, pd.DataFrame) and len(one.columns):
            cell = one.iat[0, 0]
            if isinstance(cell, list):
                cell.append(9)
            elif isinstance(cell, dict):
                cell["b"].append(9)
            one.insert(0, "new", 1)
        elif isinstance(one, pd.Series):
            if isinstance(one.iloc[0], list):
                one.iloc[0].append(9)
            one.iloc[1] = one.iloc[0]
        one.name = "other"
    assert_equal(isolated.copy(isolated.value), frame)


def test_an_array_that_the_loader_still_has_is_not_shared() -> None:
    cells = np.array([1.0, 2.0])
    isolated = isolate(pd.DataFrame(cells, columns=["a"], copy=False))
    cells[0] = 99.0
    assert isolated.copy is not None
    assert isolated.copy(isolated.value)["a"].tolist() == [1.0, 2.0]


def test_labels_that_a_caller_writes_to_are_not_those_of_another() -> None:
    columns = pd.MultiIndex.from_tuples([("kg", "plan"), ("kg", "real")])
    isolated = isolate(pd.DataFrame([[1, 2]], columns=columns))
    assert isolated.copy is not None
    isolated.copy(isolated.value).columns.values[0] = ("changed", "x")
    assert isolated.copy(isolated.value).columns.values[0] == ("kg", "plan")
    within = isolate([pd.DataFrame([[1, 2]], columns=columns)])
    assert within.copy is not None
    within.copy(within.value)[0].columns.values[0] = ("changed", "x")
    assert within.copy(within.value)[0].columns.values[0] == ("kg", "plan")


def test_an_array_without_copies_of_its_cells_is_not_shared() -> None:
    cells = np.array([1.0, 2.0])
    isolated = isolate(cells)
    assert isolated.copy is not None
    cells[0] = 99.0
    one = isolated.copy(isolated.value)
    one[1] = 99.0
    assert isolated.value.tolist() == [1.0, 2.0]


async def coroutine() -> None: ...


async def agenerator() -> Any:
    yield 1


def refused() -> list[Any]:
    connection = sqlite3.connect(":memory:")
    values = [
        iter([1]), (n for n in [1]), map(str, [1]), zip([1], strict=True), io.StringIO("a"),
        io.BytesIO(b"a"), agenerator(), asyncio.Future(loop=asyncio.new_event_loop()), connection,
        connection.cursor(), [iter([1])], {"a": io.StringIO()}, ([io.StringIO()],),
        threading.Lock(), {"lock": threading.Lock()}, Order([threading.Lock()]),  # type: ignore[list-item]
        pd.DataFrame({"a": [iter([1])]}),
    ]  # fmt: skip
    connection.close()
    values[7].get_loop().close()
    return values


@pytest.mark.parametrize("place", range(len(refused())))
def test_a_value_of_one_caller_is_refused_with_a_reason(place: int) -> None:
    with pytest.raises(NotCacheable) as refusal:
        isolate(refused()[place])
    assert str(refusal.value)


def test_a_coroutine_is_refused() -> None:
    awaited = coroutine()
    with pytest.raises(NotCacheable, match="await it"):
        isolate(awaited)
    awaited.close()


def test_a_row_of_a_database_session_is_refused() -> None:
    import sqlalchemy
    from sqlalchemy import orm

    class Base(orm.DeclarativeBase):
        pass

    class Yarn(Base):
        __tablename__ = "yarn"
        id = orm.mapped_column(sqlalchemy.Integer, primary_key=True)

    for value in (Yarn(id=1), [Yarn(id=1)], {"yarn": Yarn(id=1)}):
        with pytest.raises(NotCacheable, match="plain values"):
            isolate(value)


def test_sizes_are_those_of_the_content() -> None:
    assert isolate(pd.DataFrame({"a": np.arange(10_000)})).size == pytest.approx(80_000, rel=0.1)
    assert isolate(["x" * 1000 + str(n) for n in range(100)]).size == pytest.approx(
        105_000, rel=0.1
    )


@pytest.mark.parametrize("part", ["frame", "column", "rows", "masked", "category"])
def test_what_is_left_of_a_frame_can_be_written_to_after_the_cache_has_dropped_it(
    part: str,
) -> None:
    frame = pd.DataFrame({
        "kg": [1.0, 2.0], "rolls": pd.array([1, None], dtype="Int64"),
        "style": pd.Categorical(["a", "b"]),
    })  # fmt: skip
    kept = isolate(frame)
    assert kept.copy is not None
    served = kept.copy(kept.value)
    name = {"masked": "rolls", "category": "style"}.get(part, "kg")
    left = {"frame": served, "rows": served.iloc[:1]}.get(part, served[name])
    del served, kept
    gc.collect()
    if isinstance(left, pd.DataFrame):
        left.iloc[0, 0] = 9.0
        assert left.iloc[0, 0] == 9.0
    else:
        left.iloc[0] = left.iloc[1] if part == "category" else 9
        assert left.iloc[0] == ("b" if part == "category" else 9)
