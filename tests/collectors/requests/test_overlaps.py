"""Parts of one request that overlap: tasks of asyncio, threads with copied contexts, one database."""

from __future__ import annotations

import _thread
import asyncio
import contextvars
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from sqlalchemy.pool import NullPool


class Turns:
    """Order of the steps of threads: each waits for its turn, at a lock whose waits have no name."""

    def __init__(self) -> None:
        self._locks = [_thread.allocate_lock() for _ in range(4)]
        for lock in self._locks:
            lock.acquire()

    def wait(self, number: int) -> None:
        """Wait until the step before this one is over."""
        assert self._locks[number - 1].acquire(timeout=10)

    def __await__(self) -> Iterator[None]:
        """Have other tasks run until the first step is over, without a wait that has a name."""
        while not self._locks[0].acquire(blocking=False):
            yield

    def end(self, number: int) -> None:
        """End a step."""
        self._locks[number].release()


@pytest.fixture
def overlap(time: Any) -> Callable[[Turns, int], None]:
    """Return the inside of two parts: the first lasts from 0 to 1.0 s, the second from 0.9 to 1.2 s."""

    def inside(turns: Turns, number: int) -> None:
        if number == 0:
            time.pass_(0.9)
            turns.end(0)
            turns.wait(2)
            time.pass_(0.1)
        else:
            turns.end(1)
            turns.wait(3)
            time.pass_(0.2)

    return inside


def fan_out(turns: Turns, part: Callable[[int], Any]) -> None:
    """Run one part in a thread with a copied context, and another here once that one runs."""

    def first() -> None:
        part(0)
        turns.end(2)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(first,))
    thread.start()
    turns.wait(1)
    part(1)
    thread.join()


@pytest.fixture
def served(timed: Any) -> Callable[[Callable[[], Any]], dict[str, float]]:
    """Return a function that serves a view once and returns its parts in milliseconds."""

    def serve(view: Callable[[], Any]) -> dict[str, float]:
        timed.app.add_url_rule("/view", "view", lambda: str(view())[:0] + "ok")
        assert timed.get("/view").body == b"ok"
        parts = timed.parts("view")
        assert sum(part["share"] for part in parts.values()) <= 1
        return {name: part["ms"] for name, part in parts.items() if not name.startswith("lock:")}

    return serve


@pytest.fixture
def knit(tmp_path: Path, overlap: Any) -> Callable[[Any, Turns], Any]:
    """Return a function that gives connections the function ``knit``, which is the inside of a part."""
    return lambda connection, turns: connection.create_function(
        "knit", 1, lambda number: overlap(turns, number) or number
    )


def test_statements_of_threads_with_plain_connections_are_united(
    timed: Any, served: Any, knit: Any, tmp_path: Path
) -> None:
    connect, turns = timed.perf.queries.wrap_connect(sqlite3.connect), Turns()

    def query(number: int) -> None:
        with closing(connect(tmp_path / "mill.db")) as connection:
            knit(connection, turns)
            connection.execute("SELECT knit(?)", (number,)).fetchall()

    assert served(lambda: fan_out(turns, query)) == {"sql": 1200}


def test_statements_of_threads_with_an_engine_are_united(
    timed: Any, served: Any, knit: Any, tmp_path: Path
) -> None:
    engine, turns = sa.create_engine(f"sqlite:///{tmp_path}/mill.db", poolclass=NullPool), Turns()
    sa.event.listen(engine, "connect", lambda connection, _: knit(connection, turns))
    timed.perf.queries.instrument(engine)

    def query(number: int) -> None:
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT knit(:n)"), {"n": number}).all()

    def view() -> None:
        with timed.perf.section("load"):
            fan_out(turns, query)

    assert served(view) == {"sql": 1200, "section:load": 0}
    timed.perf.queries.uninstrument(engine)


def test_sections_of_threads_are_divided_and_never_negative(
    timed: Any, served: Any, overlap: Any
) -> None:
    turns = Turns()

    def section(number: int) -> None:
        with timed.perf.section("ab"[number]):
            overlap(turns, number)

    assert served(lambda: fan_out(turns, section)) == {"section:a": 1000, "section:b": 200}


def test_file_reads_of_threads_are_united(
    timed: Any, served: Any, overlap: Any, tmp_path: Path
) -> None:
    turns = Turns()
    (tmp_path / "lots.csv").write_text("lot\n1\n")

    def read(number: int) -> None:
        pd.read_csv(tmp_path / "lots.csv", converters={"lot": lambda _: overlap(turns, number)})

    assert served(lambda: fan_out(turns, read)) == {"file_read": 1200}
    [row] = timed.row("view")["file_reads"]
    assert row["count"] == 2


def staggered(time: Any, steps: Callable[[str], Any]) -> Any:
    """Return a coroutine of two tasks: a part from 0 to 1.0 s beside one from 0.9 to 1.2 s."""

    async def gather() -> None:
        began, ended = asyncio.Event(), asyncio.Event()

        async def first() -> None:
            with steps("a"):
                time.pass_(0.9)
                began.set()
                await asyncio.sleep(0)
                time.pass_(0.1)
            ended.set()

        async def second() -> None:
            await began.wait()
            with steps("b"):
                await ended.wait()
                time.pass_(0.2)

        await asyncio.gather(first(), second())

    return gather()


@pytest.mark.parametrize("names", ["ab", "aa"])
def test_sections_of_tasks_are_divided_and_one_of_them_ends_no_other(
    timed: Any, served: Any, time: Any, names: str
) -> None:
    def steps(letter: str) -> Any:
        return timed.perf.section(names["ab".index(letter)])

    parts = served(lambda: asyncio.run(staggered(time, steps)))
    both = {"section:a": 1000, "section:b": 200}
    assert parts == (both if names == "ab" else {"section:a": 1200})


def test_sections_of_tasks_in_an_async_view_are_divided(timed: Any, time: Any) -> None:
    @timed.app.get("/view", endpoint="view")
    async def view() -> str:
        await staggered(time, timed.perf.section)
        return "ok"

    assert timed.get("/view").body == b"ok"
    parts = {name: part["ms"] for name, part in timed.parts("view").items()}
    assert parts["section:a"] == 1000 and parts["section:b"] == 200


def test_statements_of_tasks_with_an_async_engine_are_united(
    timed: Any, served: Any, knit: Any, tmp_path: Path
) -> None:
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/mill.db", poolclass=NullPool)
    turns = Turns()
    sa.event.listen(engine.sync_engine, "connect", lambda connection, _: knit(connection, turns))
    timed.perf.queries.instrument(engine)

    async def query(connection: Any, number: int) -> None:
        await connection.execute(sa.text("SELECT knit(:n)"), {"n": number})

    async def view() -> None:
        async with engine.connect() as connection, engine.connect() as other:
            first = asyncio.create_task(query(connection, 0))
            first.add_done_callback(lambda _: turns.end(2))
            await turns
            await asyncio.gather(first, query(other, 1))

    assert served(lambda: asyncio.run(view()))["sql"] == 1200
    timed.perf.queries.uninstrument(engine)


def test_a_generator_that_a_section_has_left_open_ends_with_the_section(
    timed: Any, served: Any, time: Any
) -> None:
    def rows() -> Iterator[int]:
        with timed.perf.section("rows"):
            time.pass_(0.1)
            yield 1

    left = []

    def view() -> None:
        with timed.perf.section("outer"):
            left.append(rows())
            next(left[0])
        time.pass_(0.5)

    assert served(view) == {"section:rows": 100, "section:outer": 0}


def test_parts_that_overlap_at_random_keep_their_shares(timed: Any, served: Any, time: Any) -> None:
    def piece(seed: int) -> None:
        for number in range(20):
            with timed.perf.section("outer"):
                time.pass_(0.001)
                with timed.perf.section(f"inner {(seed + number) % 3}"):
                    time.pass_(0.001)

    def view() -> None:
        with ThreadPoolExecutor(8) as pool:
            futures = [
                pool.submit(contextvars.copy_context().run, piece, seed) for seed in range(8)
            ]
            for future in futures:
                future.result()

    parts = served(view)
    assert len(parts) >= 4 and min(parts.values()) >= 0


def test_sections_around_waits_of_tasks_are_never_more_than_the_request(quiet: Any) -> None:
    async def one(number: int) -> None:
        with quiet.perf.section(f"task {number % 3}"):
            await asyncio.sleep(0.002 * (1 + number % 4))

    async def view() -> str:
        await asyncio.gather(*map(one, range(12)))
        return "ok"

    quiet.app.add_url_rule("/view", "view", view)
    assert quiet.get("/view").body == b"ok"
    [reading] = quiet.session.recorder.snapshot().readings.endpoints
    times = {part.name: part.wall.total for part in reading.parts}
    assert len(times) >= 4 and min(times.values()) >= 0
    assert sum(times.values()) <= reading.requests.every.total  # before a report scales them down
