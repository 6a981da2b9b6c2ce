"""Values with a time to live. Time passes by ``cached.advance(seconds)`` if the cache has a clock."""

from __future__ import annotations

import threading
import time
from typing import Any

from .contract import Cached, Wrong, expect, expect_loads, in_threads, pass_time, reraise, trap

TTL_S = 0.4  # long enough for three calls on a busy machine, short enough to wait for
PASSED_S = 0.7


@trap("expiry", needs=("ttl",))
def expired_value_is_not_served(cached: Cached) -> None:
    """After its time to live a value is loaded again, also if it was used meanwhile."""
    state = {"price": 1}

    def load(sku: str) -> int:
        return state["price"]

    served = cached(load, ttl=TTL_S)
    expect(served("A1"), 1, "the first call")
    state["price"] = 2
    for _ in range(3):
        pass_time(cached, PASSED_S / 3)
        served("A1")  # use does not prolong
    expect(served("A1"), 2, "after the ttl")


@trap("expiry", needs=("ttl",), counts_loads=True)
def value_is_kept_until_it_expires(cached: Cached) -> None:
    """Within its time to live a value is one load, and one more after it."""
    loads: list[str] = []

    def load(sku: str) -> str:
        loads.append(sku)
        return sku

    served = cached(load, ttl=30.0)
    for _ in range(3):
        expect(served("A1"), "A1", "a call within the ttl")
    expect_loads(loads, 1)
    short = cached(load, ttl=TTL_S)
    short("B2")
    pass_time(cached, PASSED_S)
    for _ in range(2):
        expect(short("B2"), "B2", "a call after the ttl")
    if loads.count("B2") < 2:
        raise Wrong("no load after the ttl")


@trap("expiry", needs=("ttl",))
def wall_clock_set_back(cached: Cached) -> None:
    """A value expires though the wall clock is set back by an hour, or forward and back."""
    state = {"price": 1}
    real = time.time

    def load(sku: str) -> int:
        return state["price"]

    for shift in (-3600.0, 3600.0):
        served = cached(load, ttl=TTL_S)
        sku = f"A{shift}"
        state["price"] = 1
        if shift > 0:
            time.time = lambda shift=shift: real() + shift
        try:
            expect(served(sku), 1, "the first call")
            state["price"] = 2
            time.time = real if shift > 0 else lambda shift=shift: real() + shift
            pass_time(cached, PASSED_S)
            expect(served(sku), 2, f"after the ttl, the clock set by {shift:.0f} s")
        finally:
            time.time = real


@trap("expiry", needs=("ttl",))
def load_longer_than_its_ttl(cached: Cached) -> None:
    """A load that takes longer than the time to live of its value is answered, not repeated for ever."""

    def load(sku: str) -> str:
        time.sleep(0.3)
        return sku

    served = cached(load, ttl=0.05)
    results = in_threads(*[lambda: served("A1")] * 5)
    reraise(results)
    expect(results, ["A1"] * 5, "answers of waiting callers")
    expect(served("A1"), "A1", "a later call")


@trap("expiry", needs=("ttl",), counts_loads=True)
def one_load_after_expiry(cached: Cached) -> None:
    """20 threads that find a value expired cause one load."""
    loads: list[str] = []

    def load(sku: str) -> str:
        loads.append(sku)
        if len(loads) > 1:
            time.sleep(0.2)
        return sku

    served = cached(load, ttl=2.0)  # the threads must meet before it expires again
    served("A1")
    pass_time(cached, 2.4)
    barrier = threading.Barrier(20)

    def call() -> Any:
        barrier.wait(10)
        return served("A1")

    results = in_threads(*[call] * 20)
    reraise(results)
    expect(results, ["A1"] * 20, "answers")
    expect_loads(loads, 2)


@trap("expiry", needs=("ttl",))
def error_after_expiry(cached: Cached) -> None:
    """A load that fails after the old value expired raises: the old value is not served unless named."""
    state = {"broken": False}

    def load(sku: str) -> str:
        if state["broken"]:
            raise ConnectionError("database is down")
        return sku

    served = cached(load, ttl=TTL_S)
    expect(served("A1"), "A1", "the first call")
    state["broken"] = True
    pass_time(cached, PASSED_S)
    for _ in range(2):
        try:
            answer = served("A1")
        except ConnectionError:
            continue
        raise Wrong(f"{answer!r} instead of the error")
    state["broken"] = False
    expect(served("A1"), "A1", "after the repair")


@trap("expiry", needs=("ttl", "errors"))
def remembered_error_expires(cached: Cached) -> None:
    """A remembered error lives as long as a value, and a value follows it."""
    state = {"broken": True}

    def load(sku: str) -> str:
        if state["broken"]:
            raise KeyError(sku)
        return sku

    served = cached(load, ttl=TTL_S, errors=(KeyError,))
    try:
        served("A1")
    except KeyError:
        state["broken"] = False
    pass_time(cached, PASSED_S)
    expect(served("A1"), "A1", "after the ttl of the error")


@trap("expiry", needs=("ttl",))
def expiry_of_one_key_alone(cached: Cached) -> None:
    """Each key expires by its load, and functions by their own time to live."""
    state = {"price": 1}

    def load(sku: str) -> int:
        return state["price"]

    short, long = cached(load, ttl=TTL_S), cached(load, ttl=60.0)
    short("A1")
    state["price"] = 2
    pass_time(cached, PASSED_S)
    expect(short("A1"), 2, "the short one after its ttl")
    expect(short("B2"), 2, "another key")
    expect(long("B2"), 2, "the long one, first call")
