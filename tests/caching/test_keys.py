"""Keys: two arguments that a function can distinguish never share one."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import hashlib
import importlib
import itertools
import math
import pathlib
import subprocess
import sys
import types
import typing
import uuid
import zoneinfo
from typing import Any

import markupsafe
import numpy as np
import pandas as pd
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_knitperf.caching import array_digest as arrays
from flask_knitperf.caching import content_hash
from flask_knitperf.caching.array_digest import DIGEST_BYTES, array_digest
from flask_knitperf.caching.keys import (
    MAX_DEPTH,
    Encoding,
    content_digest,
    function_digest,
)
from flask_knitperf.core.errors import CacheKeyError


def key(value: Any) -> bytes:
    encoding = Encoding()
    encoding.add(value)
    return b"".join(encoding.parts)


def digest_of(frame: Any) -> bytes:
    return array_digest(frame, content_digest)


class Colour(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    ONE = 1


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Point(typing.NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Style:
    number: int
    name: str = "sock"


@dataclasses.dataclass
class Yarn:
    number: int
    name: str = "sock"


BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
NOON = dt.datetime(2026, 10, 25, 2, 30)  # noqa: DTZ001
MIDNIGHT = dt.datetime(2026, 10, 25)  # noqa: DTZ001
FRAME = pd.DataFrame({"style": ["a", "b"], "qty": [1.0, 2.0]})

DISTINCT: list[Any] = [
    None, ..., True, False, 0, 1, -1, 2**70, 1.0, 0.0, -0.0, math.nan, math.inf, 1j, complex(-0.0, 0),
    "", "1", "a", "\udcff", b"", b"1", bytearray(b"1"), decimal.Decimal("1.0"), decimal.Decimal("1.00"),
    decimal.Decimal("NaN"), decimal.Decimal("-0"), fractions.Fraction(1), uuid.UUID(int=1),
    (), (1,), [1], [[1]], [1, []], ((1,),), (1, 1), {1}, frozenset({1}), {"a": 1}, {"a": 1.0}, {1: "a"},
    {"a": 1, "b": 2}, {"b": 2, "a": 1}, collections.OrderedDict(a=1), collections.Counter(a=1),
    collections.defaultdict(int, a=1), collections.defaultdict(list, a=1), collections.deque([1]),
    collections.deque([1], 3), slice(1), slice(None), range(1), range(0, 1, 2),
    Colour.RED, Level.ONE, Right.READ, Right.READ | Right.WRITE, Right(0), Point(1, 2), (1, 2),
    Style(1), Yarn(1), Style(2), Style, Point, int, len, sum, key,
    pathlib.Path("a"), pathlib.PureWindowsPath("a"), "a/",
    dt.date(2026, 10, 25), MIDNIGHT, pd.Timestamp("2026-10-25").as_unit("ns"),
    pd.Timestamp("2026-10-25").as_unit("s"), NOON, NOON.replace(fold=1), NOON.replace(tzinfo=BERLIN),
    NOON.replace(tzinfo=BERLIN, fold=1), NOON.replace(tzinfo=dt.UTC),
    NOON.replace(tzinfo=dt.timezone(dt.timedelta(hours=2))),
    NOON.replace(tzinfo=zoneinfo.ZoneInfo("Europe/Paris")), NOON.time(),
    pd.Timestamp(NOON, tz="UTC"), pd.NaT, pd.NA, pd.Timedelta(1), dt.timedelta(microseconds=1),
    pd.Period("2026-10"), pd.Period("2026-10-25"), pd.Interval(0, 1), pd.Interval(0, 1, closed="left"),
    np.int64(1), np.int32(1), np.float64(1), np.float32(1), np.bool_(True), np.str_("a"),
    np.datetime64("2026-10-25"), np.datetime64("NaT"), np.array([1]), np.array([1.0]),
    np.array([[1]]), np.array([[1, 2], [3, 4]]), np.array([[1, 2], [3, 4]], order="F"),
    np.array([[1, 3], [2, 4]]), np.array([1], dtype=object), np.array(["1"], dtype=object),
    pd.Series([1]), pd.Series([1], name="a"), pd.Series([1], index=[1]), pd.Index([1]),
    pd.Index([1], name="a"), FRAME, FRAME[["qty", "style"]], FRAME.rename(columns={"qty": "Qty"}),
    FRAME.astype({"qty": "float32"}), FRAME.set_index("style"), FRAME.iloc[::-1],
    FRAME.assign(qty=[1.0, -2.0]), FRAME.assign(qty=[-0.0, 2.0]), FRAME.assign(qty=[0.0, 2.0]),
    FRAME.astype({"style": "category"}), FRAME.astype({"style": "string"}),
    FRAME.astype({"style": pd.CategoricalDtype(["b", "a"])}),
]  # fmt: skip


def test_values_that_a_function_can_distinguish_have_different_keys() -> None:
    encoded = [key(value) for value in DISTINCT]
    same = [
        (DISTINCT[a], DISTINCT[b])
        for a, b in itertools.combinations(range(len(encoded)), 2) if encoded[a] == encoded[b]
    ]  # fmt: skip
    assert same == []


def test_no_key_is_the_beginning_of_another() -> None:
    encoded = sorted(key(value) for value in DISTINCT)
    assert not [a for a, b in itertools.pairwise(encoded) if b.startswith(a)]


@pytest.mark.parametrize(
    "make",
    [
        lambda: {"a": [1, (2.5, None)], "b": {3, 4}}, FRAME.copy, lambda: Style(3),
        lambda: np.arange(9).reshape(3, 3), lambda: NOON.replace(tzinfo=BERLIN),
        lambda: decimal.Decimal("1.50"), lambda: {frozenset({"x", "y"}): [Colour.RED]},
        lambda: FRAME.assign(when=pd.Timestamp("2026-10-25", tz="Europe/Berlin")),
    ],
    ids=range(8),
)  # fmt: skip
def test_equal_content_has_the_same_key(make: Any) -> None:
    assert key(make()) == key(make())


VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.dates(),
        st.decimals(), st.complex_numbers(),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.tuples(inner, inner),
        st.dictionaries(st.text(max_size=4), inner, max_size=4),
    ),
)  # fmt: skip


def exact(value: Any) -> Any:
    """A description of a value, by content and type."""
    if isinstance(value, list | tuple):
        return type(value).__name__, [exact(item) for item in value]
    if isinstance(value, dict):
        return "dict", [(exact(one), exact(other)) for one, other in value.items()]
    if isinstance(value, float):
        return "float", np.float64(value).tobytes()
    if isinstance(value, complex):
        return "complex", np.complex128(value).tobytes()
    if isinstance(value, decimal.Decimal):
        return "Decimal", value.as_tuple()
    return type(value).__name__, value


@pytest.mark.slow
@given(VALUES, VALUES)
@settings(max_examples=400, deadline=None)
def test_keys_are_equal_exactly_where_content_and_types_are(one: Any, other: Any) -> None:
    assert (key(one) == key(other)) == (exact(one) == exact(other))


@pytest.mark.slow
@given(VALUES, VALUES)
@settings(max_examples=200, deadline=None)
def test_a_sequence_of_values_is_read_in_one_way(one: Any, other: Any) -> None:
    both = key((one, other))
    assert both.endswith(key(one) + key(other))


def test_the_order_of_a_set_is_no_part_of_its_key() -> None:
    words = [f"style {number}" for number in range(50)]
    backwards = words[::-1]
    assert key(set(words)) == key(set(backwards))
    assert key({1, "a", None, (2,)}) == key({(2,), None, "a", 1})


def test_one_cell_of_many_makes_another_key() -> None:
    frame = pd.DataFrame({"a": np.arange(60_000), "b": ["x"] * 60_000})
    for column, cell in (("a", -1), ("b", "y")):
        other = frame.copy()
        other.loc[31_415, column] = cell
        assert digest_of(frame) != digest_of(other)


@pytest.mark.parametrize("make", [hashlib.sha256, xxhash.xxh3_128], ids=["sha256", "xxhash"])
def test_either_hash_function_gives_digests_of_one_length(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "new_hash", make)
    other = FRAME.assign(qty=[1.0, 3.0])
    assert len(digest_of(FRAME)) == DIGEST_BYTES and digest_of(FRAME) != digest_of(other)


def test_without_xxhash_frames_are_hashed_by_sha256(monkeypatch: pytest.MonkeyPatch) -> None:
    assert content_hash.new_hash is xxhash.xxh3_128
    monkeypatch.setitem(sys.modules, "xxhash", None)
    importlib.reload(content_hash)
    assert content_hash.new_hash is hashlib.sha256
    monkeypatch.undo()
    importlib.reload(content_hash)
    assert content_hash.new_hash is xxhash.xxh3_128


def test_attributes_of_a_frame_are_part_of_its_key() -> None:
    other = FRAME.copy()
    other.attrs["unit"] = "kg"
    assert key(FRAME) != key(other)


def refused() -> list[Any]:
    cycle: list[Any] = []
    cycle.append(cycle)
    deep: list[Any] = []
    for _ in range(MAX_DEPTH + 1):
        deep = [deep]

    class Text(str):
        def __new__(cls, text: str, extra: object) -> Any:
            self = super().__new__(cls, text)
            self.extra = extra  # type: ignore[attr-defined]
            return self

    class Liar:
        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 1

        def __repr__(self) -> str:
            return "1"

    @dataclasses.dataclass
    class Words(list):  # type: ignore[type-arg]
        pass

    class Zone(dt.tzinfo):
        def __reduce__(self) -> Any:
            raise TypeError("never")

    words = Words()
    words.append(object())
    return [
        cycle, deep, object(), Text("a", object()), Liar(), words, iter([]), (n for n in []), open,
        sys.stdout,
        lambda: 1, [].append, types.SimpleNamespace(a=1), functools.partial(int),
        np.array([lambda: 1], dtype=object), pd.DataFrame({"a": [lambda: 1]}),
        NOON.replace(tzinfo=Zone()), {"a": object()}, {object()},
    ]  # fmt: skip


@pytest.mark.parametrize("place", range(len(refused())))
def test_a_value_without_content_has_no_key(place: int) -> None:
    value = refused()[place]
    if value is open:
        assert key(value)  # a function of the interpreter has a name
        return
    with pytest.raises(CacheKeyError):
        key(value)


def test_classes_of_one_name_are_different_keys() -> None:
    def make() -> Any:
        @dataclasses.dataclass
        class Local:
            number: int

        return Local

    one, other = make(), make()
    assert key(one(1)) != key(other(1))
    assert key(one(1)) == key(one(1)) and key(one) != key(other)
    encoding = Encoding()
    encoding.add([{one(1)}] if one.__hash__ else [one(1)])
    assert not encoding.shareable


def test_an_instance_of_a_subclass_has_its_class_and_attributes_in_its_key() -> None:
    class Text(str):
        __slots__ = ("__dict__", "note")

    class Rows(list):  # type: ignore[type-arg]
        def __iter__(self) -> Any:
            return iter(())

    class Table(dict):  # type: ignore[type-arg]
        __slots__ = "unit"

    one, other = Text("a"), Text("a")
    assert key(one) == key(other) != key("a")
    one.note = 1  # type: ignore[attr-defined]
    assert key(one) != key(other)
    other.kind = 1  # type: ignore[attr-defined]
    assert key(one) != key(other)
    assert key(Rows([1])) != key(Rows([2])) and key(Rows([1])) == key(Rows([1]))
    table = Table(a=1)
    assert key(table) == key(Table(a=1))
    table.unit = "kg"
    assert key(table) != key(Table(a=1))
    assert key(markupsafe.Markup("a")) == key(markupsafe.Markup("a")) != key("a")


def test_frames_of_equal_content_have_one_key_whatever_objects_are_in_them() -> None:
    text = [str(number) + "ck" for number in (50, 50, 50)]
    same = [text[0]] * 3
    one, other = (pd.DataFrame({"a": pd.Series(cells, dtype=object)}) for cells in (text, same))
    assert key(one) == key(other)


def test_state_beside_the_fields_of_a_dataclass_is_part_of_its_key() -> None:
    @dataclasses.dataclass
    class Order:
        lines: int
        note: str = dataclasses.field(init=False)

        @functools.cached_property
        def total(self) -> int:
            return self.lines * 2

    one, other = Order(1), Order(1)
    assert key(one) == key(other)
    assert one.total == 2
    assert key(one) == key(other)
    one.note = "x"
    assert key(one) != key(other)
    other.__dict__["note"] = "x"
    other.__dict__["discount"] = 3
    assert key(one) != key(other)


def test_the_digest_of_a_function_follows_its_code() -> None:
    def compiled(source: str) -> Any:
        scope: dict[str, Any] = {}
        exec(source, scope)
        return scope["f"]

    same = compiled("def f(a):\n    return a + 1")
    moved = compiled("\n\n\ndef f(a):\n    return a + 1")
    edited = compiled("def f(a):\n    return a + 2")
    nested = [
        compiled(f"def f(a):\n    return [x for x in a if x in {{{n}, 'b'}}]") for n in (1, 2)
    ]
    assert function_digest(same) == function_digest(moved) != function_digest(edited)
    assert function_digest(nested[0]) != function_digest(nested[1])
    assert function_digest(len) != function_digest(sum)


PRINT = """
import sys
sys.path[:0] = {path!r}
from tests.caching.test_keys import DISTINCT, Encoding, function_digest, key
encoding = Encoding()
encoding.add([set("abcdef"), {{"x": frozenset("ghijkl")}}, DISTINCT[:-1]])
print(encoding.digest().hex(), function_digest(key).hex(), encoding.shareable)
"""


@pytest.mark.slow
def test_keys_are_the_same_in_every_process() -> None:
    code = PRINT.format(path=sys.path)
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env={"PYTHONHASHSEED": seed, "PATH": ""},
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(outputs) == 1 and outputs.pop().endswith("True\n")
