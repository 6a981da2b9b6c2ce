"""Keys of scalars, containers and objects: equal is not the same."""
# ruff: noqa: DTZ001 - naive times are arguments too

from __future__ import annotations

import collections
import copy
import dataclasses
import datetime as dt
import enum
import io
import re
import uuid
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from .contract import (
    Cached,
    Wrong,
    answer_or_refusal,
    compare,
    compare_values,
    describe,
    expect,
    expect_loads,
    trap,
)


class Needle(NamedTuple):
    """A pair of numbers with names."""

    gauge: int
    length: int


class Stitch(NamedTuple):
    """Another pair of numbers with names."""

    row: int
    column: int


class Sku(str):
    """Text of a type with other behaviour."""

    __slots__ = ()


class Size(enum.Enum):
    """Sizes of garments."""

    SMALL = "S"
    LARGE = "L"


class Shelf(enum.Enum):
    """Shelves, with the same values as sizes."""

    SMALL = "S"


class Shift(enum.StrEnum):
    """Members that equal their text."""

    EARLY = "early"


class Grade(enum.IntEnum):
    """Members that equal their number."""

    FIRST = 1


class Care(enum.Flag):
    """Members that combine."""

    WOOL = 1
    COLD = 2


# Numbers.


@trap("keys")
def int_bool_float_complex(cached: Cached) -> None:
    """1, True, 1.0 and 1+0j are four keys, in any order of their first calls."""
    compare_values(cached, [1, True, 1.0, 1 + 0j])
    compare_values(cached, [0j, 0.0, False, 0])


@trap("keys")
def int_bool_float_within_containers(cached: Cached) -> None:
    """(1,), (True,) and (1.0,) are three keys, also one level further down."""
    compare_values(cached, [(1,), (True,), (1.0,), ((1,), 2), ((True,), 2), ((1.0,), 2.0)])
    compare_values(cached, [frozenset({1}), frozenset({True}), frozenset({1.0})])


@trap("keys")
def signed_zero(cached: Cached) -> None:
    """0.0 and -0.0 are two keys, alone and in a tuple."""
    compare_values(cached, [0.0, -0.0, (0.0,), (-0.0,), complex(0.0, -0.0), complex(0.0, 0.0)])


@trap("keys")
def decimal_forms(cached: Cached) -> None:
    """Decimals with other exponents are other keys: 1, 1.0, 1.00; 100, 1E+2; 0, -0."""
    forms = ("1", "1.0", "1.00", "100", "1E+2", "0", "-0", "0.00", "NaN", "Infinity")
    compare_values(cached, [*map(Decimal, forms), 1, 1.0, 100])


@trap("keys")
def fraction_and_float(cached: Cached) -> None:
    """Fraction(1, 2), 0.5 and Decimal("0.5") are three keys."""
    compare_values(cached, [Fraction(1, 2), 0.5, Decimal("0.5"), Fraction(2), 2, 2.0])


@trap("keys")
def numbers_with_equal_hash(cached: Cached) -> None:
    """Numbers that share a hash are separate keys: -1 and -2, 0 and 2**61 - 1, alone and in tuples."""
    numbers = [-1, -2, 0, 2**61 - 1, -(2**61) + 1, 2**61, 1]
    compare_values(cached, numbers)
    compare_values(cached, [(number, "kg") for number in numbers])


@trap("keys")
def numbers_beyond_float(cached: Cached) -> None:
    """2**53 and its float are two keys, and so is 2**53 + 1."""
    compare_values(cached, [2**53, float(2**53), 2**53 + 1, 2**64, float(2**64), -(2**63), 2**63])


@trap("keys")
def number_too_long_for_text(cached: Cached) -> None:
    """A number that str() refuses to print is a key like any other."""

    def last_bits(number: int) -> int:
        return number & 0xFF

    compare(cached, last_bits, [(10**5000 + 1,), (10**5000 + 2,)])


@trap("keys", counts_loads=True)
def nan_again(cached: Cached) -> None:
    """A NaN from another computation is the same key: one load, though NaN differs from itself."""
    loads: list[float] = []

    def square(number: float) -> str:
        loads.append(number)
        return repr(number * number)

    served = cached(square)
    for text in ("nan", "NaN", "nan"):
        expect(served(float(text)), "nan", "square(nan)")
    expect_loads(loads, 1)


# Text and bytes.


@trap("keys")
def text_and_what_it_prints_like(cached: Cached) -> None:
    """1 and "1", None and "None", () and "()" are separate keys."""
    compare_values(
        cached, [1, "1", None, "None", (), "()", True, "True", 1.0, "1.0", "", b"", "b''"]
    )


@trap("keys")
def separators_within_text(cached: Cached) -> None:
    """Arguments that hold separators of keys are not run into one another."""

    def join(*words: str) -> int:
        return len(words[0]) * 100 + len(words)

    pairs = [
        (f"a{separator}b", "c", "a", f"b{separator}c")
        for separator in (" ", ",", ":", "|", "_", "-", "/", "', '", "\0", "\n", "&", "=", "\x1f")
    ]
    calls = [
        call
        for first, second, third, fourth in pairs
        for call in ((first, second), (third, fourth))
    ]
    compare(cached, join, [*calls, ("a", "b", "c"), ("a, b, c",), ("abc",)])


@trap("keys")
def text_that_looks_like_a_keyword(cached: Cached) -> None:
    """f("a=1"), f(("a", 1)) and f(a=1) are three calls."""

    def listing(*arguments: Any, **keywords: Any) -> str:
        return repr((arguments, keywords))

    served = cached(listing)
    for _ in range(2):
        expect(served("a=1"), listing("a=1"), "f('a=1')")
        expect(served(("a", 1)), listing(("a", 1)), "f(('a', 1))")
        expect(served(a=1), listing(a=1), "f(a=1)")
        expect(served("a", 1), listing("a", 1), "f('a', 1)")
        expect(served(a="1"), listing(a="1"), "f(a='1')")


@trap("keys")
def text_in_other_forms(cached: Cached) -> None:
    """Composed and decomposed letters, other cases and trailing blanks are separate keys."""
    compare_values(cached, ["é", "e\u0301", "É", "a", "A", "a ", " a", "ß", "ss", "1", "１"])


@trap("keys")
def text_with_surrogates(cached: Cached) -> None:
    """File names that are not UTF-8 are keys: text with lone surrogates cannot be encoded."""

    def code_points(name: str) -> str:
        return " ".join(f"{ord(letter):x}" for letter in name)

    compare(cached, code_points, [("yarn\udcff.csv",), ("yarn\udcfe.csv",), ("yarn?.csv",)])


@trap("keys")
def subclasses_of_text(cached: Cached) -> None:
    """Text of another class is another key: safe markup must not answer for unsafe text."""
    from markupsafe import Markup, escape

    def shown(text: str) -> str:
        return str(escape(text))

    compare(cached, shown, [("<b>sale</b>",), (Markup("<b>sale</b>"),)])
    compare(cached, shown, [(Markup("<i>"),), ("<i>",)])
    compare_values(cached, ["A1", Sku("A1")])


@trap("keys")
def bytes_and_text(cached: Cached) -> None:
    """b"yarn" and "yarn" are two keys."""
    compare_values(cached, [b"yarn", "yarn", "b'yarn'", b"", ""])


@trap("keys")
def bytes_and_bytearray(cached: Cached) -> None:
    """Bytes and an equal bytearray are two keys."""
    compare_values(cached, [b"yarn", bytearray(b"yarn"), bytearray(b"yars")])


# Enumerations and times.


@trap("keys")
def enum_and_value(cached: Cached) -> None:
    """Members of enumerations, their values and members of others with equal values are apart."""
    compare_values(cached, [Size.SMALL, Shelf.SMALL, "S", Shift.EARLY, "early", Size.LARGE])
    compare_values(cached, [Grade.FIRST, 1, True, Care.WOOL, Care.COLD, Care.WOOL | Care.COLD])


@trap("keys")
def http_status_and_number(cached: Cached) -> None:
    """HTTPStatus.OK and 200 are two keys; only the first has a phrase."""
    from http import HTTPStatus

    def phrase(status: int) -> str:
        return getattr(status, "phrase", "a number")

    compare(cached, phrase, [(HTTPStatus.OK,), (200,)])


@trap("keys")
def date_and_datetime(cached: Cached) -> None:
    """A date, its midnight and their ISO texts are separate keys."""
    compare_values(
        cached,
        [
            dt.date(2024, 3, 1),
            dt.datetime(2024, 3, 1),
            "2024-03-01",
            "2024-03-01 00:00:00",
            dt.time(),
        ],
    )


@trap("keys")
def datetime_and_timestamp(cached: Cached) -> None:
    """A datetime and the equal Timestamp and datetime64 are separate keys."""
    import numpy as np
    import pandas as pd

    moment = dt.datetime(2024, 3, 1, 12)
    compare_values(cached, [moment, pd.Timestamp(moment), np.datetime64(moment, "us")])
    compare_values(cached, [np.datetime64("2024-03-01", "D"), np.datetime64("2024-03-01", "ns")])


@trap("keys")
def timestamp_units(cached: Cached) -> None:
    """Equal Timestamps of other units are other keys."""
    import pandas as pd

    def unit(moment: pd.Timestamp) -> str:
        return moment.unit

    moment = pd.Timestamp("2024-03-01")
    compare(cached, unit, [(moment.as_unit(name),) for name in ("s", "ms", "us", "ns")])


@trap("keys")
def durations(cached: Cached) -> None:
    """A timedelta, the equal Timedelta and timedelta64 of two units are apart, or are refused."""
    import numpy as np
    import pandas as pd

    served = cached(lambda duration: describe(duration))  # noqa: PLW0108 - the parameter has a name
    day = dt.timedelta(days=1)
    for value in (day, pd.Timedelta(day), np.timedelta64(1, "D"), np.timedelta64(24, "h")):
        answer_or_refusal(served, "duration", describe(value), value)


@trap("keys")
def instant_in_two_zones(cached: Cached) -> None:
    """One instant in two zones is two keys: the local hour differs."""

    def local_hour(moment: dt.datetime) -> int:
        return moment.hour

    noon = dt.datetime(2024, 6, 1, 12, tzinfo=dt.UTC)
    zones = [dt.timezone(dt.timedelta(hours=2)), ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Tokyo")]
    compare(cached, local_hour, [(noon,), *((noon.astimezone(zone),) for zone in zones)])


@trap("keys")
def zone_by_name_and_by_offset(cached: Cached) -> None:
    """Equal times with equal offsets are apart if their zones have other rules."""

    def offset_in_summer(moment: dt.datetime) -> str:
        return str(moment.replace(month=7).utcoffset())

    zones = [
        ZoneInfo("Europe/Berlin"),
        dt.timezone(dt.timedelta(hours=1)),
        ZoneInfo("Africa/Lagos"),
    ]
    compare(
        cached, offset_in_summer, [(dt.datetime(2024, 1, 15, 8, tzinfo=zone),) for zone in zones]
    )


@trap("keys")
def fold(cached: Cached) -> None:
    """The two half past two of an October night are two keys, aware, naive and as a time."""

    def fold_of(moment: Any) -> int:
        return moment.fold

    aware = dt.datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    moments = [aware, aware.replace(tzinfo=None), dt.time(2, 30)]
    compare(cached, fold_of, [(m.replace(fold=number),) for m in moments for number in (0, 1)])


# NumPy scalars.


@trap("keys")
def numpy_scalars(cached: Cached) -> None:
    """Scalars of NumPy are apart by dtype, and apart from Python's numbers and text."""
    import numpy as np

    compare_values(
        cached,
        [1, np.int8(1), np.int32(1), np.int64(1), np.uint64(1), np.float32(1), np.float64(1), 1.0,
         np.bool_(True), True, np.float64(0.1), np.float32(0.1), 0.1, np.str_("a"), "a"],
    )  # fmt: skip
    compare_values(cached, [np.float64(0.0), np.float64(-0.0), np.complex64(1), np.float16(1)])


# Containers.


@trap("keys")
def named_tuple_and_tuple(cached: Cached) -> None:
    """A NamedTuple, an equal tuple and an equal NamedTuple of another class are three keys."""
    compare_values(cached, [(1, 2), Needle(1, 2), Stitch(1, 2), ((1, 2),), (Needle(1, 2),)])


@trap("keys")
def list_and_tuple(cached: Cached) -> None:
    """Lists and tuples of equal items are apart at every depth."""
    values = [[1, 2], (1, 2), [1, [2]], [1, (2,)], (1, [2]), [[1], 2], [[1, 2]], [1], [[1]], [], ()]
    compare_values(cached, values)


@trap("keys")
def dict_order(cached: Cached) -> None:
    """Equal dicts in another order are two keys if the function can see the order."""

    def names(columns: dict[str, int]) -> str:
        return ",".join(columns)

    compare(cached, names, [({"sku": 1, "kg": 2},), ({"kg": 2, "sku": 1},)])


@trap("keys")
def dict_keys_of_mixed_types(cached: Cached) -> None:
    """Dicts whose keys differ by type only are apart, and mixed keys need no order."""
    dicts = [
        {1: "a"},
        {"1": "a"},
        {True: "a"},
        {1.0: "a"},
        {None: "a"},
        {"None": "a"},
        {1: "a", "1": "b"},
    ]
    compare_values(cached, [*dicts, {1: "b", "1": "a"}, {(1, 2): "a"}, {"a": {}}, {"a": []}, {}])


@trap("keys")
def dict_subclasses(cached: Cached) -> None:
    """A dict, an OrderedDict, a Counter and a defaultdict with equal items are four keys."""

    def missing(stock: dict[str, int]) -> str:
        try:
            return f"{type(stock).__name__} {stock['none']}"
        except KeyError:
            return f"{type(stock).__name__} fails"

    items = {"sku": 1}
    stocks = [
        dict(items),
        collections.OrderedDict(items),
        collections.Counter(items),
        collections.defaultdict(int, items),
    ]
    served = cached(missing)
    for _ in range(2):
        for stock in stocks:
            expected = missing(copy.deepcopy(stock))
            answer_or_refusal(served, "stock", expected, copy.deepcopy(stock))


@trap("keys")
def sets_of_mixed_types(cached: Cached) -> None:
    """Sets whose members cannot be sorted are keys, apart by type of the set and of its members."""

    def members(tags: Any) -> str:
        return type(tags).__name__ + " " + ",".join(sorted(map(describe, tags)))

    mixed = [
        {1, "a", None},
        {True, "a", None},
        {1.0, "a", None},
        {1, "a", "None"},
        set(),
        {(1, "a")},
    ]
    compare(
        cached, members, [*((tags,) for tags in mixed), *((frozenset(tags),) for tags in mixed)]
    )


@trap("keys", counts_loads=True)
def equal_sets_are_one_key(cached: Cached) -> None:
    """Sets that were filled in another order are one key, whatever order they iterate in."""
    loads: list[int] = []

    def total(numbers: set[int]) -> int:
        loads.append(1)
        return sum(numbers)

    served = cached(total)
    for numbers in ([0, 8, 16, 24], [24, 16, 8, 0], [8, 24, 0, 16]):
        expect(served(set(numbers)), 48, "total of a set")
    expect_loads(loads, 1)


@trap("keys", counts_loads=True)
def equal_content_is_one_key(cached: Cached) -> None:
    """Equal lists, dicts, dataclasses and paths made again are one key each."""
    loads: list[object] = []

    def count(content: Any) -> int:
        loads.append(content)
        return len(repr(content))

    served = cached(count)

    def contents() -> list[Any]:
        return [[1, [2]], {"a": (1, None)}, Order("A1", 2), Path("/srv/yarn.csv"), Decimal("1.00"),
                dt.datetime(2024, 1, 1, tzinfo=ZoneInfo("Europe/Berlin")), Size.LARGE]  # fmt: skip

    for _ in range(3):
        for content in contents():
            expect(served(content), len(repr(content)), "length")
    expect_loads(loads, len(contents()))


@trap("keys")
def ranges(cached: Cached) -> None:
    """range(0, 3, 2) equals range(0, 4, 2), with another stop; they are apart or refused."""
    served = cached(lambda numbers: numbers.stop)
    for _ in range(2):
        for numbers in (range(0, 3, 2), range(0, 4, 2)):
            answer_or_refusal(served, "numbers", numbers.stop, numbers)


@trap("keys")
def nesting_too_deep_to_walk(cached: Cached) -> None:
    """A list nested 100,000 deep, and one that holds itself, are answered or refused by name."""

    def length(branches: list[Any]) -> int:
        return len(branches)

    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    loop: list[Any] = [1]
    loop.append(loop)
    served = cached(length)
    answer_or_refusal(served, "branches", 2, loop)
    answer_or_refusal(served, "branches", 1, deep)
    while deep:  # one level at a time: freeing it at once goes deep as well
        deep = deep.pop()


# Objects.


@dataclasses.dataclass
class Order:
    """An order."""

    sku: str
    pieces: int


@dataclasses.dataclass
class Return:
    """Pieces that come back, with the fields of an order."""

    sku: str
    pieces: int


@dataclasses.dataclass(frozen=True)
class Price:
    """A price that compares by amount alone."""

    amount: int
    currency: str = dataclasses.field(compare=False, default="EUR")


@dataclasses.dataclass(frozen=True)
class Secret:
    """A setting that hides its value when it is printed."""

    name: str
    value: str = dataclasses.field(repr=False, default="")


@trap("keys")
def dataclass_with_equal_fields(cached: Cached) -> None:
    """Dataclasses of two classes with equal fields are two keys."""
    compare_values(cached, [Order("A1", 2), Return("A1", 2), Order("A1", 3), Order("A1", 2.0)])


@trap("keys")
def dataclass_field_left_out_of_comparison(cached: Cached) -> None:
    """A field with compare=False or repr=False is part of the key: the function can read it."""

    def label(price: Price) -> str:
        return f"{price.amount} {price.currency}"

    def value(secret: Secret) -> str:
        return secret.value

    compare(cached, label, [(Price(5, "EUR"),), (Price(5, "SEK"),)])
    compare(cached, value, [(Secret("token", "x"),), (Secret("token", "y"),)])


@trap("keys")
def dataclass_changed_after_the_call(cached: Cached) -> None:
    """A dataclass whose field was set after the call is another key."""
    served = cached(lambda order: order.pieces)
    order = Order("A1", 2)
    expect(served(order), 2, "first call")
    order.pieces = 3
    expect(served(order), 3, "after order.pieces = 3")
    expect(served(Order("A1", 2)), 2, "an order of two again")


@trap("keys")
def paths(cached: Cached) -> None:
    """Paths and text are apart, and Windows paths that differ in case, though they are equal."""
    compare_values(cached, [Path("a/b"), "a/b", "PosixPath('a/b')", Path("a/B")])
    served = cached(lambda path: describe(path))  # noqa: PLW0108 - the parameter has a name
    for path in (
        PureWindowsPath("A"),
        PureWindowsPath("a"),
        PurePosixPath("a"),
        PurePosixPath("A"),
    ):
        answer_or_refusal(served, "path", describe(path), path)


@trap("keys")
def identifiers_and_patterns(cached: Cached) -> None:
    """UUIDs, patterns with other flags and patterns too long to print are apart or refused."""

    def text(needle: Any) -> str:
        return f"{getattr(needle, 'pattern', needle)} {getattr(needle, 'flags', '')}"

    number = uuid.UUID(int=7)
    needles = [
        number,
        str(number),
        uuid.UUID(int=8),
        re.compile("a"),
        re.compile("a", re.IGNORECASE),
    ]
    needles += [re.compile("x" * 300 + end) for end in "ab"]
    served = cached(text)
    for _ in range(2):
        for needle in needles:
            answer_or_refusal(served, "needle", text(needle), needle)


class Basket:
    """An object with an identity only, as most are."""

    def __init__(self, total: int) -> None:
        self.total = total


class Liar:
    """An object that equals everything, with the hash and the text of every other one."""

    def __init__(self, total: int) -> None:
        self.total = total

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 1

    def __repr__(self) -> str:
        return "<Liar>"


class Anonymous:
    """An object without an address in its text."""

    def __init__(self, total: int) -> None:
        self.total = total

    def __repr__(self) -> str:
        return "<Anonymous>"


class Raising(Liar):
    """An object that cannot be compared."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("must not be compared")

    __hash__ = Liar.__hash__


def _totals(cached: Cached, kind: type[Any]) -> None:
    served = cached(lambda parcel: parcel.total)
    parcels = [kind(number) for number in range(3)]
    for _ in range(2):
        for number, parcel in enumerate(parcels):
            answer_or_refusal(served, "parcel", number, parcel)
    parcels[0].total = 9
    answer_or_refusal(served, "parcel", 9, parcels[0])


@trap("keys")
def object_that_equals_everything(cached: Cached) -> None:
    """Objects whose __eq__, __hash__ and __repr__ lie are answered for themselves, or refused."""
    _totals(cached, Liar)


@trap("keys")
def object_with_a_constant_text(cached: Cached) -> None:
    """Objects that all print alike are answered for themselves, or refused."""
    _totals(cached, Anonymous)


@trap("keys")
def object_that_cannot_be_compared(cached: Cached) -> None:
    """Objects whose __eq__ raises are answered for themselves, or refused."""
    _totals(cached, Raising)


@trap("keys")
def object_changed_after_the_call(cached: Cached) -> None:
    """An object with an identity only is answered by its present state, or refused."""
    _totals(cached, Basket)


@trap("keys")
def objects_at_one_address(cached: Cached) -> None:
    """Objects that die and leave their address to the next are answered for themselves, or refused."""
    served = cached(lambda parcel: parcel.total)
    for number in range(200):
        answer_or_refusal(served, "parcel", number, Basket(number))


@trap("keys")
def objects_within_containers(cached: Cached) -> None:
    """An object without a key in a list or dict is answered by its state, or the argument refused."""
    served = cached(lambda parcels: sum(parcel.total for parcel in parcels))
    basket = Basket(1)
    answer_or_refusal(served, "parcels", 1, [basket])
    basket.total = 2
    answer_or_refusal(served, "parcels", 2, [basket])
    answer_or_refusal(served, "parcels", 3, (Basket(3),))


@trap("keys")
def containers_with_attributes(cached: Cached) -> None:
    """Lists, dicts and numbers of classes with attributes are apart by these, or refused."""

    class Rows(list[int]):
        unit = ""

    class Fields(dict[str, int]):
        unit = ""

    class Weight(float):
        unit = ""

    def text(measure: Any) -> str:
        return f"{type(measure).__name__} {measure!r} {measure.unit}"

    served = cached(text)
    for kind, content in ((Rows, [1]), (Fields, {"a": 1}), (Weight, 1.5)):
        for unit in ("kg", "lb", "kg"):
            measure = kind(content)
            measure.unit = unit
            answer_or_refusal(served, "measure", text(measure), measure)


@trap("keys", expects_refusal=True)
def argument_without_a_key_is_named(cached: Cached) -> None:
    """An argument without a possible key raises, with its name; by position, by name, at any depth."""

    def weigh(yarn: str, wagon: Any = None, *rest: Any, **others: Any) -> int:
        return 1

    served = cached(weigh)
    calls = [
        ("wagon", ("A1", Basket(1)), {}),
        ("wagon", ("A1",), {"wagon": Basket(1)}),
        ("wagon", ("A1",), {"wagon": {"deep": [(Basket(1),)]}}),
        ("rest", ("A1", 1, Basket(1)), {}),
        ("hitch", ("A1",), {"hitch": Basket(1)}),
    ]
    for name, arguments, keywords in calls:
        try:
            answer = served(*arguments, **keywords)
        except Exception as error:
            if name not in str(error):
                raise Wrong(f"the error does not name {name}: {error!r}") from error
        else:
            raise Wrong(f"an argument without a key passed as {name}: {answer}")
    expect(served("A1", 2), 1, "an ordinary call after a refusal")


@trap("keys")
def functions_and_classes_as_arguments(cached: Cached) -> None:
    """Lambdas of one line and classes of one name are apart, or refused."""

    def result(rule: Any) -> int:
        return rule()

    def rule_class(number: int) -> type[Any]:
        class Rule(int):
            def __new__(cls) -> Any:
                return number

        return Rule

    served = cached(result)
    rules = [lambda n=n: n for n in range(3)]
    classes = [rule_class(n) for n in range(3)]
    for _ in range(2):
        for number in range(3):
            answer_or_refusal(served, "rule", number, rules[number])
            answer_or_refusal(served, "rule", number, classes[number])


@trap("keys")
def iterators_as_arguments(cached: Cached) -> None:
    """Generators and iterators reach the function unread, or are refused."""
    served = cached(lambda rows: sum(rows))  # noqa: PLW0108 - the parameter has a name
    for number in range(50):
        answer_or_refusal(served, "rows", number * 3, (number for _ in range(3)))
        answer_or_refusal(served, "rows", number * 2, iter([number, number]))
        answer_or_refusal(served, "rows", number, map(int, [number]))


@trap("keys")
def files_as_arguments(cached: Cached) -> None:
    """A buffer is read from where it stands and with its present content, or is refused."""
    served = cached(lambda upload: upload.read())
    for content in (b"one", b"two", b"three"):
        answer_or_refusal(served, "upload", content, io.BytesIO(content))
    upload = io.BytesIO(b"first second")
    if not answer_or_refusal(served, "upload", b"first second", upload):
        answer_or_refusal(served, "upload", b"", upload)
        upload.seek(6)
        answer_or_refusal(served, "upload", b"second", upload)
        upload.seek(0)
        upload.write(b"third")
        upload.seek(0)
        answer_or_refusal(served, "upload", b"third second", upload)


@trap("keys")
def list_changed_after_the_call(cached: Cached) -> None:
    """A list that is changed after the call is another key, and its old content keeps its answer."""

    def total(rows: list[Any]) -> int:
        return sum(map(sum, rows))

    served = cached(total)
    rows = [[1, 2], [3]]
    expect(served(rows), 6, "first call")
    rows[0].append(10)
    expect(served(rows), 16, "after the inner list grew")
    expect(served([[1, 2], [3]]), 6, "the old content")
    expect(served([[1, 2, 10], [3]]), 16, "the new content")


@trap("keys")
def argument_changed_by_the_load(cached: Cached) -> None:
    """The key is of the argument before the load, though the function sorts it."""

    def first(rows: list[int]) -> int:
        head = rows[0]
        rows.sort()
        return head

    served = cached(first)
    expect(served([3, 1]), 3, "first([3, 1])")
    expect(served([1, 3]), 1, "first([1, 3])")
    expect(served([3, 1]), 3, "first([3, 1]) again")


@trap("keys")
def many_keys(cached: Cached) -> None:
    """Answers of 3,000 keys are their own, also after some had to go."""

    def code(number: int) -> str:
        return f"yarn {number}"

    compare(cached, code, [(number,) for number in range(3000)])
