"""Cached functions: the values of the function itself, from fewer calls."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import math
import os
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pandas as pd
import pytest

from flask_knitperf.caching.function_cache import MAX_WAIT_S
from flask_knitperf.core.errors import CacheKeyError, KnitPerfError


class TestKeys:
    """All spellings of a call are one key, and different calls are different ones."""

    def test_all_spellings_of_a_call_are_one_key(self, cache: Any) -> None:
        def f(a: int, b: int = 2, *, c: int = 3) -> tuple[int, ...]:
            cache.loads.append(1)
            return a, b, c

        cached = cache.cached(f)
        calls = [
            cached(1), cached(1, 2), cached(a=1), cached(b=2, a=1), cached(1, c=3), cached(1, b=2, c=3),
        ]  # fmt: skip
        assert calls == [(1, 2, 3)] * 6 and len(cache.loads) == 1

    def test_positional_only_and_variable_arguments_are_kept_apart(self, cache: Any) -> None:
        def f(a: Any, /, *args: Any, b: Any = None, **kwargs: Any) -> Any:
            cache.loads.append(1)
            return a, args, b, kwargs

        cached = cache.cached(f)
        calls: list[Any] = [
            lambda g: g(1), lambda g: g(1, 2), lambda g: g(1, b=2), lambda g: g(1, c=2),
            lambda g: g(1, a=2), lambda g: g(1, (2,)), lambda g: g(1, 2, 3), lambda g: g((1, 2)),
        ]  # fmt: skip
        for call in calls * 2:
            assert call(cached) == call(f)
        assert len(cache.loads) == 8 + 16

    def test_a_call_that_the_function_refuses_is_refused_alike(self, cache: Any) -> None:
        def f(a: int, *, b: int) -> None: ...

        cached = cache.cached(f)
        for args, kwargs in (((), {}), ((1, 2), {"b": 1}), ((1,), {"b": 1, "c": 2})):
            with pytest.raises(TypeError) as expected:
                f(*args, **kwargs)
            with pytest.raises(TypeError) as actual:
                cached(*args, **kwargs)
            qualified = str(expected.value).replace(f.__qualname__, "f")
            assert str(actual.value).replace(f.__qualname__, "f") == qualified

    def test_equal_arguments_of_other_types_are_other_calls(self, cache: Any) -> None:
        cached = cache.counted(repr)
        values = [1, True, 1.0, "1", b"1", None, (1,), [1], 0.0, -0.0]
        assert [cached(value) for value in values] == [repr(value) for value in values]
        assert [cached(value) for value in values] == [repr(value) for value in values]
        assert len(cache.loads) == len(values)

    def test_an_argument_that_changes_later_does_not_change_the_key(self, cache: Any) -> None:
        cached = cache.counted(sum)
        lines = [1, 2]
        assert cached(lines) == 3
        lines.append(4)
        assert (cached(lines), cached([1, 2]), len(cache.loads)) == (7, 3, 2)

    def test_an_argument_without_a_key_is_named_with_its_repair(self, cache: Any) -> None:
        def price(style: str, connection: object) -> None: ...

        with pytest.raises(CacheKeyError, match=r"argument 'connection' of .*price.*ignore=.*key="):
            cache.cached(price)("a", object())

    def test_ignored_arguments_are_no_part_of_the_key(self, cache: Any) -> None:
        def price(style: str, connection: object = None) -> str:
            cache.loads.append(style)
            return style

        cached = cache.cached(price, ignore=frozenset({"connection"}))
        assert {cached("a", object()), cached("a", connection=[]), cached("a")} == {"a"}
        assert cache.loads == ["a"]
        with pytest.raises(KnitPerfError, match=r"conection.*style, connection"):
            cache.cached(price, ignore=frozenset({"conection"}))

    def test_a_key_function_replaces_the_arguments(self, cache: Any) -> None:
        class Order:
            number = 7

        cached = cache.counted(lambda order, **_: order.number, key=lambda order, **_: order.number)
        assert (cached(Order()), cached(Order(), trace=object())) == (7, 7)
        assert len(cache.loads) == 1
        without = cache.cached(lambda order: 1, key=lambda order: object())
        with pytest.raises(CacheKeyError, match="the result of key"):
            without(1)

    def test_results_vary_by_functions_without_arguments(self, cache: Any) -> None:
        user = ["anna"]
        cached = cache.counted(lambda: user[0], vary=(lambda: user[0],))
        assert cached() == "anna"
        user[0] = "bert"
        assert cached() == "bert"
        user[0] = 1.5  # encoded
        assert (cached(), cached()) == (1.5, 1.5)
        assert len(cache.loads) == 3

    def test_names_of_parameters_do_not_collide_with_the_wrapper(self, cache: Any) -> None:
        def f(entry: int, key: int, copy: int, miss: int, words: int, f: int = 5) -> list[int]:
            return [entry, key, copy, miss, words, f]

        assert [cache.cached(f)(1, 2, 3, 4, 5) for _ in range(2)] == [[1, 2, 3, 4, 5, 5]] * 2

    @pytest.mark.parametrize("name", ["<lambda>", "class", "", "_knitperf_get", "Größe"])
    def test_a_function_of_any_name_is_cached(self, cache: Any, name: str) -> None:
        def f(a: int) -> int:
            return a

        f.__name__ = name
        cached = cache.cached(f)
        assert (cached(3), cached.__name__) == (3, name)

    def test_functions_of_one_name_share_nothing(self, cache: Any) -> None:
        def make(rate: int) -> Any:
            def price(style: int) -> int:
                return style * rate

            return cache.cached(price)

        one, other = make(2), make(3)
        assert (one(5), other(5), one(5)) == (10, 15, 10)

    def test_the_key_of_a_call_is_found_from_its_arguments(self, cache: Any) -> None:
        def f(a: Any, *args: Any, b: Any = 1, **kwargs: Any) -> int:
            return 1

        def g(a: Any, b: Any = [1]) -> int:  # noqa: B006
            return 1

        for function, args, kwargs in (
            (f, (1,), {}), (f, (1, 2), {"b": 3, "c": 4}), (f, (1.5,), {}), (g, ("a",), {"b": "c"}),
            (g, ("a",), {}), (g, ([1],), {"b": 1}),
        ):  # fmt: skip
            cached = cache.cached(function)
            cached(*args, **kwargs)
            assert cached.cache.keys.of_call(args, kwargs) in cached.cache.region.entries
        keyed = cache.cached(lambda a: a, key=lambda a: (a, 2), vary=(lambda: "x",))
        keyed(1)
        assert keyed.cache.keys.of_call((1,), {}) in keyed.cache.region.entries


class TestCode:
    """The code of the function is part of the key."""

    def test_code_that_is_replaced_in_place_is_called(self, cache: Any) -> None:
        def price(style: int) -> int:
            return style * 2

        def newer(style: int) -> int:
            return style * 3

        cached = cache.cached(price)
        assert cached(5) == 10
        price.__code__ = newer.__code__
        assert (cached(5), cached(5)) == (15, 15)
        assert cache.counts(cached)["hits"] == 1

    def test_defaults_that_are_replaced_in_place_are_used(self, cache: Any) -> None:
        def price(style: int, kg: int = 20, *, rate: int = 1) -> tuple[int, ...]:
            return style, kg, rate

        cached = cache.cached(price)
        assert cached(1) == (1, 20, 1)
        price.__defaults__ = (30,)
        assert (cached(1), cached(1), cached(1, 20)) == ((1, 30, 1), (1, 30, 1), (1, 20, 1))
        price.__defaults__ = (1, 2)
        assert cached(1, 30) == (1, 30, 1) and cached() == (1, 2, 1)

    def test_the_code_of_a_coroutine_function_may_be_replaced(self, cache: Any) -> None:
        async def price(style: int) -> int:
            return style * 2

        async def newer(style: int) -> int:
            return style * 3

        cached = cache.cached(price)
        assert asyncio.run(cached(5)) == 10
        price.__code__ = newer.__code__
        assert asyncio.run(cached(5)) == 15

    def test_a_callable_without_code_is_cached(self, cache: Any) -> None:
        import functools

        cached = cache.cached(functools.partial(max, 3), namespace="most")
        assert [cached(5), cached(5), cached(1)] == [5, 5, 3]
        assert cache.counts(cached)["hits"] == 1

    def test_the_parameters_are_those_of_the_decorated_function(self, cache: Any) -> None:
        import functools

        def price(style: str, kg: float) -> float:
            return kg

        @functools.wraps(price)
        def of_one(style: str) -> float:
            return price(style, 1.0)

        assert cache.cached(of_one)("a") == 1.0

    def test_the_name_of_an_argument_among_others_is_named(self, cache: Any) -> None:
        def price(style: str, **options: Any) -> None: ...

        with pytest.raises(
            CacheKeyError, match=r"argument 'trace' of .*price.*ignore=\('trace',\)"
        ):
            cache.cached(price)("a", rate=1, trace=object())


class TestMethods:
    """The values of a method belong to its instance."""

    def test_each_instance_has_its_values(self, cache: Any) -> None:
        class Service:
            def __init__(self, rate: int) -> None:
                self.rate = rate

            def __eq__(self, other: object) -> bool:
                return True

            __hash__ = None  # type: ignore[assignment]

            def price(self, style: int, note: Any = None) -> int:
                cache.loads.append(1)
                return style * self.rate

        Service.price = cache.cached(Service.price)  # type: ignore[method-assign]
        one, other = Service(2), Service(3)
        assert [one.price(5), other.price(5), one.price(5), other.price(5, None)] == [
            10,
            15,
            10,
            15,
        ]
        assert [one.price(5, [1]), other.price(5, [1]), one.price(5, [1])] == [10, 15, 10]
        assert len(cache.loads) == 4

    def test_short_lived_instances_get_no_value_of_another_one(self, cache: Any) -> None:
        class Row:
            def __init__(self, number: int) -> None:
                self.number = number

            def double(self) -> int:
                return self.number * 2

        Row.double = cache.cached(Row.double)  # type: ignore[method-assign]
        assert [Row(number).double() for number in range(200)] == [n * 2 for n in range(200)]
        gc.collect()
        kept = Row(1)
        assert kept.double() == 2
        assert len(Row.double.cache.region.entries) == 1  # type: ignore[attr-defined]

    def test_an_instance_without_identity_and_content_is_named(self, cache: Any) -> None:
        class Slim:
            __slots__ = ()

            def f(self) -> None: ...

        Slim.f = cache.cached(Slim.f)  # type: ignore[method-assign]
        with pytest.raises(CacheKeyError, match=r"argument 'self' of .*Slim.*has no cache key"):
            Slim().f()

    def test_a_parameter_that_is_only_called_self_is_a_value(self, cache: Any) -> None:
        cached = cache.counted(lambda self, kg=1: (self, kg))
        calls = [("a", 1), (5, 1), (5, 2.5), ("a",), ([1],)]
        assert [cached(*call) for call in calls] == [(*call, 1)[:2] for call in calls]
        named = cache.cached(eval("lambda self: self"))
        assert [named(self) for self in (1, True, "1", (1,), 1)] == [1, True, "1", (1,), 1]

    def test_class_methods_and_static_methods_are_cached_below_their_decorators(
        self, cache: Any
    ) -> None:
        class Mill:
            rate = 2

            @classmethod
            def price(cls, style: int) -> int:
                return style * cls.rate

            @staticmethod
            def double(style: int) -> int:
                return style * 2

        Mill.price = classmethod(cache.cached(Mill.__dict__["price"].__func__))  # type: ignore[assignment,method-assign]
        Mill.double = staticmethod(cache.cached(Mill.__dict__["double"].__func__))  # type: ignore[assignment,method-assign]
        other = type("Other", (Mill,), {"rate": 3})
        assert (Mill.price(2), other.price(2), Mill.double(2)) == (4, 6, 4)


class TestValues:
    """No caller can change what another one gets."""

    def test_the_first_caller_cannot_change_the_cached_value(self, cache: Any) -> None:
        cached = cache.cached(lambda: {"lines": [1, 2]})
        cached()["lines"].append(3)
        cached()["lines"].append(4)
        assert cached() == {"lines": [1, 2]}

    def test_frames_are_separate(self, cache: Any) -> None:
        kept = pd.DataFrame({"a": [1, 2], "b": [[1], [2]]})
        cached = cache.counted(lambda: kept)
        first = cached()
        first.loc[0, "a"] = 99
        first.loc[0, "b"].append(7)
        second = cached()
        second["c"] = 1
        second.index.name = second.columns.name = "x"
        third = cached()
        assert third.to_dict("list") == {"a": [1, 2], "b": [[1], [2]]}
        assert third.index.name is None and third.columns.name is None and len(cache.loads) == 1

    @pytest.mark.parametrize("value", [None, False, 0, "", [], {}])
    def test_false_values_are_values(self, cache: Any, value: Any) -> None:
        cached = cache.counted(lambda: value)
        assert [cached(), cached()] == [value, value] and len(cache.loads) == 1

    def test_an_iterator_is_not_cached_and_logged_once(
        self, cache: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        cached = cache.counted(lambda: iter([1, 2]))
        with caplog.at_level(logging.WARNING):
            assert [list(cached()) for _ in range(3)] == [[1, 2]] * 3
        (record,) = caplog.records
        assert "is not cached" in record.message and "return a list" in record.message
        assert cache.counts(cached)["refused"] == 3

    def test_calls_do_not_wait_for_a_value_that_each_needs_for_itself(self, cache: Any) -> None:
        both, waits = threading.Barrier(2, timeout=MAX_WAIT_S / 2), list[bool]()
        cached = cache.cached(lambda: (waits and both.wait(), iter([1]))[1])
        cached()
        waits.append(True)
        with ThreadPoolExecutor(2) as pool:
            results = [future.result() for future in [pool.submit(cached), pool.submit(cached)]]
        assert [list(result) for result in results] == [[1], [1]]

    def test_followers_of_a_value_that_cannot_be_shared_load_it(self, cache: Any) -> None:
        started, go = threading.Event(), threading.Event()

        def load() -> Any:
            cache.loads.append(1)
            started.set()
            assert go.wait(30)
            return iter([len(cache.loads)])

        cached = cache.cached(load)
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(cached)
            assert started.wait(30)
            second = pool.submit(cached)
            go.set()
            assert sorted([*first.result(), *second.result()]) == [1, 2]

    def test_a_value_that_is_larger_than_the_cache_is_not_kept(self, cache: Any) -> None:
        cached = cache.counted(lambda: "x" * 20_000_000)
        assert len(cached()) == len(cached()) == 20_000_000
        assert len(cache.loads) == 2 and cache.store.currsize == 0

    def test_generator_functions_are_called_each_time(self, cache: Any) -> None:
        def rows() -> Any:
            yield from (1, 2)

        async def more() -> Any:
            yield 1

        async def read() -> list[int]:
            return [row async for row in cached_more()]

        cached, cached_more = cache.cached(rows), cache.cached(more)
        assert [list(cached()) for _ in range(2)] == [[1, 2]] * 2
        assert [asyncio.run(read()) for _ in range(2)] == [[1]] * 2
        assert cache.counts(cached)["refused"] == cache.counts(cached_more)["refused"] == 2


class TestErrors:
    """Errors are raised, and cached only by choice."""

    def test_an_error_is_not_cached(self, cache: Any) -> None:
        outcomes = iter([LookupError("x"), None])

        def load() -> int:
            error = next(outcomes)
            if error:
                raise error
            return 1

        cached = cache.cached(load)
        with pytest.raises(LookupError):
            cached()
        assert cached() == cached() == 1

    def test_chosen_errors_are_cached(self, cache: Any) -> None:
        def load() -> None:
            cache.loads.append(1)
            raise FileNotFoundError(2, "missing")

        cached = cache.cached(load, errors=(OSError,), ttl=60)
        errors = []
        for _ in range(3):
            with pytest.raises(FileNotFoundError, match="missing") as raised:
                cached()
            errors.append(raised.value)
        assert len(cache.loads) == 1 and len({id(error) for error in errors}) == 3
        (entry,) = cached.cache.region.entries.values()
        assert entry.value.__traceback__ is None  # it would keep the variables of the load alive
        cache.now += 60
        with pytest.raises(FileNotFoundError):
            cached()
        assert len(cache.loads) == 2

    def test_a_cached_error_keeps_nothing_of_its_load_alive(self, cache: Any) -> None:
        class Rows(list[int]):
            pass

        rows: list[weakref.ref[Rows]] = []

        def load() -> None:
            local = Rows([1])
            rows.append(weakref.ref(local))
            try:
                raise KeyError("yarn")
            except KeyError as error:
                raise LookupError("no yarn") from error

        cached = cache.counted(load, errors=(LookupError,))
        for _ in range(3):
            with pytest.raises(LookupError, match="no yarn") as info:
                cached()
            assert type(info.value.__cause__) is KeyError
            del info
        gc.collect()
        assert len(cache.loads) == 1 and rows[0]() is None

    def test_callers_of_a_cached_error_share_no_argument(self, cache: Any) -> None:
        def load() -> None:
            raise LookupError(["yarn"])

        cached = cache.counted(load, errors=(LookupError,))
        for _ in range(3):
            with pytest.raises(LookupError) as info:
                cached()
            assert info.value.args == (["yarn"],)
            info.value.args[0].append("changed")
        assert len(cache.loads) == 1

    def test_an_error_that_cannot_be_copied_is_not_cached(self, cache: Any) -> None:
        def load() -> None:
            raise LookupError(iter(["yarn"]))

        cached = cache.counted(load, errors=(LookupError,))
        for _ in range(2):
            with pytest.raises(LookupError) as info:
                cached()
            assert list(info.value.args[0]) == ["yarn"]
        assert len(cache.loads) == 2

    def test_an_old_value_may_replace_an_error(self, cache: Any) -> None:
        fails = [False]

        def load() -> int:
            if fails[0]:
                raise ConnectionError
            return 7

        cached = cache.cached(load, ttl=10, stale_if_error=60)
        cached()
        fails[0] = True
        cache.now += 30
        assert cached() == 7 and cache.counts(cached)["stale"] == 1
        cache.now += 60
        with pytest.raises(ConnectionError):
            cached()

    def test_an_invalidated_value_does_not_replace_an_error(self, cache: Any) -> None:
        fails = [False]

        def load() -> int:
            if fails[0]:
                raise ConnectionError
            return 7

        cached = cache.cached(load, namespace="n", stale_if_error=math.inf)
        cached()
        fails[0] = True
        cache.invalidation.namespace("n")
        with pytest.raises(ConnectionError):
            cached()

    def test_no_error_is_remembered_as_the_value_of_another(self, cache: Any) -> None:
        cached = cache.cached(lambda a: 1 // a, errors=(ZeroDivisionError,), stale_if_error=99)
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                cached(0)
        assert cached(1) == 1


class TestTime:
    """Values expire, and may be served a while longer."""

    def test_a_value_expires(self, cache: Any) -> None:
        cached = cache.counted(ttl=10)
        assert (cached(), cached()) == (1, 1)
        cache.now += 9.9
        assert cached() == 1
        cache.now += 0.1
        assert cached() == 2
        counts = cache.counts(cached)
        assert (counts["hits"], counts["cold"], counts["expired"]) == (2, 1, 1)

    def test_while_one_call_loads_others_get_the_old_value(self, cache: Any) -> None:
        started, go = threading.Event(), threading.Event()

        def load() -> int:
            cache.loads.append(1)
            if len(cache.loads) > 1:
                started.set()
                assert go.wait(30)
            return len(cache.loads)

        cached = cache.cached(load, ttl=10, stale=60)
        cached()
        cache.now += 20
        with ThreadPoolExecutor(1) as pool:
            leader = pool.submit(cached)
            assert started.wait(30)
            assert cached() == 1 and cache.counts(cached)["stale"] == 1
            go.set()
            assert leader.result() == 2
        assert cached() == 2

    def test_beyond_the_tolerated_age_calls_wait(self, cache: Any) -> None:
        cached = cache.counted(ttl=10, stale=60)
        cached()
        cache.now += 70
        assert cached() == 2 and cache.counts(cached)["stale"] == 0


class TestInvalidation:
    """An invalidated value is never returned."""

    def test_namespaces_tags_and_everything(self, cache: Any) -> None:
        cached = cache.counted(namespace="bom", tags=("style", "yarn"))
        other = cache.counted(namespace="other")
        cached(), other()
        for invalidate in (
            lambda: cache.invalidation.namespace("bom"),
            lambda: cache.invalidation.tags(["yarn"]),
            lambda: cache.invalidation.tags(["style"]),
        ):
            before, untouched = cached(), other()
            invalidate()
            assert cached() != before and other() == untouched
        before = cached(), other()
        cache.invalidation.all()
        assert cached() != before[0] and other() != before[1]
        assert cache.counts(cached)["invalidated"] == 4

    def test_an_unrelated_change_costs_one_comparison_and_no_load(self, cache: Any) -> None:
        cached = cache.counted(namespace="bom")
        cached()
        cache.invalidation.namespace("other")
        assert cached() == cached() == 1
        (entry,) = cached.cache.region.entries.values()
        assert entry.epoch == cache.invalidation.take(())[0]

    def test_a_value_that_was_invalidated_while_it_loaded_is_loaded_again(self, cache: Any) -> None:
        def load() -> int:
            cache.loads.append(1)
            if len(cache.loads) == 1:
                cache.invalidation.namespace("bom")
            return len(cache.loads)

        cached = cache.cached(load, namespace="bom")
        assert (cached(), cached(), cached()) == (1, 2, 2)

    def test_a_follower_does_not_get_a_value_from_before_an_invalidation(self, cache: Any) -> None:
        started, go = threading.Event(), threading.Event()

        def load() -> int:
            cache.loads.append(1)
            if len(cache.loads) == 1:
                started.set()
                assert go.wait(30)
            return len(cache.loads)

        cached = cache.cached(load, namespace="bom")
        with ThreadPoolExecutor(2) as pool:
            leader = pool.submit(cached)
            assert started.wait(30)
            cache.invalidation.namespace("bom")
            follower = pool.submit(cached)
            while not cached.cache._flights.is_loading(()) or follower.done():
                pass
            go.set()
            assert leader.result() == 1 and follower.result() == 2

    def test_other_versions_are_used_where_an_application_comes_later(self, cache: Any) -> None:
        from flask_knitperf.storage.versions import Versions

        located: list[Any] = [None]
        cache.invalidation._locate = lambda: located[0]
        cached = cache.counted(namespace="bom")
        cached()
        located[0] = Versions(lambda: None)
        cache.invalidation.forget()
        located[0].bump(["namespace:bom"])
        assert (cached(), cached()) == (2, 2)
        located[0].bump(["namespace:bom"])
        assert cached() == 3

    def test_a_forked_child_compares_versions_again(self, cache: Any) -> None:
        cached = cache.counted()
        cached()
        child = os.fork()
        if not child:
            os._exit(0 if cached() == 1 and cache.loads == [()] else 1)
        assert os.waitpid(child, 0)[1] == 0


class TestCoroutines:
    """Coroutine functions are cached alike."""

    def test_the_result_of_a_coroutine_function_is_cached(self, cache: Any) -> None:
        async def load(a: int, b: int = 2) -> list[int]:
            cache.loads.append(1)
            await asyncio.sleep(0)
            return [a, b]

        cached = cache.cached(load, ttl=10)

        async def main() -> Any:
            return await asyncio.gather(*(cached(1) for _ in range(9)), cached(1, b=2))

        assert inspect.iscoroutinefunction(cached)
        assert asyncio.run(main()) == [[1, 2]] * 10
        assert asyncio.run(main()) == [[1, 2]] * 10
        assert cache.loads == [1]
        cache.now += 10
        assert asyncio.run(main()) == [[1, 2]] * 10
        assert cache.loads == [1, 1]

    def test_its_errors_refusals_and_bypasses_are_those_of_functions(self, cache: Any) -> None:
        outcomes: list[Any] = [LookupError("x"), iter([1]), iter([2]), 5, 6]

        async def load() -> Any:
            cache.loads.append(1)
            outcome = outcomes.pop(0)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        cached = cache.cached(load)
        with pytest.raises(LookupError):
            asyncio.run(cached())
        assert [list(asyncio.run(cached())) for _ in range(2)] == [[1], [2]]
        cache.bypasses.append(1)
        assert asyncio.run(cached()) == 5
        cache.bypasses.clear()
        assert [asyncio.run(cached()) for _ in range(2)] == [6, 6]

    def test_a_task_that_followed_an_outdated_load_loads_again(self, cache: Any) -> None:
        async def main() -> Any:
            go = asyncio.Event()

            async def load() -> int:
                cache.loads.append(1)
                number = len(cache.loads)
                if number == 1:
                    await go.wait()
                return number

            cached = cache.cached(load, namespace="bom")
            leader = asyncio.ensure_future(cached())
            await asyncio.sleep(0)
            cache.invalidation.namespace("bom")
            follower = asyncio.ensure_future(cached())
            await asyncio.sleep(0)
            go.set()
            return await leader, await follower

        assert asyncio.run(main()) == (1, 2)

    def test_a_task_whose_leader_found_no_shareable_value_loads_for_itself(
        self, cache: Any
    ) -> None:
        async def main() -> Any:
            go = asyncio.Event()

            async def load() -> Any:
                cache.loads.append(1)
                await go.wait()
                return iter([len(cache.loads)])

            cached = cache.cached(load)
            tasks = [asyncio.ensure_future(cached()) for _ in range(2)]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            go.set()
            return [next(result) for result in await asyncio.gather(*tasks)]

        assert sorted(asyncio.run(main())) == [1, 2]


def test_a_bypassed_call_neither_reads_nor_writes_the_cache(cache: Any) -> None:
    cached = cache.counted()
    cached()
    cache.bypasses.append(1)
    assert cached() == 2
    cache.bypasses.clear()
    assert cached() == 1
    counts = cache.counts(cached)
    assert (counts["bypassed"], counts["hits"], counts["misses"]) == (1, 1, 1)


def test_counts_of_calls(cache: Any) -> None:
    def load(a: int) -> int:
        cache.now += 2
        return a

    cached = cache.cached(load)
    for a in (1, 2, 1, 1):
        cached(a)
    counts = cache.counts(cached)
    assert (counts["hits"], counts["misses"], counts["hit_rate"]) == (2, 2, 0.5)
    assert (counts["load_seconds"], counts["saved_seconds"], counts["entries"]) == (4, 4, 2)
    cache.store.clear()
    counts = cache.counts(cached)
    assert (counts["hits"], counts["saved_seconds"], counts["entries"], counts["bytes"]) == (
        2,
        4,
        0,
        0,
    )


def test_the_wrapper_looks_like_the_function(cache: Any) -> None:
    def price(style: str, *, rate: float = 1.5) -> float:
        """Return a price."""
        return rate

    cached = cache.cached(price)
    assert inspect.signature(cached) == inspect.signature(price)
    assert (cached.__doc__, cached.__wrapped__) == ("Return a price.", price)
    assert cached.__qualname__ == price.__qualname__ and cached.__module__ == price.__module__


def test_forty_threads_get_right_values_from_one_load_each(cache: Any) -> None:
    def load(number: int) -> list[int]:
        cache.loads.append(number)
        return [number]

    cached = cache.cached(load)

    def work(seed: int) -> bool:
        results = [cached((seed + n) % 50) for n in range(500)]
        good = all(result == [(seed + n) % 50] for n, result in enumerate(results))
        results[0].append("mine")
        return good

    with ThreadPoolExecutor(40) as pool:
        assert all(pool.map(work, range(40)))
    assert sorted(cache.loads) == list(range(50))
    counts = cache.counts(cached)
    assert counts["hits"] + counts["misses"] == 20_000


def test_an_exception_that_is_cached_can_be_anything_that_is_raised(cache: Any) -> None:
    class OddError(Exception):
        def __init__(self, one: int, other: int) -> None:
            super().__init__("odd")

    def load() -> None:
        raise OddError(1, 2)

    cached = cache.cached(load, errors=(OddError,))
    for _ in range(2):
        with pytest.raises(OddError):
            cached()


def test_the_log_shows_hostile_names_escaped(cache: Any, caplog: pytest.LogCaptureFixture) -> None:
    def load() -> Any:
        return iter(())

    load.__qualname__ = "load\x1b[31m\ud834"
    cache.cached(load)()
    assert r"load\x1b[31m\ud834 is not cached" in caplog.text
