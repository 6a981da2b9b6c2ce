"""What can be done to a column so that it takes fewer bytes and keeps its values.

A step is decided once (:mod:`.dtype_selection`), can be written down, and is carried out on any column
of its kind: it checks its bounds as it goes, and takes the next wider type where they do not hold, with
a notice, instead of wrapping.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd

from .memory_usage import clear_hash_table
from .object_arrays import Objects, objects_of

PART = 1 << 16
"""Cells that are compared at a time, so that comparing takes little memory."""
_SIGNED = (np.dtype("int8"), np.dtype("int16"), np.dtype("int32"), np.dtype("int64"))


class Converted(NamedTuple):
    """A column after a step.

    Attributes:
        values: an array of numpy or pandas, or the column itself where nothing was to be done.
        notice: what did not go as planned, empty where all did.
        error: the largest relative error of a value, 0.0 where all are exact.
    """

    values: Any
    notice: str = ""
    error: float = 0.0


class Step(Protocol):
    """What can be done to a column."""

    def convert(self, values: pd.Series[Any]) -> Converted:
        """Return the column after it, which is the column itself where its bounds do not hold."""


@dataclass(frozen=True)
class Keep:
    """Leaves a column alone."""

    def convert(self, values: pd.Series[Any]) -> Converted:
        """Return the column as it is."""
        return Converted(values)


@dataclass(frozen=True)
class Integer:
    """Makes signed integers of a smaller width; never unsigned ones, whose differences wrap.

    Attributes:
        width: the type, as numpy calls it.
    """

    width: str

    def convert(self, values: pd.Series[Any]) -> Converted:
        """Return the column in that width, or in the narrowest one that holds it."""
        if not (pd.api.types.is_signed_integer_dtype(values.dtype) and _of_numpy(values.dtype)):
            return other_kind(values)
        wanted = np.dtype(self.width)
        held = numbers(values)
        if held.dtype.itemsize <= wanted.itemsize and held.dtype.kind == "i":
            return Converted(values)
        fits = _narrowest(held, wanted)
        notice = ""
        if fits is not None and fits != wanted:
            notice = f"values go beyond {wanted}, so they are {fits}"
        if fits is None or fits.itemsize >= held.dtype.itemsize:
            return Converted(values, f"values go beyond {wanted}, so they stay {values.dtype}")
        return Converted(_like(values, held.astype(fits)), notice)


@dataclass(frozen=True)
class Single:
    """Makes floating-point numbers of single precision, where that keeps each of them.

    Attributes:
        tolerance: the largest relative error of a value that is allowed, 0.0 for none.
    """

    tolerance: float = 0.0

    def convert(self, values: pd.Series[Any]) -> Converted:
        """Return the column in single precision, or as it is."""
        if not (pd.api.types.is_float_dtype(values.dtype) and _of_numpy(values.dtype)):
            return other_kind(values)
        held = numbers(values)
        if held.dtype != np.float64:
            return Converted(values)
        short = single(held)
        error = largest_error(held, short)
        if error > self.tolerance:
            return Converted(values, f"values are not kept by float32, so they stay {values.dtype}")
        return Converted(_like(values, short), "", error)


@dataclass(frozen=True)
class Category:
    """Makes text categories, sorted: each value once, and a small number in each cell.

    Attributes:
        most: distinct values up to which it pays.
    """

    most: int

    def convert(self, values: pd.Series[Any]) -> Converted:
        """Return the column as categories, or as it is where too many values differ."""
        if isinstance(values.dtype, pd.CategoricalDtype):
            return Converted(values)
        seen, each = None, values
        if pd.api.types.is_object_dtype(values.dtype):
            seen = objects_of(values.to_numpy())
            each = pd.Series(seen.each, dtype=object, copy=False)
        if not is_text(each):
            return other_kind(values)
        other = other_missing(each)
        if other:
            return Converted(values, f"it holds {other} now, so it stays {values.dtype}")
        found = distinct(values, seen)
        if found is None:
            return Converted(
                values, f"pandas takes some of its texts for others, so it stays {values.dtype}"
            )
        codes, uniques = found
        if len(uniques) > self.most:
            said = f"{len(uniques):,} values differ, so it stays {values.dtype}"
            return Converted(values, said)
        return Converted(categorical(codes, uniques))


@dataclass(frozen=True)
class Tidy:
    """Drops categories that no cell has, and the hash table that lookups left.

    Attributes:
        drops: whether categories go; without them a column behaves otherwise.
    """

    drops: bool = True

    def convert(self, values: pd.Series[Any]) -> Converted:
        """Return the column with the categories that it has, or with all."""
        if not isinstance(values.dtype, pd.CategoricalDtype):
            return other_kind(values)
        array: Any = values.array
        tidied = array.remove_unused_categories() if self.drops else array
        own = tidied.categories.copy(deep=True)  # the given column keeps its hash table
        dtype = pd.CategoricalDtype(own, ordered=tidied.ordered)
        made = pd.Categorical.from_codes(tidied.codes.copy(), dtype=dtype)  # ``codes`` is read-only
        clear_hash_table(made)
        return Converted(made)


def single(held: Any) -> Any:
    """Return doubles in single precision; what is too large becomes infinite, silently."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return held.astype(np.float32)


def largest_error(held: Any, short: Any) -> float:
    """Return the largest relative error of values, infinite where one is lost."""
    parts = range(0, len(held), PART)
    errors = (_largest_error(held[at : at + PART], short[at : at + PART]) for at in parts)
    return max(errors, default=0.0)


def _largest_error(held: Any, short: Any) -> float:
    back = short.astype(np.float64)
    same = back == held
    if same.all():
        return 0.0
    other = ~(same | (np.isnan(back) & np.isnan(held)))
    if not other.any():
        return 0.0
    was, is_now = held[other], back[other]
    with np.errstate(all="ignore"):
        errors = np.abs(is_now - was) / np.abs(was)
    return float("inf") if not np.isfinite(errors).all() else float(errors.max())


def is_text(values: pd.Series[Any]) -> bool:
    """Return whether all cells that hold something hold text, of no class of its own."""
    if isinstance(values.dtype, pd.StringDtype):
        return True
    if not pd.api.types.is_object_dtype(values.dtype):
        return False
    return all_text(values.to_numpy()) or all_text(values.dropna().to_numpy())


def all_text(held: Any) -> bool:
    """Return whether all objects are texts, of no class of their own."""
    return set(map(type, held)) == {str}


def is_objects(values: pd.Series[Any]) -> bool:
    """Return whether the cells are Python's objects, as those of text may be, too."""
    dtype: Any = values.dtype
    if isinstance(dtype, pd.StringDtype):
        return dtype.storage == "python"
    return pd.api.types.is_object_dtype(dtype)


def other_missing(values: pd.Series[Any]) -> str:
    """Return what an empty cell holds other than NaN, which a category would make of it; or nothing."""
    dtype: Any = values.dtype
    if isinstance(dtype, pd.StringDtype):
        return "<NA>" if dtype.na_value is pd.NA and values.hasnans else ""
    if not pd.api.types.is_object_dtype(dtype):
        return ""
    held = values.to_numpy()[values.isna().to_numpy()]
    return next((str(value) for value in held if type(value) is not float), "")


def distinct(values: pd.Series[Any], seen: Objects | None) -> tuple[Any, Any] | None:
    """Return for each cell of text which of the texts it holds, -1 for none, and the texts.

    Args:
        values: text, and nothing but NaN where none is.
        seen: its objects, where it is made of those.

    Returns:
        ``None`` where pandas took texts for equal that are not: of Python's objects it reads none
        beyond a NUL.
    """
    if seen is None and is_objects(values):
        seen = objects_of(values.to_numpy(dtype=object))
    if seen is None:
        return pd.factorize(values, sort=False)
    codes, texts = pd.factorize(seen.each, sort=False)
    there = slice(None) if (codes >= 0).all() else codes >= 0
    if (seen.each[there] != texts.take(codes[there])).any():
        return None
    return seen.spread(codes), texts


def categorical(codes: Any, uniques: Any) -> pd.Categorical:
    """Return text as categories in sorted order, without a hash table.

    Args:
        codes: of each cell, -1 where nothing is there.
        uniques: the values, in any order.
    """
    try:
        index = pd.Index(uniques)  # of objects pandas 3 makes text of its own, which is smaller
    except UnicodeEncodeError:  # which holds no half of a surrogate pair
        index = pd.Index(uniques, dtype=object)
    order = index.argsort()
    place = np.empty(len(order) + 1, dtype=np.intp)
    place[order] = np.arange(len(order))
    place[-1] = -1  # what code -1 finds
    dtype = pd.CategoricalDtype(index.take(order))
    made = pd.Categorical.from_codes(place[codes], dtype=dtype)
    clear_hash_table(made)
    return made


def equal(one: Any, other: Any) -> Any:
    """Return which cells of two arrays are equal, as an array of numpy; an empty cell equals none."""
    answers = one == other
    if isinstance(answers, np.ndarray):
        return answers
    return answers.to_numpy(dtype=bool, na_value=False)


def numbers(values: pd.Series[Any]) -> Any:
    """Return a column's numbers as a numpy array; where nothing is there, a masked column gives 0."""
    array = values.array
    masked = pd.arrays.IntegerArray | pd.arrays.FloatingArray | pd.arrays.BooleanArray
    if isinstance(array, masked):
        dtype: Any = array.dtype
        return array.to_numpy(dtype=dtype.numpy_dtype, na_value=0)
    return values.to_numpy()


def _of_numpy(dtype: Any) -> bool:
    """Return whether numbers are numpy's, with a mask or without: not Arrow's, sparse or packed."""
    return isinstance(getattr(dtype, "numpy_dtype", dtype), np.dtype) and not isinstance(
        dtype, pd.ArrowDtype
    )


def _like(values: pd.Series[Any], held: Any) -> Any:
    """Return numbers as the column holds them: masked, if it is."""
    array = values.array
    if isinstance(array, pd.arrays.IntegerArray | pd.arrays.FloatingArray):
        return type(array)(held, np.array(array.isna()))  # that of the column is read-only
    return held


def other_kind(values: pd.Series[Any]) -> Converted:
    """Return a column of a type that a step is not for as it is, and say so."""
    return Converted(values, f"it is {values.dtype} now, so it stays")


def _narrowest(held: Any, least: Any) -> Any:
    """Return the narrowest signed type from one on that holds all numbers; ``None`` where none does."""
    if not len(held):
        return least
    low, high = int(held.min()), int(held.max())
    for each in _SIGNED:
        limits = np.iinfo(each)
        if each.itemsize >= least.itemsize and limits.min <= low and high <= limits.max:
            return each
    return None
