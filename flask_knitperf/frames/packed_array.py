"""Extension array of numbers stored as small codes, which reads as the numbers themselves.

A packed column of prices reads 9.99 and never 999: cells, arrays, sums, comparisons and CSV files are
those of float64 (or int64), decoded on demand. Results of computations are ordinary columns; selections
of rows are packed.

The dtype names what the column reads as (``packed[float64]``, ``packed[int64]``), not its encoding, so
that packed columns concatenate whatever their encodings are. A value without a code can still be
assigned: the column is then stored as plain numbers, at its original size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.extensions import ExtensionArray, ExtensionDtype, register_extension_dtype, take

from .bitpacking import Codes, SparseCodes
from .coercion import to_numbers, to_position, without_ellipsis
from .encodings import (
    DictionaryEncoding,
    Encoded,
    Encoding,
    NotInDictionaryError,
    ScaledEncoding,
    encode,
    encode_plain,
)
from .packed_ops import PackedOperations, unwrapped, with_missing

_SUBTYPES = ("float64", "int64")


@register_extension_dtype
class PackedDtype(ExtensionDtype):
    """Dtype of a packed column.

    Args:
        subtype: dtype of the decoded numbers, ``float64`` or ``int64``.
    """

    _metadata = ("subtype",)
    _is_numeric = True
    na_value = np.nan

    def __init__(self, subtype: Any = "float64") -> None:
        if str(subtype) not in _SUBTYPES:
            raise ValueError(f"a packed column reads as float64 or int64, not as {subtype}")
        self.subtype = np.dtype(str(subtype))

    @property
    def name(self) -> str:  # type: ignore[override]
        """Name by which pandas finds the dtype."""
        return f"packed[{self.subtype}]"

    @property
    def type(self) -> Any:  # type: ignore[override]
        """Scalar type of a cell."""
        return self.subtype.type

    @property
    def itemsize(self) -> int:
        """Bytes of a decoded cell."""
        return self.subtype.itemsize

    @property
    def kind(self) -> Any:
        """Kind code of numpy: ``f`` or ``i``."""
        return self.subtype.kind

    def __repr__(self) -> str:
        return self.name

    @classmethod
    def construct_from_string(cls, string: str) -> PackedDtype:
        """Return the dtype of that name."""
        if not isinstance(string, str):
            raise TypeError(f"'construct_from_string' expects a string, got {type(string)}")
        for subtype in _SUBTYPES:
            if string == f"packed[{subtype}]":
                return cls(subtype)
        raise TypeError(f"Cannot construct a 'PackedDtype' from '{string}'")

    @classmethod
    def construct_array_type(cls) -> Any:
        """Return the class of arrays of this dtype."""
        return PackedArray

    def _get_common_dtype(self, dtypes: list[Any]) -> Any:
        if all(isinstance(dtype, PackedDtype) for dtype in dtypes):
            return self if len(set(dtypes)) == 1 else np.dtype("float64")
        decoded = [dtype.subtype if isinstance(dtype, PackedDtype) else dtype for dtype in dtypes]
        if all(isinstance(dtype, np.dtype) and dtype.kind in "iuf" for dtype in decoded):
            return np.result_type(*decoded)
        other: Any = next((dtype for dtype in decoded if isinstance(dtype, ExtensionDtype)), None)
        return None if other is None else other._get_common_dtype(decoded)


class _Store:
    """Codes and their encoding, shared by a column and its slices.

    Both are one attribute that is replaced at once, since codes mean other numbers under another
    encoding, and one thread may read while another assigns: a reader must get :attr:`encoded` once.
    """

    __slots__ = ("encoded",)

    def __init__(self, codes: Codes | SparseCodes, encoding: Encoding) -> None:
        self.encoded = Encoded(codes, encoding)

    def put(self, positions: Any, values: Any) -> None:
        """Overwrite values in place; a value without a code turns the whole column plain."""
        codes, encoding = self.encoded
        try:
            new_codes, dense = encoding.encode(values), codes.dense()
        except NotInDictionaryError:
            dense, encoding = encode_plain(encoding.decode(codes.all()))
            new_codes = values
        dense.put(positions, new_codes)
        if dense is not codes:
            self.encoded = Encoded(dense, encoding)


class PackedArray(PackedOperations, ExtensionArray):
    """Packed column, or a view of consecutive rows of one. Create it with :meth:`from_numpy`."""

    _readonly = False

    def __init__(self, store: _Store, offset: int, length: int, dtype: PackedDtype) -> None:
        self._store, self._offset, self._length, self._dtype = store, offset, length, dtype

    def __reduce__(self) -> Any:
        codes, encoding = self._encoded
        return _from_codes, (codes.copy(), encoding, self._dtype)

    # -- construction ------------------------------------------------------------------------------

    @classmethod
    def from_numpy(cls, values: Any) -> PackedArray:
        """Return a float64 or int64 numpy array in the encoding with the fewest bytes."""
        return cls._from_encoded(encode(values), values.dtype)

    @classmethod
    def if_smaller(cls, values: Any, max_bytes: int) -> PackedArray | None:
        """Return :meth:`from_numpy` if it takes fewer than ``max_bytes``, else ``None``."""
        encoded = encode(values)
        return cls._from_encoded(encoded, values.dtype) if encoded.nbytes < max_bytes else None

    @classmethod
    def _from_encoded(cls, encoded: Encoded, dtype: Any) -> PackedArray:
        codes, encoding = encoded
        if codes.bits == 64:  # plain encoding may refer to the caller's array
            codes = codes.copy()
        return _from_codes(codes, encoding, PackedDtype(dtype))

    @classmethod
    def _from_sequence(cls, scalars: Any, *, dtype: Any = None, copy: bool = False) -> PackedArray:
        packed_dtype: Any = None if dtype is None else pd.api.types.pandas_dtype(dtype)
        if isinstance(scalars, PackedArray) and packed_dtype in (None, scalars.dtype):
            return scalars.copy() if copy else scalars
        subtype = None if packed_dtype is None else packed_dtype.subtype
        return cls.from_numpy(to_numbers(scalars, subtype))

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
        return cls.from_numpy(np.concatenate([array.to_numpy() for array in to_concat]))

    def _cast_pointwise_result(self, values: Any) -> Any:
        result = pd.Series(list(values))
        packs = result.dtype == self.dtype.subtype
        return type(self).from_numpy(result.to_numpy()) if packs else result.array

    # -- properties --------------------------------------------------------------------------------

    @property
    def dtype(self) -> PackedDtype:
        """Dtype of the column, which names the dtype of its numbers."""
        return self._dtype

    @property
    def nbytes(self) -> int:
        """Bytes of the codes and the dictionary."""
        return self._encoded.nbytes

    @property
    def bits(self) -> int:
        """Bits per code."""
        return self._encoded.codes.bits

    @property
    def is_sparse(self) -> bool:
        """Whether only the cells that differ from a fill value are stored."""
        return isinstance(self._store.encoded.codes, SparseCodes)

    @property
    def encoding_name(self) -> str:
        """Description of the encoding: ``dictionary of 90 values, 8 bits per cell``."""
        codes, encoding = self._store.encoded
        bits = f"{codes.bits} {'bit' if codes.bits == 1 else 'bits'}"
        if isinstance(codes, SparseCodes):
            count = codes.exception_count
            exceptions = "1 exception" if count == 1 else f"{count:,} exceptions"
            return f"{encoding}, {bits} and a position for {exceptions}"
        return f"{encoding}, {bits} per cell"

    @property
    def _encoded(self) -> Encoded:
        codes, encoding = self._store.encoded
        return Encoded(codes.slice(self._offset, self._offset + self._length), encoding)

    def __len__(self) -> int:
        return self._length

    def isna(self) -> Any:
        """Return a mask of the cells that are NaN."""
        codes, encoding = self._encoded
        if isinstance(encoding, DictionaryEncoding | ScaledEncoding):
            if encoding.missing is None:
                return np.zeros(len(self), dtype=bool)
            return codes.all() == encoding.missing
        if self.dtype.kind != "f":
            return np.zeros(len(self), dtype=bool)
        return np.isnan(encoding.decode(codes.all()))

    # -- reading -----------------------------------------------------------------------------------

    def to_numpy(self, dtype: Any = None, copy: bool = True, na_value: Any = ...) -> Any:  # noqa: ARG002
        """Return the numbers as a new array."""
        codes, encoding = self._encoded
        array = encoding.decode(codes.all())
        if na_value is not ... and na_value is not pd.api.extensions.no_default:
            is_nan = np.isnan(array) if array.dtype.kind == "f" else np.zeros(len(array), bool)
            if is_nan.any():
                array = array.astype(object if dtype is None else dtype)
                array[is_nan] = na_value
        return array if dtype is None else array.astype(dtype, copy=False)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        if copy is False:
            raise ValueError(
                "a packed column is decoded into a new array each time; copy=False is impossible"
            )
        return self.to_numpy(dtype)

    def __arrow_array__(self, type: Any = None) -> Any:  # noqa: A002
        array: Any = pd.Series(self.to_numpy()).convert_dtypes(dtype_backend="pyarrow").array
        return array.__arrow_array__(type)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.to_numpy().tolist())

    def __getitem__(self, item: Any) -> Any:
        item = without_ellipsis(item)
        codes, encoding = self._encoded
        if pd.api.types.is_integer(item):
            position = to_position(int(item), len(self))
            return encoding.decode(codes.at(np.array([position])))[0]
        if isinstance(item, slice):
            start, stop, step = item.indices(len(self))
            if step == 1:
                length = max(0, stop - start)
                view = type(self)(self._store, self._offset + start, length, self._dtype)
                view._readonly = self._readonly
                return view
            return _from_codes(codes.take(np.arange(len(self))[item]), encoding, self._dtype)
        return _from_codes(codes.take(self._positions(item)), encoding, self._dtype)

    def take(self, indices: Any, *, allow_fill: bool = False, fill_value: Any = None) -> Any:
        """Return some cells; with ``allow_fill``, -1 is a missing one or ``fill_value``."""
        positions = np.asarray(indices, dtype=np.intp)
        rows: Any = take(np.arange(len(self)), positions, allow_fill=allow_fill, fill_value=-1)
        is_filled = rows < 0
        codes, encoding = self._encoded
        if not is_filled.any():
            return _from_codes(codes.take(rows), encoding, self._dtype)
        rows = np.where(is_filled, 0, rows)
        fills_missing = fill_value is None or bool(pd.isna(fill_value))
        if fills_missing and encoding.missing is not None and len(self):
            taken = codes.take(rows).dense()
            taken.put(np.flatnonzero(is_filled), encoding.missing)
            return _from_codes(taken, encoding, self._dtype)
        numbers = self.to_numpy() if len(self) else np.zeros(1, dtype=self.dtype.subtype)
        values = numbers.take(rows)
        if fills_missing:
            result = with_missing(values, is_filled)
            return type(self).from_numpy(result) if isinstance(result, np.ndarray) else result
        filled = np.where(is_filled, to_numbers([fill_value], None), values)
        return type(self).from_numpy(filled)

    def copy(self) -> PackedArray:
        """Return a copy that shares no codes."""
        codes, encoding = self._encoded
        return _from_codes(codes.copy(), encoding, self._dtype)

    def _positions(self, item: Any) -> Any:
        if not pd.api.types.is_list_like(item):
            raise IndexError(
                "only integers, slices (`:`), ellipsis (`...`), numpy.newaxis (`None`) and integer or "
                "boolean arrays are valid indices"
            )
        return np.arange(len(self))[pd.api.indexers.check_array_indexer(self, item)]

    # -- assignment --------------------------------------------------------------------------------

    def __setitem__(self, key: Any, value: Any) -> None:
        if self._readonly:
            raise ValueError("Cannot modify read-only array")
        key = without_ellipsis(key)
        if pd.api.types.is_integer(key):
            positions = np.array([to_position(int(key), len(self))])
        elif isinstance(key, slice):
            positions = np.arange(len(self))[key]
        else:
            positions = self._positions(key)
        is_scalar = pd.api.types.is_scalar(value)
        numbers = to_numbers([value] if is_scalar else value, self.dtype.subtype)
        if not is_scalar and len(numbers) != len(positions):
            raise ValueError(f"{len(numbers)} values cannot be assigned to {len(positions)} cells")
        self._shifted_from = None
        self._store.put(positions + self._offset, numbers)

    def _where(self, mask: Any, value: Any) -> PackedArray:
        return type(self).from_numpy(_choose(np.asarray(mask, dtype=bool), self, value))

    def fillna(self, value: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Return a new column with a value in place of missing ones."""
        limit, method = kwargs.get("limit"), kwargs.get("method")
        if args or method is not None or (limit is None and not pd.api.types.is_scalar(value)):
            return super().fillna(value, *args, **kwargs)
        is_missing = self.isna()
        if limit is not None:  # pandas 2 ignores it
            is_missing &= is_missing.cumsum() <= limit
        return self._where(~is_missing, value) if is_missing.any() else self.copy()

    def astype(self, dtype: Any, copy: bool = True) -> Any:
        """Return the numbers in another dtype."""
        target = pd.api.types.pandas_dtype(dtype)
        if target == self.dtype:
            return self.copy() if copy else self
        if isinstance(target, PackedDtype):
            return type(self)._from_sequence(self.to_numpy(), dtype=target)
        return unwrapped(self._series().astype(target))

    def _formatter(self, boxed: bool = False) -> Any:
        return None if boxed else str


def _from_codes(codes: Codes | SparseCodes, encoding: Encoding, dtype: PackedDtype) -> PackedArray:
    return PackedArray(_Store(codes, encoding), 0, len(codes), dtype)


def _choose(mask: Any, array: PackedArray, other: Any) -> Any:
    """Return the numbers of an array where the mask is set, and others elsewhere."""
    others = to_numbers([other] if pd.api.types.is_scalar(other) else other, None)
    numbers = np.where(mask, array.to_numpy(), others)
    is_integer = numbers.dtype.kind == "i" and array.dtype.kind == "i"
    return numbers.astype(np.int64 if is_integer else np.float64, copy=False)
