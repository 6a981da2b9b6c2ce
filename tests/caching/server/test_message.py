"""Values as signed bytes: only those of a process with the secret, under their name, are opened."""

from __future__ import annotations

import datetime as dt
import pickle
from decimal import Decimal
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_knitperf.caching.server.message import ForeignValue, derived, opened, sealed
from flask_knitperf.caching.value_files import Pickled, ValueFileError, pickled, unpickled

KEY, NAME = derived(b"secret", "signature"), b"{knitperf}:value:1"
VALUES: list[Any] = [
    None, 0, "", "knit", [1, {"a": (2.5, Decimal("1.0"))}], dt.date(2026, 1, 1),
    {"at": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)}, b"bytes", {1, 2},
]  # fmt: skip


def sealed_value(value: Any, name: bytes = NAME) -> bytes:
    return sealed(KEY, name, {"cost": 1.0}, pickled(value))


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_comes_back_equal(value: Any) -> None:
    facts, content = opened(KEY, NAME, sealed_value(value))
    assert facts == {"cost": 1.0}
    assert unpickled(content) == value


def test_a_frame_comes_back_equal_and_can_be_written_to() -> None:
    frame = pd.DataFrame({"kg": [1.5, 2.5], "text": ["a", None], "n": pd.Categorical(["x", "y"])})
    again = unpickled(opened(KEY, NAME, sealed_value(frame))[1])
    pd.testing.assert_frame_equal(again, frame)
    again.loc[0, "kg"] = 9.0
    assert again["kg"].tolist() == [9.0, 2.5]


MESSAGE = sealed_value({"style": "12/1A", "weights": [1.0, 2.0]})


@given(st.integers(0, len(MESSAGE) - 1), st.integers(1, 255))
def test_one_changed_byte_makes_a_message_foreign(position: int, change: int) -> None:
    changed = bytearray(MESSAGE)
    changed[position] ^= change
    with pytest.raises(ForeignValue):
        opened(KEY, NAME, bytes(changed))


@given(st.integers(0, len(MESSAGE) - 1))
def test_a_cut_off_message_is_foreign(length: int) -> None:
    with pytest.raises(ForeignValue):
        opened(KEY, NAME, MESSAGE[:length])


def test_a_message_under_another_name_is_foreign() -> None:
    with pytest.raises(ForeignValue, match="not signed"):
        opened(KEY, b"{knitperf}:value:2", MESSAGE)


def test_a_message_of_another_secret_is_foreign() -> None:
    with pytest.raises(ForeignValue, match="not signed"):
        opened(derived(b"other", "signature"), NAME, MESSAGE)


def test_the_end_of_a_name_cannot_become_the_begin_of_a_message() -> None:
    with pytest.raises(ForeignValue):
        opened(KEY, NAME[:-1], MESSAGE[:32] + NAME[-1:] + MESSAGE[32:])


class Bomb:
    def __reduce__(self) -> Any:
        return pytest.fail, ("it was unpickled",)


def test_a_foreign_pickle_is_never_decoded() -> None:
    for message in (pickle.dumps(Bomb()), MESSAGE[:32] + pickle.dumps(Bomb())):
        with pytest.raises(ForeignValue):
            opened(KEY, NAME, message)


def test_a_signed_pickle_of_anything_else_is_not_decoded_either() -> None:
    message = sealed(KEY, NAME, {}, Pickled(pickle.dumps(Bomb()), []))
    with pytest.raises(ValueFileError, match="not a part of a frame"):
        unpickled(opened(KEY, NAME, message)[1])


def test_facts_that_are_no_facts_are_foreign() -> None:
    message = sealed(KEY, NAME, ["cost"], pickled(1))  # type: ignore[arg-type]
    with pytest.raises(ForeignValue, match="format"):
        opened(KEY, NAME, message)
