"""Stacks of async views, looked up while other threads go on."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

from flask_knitperf.collectors.sampler.async_stacks import _frames, async_stack


class Thread:
    """The thread of an event loop."""

    ident = 7


async def view() -> None:
    """A view that has not started."""


def test_a_loop_that_starts_its_thread_meanwhile_is_not_a_failure() -> None:
    """Found in forty minutes of stress: a comprehension may be interrupted before its first step."""
    threads: set[Any] = set()
    coroutine = view()
    frame: Any = SimpleNamespace(
        f_code=SimpleNamespace(co_name="__call__", co_filename="asgiref/sync.py"), f_back=None,
        f_locals={"awaitable": coroutine, "loop_executor": SimpleNamespace(_threads=threads)},
    )  # fmt: skip

    def start_a_thread(entered: Any, event: str, _: Any) -> None:
        if event == "call" and entered.f_code.co_name == "<listcomp>":
            threads.add(Thread())

    before = sys.gettrace()
    sys.settrace(start_a_thread)
    try:
        assert async_stack(frame, {}) is None
    finally:
        sys.settrace(before)
        coroutine.close()
    threads.add(Thread())
    stack = async_stack(frame, {})
    assert stack is not None and (stack.thread, stack.running) == (7, False)


class Ending:
    """A coroutine that ends as soon as its frame was read."""

    def __init__(self) -> None:
        self.left = [sys._getframe()]

    @property
    def cr_frame(self) -> Any:
        return self.left.pop() if self.left else None


def test_a_coroutine_that_ends_meanwhile_has_a_frame_or_none() -> None:
    """Found in ten minutes of traffic: whether it has one was checked before it was read."""
    ending: Any = Ending()
    first, second = _frames([ending]), _frames([ending])
    assert (len(first), len(second)) == (1, 0)
    assert None not in first
