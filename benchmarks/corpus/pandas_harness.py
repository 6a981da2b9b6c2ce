"""Comparison of two results of a pandas idiom, and the table that idioms are collected in.

`same(a, b)` is strict: types, every value (-0.0 and 0.0 apart, NaN in the same places), dtypes, labels
and their order, names, levels, frequencies, attrs, flags, metadata of subclasses, the order of dicts,
and which mutable objects are one and the same. `fingerprint(value)` is a digest of all of these.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

Fact = tuple[str, str]
# About blocks, and about whether the parent of a slice is still alive: these may differ.
UNCOMPARED_WARNINGS = ("PerformanceWarning", "SettingWithCopyWarning", "ResourceWarning")
CONTEXT = 60  # characters of each side in a difference


@dataclass(frozen=True)
class Idiom:
    """A function of a frame, and the groups of builders that it applies to."""

    name: str
    run: Callable[[Any], object]
    groups: frozenset[str]
    kind: str


IDIOMS: list[Idiom] = []


def idiom(*groups: str, kind: str = "common") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add a function to the idioms, for the builders of some groups (`lines` by default).

    Kinds: `common`; `array`, where a bare array that was taken from the frame meets a later write;
    `force`, where the write goes past the protection of pandas 3 (`.array`, `.base`, writeable flags).
    """

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        IDIOMS.append(Idiom(function.__name__, function, frozenset(groups or ("lines",)), kind))
        return function

    return add


def attempt(function: Any, *arguments: Any) -> str:
    """Return the type and the text of the error of a call, or an empty text."""
    try:
        function(*arguments)
    except Exception as error:
        return f"{type(error).__qualname__}: {error}"
    return ""


def writes(array: Any, value: Any) -> str:
    """Write the first item of an array; return the error."""
    return attempt(array.__setitem__, 0, value)


@dataclass
class Outcome:
    """Result of an idiom, or type and text of its error; and its warnings, each once."""

    value: object
    error: tuple[str, str] | None
    warnings: list[str]


def outcome(case: Idiom, box: list[Any]) -> Outcome:
    """Run an idiom on the only item of a list, which is taken out: the idiom has the last reference."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value, error = None, None
        try:
            value = case.run(box.pop())
        except Exception as raised:
            error = (type(raised).__qualname__, str(raised))
    messages = [
        f"{message.category.__qualname__}: {message.message}"
        for message in caught
        if message.category.__name__ not in UNCOMPARED_WARNINGS
    ]
    return Outcome(value, error, list(dict.fromkeys(messages)))


def same(a: object, b: object) -> str | None:
    """Return a description of the first difference between two results, or None."""
    for one, other in itertools.zip_longest(facts(a), facts(b)):
        if one != other:
            return _difference(one, other)
    return None


def fingerprint(value: object) -> bytes:
    """Return a digest of every cell, dtype, label, name and attribute of a value."""
    digest = hashlib.blake2b(digest_size=16)
    for path, fact in facts(value):
        digest.update(f"{path}\0{fact}\1".encode("utf-8", "surrogatepass"))
    return digest.digest()


def facts(value: object) -> Iterator[Fact]:
    """Yield path and text of everything that can be observed of a value, always in the same order."""
    yield from _facts(value, "result", {})


def _difference(one: Fact | None, other: Fact | None) -> str:
    if one is None or other is None:
        path, text = one or other or ("", "")
        return f"{path}: only in the {'second' if one is None else 'first'}: {text[:CONTEXT]}"
    if one[0] != other[0]:
        return f"{one[0]} in the first, {other[0]} in the second"
    pairs = itertools.zip_longest(one[1], other[1])
    start = max(next(place for place, (x, y) in enumerate(pairs) if x != y) - CONTEXT // 2, 0)
    first, second = (text[start : start + CONTEXT] for text in (one[1], other[1]))
    return f"{one[0]}: {first!r} is not {second!r}"


Seen = dict[int, tuple[str, object]]


def _facts(value: Any, path: str, seen: Seen) -> Iterator[Fact]:
    """Yield the facts of a value; one that is mutable and was met before is only a reference."""
    if _is_mutable(value):
        if id(value) in seen:
            yield path, f"the object at {seen[id(value)][0]}"
            return
        seen[id(value)] = (path, value)  # kept alive, so that its address is not used again
    kind = type(value)
    yield f"{path}.type", f"{kind.__module__}.{kind.__qualname__}"
    for types, describe in DESCRIPTIONS:
        if isinstance(value, types):
            yield from describe(value, path, seen)
            return
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for item in dataclasses.fields(value):
            yield from _facts(getattr(value, item.name), f"{path}.{item.name}", seen)
        return
    yield path, re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))
    if hasattr(value, "__dict__") and not isinstance(value, type) and not callable(value):
        yield from _dict(vars(value), f"{path}.vars", seen)


def _is_mutable(value: object) -> bool:
    containers = list | dict | set | bytearray | np.ndarray | pd.DataFrame | pd.Series
    return isinstance(value, containers) or dataclasses.is_dataclass(value)


def _pandas(value: Any, path: str, seen: Seen) -> Iterator[Fact]:
    """Yield flags, attrs and the metadata of a subclass."""
    yield f"{path}.flags", str(value.flags.allows_duplicate_labels)
    yield from _dict(value.attrs, f"{path}.attrs", seen)
    for name in value._metadata:
        if not name.startswith("_") and name != "name":
            yield from _facts(getattr(value, name, None), f"{path}.{name}", seen)


def _frame(value: Any, path: str, seen: Seen) -> Iterator[Fact]:
    yield f"{path}.shape", repr(value.shape)
    yield from _pandas(value, path, seen)
    yield from _facts(value.columns, f"{path}.columns", seen)
    yield from _facts(value.index, f"{path}.index", seen)
    for place, label in enumerate(value.columns):
        # the array below: `iloc` raises where a frame that refuses duplicate labels has some
        yield from _extension(value._get_column_array(place), f"{path}[{label!r}]", seen)


def _series(value: pd.Series, path: str, seen: Seen) -> Iterator[Fact]:
    yield f"{path}.shape", repr(value.shape)
    yield from _pandas(value, path, seen)
    yield from _facts(value.name, f"{path}.name", seen)
    yield from _facts(value.index, f"{path}.index", seen)
    yield from _extension(value.array, path, seen)


def _index(value: pd.Index, path: str, seen: Seen) -> Iterator[Fact]:
    yield from _facts(tuple(value.names), f"{path}.names", seen)
    if isinstance(value, pd.MultiIndex):
        for place, (level, codes) in enumerate(zip(value.levels, value.codes, strict=True)):
            yield from _facts(level, f"{path}.levels[{place}]", seen)
            yield f"{path}.codes[{place}]", repr(np.asarray(codes).tolist())
        return
    if isinstance(value, pd.RangeIndex):
        yield f"{path}.range", repr((value.start, value.stop, value.step))
    if isinstance(value, pd.DatetimeIndex | pd.TimedeltaIndex):
        yield f"{path}.freq", repr(value.freq)
    yield from _extension(value.array, path, seen)


def _dtype(dtype: Any, path: str, seen: Seen) -> Iterator[Fact]:
    yield f"{path}.dtype", f"{type(dtype).__qualname__} {dtype!r}"
    if isinstance(dtype, pd.CategoricalDtype):
        yield f"{path}.ordered", repr(dtype.ordered)
        yield from _facts(dtype.categories, f"{path}.categories", seen)
    if isinstance(dtype, pd.DatetimeTZDtype):
        yield f"{path}.tz", f"{type(dtype.tz).__qualname__} {dtype.tz}"


def _extension(value: Any, path: str, seen: Seen) -> Iterator[Fact]:
    """Yield the dtype and the values of a pandas array."""
    yield from _dtype(value.dtype, path, seen)
    if isinstance(value, pd.Categorical):
        yield f"{path}.codes", repr(value.codes.tolist())
        return
    if isinstance(value, pd.arrays.SparseArray):
        yield f"{path}.places", repr((value.kind, value.sp_index.indices.tolist()))
    if isinstance(value.dtype, np.dtype):
        yield from _values(np.asarray(value), path, seen)
    elif isinstance(value.dtype, pd.DatetimeTZDtype):
        yield f"{path}.values", repr(value.asi8.tolist())
    else:
        yield from _items(list(value), path, seen)


def _array(value: np.ndarray[Any, Any], path: str, seen: Seen) -> Iterator[Fact]:
    yield from _dtype(value.dtype, path, seen)
    yield f"{path}.shape", repr(value.shape)
    yield from _values(value, path, seen)


def _values(value: np.ndarray[Any, Any], path: str, seen: Seen) -> Iterator[Fact]:
    if value.dtype.kind == "O":
        yield from _items(value.ravel().tolist(), path, seen)
    else:
        plain = value.view("i8") if value.dtype.kind in "mM" else value
        yield f"{path}.values", repr(plain.tolist())


def _items(values: list[Any], path: str, seen: Seen) -> Iterator[Fact]:
    """Yield facts of items: one text for a run of plain values, a path for each other one."""
    for place, value in enumerate(values):
        if value is None or type(value) in (str, bool, int, float):
            yield f"{path}[{place}]", f"{type(value).__name__} {value!r}"
        else:
            yield from _facts(value, f"{path}[{place}]", seen)


def _sequence(value: Any, path: str, seen: Seen) -> Iterator[Fact]:
    yield f"{path}.len", str(len(value))
    yield from _items(list(value), path, seen)


def _set(value: Any, path: str, seen: Seen) -> Iterator[Fact]:
    yield f"{path}.items", repr(sorted(repr(item) for item in value))


def _dict(value: Any, path: str, seen: Seen) -> Iterator[Fact]:
    yield f"{path}.len", str(len(value))
    for place, (key, item) in enumerate(value.items()):
        yield from _facts(key, f"{path}.keys[{place}]", seen)
        yield from _facts(item, f"{path}[{key!r}]", seen)


def _error(value: BaseException, path: str, seen: Seen) -> Iterator[Fact]:
    yield f"{path}.text", str(value)


def _scalar(value: np.generic, path: str, seen: Seen) -> Iterator[Fact]:
    yield f"{path}.dtype", repr(value.dtype)
    yield path, repr(value.item())


def _time(value: Any, path: str, seen: Seen) -> Iterator[Fact]:
    zone = getattr(value, "tzinfo", None)
    yield path, f"{value!r} {value.unit} {getattr(value, 'fold', 0)} {type(zone).__qualname__}"


DESCRIPTIONS: tuple[tuple[Any, Callable[[Any, str, Seen], Iterator[Fact]]], ...] = (
    (pd.DataFrame, _frame),
    (pd.Series, _series),
    (pd.Index, _index),
    (pd.api.extensions.ExtensionArray, _extension),
    (np.ndarray, _array),
    (dict, _dict),
    ((list, tuple), _sequence),
    ((set, frozenset), _set),
    (BaseException, _error),
    ((pd.Timestamp, pd.Timedelta), _time),
    (np.generic, _scalar),
)
