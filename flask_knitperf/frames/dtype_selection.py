"""Which step a column takes: the levels as a table, and what each kind of column may become.

Everything is decided on exact values and exact bytes; samples only say no early. What cannot be made
smaller without a changed value, or whose meaning a smaller type would change, is left alone, and the
reason says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from .conversions import (
    Category,
    Converted,
    Integer,
    Keep,
    Single,
    Step,
    Tidy,
    all_text,
    categorical,
    distinct,
    is_text,
    largest_error,
    numbers,
    other_missing,
    single,
)
from .dtype_selection_pack import Stronger, stronger_numbers, stronger_text
from .memory_usage import Size, size_of
from .object_arrays import Objects, objects_of
from .packed_array import PackedDtype

PRODUCT = 46_340
"""The largest number whose square an int32 holds."""
SUM = 1 << 30
"""The largest power of two that an int32 holds twice."""
_SAMPLE = 2048
_POINTER = 8
"""Bytes that a cell of text takes at least, for where the text is."""
_TEXTS = 32_768
"""Cells of text that are sampled: so many that of a million, where each text is there twice, a thousand
are equal to another one."""
_NEARLY_UNIQUE = 0.8
"""Share of distinct values above which text is not looked at in full."""
_REPEATED = 0.5
"""Share of distinct values up to which text is repetitive."""


@dataclass(frozen=True)
class Level:
    """What may be done.

    Attributes:
        least: the narrowest integers.
        largest: the largest integer that is narrowed, ``None`` for any.
        floats: whether exact doubles become single.
        text: whether repetitive text becomes categories.
        share: of distinct values up to which it does.
        packed: whether numbers may be held in codes that read as them.
        dates: whether text of dates may become moments.
        drops: whether categories that no cell has may go.
    """

    least: str
    largest: int | None
    floats: bool
    text: bool
    share: float = 1.0
    packed: bool = False
    dates: bool = False
    drops: bool = True


LEVELS = {
    "safe": Level("int32", PRODUCT, floats=False, text=False, drops=False),
    "balanced": Level("int32", SUM, floats=False, text=True, share=_REPEATED),
    "compact": Level("int8", None, floats=True, text=True),
    "pack": Level("int8", None, floats=True, text=True, packed=True, dates=True),
}


class Decision(NamedTuple):
    """What becomes of a column.

    Attributes:
        step: how.
        after: its bytes then, ``None`` where they stay.
        reason: why, for a person.
        risks: what behaves in another way then.
        made: the column after the step, where deciding made it.
    """

    step: Step
    after: Size | None
    reason: str
    risks: tuple[str, ...] = ()
    made: Converted | None = None


def decide(
    values: pd.Series[Any], level: Level, tolerance: float, before: Callable[[], Size]
) -> Decision:
    """Return what becomes of a column.

    Args:
        values: the column.
        level: what may be done.
        tolerance: the largest relative error of a floating-point number that is allowed.
        before: tells the column's bytes; counting objects takes long, so not all ask.
    """
    dtype = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return _category(values, level, before)
    if isinstance(dtype, PackedDtype):
        return _left("it is packed already")
    if isinstance(dtype, pd.SparseDtype):
        return _left("it is sparse already")
    if isinstance(dtype, pd.ArrowDtype):
        return _left("Arrow's own types are left as they are")
    if pd.api.types.is_bool_dtype(dtype):
        return _left("true and false take one byte each already")
    if pd.api.types.is_unsigned_integer_dtype(dtype):
        return _left("differences of unsigned numbers wrap, and those of signed ones do not")
    if pd.api.types.is_signed_integer_dtype(dtype):
        return _stronger_numbers(values, level, _integer(values, level))
    if pd.api.types.is_float_dtype(dtype):
        return _double(values, level, tolerance)
    if isinstance(dtype, pd.StringDtype):
        return _string(values, level, before)
    if pd.api.types.is_object_dtype(dtype):
        return _object(values, level, before)
    return _left(f"{dtype} has no smaller type that keeps its values")


def _left(reason: str) -> Decision:
    return Decision(Keep(), None, reason)


# -- integers --------------------------------------------------------------------------------------


def _integer(values: pd.Series[Any], level: Level) -> Decision:
    held = numbers(values)
    least = np.dtype(level.least)
    if held.dtype.itemsize <= least.itemsize:
        return _left(f"{held.dtype} is narrow enough")
    low, high = int(held.min()), int(held.max())
    largest = max(-low, high)
    if level.largest is not None and largest > level.largest:
        return _left(
            f"numbers up to {largest:,} may leave int32 when they are "
            f"{'multiplied' if level.largest == PRODUCT else 'added'}"
        )
    for name in ("int8", "int16", "int32"):
        limits = np.iinfo(name)
        if limits.bits // 8 < least.itemsize or not limits.min <= low <= high <= limits.max:
            continue
        if limits.bits // 8 >= held.dtype.itemsize:
            break
        made = Integer(name).convert(values)
        risks = _integer_risks(name, largest, level)
        reason = f"numbers from {low:,} to {high:,} fit {name}"
        return Decision(Integer(name), size_of(made.values), reason, risks, made)
    return _left(f"numbers from {low:,} to {high:,} need {held.dtype}")


_LARGER_PRODUCTS = "products of more than two such numbers, with larger ones, and dot products"


def _integer_risks(name: str, largest: int, level: Level) -> tuple[str, ...]:
    most = int(np.iinfo(name).max)
    risks = []
    if largest * 2 > most:
        risks.append(f"sums of two columns may wrap beyond {most:,}")
    which = _LARGER_PRODUCTS if level.largest == PRODUCT else "products"
    risks.append(f"{which} may wrap beyond {most:,}")
    risks.append(f"a number beyond {most:,} cannot be assigned")
    return tuple(risks)


def _stronger_numbers(values: pd.Series[Any], level: Level, plain: Decision) -> Decision:
    """Return what becomes of numbers: what would without codes, or those where they take fewer bytes."""
    if not level.packed or values.dtype not in (np.dtype("int64"), np.dtype("float64")):
        return plain
    most = values.to_numpy().nbytes if plain.after is None else plain.after.true
    found = stronger_numbers(values, most)
    return plain if found is None else _decision(found)


def _decision(found: Stronger) -> Decision:
    return Decision(found.step, found.after, found.reason, found.risks, found.made)


# -- floating point --------------------------------------------------------------------------------


def _double(values: pd.Series[Any], level: Level, tolerance: float) -> Decision:
    if not level.packed:
        return _float(values, level, tolerance)
    # what codes hold exactly needs no tolerance
    left = _left("its values are neither few nor decimals, and float32 does not keep them")
    found = _stronger_numbers(values, level, left)
    if found.made is not None:
        return found
    within = _float(values, level, tolerance) if tolerance else left
    return within if within.made is not None else left


def _float(values: pd.Series[Any], level: Level, tolerance: float) -> Decision:
    held = numbers(values)
    if held.dtype != np.float64:
        return _left(f"{held.dtype} is narrow enough")
    if not level.floats and not tolerance:
        return _left("sums of float32 lose digits, so doubles stay")
    step = max(1, len(held) // _SAMPLE)
    sample = held[::step]
    if largest_error(sample, single(sample)) > tolerance:
        return _left("float32 does not keep its values")
    made = Single(tolerance).convert(values)
    if made.values is values:
        return _left("float32 does not keep its values")
    exact = not made.error
    risks = [
        "sums and means are worked out in single precision",
        "cells print with the digits of float32",
        "joining it with doubles finds no equal numbers where they have fractions",
    ]
    if not exact:
        risks.insert(0, f"values differ by up to {made.error:.1e} of themselves")
    reason = "float32 keeps every value" if exact else f"within {tolerance:g} of every value"
    return Decision(Single(tolerance), size_of(made.values), reason, tuple(risks), made)


# -- text ------------------------------------------------------------------------------------------

_CATEGORY_RISKS = (
    'text cannot be put behind it (`column + "x"` raises)',
    "only values that it has can be assigned or filled in",
    "it has no largest value and cannot be compared by `<`",
    "joined with other categories it becomes text again",
)
_GROUPS = "grouping keeps groups that nothing is in, unless `observed=True`"
_DROPPED_RISKS = (
    "a category that no cell has cannot be assigned",
    "`value_counts` and grouping no longer show categories that no cell has",
    "joined with a column that has the first categories it becomes text, or what they are made of",
    "it cannot be compared with a column that has the first categories",
)
OLD_PANDAS = int(pd.__version__.partition(".")[0]) < 3
"""Whether frames that share a column see each other's changes, and text is objects."""


def _nearly_unique(values: pd.Series[Any]) -> bool:
    """Return whether a column is text of which nearly all differ, by a sample; not of a short column.

    Where each text is there r times, those of a sample that come again are about (r - 1) times its
    square divided by twice the number of cells. Where some are there much more often than others, the
    share comes out too small, and the column is looked at in full. The cells are drawn at random:
    evenly spaced ones meet no value twice in a column that goes through its values round by round.
    """
    count = len(values)
    if count < _SAMPLE:
        return False
    drawn = values
    if count > _TEXTS:
        places = np.random.default_rng(0).choice(count, _TEXTS, replace=False, shuffle=False)
        drawn = values.iloc[places]
    texts = drawn.dropna()
    there = len(texts)
    if not there or not is_text(texts):
        return False
    equal = there - texts.nunique()
    whole = count * there / len(drawn)  # cells that hold anything
    return 1 / (1 + 2 * whole * equal / there**2) > _NEARLY_UNIQUE


def _text(
    values: pd.Series[Any], level: Level, before: Callable[[], Size], nearly_unique: bool,
    seen: Objects | None,
) -> Decision:  # fmt: skip
    if not level.text:
        return _left("categories behave unlike text, so it stays")
    count = len(values)
    if nearly_unique:
        return _left("nearly every value differs")
    found = distinct(values, seen)
    if found is None:
        return _left("pandas takes some of its texts for others")
    codes, uniques = found
    there = count - int((codes < 0).sum())
    if not there:
        return _left("nothing is in it")
    if len(uniques) == there and there > 1:
        return _left("every value differs: it names its rows")
    if len(uniques) > level.share * there:
        return _left(f"{len(uniques):,} of {there:,} values differ, which is not repetitive")
    made = categorical(codes, uniques)
    after = size_of(made)
    if after.true >= count * _POINTER and after.true >= before().true:
        return _left("categories would take as many bytes")
    risks = (*_CATEGORY_RISKS, _GROUPS) if OLD_PANDAS else _CATEGORY_RISKS
    many = "1 value" if len(uniques) == 1 else f"{len(uniques):,} values"
    reason = f"{many} in {there:,} cells"
    most = max(len(uniques) * 2, int(np.iinfo(made.codes.dtype).max))
    return Decision(Category(most), after, reason, risks, Converted(made))


def _string(values: pd.Series[Any], level: Level, before: Callable[[], Size]) -> Decision:
    other = other_missing(values) if level.text else ""
    if other:
        return _left(f"it holds {other}, which categories would turn into NaN")
    return _dates_or_text(values, level, before, level.text and _nearly_unique(values))


def _object(values: pd.Series[Any], level: Level, before: Callable[[], Size]) -> Decision:
    if not level.text and is_text(values.iloc[:: max(1, len(values) // _SAMPLE)]):
        return _left("categories behave unlike text, so it stays")
    seen = objects_of(values.to_numpy())
    nearly_unique = level.text and _nearly_unique(values)
    if (seen.places is None and nearly_unique) or all_text(
        seen.each
    ):  # the rest is asked for later
        return _dates_or_text(values, level, before, nearly_unique, seen)
    each = pd.Series(seen.each, dtype=object, copy=False)
    kind = pd.api.types.infer_dtype(each, skipna=True)
    if kind == "empty":
        return _left("nothing is in it")
    if kind != "string":
        return _left(f"its cells are objects ({kind}), which are kept as they are")
    if not level.text:
        return _left("categories behave unlike text, so it stays")
    other = other_missing(each)
    if other:
        return _left(f"it holds {other}, which categories would turn into NaN")
    if not is_text(each):
        return _left("its texts are of a class of their own")
    return _dates_or_text(values, level, before, nearly_unique, seen)


def _dates_or_text(
    values: pd.Series[Any], level: Level, before: Callable[[], Size], nearly_unique: bool,
    seen: Objects | None = None,
) -> Decision:  # fmt: skip
    """Return what becomes of text, once as little else is in it as categories keep."""
    plain = _text(values, level, before, nearly_unique, seen)
    if not level.dates:
        return plain
    found = stronger_text(values, lambda: (plain.after or before()).true)
    return plain if found is None else _decision(found)


def _category(values: pd.Series[Any], level: Level, before: Callable[[], Size]) -> Decision:
    step = Tidy(level.drops)
    made = step.convert(values)
    after = size_of(made.values)
    dropped = len(values.array.categories) - len(made.values.categories)
    if after.true >= before().true:
        return _left("it is made of categories already")
    reason = f"{dropped:,} categories are in no cell" if dropped else "a lookup left its hash table"
    return Decision(step, after, reason, _DROPPED_RISKS if dropped else (), made)
