"""Selection of a step for each column: the levels, and the possible dtypes for each kind of column.

Decisions are made on exact values and exact bytes; samples are only used to rule a conversion out
early. A column that cannot shrink without a changed value or meaning is unchanged, and the reason is
recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from .conversions import (
    Categorize,
    Converted,
    Decision,
    DowncastFloat,
    DowncastInteger,
    Keep,
    TrimCategories,
    all_text,
    factorize_text,
    is_text,
    largest_error,
    numbers,
    other_missing,
    to_categorical,
    to_float32,
)
from .dtype_selection_pack import select_dates, select_packing
from .memory_usage import Size, size_of
from .object_arrays import Objects, unique_objects
from .packed_array import PackedDtype

MAX_PRODUCT_SAFE = 46_340
"""Largest number whose square fits int32."""
MAX_SUM_SAFE = 1 << 30
"""Largest power of two whose double fits int32."""
OLD_PANDAS = int(pd.__version__.partition(".")[0]) < 3
"""Whether frames that share a column see each other's changes, and text is stored as objects."""
_SAMPLE_SIZE = 2048
_POINTER_BYTES = 8
"""Smallest size of a text cell: its reference to the text."""
_TEXT_SAMPLE_SIZE = 32_768
"""Cells of text in a sample. Of a million cells in which each text occurs twice, about a thousand of
the sampled ones equal another."""
_NEARLY_UNIQUE = 0.8
"""Share of distinct values, by the sample, above which text is not factorized."""
_REPETITIVE = 0.5
"""Share of distinct values up to which ``balanced`` takes text for repetitive."""


@dataclass(frozen=True)
class Level:
    """Conversions that a level allows.

    Attributes:
        min_integer: narrowest integer dtype.
        max_abs: largest absolute value of integers that are downcast, ``None`` for any.
        float32: whether float64 becomes float32 where that is exact.
        categories: whether repetitive text becomes categorical.
        max_distinct: share of distinct values up to which it does.
        packs: whether numbers are packed.
        parses_dates: whether date strings become datetimes.
        drops_unused: whether unused categories are dropped.
    """

    min_integer: str
    max_abs: int | None
    float32: bool
    categories: bool
    max_distinct: float = 1.0
    packs: bool = False
    parses_dates: bool = False
    drops_unused: bool = True


LEVELS = {
    "safe": Level("int32", MAX_PRODUCT_SAFE, float32=False, categories=False, drops_unused=False),
    "balanced": Level(
        "int32", MAX_SUM_SAFE, float32=False, categories=True, max_distinct=_REPETITIVE
    ),
    "compact": Level("int8", None, float32=True, categories=True),
    "pack": Level("int8", None, float32=True, categories=True, packs=True, parses_dates=True),
}


def decide(
    values: pd.Series[Any], level: Level, tolerance: float, before: Callable[[], Size]
) -> Decision:
    """Return the step for a column.

    Args:
        values: the column, with at least one row.
        level: the allowed conversions.
        tolerance: largest allowed relative error of a floating-point number.
        before: returns the current bytes; a function, because counting objects is slow.
    """
    dtype = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return _decide_categorical(values, level, before)
    if isinstance(dtype, PackedDtype):
        return _unchanged("it is packed already")
    if isinstance(dtype, pd.SparseDtype):
        return _unchanged("it is sparse already")
    if isinstance(dtype, pd.ArrowDtype):
        return _unchanged("Arrow dtypes are not converted")
    if pd.api.types.is_bool_dtype(dtype):
        return _unchanged("a boolean takes one byte already")
    if pd.api.types.is_unsigned_integer_dtype(dtype):
        return _unchanged("unsigned numbers are not converted: their differences wrap")
    if pd.api.types.is_signed_integer_dtype(dtype):
        return _packed_or(_decide_integer(values, level), values, level)
    if pd.api.types.is_float_dtype(dtype):
        return _decide_float(values, level, tolerance)
    if isinstance(dtype, pd.StringDtype):
        return _decide_string(values, level, before)
    if pd.api.types.is_object_dtype(dtype):
        return _decide_object(values, level, before)
    return _unchanged(f"{dtype} has no smaller type that preserves its values")


def _unchanged(reason: str) -> Decision:
    return Decision(Keep(), None, reason)


# -- integers --------------------------------------------------------------------------------------


def _decide_integer(values: pd.Series[Any], level: Level) -> Decision:
    array = numbers(values)
    narrowest = np.dtype(level.min_integer)
    if array.dtype.itemsize <= narrowest.itemsize:
        return _unchanged(f"{array.dtype} is narrow enough")
    low, high = int(array.min()), int(array.max())
    max_abs = max(-low, high)
    if level.max_abs is not None and max_abs > level.max_abs:
        operation = "products" if level.max_abs == MAX_PRODUCT_SAFE else "sums"
        return _unchanged(f"{operation} of numbers up to {max_abs:,} may exceed int32")
    for name in ("int8", "int16", "int32"):
        limits = np.iinfo(name)
        if limits.bits // 8 < narrowest.itemsize or not limits.min <= low <= high <= limits.max:
            continue
        if limits.bits // 8 >= array.dtype.itemsize:
            break
        step = DowncastInteger(name)
        converted = step.convert(values)
        risks = _integer_risks(name, max_abs, level)
        reason = f"numbers from {low:,} to {high:,} fit {name}"
        return Decision(step, size_of(converted.values), reason, risks, converted)
    return _unchanged(f"numbers from {low:,} to {high:,} need {array.dtype}")


_LARGER_PRODUCTS = "products of more than two such numbers, with larger ones, and dot products"


def _integer_risks(name: str, max_abs: int, level: Level) -> tuple[str, ...]:
    limit = int(np.iinfo(name).max)
    risks = []
    if max_abs * 2 > limit:
        risks.append(f"sums of two columns may wrap beyond {limit:,}")
    products = _LARGER_PRODUCTS if level.max_abs == MAX_PRODUCT_SAFE else "products"
    risks.append(f"{products} may wrap beyond {limit:,}")
    risks.append(f"a number beyond {limit:,} cannot be assigned")
    return tuple(risks)


def _packed_or(plain: Decision, values: pd.Series[Any], level: Level) -> Decision:
    """Return a decision for numbers, or to pack them where that takes fewer bytes and is allowed."""
    if not level.packs or values.dtype not in (np.dtype("int64"), np.dtype("float64")):
        return plain
    max_bytes = values.to_numpy().nbytes if plain.after is None else plain.after.true
    return select_packing(values, max_bytes) or plain


# -- floating point --------------------------------------------------------------------------------


def _decide_float(values: pd.Series[Any], level: Level, tolerance: float) -> Decision:
    if not level.packs:
        return _decide_float32(values, level, tolerance)
    # packing is exact, so it comes before a tolerance
    unchanged = _unchanged(
        "it has many distinct values that are not short decimals, and float32 does not preserve them"
    )
    packed = _packed_or(unchanged, values, level)
    if packed.converted is not None or not tolerance:
        return packed
    within_tolerance = _decide_float32(values, level, tolerance)
    return within_tolerance if within_tolerance.converted is not None else unchanged


def _decide_float32(values: pd.Series[Any], level: Level, tolerance: float) -> Decision:
    array = numbers(values)
    if array.dtype != np.float64:
        return _unchanged(f"{array.dtype} is narrow enough")
    if not level.float32 and not tolerance:
        return _unchanged("sums in float32 lose digits")
    sample = array[:: max(1, len(array) // _SAMPLE_SIZE)]
    if largest_error(sample, to_float32(sample)) > tolerance:
        return _unchanged("float32 does not preserve its values")
    step = DowncastFloat(tolerance)
    converted = step.convert(values)
    if converted.values is values:
        return _unchanged("float32 does not preserve its values")
    is_exact = not converted.error
    risks = [
        "sums and means are computed in float32",
        "cells print with the digits of float32",
        "joined with float64 keys, fractions do not match",
    ]
    if not is_exact:
        risks.insert(0, f"relative error of values up to {converted.error:.1e}")
    reason = "float32 preserves every value" if is_exact else f"within {tolerance:g} of every value"
    return Decision(step, size_of(converted.values), reason, tuple(risks), converted)


# -- text ------------------------------------------------------------------------------------------

_CATEGORICAL_RISKS = (
    'text cannot be appended (`column + "x"` raises)',
    "only values that it already has can be assigned or filled in",
    "it has no maximum and cannot be compared with `<`",
    "joined with other categories it becomes text again",
)
_GROUPBY_RISK = "groupby returns empty groups too, unless `observed=True`"
_UNUSED_DROPPED_RISKS = (
    "an unused category cannot be assigned",
    "`value_counts` and groupby no longer return unused categories",
    "joined with a column that has the original categories it becomes text, or the categories' type",
    "it cannot be compared with a column that has the original categories",
)
_TEXT_UNCHANGED = "categories behave unlike text"


def _is_nearly_unique(values: pd.Series[Any]) -> bool:
    """Return whether nearly all cells of a long text column differ, by a sample; not if it is short.

    If each text occurs r times, the number of repeats in a sample is about (r - 1) times its size
    squared, divided by twice the number of cells. If some texts are much more frequent than others, the
    estimated share is too low, and the column is factorized in full. The sample is random: evenly spaced
    cells would contain no repeats in a column that cycles through its values.
    """
    count = len(values)
    if count < _SAMPLE_SIZE:
        return False
    sample = values
    if count > _TEXT_SAMPLE_SIZE:
        generator = np.random.default_rng(0)
        positions = generator.choice(count, _TEXT_SAMPLE_SIZE, replace=False, shuffle=False)
        sample = values.iloc[positions]
    texts = sample.dropna()
    present = len(texts)
    if not present or not is_text(texts):
        return False
    repeats = present - texts.nunique()
    present_in_column = count * present / len(sample)
    return 1 / (1 + 2 * present_in_column * repeats / present**2) > _NEARLY_UNIQUE


def _decide_text(
    values: pd.Series[Any], level: Level, before: Callable[[], Size], nearly_unique: bool,
    objects: Objects | None,
) -> Decision:  # fmt: skip
    if not level.categories:
        return _unchanged(_TEXT_UNCHANGED)
    count = len(values)
    if nearly_unique:
        return _unchanged("nearly every value is distinct")
    factorized = factorize_text(values, objects)
    if factorized is None:
        return _unchanged("pandas confuses some of its texts")
    codes, uniques = factorized
    present, distinct = count - int((codes < 0).sum()), len(uniques)
    if not present:
        return _unchanged("it is empty")
    if distinct == present and present > 1:
        return _unchanged("every value is distinct: it identifies its rows")
    if distinct > level.max_distinct * present:
        return _unchanged(
            f"{distinct:,} of {present:,} values are distinct, which is not repetitive"
        )
    categorical = to_categorical(codes, uniques)
    after = size_of(categorical)
    # the first test is cheap, and true of most columns that pass the second
    if after.true >= count * _POINTER_BYTES and after.true >= before().true:
        return _unchanged("a categorical would take as many bytes")
    risks = (*_CATEGORICAL_RISKS, _GROUPBY_RISK) if OLD_PANDAS else _CATEGORICAL_RISKS
    values_of = "1 distinct value" if distinct == 1 else f"{distinct:,} distinct values"
    max_categories = max(distinct * 2, int(np.iinfo(categorical.codes.dtype).max))
    reason = f"{values_of} in {present:,} cells"
    return Decision(Categorize(max_categories), after, reason, risks, Converted(categorical))


def _other_missing_reason(missing: str) -> str:
    return f"it contains {missing}, which a categorical would replace by NaN"


def _decide_string(values: pd.Series[Any], level: Level, before: Callable[[], Size]) -> Decision:
    missing = other_missing(values) if level.categories else ""
    if missing:
        return _unchanged(_other_missing_reason(missing))
    nearly_unique = level.categories and _is_nearly_unique(values)
    return _decide_dates_or_text(values, level, before, nearly_unique)


def _decide_object(values: pd.Series[Any], level: Level, before: Callable[[], Size]) -> Decision:
    sample = values.iloc[:: max(1, len(values) // _SAMPLE_SIZE)]
    if not level.categories and is_text(sample):
        return _unchanged(_TEXT_UNCHANGED)
    objects = unique_objects(values.to_numpy())
    nearly_unique = level.categories and _is_nearly_unique(values)
    # nearly unique text is unchanged at every level but ``pack``, which checks every cell itself
    if (objects.codes is None and nearly_unique) or all_text(objects.values):
        return _decide_dates_or_text(values, level, before, nearly_unique, objects)
    cells = pd.Series(objects.values, dtype=object, copy=False)
    kind = pd.api.types.infer_dtype(cells, skipna=True)
    if kind == "empty":
        return _unchanged("it is empty")
    if kind != "string":
        return _unchanged(f"its cells are objects ({kind}), which are not converted")
    if not level.categories:
        return _unchanged(_TEXT_UNCHANGED)
    missing = other_missing(cells)
    if missing:
        return _unchanged(_other_missing_reason(missing))
    if not is_text(cells):
        return _unchanged("its texts are of a subclass of str")
    return _decide_dates_or_text(values, level, before, nearly_unique, objects)


def _decide_dates_or_text(
    values: pd.Series[Any], level: Level, before: Callable[[], Size], nearly_unique: bool,
    objects: Objects | None = None,
) -> Decision:  # fmt: skip
    """Return the decision for text whose only missing value is NaN."""
    text = _decide_text(values, level, before, nearly_unique, objects)
    if not level.parses_dates:
        return text
    return select_dates(values, lambda: (text.after or before()).true) or text


# -- categoricals ----------------------------------------------------------------------------------


def _decide_categorical(
    values: pd.Series[Any], level: Level, before: Callable[[], Size]
) -> Decision:  # fmt: skip
    step = TrimCategories(level.drops_unused)
    trimmed = step.convert(values)
    after = size_of(trimmed.values)
    if after.true >= before().true:
        return _unchanged("it is categorical already")
    dropped = len(values.array.categories) - len(trimmed.values.categories)
    if dropped:
        reason = "1 category is unused" if dropped == 1 else f"{dropped:,} categories are unused"
        return Decision(step, after, reason, _UNUSED_DROPPED_RISKS, trimmed)
    return Decision(step, after, "a lookup has left a hash table in it", (), trimmed)
