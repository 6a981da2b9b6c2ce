"""Calls of many threads: one load per key, no waiting for other keys, no shared values."""

from __future__ import annotations

import contextvars
import ctypes
import random
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from .contract import (
    BOUND_SECONDS,
    Cached,
    Poisoned,
    Wrong,
    expect,
    expect_loads,
    in_threads,
    reraise,
    trap,
    wait_or_wrong,
)

THREADS = 20


def _together(call: Callable[[int], Any], count: int = THREADS) -> list[Any]:
    """Results of a function in threads that start at once, by number."""
    barrier = threading.Barrier(count)

    def work(number: int) -> Callable[[], Any]:
        def run() -> Any:
            barrier.wait(10)
            return call(number)

        return run

    return in_threads(*map(work, range(count)))


@trap("threads", counts_loads=True)
def one_load_for_twenty_threads(cached: Cached) -> None:
    """20 threads that call for one key cause one load."""
    loads: list[int] = []

    def load(number: int) -> int:
        loads.append(number)
        time.sleep(0.2)
        return number

    served = cached(load)
    results = _together(lambda _: served(7))
    reraise(results)
    expect(results, [7] * THREADS, "answers")
    expect_loads(loads, 1)


@trap("threads", counts_loads=True)
def one_load_per_key_of_an_instance(cached: Cached) -> None:
    """Threads that call a method of one instance cause one load, those of another one more."""
    loads: list[int] = []

    class Machine:
        def __init__(self, rate: int) -> None:
            self.rate = rate

        @cached
        def pace(self, factor: int) -> int:
            loads.append(self.rate)
            time.sleep(0.2)
            return self.rate * factor

    machines = [Machine(2), Machine(3)]
    results = _together(lambda number: machines[number % 2].pace(10))
    reraise(results)
    expect(results, [20, 30] * (THREADS // 2), "answers")
    expect_loads(loads, 2)


@trap("threads")
def other_keys_do_not_wait(cached: Cached) -> None:
    """A call for one key is answered while the load of another key is not finished."""
    entered, finished = threading.Event(), threading.Event()

    def load(sku: str) -> str:
        if sku == "slow":
            entered.set()
            wait_or_wrong(finished, "the other key waited for this load")
        return sku

    served = cached(load)

    def other() -> str:
        wait_or_wrong(entered, "the slow load did not start")
        answer: str = served("fast")
        finished.set()
        return answer

    results = in_threads(lambda: served("slow"), other)
    reraise(results)
    expect(results, ["slow", "fast"], "answers")


@trap("threads")
def hits_do_not_wait_for_loads(cached: Cached) -> None:
    """A value that is in the cache is served while loads of other keys run."""
    entered, finished = threading.Event(), threading.Event()

    def load(sku: str) -> str:
        if sku == "slow":
            entered.set()
            wait_or_wrong(finished, "the hit waited for this load")
        return sku

    served = cached(load)
    served("kept")

    def other() -> str:
        wait_or_wrong(entered, "the slow load did not start")
        answer: str = served("kept")
        finished.set()
        return answer

    results = in_threads(lambda: served("slow"), other)
    reraise(results)
    expect(results, ["slow", "kept"], "answers")


@trap("threads")
def forty_keys_load_at_once(cached: Cached) -> None:
    """Loads of 40 keys run at once: no two keys share a lock that is held while loading."""
    everyone = threading.Barrier(40)

    def load(number: int) -> int:
        try:
            everyone.wait(8)
        except threading.BrokenBarrierError:
            raise Wrong("loads of separate keys wait for one another") from None
        return number

    served = cached(load)
    results = _together(served, 40)
    reraise(results)
    expect(results, list(range(40)), "answers")


@trap("threads")
def two_functions_do_not_wait(cached: Cached) -> None:
    """A call of one function is answered while another function loads the same arguments."""
    entered, finished = threading.Event(), threading.Event()

    def slow(sku: str) -> str:
        entered.set()
        wait_or_wrong(finished, "the other function waited for this load")
        return f"slow {sku}"

    def fast(sku: str) -> str:
        return f"fast {sku}"

    served_slow, served_fast = cached(slow), cached(fast)

    def other() -> str:
        wait_or_wrong(entered, "the slow load did not start")
        answer: str = served_fast("A1")
        finished.set()
        return answer

    results = in_threads(lambda: served_slow("A1"), other)
    reraise(results)
    expect(results, ["slow A1", "fast A1"], "answers")


@trap("threads")
def waiting_callers_do_not_share_the_value(cached: Cached) -> None:
    """20 callers of one load change a list each: none sees another's change."""

    def load(number: int) -> list[int]:
        time.sleep(0.2)
        return []

    served = cached(load)

    def call(number: int) -> list[int]:
        value: list[int] = served(1)
        value.append(number)
        time.sleep(0.1)
        return list(value)

    results = _together(call)
    reraise(results)
    expect(results, [[number] for number in range(THREADS)], "lists of the callers", Poisoned)
    expect(served(1), [], "a later caller", Poisoned)


@trap("threads")
def waiting_callers_do_not_share_a_frame(cached: Cached) -> None:
    """8 callers of one load each write to their frame: none sees another's write."""
    import pandas as pd

    def load(rows: int) -> Any:
        time.sleep(0.2)
        return pd.DataFrame({"kg": [0.0] * rows})

    for rows in (5, 20_000):
        served = cached(load)

        def call(number: int, served: Any = served, rows: int = rows) -> float:
            frame = served(rows)
            frame.loc[0, "kg"] += number
            frame.loc[1, "kg"] += number
            time.sleep(0.1)
            return float(frame["kg"].sum())

        results = _together(call, 8)
        reraise(results)
        expect(results, [2.0 * number for number in range(8)], f"{rows} rows", Poisoned)
        expect(float(served(rows)["kg"].sum()), 0.0, f"a later caller, {rows} rows", Poisoned)


@trap("threads")
def values_that_cannot_be_kept_while_others_wait(cached: Cached) -> None:
    """Callers that wait for a value that is not kept get a usable one each."""

    class Uncopyable:
        def __init__(self) -> None:
            self.callers: list[int] = []

        def __reduce_ex__(self, protocol: Any) -> Any:
            raise RuntimeError("cannot be copied")

    def generator(number: int) -> Any:
        time.sleep(0.2)
        return (item for item in range(number))

    def uncopyable(number: int) -> Any:
        time.sleep(0.2)
        return Uncopyable()

    served, served_uncopyable = cached(generator), cached(uncopyable)
    results = _together(lambda _: list(served(3)), 6)
    reraise(results)
    expect(results, [[0, 1, 2]] * 6, "generators of waiting callers")

    def call(number: int) -> list[int]:
        value = served_uncopyable(1)
        value.callers.append(number)
        time.sleep(0.1)
        return list(value.callers)

    results = _together(call, 6)
    reraise(results)
    expect(results, [[number] for number in range(6)], "objects of waiting callers", Poisoned)


@trap("threads")
def loader_thread_that_exits(cached: Cached) -> None:
    """A thread that leaves its load by sys.exit() holds up neither waiting nor later callers."""
    entered = threading.Event()
    first = threading.Lock()

    def load(number: int) -> int:
        if first.acquire(blocking=False):
            entered.set()
            time.sleep(0.3)
            sys.exit(1)
        return number

    served = cached(load)

    def later() -> Any:
        wait_or_wrong(entered, "the load did not start")
        return served(7)

    results = in_threads(lambda: served(7), later, later)
    expect(type(results[0]), SystemExit, "the loader")
    for item in results[1:]:
        if item != 7 and type(item) is not SystemExit:
            raise Wrong(f"a waiting caller got {item!r}")
    expect(served(7), 7, "a later caller")


@trap("threads", seconds=BOUND_SECONDS)
def loader_thread_stopped_from_outside(cached: Cached) -> None:
    """A loader that another thread stops, wherever it is, holds up neither waiting nor later callers."""
    chance = random.Random(7)

    class Stop(BaseException):
        pass

    def load(number: int) -> int:
        end = time.monotonic() + 0.004
        while time.monotonic() < end:
            sum(range(50))
        return number

    served = cached(load)
    for key in range(25):
        identities: list[int] = []

        def loader(key: int = key, identities: list[int] = identities) -> Any:
            identities.append(threading.get_ident())
            try:
                return served(key)
            except Stop:
                return None

        thread = threading.Thread(target=loader, daemon=True)
        thread.start()
        time.sleep(chance.uniform(0, 0.006))
        if identities and thread.is_alive():
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(identities[0]), ctypes.py_object(Stop)
            )
        expect(served(key), key, f"the caller beside loader {key}")
        thread.join()
        expect(served(key), key, f"a caller after loader {key}")


@trap("threads", seconds=BOUND_SECONDS)
def loader_that_never_returns(cached: Cached) -> None:
    """A load that hangs holds up its thread alone: waits are bounded, and another caller loads."""
    entered = threading.Event()
    first = threading.Lock()

    def load(number: int) -> int:
        if first.acquire(blocking=False):
            entered.set()
            threading.Event().wait()
        return number

    served = cached(load)
    threading.Thread(target=served, args=(7,), daemon=True).start()
    wait_or_wrong(entered, "the load did not start")
    expect(served(7), 7, "the caller beside it")
    expect(served(8), 8, "another key")


@trap("threads")
def load_sees_the_context_of_its_caller(cached: Cached) -> None:
    """A load runs in the context and thread of a caller: context variables and locals are there."""
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user")
    local = threading.local()

    def greeting(number: int) -> str:
        return f"{user.get('nobody')} {getattr(local, 'hall', None)} {number}"

    served = cached(greeting)

    def call(number: int) -> str:
        user.set("anna")
        local.hall = "north"
        answer: str = served(number)
        return answer

    results = _together(call, 4)
    reraise(results)
    expect(results, [f"anna north {number}" for number in range(4)], "answers")


@trap("threads")
def changed_context_stays_changed(cached: Cached) -> None:
    """A context variable that a load sets is set for its caller, as in a plain call."""
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user")

    def sign_in(number: int) -> int:
        user.set("anna")
        return number

    served = cached(sign_in)
    served(1)
    expect(user.get(None), "anna", "the variable after the first call")


@trap("threads")
def random_calls(cached: Cached) -> None:
    """Answers of 8 threads over 200 keys of several types are right, and values are not shared."""
    kinds: list[Callable[[int], Any]] = [int, float, str, lambda n: (n,), lambda n: (str(n), n)]

    def load(key: Any) -> list[str]:
        return [repr(key)]

    served = cached(load)

    def call(number: int) -> None:
        chance = random.Random(number)
        for _ in range(600):
            key = chance.choice(kinds)(chance.randrange(40))
            value = served(key)
            expect(value, [repr(key)], f"{key!r}", Poisoned if value[:1] == [repr(key)] else Wrong)
            value.append("changed")

    reraise(_together(call, 8))
