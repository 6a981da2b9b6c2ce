"""Hook for functions of asyncio that wait: sleeps, and work that a coroutine has a thread pool do.

It is loaded once the application has imported asyncio.
"""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ...core.clock import NS_PER_S
from ...core.code_locations import caller
from ...metrics.catalogue import PartKind
from . import async_waits, names
from .async_waits import TaskWait
from .replacements import Switch, Target
from .thread_pools import PoolTask, new_task
from .wait_hook import sleep_part

_LOOK_UPS = ("getaddrinfo", "getnameinfo", "_getaddrinfo_debug")


def _sleep(original: Callable[..., Any], switch: Switch) -> Callable[..., Any]:
    @functools.wraps(original)
    async def sleep(delay: Any, result: Any = None) -> Any:
        is_long = switch.is_on and not delay <= 0
        wait = async_waits.enter(PartKind.SLEEP) if is_long else None
        if wait is None:
            return await original(delay, result)
        try:
            return await original(delay, result)
        finally:
            try:
                part = sleep_part(sys._getframe(1))
                async_waits.leave(wait, part, max_ns=delay * NS_PER_S)
            except Exception as error:
                wait.span.owner.failed("waits", error)

    return sleep


def _run_in_executor(original: Callable[..., Any], switch: Switch) -> Callable[..., Any]:
    @functools.wraps(original)
    def run_in_executor(self: Any, executor: Any, func: Any, *args: Any) -> Any:
        is_look_up = getattr(func, "__name__", None) in _LOOK_UPS and bool(args)
        kind = PartKind.DNS if is_look_up else PartKind.THREADS
        wait = async_waits.begin(kind) if switch.is_on else None
        if wait is None:
            return original(self, executor, func, *args)
        where = caller() or async_waits.awaited_at(wait.span)
        task = None
        if not is_look_up and (executor is None or isinstance(executor, ThreadPoolExecutor)):
            task = new_task(wait.span, func, where)
        try:
            future = original(self, executor, func if task is None else task, *args)
        except BaseException:
            async_waits.end(wait, None)
            raise
        looked_up = args[0] if is_look_up else None
        future.add_done_callback(functools.partial(_end, wait, looked_up, task, where))
        return future

    return run_in_executor


def _end(wait: TaskWait, looked_up: Any, task: PoolTask | None, where: str, _: Any) -> None:
    """End a wait for a thread pool: its future is done."""
    part: str | None = None
    try:
        part = wait.kind if wait.kind == PartKind.THREADS else names.DNS.of(looked_up)
    except Exception as error:
        wait.span.owner.failed("waits", error)
    done = task if task is not None and task.is_done else None
    async_waits.end(wait, part, where=where, task=done)


def targets() -> Iterator[Target]:
    """Yield the functions and methods that wait."""
    yield Target(asyncio, "sleep", _sleep, is_imported=True)
    yield Target(asyncio.tasks, "sleep", _sleep)
    yield Target(asyncio.BaseEventLoop, "run_in_executor", _run_in_executor)
    uvloop = sys.modules.get("uvloop")
    if uvloop is not None:
        yield Target(uvloop.Loop, "run_in_executor", _run_in_executor)
