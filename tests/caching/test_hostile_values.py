"""Values whose classes misbehave: no caller changes what another one gets, or they are refused."""

from __future__ import annotations

import collections
import contextlib
import copy
import dataclasses
import datetime as dt
import functools
import pathlib
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from flask_knitperf.caching.cacheability import NotCacheable
from flask_knitperf.caching.value_files import Unpicklable, pickled
from flask_knitperf.caching.values import isolate


class Plain:
    """An instance with one list."""

    def __init__(self) -> None:
        self.notes: list[int] = [1]

    def add(self, note: int) -> None:
        self.notes.append(note)


SHARED = Plain()


class Reduced(Plain):
    """Pickled and copied as an object that all share."""

    def __reduce__(self) -> Any:
        return _shared, ()


def _shared() -> Plain:
    return SHARED


class Uncopied(Plain):
    """A deep copy of it is itself."""

    def __deepcopy__(self, memo: Any) -> Uncopied:
        return self


class Hidden(Plain):
    """Its attributes cannot be seen by the usual ways."""

    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        return {}


class Disguised(Plain):
    def __getattribute__(self, name: str) -> Any:
        if name in ("__dict__", "__reduce_ex__", "__class__"):
            raise AttributeError(name)
        return super().__getattribute__(name)


class Slotted:
    __slots__ = iter(["notes"])

    def __init__(self) -> None:
        self.notes = [1]


class Base:
    __slots__ = ("notes",)


class Twice(Base):
    """Two slots with one name, each with a value."""

    __slots__ = ("notes",)

    def __init__(self) -> None:
        self.notes = [1]  # type: ignore[misc]
        Base.notes.__set__(self, [1])  # type: ignore[attr-defined]

    @property
    def all_notes(self) -> list[list[int]]:
        return [self.notes, Base.notes.__get__(self)]  # type: ignore[attr-defined]


class Text(str):
    notes: list[int]


class Number(int):
    notes: list[int]


class Day(dt.date):
    notes: list[int]


class Path(type(pathlib.Path())):  # type: ignore[misc]
    notes: list[int]


class Zone(dt.tzinfo):
    def __init__(self) -> None:
        self.notes = [1]

    def utcoffset(self, _: Any) -> dt.timedelta:
        return dt.timedelta(hours=1)

    dst = utcoffset

    def tzname(self, _: Any) -> str:
        return "mill"


class Row(NamedTuple):
    notes: list[int]


class OddRow(collections.namedtuple("OddRow", "notes")):
    """A named tuple whose iteration shows another list."""

    def __iter__(self) -> Iterator[Any]:
        return iter([SHARED.notes])


class OddList(list[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter([SHARED.notes])


class OddDict(dict[str, Any]):
    def items(self) -> Any:
        return [("notes", SHARED.notes)]


class Hashed(Plain):
    """Hashable by content, as a label is."""

    def __hash__(self) -> int:
        return 7

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hashed)


class Frame(pd.DataFrame):
    """A frame of a library that keeps an attribute in its copies."""

    _metadata = ["notes"]  # noqa: RUF012 (as pandas documents it)

    @property
    def _constructor(self) -> Any:
        return Frame


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    notes: list[int]


def noted(value: Any) -> Any:
    value.notes = [1]
    return value


def counter() -> Callable[[], int]:
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return count

    return step


def default(notes: Any = None) -> Any:
    def show(note: int, notes: list[int] = [1] if notes is None else notes) -> list[int]:
        notes.append(note)
        return notes

    return show


def attribute(value: Any) -> Any:
    return value.notes


def first(value: Any) -> Any:
    return value[0].notes


def with_attrs(item: Any) -> pd.DataFrame:
    frame = pd.DataFrame({"kg": [1]})
    frame.attrs["item"] = item
    return frame


def attrs(frame: Any) -> Any:
    item = frame.attrs["item"]
    return item if isinstance(item, list) else item.notes


def frame_of(cells: list[Any]) -> pd.DataFrame:
    return pd.DataFrame({"a": pd.Series(cells, dtype=object), "kg": 1.0})


def cell(frame: Any) -> Any:
    return frame.iat[0, 0].notes


VALUES: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "plain": (Plain, attribute), "reduced": (Reduced, attribute), "uncopied": (Uncopied, attribute),
    "hidden": (Hidden, attribute), "disguised": (Disguised, attribute), "slots": (Slotted, attribute),
    "text": (lambda: noted(Text("a")), attribute), "number": (lambda: noted(Number(1)), attribute),
    "day": (lambda: noted(Day(2026, 1, 1)), attribute), "path": (lambda: noted(Path("a")), attribute),
    "zone": (lambda: dt.datetime(2026, 1, 1, tzinfo=Zone()), lambda value: value.tzinfo.notes),
    "time": (lambda: dt.time(1, tzinfo=Zone()), lambda value: value.tzinfo.notes),
    "row": (lambda: Row([1]), attribute), "odd row": (lambda: OddRow([1]), attribute),
    "odd list": (lambda: OddList([[1]]), lambda value: list.__getitem__(value, 0)),
    "odd dict": (lambda: OddDict(notes=[1]), lambda value: value["notes"]),
    "frozen": (lambda: Frozen([1]), attribute),
    "partial": (lambda: functools.partial(attribute, Plain()), lambda value: value()),
    "partial of a hostile one": (lambda: functools.partial(attribute, Uncopied()), lambda v: v()),
    "partial of a list": (lambda: functools.partial(list.__iadd__, [1]), lambda value: value([])),
    "partial in a list": (lambda: [functools.partial(attribute, value=Uncopied())], lambda v: v[0]()),
    "method": (lambda: Plain().add, lambda value: value.__self__.notes),
    "method of a hostile one": (lambda: Uncopied().add, lambda value: value.__self__.notes),
    "reference": (lambda: weakref.ref(SHARED), lambda value: value().notes),
    "view": (lambda: types.MappingProxyType({"notes": [1]}), lambda value: value["notes"]),
    "chain": (lambda: collections.ChainMap({"a": [1]}), lambda value: value["a"]),
    "deque": (lambda: collections.deque([Uncopied()]), first),
    "ordered": (lambda: collections.OrderedDict(a=Uncopied()), lambda value: value["a"].notes),
    "user list": (lambda: collections.UserList([Uncopied()]), first),
    "default factory": (
        lambda: collections.defaultdict(Plain().add), lambda v: v.default_factory.__self__.notes,
    ),
    "slice": (lambda: slice([1], None), lambda value: value.start),
    "array": (lambda: np.array([Uncopied()], dtype=object), first),
    "void": (lambda: np.array([(Uncopied(),)], dtype=[("a", "O")])[0], lambda value: value["a"].notes),
    "matrix of objects": (lambda: np.array([[Plain()]], dtype=object), lambda value: value[0][0].notes),
    "default argument": (default, lambda value: value.__defaults__[0]),
    "attribute of a function": (lambda: noted(lambda: 1), attribute),
    "class": (lambda: type("Local", (), {"notes": [1]}), attribute),
    "attrs": (lambda: with_attrs([1]), attrs), "attrs plain": (lambda: with_attrs(Plain()), attrs),
    "attrs reduced": (lambda: with_attrs(Reduced()), attrs),
    "attrs uncopied": (lambda: with_attrs(Uncopied()), attrs),
    "attrs in a list": (lambda: [with_attrs(Uncopied())], lambda value: attrs(value[0])),
    "attrs of a series": (lambda: [noted_series()][0], attrs),
    "text cells": (lambda: frame_of([noted(Text("a")), "b"]), cell),
    "number cells": (lambda: frame_of([noted(Number(1)), 2]), cell),
    "day cells": (lambda: frame_of([noted(Day(2026, 1, 1))]), cell),
    "reduced cells": (lambda: frame_of([Reduced()]), cell),
    "uncopied cells": (lambda: frame_of([Uncopied()]), cell),
    "plain cells": (lambda: frame_of([Plain()]), cell),
    "labels": (lambda: pd.DataFrame({"kg": [1]}, index=[Hashed()]), lambda v: v.index[0].notes),
    "columns": (lambda: pd.DataFrame([[1]], columns=[Hashed()]), lambda v: v.columns[0].notes),
    "levels": (
        lambda: pd.DataFrame({"kg": [1]}, index=pd.MultiIndex.from_arrays([[Hashed()], [1]])),
        lambda value: value.index.levels[0][0].notes,
    ),
    "label of an index": (lambda: pd.Index([Hashed()]), lambda value: value[0].notes),
    "name of a series": (lambda: pd.Series([1], name=Hashed()), lambda value: value.name.notes),
    "name of an index": (lambda: pd.Index([1], name=Hashed()), lambda value: value.name.notes),
    "name of an axis": (
        lambda: pd.DataFrame({"kg": [1]}, index=pd.Index([1], name=Hashed())),
        lambda value: value.index.name.notes,
    ),
    "categories": (
        lambda: pd.DataFrame({"a": pd.Categorical([Hashed()])}),
        lambda value: value["a"].cat.categories[0].notes,
    ),
    "sparse": (
        lambda: pd.DataFrame({"a": pd.arrays.SparseArray(np.array([Plain()], dtype=object))}),
        lambda value: value["a"].array.sp_values[0].notes,
    ),
    "metadata": (lambda: noted(Frame({"kg": [1]})), attribute),
    "metadata in a list": (lambda: [noted(Frame({"kg": [1]}))], first),
}  # fmt: skip


def noted_series() -> pd.Series[Any]:
    series = pd.Series([1])
    series.attrs["item"] = Uncopied()
    return series


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.filterwarnings("ignore:Pandas doesn't allow columns:UserWarning")
def test_a_caller_cannot_change_the_value_of_another(name: str) -> None:
    SHARED.notes = [1]
    create, notes = VALUES[name]
    original = create()
    try:
        isolated = isolate(original)
    except NotCacheable:
        return
    assert isolated.copy is not None, "shared as immutable"
    one, other = isolated.copy(isolated.value), isolated.copy(isolated.value)
    assert type(one) is type(original) and list(notes(one)) == list(notes(original))
    for changed in (original, one):
        notes(changed).append(9)
        assert list(notes(other)) == [1]
        assert list(notes(isolated.copy(isolated.value))) == [1]


NOT_REFUSED = (
    "plain", "text", "number", "row", "frozen", "partial", "method", "chain", "slice", "attrs",
    "attrs plain", "plain cells", "labels", "label of an index", "matrix of objects", "text cells",
)  # fmt: skip


@pytest.mark.parametrize("name", NOT_REFUSED)
def test_what_can_be_copied_faithfully_is_cached(name: str) -> None:
    assert isolate(VALUES[name][0]()).copy is not None


def test_both_slots_of_one_name_are_copied() -> None:
    isolated = isolate(Twice())
    assert isolated.copy is not None
    one, other = isolated.copy(isolated.value), isolated.copy(isolated.value)
    assert one.all_notes == [[1], [1]]
    for notes in one.all_notes:
        notes.append(9)
    assert other.all_notes == [[1], [1]]


def test_a_function_with_a_state_is_refused() -> None:
    with pytest.raises(NotCacheable, match="function"):
        isolate(counter())
    with pytest.raises(NotCacheable, match="function"):
        isolate({"step": counter()})


def test_functions_without_a_state_are_values() -> None:
    for value in (len, attribute, lambda order: order, dict, Plain):
        assert isolate(value).copy is None


def test_an_attribute_that_copies_of_a_frame_would_not_have_is_named() -> None:
    frame = pd.DataFrame({"kg": [1]})
    object.__setattr__(frame, "unit", "kg")
    with pytest.raises(NotCacheable, match=r"attribute 'unit'.*attrs"):
        isolate(frame)
    with pytest.raises(NotCacheable, match="attribute 'unit'"):
        isolate([frame])
    series = pd.Series(["a"])
    assert series.str.upper()[0] == "A" and isolate(series).copy is not None


def test_a_class_that_only_bears_the_name_of_a_library_is_not_trusted() -> None:
    kind = type("Timestamp", (Uncopied,), {"__module__": "pandas"})
    for value in (kind(), [kind()], frame_of([kind()])):
        with pytest.raises(NotCacheable):
            isolate(value)
    scalar = type("float64", (Plain,), {"__module__": "numpy", "dtype": 1})
    assert isolate(scalar()).copy is not None


def test_the_copy_of_an_instance_calls_no_code_of_its_class() -> None:
    calls: list[str] = []

    class Loud(Plain):
        def __new__(cls) -> Loud:
            calls.append("new")
            return super().__new__(cls)

        def __setattr__(self, name: str, value: Any) -> None:
            calls.append("set")
            super().__setattr__(name, value)

    loud = Loud()
    calls.clear()
    isolated = isolate(loud)
    assert isolated.copy is not None
    assert isolated.copy(isolated.value).notes == [1] and calls == []


def test_an_instance_with_state_in_c_is_refused() -> None:
    class Pattern(type(copy.copy(functools.partial(len)))):  # type: ignore[misc]
        pass

    value = Pattern(attribute, Uncopied())
    with pytest.raises(NotCacheable):
        isolate(value)


def indexed(index: Any) -> pd.DataFrame:
    return pd.DataFrame({"kg": [1.0, 2.0]}, index=index)


def columned(column: Any) -> pd.DataFrame:
    return pd.DataFrame({"a": column})


def pairs() -> pd.MultiIndex:
    return pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["x", "y"])


Parts = tuple[Callable[[], Any], Callable[[Any], None], Callable[[Any], Any]]
FRAME_PARTS: dict[str, Parts] = {
    "name of the index": (
        lambda: indexed(pd.Index([5, 6], name="i")), lambda f: setattr(f.index, "name", "x"),
        lambda f: f.index.name,
    ),
    "name of the columns": (
        lambda: indexed([5, 6]), lambda f: setattr(f.columns, "name", "x"), lambda f: f.columns.name,
    ),
    "flags": (
        lambda: indexed([5, 6]), lambda f: setattr(f.flags, "allows_duplicate_labels", False),
        lambda f: f.flags.allows_duplicate_labels,
    ),
    "attrs": (lambda: with_attrs(1), lambda f: f.attrs.update(item=2), lambda f: f.attrs),
    "names of levels": (
        lambda: indexed(pairs()), lambda f: setattr(f.index, "names", ["p", "q"]),
        lambda f: f.index.names,
    ),
    "labels of levels": (
        lambda: indexed(pairs()), lambda f: f.index.values.__setitem__(0, 9), lambda f: f.index.tolist(),
    ),
    "frequency": (
        lambda: indexed(pd.date_range("2026-01-01", periods=2)),
        lambda f: setattr(f.index, "freq", None), lambda f: f.index.freq,
    ),
    "name of categories": (
        lambda: columned(pd.Categorical(["a", "b"])),
        lambda f: setattr(f["a"].cat.categories, "name", "x"), lambda f: f["a"].cat.categories.name,
    ),
    "name of categories of a series": (
        lambda: pd.Series(["a", "b"], dtype="category"),
        lambda s: setattr(s.cat.categories, "name", "x"), lambda s: s.cat.categories.name,
    ),
    "name of intervals": (
        lambda: columned(pd.cut([1, 5], [0, 2, 8])),
        lambda f: setattr(f["a"].cat.categories, "name", "x"), lambda f: f["a"].cat.categories.name,
    ),
    "categories of labels": (
        lambda: indexed(pd.CategoricalIndex(["a", "b"])),
        lambda f: setattr(f.index.categories, "name", "x"), lambda f: f.index.categories.name,
    ),
    "categories of a level": (
        lambda: indexed(pd.MultiIndex.from_arrays([pd.Categorical(["a", "b"]), [1, 2]])),
        lambda f: setattr(f.index.levels[0].categories, "name", "x"),
        lambda f: f.index.levels[0].categories.name,
    ),
    "codes": (
        lambda: columned(pd.Categorical(["a", "b"])), lambda f: f["a"].array.__setitem__(0, "b"),
        lambda f: f["a"].tolist(),
    ),
    "a cell of categories": (
        lambda: columned(pd.Categorical(["a", "b"])), lambda f: f.loc.__setitem__((0, "a"), "b"),
        lambda f: f["a"].tolist(),
    ),
    "mask": (
        lambda: columned(pd.array([1, None], dtype="Int64")),
        lambda f: f["a"].array._mask.__setitem__(0, True), lambda f: repr(f["a"].tolist()),
    ),
    "sparse values": (
        lambda: columned(pd.arrays.SparseArray([0, 1])),
        lambda f: f["a"].array.sp_values.__setitem__(0, 9), lambda f: f["a"].tolist(),
    ),
    "places of sparse values": (
        lambda: columned(pd.arrays.SparseArray([0, 1])),
        lambda f: f["a"].array.sp_index.indices.__setitem__(0, 0), lambda f: f["a"].tolist(),
    ),
    "blocks of sparse values": (
        lambda: columned(pd.arrays.SparseArray([0, 1], kind="block")),
        lambda f: f["a"].array.sp_index.blocs.__setitem__(0, 0), lambda f: f["a"].tolist(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FRAME_PARTS)
@pytest.mark.parametrize("is_nested", [False, True])
def test_no_part_of_a_frame_is_shared(name: str, *, is_nested: bool) -> None:
    create, change, read = FRAME_PARTS[name]
    isolated = isolate([create()] if is_nested else create())
    assert isolated.copy is not None

    def served() -> Any:
        value = isolated.copy(isolated.value)  # type: ignore[misc]
        return value[0] if is_nested else value

    one, other = served(), served()
    with contextlib.suppress(ValueError):  # it is read-only
        change(one)
    assert read(other) == read(served()) == read(create())


def test_a_function_with_globals_of_its_own_is_refused() -> None:
    scope: dict[str, Any] = {"__name__": __name__, "count": [0]}
    exec("def step():\n    count.append(1)\n    return len(count)\n", scope)
    with pytest.raises(NotCacheable, match="function"):
        isolate(scope["step"])


class Impostor(Plain):
    """A pickle of it is a part of a frame."""

    def __reduce__(self) -> Any:
        return bytearray, (b"a",)


def test_a_value_that_a_pickle_would_change_is_not_written_to_a_file() -> None:
    labelled = pd.DataFrame({"kg": [1]})
    object.__setattr__(labelled, "unit", "kg")
    for value in (
        Impostor(), [Impostor()], frame_of([Impostor()]), with_attrs([Impostor()]),
        pd.DataFrame({"kg": [1]}, index=[Impostor()]), labelled, {"frame": labelled},
        noted(Text("a")), frame_of([noted(Text("a"))]), noted(Frame({"kg": [1]})),
    ):  # fmt: skip
        with pytest.raises(Unpicklable):
            pickled(value)
    assert pickled({"frame": pd.DataFrame({"kg": [1], "a": pd.Categorical(["b"])})}).size > 0
