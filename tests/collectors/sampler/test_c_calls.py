"""C functions that a sampled frame is calling, named without running code of the application."""

from __future__ import annotations

import csv
import dis
import hashlib
import math
import re
import sys
import threading
import time
import types
import zlib
from collections.abc import Callable
from pathlib import Path
from time import sleep
from types import FrameType
from typing import Any

import pytest

from flask_knitperf.collectors.sampler.c_calls import _called_by_offset, called
from flask_knitperf.collectors.sampler.stack_reader import StackReader
from tests.profiling import profiled_by

PATTERN = re.compile("a+")
NUMBERS = [3, 1, 2]
looked_up: list[str] = []


class _Meta(type):
    """A class whose attributes run code of the application."""

    def __getattribute__(cls, name: str) -> Any:
        looked_up.append(f"class.{name}")
        return super().__getattribute__(name)


class _Proxy(metaclass=_Meta):
    """An object whose attributes and whose class run code of the application, as a LocalProxy does."""

    def __getattribute__(self, name: str) -> Any:
        looked_up.append(name)
        return getattr(zlib, name)


class _Lazy(types.ModuleType):
    """A module whose attributes run code of the application."""

    def __getattribute__(self, name: str) -> Any:
        looked_up.append(name)
        return getattr(zlib, name)


PROXY, LAZY = _Proxy(), _Lazy("lazy")


def chained() -> Any:
    return (
        str(NUMBERS)
        .replace("a", "b")
        .strip()
        .join(["x", "y"])
        .encode()
    )  # fmt: skip


def local_pattern() -> Any:
    pattern = PATTERN
    return pattern.search("aaa")


def names(work: Callable[[], Any]) -> set[str]:
    """Return the C functions named at any C call of a function."""
    shown: set[str] = set()

    def profile(frame: FrameType, event: str, _: Any) -> None:
        if event == "c_call" and frame.f_code is work.__code__:
            stack_frame = called(frame)
            shown.update([stack_frame.function] if stack_frame is not None else [])

    with profiled_by(profile):
        work()
    return shown


@pytest.mark.parametrize(
    ("work", "name"),
    [
        (lambda: time.sleep(0), "time.sleep"),
        (lambda: sleep(0), "time.sleep"),
        (lambda: PATTERN.search("aaa"), "re.Pattern.search"),
        (local_pattern, "re.Pattern.search"),
        (lambda: hashlib.sha256(b"a").hexdigest(), "hashlib.sha256"),
        (lambda: hashlib.pbkdf2_hmac("sha256", b"a", b"b", 2), "hashlib.pbkdf2_hmac"),
        (lambda: zlib.compress(b"a"), "zlib.compress"),
        (lambda: sorted(NUMBERS), "sorted"),
        (lambda: NUMBERS.sort(reverse=True), "list.sort"),
        (lambda: csv.reader(["a,b"]), "csv.reader"),
        (lambda: math.floor(len([hashlib.md5(b"a")])), "hashlib.md5"),
    ],
)
def test_a_c_function_is_named_as_its_caller_writes_it(work: Callable[[], Any], name: str) -> None:
    assert names(work) == {name}


def test_each_instruction_that_may_call_the_function_names_it() -> None:
    def work() -> Any:
        return zlib.compress(b"a")

    steps = {step.offset: step.opname for step in dis.get_instructions(work)}
    named = {steps[offset] for offset in _called_by_offset(work.__code__)}
    assert named == {name for name in steps.values() if "CALL" in name}  # PRECALL in Python 3.11


@pytest.mark.parametrize("work", [lambda: math.floor(len("abc")), chained, lambda: "a".join("bc")])
def test_quick_c_functions_are_not_named(work: Callable[[], Any]) -> None:
    assert names(work) == set()


@pytest.mark.parametrize("work", [lambda: PROXY.compress(b"a"), lambda: LAZY.compress(b"a")])
def test_attributes_of_the_application_s_objects_are_not_looked_up(work: Callable[[], Any]) -> None:
    looked_up.clear()
    assert names(work) == set()
    assert looked_up == ["compress"]  # by the application's code alone


def test_a_global_that_hides_a_builtin_is_the_one_that_counts() -> None:
    variables: dict[str, Any] = {"sorted": len}
    exec("def work():\n    return sorted('abc')\n", variables)
    assert names(variables["work"]) == set()


def test_code_without_positions_names_nothing() -> None:
    def work() -> None:
        time.sleep(0)

    code = work.__code__
    bare = types.FunctionType(code.replace(co_linetable=b""), globals())
    assert names(bare) == set()


def test_the_c_function_is_the_innermost_frame_of_the_stack() -> None:
    reader, stacks = StackReader([names.__code__]), list[list[str]]()

    def profile(frame: FrameType, event: str, _: Any) -> None:
        if event == "c_call":
            stacks.append([stack_frame.function for stack_frame in reader.stack(frame)][-2:])

    def outer() -> Any:
        return PATTERN.search("aaa")

    with profiled_by(profile):
        outer()
    assert any(stack[0].endswith("outer") and stack[1] == "re.Pattern.search" for stack in stacks)


def test_a_c_function_whose_waits_are_timed_is_still_the_innermost_frame(quiet: Any) -> None:
    reader, stacks = StackReader([names.__code__]), list[list[str]]()

    def profile(frame: FrameType, event: str, function: Any) -> None:
        if event == "c_call" and getattr(function, "__name__", "") == "sleep":
            frames = [frame]
            while frames[-1].f_back is not None:
                frames.append(frames[-1].f_back)
            stacks.append([one.function for one in reader.stack(frame)][-2:])
            stacks.append([one.function for one in reader.convert(reversed(frames))][-2:])

    def outer() -> str:
        time.sleep(0)
        return "ok"

    quiet.app.add_url_rule("/", "sleeps", outer)
    with profiled_by(profile):
        quiet.app.view_functions["sleeps"]()
        quiet.get("/")
        outer()
    assert len(stacks) >= 4
    assert all(stack[0].endswith("outer") and stack[1] == "time.sleep" for stack in stacks)


# -- locks -----------------------------------------------------------------------------------------

GLOBAL_LOCK = threading.Lock()


class Store:
    """An object with a lock, as applications have them."""

    def __init__(self, lock: Any) -> None:
        self.lock = lock


STORE = Store(threading.Lock())


def with_local(lock: Any) -> None:
    with lock:
        pass


def with_attribute(lock: Any) -> None:
    store = Store(lock)
    with store.lock:
        pass


def with_global(_: Any) -> None:
    with GLOBAL_LOCK:
        pass


def with_attribute_of_global(_: Any) -> None:
    with STORE.lock:
        pass


def with_enclosed(lock: Any) -> None:
    def work() -> None:
        with lock:
            pass

    work()


def acquired(lock: Any) -> None:
    lock.acquire()
    lock.release()


def acquired_with_timeout(lock: Any) -> None:
    if GLOBAL_LOCK.acquire(timeout=30):
        GLOBAL_LOCK.release()


@pytest.mark.parametrize("create", [threading.Lock, threading.RLock])
@pytest.mark.parametrize(
    "work",
    [
        with_local, with_attribute, with_global, with_attribute_of_global, with_enclosed, acquired,
        acquired_with_timeout,
    ],
)  # fmt: skip
def test_a_line_that_waits_for_a_lock_is_named(work: Callable[[Any], None], create: Any) -> None:
    lock = create()
    with lock, GLOBAL_LOCK, STORE.lock:
        thread = threading.Thread(target=work, args=(lock,))
        thread.start()
        assert thread.ident is not None
        names_of = set[str | None]()
        deadline = time.monotonic() + 30
        while names_of != {"threading.Lock.acquire"} and time.monotonic() < deadline:
            stack_frame = called(sys._current_frames()[thread.ident])
            names_of = {None if stack_frame is None else stack_frame.function}
    thread.join()
    assert names_of == {"threading.Lock.acquire"}


def test_other_context_managers_are_not_locks(tmp_path: Path) -> None:
    path = tmp_path / "lots.csv"
    path.write_text("a")

    def work() -> None:
        with open(path) as file, memoryview(b"a") as view:
            assert file and view

    assert not any(
        function.attributes[-1:] == ("__enter__",)
        for function in _called_by_offset(work.__code__).values()
    )
