"""Attacks on the history: real processes that are killed or forked, and damage to an open database."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import sqlite3
import string
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from flask_knitperf.core.errors import HistoryError
from flask_knitperf.history.databases import SQLITE, Connection, Database, SQLite
from flask_knitperf.history.reader import read_parts
from flask_knitperf.history.resolutions import DAY, FINEST, HOUR, Stretch
from flask_knitperf.history.retention import Retention
from flask_knitperf.history.schema import prepare
from flask_knitperf.history.store import SeriesKey, Store
from flask_knitperf.storage.windows import Span
from tests.conftest import Mill

from .harness import START, Host, Run, past, requests

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no fork on Windows")

Open = Callable[[], Database]


class Child:
    """A forked process that does some work, and may be killed.

    Args:
        work: its work; an exception is exit code 1.
    """

    def __init__(self, work: Callable[[], object]) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                work()
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)

    def kill(self) -> None:
        """Kill it at once."""
        os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def wait(self, seconds: float = 5.0) -> int:
        """Return its exit code, negative for a signal; one that hangs is killed."""
        ends = time.monotonic() + seconds
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > ends:
                os.kill(self.pid, signal.SIGKILL)
            time.sleep(0.005)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The path of a SQLite database that this process has not opened."""
    return tmp_path / "db" / "history.sqlite"


@pytest.fixture
def local(file: Path, tmp_path: Path) -> Iterator[Host]:
    """Writers of one run into a SQLite file."""
    state = tmp_path / "state"
    database = SQLite(file)
    yield Host(database, state, Run(state))
    database.close()


def serve(host: Host, writer: Any, ticks: int, endpoint: str = "lots") -> None:
    """Serve a request and write, several times."""
    for _ in range(ticks):
        host.now += 10
        host.run.observe(10**6, endpoint=endpoint)
        writer.tick()


def settle(host: Host, writer: Any) -> int:
    """Have everything written; return the number of requests of all times."""
    for _ in range(2):
        host.now += 2 * HOUR
        writer.tick()
    return requests(past(host.database, START - HOUR, host.now))


def expire(database: Database) -> None:
    prepare(database.connection())
    database.connection().execute("UPDATE knitperf_leases SET expires = 0")


def elsewhere(file: Path, statement: str) -> list[Any]:
    """Return the rows of a statement in another process, such as ``flask knitperf history stats``."""
    program = (
        "import contextlib, json, sqlite3, sys\n"
        "with contextlib.closing(sqlite3.connect(sys.argv[1])) as opened:\n"
        "    print(json.dumps(opened.execute(sys.argv[2]).fetchall()))\n"
    )
    command = [sys.executable, "-c", program, str(file), statement]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows: list[Any] = json.loads(done.stdout)
    return rows


# -- locks of SQLite in several processes ----------------------------------------------------------

SLOTS = "SELECT count(DISTINCT slot) FROM knitperf_rows WHERE resolution = 10"


def test_a_report_beside_the_writer_keeps_its_locks(local: Host, file: Path) -> None:
    writer = local.writer()
    serve(local, writer, 3)
    SQLite(file).open().close()  # as a page of the same process does
    elsewhere(file, SLOTS)  # as the command line does
    serve(local, writer, 3)
    assert elsewhere(file, SLOTS) == [[6]]


@pytest.mark.parametrize("writing", [False, True], ids=["idle", "during a write"])
def test_a_child_writes_what_other_processes_can_read(mill: Mill, writing: bool) -> None:
    mill.get("/")
    history = mill.session.history
    assert history is not None
    history._write(0)
    begun = threading.Event()
    from_child, to_child = os.pipe(), os.pipe()

    def write() -> None:
        with history._lock:
            connection = history._opened()._database.connection()
            with connection.transaction():
                connection.execute("UPDATE knitperf_leases SET expires = 0")
                begun.set()
                time.sleep(0.2)

    def work() -> None:
        database = history._opened()._database
        for name in ("first", "second"):
            os.read(to_child[0], 1)
            database.connection().execute("INSERT INTO knitperf_sources (name) VALUES (?)", (name,))
            os.write(from_child[1], b"x")
        query = "SELECT name FROM knitperf_sources ORDER BY id DESC LIMIT 2"
        assert elsewhere(Path(database.name), query) == [["second"], ["first"]]

    thread = threading.Thread(target=write)
    if writing:
        thread.start()
        begun.wait()
    child = Child(work)
    if writing:
        thread.join()
    os.close(from_child[1])
    os.write(to_child[1], b"x")
    os.read(from_child[0], 1)  # ends too if the child has failed
    mill.session.close()
    os.write(to_child[1], b"x")
    code = child.wait()
    for end in (from_child[0], *to_child):
        os.close(end)
    assert code == 0


# -- damage ----------------------------------------------------------------------------------------


def test_a_damaged_file_is_set_aside_once(local: Host, file: Path) -> None:
    writer = local.writer()
    serve(local, writer, 3)
    writer.close()
    with closing(SQLite(file).open()) as reader:  # of a page that is being built
        _garbage(file)
        with contextlib.suppress(HistoryError):
            serve(local, writer, 1)
        serve(local, writer, 3)
        with contextlib.suppress(HistoryError):
            reader.execute("SELECT count(*) FROM knitperf_rows")
    serve(local, writer, 3)
    assert file.with_name(f"{file.name}.damaged").read_bytes().startswith(b"garbage!")
    [[slots]] = elsewhere(file, SLOTS)
    assert slots >= 5


def _truncate(file: Path) -> None:
    os.truncate(file, 0)


def _remove_log(file: Path) -> None:
    file.with_name(f"{file.name}-wal").unlink()


def _remove_all(file: Path) -> None:
    for path in file.parent.iterdir():
        path.unlink()


def _garbage(file: Path) -> None:
    file.write_bytes(b"garbage!" * 8192)


def _garbage_everywhere(file: Path) -> None:
    for path in file.parent.iterdir():
        path.write_bytes(os.urandom(path.stat().st_size))


@pytest.mark.parametrize("damage", [
    _truncate, _remove_log, _remove_all, _garbage, _garbage_everywhere
])  # fmt: skip
def test_the_history_goes_on_after_damage_while_it_is_open(
    local: Host, file: Path, damage: Callable[[Path], None]
) -> None:
    def work() -> None:
        writer = local.writer()
        serve(local, writer, 40)
        damage(file)
        for _ in range(6):
            with contextlib.suppress(HistoryError):
                serve(local, writer, 1)
        since = local.now
        serve(local, writer, 5)
        [[slots]] = elsewhere(file, f"{SLOTS} AND slot >= {since - 10}")
        assert slots >= 5

    assert Child(work).wait() == 0


def test_a_full_disk_loses_nothing(local: Host, file: Path) -> None:
    import resource

    def work() -> None:
        writer = local.writer()
        serve(local, writer, 20)
        failed = 0
        for step in range(60):
            size = max(path.stat().st_size for path in file.parent.iterdir())
            soft = size + 700 * (step % 7) - 2000
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, resource.RLIM_INFINITY))
            try:
                serve(local, writer, 1, endpoint=f"lots {step}")
            except HistoryError:
                failed += 1
            finally:
                resource.setrlimit(
                    resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
                )
        assert failed > 20
        serve(local, writer, 5)
        for _ in range(2):
            local.now += 2 * HOUR
            writer.tick()
        read = past(local.database, START - HOUR, local.now)
        assert requests(read) == 25
        assert [requests(read, f"lots {step}") for step in range(60)] == [1] * 60

    assert Child(work).wait() == 0


# -- exactness -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_processes_that_are_killed_at_any_moment_lose_and_double_nothing(
    database: Database, another: Open, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    served = tmp_path / "served"
    served.write_text("0 0")
    generator = random.Random(7)
    path = getattr(database, "path", None)
    new = (lambda: SQLite(path)) if path else another

    def work(number: int) -> None:
        count, ticks = map(int, served.read_text().split())
        run = Run(state)
        run.observe(*[10**6] * count)
        host = Host(new(), state, run)
        host.now = START + 10 * ticks
        expire(host.database)
        writer = host.writer(f"writer {number}")
        while True:
            count, ticks = count + 1, ticks + 1
            other = served.with_name(f"{number}")
            other.write_text(f"{count} {ticks}")
            other.replace(served)
            run.observe(10**6)
            host.now += 10
            writer.tick()

    for number in range(10):
        before = served.read_text()
        child = Child(lambda number=number: work(number))  # type: ignore[misc]
        ends = time.monotonic() + 30
        while served.read_text() == before and time.monotonic() < ends:
            time.sleep(0.005)
        time.sleep(generator.uniform(0.0, 0.15))
        child.kill()
    count, ticks = map(int, served.read_text().split())
    run = Run(state)
    run.observe(*[10**6] * count)
    host = Host(database, state, run)
    host.now = START + 10 * ticks + 10
    expire(database)
    assert ticks >= 10
    assert settle(host, host.writer("last")) == count


def test_a_window_that_is_read_during_a_write_is_exact(host: Host, another: Open) -> None:
    writer = host.writer()
    reader = another().connection()
    prepare(reader)
    execute = reader.execute
    serve(host, writer, 5)
    read = {}
    for number in range(10):
        host.run.observe(10**6)
        host.now += 10
        left = itertools.count(-number)

        def execute_later(*values: Any, left: Iterator[int] = left) -> Any:
            if next(left) == 0:
                writer.tick()
            return execute(*values)

        setattr(reader, "execute", execute_later)  # noqa: B010
        live = {("host", host.run.path.name): host.run.snapshot()}
        store = Store(reader)
        store.load_series()
        span = Span(START - HOUR, host.now)
        read[number] = requests(read_parts(store, [span], host.now, live))
        setattr(reader, "execute", execute)  # noqa: B010
        writer.tick()
    assert read == {number: 6 + number for number in range(10)}


@pytest.mark.slow
def test_a_clock_that_jumps_years_ahead_and_back_deletes_nothing(host: Host) -> None:
    writer = host.writer()
    serve(host, writer, 100)
    before = host.now
    for day in range(1000, 1003):
        host.now = before + day * DAY
        writer.tick()
    host.now = before
    serve(host, writer, 10)
    for _ in range(2):
        host.now += 2 * HOUR
        writer.tick()
    assert requests(past(host.database, START - HOUR, host.now)) == 110


def test_long_names_that_do_not_compress_come_back(host: Host) -> None:
    generator = random.Random(1)
    names = [
        "".join(generator.choices(string.ascii_letters + string.digits, k=length))
        for length in (900, 4000, 10_000)
    ]
    writer = host.writer()
    for name in [*names, "lots"]:
        host.run.observe(10**6, endpoint=name)
    writer.tick()
    host.now += 20
    writer.tick()
    read = past(host.database, START - 20, host.now)
    assert [requests(read, name) for name in [*names, "lots"]] == [1] * 4


# -- growth ----------------------------------------------------------------------------------------


def test_series_without_rows_make_room(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flask_knitperf.history.store.MAX_SERIES", 4)
    writer = host.writer()
    serve(host, writer, 2, "this year")
    (host.run.path / "app.json").unlink()
    host.now += 500 * DAY
    host.run = Run(host.state, "server-2", host.now)
    for _ in range(3):  # no row of the first run is left
        writer.tick()
        writer._retention._waits_until = 0.0  # a day has passed
        host.now += 10
    assert host.database.connection().execute("SELECT count(*) FROM knitperf_rows") == [(0,)]
    for number in range(2):
        serve(host, writer, 2, f"year {number}")
    read = past(host.database, host.now - 60, host.now)
    assert [requests(read, f"year {number}") for number in range(2)] == [2, 2]


@pytest.mark.slow
def test_rows_are_deleted_as_fast_as_they_are_written(database: Database) -> None:
    connection = database.connection()
    prepare(connection)
    retention = Retention(1 << 20)
    series = range(1, 1201)
    connection.change_many(
        "INSERT INTO knitperf_series (id, identity, kind, name, labels, about)"
        " VALUES (?, ?, '', '', '', '')",
        [(number, str(number)) for number in series],
    )
    connection.change_many(
        "INSERT INTO knitperf_rows (resolution, series, slot, source, data) VALUES (3600, ?, ?, 1, ?)",
        [(number, int(START), bytes(20)) for number in series],
    )
    sizes = []
    for tick in range(15):
        slot = int(START) + 10 * tick
        connection.change_many(
            "INSERT INTO knitperf_rows (resolution, series, slot, source, data)"
            " VALUES (10, ?, ?, 1, ?)",
            [(number, slot, bytes(20)) for number in series],
        )
        now = slot + 6 * HOUR + 20  # when all rows but those of two ticks are too old
        retention.run(connection, now)
        [[left]] = connection.execute("SELECT count(*) FROM knitperf_rows WHERE resolution = 10")
        sizes.append(left)
    assert sizes[-1] < 4 * len(series)


# -- applications ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_session_that_closes_while_it_writes_disturbs_no_request(
    mill: Mill, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_knitperf.history.databases.WAIT_S", 20.0)  # a request would show it
    mill.get("/")
    history = mill.session.history
    assert history is not None
    history._write(0)
    errors: list[BaseException] = []
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            try:
                history._slot = -1
                history.tick()
            except BaseException as error:
                errors.append(error)

    threads = [threading.Thread(target=write) for _ in range(2)]
    with closing(sqlite3.connect(mill.session.settings.history_url)) as other:
        for thread in threads:
            thread.start()
        slowest = 0.0
        for number in range(10):
            if number == 8:
                other.execute("BEGIN IMMEDIATE")
            began = time.monotonic()
            assert mill.get("/").code == 200
            slowest = max(slowest, time.monotonic() - began)
            if number % 2:
                mill.session.close()
        stop.set()
        other.rollback()
        for thread in threads:
            thread.join()
    mill.session.close()
    assert errors == [] and slowest < 10
    assert not [path for path in map(os.path.realpath, Path("/proc/self/fd").glob("*"))
                if path.startswith(mill.session.settings.history_url)]  # fmt: skip


def test_rows_of_more_series_than_a_statement_has_values_are_read(
    connection: Connection, host: Host
) -> None:
    host.run.observe(1e6)
    host.now += 10
    host.writer().tick()
    if connection.dialect is SQLITE:
        opened = connection._connection  # type: ignore[attr-defined]
        opened.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 999)
    stretch = Stretch(FINEST, 0, FINEST.slot(host.now) + 10)
    store = Store(connection)
    everything = store.rows([stretch])
    assert everything.series and sorted(store.rows([stretch], range(70_000)).data) == sorted(
        everything.data
    )


def test_the_number_of_a_series_that_was_removed_is_never_that_of_another(
    connection: Connection,
) -> None:
    writer, reader = Store(connection), Store(connection)
    first, second = (SeriesKey("counter", name, "[]") for name in ("first", "second"))
    with connection.transaction():
        [removed] = writer.numbers([(first, {})])
    reader.load_series()
    connection.execute("DELETE FROM knitperf_series")
    with connection.transaction():
        [number] = Store(connection).numbers([(second, {})])
    reader.load_series()
    assert number != removed and reader.series()[number or 0][0] == second
