"""Values: no caller, the first included, can change what others get."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime as dt
import enum
import functools
import io
import itertools
import sqlite3
import tempfile
import threading
import types
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock
from zoneinfo import ZoneInfo

from .contract import Cached, Poisoned, Wrong, describe, expect, expect_loads, trap

LARGE = 30_000  # items of a value that is larger than what stays within a process


class Line(NamedTuple):
    """A tuple that holds a list."""

    sku: str
    pieces: list[int]


@dataclasses.dataclass(frozen=True)
class Frozen:
    """A frozen object that holds a dict."""

    rates: dict[str, int]


class Mill:
    """An ordinary object."""

    def __init__(self) -> None:
        self.rows = [1, 2]


class Status(enum.Enum):
    """A state of an order."""

    OPEN = 1


_KEYS = (
    itertools.count()
)  # a key for each use of ``poison``: names alone must not decide a trap of values


def poison(
    cached: Cached,
    make: Callable[[], Any],
    change: Callable[[Any], Any],
    read: Callable[[Any], Any] = describe,
) -> None:
    """Let the first caller, then a later one, change its value; the others must get the plain one."""

    def load(number: int) -> Any:
        return make()

    served = cached(load)
    expected = read(make())
    key = next(_KEYS)
    for caller in ("the first caller", "the second caller", "the third caller"):
        value = served(key)
        expect(read(value), expected, f"{caller} of {type(value).__name__}", Poisoned)
        change(value)
    expect(read(served(key)), expected, "a caller after three changes", Poisoned)


# Changes by callers.


@trap("values")
def first_caller_changes_a_list(cached: Cached) -> None:
    """The caller whose call loaded a list may change it: the second gets it unchanged."""

    def load(number: int) -> list[int]:
        return [number, 2]

    served = cached(load)
    served(1).append(99)
    expect(served(1), [1, 2], "the second caller", Poisoned)


@trap("values")
def later_caller_changes_a_list(cached: Cached) -> None:
    """A caller that was served from the cache may change the list: the third gets it unchanged."""

    def load(number: int) -> list[int]:
        return [number, 2]

    served = cached(load)
    served(1)
    served(1).append(99)
    expect(served(1), [1, 2], "the third caller", Poisoned)


@trap("values")
def callers_hold_their_values(cached: Cached) -> None:
    """A value that a caller holds does not change when another caller changes its own."""

    def load(number: int) -> dict[str, list[int]]:
        return {"rows": [number]}

    served = cached(load)
    first, second, third = served(1), served(1), served(1)
    second["rows"].append(99)
    expect(first, {"rows": [1]}, "the first caller's value", Poisoned)
    expect(third, {"rows": [1]}, "the third caller's value", Poisoned)


@trap("values")
def nested_values(cached: Cached) -> None:
    """Lists and dicts at any depth are not shared between callers."""

    def make() -> Any:
        return {"halls": [{"name": "north", "looms": [[1, 2], (3, [4])]}], 7: ({"x": [5]},)}

    def change(value: Any) -> None:
        value["halls"][0]["looms"][0].append(9)
        value["halls"][0]["looms"][1][1].clear()
        value[7][0]["x"][0] = 9

    poison(cached, make, change)


@trap("values")
def immutable_outside_mutable_within(cached: Cached) -> None:
    """Tuples, NamedTuples and frozen objects that hold lists or dicts are not shared as they are."""
    poison(cached, lambda: ([1], 2), lambda value: value[0].append(9))
    poison(cached, lambda: (((1, [2]),),), lambda value: value[0][0][1].append(9))
    poison(cached, lambda: Line("A1", [1]), lambda value: value.pieces.append(9))
    poison(cached, lambda: Frozen({"a": 1}), lambda value: value.rates.update(b=2))


@trap("values")
def mutable_types_of_the_library(cached: Cached) -> None:
    """Sets, deques, counters, byte arrays, arrays, namespaces and objects are not shared."""
    poison(cached, lambda: {1, 2}, lambda value: value.add(9))
    poison(cached, lambda: collections.deque([1], 5), lambda value: value.append(9))
    poison(cached, lambda: collections.Counter("aab"), lambda value: value.update("c"))
    poison(cached, lambda: collections.defaultdict(list, a=[1]), lambda value: value["b"].append(1))
    poison(cached, lambda: collections.OrderedDict(a=1, b=2), lambda value: value.move_to_end("a"))
    poison(cached, lambda: collections.ChainMap({"a": 1}), lambda value: value.update(b=1))
    poison(cached, lambda: bytearray(b"yarn"), lambda value: value.extend(b"!"))
    poison(cached, lambda: array.array("i", [1]), lambda value: value.append(9))
    poison(cached, lambda: types.SimpleNamespace(a=[1]), lambda value: value.a.append(9))
    poison(cached, Mill, lambda value: value.rows.append(9), lambda value: value.rows[:])
    poison(cached, Mill, lambda value: setattr(value, "rows", None), lambda value: value.rows)


@trap("values")
def read_only_view_of_a_dict(cached: Cached) -> None:
    """A mapping proxy that cannot be copied is served right, and what it shows is not shared."""

    def make() -> Any:
        return types.MappingProxyType({"rows": [1]})

    poison(cached, make, lambda value: value["rows"].append(9))


@trap("values")
def large_values(cached: Cached) -> None:
    """Values too large to stay within a process are not shared between callers either."""
    poison(
        cached, lambda: list(range(LARGE)), lambda value: value.reverse(), lambda value: value[:3]
    )
    poison(cached, lambda: bytearray(LARGE * 4), lambda value: value.clear(), len)
    poison(
        cached,
        lambda: {"rows": [[n] for n in range(LARGE)]},
        lambda value: value["rows"][5].append(9),
        lambda value: value["rows"][5][:],
    )


@trap("values")
def returned_argument(cached: Cached) -> None:
    """A function that returns its argument: a caller that changes it later changes no answer."""

    def same(rows: list[int]) -> list[int]:
        return rows

    def within(rows: list[int]) -> dict[str, list[int]]:
        return {"rows": rows}

    for function, read in ((same, lambda value: value), (within, lambda value: value["rows"])):
        served = cached(function)
        rows = [1, 2]
        served(rows)
        rows.append(99)
        expect(
            read(served([1, 2])), [1, 2], f"{function.__name__} after the argument grew", Poisoned
        )
        read(served([1, 2])).append(98)
        expect(read(served([1, 2])), [1, 2], f"{function.__name__} after the answer grew", Poisoned)


@trap("values")
def responses(cached: Cached) -> None:
    """A caller that changes an attribute of a returned response changes no other caller's response."""
    from flask import Response

    def page(number: int) -> Response:
        return Response(f"order {number}")

    def change(response: Response) -> None:
        response.set_cookie("session", "of another user")
        response.headers["X-User"] = "anna"
        response.set_data("changed")

    poison(cached, lambda: page(1), change, lambda r: f"{r.get_data()} {sorted(r.headers.items())}")


# Shape of values.


@trap("values")
def value_that_refers_to_itself(cached: Cached) -> None:
    """A value that holds itself comes back with the same shape, and is not shared."""

    def tree(number: int) -> Any:
        root: dict[str, Any] = {"name": "root", "children": []}
        child = {"name": "child", "parent": root}
        root["children"].append(child)
        root["self"] = root
        return root

    served = cached(tree)
    for turn in range(3):
        root = served(1)
        if root["self"] is not root or root["children"][0]["parent"] is not root:
            raise Wrong("the value does not hold itself any more")
        expect(root["name"], "root", f"turn {turn}", Poisoned)
        root["name"] = "changed"


@trap("values")
def value_with_a_shared_part(cached: Cached) -> None:
    """A part that a value holds twice is one part for each caller."""

    def pair(number: int) -> Any:
        part = [number]
        return {"first": part, "second": part}

    served = cached(pair)
    for _ in range(3):
        value = served(1)
        value["first"].append(9)
        expect(value["second"], [1, 9], "the second name of the part")


@trap("values")
def types_survive(cached: Cached) -> None:
    """Values come back with the types that the function gave them, at any depth."""

    def make(number: int) -> Any:
        return [
            (1, [2]), Line("A1", [1]), True, 1.0, -0.0, Decimal("1.00"), {1: "a", "1": "b", None: "c"},
            Path("a"), Status.OPEN, b"", bytearray(b""), frozenset({1}), {1}, 1j, "",
            dt.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
            dt.date(2024, 1, 1), collections.OrderedDict(b=1, a=2), collections.deque([1], 3),
            Frozen({"a": 1}), range(3),
        ]  # fmt: skip

    def text(value: list[Any]) -> str:
        return "; ".join(map(describe, value)) + f" {value[15].fold}"

    served = cached(make)
    for turn in range(3):
        expect(text(served(1)), text(make(1)), f"turn {turn}")
    grouped = cached(lambda number: collections.defaultdict(lambda: number))
    for turn in range(3):
        expect(grouped(3)["missing"], 3, f"a default of a function, turn {turn}")


@trap("values")
def sentinels_stay_themselves(cached: Cached) -> None:
    """Sentinels, classes, functions, modules and members that a function returns are those objects."""
    missing = object()
    things: list[Any] = [
        missing,
        Mill,
        len,
        io,
        Status.OPEN,
        NotImplemented,
        Ellipsis,
        functools.reduce,
    ]

    def pick(number: int) -> Any:
        return things[number]

    def pick_within(number: int) -> Any:
        return [things[number]]

    served, served_within = cached(pick), cached(pick_within)
    for _ in range(2):
        for number, thing in enumerate(things):
            if served(number) is not thing or served_within(number)[0] is not thing:
                raise Wrong(f"a copy of {thing!r} instead of it")


# Values that are easily taken for none.


@trap("values")
def none_is_an_answer(cached: Cached) -> None:
    """None comes back as None, on each call."""
    served = cached(lambda number: None)
    for turn in range(3):
        expect(served(1), None, f"turn {turn}")


@trap("values", counts_loads=True)
def false_values_are_answers(cached: Cached) -> None:
    """False, 0, empty text, an empty list and an empty frame are one load each."""
    import pandas as pd

    values: list[Any] = [
        False,
        0,
        0.0,
        "",
        b"",
        [],
        {},
        (),
        set(),
        Decimal(0),
        pd.DataFrame(),
        pd.Series(),
    ]
    loads: list[int] = []

    def load(number: int) -> Any:
        loads.append(number)
        return values[number]

    served = cached(load)
    for _ in range(3):
        for number, value in enumerate(values):
            answer = served(number)
            expect(type(answer).__name__ + str(len(str(answer))),
                   type(value).__name__ + str(len(str(value))), f"value {number}")  # fmt: skip
    expect_loads(loads, len(values))


@trap("values")
def values_that_cannot_be_tested(cached: Cached) -> None:
    """Frames, arrays and objects whose truth or comparison raises, or equals everything, come back."""
    import numpy as np
    import pandas as pd

    class Neither:
        def __bool__(self) -> bool:
            raise RuntimeError("neither true nor false")

        def __eq__(self, other: object) -> bool:
            raise RuntimeError("cannot be compared")

        __hash__ = None  # type: ignore[assignment]

    makers: list[Callable[[], Any]] = [
        Neither,
        lambda: pd.DataFrame({"a": [1, 2]}), lambda: np.array([1, 2]),
        lambda: pd.Series([1, 2]), lambda: mock.ANY, lambda: np.nan, lambda: pd.NA,
        lambda: NotImplemented, lambda: np.array([]),
    ]  # fmt: skip

    def load(number: int) -> Any:
        return makers[number]()

    served = cached(load)
    for _ in range(3):
        for number, maker in enumerate(makers):
            expect(type(served(number)).__name__, type(maker()).__name__, f"value {number}")


@trap("values")
def exceptions_as_values(cached: Cached) -> None:
    """An exception that is returned is returned, and one that is raised is raised."""

    def check(number: int) -> Any:
        if number == 1:
            raise ValueError("raised")
        return ValueError("returned") if number == 2 else ValueError

    served = cached(check)
    for turn in range(3):
        expect(repr(served(2)), "ValueError('returned')", f"returned, turn {turn}")
        expect(served(3) is ValueError, True, f"the class, turn {turn}")
        try:
            served(1)
        except ValueError as error:
            expect(str(error), "raised", f"raised, turn {turn}")
        else:
            raise Wrong(f"no error, turn {turn}")


# Values that can be used once, or not be copied.


@trap("values")
def generators(cached: Cached) -> None:
    """Each caller of a generator function gets all of its items."""

    def rows(number: int) -> Iterator[int]:
        yield from range(number)

    served = cached(rows)
    for turn in range(3):
        expect(list(served(3)), [0, 1, 2], f"turn {turn}")


@trap("values")
def iterators(cached: Cached) -> None:
    """Each caller gets all items of a map, a zip, an iterator or a chain."""
    makers: list[Callable[[], Any]] = [
        lambda: map(str, [1, 2]), lambda: zip([1], [2], strict=True), lambda: iter([1, 2]),
        lambda: iter({}),
        lambda: itertools.chain([1], [2]), lambda: enumerate("ab"), lambda: reversed([1, 2]),
        lambda: filter(None, [1]), lambda: iter({1: 2}.items()), lambda: itertools.islice([1, 2], 2),
    ]  # fmt: skip

    def load(number: int) -> Any:
        return makers[number]()

    served = cached(load)
    for turn in range(3):
        for number, maker in enumerate(makers):
            expect(list(served(number)), list(maker()), f"iterator {number}, turn {turn}")


@trap("values")
def iterators_within_values(cached: Cached) -> None:
    """Each caller gets all items of a generator within a tuple or a dict."""

    def load(number: int) -> Any:
        return {"rows": (n for n in range(number)), "pair": (iter([1, 2]), 3)}

    served = cached(load)
    for turn in range(3):
        value = served(3)
        expect((list(value["rows"]), list(value["pair"][0])), ([0, 1, 2], [1, 2]), f"turn {turn}")


@trap("values")
def views_of_dicts(cached: Cached) -> None:
    """Views of keys, values and items come back, though they cannot be copied."""
    stock = {"A1": [1], "B2": [2]}
    views: list[Callable[[], Any]] = [stock.keys, stock.values, stock.items]

    def load(number: int) -> Any:
        return views[number]()

    served = cached(load)
    for turn in range(3):
        for number, view in enumerate(views):
            expect(list(served(number)), list(view()), f"view {number}, turn {turn}")


@trap("values")
def open_files_and_buffers(cached: Cached) -> None:
    """Each caller can read an opened file or buffer from its start, also after another closed it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "yarn.csv"
        path.write_text("sku,kg\n")
        makers: list[Callable[[], Any]] = [
            path.open, lambda: path.open("rb"), lambda: io.StringIO("sku,kg\n"),
            lambda: io.BytesIO(b"sku,kg\n"),
        ]  # fmt: skip

        def load(number: int) -> Any:
            return makers[number]()

        served = cached(load)
        for turn in range(3):
            for number, maker in enumerate(makers):
                with maker() as plain:
                    expected = plain.read()
                value = served(number)
                expect(value.read(), expected, f"file {number}, turn {turn}")
                value.close()


@trap("values")
def cursors(cached: Cached) -> None:
    """Each caller of a query gets all rows of its cursor."""
    connection = sqlite3.connect(":memory:")
    connection.executescript("create table yarn (sku); insert into yarn values ('A1'), ('B2')")

    def query(table: str) -> Any:
        return connection.execute(f"select sku from {table} order by sku")

    served = cached(query)
    for turn in range(3):
        expect(served("yarn").fetchall(), [("A1",), ("B2",)], f"turn {turn}")


@trap("values")
def streamed_responses(cached: Cached) -> None:
    """Each caller of a streamed response gets its whole body."""
    from flask import Response

    def export(number: int) -> Response:
        return Response((f"{n};" for n in range(number)), mimetype="text/csv")

    served = cached(export)
    for turn in range(3):
        expect("".join(served(3).response), "0;1;2;", f"turn {turn}")


@trap("values")
def values_that_cannot_be_copied(cached: Cached) -> None:
    """Values with locks, connections or generators work for each caller and are not shared."""

    class Uncopyable:
        def __init__(self) -> None:
            self.rows = [1]

        def __deepcopy__(self, memo: Any) -> Any:
            raise RuntimeError("cannot be copied")

        def __reduce_ex__(self, protocol: Any) -> Any:
            raise RuntimeError("cannot be pickled")

    def with_lock(number: int) -> Any:
        return {"lock": threading.Lock(), "rows": [number]}

    def with_connection(number: int) -> Any:
        return {"db": sqlite3.connect(":memory:"), "rows": [number]}

    def uncopyable(number: int) -> Any:
        return Uncopyable()

    for function in (with_lock, with_connection):
        served = cached(function)
        for caller in range(3):
            value = served(1)
            expect(value["rows"], [1], f"{function.__name__}, caller {caller}", Poisoned)
            value["rows"].append(9)
            if "lock" in value and not value["lock"].acquire(blocking=False):
                raise Poisoned("the lock is held by another caller")
            if "db" in value:
                expect(
                    value["db"].execute("select 1").fetchone(),
                    (1,),
                    f"connection of caller {caller}",
                )
                value["db"].close()
    poison(
        cached,
        lambda: uncopyable(1),
        lambda value: value.rows.append(9),
        lambda value: value.rows[:],
    )


@trap("values")
def objects_that_lose_a_part_when_copied(cached: Cached) -> None:
    """An object whose copy would lack a part comes back whole: it is better not kept."""

    class Catalogue:
        def __init__(self) -> None:
            self.rows = [1]
            self.index = {"A1": 0}

        def __getstate__(self) -> dict[str, Any]:
            return {"rows": self.rows}

    served = cached(lambda number: Catalogue())
    for caller in range(3):
        value = served(1)
        expect(getattr(value, "index", None), {"A1": 0}, f"the index of caller {caller}")
        expect(value.rows, [1], f"the rows of caller {caller}", Poisoned)
        value.rows.append(9)


@trap("values")
def plain_function_that_returns_a_coroutine(cached: Cached) -> None:
    """Each caller of a plain function that returns a coroutine can await it."""
    import asyncio

    async def load(number: int) -> int:
        await asyncio.sleep(0)
        return number

    def start(number: int) -> Any:
        return load(number)

    served = cached(start)

    async def main() -> list[int]:
        return [await served(7) for _ in range(3)]

    expect(asyncio.run(main()), [7, 7, 7], "three awaits")
