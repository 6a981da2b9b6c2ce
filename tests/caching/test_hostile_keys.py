"""Arguments whose classes misbehave: two that a function can distinguish never share a key."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import enum
import functools
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from flask_knitperf.caching.keys import Encoding
from flask_knitperf.core.errors import CacheKeyError


def key(value: Any) -> bytes | None:
    """Return the key of a value, ``None`` if it has none."""
    encoding = Encoding()
    try:
        encoding.add(value)
    except CacheKeyError as error:
        assert str(error)  # noqa: PT017 (the reason is a part of the result)
        return None
    return b"".join(encoding.parts)


class Liar:
    """All of its instances have one form for pickles."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> Any:
        return Liar, (0,)


class Stateless(Liar):
    __reduce__ = object.__reduce__  # type: ignore[assignment]

    def __getstate__(self) -> dict[str, Any]:
        return {}


class Named(enum.Enum):
    """Each member shows one name."""

    ONE = 1
    TWO = 2

    @property
    def name(self) -> str:  # type: ignore[override]
        return "same"


class Pair(NamedTuple):
    one: int
    two: int


class OddPair(collections.namedtuple("OddPair", "one two")):
    __slots__ = ()

    def __iter__(self) -> Iterator[Any]:
        return iter((0, 0))

    def __len__(self) -> int:
        return 2


class MaskedPair(NamedTuple("MaskedPair", [("one", int)])):
    """A named tuple with attributes."""

    note: int


@dataclasses.dataclass
class Hidden:
    """A field that its class shows as another value."""

    number: int

    def __getattribute__(self, name: str) -> Any:
        return 0 if name == "number" else super().__getattribute__(name)


@dataclasses.dataclass
class Masked:
    number: int

    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        return {}


@dataclasses.dataclass(slots=True)
class Slotted:
    number: int


@dataclasses.dataclass
class Cached:
    number: int

    @functools.cached_property
    def double(self) -> int:
        return 2 * self.number


class Text(str):
    note: int


class Words(list[str]):
    def __iter__(self) -> Iterator[str]:
        return iter(())


class Table(dict[str, int]):
    def items(self) -> Any:
        return ()


class Factory(collections.defaultdict[str, int]):
    default_factory: Any = None


class Zone(dt.tzinfo):
    def __init__(self, hours: int) -> None:
        self.hours = hours

    def utcoffset(self, _: Any) -> dt.timedelta:
        return dt.timedelta(hours=self.hours)

    def __reduce__(self) -> Any:
        return Zone, (0,)


def noted(value: Any, note: int) -> Any:
    value.note = note
    return value


def frame(cell: Any) -> pd.DataFrame:
    return pd.DataFrame({"a": pd.Series([cell], dtype=object)})


def with_attrs(item: Any) -> pd.DataFrame:
    result = pd.DataFrame({"a": [1]})
    result.attrs["item"] = item
    return result


def with_attribute(number: int) -> pd.DataFrame:
    result = pd.DataFrame({"a": [1]})
    object.__setattr__(result, "unit", number)
    return result


def renamed(module: str, name: str, number: int) -> Any:
    """Return an instance of a class that bears the name of a library's."""
    kind = type(name, (Liar,), {"__module__": module, "__qualname__": name})
    return kind(number)


def spoofed(number: int) -> Any:
    kind = type("Timestamp", (), {"__module__": "pandas", "unit": "ns", "fold": 0, "tzinfo": None})
    value = kind()
    value._value, value.number = 0, number
    return value


PAIRS: dict[str, Callable[[int], Any]] = {
    "pickle": Liar, "state": Stateless, "in a list": lambda n: [Liar(n)],
    "enum": Named, "named tuple": lambda n: OddPair(n, 0),
    "named tuple with attributes": lambda n: noted(MaskedPair(0), n),
    "hidden field": Hidden, "masked field": Masked, "slot": Slotted,
    "attribute of a dataclass": lambda n: noted(Hidden(0), n), "text": lambda n: noted(Text("a"), n),
    "words": lambda n: Words(["a"] * n), "table": lambda n: Table(a=n),
    "factory": lambda n: Factory([None, int, float][n], a=1),
    "zone": lambda n: dt.datetime(2026, 1, 1, tzinfo=Zone(n)),
    "time": lambda n: dt.time(1, tzinfo=Zone(n)),
    "zone of a timestamp": lambda n: pd.Timestamp(dt.datetime(2026, 1, 1, tzinfo=Zone(n))),
    "interval": lambda n: pd.Interval(pd.Timestamp(n), pd.Timestamp(10)),
    "cells": lambda n: frame(Liar(n)), "cells in lists": lambda n: frame([Liar(n)]),
    "cells without state": lambda n: frame(Stateless(n)), "enum cells": lambda n: frame(Named(n)),
    "cells with attributes": lambda n: frame(noted(Text("a"), n)),
    "cells of dataclasses": lambda n: frame(Slotted(n)), "hidden cells": lambda n: frame(Hidden(n)),
    "labels": lambda n: pd.DataFrame({"a": [1]}, index=[Liar(n)]),
    "categories": lambda n: pd.Series(pd.Categorical([Liar(n)])),
    "name": lambda n: pd.Series([1], name=Slotted2(n)), "attrs": lambda n: with_attrs(Liar(n)),
    "attrs in lists": lambda n: with_attrs([Liar(n)]), "attribute": with_attribute,
    "array": lambda n: np.array([Liar(n)], dtype=object),
    "fields": lambda n: np.array([(Liar(n),)], dtype=[("a", "O")]),
    "bears a name of numpy": lambda n: renamed("numpy", "float64", n),
    "bears a name of pandas": lambda n: renamed("pandas", "Period", n), "spoofed": spoofed,
    "partial in a frame": lambda n: frame(functools.partial(Liar, n)),
    "bound method in a frame": lambda n: frame(Liar(n).__reduce__),
    "module attribute": lambda n: types.SimpleNamespace(a=n),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Slotted2:
    number: int


@pytest.mark.parametrize("name", PAIRS)
def test_two_arguments_that_differ_share_no_key(name: str) -> None:
    one, other = key(PAIRS[name](1)), key(PAIRS[name](2))
    assert one is None or one != other


EQUAL = (
    "enum", "named tuple", "hidden field", "slot", "text", "words", "table", "interval",
    "cells with attributes", "cells of dataclasses", "enum cells", "name", "masked field",
)  # fmt: skip


@pytest.mark.parametrize("name", EQUAL)
def test_equal_arguments_have_one_key(name: str) -> None:
    assert key(PAIRS[name](1)) == key(PAIRS[name](1)) is not None


def test_a_value_that_was_computed_from_the_attributes_is_not_in_the_key() -> None:
    one, other = Cached(1), Cached(1)
    assert one.double == 2 and key(one) == key(other)


def test_a_class_that_was_loaded_again_under_its_name_is_another_one() -> None:
    module = types.ModuleType("knitperf_reloaded")
    sys.modules[module.__name__] = module
    source = (
        "import dataclasses, enum\n"
        "@dataclasses.dataclass(frozen=True)\nclass Style:\n    number: int\n"
        "class Colour(enum.Enum):\n    RED = 1\n"
    )
    values: list[Any] = []
    try:
        for _ in range(3):
            exec(source, vars(module))
            style, colour = module.Style(1), module.Colour.RED
            values += [style, colour, frame(style), frame(colour), pd.Series([1], name=style)]
            values += [module.Style, [module.Style], frame(module.Style)]
            keys = [key(value) for value in values[-8:]]  # while it is the current class
            values[-8:] = keys
    finally:
        del sys.modules[module.__name__]
    assert None not in values and len(set(values)) == len(values)


def test_the_key_of_a_reloaded_class_stays_in_its_process() -> None:
    module = types.ModuleType("knitperf_reloaded_2")
    sys.modules[module.__name__] = module
    try:
        shareable = []
        for _ in range(2):
            exec("import enum\nclass Colour(enum.Enum):\n    RED = 1\n", vars(module))
            encoding = Encoding()
            encoding.add(module.Colour.RED)
            shareable.append(encoding.shareable)
    finally:
        del sys.modules[module.__name__]
    assert shareable == [True, False]
