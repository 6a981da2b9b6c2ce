"""A database that cannot be used is a sentence, and one that recovers is used again."""

from __future__ import annotations

import os
import sqlite3
import stat
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from flask_knitperf.core.errors import HistoryError
from flask_knitperf.history import databases, schema
from flask_knitperf.history.databases import (
    Connection,
    Database,
    PostgreSQL,
    SQLite,
    database,
    file_system,
)
from flask_knitperf.history.fork_gate import FORK_GATE


def count(connection: Connection, table: str = "sources") -> int:
    [[number]] = connection.execute(f"SELECT count(*) FROM knitperf_{table}")
    return int(number)


def add(connection: Connection, name: str) -> None:
    connection.execute("INSERT INTO knitperf_sources (name) VALUES (?)", (name,))


def add_both(connection: Connection, first: str, second: str | None) -> None:
    with connection.transaction():
        add(connection, first)
        connection.execute("INSERT INTO knitperf_sources (name) VALUES (?)", (second,))


# -- one contract --------------------------------------------------------------------------------------


def test_a_transaction_is_committed_whole_or_not_at_all(connection: Connection) -> None:
    with connection.transaction():
        add(connection, "a")
    for second in ("a", None):  # one that is there, and none
        with pytest.raises(HistoryError):
            add_both(connection, "b", second)
    assert connection.execute("SELECT name FROM knitperf_sources") == [("a",)]


def test_many_rows_are_written_at_once_and_bytes_come_back(connection: Connection) -> None:
    connection.change_many(
        "INSERT INTO knitperf_rows (resolution, series, slot, source, data) VALUES (?, ?, ?, ?, ?)",
        [(10, series, 0, 1, bytes([series, 0, 255])) for series in range(5)],
    )
    rows = connection.execute("SELECT data FROM knitperf_rows ORDER BY series")
    assert [bytes(data) for (data,) in rows] == [bytes([n, 0, 255]) for n in range(5)]
    assert connection.change("DELETE FROM knitperf_rows WHERE series < ?", (3,)) == 3


def test_the_clock_of_the_database_is_in_seconds_since_the_epoch(connection: Connection) -> None:
    import time

    [[now]] = connection.execute(f"SELECT {connection.dialect.now}")
    assert abs(now - time.time()) < 5


def test_the_size_grows_with_rows(connection: Connection) -> None:
    before = connection.size_bytes()
    connection.change_many(
        "INSERT INTO knitperf_rows (resolution, series, slot, source, data) VALUES (?, ?, ?, ?, ?)",
        [(10, series, 0, 1, bytes(300)) for series in range(500)],
    )
    assert 150_000 < connection.size_bytes() - before < 300_000
    connection.give_back()


def test_a_connection_is_kept_until_it_is_closed(database: Database) -> None:
    first = database.connection()
    assert database.connection() is first
    database.close()
    assert database.connection() is not first


def test_a_child_opens_a_connection_of_its_own(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = database.connection()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    second = database.connection()
    assert second is not first
    assert first.execute("SELECT 1") == [(1,)]  # that of the parent still works
    second.close()
    first.close()


# -- versions ------------------------------------------------------------------------------------------


def test_tables_are_created_once(database: Database) -> None:
    for _ in range(2):
        schema.prepare(database.connection())
    assert [count(database.connection(), table) for table in schema.TABLES] == [0] * 11


def test_tables_of_a_later_release_are_left_alone(connection: Connection) -> None:
    connection.execute("UPDATE knitperf_schema SET version = ?", (schema.VERSION + 1,))
    with pytest.raises(HistoryError, match="written by a later release"):
        schema.prepare(connection)


def test_an_update_that_fails_leaves_the_tables_as_they_were(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    more = (
        *schema._MIGRATIONS,
        "CREATE TABLE knitperf_more (id {id}); CREATE TABLE knitperf_rows ()",
    )
    monkeypatch.setattr(schema, "_MIGRATIONS", more)
    with pytest.raises(HistoryError):
        schema.prepare(connection)
    assert connection.execute("SELECT version FROM knitperf_schema") == [(schema.VERSION - 1,)]
    with pytest.raises(HistoryError):
        count(connection, "more")


# -- SQLite --------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The path of a SQLite database, in a folder that does not exist yet."""
    return tmp_path / "instance" / "history.sqlite"


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are those of POSIX")
def test_the_file_is_readable_by_its_owner_only(file: Path) -> None:
    with closing(SQLite(file).open()) as connection:
        schema.prepare(connection)
        for path in file.parent.iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_a_file_that_was_removed_is_created_again(file: Path) -> None:
    opened = SQLite(file)
    schema.prepare(opened.connection())
    add(opened.connection(), "a")
    for path in file.parent.iterdir():
        path.unlink()
    schema.prepare(opened.connection())
    assert count(opened.connection()) == 0 and file.exists()
    opened.close()


def test_a_damaged_file_is_kept_aside_and_a_new_one_begins(file: Path) -> None:
    opened = SQLite(file)
    schema.prepare(opened.connection())
    opened.close()
    file.write_bytes(b"no database" * 1000)
    with pytest.raises(HistoryError, match=r"was damaged .* a new one begins"):
        schema.prepare(opened.connection())
    schema.prepare(opened.connection())
    assert count(opened.connection()) == 0
    assert (file.parent / "history.sqlite.damaged").read_bytes().startswith(b"no database")
    opened.close()


def test_a_file_that_another_connection_has_locked_is_a_sentence(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "WAIT_S", 0.01)
    opened = SQLite(file)
    schema.prepare(opened.connection())
    with closing(sqlite3.connect(file)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(HistoryError, match="cannot be used: database is locked"):
            add(opened.connection(), "a")
    add(opened.connection(), "a")
    opened.close()


def test_a_folder_that_cannot_be_created_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HistoryError, match="cannot be used: "):
        SQLite(tmp_path / "file" / "history.sqlite").open()


def test_a_network_disk_is_refused(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 8:1 / / rw - ext4 /dev/vda rw\n"
        f"36 22 0:31 / {os.path.realpath(tmp_path)} rw,relatime shared:2 - nfs4 server:/export rw\n"
    )
    monkeypatch.setattr(databases, "_MOUNTS", mounts)
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(
        HistoryError, match=r"needs a local disk, and this is nfs4; set KNITPERF_HIST"
    ):
        SQLite(file).open()
    assert file_system(Path("/somewhere")) == "ext4"


def test_an_unknown_file_system_is_no_reason_to_refuse(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "_MOUNTS", tmp_path / "missing")
    assert file_system(file) == ""
    monkeypatch.setattr(sys, "platform", "win32")
    assert file_system(file) == ""


# -- addresses -----------------------------------------------------------------------------------------


def test_an_address_or_a_path_names_the_database() -> None:
    assert isinstance(database("/var/lib/mill/history.sqlite"), SQLite)
    postgres = database("postgresql://mill:secret@db.example:5432/erp?sslmode=require")
    assert isinstance(postgres, PostgreSQL)
    assert postgres.name == "postgresql://db.example:5432/erp"


def test_a_server_that_does_not_answer_is_a_sentence_without_the_password() -> None:
    with pytest.raises(HistoryError, match="cannot be used") as caught:
        PostgreSQL("postgresql://mill:secret@127.0.0.1:1/erp").open()
    assert "secret" not in str(caught.value)


def test_without_the_driver_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(HistoryError, match=r"flask_knitperf\[postgres\]"):
        PostgreSQL("postgresql://db.example/erp").open()


def test_a_connection_that_the_server_has_closed_is_opened_again(postgres_url: str) -> None:
    opened, other = PostgreSQL(postgres_url), PostgreSQL(postgres_url)
    [[pid]] = opened.connection().execute("SELECT pg_backend_pid()")
    other.connection().execute("SELECT pg_terminate_backend(?)", (pid,))
    with pytest.raises(HistoryError):
        opened.connection().execute("SELECT 1")
    assert opened.connection().execute("SELECT 1") == [(1,)]
    opened.close()
    other.close()


def test_before_a_fork_no_connection_to_sqlite_is_open(tmp_path: Path) -> None:
    opened = SQLite(tmp_path / "history.sqlite").open()
    assert not FORK_GATE.shut(0.01)
    FORK_GATE.reopen()
    opened.pause()
    assert FORK_GATE.shut(0.01)
    waiting = threading.Thread(target=opened.execute, args=("SELECT 1",))
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    FORK_GATE.reopen()
    waiting.join()
    opened.close()
    assert FORK_GATE.shut(0.01)
    FORK_GATE.reopen()


def test_a_connection_that_was_paused_goes_on(database: Database) -> None:
    connection = database.connection()
    schema.prepare(connection)
    for _ in range(3):
        connection.pause()
        assert connection.execute("SELECT count(*) FROM knitperf_rows") == [(0,)]


def test_a_file_that_was_removed_during_a_pause_is_not_created_for_all_to_read(
    tmp_path: Path,
) -> None:
    path = tmp_path / "history #1?.sqlite"
    opened = SQLite(path).open()
    opened.pause()
    path.unlink()
    with pytest.raises(HistoryError, match="unable to open"):
        opened.execute("SELECT 1")
    assert not path.exists()
