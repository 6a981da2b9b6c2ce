"""Digests of results within a share of the function's time."""

from __future__ import annotations

import datetime as dt
import decimal
import fractions
import random
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flask_knitperf.caching import result_digests
from flask_knitperf.caching.keys import Encoding
from flask_knitperf.caching.result_digests import MAX_HASH_NS, ResultDigests, plain_digest

MS = 1_000_000


class Ticks:
    """A clock on which hashing takes a fixed time."""

    def __init__(self, took_ns: int) -> None:
        self.took_ns = took_ns
        self._now = self._run()

    def _run(self) -> Iterator[int]:
        now = 0
        while True:
            yield now
            now += self.took_ns

    def __call__(self) -> int:
        return next(self._now)


def digests(hash_ms: float = 0.01, share: float = 0.005) -> ResultDigests:
    return ResultDigests(share, random.Random(1).random, Ticks(round(hash_ms * MS)))


@pytest.mark.parametrize("hash_ms", [0.01, 0.1, 1.0, 20.0])
@pytest.mark.parametrize("load_share", [0.02, 0.5, 1.0])
def test_hashing_stays_within_the_share_whatever_it_takes(
    hash_ms: float, load_share: float
) -> None:
    own, draw, calls = digests(hash_ms), random.Random(2).random, 20_000
    for _ in range(calls):
        if draw() < load_share:
            own.of_load("x", MS)
        else:
            own.of_hit("x", MS)
    credit = 40 * result_digests.MIN_HASH_NS
    assert own.spent_ns <= 0.005 * calls * MS + credit + MAX_HASH_NS / 10
    if hash_ms < 1:
        assert own.spent_ns >= 0.5 * 0.005 * calls * MS * min(1.0, hash_ms / 0.01)


def test_where_there_is_time_all_are_hashed() -> None:
    own = digests(hash_ms=0.01)
    assert all(own.of_load("x", 100 * MS) for _ in range(100)) and not own.unhashed_share
    assert all(own.of_hit("x", 100 * MS) for _ in range(100))


def test_the_first_loads_are_hashed_before_any_time_is_saved() -> None:
    assert digests().of_load("x", 0) is not None


def test_a_part_of_the_loads_is_known_as_such_until_the_comparisons_start_again() -> None:
    own = digests(hash_ms=1)
    results = [own.of_load("x", MS) for _ in range(50)]
    assert own.unhashed_share == results.count(None) / 50 > 0.2
    own.start_comparisons()
    assert own.unhashed_share == 0


def test_hits_are_drawn_whatever_time_is_left_for_loads() -> None:
    own = digests(hash_ms=0.1)
    hashed = [own.of_load("x", MS) is not None for _ in range(1000)]
    hits = [own.of_hit("x", MS) is not None for _ in range(1000)]
    assert sum(hashed) > 20 and sum(hits) > 20


PLAIN: list[Any] = [
    None, True, 1, 1.0, 0.0, -0.0, "1", b"1", "", [], {}, (), [1], (1,), [[1]], {"a": 1}, {"a": True},
    {"b": 1, "a": 1}, {"a": 1, "b": 1}, dt.date(2026, 1, 1), dt.datetime.min,  # noqa: DTZ901

    dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.timedelta(1), dt.time(1), decimal.Decimal("1.0"),
    decimal.Decimal("1.00"), uuid.UUID(int=1), float("nan"), 2**70, "a" * 70_000,
]  # fmt: skip


def test_plain_values_that_differ_in_anything_have_different_digests() -> None:
    digests = [plain_digest(value, MAX_HASH_NS) for value in PLAIN]
    assert None not in digests and len(set(digests)) == len(PLAIN)


def test_a_value_that_occurs_twice_is_like_two_equal_values() -> None:
    row = ["a" * 20, {"b": 1}]
    again = [("a" * 10) + "a" * int("10"), {"b": 1}]
    assert plain_digest([row, row], MAX_HASH_NS) == plain_digest([row, again], MAX_HASH_NS)


class Own(dict):  # type: ignore[type-arg]
    """A class of an application, none of whose methods is called."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise AssertionError(protocol)


@pytest.mark.parametrize(
    "value",
    [{1, 2}, [frozenset({1})], Own(), [Own()], {"a": object()}, np.int64(1), pd.Timestamp(0), print,
     Own, fractions.Fraction(1, 3)],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_is_not_plain_is_encoded(value: Any) -> None:
    assert plain_digest(value, MAX_HASH_NS) is None


def test_a_list_that_contains_itself_has_no_digest() -> None:
    value: list[Any] = []
    value.append(value)
    assert plain_digest(value, MAX_HASH_NS) is None
    own = digests()
    assert own.of_load(value, MS) is None and "contains itself" in own.problem


def test_equal_results_have_one_digest_and_others_another() -> None:
    own = digests()
    values: list[Any] = [[1, 2], [1, 2], [2, 1], {"a": 1}, pd.DataFrame({"a": [1]})]
    first, second, *others = [own.of_load(value, 1000 * MS) for value in values]
    assert first == second and None not in others and first not in others


LARGE: dict[str, Callable[[], Any]] = {
    "list": lambda: list(range(3_000_000)),
    "set": lambda: set(range(1_000_000)),
    "text": lambda: "a" * 200_000_000,
    "array": lambda: np.zeros(60_000_000, "u1"),
    "lists": lambda: [[number] for number in range(200_000)],
    "objects": lambda: np.full(500_000, "a", object),
    "frame": lambda: pd.DataFrame({number: np.zeros(400_000) for number in range(30)}),
    "frame of objects": lambda: pd.DataFrame({"a": np.full(300_000, "a", object)}, dtype=object),
}


@pytest.mark.parametrize("kind", LARGE)
def test_a_result_that_would_take_too_long_is_not_hashed(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, value = ResultDigests(0.005), LARGE[kind]()
    for encoding in (Encoding, result_digests._BoundedEncoding):
        monkeypatch.setattr(encoding, "digest", lambda _: pytest.fail("it was encoded"))
    for _ in range(20):
        assert own.of_load(value, 100_000 * MS) is None
    assert own.problem == "hashing one takes too long"


def test_the_reason_is_kept_where_results_have_no_content() -> None:
    own = digests()
    assert own.of_load(object(), MS) is None and own.of_load("x", 1000 * MS) is None
    assert own.problem == "a object has no content that could be a key"


def test_a_class_that_raises_when_it_is_read_is_a_problem_and_no_error() -> None:
    class Hostile(dict):  # type: ignore[type-arg]
        __slots__ = ()

        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError(name)

    own = digests()
    own.of_load(Hostile(a=1), MS)
    own.of_load([Hostile(a=1)], MS)
    assert own.problem == "" or "cannot be read" in own.problem
