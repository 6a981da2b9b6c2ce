"""A column that is held in small codes and reads as the very numbers that it was made from.

Whoever forgets that a column is packed reads 9.99 and never 999: a cell, an array, a sum, a comparison
and a CSV file are those of the doubles (or 64-bit integers), which are read from the codes when they
are needed. What is worked out from a packed column is an ordinary one; what is taken from it is packed.

Its type says what it reads as (``packed[float64]``, ``packed[int64]``) and not how it is held, so that
two packed columns can be put together whatever the codes of each are. A value for which there is no code
may still be put into a cell: the column is then held as plain numbers, as large as it was at first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.extensions import ExtensionArray, ExtensionDtype, register_extension_dtype, take

from .bitpacking import Codes, Rare
from .coercion import numbers_of, place_of, without_ellipsis
from .encodings import Book, Dictionary, NotInDictionaryError, Scaled, Written, plain, written
from .packed_ops import Working, plain_array, with_gaps

_SUBTYPES = ("float64", "int64")


@register_extension_dtype
class PackedDtype(ExtensionDtype):
    """The type of a packed column.

    Args:
        subtype: what it reads as, ``float64`` or ``int64``.
    """

    _metadata = ("subtype",)
    _is_numeric = True
    na_value = np.nan

    def __init__(self, subtype: Any = "float64") -> None:
        if str(subtype) not in _SUBTYPES:
            raise ValueError(f"a packed column reads as float64 or int64, and not as {subtype}")
        self.subtype = np.dtype(str(subtype))

    @property
    def name(self) -> str:  # type: ignore[override]
        """The name that pandas knows it by."""
        return f"packed[{self.subtype}]"

    @property
    def type(self) -> Any:  # type: ignore[override]
        """Of a cell."""
        return self.subtype.type

    @property
    def itemsize(self) -> int:
        """Bytes of a cell as it is read."""
        return self.subtype.itemsize

    @property
    def kind(self) -> Any:
        """As numpy tells kinds."""
        return self.subtype.kind

    def __repr__(self) -> str:
        return self.name

    @classmethod
    def construct_from_string(cls, string: str) -> PackedDtype:
        """Return the type of that name."""
        if not isinstance(string, str):
            raise TypeError(f"'construct_from_string' expects a string, got {type(string)}")
        for subtype in _SUBTYPES:
            if string == f"packed[{subtype}]":
                return cls(subtype)
        raise TypeError(f"Cannot construct a 'PackedDtype' from '{string}'")

    @classmethod
    def construct_array_type(cls) -> Any:
        """Return the class of arrays of this type."""
        return PackedArray

    def _get_common_dtype(self, dtypes: list[Any]) -> Any:
        if all(isinstance(each, PackedDtype) for each in dtypes):
            return self if len(set(dtypes)) == 1 else np.dtype("float64")
        plain = [each.subtype if isinstance(each, PackedDtype) else each for each in dtypes]
        if all(isinstance(each, np.dtype) and each.kind in "iuf" for each in plain):
            return np.result_type(*plain)
        for each in plain:
            if isinstance(each, ExtensionDtype):
                other: Any = each
                return other._get_common_dtype(plain)
        return None


class _Store:
    """Codes and the book that reads them, which a column and its slices share.

    The two are one object and are replaced at once, for codes mean another number in another book, and a
    second thread may read while one puts: whoever reads takes :attr:`held` once.
    """

    __slots__ = ("held",)

    def __init__(self, codes: Codes | Rare, book: Book) -> None:
        self.held = Written(codes, book)

    def put(self, places: Any, values: Any) -> None:
        """Put values, which are codes from now on or, where there are none for them, plain numbers."""
        codes, book = self.held
        try:
            given, dense = book.write(values), codes.dense()
        except NotInDictionaryError:
            dense, book = plain(book.read(codes.all()))
            given = values
        dense.put(places, given)
        if dense is not codes:
            self.held = Written(dense, book)


class PackedArray(Working, ExtensionArray):
    """A packed column, or a part of one that begins at some row; make one with :meth:`of`."""

    _readonly = False

    def __init__(self, store: _Store, first: int, count: int, dtype: PackedDtype) -> None:
        self._store, self._first, self._count, self._dtype = store, first, count, dtype

    def __reduce__(self) -> Any:
        codes, book = self._held
        return _restored, (codes.copy(), book, self._dtype)

    # -- making one --------------------------------------------------------------------------------

    @classmethod
    def of(cls, values: Any) -> PackedArray:
        """Return doubles or 64-bit integers of a numpy array in the fewest bytes."""
        return cls._made(*written(values), values.dtype)

    @classmethod
    def smaller(cls, values: Any, most: int) -> PackedArray | None:
        """Return numbers like :meth:`of`, if that takes fewer than some bytes."""
        found = written(values)
        return cls._made(*found, values.dtype) if found.nbytes < most else None

    @classmethod
    def _made(cls, codes: Codes | Rare, book: Book, dtype: Any) -> PackedArray:
        if codes.bits == 64:  # which may be the given array
            codes = codes.copy()
        return _restored(codes, book, PackedDtype(dtype))

    @classmethod
    def _from_sequence(cls, scalars: Any, *, dtype: Any = None, copy: bool = False) -> PackedArray:
        wanted: Any = None if dtype is None else pd.api.types.pandas_dtype(dtype)
        if isinstance(scalars, PackedArray) and wanted in (None, scalars.dtype):
            return scalars.copy() if copy else scalars
        return cls.of(numbers_of(scalars, None if wanted is None else wanted.subtype))

    @classmethod
    def _from_sequence_of_strings(
        cls, strings: Any, *, dtype: Any = None, copy: bool = False
    ) -> PackedArray:
        return cls._from_sequence(pd.to_numeric(np.asarray(strings)), dtype=dtype, copy=copy)

    @classmethod
    def _from_factorized(cls, values: Any, original: PackedArray) -> PackedArray:
        return cls._from_sequence(values, dtype=original.dtype)

    @classmethod
    def _concat_same_type(cls, to_concat: Sequence[Any]) -> PackedArray:
        return cls.of(np.concatenate([each.to_numpy() for each in to_concat]))

    def _cast_pointwise_result(self, values: Any) -> Any:
        found = pd.Series(list(values))
        return type(self).of(found.to_numpy()) if found.dtype == self.dtype.subtype else found.array

    # -- what it is --------------------------------------------------------------------------------

    @property
    def dtype(self) -> PackedDtype:
        """What it reads as."""
        return self._dtype

    @property
    def nbytes(self) -> int:
        """Bytes of the codes and of what they stand for."""
        return self._held.nbytes

    @property
    def bits(self) -> int:
        """Bits that a cell takes."""
        return self._held.codes.bits

    @property
    def rare(self) -> bool:
        """Whether only cells that differ from one number are written down."""
        return isinstance(self._store.held.codes, Rare)

    @property
    def held_as(self) -> str:
        """How it is held, for a person."""
        codes, book = self._store.held
        said = f"{book}, {codes.bits} {'bit' if codes.bits == 1 else 'bits'} "
        if isinstance(codes, Rare):
            return said + f"for each of {codes.others:,} cells, the others are one number"
        return said + "for each cell"

    @property
    def _held(self) -> Written:
        codes, book = self._store.held
        return Written(codes.part(self._first, self._first + self._count), book)

    def __len__(self) -> int:
        return self._count

    def isna(self) -> Any:
        """Return which cells are NaN."""
        codes, book = self._held
        if isinstance(book, Dictionary | Scaled):
            if book.missing is None:
                return np.zeros(len(self), dtype=bool)
            return codes.all() == book.missing
        if self.dtype.kind != "f":
            return np.zeros(len(self), dtype=bool)
        return np.isnan(book.read(codes.all()))

    # -- reading -----------------------------------------------------------------------------------

    def to_numpy(self, dtype: Any = None, copy: bool = True, na_value: Any = ...) -> Any:  # noqa: ARG002
        """Return the numbers as an array, which is a new one each time."""
        codes, book = self._held
        made = book.read(codes.all())
        if na_value is not ... and na_value is not pd.api.extensions.no_default:
            gone = np.isnan(made) if made.dtype.kind == "f" else np.zeros(len(made), dtype=bool)
            if gone.any():
                made = made.astype(object if dtype is None else dtype)
                made[gone] = na_value
        return made if dtype is None else made.astype(dtype, copy=False)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        if copy is False:
            raise ValueError(
                "the numbers of a packed column are made anew each time that they are read"
            )
        return self.to_numpy(dtype)

    def __arrow_array__(self, type: Any = None) -> Any:  # noqa: A002
        array: Any = pd.Series(self.to_numpy()).convert_dtypes(dtype_backend="pyarrow").array
        return array.__arrow_array__(type)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.to_numpy().tolist())

    def __getitem__(self, item: Any) -> Any:
        item = without_ellipsis(item)
        codes, book = self._held
        if pd.api.types.is_integer(item):
            place = place_of(int(item), len(self))
            return book.read(codes.at(np.array([place])))[0]
        if isinstance(item, slice):
            start, stop, step = item.indices(len(self))
            if step == 1:
                count = max(0, stop - start)
                part = type(self)(self._store, self._first + start, count, self._dtype)
                part._readonly = self._readonly
                return part
            return self._like(codes.take(np.arange(len(self))[item]), book)
        return self._like(codes.take(self._places(item)), book)

    def take(self, indices: Any, *, allow_fill: bool = False, fill_value: Any = None) -> Any:
        """Return some cells; where ``allow_fill``, -1 is an empty one or ``fill_value``."""
        places = np.asarray(indices, dtype=np.intp)
        rows: Any = take(np.arange(len(self)), places, allow_fill=allow_fill, fill_value=-1)
        gone = rows < 0
        codes, book = self._held
        if not gone.any():
            return self._like(codes.take(rows), book)
        rows = np.where(gone, 0, rows)
        empty = fill_value is None or bool(pd.isna(fill_value))
        if empty and book.missing is not None and len(self):
            taken = codes.take(rows).dense()
            taken.put(np.flatnonzero(gone), book.missing)
            return self._like(taken, book)
        held = book.read(codes.all()) if len(self) else np.zeros(1, dtype=self.dtype.subtype)
        values = held.take(rows)
        if empty:
            made = with_gaps(values, gone)
            return type(self).of(made) if isinstance(made, np.ndarray) else made
        return type(self).of(np.where(gone, numbers_of([fill_value], None), values))

    def copy(self) -> PackedArray:
        """Return it with codes of its own."""
        codes, book = self._held
        return self._like(codes.copy(), book)

    def _like(self, codes: Codes | Rare, book: Book) -> PackedArray:
        return _restored(codes, book, self._dtype)

    def _places(self, item: Any) -> Any:
        if not pd.api.types.is_list_like(item):
            raise IndexError(
                "only integers, slices (`:`), ellipsis (`...`), numpy.newaxis (`None`) and integer or "
                "boolean arrays are valid indices"
            )
        return np.arange(len(self))[pd.api.indexers.check_array_indexer(self, item)]

    # -- putting in --------------------------------------------------------------------------------

    def __setitem__(self, key: Any, value: Any) -> None:
        if self._readonly:
            raise ValueError("Cannot modify read-only array")
        key = without_ellipsis(key)
        if pd.api.types.is_integer(key):
            places = np.array([place_of(int(key), len(self))])
        elif isinstance(key, slice):
            places = np.arange(len(self))[key]
        else:
            places = self._places(key)
        single = pd.api.types.is_scalar(value)
        given = numbers_of([value] if single else value, self.dtype.subtype)
        if not single and len(given) != len(places):
            raise ValueError(f"{len(given)} values cannot be put into {len(places)} cells")
        self._exact = None
        self._store.put(places + self._first, given)

    def _where(self, mask: Any, value: Any) -> PackedArray:
        return type(self).of(_either(np.asarray(mask, dtype=bool), self, value))

    def fillna(self, value: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Return a new column with a value where nothing was."""
        limit, method = kwargs.get("limit"), kwargs.get("method")
        if args or method is not None or (limit is None and not pd.api.types.is_scalar(value)):
            return super().fillna(value, *args, **kwargs)
        gone = self.isna()
        if limit is not None:  # which pandas 2 forgets
            gone &= gone.cumsum() <= limit
        return self._where(~gone, value) if gone.any() else self.copy()

    def astype(self, dtype: Any, copy: bool = True) -> Any:
        """Return the numbers in another type."""
        wanted = pd.api.types.pandas_dtype(dtype)
        if wanted == self.dtype:
            return self.copy() if copy else self
        if isinstance(wanted, PackedDtype):
            return type(self)._from_sequence(self.to_numpy(), dtype=wanted)
        return plain_array(self._series().astype(wanted))

    def _formatter(self, boxed: bool = False) -> Any:
        return None if boxed else str


def _restored(codes: Codes | Rare, book: Book, dtype: PackedDtype) -> PackedArray:
    return PackedArray(_Store(codes, book), 0, len(codes), dtype)


def _either(mask: Any, one: PackedArray, other: Any) -> Any:
    given = numbers_of([other] if pd.api.types.is_scalar(other) else other, None)
    made = np.where(mask, one.to_numpy(), given)
    whole = made.dtype.kind == "i" and one.dtype.kind == "i"
    return made.astype(np.int64 if whole else np.float64, copy=False)
