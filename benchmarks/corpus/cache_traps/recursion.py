"""Loads that come back to the cache: with another key, with their key, in threads and in handlers."""

from __future__ import annotations

import contextlib
import gc
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from .contract import (
    BOUND_SECONDS,
    Cached,
    Wrong,
    answer_or_refusal,
    expect,
    expect_loads,
    in_threads,
    reraise,
    trap,
    wait_or_wrong,
)


@trap("recursion")
def other_keys(cached: Cached) -> None:
    """A function that calls itself with smaller arguments is right."""

    @cached
    def paths(length: int) -> int:
        return 1 if length < 2 else paths(length - 1) + paths(length - 2)

    expect(paths(18), 4181, "paths(18)")
    expect(paths(18), 4181, "paths(18) again")


@trap("recursion", counts_loads=True)
def other_keys_are_kept(cached: Cached) -> None:
    """A function that calls itself with smaller arguments loads each of them once."""
    loads: list[int] = []

    @cached
    def paths(length: int) -> int:
        loads.append(length)
        return 1 if length < 2 else paths(length - 1) + paths(length - 2)

    expect(paths(20), 10946, "paths(20)")
    expect_loads(loads, 21)


@trap("recursion")
def same_key(cached: Cached) -> None:
    """A load that calls the function with its key loads within, and does not wait for itself."""
    depth = threading.local()

    @cached
    def price(sku: str) -> str:
        depth.now = getattr(depth, "now", 0) + 1
        try:
            return f"price of {sku}" if depth.now > 3 else price(sku)
        finally:
            depth.now -= 1

    for _ in range(3):
        expect(price("A1"), "price of A1", "price")


@trap("recursion")
def same_key_with_an_error(cached: Cached) -> None:
    """A recursion on one key that ends in an error raises it, and the next call is right."""
    state = {"depth": 0, "broken": True}

    @cached
    def price(sku: str) -> str:
        state["depth"] += 1
        if state["depth"] < 4:
            return price(sku)
        if state["broken"]:
            raise ValueError("no price")
        return sku

    try:
        answer = price("A1")
    except ValueError:
        state["broken"] = False
    else:
        raise Wrong(f"{answer!r} instead of an error")
    expect(price("A1"), "A1", "after the error")


@trap("recursion")
def endless_recursion(cached: Cached) -> None:
    """A recursion without an end is a RecursionError, as without a cache."""

    @cached
    def price(sku: str) -> str:
        return price(sku)

    for _ in range(2):
        try:
            answer = price("A1")
        except RecursionError:
            continue
        raise Wrong(f"{answer!r} instead of RecursionError")


@trap("recursion")
def mutual(cached: Cached) -> None:
    """Two functions that call one another with one key are right."""
    depth = threading.local()

    @cached
    def yarn(sku: str) -> str:
        depth.now = getattr(depth, "now", 0) + 1
        try:
            if depth.now < 4:
                supplier(sku)
            return f"yarn {sku}"
        finally:
            depth.now -= 1

    @cached
    def supplier(sku: str) -> str:
        return f"supplier of {yarn(sku)}"

    for _ in range(2):
        expect(yarn("A1"), "yarn A1", "yarn")
        expect(supplier("A1"), "supplier of yarn A1", "supplier")
        expect(supplier("B2"), "supplier of yarn B2", "another supplier")


@trap("recursion", seconds=BOUND_SECONDS)
def across_threads(cached: Cached) -> None:
    """A load that waits for a thread that calls for the same key ends: waits are bounded."""
    nested = threading.Lock()

    @cached
    def price(sku: str) -> str:
        if nested.acquire(blocking=False):
            try:
                reraise(in_threads(lambda: price(sku)))
            finally:
                nested.release()
        return f"price of {sku}"

    for _ in range(2):
        expect(price("A1"), "price of A1", "price")


def _crosswise(cached: Cached, keys: str) -> None:
    """Let one thread per key load it and then call for the next key, whose load waits for another."""
    inside = threading.Barrier(len(keys))
    depth = threading.local()

    @cached
    def price(sku: str) -> str:
        depth.now = getattr(depth, "now", 0) + 1
        try:
            if depth.now == 1:
                with contextlib.suppress(threading.BrokenBarrierError):
                    inside.wait(5)
                following = keys[(keys.index(sku) + 1) % len(keys)]
                expect(price(following), f"price of {following}", "the next key")
            return f"price of {sku}"
        finally:
            depth.now -= 1

    def call(sku: str) -> Callable[[], Any]:
        return lambda: price(sku)

    results = in_threads(*map(call, keys))
    reraise(results)
    expect(results, [f"price of {sku}" for sku in keys], "the answers of the threads")


@trap("recursion", seconds=BOUND_SECONDS)
def crosswise_between_two_threads(cached: Cached) -> None:
    """Two threads whose loads call for one another's key end: waits are bounded."""
    _crosswise(cached, "ab")


@trap("recursion", seconds=BOUND_SECONDS)
def crosswise_between_three_threads(cached: Cached) -> None:
    """Three threads whose loads call for one another's key in a ring end: waits are bounded."""
    _crosswise(cached, "abc")


@trap("recursion")
def argument_whose_hash_calls_the_cache(cached: Cached) -> None:
    """An argument whose __hash__, __eq__ or pickling calls the cached function ends, or is refused."""
    state = {"depth": 0}

    @cached
    def price(parcel: Any) -> int:
        return 7

    class Parcel:
        def _call(self) -> None:
            if state["depth"] < 3:
                state["depth"] += 1
                try:
                    price(state["depth"])
                finally:
                    state["depth"] -= 1

        def __hash__(self) -> int:
            self._call()
            return 1

        def __eq__(self, other: object) -> bool:
            self._call()
            return self is other

        def __reduce__(self) -> Any:
            self._call()
            return Parcel, ()

    parcels = [Parcel() for _ in range(4)]
    for _ in range(2):
        for parcel in parcels:
            answer_or_refusal(price, "parcel", 7, parcel)
    expect(price(5), 7, "an ordinary call")


@trap("recursion")
def value_whose_end_calls_the_cache(cached: Cached) -> None:
    """Values whose __del__ calls the cached function do no harm, whenever they are collected."""

    class Handle:
        def __init__(self) -> None:
            self.cycle = self

        def __del__(self) -> None:
            with contextlib.suppress(Exception):
                price("closing")

    @cached
    def price(sku: str) -> str:
        Handle()
        return sku

    thresholds = gc.get_threshold()
    gc.set_threshold(5, 2, 2)
    try:
        for number in range(300):
            expect(price(f"A{number}"), f"A{number}", "price")
    finally:
        gc.set_threshold(*thresholds)


@trap("recursion")
def signal_handler_that_calls_the_cache(cached: Cached) -> None:
    """A handler that interrupts a call anywhere may call the cached function itself."""
    state: dict[str, Any] = {"inside": False, "handled": 0, "sku": "A0"}

    @cached
    def price(sku: str) -> str:
        return f"price of {sku}"

    def handler(*_: Any) -> None:
        if state["inside"]:
            return
        state["inside"] = True
        state["handled"] += 1
        try:
            for sku in ("fixed", f"new {state['handled']}", state["sku"]):
                expect(price(sku), f"price of {sku}", "price in the handler")
        finally:
            state["inside"] = False

    previous = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        end = time.monotonic() + 0.7
        number = 0
        while time.monotonic() < end:
            number += 1
            state["sku"] = f"A{number % 500}"
            expect(price(state["sku"]), f"price of A{number % 500}", "price")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    if not state["handled"]:
        raise RuntimeError("no signal arrived")


@trap("recursion")
def load_of_another_function_in_a_pool(cached: Cached) -> None:
    """A load may wait for other cached functions that run in threads of a pool."""
    from concurrent.futures import ThreadPoolExecutor

    @cached
    def price(sku: str) -> int:
        return len(sku)

    with ThreadPoolExecutor(3) as pool:

        @cached
        def total(skus: tuple[str, ...]) -> int:
            return sum(pool.map(price, skus))

        started = threading.Event()

        def call() -> int:
            started.set()
            return total(("a", "bb", "a", "bb", "ccc"))

        results = in_threads(call, call, call)
        wait_or_wrong(started, "no call started")
    reraise(results)
    expect(results, [9, 9, 9], "totals")
