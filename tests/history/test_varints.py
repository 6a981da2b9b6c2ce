"""Rows of whole numbers survive their encoding, and damage is found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_knitperf.core.errors import HistoryError
from flask_knitperf.history.varints import Rows, decode, encode, unzigzag, zigzag

UNSIGNED = st.one_of(
    st.integers(0, 2**64 - 1), st.sampled_from([0, 127, 128, 2**14 - 1, 2**14, 2**63, 2**64 - 1])
)


@given(st.lists(st.lists(UNSIGNED, max_size=5), max_size=20))
def test_rows_are_read_as_they_were_written(rows: list[list[int]]) -> None:
    values = np.array([value for row in rows for value in row], np.uint64)
    starts = np.cumsum([0, *map(len, rows)])
    blobs = encode(Rows(values, starts))
    assert len(blobs) == len(rows)
    read = decode(blobs)
    assert read.values.tolist() == values.tolist() and read.starts.tolist() == starts.tolist()


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_signed_numbers_are_read_as_they_were_written(numbers: list[int]) -> None:
    array = np.array(numbers, np.int64)
    assert unzigzag(zigzag(array)).tolist() == numbers


def test_small_numbers_take_one_byte() -> None:
    assert encode(Rows(zigzag(np.array([0, -1, 63, -64])), np.array([0, 4]))) == [
        b"\x00\x01\x7e\x7f"
    ]


@pytest.mark.parametrize(
    "blobs", [[b"\x80"], [b"\x01\x80", b"\x01"], [b"\x80" * 10 + b"\x01"]],
    ids=["ends within a number", "goes on in the next row", "is longer than a number"],
)  # fmt: skip
def test_a_damaged_row_is_refused(blobs: list[bytes]) -> None:
    with pytest.raises(HistoryError, match="damaged"):
        decode(blobs)
