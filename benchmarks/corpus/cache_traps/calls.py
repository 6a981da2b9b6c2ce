"""Spellings of calls, methods, and functions that are easily taken for one another."""

# ruff: noqa: A002, PLW1641 - names of built-ins, and classes without a hash, are traps

from __future__ import annotations

import copy
import enum
import functools
import gc
import inspect
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

from .contract import Cached, Wrong, answer_or_refusal, expect, expect_loads, trap


def order(sku: str, pieces: int = 2, /, size: str = "M", *, urgent: bool = False) -> str:
    """Function with every kind of parameter that has a name."""
    return f"{sku} {pieces} {size} {urgent}"


SPELLINGS: tuple[tuple[tuple[Any, ...], dict[str, Any]], ...] = (
    (("A1",), {}),
    (("A1", 2), {}),
    (("A1", 2, "M"), {}),
    (("A1",), {"size": "M"}),
    (("A1", 2), {"size": "M", "urgent": False}),
    (("A1",), {"urgent": False, "size": "M"}),
    (("A1", 2, "M"), {"urgent": False}),
)

# Spellings.


@trap("calls", counts_loads=True)
def spellings_of_one_call(cached: Cached) -> None:
    """All spellings of a call are one key: by position, by name, in any order, defaults given."""
    loads: list[str] = []

    def counted(sku: str, pieces: int = 2, /, size: str = "M", *, urgent: bool = False) -> str:
        loads.append(sku)
        return order(sku, pieces, size, urgent=urgent)

    served = cached(counted)
    for arguments, keywords in SPELLINGS:
        expect(served(*arguments, **keywords), "A1 2 M False", f"{arguments} {keywords}")
    expect_loads(loads, 1)


@trap("calls")
def calls_that_only_look_alike(cached: Cached) -> None:
    """Calls with the same values for other parameters are apart."""
    served = cached(order)
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        (("A1", 3), {}),
        (("A1", 2, "L"), {}),
        (("A1",), {"size": "L"}),
        (("A1", "L"), {}),
        (("A1",), {"urgent": True}),
        (("A1", True), {}),
        (("A1", 1), {}),
        *SPELLINGS,
    ]
    for _ in range(2):
        for arguments, keywords in calls:
            expect(
                served(*arguments, **keywords),
                order(*arguments, **keywords),
                f"{arguments} {keywords}",
            )


@trap("calls")
def star_arguments(cached: Cached) -> None:
    """Arguments gathered by * and ** are apart from tuples, lists and dicts of the same items."""

    def listing(*items: Any, **named: Any) -> str:
        return repr((items, named))

    served = cached(listing)
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((1, 2), {}), (((1, 2),), {}), ((1, (2,)), {}), ((1,), {"x": 2}), ((1, "x", 2), {}),
        ((1, ("x", 2)), {}), ((), {"x": 1, "y": 2}), ((), {"x": 2, "y": 1}), (("x", 1, "y", 2), {}),
        ((("x", 1), ("y", 2)), {}), ((), {}), (((),), {}), ((None,), {}), ((), {"x": None}),
        ((), {"items": (1,)}), ((1,), {}), ((), {"named": {"x": 1}}), ((), {"x": 1}),
    ]  # fmt: skip
    for _ in range(2):
        for arguments, keywords in calls:
            expect(
                served(*arguments, **keywords),
                listing(*arguments, **keywords),
                f"{arguments} {keywords}",
            )


@trap("calls")
def order_of_free_keywords(cached: Cached) -> None:
    """Keywords gathered by ** keep the order of the call: a function can see it."""

    def columns(**fields: str) -> str:
        return ", ".join(f"{name}={value}" for name, value in fields.items())

    served = cached(columns)
    for _ in range(2):
        expect(served(sku="a", kg="b"), "sku=a, kg=b", "columns(sku, kg)")
        expect(served(kg="b", sku="a"), "kg=b, sku=a", "columns(kg, sku)")


@trap("calls")
def keyword_with_the_name_of_a_positional_parameter(cached: Cached) -> None:
    """A keyword that shares its name with a positional-only parameter is another argument."""

    def listing(sku: str, /, **fields: str) -> str:
        return f"{sku} {fields}"

    served = cached(listing)
    for _ in range(2):
        expect(served("a"), listing("a"), "listing('a')")
        expect(served("a", sku="b"), listing("a", sku="b"), "listing('a', sku='b')")
        expect(served("b", sku="a"), listing("b", sku="a"), "listing('b', sku='a')")


@trap("calls")
def parameters_named_like_the_machinery(cached: Cached) -> None:
    """Parameters may have any name: those of options, of internals and of built-in functions."""

    def first(
        key: Any, ttl: Any, function: Any = 1, args: Any = 2, kwargs: Any = 3, cls: Any = 4
    ) -> str:
        return repr((key, ttl, function, args, kwargs, cls))

    def second(
        type: Any, tuple: Any, hash: Any = 1, len: Any = 2, dict: Any = 3, id: Any = 4
    ) -> str:
        return repr((type, tuple, hash, len, dict, id))

    def third(
        entry: Any, now: Any, cache: Any = 1, lock: Any = 2, time: Any = 3, lookup: Any = 4
    ) -> str:
        return repr((entry, now, cache, lock, time, lookup))

    def fourth(
        self: Any, _key: Any, ignore: Any = 1, errors: Any = 2, größe: Any = 3, _: Any = 4
    ) -> str:
        return repr((self, _key, ignore, errors, größe, _))

    def fifth(
        f: Any, value: Any, k: Any = 1, e: Any = 2, g: Any = 3, load: Any = 4, **namespace: Any
    ) -> str:
        return repr((f, value, k, e, g, load, namespace))

    for function in (first, second, third, fourth, fifth):
        served = cached(function)
        names = list(inspect.signature(function).parameters)[:6]
        for _ in range(2):
            expect(served("a", "b"), function("a", "b"), f"{function.__name__} by position")
            keywords = dict(zip(names, "uvwxyz", strict=True))
            expect(served(**keywords), function(**keywords), f"{function.__name__} by name")
    served = cached(fifth)
    expect(served(1, 2, key=3, self=4), fifth(1, 2, key=3, self=4), "free keywords key and self")


@trap("calls")
def calls_that_do_not_fit(cached: Cached) -> None:
    """Wrong calls raise TypeError as without a cache, and right ones work after them."""

    def pair(first: int, /, second: int = 1, *, third: int = 0) -> int:
        return first * 100 + second * 10 + third

    served = cached(pair)
    wrong: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((), {}), ((1, 2, 3), {}), ((), {"first": 1}), ((1,), {"fourth": 1}), ((1, 2), {"second": 2}),
    ]  # fmt: skip
    for _ in range(2):
        for arguments, keywords in wrong:
            try:
                served(*arguments, **keywords)
            except TypeError:
                continue
            raise Wrong(f"an answer to the wrong call {arguments} {keywords}")
        expect(served(1, third=3), 113, "pair(1, third=3)")


@trap("calls")
def defaults_of_any_type(cached: Cached) -> None:
    """Defaults may be lists, functions and objects without a key: calls work, or name them."""
    missing = object()

    def choose(number: int, fallback: Any = missing, rows: Any = []) -> str:  # noqa: B006
        return f"{number} {fallback is missing} {rows}"

    def apply(number: int, rule: Any = abs) -> int:
        return rule(number)

    served, served_apply = cached(choose), cached(apply)
    for _ in range(2):
        answer_or_refusal(served_apply, "rule", 3, -3)
        answer_or_refusal(served, "fallback", choose(1), 1)
        answer_or_refusal(served, "fallback", choose(1, None), 1, None)
        answer_or_refusal(served, "fallback", choose(2, rows=[1]), 2, rows=[1])


@trap("calls")
def name_and_signature_are_kept(cached: Cached) -> None:
    """The cached function keeps name, docstring and signature: Flask and others read them."""
    served = cached(order)
    for attribute in ("__name__", "__qualname__", "__doc__", "__module__"):
        expect(getattr(served, attribute), getattr(order, attribute), attribute)
    expect(str(inspect.signature(served)), str(inspect.signature(order)), "the signature")


# Methods.


class Loom:
    """A machine without a comparison of its kind."""

    def __init__(self, rate: int) -> None:
        self.rate = rate


def speed(self: Any, factor: int = 1) -> int:
    """Method of machines."""
    return self.rate * factor


@trap("calls")
def methods_of_two_instances(cached: Cached) -> None:
    """A method answers for its instance."""

    class Machine(Loom):
        pace = cached(speed)

    machines = [Machine(rate) for rate in (2, 3, 5)]
    for _ in range(2):
        for machine in machines:
            expect(machine.pace(10), machine.rate * 10, f"rate {machine.rate}")
            expect(machine.pace(factor=10), machine.rate * 10, "by name")
            expect(type(machine).pace(machine, 10), machine.rate * 10, "through the class")


@trap("calls")
def methods_of_short_lived_instances(cached: Cached) -> None:
    """Instances that are freed, and whose id() the next one gets, do not answer for one another."""

    class Machine(Loom):
        pace = cached(speed)

    for rate in range(200):
        expect(Machine(rate).pace(10), rate * 10, f"instance {rate}")


@trap("calls")
def instances_are_not_kept_alive(cached: Cached) -> None:
    """An instance whose method was called can be freed."""

    class Machine(Loom):
        pace = cached(speed)

    machine = Machine(2)
    expect(machine.pace(1), 2, "pace")
    alive = weakref.ref(machine)
    del machine
    gc.collect()
    if alive() is not None:
        raise Wrong("the cache keeps the instance alive")


@trap("calls")
def methods_of_equal_instances(cached: Cached) -> None:
    """Instances that equal one another, but differ in what the method reads, are apart."""

    class Machine(Loom):
        pace = cached(speed)

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Machine)

        def __hash__(self) -> int:
            return 7

    machines = [Machine(rate) for rate in (2, 3, 5)]
    for _ in range(2):
        for machine in machines:
            expect(machine.pace(10), machine.rate * 10, f"rate {machine.rate}")


@trap("calls")
def methods_without_hash_or_weak_references(cached: Cached) -> None:
    """Instances that are unhashable or take no weak references are answered, or self is refused."""

    class Unhashable(Loom):
        pace = cached(speed)

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Unhashable)

    class Slotted:
        __slots__ = ("rate",)
        pace = cached(speed)

        def __init__(self, rate: int) -> None:
            self.rate = rate

    class Pair(NamedTuple):
        rate: int
        name: str = "pair"
        pace = cached(speed)

    for kind in (Unhashable, Slotted, Pair):
        for rate in range(30):
            answer_or_refusal(kind(rate).pace, "self", rate * 10, 10)


@trap("calls")
def copies_of_an_instance(cached: Cached) -> None:
    """A copy of an instance does not take over its answers, and the instance shows no trace of them."""

    class Machine(Loom):
        pace = cached(speed)

    machine = Machine(2)
    expect(machine.pace(10), 20, "the instance")
    expect(vars(machine), {"rate": 2}, "the attributes of the instance")
    for twin in (copy.copy(machine), copy.deepcopy(machine)):
        twin.rate = 3
        expect(twin.pace(10), 30, "a copy with another rate")


@trap("calls")
def special_methods(cached: Cached) -> None:
    """Special methods, and methods of members of an Enum, answer for their instances."""

    class Machine(Loom):
        __call__ = cached(speed)

        @cached
        def __getitem__(self, factor: int) -> int:
            return self.rate + factor

        @cached
        def __len__(self) -> int:
            return self.rate

    class Tariff(enum.Enum):
        DAY = 2
        NIGHT = 3

        @cached
        def price(self, kg: int) -> int:
            return self.value * kg

    machines = [Machine(rate) for rate in (2, 3)]
    for _ in range(2):
        for machine in machines:
            answer = (machine(10), machine[10], len(machine))
            expect(answer, (machine.rate * 10, machine.rate + 10, machine.rate), "special methods")
        expect([tariff.price(10) for tariff in Tariff], [20, 30], "methods of an Enum")


@trap("calls", needs=("key",))
def methods_by_a_named_key(cached: Cached) -> None:
    """A method keyed by what it reads loads again when that has changed."""

    class Machine(Loom):
        pace = cached(speed, key=lambda self, factor=1: (self.rate, factor))

    machine = Machine(2)
    expect(machine.pace(10), 20, "first call")
    machine.rate = 3
    expect(machine.pace(10), 30, "after a change of the rate")
    expect(Machine(2).pace(10), 20, "another machine with the first rate")
    expect(Machine(2).pace(factor=11), 22, "by name")


@trap("calls")
def class_methods(cached: Cached) -> None:
    """A class method answers for the class it is called on."""

    class Base:
        rate = 1

        @classmethod
        def plain(cls, factor: int) -> int:
            return cls.rate * factor

        pace = classmethod(cached(speed))

    class Fast(Base):
        rate = 3

    for _ in range(2):
        expect(Base.pace(10), 10, "Base")
        expect(Fast.pace(10), 30, "Fast")
        expect(Fast().pace(10), 30, "an instance of Fast")


@trap("calls")
def static_methods_and_properties(cached: Cached) -> None:
    """Static methods of two classes and properties of two instances are apart."""

    def kind_class(number: int) -> Any:
        def code(factor: int) -> int:
            return number * factor

        class Kind(Loom):
            coded = staticmethod(cached(code))
            pace = property(cached(speed))

        return Kind

    kinds = [kind_class(number) for number in (2, 3)]
    for _ in range(2):
        for number, kind in zip((2, 3), kinds, strict=True):
            expect(kind.coded(10), number * 10, "static method")
            expect(kind(1).coded(10), number * 10, "static method of an instance")
            for rate in (5, 7):
                expect(kind(rate).pace, rate, "property")


@trap("calls")
def overridden_methods(cached: Cached) -> None:
    """A cached method that calls the cached method it overrides does not get its own entry."""

    class Plain(Loom):
        @cached
        def pace(self, factor: int) -> int:
            return self.rate * factor

    class Tuned(Plain):
        @cached
        def pace(self, factor: int) -> int:
            return super().pace(factor) + 1

    tuned, plain = Tuned(2), Plain(2)
    for _ in range(2):
        expect(tuned.pace(10), 21, "Tuned")
        expect(plain.pace(10), 20, "Plain")
        expect(Plain.pace(tuned, 10), 20, "the overridden method of a Tuned")


# Functions that are taken for one another.


def _apart(cached: Cached, functions: list[Callable[[int], Any]], label: str) -> None:
    """Raise unless each function, cached, gives its answers and not those of another."""
    served = [cached(function) for function in functions]
    for _ in range(2):
        for number, function in enumerate(functions):
            expect(served[number](10), function(10), f"{label} {number}")


def _defined(source: str, **names: Any) -> Callable[[int], Any]:
    """Function ``price`` as a module of one name defines it."""
    namespace: dict[str, Any] = {"__name__": "mill.prices", **names}
    exec(compile(source, "prices.py", "exec"), namespace)  # what importlib.reload does
    return namespace["price"]


@trap("calls")
def functions_with_one_qualified_name(cached: Cached) -> None:
    """Functions that share module and qualified name are apart."""

    def north() -> Callable[[int], int]:
        def price(kg: int) -> int:
            return kg * 2

        return price

    def south() -> Callable[[int], int]:
        def price(kg: int) -> int:
            return kg + 1

        price.__qualname__ = north().__qualname__
        return price

    _apart(cached, [north(), south()], "function")


@trap("calls")
def function_redefined_with_other_code(cached: Cached) -> None:
    """A function that is defined again does not answer with values of its former code."""
    sources = [
        "def price(kg): return kg * 2",
        "def price(kg): return kg + 2",
        "def price(kg): return -kg",
    ]
    _apart(cached, [_defined(source) for source in sources], "definition")


@trap("calls")
def function_redefined_with_another_constant(cached: Cached) -> None:
    """Functions whose bytecode is equal, and only a constant differs, are apart by its type too."""
    constants = (
        "2",
        "3",
        "2.0",
        "True",
        "1",
        "1.0",
        "0.0",
        "-0.0",
        "'2'",
        "(1,)",
        "(True,)",
        "None",
    )
    sources = [f"def price(kg): return [kg, {constant}]" for constant in constants]
    _apart(cached, [_defined(source) for source in sources], "constant")
    inner = [f"def price(kg): return list(map(lambda x: x + {n}, [kg]))" for n in (1, 2)]
    _apart(cached, [_defined(source) for source in inner], "constant of an inner function")


@trap("calls")
def function_redefined_with_another_name(cached: Cached) -> None:
    """Functions whose bytecode is equal, and only a name in it differs, are apart."""
    sources = [f"def price(kg): return str({name}(kg))" for name in ("hex", "oct", "bin", "float")]
    _apart(cached, [_defined(source) for source in sources], "global")
    sources = [
        f"def price(kg): return kg.{name}()" for name in ("bit_length", "bit_count", "conjugate")
    ]
    _apart(cached, [_defined(source) for source in sources], "attribute")


@trap("calls")
def function_redefined_with_another_default(cached: Cached) -> None:
    """Functions with the same code and other defaults are apart, also of keyword-only parameters."""
    sources = [f"def price(kg, rate={rate}): return kg * rate" for rate in (2, 3, 2.0)]
    sources += [f"def price(kg, *, rate={rate}): return kg * rate" for rate in (5, 7)]
    _apart(cached, [_defined(source) for source in sources], "default")


@trap("calls")
def code_replaced_in_place(cached: Cached) -> None:
    """A function whose __code__ or defaults a reloader replaced answers with the new ones."""

    def price(kg: int, rate: int = 2) -> int:
        return kg * rate

    def repaired(kg: int, rate: int = 2) -> int:
        return kg * rate + 1

    served = cached(price)
    expect(served(10), 20, "the old code")
    price.__code__ = repaired.__code__
    expect(served(10), 21, "the new code")
    price.__defaults__ = (3,)
    expect(served(10), 31, "the new default")


@trap("calls")
def closures_over_other_values(cached: Cached) -> None:
    """Closures with the same code over other values are apart, also over frames and lists."""
    import pandas as pd

    def closure(rate: Any) -> Callable[[int], Any]:
        def price(kg: int) -> str:
            return f"{kg} {list(rate) if hasattr(rate, '__iter__') else rate!r}"

        return price

    rates = [1, True, 1.0, [1], (1, 2), pd.Series([1, 2]), pd.Series([1, 3])]
    _apart(cached, [closure(rate) for rate in rates], "closure")
    _apart(cached, [lambda kg: kg + 1, lambda kg: kg + 2], "lambda")
    _apart(cached, [lambda kg, n=n: kg * n for n in range(3)], "lambda with a default")


@trap("calls")
def partials_and_callables(cached: Cached) -> None:
    """Partial functions, bound methods and callable objects are apart by what they hold."""

    def price(rate: int, kg: int) -> int:
        return rate * kg

    class Tariff(Loom):
        def __call__(self, kg: int) -> int:
            return self.rate * kg

        def price(self, kg: int) -> int:
            return self.rate + kg

    _apart(cached, [functools.partial(price, rate) for rate in (2, 3)], "partial")
    _apart(cached, [functools.partial(price, kg=kg) for kg in (2, 3)], "partial by name")
    _apart(cached, [Tariff(rate).price for rate in (2, 3)], "bound method")
    _apart(cached, [Tariff(rate) for rate in (2, 3)], "callable object")


@trap("calls")
def wrapped_functions(cached: Cached) -> None:
    """Two decorators around one function are apart, and one may hide a parameter of it."""

    def times(factor: int) -> Callable[[Callable[..., int]], Callable[..., int]]:
        def decorate(function: Callable[..., int]) -> Callable[..., int]:
            @functools.wraps(function)
            def wrapper(*args: Any, **kwargs: Any) -> int:
                return function("session", *args, **kwargs) * factor

            return wrapper

        return decorate

    def price(session: str, kg: int) -> int:
        return kg + len(session)

    _apart(cached, [times(2)(price), times(3)(price)], "decorated function")
    served = cached(times(2)(price))
    expect(served(kg=10), 34, "by name")


@trap("calls")
def built_in_functions(cached: Cached) -> None:
    """Functions of C are answered, or refused when they are decorated."""
    import math
    import operator

    for function, arguments in (
        (math.sqrt, (4.0,)),
        (max, (1, 2)),
        (operator.add, (1, 2)),
        (int, ("7",)),
    ):
        try:
            served = cached(function)
        except (TypeError, ValueError):
            continue
        except Exception as error:
            if type(error).__name__ != "Refused":
                raise
            continue
        for _ in range(2):
            expect(served(*arguments), function(*arguments), function.__name__)


# Options that change the key.


@trap("calls", needs=("ignore",), counts_loads=True)
def ignored_parameters(cached: Cached) -> None:
    """Ignored parameters are not part of the key, by position or by name, whatever they hold."""
    loads: list[int] = []

    def price(session: Any, kg: int, trace: Any = None) -> int:
        loads.append(kg)
        return kg * 2

    served = cached(price, ignore=("session", "trace"))
    for session in (object(), [1], {"a": object()}, lambda: 1, None):
        expect(served(session, 10), 20, "by position")
        expect(served(session=session, kg=10), 20, "by name")
        expect(served(session, 10, trace=session), 20, "with trace")
        expect(served(session, 11), 22, "another kg")
    expect_loads(loads, 2)


@trap("calls", needs=("key",), counts_loads=True)
def key_by_a_function(cached: Cached) -> None:
    """Calls with one key are one load, and keys that are equal but of other types are apart."""
    loads: list[Any] = []

    def price(yarn: dict[str, Any], kg: int = 1) -> str:
        loads.append(yarn)
        return repr(yarn["sku"])

    served = cached(price, key=lambda yarn, kg=1: yarn["sku"])
    for sku in ("A1", 1, True, 1.0, (1,), (True,)):
        for kg in (1, 2):
            expect(served({"sku": sku, "noise": object()}, kg), repr(sku), f"sku {sku!r}")
    expect_loads(loads, 6)
