"""Coroutine functions: one load for all tasks that await it, whatever is cancelled."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import AsyncIterator
from typing import Any

from .contract import (
    BOUND_SECONDS,
    Cached,
    Poisoned,
    Wrong,
    expect,
    expect_loads,
    in_threads,
    pass_time,
    reraise,
    trap,
)


@trap("coroutines")
def awaited_twice(cached: Cached) -> None:
    """A cached coroutine function can be awaited again, and in the next event loop."""

    async def load(number: int) -> list[int]:
        await asyncio.sleep(0)
        return [number]

    served = cached(load)

    async def main() -> None:
        for number in (1, 2, 1, 2):
            value = await served(number)
            expect(value, [number], f"key {number}", Poisoned if len(value) > 1 else Wrong)
            value.append(9)

    for _ in range(3):
        asyncio.run(main())


@trap("coroutines")
def is_still_a_coroutine_function(cached: Cached) -> None:
    """A cached coroutine function is one: Flask and others look."""

    async def load(number: int) -> int:
        return number

    if not inspect.iscoroutinefunction(cached(load)):
        raise Wrong("not a coroutine function any more")


@trap("coroutines", counts_loads=True)
def one_load_for_twenty_tasks(cached: Cached) -> None:
    """20 tasks that await one key cause one load, and values are not shared."""
    loads: list[int] = []

    async def load(number: int) -> list[int]:
        loads.append(number)
        await asyncio.sleep(0.1)
        return [number]

    served = cached(load)

    async def task(number: int) -> list[int]:
        value: list[int] = await served(7)
        value.append(number)
        await asyncio.sleep(0.01)
        return value

    async def main() -> None:
        values = await asyncio.gather(*map(task, range(20)))
        expect(values, [[7, number] for number in range(20)], "values of the tasks", Poisoned)

    asyncio.run(main())
    expect_loads(loads, 1)


@trap("coroutines")
def tasks_of_other_keys_do_not_wait(cached: Cached) -> None:
    """Tasks that load other keys run while one load waits."""

    async def main() -> None:
        finished = asyncio.Event()

        async def load(sku: str) -> str:
            if sku == "slow":
                try:
                    await asyncio.wait_for(finished.wait(), 5)
                except TimeoutError:
                    raise Wrong("the other key waited for this load") from None
            return sku

        served = cached(load)
        slow = asyncio.create_task(served("slow"))
        await asyncio.sleep(0.05)
        expect(await served("fast"), "fast", "fast")
        finished.set()
        expect(await slow, "slow", "slow")

    asyncio.run(main())


@trap("coroutines")
def cancelled_loader(cached: Cached) -> None:
    """Tasks that wait for a load whose task is cancelled get a value, and so does a later one."""

    async def main() -> None:
        async def load(number: int) -> int:
            await asyncio.sleep(0.2)
            return number

        served = cached(load)
        loader = asyncio.create_task(served(7))
        await asyncio.sleep(0.05)
        waiting = [asyncio.create_task(served(7)) for _ in range(5)]
        await asyncio.sleep(0.05)
        loader.cancel()
        results = await asyncio.gather(loader, *waiting, return_exceptions=True)
        expect(type(results[0]), asyncio.CancelledError, "the cancelled task")
        expect(results[1:], [7] * 5, "the waiting tasks")
        expect(await served(7), 7, "a later call")

    asyncio.run(main())


@trap("coroutines")
def cancelled_waiter(cached: Cached) -> None:
    """A waiting task that is cancelled takes neither the load nor the other tasks with it."""

    async def main() -> None:
        async def load(number: int) -> int:
            await asyncio.sleep(0.2)
            return number

        served = cached(load)
        loader = asyncio.create_task(served(7))
        await asyncio.sleep(0.05)
        waiting = [asyncio.create_task(served(7)) for _ in range(3)]
        await asyncio.sleep(0.05)
        waiting[0].cancel()
        results = await asyncio.gather(loader, *waiting, return_exceptions=True)
        expect(type(results[1]), asyncio.CancelledError, "the cancelled task")
        expect([results[0], *results[2:]], [7, 7, 7], "the other tasks")

    asyncio.run(main())


@trap("coroutines")
def load_with_a_time_limit(cached: Cached) -> None:
    """A load that runs into wait_for's limit is over: the next call, in a new loop, is answered."""
    state = {"delay": 30.0}

    async def load(number: int) -> int:
        await asyncio.sleep(state["delay"])
        return number

    served = cached(load)

    async def limited() -> None:
        try:
            answer = await asyncio.wait_for(served(7), 0.1)
        except TimeoutError:
            return
        raise Wrong(f"{answer!r} instead of TimeoutError")

    async def main() -> None:
        await limited()
        await limited()
        state["delay"] = 0.0
        expect(await served(7), 7, "in the same loop")
        state["delay"] = 30.0

    asyncio.run(main())
    state["delay"] = 0.0

    async def again() -> None:
        expect(await served(7), 7, "in a new loop")
        expect(await served(8), 8, "another key in a new loop")

    asyncio.run(again())


@trap("coroutines")
def loop_that_ends_during_a_load(cached: Cached) -> None:
    """A load that the end of its event loop cut off does not keep the next loop waiting."""
    state = {"delay": 30.0}

    async def load(number: int) -> int:
        await asyncio.sleep(state["delay"])
        return number

    served = cached(load)

    async def leave() -> None:
        for _ in range(3):
            asyncio.create_task(served(7))  # noqa: RUF006 - abandoned on purpose
        await asyncio.sleep(0.1)

    asyncio.run(leave())
    loop = asyncio.new_event_loop()
    abandoned = loop.create_task(served(8))
    loop.run_until_complete(asyncio.sleep(0.1))
    state["delay"] = 0.0

    async def again() -> None:
        expect(await served(7), 7, "after asyncio.run ended")

    asyncio.run(again())
    abandoned.cancel()
    loop.run_until_complete(asyncio.gather(abandoned, return_exceptions=True))
    loop.close()

    async def last() -> None:
        expect(await served(8), 8, "after the loop was closed")

    asyncio.run(last())


@trap("coroutines")
def two_event_loops(cached: Cached) -> None:
    """Two threads with an event loop each call for one key at once; both get the value."""

    async def load(number: int) -> list[int]:
        await asyncio.sleep(0.2)
        return [number]

    served = cached(load)
    barrier = threading.Barrier(3)

    async def main() -> list[list[int]]:
        values = await asyncio.gather(*(served(7) for _ in range(4)))
        for value in values:
            value.append(9)
        return values

    def thread() -> list[list[int]]:
        barrier.wait(10)
        return asyncio.run(main())

    results = in_threads(thread, thread, thread)
    reraise(results)
    expect(results, [[[7, 9]] * 4] * 3, "the values in three loops", Poisoned)


@trap("coroutines")
def waiting_does_not_block_the_loop(cached: Cached) -> None:
    """A task that waits for a load of another loop's thread lets its own loop run."""
    entered, go = threading.Event(), threading.Event()

    async def load(number: int) -> int:
        entered.set()
        while not go.is_set():
            await asyncio.sleep(0.01)
        return number

    served = cached(load)

    def first() -> int:
        return asyncio.run(_await(served, 7))

    async def second() -> int:
        task = asyncio.create_task(_await(served, 7))
        ticks = 0
        for _ in range(10):
            await asyncio.sleep(0.01)
            ticks += 1
        go.set()
        expect(ticks, 10, "ticks of the second loop")
        return await task

    def late() -> int:
        entered.wait(5)
        return asyncio.run(second())

    def watchdog() -> None:
        if not go.wait(5):
            go.set()
            raise Wrong("the second loop did not run while its task waited")

    results = in_threads(first, late, watchdog)
    reraise(results)
    expect(results[:2], [7, 7], "answers")


async def _await(served: Any, number: int) -> int:
    answer: int = await served(number)
    return answer


@trap("coroutines")
def error_of_a_coroutine(cached: Cached) -> None:
    """Tasks that wait for a load that raises get its error; a later call gets a value."""
    state = {"broken": True}

    async def load(number: int) -> int:
        await asyncio.sleep(0.1)
        if state["broken"]:
            raise ConnectionError("not yet")
        return number

    served = cached(load)

    async def main() -> None:
        results = await asyncio.gather(*(served(7) for _ in range(5)), return_exceptions=True)
        expect(
            [repr(item) for item in results], ["ConnectionError('not yet')"] * 5, "waiting tasks"
        )
        state["broken"] = False
        expect(await served(7), 7, "a later call")

    asyncio.run(main())


@trap("coroutines")
def recursion_of_a_coroutine(cached: Cached) -> None:
    """A coroutine that awaits its own key loads within, and does not wait for itself."""
    depth: contextvars.ContextVar[int] = contextvars.ContextVar("depth", default=0)

    async def load(number: int) -> int:
        token = depth.set(depth.get() + 1)
        try:
            await asyncio.sleep(0)
            return number if depth.get() > 3 else await served(number)
        finally:
            depth.reset(token)

    served = cached(load)

    async def main() -> None:
        for _ in range(2):
            expect(await served(7), 7, "the answer")

    asyncio.run(main())


@trap("coroutines", seconds=BOUND_SECONDS)
def recursion_through_a_task(cached: Cached) -> None:
    """A load that awaits a task that awaits the same key ends: waits are bounded."""
    depth: contextvars.ContextVar[int] = contextvars.ContextVar("depth", default=0)

    async def load(number: int) -> int:
        depth.set(depth.get() + 1)
        await asyncio.sleep(0)
        if depth.get() == 1:
            expect(await asyncio.create_task(served(number)), number, "the inner task")
        return number

    served = cached(load)

    async def main() -> None:
        expect(await served(7), 7, "the answer")

    asyncio.run(main())


@trap("coroutines")
def asynchronous_generators(cached: Cached) -> None:
    """Each caller of an asynchronous generator function gets all of its items, or it is refused."""

    async def rows(number: int) -> AsyncIterator[int]:
        for item in range(number):
            yield item

    served = cached(rows)

    async def main() -> None:
        for turn in range(3):
            expect([item async for item in served(3)], [0, 1, 2], f"turn {turn}")

    asyncio.run(main())


@trap("coroutines")
def context_of_a_coroutine(cached: Cached) -> None:
    """A load sees the context variables of the task that calls it."""
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="-")

    async def greeting(number: int) -> str:
        await asyncio.sleep(0)
        return f"{user.get()} {number}"

    served = cached(greeting)

    async def task(number: int) -> str:
        user.set(f"user {number}")
        answer: str = await served(number)
        return answer

    async def main() -> None:
        answers = await asyncio.gather(*map(task, range(4)))
        expect(answers, [f"user {number} {number}" for number in range(4)], "answers")

    asyncio.run(main())


@trap("coroutines")
def methods_that_are_coroutines(cached: Cached) -> None:
    """Coroutine methods of two instances, and of short-lived ones, are apart."""

    class Machine:
        def __init__(self, rate: int) -> None:
            self.rate = rate

        @cached
        async def pace(self, factor: int) -> int:
            await asyncio.sleep(0)
            return self.rate * factor

    async def main() -> None:
        machines = [Machine(2), Machine(3)]
        for _ in range(2):
            for machine in machines:
                expect(await machine.pace(10), machine.rate * 10, f"rate {machine.rate}")
        for rate in range(50):
            expect(await Machine(rate).pace(10), rate * 10, f"instance {rate}")

    asyncio.run(main())


@trap("coroutines", needs=("ttl",))
def expired_value_of_a_coroutine(cached: Cached) -> None:
    """A coroutine function's value expires like any other, also in a new event loop."""
    state = {"price": 1}

    async def load(number: int) -> int:
        return state["price"]

    served = cached(load, ttl=0.2)
    expect(asyncio.run(_await(served, 7)), 1, "the first call")
    state["price"] = 2
    pass_time(cached, 0.5)
    expect(asyncio.run(_await(served, 7)), 2, "after the ttl")
