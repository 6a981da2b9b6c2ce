"""Errors of loads: not remembered unless named, and never changed by those who get them."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any

from .contract import Cached, Poisoned, Wrong, expect, expect_loads, in_threads, trap, wait_or_wrong

MAX_FRAMES = 12  # of the traceback of a remembered error: the caller, the wrapper, the load


class MillError(Exception):
    """An error that cannot be made again from its ``args``."""

    def __init__(self, machine: str, *, code: int) -> None:
        super().__init__(f"machine {machine} stopped")
        self.machine = machine
        self.code = code


def _frames(traceback: TracebackType | None) -> int:
    count = 0
    while traceback is not None:
        count += 1
        traceback = traceback.tb_next
    return count


def _error_of(served: Callable[..., Any], *arguments: Any) -> BaseException:
    try:
        answer = served(*arguments)
    except BaseException as error:
        return error
    raise Wrong(f"{answer!r} instead of an error")


@trap("errors")
def error_is_not_remembered(cached: Cached) -> None:
    """A load that failed is tried again by the next call, and its value is right."""
    state = {"broken": True}

    def load(number: int) -> int:
        if state["broken"]:
            raise ConnectionError("database is starting")
        return number

    served = cached(load)
    expect(type(_error_of(served, 1)), ConnectionError, "the first error")
    expect(type(_error_of(served, 1)), ConnectionError, "the second error")
    state["broken"] = False
    expect(served(1), 1, "after the repair")
    state["broken"] = True
    expect(type(_error_of(served, 2)), ConnectionError, "another key")


@trap("errors", counts_loads=True)
def error_is_tried_each_time(cached: Cached) -> None:
    """Each call of a failing load loads, and a value that follows is kept."""
    loads: list[int] = []

    def load(number: int) -> int:
        loads.append(number)
        if len(loads) < 4:
            raise OSError("not yet")
        return number

    served = cached(load)
    for _ in range(3):
        expect(type(_error_of(served, 1)), OSError, "the error")
    for _ in range(3):
        expect(served(1), 1, "the value")
    expect_loads(loads, 4)


@trap("errors")
def errors_that_end_a_process(cached: Cached) -> None:
    """KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError pass through and are not remembered."""

    def first_fails(kind: type[BaseException]) -> Callable[[str], str]:
        state = {"broken": True}

        def load(name: str) -> str:
            if state["broken"]:
                state["broken"] = False
                raise kind("stop")
            return name

        return load

    kinds = (
        KeyboardInterrupt,
        SystemExit,
        GeneratorExit,
        MemoryError,
        RecursionError,
        BaseException,
    )
    for kind in (*kinds, StopIteration, StopAsyncIteration, AssertionError, TypeError, KeyError):
        served = cached(first_fails(kind))
        expect(type(_error_of(served, kind.__name__)), kind, "the first call")
        expect(served(kind.__name__), kind.__name__, f"after {kind.__name__}")


@trap("errors")
def errors_keep_their_attributes(cached: Cached) -> None:
    """An error arrives with its class, attributes, cause and notes, on each call."""

    def load(machine: str) -> None:
        try:
            raise KeyError("sensor")
        except KeyError as cause:
            error = MillError(machine, code=7)
            error.add_note("hall north")
            raise error from cause

    served = cached(load)
    for turn in range(3):
        error = _error_of(served, "m1")
        expect(type(error), MillError, f"turn {turn}")
        assert isinstance(error, MillError)
        expect((error.machine, error.code), ("m1", 7), f"attributes, turn {turn}")
        expect(repr(error.__cause__), "KeyError('sensor')", f"cause, turn {turn}")
        expect(error.__notes__, ["hall north"], f"notes, turn {turn}")


@trap("errors")
def error_shows_where_it_came_from(cached: Cached) -> None:
    """The traceback of an error ends in the load that raised it."""

    def load(number: int) -> int:
        return number // 0

    served = cached(load)
    for turn in range(3):
        traceback = _error_of(served, 1).__traceback__
        while traceback is not None and traceback.tb_next is not None:
            traceback = traceback.tb_next
        name = traceback.tb_frame.f_code.co_name if traceback is not None else ""
        expect(name, "load", f"the innermost frame, turn {turn}")


@trap("errors")
def error_of_a_key(cached: Cached) -> None:
    """An error of an argument's __hash__ or __eq__ passes, and later calls work."""

    class Broken:
        def __hash__(self) -> int:
            raise RuntimeError("no hash")

        def __reduce_ex__(self, protocol: Any) -> Any:
            raise RuntimeError("no pickle")

    served = cached(lambda number: 7)
    for _ in range(3):
        try:
            answer = served(Broken())
        except Exception:
            answer = 7
        expect(answer, 7, "the answer, or an error")
        expect(served(1), 7, "an ordinary call after it")


@trap("errors", needs=("errors",), counts_loads=True)
def named_errors_are_remembered(cached: Cached) -> None:
    """Named errors and their subclasses are raised again without a load; others are tried again."""
    loads: list[str] = []

    class MissingError(KeyError):
        pass

    def load(sku: str) -> None:
        loads.append(sku)
        raise {"a": KeyError, "b": MissingError, "c": ValueError}[sku](sku)

    served = cached(load, errors=(KeyError,))
    for _ in range(3):
        expect(repr(_error_of(served, "a")), "KeyError('a')", "a")
        expect(repr(_error_of(served, "b")), "MissingError('b')", "b")
        expect(repr(_error_of(served, "c")), "ValueError('c')", "c")
    expect((loads.count("a"), loads.count("b"), loads.count("c")), (1, 1, 3), "loads")


@trap("errors", needs=("errors",))
def remembered_error_does_not_grow(cached: Cached) -> None:
    """A remembered error that is raised 200 times keeps a short traceback."""

    def load(number: int) -> None:
        raise KeyError(number)

    served = cached(load, errors=(KeyError,))
    for turn in range(200):
        error = _error_of(served, 1)
        frames = _frames(error.__traceback__)
        if frames > MAX_FRAMES:
            raise Poisoned(f"{frames} frames in the traceback at call {turn}")


@trap("errors", needs=("errors",))
def remembered_error_is_not_shared(cached: Cached) -> None:
    """Notes, attributes and contexts that one caller adds to a remembered error reach no other."""

    def load(machine: str) -> None:
        raise MillError(machine, code=7)

    served = cached(load, errors=(MillError,))
    for turn in range(3):
        try:
            raise ZeroDivisionError(f"of caller {turn}")
        except ZeroDivisionError:
            error = _error_of(served, "m1")
        expect(
            repr(error.__context__),
            f"ZeroDivisionError('of caller {turn}')",
            "the context",
            Poisoned,
        )
        error = _error_of(served, "m1")
        expect(error.__context__, None, "the context of a caller without one", Poisoned)
        expect(getattr(error, "__notes__", []), [], "notes", Poisoned)
        assert isinstance(error, MillError)
        expect(
            (error.machine, error.code, error.args),
            ("m1", 7, ("machine m1 stopped",)),
            "data",
            Poisoned,
        )
        error.add_note(f"caller {turn}")
        error.code = turn


@trap("errors", needs=("errors",))
def remembered_error_keeps_no_caller_alive(cached: Cached) -> None:
    """A remembered error does not keep the variables of its callers alive."""

    class Upload:
        pass

    def load(number: int) -> None:
        raise KeyError(number)

    served = cached(load, errors=(KeyError,))

    def caller() -> weakref.ref[Upload]:
        upload = Upload()
        try:
            served(1)
        except KeyError:
            return weakref.ref(upload)
        raise Wrong("no error")

    references = [caller() for _ in range(3)]
    gc.collect()
    alive = sum(reference() is not None for reference in references)
    if alive:
        raise Wrong(f"the error keeps variables of {alive} callers alive")


# Errors and waiting callers.


def _fail_while_others_wait(
    cached: Cached, kind: type[BaseException], waiting: int = 5
) -> tuple[list[Any], list[str], Callable[[str], Any]]:
    """Let callers wait for a load that raises; list of results, of loads, and the cached function."""
    entered, go = threading.Event(), threading.Event()
    ready = threading.Barrier(waiting + 1)
    key = kind.__name__
    loads: list[str] = []
    state = {"broken": True}

    def load(name: str) -> str:
        loads.append(name)
        if not state["broken"]:
            return name
        entered.set()
        go.wait(10)
        raise kind("load failed")

    served = cached(load)

    def later() -> Any:
        wait_or_wrong(entered, "the load did not start")
        ready.wait(10)
        return served(key)

    def release() -> None:
        wait_or_wrong(entered, "the load did not start")
        ready.wait(10)
        time.sleep(0.3)  # until the others wait
        go.set()

    results = in_threads(lambda: served(key), *([later] * waiting), release)[:-1]
    state["broken"] = False
    return results, loads, served


@trap("errors")
def error_reaches_waiting_callers(cached: Cached) -> None:
    """Callers that wait for a load that raises get its error, and the next one a value."""
    results, _, served = _fail_while_others_wait(cached, ValueError)
    expect([repr(item) for item in results], ["ValueError('load failed')"] * 6, "waiting callers")
    expect(served("ValueError"), "ValueError", "a later caller")


@trap("errors", counts_loads=True)
def error_reaches_waiting_callers_once(cached: Cached) -> None:
    """One load raises for all who wait for it; a later caller loads once more."""
    results, loads, served = _fail_while_others_wait(cached, ValueError)
    expect([repr(item) for item in results], ["ValueError('load failed')"] * 6, "waiting callers")
    expect_loads(loads, 1)
    served("ValueError")
    served("ValueError")
    expect_loads(loads, 2)


@trap("errors")
def error_of_waiting_callers_is_not_shared(cached: Cached) -> None:
    """Each waiting caller's error has a short traceback, and notes on it reach no other."""
    results, _, _ = _fail_while_others_wait(cached, OSError, waiting=12)
    for error in results:
        expect(type(error), OSError, "the error of a waiting caller")
        frames = _frames(error.__traceback__)
        if frames > MAX_FRAMES:
            raise Poisoned(f"{frames} frames in the traceback of a waiting caller")
        expect(getattr(error, "__notes__", []), [], "notes", Poisoned)
        error.add_note("of one caller")


@trap("errors")
def interrupt_of_a_load_that_others_wait_for(cached: Cached) -> None:
    """A loader that is interrupted leaves its waiting callers with a value or the same error."""
    for kind in (KeyboardInterrupt, SystemExit, GeneratorExit):
        results, _, served = _fail_while_others_wait(cached, kind)
        expect(type(results[0]), kind, "the loader")
        for item in results[1:]:
            if item != kind.__name__ and type(item) is not kind:
                raise Wrong(f"a waiting caller got {item!r} after {kind.__name__}")
        expect(served(kind.__name__), kind.__name__, f"after {kind.__name__}")
