"""Single flight: one call loads, the others wait, and no call waits for ever."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import pytest

from flask_knitperf.caching import single_flight
from flask_knitperf.caching.single_flight import SingleFlight
from tests.waiting import wait_for

LONG = 30.0


class Calls:
    """Calls of one key in threads, whose leader waits for :attr:`go`."""

    def __init__(self, count: int, load: Callable[[], Any], wait_s: float = LONG) -> None:
        self.flights, self.go, self.loads = SingleFlight(wait_s), threading.Event(), 0
        self._load = load
        self.pool = ThreadPoolExecutor(count)
        self.futures = [self.pool.submit(self.flights.run, "k", self.load)]
        wait_for(lambda: self.loads == 1)
        self.futures += [
            self.pool.submit(self.flights.run, "k", self.load) for _ in range(count - 1)
        ]
        wait_for(lambda: len(single_flight._WAITING) == count - 1)

    def load(self) -> Any:
        self.loads += 1
        assert self.go.wait(LONG)
        return self._load()

    def end(self) -> list[Any]:
        self.go.set()
        self.pool.shutdown()
        return [future.exception() or future.result() for future in self.futures]


def test_concurrent_calls_of_a_key_share_one_load() -> None:
    calls = Calls(20, lambda: "value")
    results = calls.end()
    assert calls.loads == 1
    assert results.count(("value", True)) == 1 and results.count(("value", False)) == 19


def test_calls_of_other_keys_do_not_wait() -> None:
    calls = Calls(2, lambda: 1)
    assert calls.flights.run("other", lambda: 2) == (2, True)
    assert calls.flights.is_loading("k") and not calls.flights.is_loading("other")
    calls.end()


def test_an_error_goes_to_those_who_waited_and_to_no_later_call() -> None:
    def fail() -> None:
        raise LookupError("no yarn", 7)

    calls = Calls(3, fail)
    errors = calls.end()
    assert [type(error) for error in errors] == [LookupError] * 3
    assert {error.args for error in errors} == {("no yarn", 7)}
    assert len({id(error) for error in errors}) == 3
    assert calls.flights.run("k", lambda: 1) == (1, True)


def test_a_copy_of_an_error_shares_nothing_that_can_be_changed() -> None:
    class OddError(Exception):
        def __init__(self, one: int, other: int) -> None:
            super().__init__("odd")

    class FakeError(Exception):
        def __reduce__(self) -> Any:
            return ValueError, ("another",)

    class StubbornError(OddError):
        def __new__(cls, *args: Any) -> Any:
            if args == ("odd",):
                raise TypeError
            return super().__new__(cls, *args)

    class BusyError(OSError):
        def __init__(self, path: str) -> None:
            super().__init__(errno.EBUSY, "busy", path)

    class SlottedError(Exception):
        __slots__ = ("lines",)

    slotted = SlottedError([1])
    slotted.lines = [1]
    noted = LookupError([1], {"a": [1]})
    noted.add_note("a")
    noted.rows = [1]  # type: ignore[attr-defined]
    noted.__cause__ = KeyError([1])
    value = StopIteration([1])
    errors: list[Any] = [
        OddError(1, 2), FakeError(), StubbornError(1, 2), BusyError("/a"), slotted, noted, value,
        UnicodeDecodeError("utf-8", b"a", 0, 1, "odd"), ImportError("x", name="a", path="b"),
        ExceptionGroup("g", [ValueError([1])]), FileNotFoundError(2, "gone", "/a"), KeyError("a"),
        SyntaxError("bad", ("f", 1, 2, "text")), json.JSONDecodeError("bad", "text", 1),
    ]  # fmt: skip
    for error in errors:
        try:
            raise error
        except Exception as raised:
            copied: Any = single_flight.copy_of(raised)
        assert copied is not error and copied.__traceback__ is None
        assert (type(copied), str(copied), repr(copied)) == (type(error), str(error), repr(error))
        assert {**vars(copied), "__notes__": 0}.keys() == {**vars(error), "__notes__": 0}.keys()
    copied = single_flight.copy_of(noted)
    copied.add_note("b"), copied.args[0].append(9), copied.rows.append(9)
    copied.args[1]["a"].append(9), copied.__cause__.args[0].append(9)
    assert (noted.__notes__, noted.args, noted.rows) == (["a"], ([1], {"a": [1]}), [1])  # type: ignore[attr-defined]
    assert noted.__cause__.args == ([1],)
    copied = single_flight.copy_of(value)
    copied.value.append(9)
    assert value.value == [1]
    copied = single_flight.copy_of(slotted)
    copied.lines.append(9)
    assert slotted.lines == [1]
    copied = single_flight.copy_of(errors[3])
    assert (copied.errno, copied.filename) == (errno.EBUSY, "/a")
    copied = single_flight.copy_of(errors[9])
    copied.exceptions[0].args[0].append(9)
    assert errors[9].exceptions[0].args == ([1],)


def test_an_error_that_cannot_be_copied_is_raised_to_its_caller_alone() -> None:
    class Lock:
        def __deepcopy__(self, memo: Any) -> Any:
            return self

    class LoopError(Exception):
        pass

    loop = LoopError()
    loop.__cause__ = loop
    for error in (loop, LookupError(Lock()), LookupError(iter([1]))):
        assert single_flight.copy_of(error) is None

    loads: list[int] = []

    def fail() -> None:
        loads.append(1)
        raise LookupError(Lock())

    calls = Calls(4, fail)
    errors = calls.end()
    assert len(loads) == 4 and len({id(error.args[0]) for error in errors}) == 4


def test_tasks_whose_leader_failed_with_an_error_for_itself_load() -> None:
    flights, loads = SingleFlight(LONG), []

    async def fail() -> None:
        loads.append(1)
        await asyncio.sleep(0)
        raise LookupError(iter([1]))

    async def run() -> list[Any]:
        calls = (flights.run_async("k", fail) for _ in range(3))
        return list(await asyncio.gather(*calls, return_exceptions=True))

    errors = asyncio.run(run())
    assert len(loads) == 3 and len({id(error.args[0]) for error in errors}) == 3


def test_where_the_leader_is_interrupted_a_follower_leads() -> None:
    class Interrupted(BaseException):
        pass

    outcomes = iter([Interrupted, None, None])

    def load() -> str:
        outcome = next(outcomes)
        if outcome is not None:
            raise outcome
        return "value"

    calls = Calls(3, load)
    results = calls.end()
    assert [type(result) for result in results].count(Interrupted) == 1
    others = [result for result in results if type(result) is tuple]
    assert [value for value, _ in others] == ["value"] * 2 and ("value", True) in others


def test_a_recursive_call_loads_for_itself() -> None:
    flights = SingleFlight(LONG)
    inner = flights.run("k", lambda: flights.run("k", lambda: 1))
    assert inner == ((1, True), True)


def test_a_thread_of_the_load_loads_for_itself() -> None:
    flights = SingleFlight(LONG)

    def load() -> Any:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(copy_context().run, flights.run, "k", lambda: 1).result()

    assert flights.run("k", load) == ((1, True), True)


def test_loads_that_wait_for_each_other_end() -> None:
    one, other = SingleFlight(LONG), SingleFlight(LONG)
    both = threading.Barrier(2, timeout=LONG)

    def first() -> Any:
        both.wait()
        return one.run("a", lambda: (both.wait(), other.run("b", lambda: 0))[1])

    def second() -> Any:
        both.wait()
        return other.run("b", lambda: (both.wait(), one.run("a", lambda: 0))[1])

    with ThreadPoolExecutor(2) as pool:
        results = [future.result() for future in (pool.submit(first), pool.submit(second))]
    assert {result[1] for result in results} == {True}


def test_after_the_longest_wait_one_follower_leads() -> None:
    flights, go = SingleFlight(0.01), threading.Event()
    loads = []

    def load() -> int:
        loads.append(1)
        assert go.wait(LONG) or True
        return len(loads)

    with ThreadPoolExecutor(2) as pool:
        stuck = pool.submit(flights.run, "k", load)
        wait_for(lambda: len(loads) == 1)
        late = pool.submit(flights.run, "k", lambda: "late")
        assert late.result() == ("late", True)
        assert not flights.is_loading("k")
        go.set()
        assert stuck.result() == (1, True)


def test_a_forked_child_starts_without_loads() -> None:
    calls = Calls(2, lambda: 1)
    child = os.fork()
    if not child:
        fine = calls.flights.run("k", lambda: 2) == (2, True) and not single_flight._WAITING
        os._exit(0 if fine else 1)
    assert os.waitpid(child, 0)[1] == 0
    calls.end()


class TestCoroutines:
    """Tasks behave as threads do."""

    def test_tasks_share_one_load(self) -> None:
        flights, loads = SingleFlight(LONG), []

        async def load() -> int:
            loads.append(1)
            await asyncio.sleep(0)
            return 7

        async def main() -> list[Any]:
            return await asyncio.gather(*(flights.run_async("k", load) for _ in range(20)))

        results = asyncio.run(main())
        assert loads == [1] and results.count((7, False)) == 19

    def test_an_error_goes_to_every_task(self) -> None:
        flights = SingleFlight(LONG)

        async def load() -> int:
            await asyncio.sleep(0)
            raise LookupError("x")

        async def main() -> list[Any]:
            tasks = (flights.run_async("k", load) for _ in range(3))
            return await asyncio.gather(*tasks, return_exceptions=True)

        assert [type(error) for error in asyncio.run(main())] == [LookupError] * 3

    def test_where_the_leader_is_cancelled_another_task_leads(self) -> None:
        flights, loads = SingleFlight(LONG), []

        async def main() -> Any:
            go = asyncio.Event()

            async def load() -> int:
                loads.append(1)
                await go.wait()
                return len(loads)

            tasks = [asyncio.ensure_future(flights.run_async("k", load)) for _ in range(3)]
            while not loads:
                await asyncio.sleep(0)
            tasks[0].cancel()
            go.set()
            return await asyncio.gather(*tasks, return_exceptions=True)

        results = asyncio.run(main())
        assert isinstance(results[0], asyncio.CancelledError)
        assert (2, True) in results[1:]

    def test_a_follower_that_is_cancelled_leaves_the_load_alone(self) -> None:
        flights = SingleFlight(LONG)

        async def main() -> Any:
            go = asyncio.Event()

            async def load() -> int:
                await go.wait()
                return 1

            tasks = [asyncio.ensure_future(flights.run_async("k", load)) for _ in range(3)]
            while len(single_flight._WAITING) < 2:
                await asyncio.sleep(0)
            tasks[1].cancel()
            await asyncio.sleep(0)
            go.set()
            return await asyncio.gather(*tasks, return_exceptions=True)

        results = asyncio.run(main())
        assert isinstance(results[1], asyncio.CancelledError)
        assert (results[0], results[2]) == ((1, True), (1, False))

    def test_a_recursive_task_loads_for_itself(self) -> None:
        flights = SingleFlight(LONG)

        async def inner() -> int:
            return 1

        async def load() -> Any:  # in another task, which inherits the context
            return await asyncio.gather(flights.run_async("k", inner))

        assert asyncio.run(flights.run_async("k", load)) == ([(1, True)], True)

    def test_after_the_longest_wait_one_task_leads(self) -> None:
        flights = SingleFlight(0.01)

        async def main() -> Any:
            go = asyncio.Event()

            async def stuck() -> int:
                await go.wait()
                return 1

            async def quick() -> int:
                return 2

            leader = asyncio.ensure_future(flights.run_async("k", stuck))
            await asyncio.sleep(0)
            late = await flights.run_async("k", quick)
            go.set()
            return late, await leader

        assert asyncio.run(main()) == ((2, True), (1, True))

    @pytest.mark.parametrize("loops", [2])
    def test_event_loops_of_several_threads_share_one_load(self, loops: int) -> None:
        flights, loads, go = SingleFlight(LONG), [], threading.Event()

        async def load() -> int:
            loads.append(1)
            await asyncio.get_running_loop().run_in_executor(None, go.wait, LONG)
            return 5

        def run() -> Any:
            return asyncio.run(flights.run_async("k", load))

        with ThreadPoolExecutor(loops) as pool:
            first = pool.submit(run)
            wait_for(lambda: bool(loads))
            second = pool.submit(run)
            wait_for(lambda: len(single_flight._WAITING) == 1)
            go.set()
            assert (first.result(), second.result()) == ((5, True), (5, False))
        assert loads == [1]
