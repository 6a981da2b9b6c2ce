"""Forked children: nothing is locked in them, and they change nothing of their parent's."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

from .contract import (
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

_KINDS: dict[str, type[Exception]] = {"P": Poisoned, "W": Wrong, "T": TypeError}


def _in_child(work: Callable[[], Any]) -> None:
    """Run a function in a forked child; raise its error, or wait for ever if it hangs."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        report = b""
        try:
            work()
        except BaseException as error:
            kind = next((k for k, cls in _KINDS.items() if isinstance(error, cls)), "W")
            text = str(error) if isinstance(error, AssertionError) else repr(error)
            report = (kind + text).encode(errors="replace")
        finally:
            os.write(write_end, report)
            os._exit(1 if report else 0)
    os.close(write_end)
    os.waitpid(child, 0)
    with os.fdopen(read_end, "rb") as pipe:
        report_text = pipe.read().decode()
    if report_text:
        raise _KINDS[report_text[0]](f"in the child: {report_text[1:]}")


@trap("fork")
def child_finds_what_the_parent_loaded(cached: Cached) -> None:
    """A child answers for keys that its parent loaded, and loads others."""

    def load(number: int) -> list[int]:
        return [number]

    served = cached(load)
    served(1)

    def work() -> None:
        for number in (1, 2, 1, 2):
            expect(served(number), [number], f"key {number}")

    _in_child(work)
    work()


@trap("fork")
def child_of_a_process_that_is_loading(cached: Cached) -> None:
    """A child that is forked while another thread loads a key loads it itself, at once."""
    parent = os.getpid()
    entered, go = threading.Event(), threading.Event()

    def load(number: int) -> int:
        if os.getpid() == parent and not go.is_set():
            entered.set()
            go.wait(15)
        return number

    served = cached(load)

    def fork() -> None:
        wait_or_wrong(entered, "the load did not start")
        try:
            _in_child(
                lambda: [expect(served(number), number, f"key {number}") for number in (7, 8, 7)]
            )
        finally:
            go.set()

    results = in_threads(lambda: served(7), fork)
    reraise(results)
    expect(results[0], 7, "the loader in the parent")


@trap("fork")
def child_of_a_process_whose_threads_wait(cached: Cached) -> None:
    """A child that is forked while threads wait for a load, and from one of them, does not wait."""
    parent = os.getpid()
    entered, go = threading.Event(), threading.Event()

    def load(number: int) -> int:
        if os.getpid() == parent and not go.is_set():
            entered.set()
            go.wait(15)
        return number

    served = cached(load)

    def wait() -> Any:
        wait_or_wrong(entered, "the load did not start")
        return served(7)

    def fork() -> None:
        wait_or_wrong(entered, "the load did not start")
        time.sleep(0.2)  # until the others wait
        try:
            _in_child(lambda: reraise(in_threads(*[lambda: expect(served(7), 7, "key 7")] * 4)))
        finally:
            go.set()

    results = in_threads(lambda: served(7), wait, wait, fork)
    reraise(results)
    expect(results[:3], [7, 7, 7], "the answers in the parent")


@trap("fork", seconds=60.0)
def forks_while_threads_write(cached: Cached) -> None:
    """Of 30 children forked while two threads miss and hit without a pause, each works."""
    stop = threading.Event()

    def load(number: int) -> list[int]:
        return [number]

    served = cached(load)

    def hammer(start: int) -> Callable[[], None]:
        def run() -> None:
            number = start
            while not stop.is_set():
                number += 1
                served(number % 5000)
                served(number % 7)

        return run

    def fork() -> None:
        try:
            for _ in range(30):
                _in_child(
                    lambda: [
                        expect(served(number), [number], f"key {number}")
                        for number in (1, 9999, 77)
                    ]
                )
        finally:
            stop.set()

    reraise(in_threads(hammer(0), hammer(2500), fork))


@trap("fork", counts_loads=True)
def one_load_in_a_child(cached: Cached) -> None:
    """Threads of a child that call for one key cause one load."""
    loads: list[int] = []

    def load(number: int) -> int:
        loads.append(number)
        time.sleep(0.2)
        return number

    served = cached(load)
    served(1)

    def work() -> None:
        loads.clear()
        results = in_threads(*[lambda: served(2)] * 10)
        expect(results, [2] * 10, "answers in the child")
        expect_loads(loads, 1)

    _in_child(work)


@trap("fork")
def child_changes_do_not_reach_the_parent(cached: Cached) -> None:
    """Writes of a child to its values reach neither its parent nor another child."""
    import numpy as np
    import pandas as pd

    makers: list[Callable[[], Any]] = [
        lambda: [1, 2],
        lambda: np.zeros(20_000),
        lambda: pd.DataFrame({"kg": [0.0] * 20_000}),
        lambda: {"frame": pd.DataFrame({"kg": [0.0] * 5}), "rows": [[1]]},
    ]

    def text(value: Any) -> str:
        if isinstance(value, dict):
            return f"{value['frame']['kg'].tolist()} {value['rows']}"
        return str(
            (value["kg"] if isinstance(value, pd.DataFrame) else np.array(value))[:2].tolist()
        )

    def change(value: Any) -> None:
        if isinstance(value, dict):
            value["rows"][0].append(9)
            value = value["frame"]
        if isinstance(value, pd.DataFrame):
            value.loc[0, "kg"] = 9.0
            value.iloc[1, 0] = 9.0
        else:
            value[0] = 9

    def load(number: int) -> Any:
        return makers[number]()

    served = cached(load)
    expected = [text(maker()) for maker in makers]
    kept = [served(number) for number in range(len(makers))]

    def work() -> None:
        for number in range(len(makers)):
            value = served(number)
            expect(text(value), expected[number], f"value {number} in a child", Poisoned)
            change(value)
            expect(
                text(served(number)), expected[number], f"value {number} after a change", Poisoned
            )

    for _ in range(2):
        _in_child(work)
        for number, value in enumerate(kept):
            expect(text(value), expected[number], f"value {number} of the parent", Poisoned)
            expect(
                text(served(number)), expected[number], f"value {number} in the parent", Poisoned
            )


@trap("fork")
def values_outlive_the_child(cached: Cached) -> None:
    """A child that ends, orderly or killed, takes nothing away from its parent."""

    def load(number: int) -> list[int]:
        return [number] * 20_000

    served = cached(load)
    kept = served(1)
    for end in (os._exit, lambda _: os.kill(os.getpid(), 9), os._exit):
        child = os.fork()
        if child == 0:
            try:
                served(1)
                served(2)
            finally:
                end(0)
        os.waitpid(child, 0)
        expect(served(1)[:2], [1, 1], "key 1")
        expect(served(2)[:2], [2, 2], "key 2")
    expect(kept[-1], 1, "a value that is kept")


@trap("fork")
def load_that_forks(cached: Cached) -> None:
    """A load may fork, and its child may call the function with the same key."""

    def load(number: int) -> int:
        if number and not forked.is_set():
            forked.set()
            _in_child(
                lambda: [expect(served(key), key, f"key {key}") for key in (number, 0, number)]
            )
        return number

    forked = threading.Event()
    served = cached(load)
    expect(served(7), 7, "the load that forks")
    expect(served(7), 7, "the same key again")


@trap("fork")
def grandchildren(cached: Cached) -> None:
    """Children of children answer too, while a thread of each generation loads."""
    loading: dict[int, tuple[threading.Event, threading.Event]] = {}

    def load(pair: tuple[int, int]) -> int:
        if pair[0] == os.getpid():
            entered, go = loading[pair[1]]
            entered.set()
            go.wait(15)
        return pair[1]

    served = cached(load)

    def generation(depth: int, keys: tuple[tuple[int, int], ...]) -> None:
        for key in keys:
            expect(served(key), key[1], f"key of generation {key[1]} in generation {depth}")
        if depth == 3:
            return
        mine = (os.getpid(), depth)
        # events of their generation: the lock of an older one may be locked in a child
        loading[depth] = entered, go = threading.Event(), threading.Event()
        threading.Thread(target=served, args=(mine,), daemon=True).start()
        wait_or_wrong(entered, "the load did not start")
        _in_child(lambda: generation(depth + 1, (*keys, mine)))
        go.set()

    generation(0, ())
