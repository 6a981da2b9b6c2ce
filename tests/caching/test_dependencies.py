"""A value depends on the files that its load reads: no caller gets one from before a change."""

from __future__ import annotations

import asyncio
import builtins
import bz2
import contextvars
import gc
import inspect
import io
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import types
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from flask_knitperf import File, Folder, Table, Tag
from flask_knitperf.caching import dependencies, file_state
from flask_knitperf.caching.dependencies import declared
from flask_knitperf.caching.file_watch import FileWatch
from flask_knitperf.collectors.files.open_hook import OpenHook
from flask_knitperf.core.errors import KnitPerfError

ORIGINALS = {
    (builtins, "open"): builtins.open, (io, "open"): io.open, (os, "open"): os.open,
    (os, "listdir"): os.listdir, (os, "scandir"): os.scandir, (sqlite3, "connect"): sqlite3.connect,
}  # fmt: skip


@pytest.fixture(autouse=True)
def originals_return() -> Iterator[None]:
    yield
    assert not dependencies.RUNNING
    for (module, name), original in ORIGINALS.items():
        assert getattr(module, name) is original


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_state, "MIN_AGE_S", -1.0)  # a test writes its files just before


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "yarn.txt").write_text("one")
    return tmp_path / "yarn.txt"


def rewrite(path: Path, text: str) -> None:
    """Replace a file: another inode, whatever the grain of the clock."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(text)
    new.replace(path)


def call_later(cache: Any, function: Callable[..., Any], *args: Any) -> Any:
    """Call a cached function when its files are to be checked."""
    cache.now += 1.0
    return function(*args)


def is_stable(cache: Any, function: Callable[..., Any]) -> bool:
    """Return whether a value is cached for as long as nothing changes."""
    loads = len(cache.loads)
    function(), call_later(cache, function), call_later(cache, function)
    return len(cache.loads) <= loads + 1


def text_of(path: Path) -> str:
    with open(path) as file:
        return file.read()


def sqlite(path: Path, statement: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement).fetchall()


def content(file: Any) -> str:
    with file:
        return str(file.read())


def descriptor_content(descriptor: int) -> str:
    try:
        return os.read(descriptor, 9).decode()
    finally:
        os.close(descriptor)


def relative_to_folder(path: Path) -> str:
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        return descriptor_content(os.open(path.name, os.O_RDONLY, dir_fd=folder))
    finally:
        os.close(folder)


READS: dict[str, Callable[[Path], str]] = {
    "open": lambda path: content(open(path)),  # noqa: SIM115
    "io.open": lambda path: content(io.open(path)),  # noqa: SIM115, UP020
    "os.open": lambda path: descriptor_content(os.open(path, os.O_RDONLY)),
    "read_text": lambda path: path.read_text(),
    "bytes": lambda path: content(open(os.fsencode(path))),  # noqa: SIM115
    "keywords": lambda path: content(open(mode="r+", file=path)),  # noqa: SIM115
    "opener": lambda path: content(open(path, opener=lambda *a: os.open(*a))),  # noqa: SIM115, PLW0108
    "relative": lambda path: content(open(os.path.relpath(path))),  # noqa: SIM115
    "dir_fd": relative_to_folder,
}


class TestFiles:
    """The value follows the files that its load reads."""

    @pytest.mark.parametrize("name", READS)
    def test_a_file_that_a_load_reads_invalidates_its_value(
        self, cache: Any, path: Path, name: str
    ) -> None:
        read = cache.counted(lambda: READS[name](path))
        assert [read(), read(), call_later(cache, read)] == ["one"] * 3 and len(cache.loads) == 1
        rewrite(path, "two")
        assert call_later(cache, read) == "two"
        assert cache.counts(read)["invalidated"] == 1

    def test_files_are_checked_once_a_second(self, cache: Any, path: Path) -> None:
        read = cache.counted(path.read_text)
        read()
        rewrite(path, "two")
        cache.now += 0.9
        assert read() == "one"
        assert call_later(cache, read) == "two"

    def test_a_listed_folder_invalidates(self, cache: Any, path: Path) -> None:
        for list_names in ("listdir", "scandir"):

            def load(list_names: str = list_names) -> list[str]:
                return sorted(map(os.fspath, getattr(os, list_names)(path.parent)))

            names = cache.counted(load)
            before = names()
            (path.parent / f"new{len(cache.loads)}").write_text("")
            assert len(call_later(cache, names)) == len(before) + 1
            (path.parent / f"new{len(cache.loads) - 1}").unlink()
            assert call_later(cache, names) == before

    def test_a_glob_is_a_listing(self, cache: Any, path: Path) -> None:
        sheets = cache.counted(lambda: sorted(one.name for one in path.parent.glob("*.txt")))
        assert sheets() == ["yarn.txt"]
        (path.parent / "bom.txt").write_text("")
        assert call_later(cache, sheets) == ["bom.txt", "yarn.txt"]

    def test_a_missing_file_that_appears_invalidates(self, cache: Any, tmp_path: Path) -> None:
        @cache.counted
        def price() -> str:
            try:
                return (tmp_path / "price").read_text()
            except FileNotFoundError:
                return "default"

        assert is_stable(cache, price) and price() == "default"
        (tmp_path / "price").write_text("5")
        assert call_later(cache, price) == "5"
        (tmp_path / "price").unlink()
        assert call_later(cache, price) == "default"

    def test_a_file_whose_time_is_put_back_invalidates(self, cache: Any, path: Path) -> None:
        read = cache.counted(path.read_text)
        read()
        status = path.stat()
        with path.open("r+") as file:
            file.write("two")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert call_later(cache, read) == "two"

    def test_a_young_file_is_read_and_not_cached(
        self, cache: Any, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(file_state, "MIN_AGE_S", 3600.0)
        read = cache.counted(path.read_text)
        assert [read(), read()] == ["one", "one"] and len(cache.loads) == 2
        assert cache.counts(read)["refused"] == 0
        assert "less than" in read.cache.explain((), {})["refused"]
        monkeypatch.setattr(file_state, "MIN_AGE_S", -1.0)
        assert is_stable(cache, read)

    def test_a_file_that_changes_during_the_load_is_not_cached(
        self, cache: Any, path: Path
    ) -> None:
        @cache.counted
        def read() -> str:
            text = path.read_text()
            if len(cache.loads) == 1:
                rewrite(path, "two")
            return text

        assert [read(), read(), read()] == ["one", "two", "two"] and len(cache.loads) == 2

    def test_files_without_times_are_no_dependencies(self, cache: Any) -> None:
        read = cache.counted(lambda: (open("/proc/self/stat").close(), open(os.devnull).close()))
        read()
        assert read.cache.explain((), {})["depends_on"] == ["namespace n"]

    def test_too_many_files_are_refused(
        self, cache: Any, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(dependencies, "MAX_FILES", 2)
        for number in range(3):
            path.with_name(str(number)).write_text("")
        read = cache.counted(lambda: [path.with_name(str(n)).read_text() for n in range(3)])
        read(), read()
        assert len(cache.loads) == 2 and cache.counts(read)["refused"] == 2

    def test_a_stale_value_is_not_returned_in_place_of_an_error(
        self, cache: Any, path: Path
    ) -> None:
        read = cache.counted(path.read_text, ttl=10.0, stale_if_error=100.0)
        read()
        path.unlink()
        cache.now += 20
        with pytest.raises(FileNotFoundError):
            read()

    def test_a_cached_error_follows_the_file(self, cache: Any, tmp_path: Path) -> None:
        read = cache.counted((tmp_path / "price").read_text, errors=(FileNotFoundError,))
        for _ in range(3):
            with pytest.raises(FileNotFoundError):
                read()
        assert len(cache.loads) == 1
        (tmp_path / "price").write_text("5")
        assert call_later(cache, read) == "5"

    def test_a_compressed_file_is_read_through_the_library(self, cache: Any, path: Path) -> None:
        path.write_bytes(bz2.compress(b"one"))
        read = cache.counted(lambda: content(bz2.open(path, "rt")))  # noqa: SIM115
        assert read() == "one"
        path.with_name("new").write_bytes(bz2.compress(b"two"))
        path.with_name("new").replace(path)
        assert call_later(cache, read) == "two"


class TestWritingLoads:
    """A load that writes a file is right about it too."""

    def test_a_file_that_the_load_writes_and_reads_is_no_dependency(
        self, cache: Any, path: Path
    ) -> None:
        @cache.counted
        def report() -> str:
            path.write_text("report")
            return path.read_text()

        assert is_stable(cache, report)

    def test_a_temporary_file_is_no_dependency(self, cache: Any) -> None:
        @cache.counted
        def report() -> str:
            with tempfile.NamedTemporaryFile("w+") as file, tempfile.TemporaryFile() as other:
                other.write(b"x")
                file.write("report")
                file.flush()
                return Path(file.name).read_text()

        assert is_stable(cache, report)

    def test_a_file_that_is_only_appended_to_is_no_dependency(self, cache: Any, path: Path) -> None:
        @cache.counted
        def logged() -> int:
            with path.open("a") as file:
                file.write("more")
            return 1

        assert is_stable(cache, logged)

    @pytest.mark.parametrize("mode", ["a", "a+", "r+"])
    def test_a_counter_in_a_file_is_not_cached(self, cache: Any, path: Path, mode: str) -> None:
        @cache.counted
        def count() -> int:
            with path.open(mode) as file:
                file.seek(0, os.SEEK_END)
                file.write("+")
            return len(path.read_text())

        assert [count(), count(), count()] == [4, 5, 6]

    def test_a_file_that_is_read_and_then_replaced_is_not_cached(
        self, cache: Any, path: Path
    ) -> None:
        @cache.counted
        def double() -> str:
            text = path.read_text()
            path.write_text(text * 2)
            return text

        assert [double(), double()] == ["one", "oneone"]

    def test_an_inner_value_of_before_the_write_is_not_kept(self, cache: Any, path: Path) -> None:
        inner = cache.counted(path.read_text)

        @cache.counted
        def outer() -> str:
            rewrite(path, "two")
            path.write_text("three")
            return str(inner())  # within the second in which files are not checked

        assert inner() == "one"
        outer()
        assert call_later(cache, outer) == "three"


class TestNestedCalls:
    """A load takes over the dependencies of the cached calls in it, hits included."""

    @pytest.mark.parametrize("is_hit", [True, False])
    def test_the_files_of_an_inner_call(self, cache: Any, path: Path, is_hit: bool) -> None:
        inner = cache.cached(path.read_text)
        outer = cache.counted(lambda: inner() + "!")
        if is_hit:
            inner()
        assert outer() == "one!"
        rewrite(path, "two")
        assert call_later(cache, outer) == "two!"

    @pytest.mark.parametrize("is_hit", [True, False])
    def test_invalidating_the_inner_function_invalidates_the_outer_one(
        self, cache: Any, is_hit: bool
    ) -> None:
        inner = cache.counted(namespace="inner")
        middle = cache.cached(inner, namespace="middle", tags=("yarn",))
        outer = cache.cached(middle, namespace="outer")
        if is_hit:
            middle()
        assert (outer(), outer()) == (1, 1)
        cache.invalidation.namespace("inner")
        assert (outer(), outer()) == (2, 2)
        cache.invalidation.tags(["yarn"])
        assert outer() == 2 and inner() == 2  # the inner value has no such tag
        cache.invalidation.namespace("outer")
        assert inner() == 2

    def test_an_inner_call_with_declared_dependencies_adds_these_alone(
        self, cache: Any, path: Path
    ) -> None:
        other = path.with_name("other")
        inner = cache.cached(path.read_text, depends=declared([File(other), Tag("yarn")]))
        outer = cache.counted(inner)
        outer()
        files = outer.cache.explain((), {})["depends_on"]
        assert f"file {other}" in files and f"file {path}" not in files
        cache.invalidation.tags(["yarn"])
        rewrite(path, "two")
        assert outer() == "two"

    def test_an_inner_file_that_changed_since_its_check_prevents_caching(
        self, cache: Any, path: Path
    ) -> None:
        inner = cache.cached(path.read_text)
        outer = cache.counted(inner)
        inner()
        rewrite(path, "two")
        assert outer() == "one"  # the inner value is checked in a second
        assert call_later(cache, outer) == "two"

    def test_an_error_that_the_outer_load_catches_counts(self, cache: Any, path: Path) -> None:
        path.unlink()
        inner = cache.cached(path.read_text)

        @cache.counted
        def outer() -> str:
            try:
                return str(inner())
            except FileNotFoundError:
                return "default"

        assert outer() == "default"
        path.write_text("two")
        assert call_later(cache, outer) == "two"

    def test_a_function_of_another_cache_is_refused(self, cache: Any) -> None:
        other = type(cache)()
        other.bypasses = cache.bypasses
        inner = other.cached(lambda: 1)
        outer = cache.counted(inner)
        outer(), outer()
        assert len(cache.loads) == 2 and "another cache" in outer.cache.explain((), {})["refused"]

    def test_a_value_expires_with_the_inner_one(self, cache: Any) -> None:
        inner = cache.cached(lambda: cache.now, ttl=10.0)
        outer, forever = cache.cached(inner, ttl=60.0), cache.cached(inner, depends=declared(()))
        inner()
        cache.now += 5
        first = outer(), forever()
        cache.now += 4.9
        assert (outer(), forever()) == first
        cache.now += 0.2
        assert outer() == cache.now and forever() == first[1]
        expired = cache.cached(inner)  # the inner value was loaded just now
        expired()
        cache.now += 10
        assert expired() == cache.now

    def test_a_recursive_function(self, cache: Any, path: Path) -> None:
        def depth(number: int) -> str:
            return str(cached(number - 1)) if number else path.read_text()

        cached = cache.counted(depth)
        assert cached(9) == "one" and len(cache.loads) == 10
        rewrite(path, "two")
        assert call_later(cache, cached, 9) == "two"


class TestDeclared:
    """``depends=`` by hand."""

    def test_nothing(self, cache: Any, path: Path) -> None:
        read = cache.counted(path.read_text, depends=declared(()))
        read()
        rewrite(path, "two")
        assert call_later(cache, read) == "one"

    @pytest.mark.parametrize("depends", [File, lambda path: ["auto", File(str(path))]])
    def test_a_file(self, cache: Any, path: Path, depends: Any) -> None:
        size = cache.counted(lambda: os.stat(path).st_size, depends=declared(depends(path)))
        assert is_stable(cache, size)
        rewrite(path, "eleven")
        assert call_later(cache, size) == 6

    def test_a_folder_with_everything_below_it(self, cache: Any, path: Path) -> None:
        below = path.parent / "a" / "b"
        below.mkdir(parents=True)
        (below / "c").write_text("")
        count = cache.counted(depends=declared(Folder(path.parent)))
        assert is_stable(cache, count)
        for number, change in enumerate((
            lambda: (below / "d").write_text(""), lambda: rewrite(path, "two"),
            lambda: (below / "c").write_text("more"), (below / "c").unlink,
        ), start=2):  # fmt: skip
            change()
            assert call_later(cache, count) == number

    def test_a_tag(self, cache: Any) -> None:
        count = cache.counted(depends=declared([Tag("yarn")]))
        assert (count(), count()) == (1, 1)
        cache.invalidation.tags(["yarn"])
        assert count() == 2 and "tag yarn" in count.cache.explain((), {})["depends_on"]

    def test_a_table_is_cached_once_its_writes_are_published(self, cache: Any) -> None:
        count = cache.counted(depends=declared([Table("public.Yarn")]))
        assert (count(), count()) == (1, 2)  # this cache has no application
        assert "not published" in count.cache.explain((), {})["refused"]
        tracked = cache.counted(depends=declared([Table("Yarn")]), tracks_tables=lambda: True)
        assert (tracked(), tracked()) == (3, 3)
        cache.invalidation.versions.changed(["yarn"])
        assert tracked() == 4

    @pytest.mark.parametrize("depends", [None, 5, "automatic", [File("a"), "b.csv"], {"file": 1}])
    def test_anything_else_is_refused(self, depends: Any) -> None:
        with pytest.raises(KnitPerfError, match=r"can be 'auto', File\(path\)"):
            declared(depends)


def test_a_value_is_not_kept_while_a_table_that_it_depends_on_is_written(cache: Any) -> None:
    count = cache.counted(depends=declared([Table("yarn")]), tracks_tables=lambda: True)
    versions = cache.invalidation.versions
    versions.of(["yarn"])
    versions.begin_writing(["yarn"])
    assert [count(), count()] == [1, 2]
    versions.end_writing(["yarn"])
    assert [count(), count()] == [3, 3]


class TestThreads:
    """Reads of other threads and tasks."""

    def test_a_thread_of_the_load_is_seen(self, cache: Any, path: Path) -> None:
        @cache.counted
        def read() -> str:
            with ThreadPoolExecutor(1) as pool:
                return pool.submit(path.read_text).result()

        read()
        rewrite(path, "two")
        assert call_later(cache, read) == "two"

    def test_a_hit_in_a_thread_of_the_load_is_seen(self, cache: Any, path: Path) -> None:
        inner = cache.cached(path.read_text)
        inner()

        @cache.counted
        def outer() -> str:
            with ThreadPoolExecutor(1) as pool:
                return str(pool.submit(inner).result())

        outer()
        rewrite(path, "two")
        assert call_later(cache, outer) == "two"

    def test_a_follower_takes_over_the_dependencies(self, cache: Any, path: Path) -> None:
        begun, go_on = threading.Event(), threading.Event()

        def slow() -> str:
            begun.set()
            go_on.wait(20)
            return path.read_text()

        inner = cache.cached(slow)
        outer = cache.counted(inner)
        with ThreadPoolExecutor(2) as pool:
            leader = pool.submit(contextvars.copy_context().run, inner)
            begun.wait(20)
            follower = pool.submit(outer)
            while not inner.cache._flights._flights or not any(
                flight.followers for flight in inner.cache._flights._flights.values()
            ):
                pass
            go_on.set()
            assert leader.result(20) == follower.result(20) == "one"
        rewrite(path, "two")
        assert call_later(cache, outer) == "two"

    def test_concurrent_tasks_follow_their_files(self, cache: Any, path: Path) -> None:
        other = path.with_name("other")
        other.write_text("other")

        async def read(name: Path) -> str:
            cache.loads.append(name)
            await asyncio.sleep(0)
            text = name.read_text()
            await asyncio.sleep(0)
            return text

        cached = cache.cached(read)

        async def both() -> list[str]:
            return list(await asyncio.gather(cached(path), cached(other)))

        assert asyncio.run(both()) == ["one", "other"]
        for name, text in ((path, "two"), (other, "three")):
            rewrite(name, text)
        cache.now += 1
        assert asyncio.run(both()) == ["two", "three"] and len(cache.loads) == 4

    def test_a_context_that_outlives_its_load_reads_for_none(self, cache: Any, path: Path) -> None:
        contexts = []
        load = cache.counted(lambda: contexts.append(contextvars.copy_context()))
        load()
        contexts[0].run(path.read_text)
        assert load.cache.explain((), {})["depends_on"] == ["namespace n"]


class TestDatabases:
    """A database of SQLite is a file; so is its write-ahead log."""

    @pytest.mark.parametrize("mode", ["delete", "wal"])
    def test_a_database_that_is_opened_by_a_load(
        self, cache: Any, tmp_path: Path, mode: str
    ) -> None:
        database = tmp_path / "mill.db"
        sqlite(database, f"PRAGMA journal_mode = {mode}")
        sqlite(database, "CREATE TABLE yarn (name)")
        count = cache.counted(lambda: sqlite(database, "SELECT count(*) FROM yarn")[0][0])
        assert is_stable(cache, count) and count() == 0
        with closing(sqlite3.connect(database)) as writer:
            for number in (1, 2):
                writer.execute("INSERT INTO yarn VALUES ('a')")
                writer.commit()
                assert call_later(cache, count) == number

    def test_an_address_and_a_database_in_memory(self, cache: Any, tmp_path: Path) -> None:
        database = tmp_path / "mill db"
        sqlite(database, "CREATE TABLE yarn (name)")
        address = f"{database.as_uri()}?mode=ro"

        @cache.counted
        def count() -> int:
            for name in (":memory:", "", "file::memory:", "file:shared?mode=memory"):
                sqlite3.connect(name, uri=True).close()
            with closing(sqlite3.connect(address, uri=True)) as connection:
                return int(connection.execute("SELECT count(*) FROM yarn").fetchone()[0])

        assert count() == 0
        files = [one for one in count.cache.explain((), {})["depends_on"] if one.startswith("file")]
        assert files == [f"file {database}", f"file {database}-wal"]
        sqlite(database, "INSERT INTO yarn VALUES ('a')")
        assert call_later(cache, count) == 1

    def test_a_load_that_writes_is_not_cached(self, cache: Any, tmp_path: Path) -> None:
        sqlite(tmp_path / "mill.db", "CREATE TABLE yarn (name)")

        @cache.counted
        def add() -> int:
            sqlite(tmp_path / "mill.db", "INSERT INTO yarn VALUES ('a')")
            return int(sqlite(tmp_path / "mill.db", "SELECT count(*) FROM yarn")[0][0])

        assert [add(), add()] == [1, 2]


class TestReplacements:
    """The replaced functions behave as the originals, and leave no trace."""

    def during_a_load(self, cache: Any, check: Callable[[], Any]) -> Any:
        return cache.cached(check)()

    def test_they_look_like_the_originals(self, cache: Any) -> None:
        def check() -> None:
            for (module, name), original in ORIGINALS.items():
                replaced: Any = getattr(module, name)
                assert replaced is not original and replaced == original == replaced
                assert isinstance(replaced, type(original)) and isinstance(
                    replaced, types.BuiltinFunctionType
                )
                assert (replaced.__name__, replaced.__doc__, replaced.__module__) == (
                    original.__name__, original.__doc__, original.__module__,
                )  # fmt: skip
                assert repr(replaced) == repr(original) and hash(replaced) == hash(original)
                assert inspect.unwrap(replaced) is original
            assert inspect.signature(open) == inspect.signature(ORIGINALS[builtins, "open"])
            assert open is io.open
            assert os.open in os.supports_dir_fd and os.scandir in os.supports_fd

        self.during_a_load(cache, check)

    def test_they_are_not_bound_as_attributes_of_classes(self, cache: Any, path: Path) -> None:
        def check() -> None:
            class Reader:
                opener = open

            with Reader().opener(path) as file:
                assert file.read() == "one"

        self.during_a_load(cache, check)

    @pytest.mark.parametrize(
        "args", [(), (object(),), ("a", "z"), ("a\0b",), ("a", "r", 0, 5), (3.5, None)]
    )
    def test_wrong_arguments_raise_the_same(self, cache: Any, args: tuple[Any, ...]) -> None:
        def error(function: Any) -> tuple[type, str]:
            with pytest.raises((TypeError, ValueError)) as raised:
                function(*args)
            return raised.type, str(raised.value)

        expected = [error(original) for original in (open, os.open)]
        assert self.during_a_load(cache, lambda: [error(open), error(os.open)]) == expected

    def test_a_warning_names_the_line_of_the_caller(self, cache: Any, path: Path) -> None:
        def check() -> str:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                open(path, "rb", buffering=1).close()
            return caught[0].filename

        assert self.during_a_load(cache, check) == __file__

    def test_they_return_after_an_error_and_an_interrupt(self, cache: Any) -> None:
        for error in (ValueError, KeyboardInterrupt, SystemExit):

            def fail(error: type[BaseException] = error) -> None:
                raise error

            with pytest.raises(error):
                self.during_a_load(cache, fail)
            assert builtins.open is ORIGINALS[builtins, "open"]

    def test_they_return_after_a_cancelled_and_an_abandoned_task(self, cache: Any) -> None:
        async def wait() -> None:
            await asyncio.sleep(60)

        cached = cache.cached(wait)

        async def cancel() -> None:
            task = asyncio.create_task(cached())
            await asyncio.sleep(0)
            assert builtins.open is not ORIGINALS[builtins, "open"]
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        asyncio.run(cancel())
        coroutine = cached()
        with pytest.raises(RuntimeError, match="no running event loop"):
            coroutine.send(None)

    def test_a_tool_that_replaces_open_during_a_load_keeps_it(
        self, cache: Any, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls = []

        def replace() -> None:
            below = builtins.open

            def theirs(*args: Any, **kwargs: Any) -> Any:
                calls.append(args)
                return below(*args, **kwargs)

            monkeypatch.setattr(builtins, "open", theirs)

        self.during_a_load(cache, replace)
        theirs = builtins.open
        assert theirs.__name__ == "theirs"
        read = cache.counted(lambda: text_of(path))
        assert read() == "one" and builtins.open is theirs and len(calls) == 1
        rewrite(path, "two")
        assert call_later(cache, read) == "two"
        monkeypatch.undo()  # it puts the replacement back
        assert builtins.open is not ORIGINALS[builtins, "open"]
        with open(path) as file:
            assert file.read() == "two"

    def test_the_hook_of_open_works_in_both_orders(self, cache: Any, path: Path) -> None:
        hook = OpenHook()
        read = cache.counted(lambda: text_of(path))
        hook.acquire([".txt"])
        hooked = builtins.open
        assert read() == "one" and builtins.open is hooked
        hook.release([".txt"])
        rewrite(path, "two")
        assert call_later(cache, read) == "two"

        def during() -> str:
            hook.acquire([".txt"])
            return text_of(path)

        inner = cache.counted(during)
        assert inner() == "two"
        assert builtins.open is not ORIGINALS[builtins, "open"]
        hook.release([".txt"])
        rewrite(path, "three")
        assert call_later(cache, inner) == "three"
        hook.release([".txt"])

    @pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="needs alarms")
    @pytest.mark.parametrize("name", ["_install", "restore"])
    def test_they_return_after_an_alarm_at_the_worst_moment(
        self, cache: Any, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        class TooLateError(Exception):
            pass

        def handle(*_: Any) -> None:
            raise TooLateError

        method, alarms = getattr(FileWatch, name), [1]

        def interrupted(watch: FileWatch) -> None:
            if alarms and name == "restore":
                alarms.pop()
                signal.raise_signal(signal.SIGALRM)
            method(watch)
            if alarms:
                alarms.pop()
                signal.raise_signal(signal.SIGALRM)

        before = signal.signal(signal.SIGALRM, handle)
        try:
            monkeypatch.setattr(FileWatch, name, interrupted)
            with pytest.raises(TooLateError) as raised:
                self.during_a_load(cache, lambda: 1)
            del raised  # its traceback keeps the load
            gc.collect()
            assert builtins.open is ORIGINALS[builtins, "open"] and not cache.bypasses
            assert self.during_a_load(cache, lambda: 2) == 2
        finally:
            signal.signal(signal.SIGALRM, before)

    def test_a_load_leaves_no_garbage(self, cache: Any, path: Path) -> None:
        cached = cache.cached(lambda number: path.read_text())
        cached(0)
        gc.collect()
        gc.disable()
        try:
            for number in range(50):
                cached(number)
            assert gc.collect() == 0
        finally:
            gc.enable()

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_a_forked_child_has_the_originals(self, cache: Any, path: Path) -> None:
        def check() -> int:
            child = os.fork()
            if child == 0:
                is_clean = builtins.open is ORIGINALS[builtins, "open"] and not cache.bypasses
                os._exit(0 if is_clean and not dependencies.RUNNING else 1)
            return os.waitpid(child, 0)[1]

        assert self.during_a_load(cache, check) == 0

    def test_many_threads_leave_the_originals(self, cache: Any, path: Path) -> None:
        def load(number: int) -> str:
            return path.read_text()

        cached = cache.counted(load)
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(cached, range(400))) == {"one"}

    def test_a_late_call_of_a_replacement_does_not_stop_the_detection(
        self, cache: Any, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kept = self.during_a_load(cache, lambda: [builtins.open])[0]
        begun, go_on = threading.Event(), threading.Event()

        def load() -> str:
            begun.set()
            assert go_on.wait(20)
            return path.read_text()

        cached, method = cache.cached(load), FileWatch.restore_if_idle

        def late(watch: FileWatch) -> None:  # another thread begins a load in between
            thread.start()
            assert begun.wait(20)
            method(watch)

        thread = threading.Thread(target=contextvars.Context().run, args=(cached,))
        monkeypatch.setattr(FileWatch, "restore_if_idle", late)
        kept(path).close()
        go_on.set()
        thread.join(20)
        assert f"file {path}" in cached.cache.explain((), {})["depends_on"]

    def test_hostile_paths_do_not_fail_the_load(self, cache: Any, path: Path) -> None:
        class Hostile(os.PathLike[str]):
            def __fspath__(self) -> str:
                self.calls = getattr(self, "calls", 0) + 1
                if self.calls == 1:
                    raise ZeroDivisionError
                return str(path)

        def read_hostile() -> str:
            with open(Hostile()) as file:
                return file.read()

        read = cache.counted(read_hostile)
        assert read() == "one"
        assert "unknown" in read.cache.explain((), {})["refused"]
        name = path.with_name("a\udc80\n{}%s")
        name.write_text("odd")
        assert cache.counted(name.read_text)() == "odd"

    @pytest.mark.slow
    def test_a_module_that_is_imported_by_a_load_works_afterwards(self, tmp_path: Path) -> None:
        code = (
            "from flask_knitperf import CacheOptimizer\n"
            "def load():\n"
            "    import sqlite3, tarfile, shutil, tempfile\n"
            "    return 1\n"
            "cached = CacheOptimizer().cached(load)\n"
            "cached(), cached()\n"
            "import io, builtins, os, shutil, tarfile, tempfile, sqlite3\n"
            "folder = tempfile.mkdtemp()\n"
            "tarfile.open(folder + '/a.tar', 'w').close()\n"
            "shutil.rmtree(folder)\n"
            "print(builtins.open is io.open, isinstance(open, type(len)))\n"
            "print(shutil.rmtree.avoids_symlink_attacks)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
        )
        assert done.stdout == "True True\nTrue\n"
