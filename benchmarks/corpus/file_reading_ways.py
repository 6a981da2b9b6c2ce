"""Ways in which a load reads files and folders, each with the changes that a cached load must notice.

This corpus was written from the issue's text by an author who had not seen the cache; it did not exist.

`ways()` gives them: first the 39 usual ones (`way.usual`), which are what an ERP of workbooks, CSV
files and one SQLite file does every day; then the further ones, which real code does as well. A way is
a function `read(path)`, a `prepare(folder)` that lays its files down and returns that path, and
`changes`: by name, functions of the path after which `read` has another outcome. An outcome is a value
or the type of an error, since a deleted file is noticed by its error. `way.needs` names modules and
programs without which a way cannot run (`way.available()`).

A cached load is right if after each change its outcome is that of `read` itself. To keep nothing is
right and useless, so `trials` reports both: whether the second reading was a hit, and whether the
change was noticed. `way.sight` states how the load reaches the file:

- `call`: by a function of Python, pandas or NumPy that is looked up when it is called;
- `held`: by a reference to such a function that was taken earlier, as by `from os import listdir`;
- `metadata`: by its status only (existence, size, time), nothing is opened;
- `native`: by C code that opens the file itself, or in another process;
- `earlier`: by something that was opened before the load.

Run as a script, it applies every change to every way without any cache, and checks that reading twice
gives one outcome and reading after a change another one.
"""

from __future__ import annotations

import asyncio
import bz2
import codecs
import concurrent.futures
import configparser
import contextlib
import csv
import dbm.dumb
import filecmp
import fileinput
import functools
import glob
import gzip
import hashlib
import importlib.resources
import importlib.util
import io
import json
import linecache
import lzma
import mmap
import os
import pickle
import plistlib
import runpy
import shelve
import shutil
import sqlite3
import stat
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import tokenize
import tomllib
import urllib.request
import warnings
import zipfile
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from os import listdir as held_listdir
from os import scandir as held_scandir
from pathlib import Path
from sqlite3 import connect as held_connect
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

__all__ = ["USUAL_WAYS", "Trial", "Way", "outcome", "trials", "ways"]

USUAL_WAYS = 39
GRAIN_S = 0.03  # longer than the grain of a file's times on the usual file systems

Read = Callable[[str], object]
Change = Callable[[Path], None]
FIRST, SAME_SIZE, LONGER = 0, 1, 2  # versions of a content


class Material(NamedTuple):
    """Files of a way and their changes.

    Attributes:
        prepare: lays the files down in a folder of the way and returns the path that `read` takes.
        changes: by name, functions that change what `read` of that path returns.
    """

    prepare: Callable[[Path], Path]
    changes: Mapping[str, Change]


@dataclass(frozen=True, eq=False)
class Way:
    """One way of reading.

    Attributes:
        name: the name of the function.
        read: the load, a function of a path as text.
        material: the files that it reads and their changes.
        sight: `call`, `held`, `metadata`, `native` or `earlier`, see the module.
        usual: whether it is one of the 39.
        needs: modules, and programs after a `$`, without which it cannot run.
    """

    name: str
    read: Read
    material: Material
    sight: str
    usual: bool
    needs: tuple[str, ...]

    @property
    def changes(self) -> Mapping[str, Change]:
        """Changes that a dependent must notice, by name."""
        return self.material.changes

    def prepare(self, folder: Path) -> Path:
        """Lay the files down in an empty folder; return the path to read."""
        return self.material.prepare(folder)

    def change(self, path: Path, kind: str = "") -> None:
        """Apply one change, the first one by default."""
        self.changes[kind or next(iter(self.changes))](path)

    def finish(self, path: Path) -> None:
        """Close what `prepare` left open."""
        for resource in _EARLIER.pop(str(path), ()):
            resource.close()

    def available(self) -> bool:
        """Return whether its modules and programs are installed."""
        return all(
            shutil.which(need[1:]) if need.startswith("$") else _importable(need)
            for need in self.needs
        )


class Trial(NamedTuple):
    """One change of one way under a cache.

    Attributes:
        kept: whether the second reading, before the change, was a hit; `None` if not counted.
        noticed: whether the reading after the change has the outcome of the function itself.
    """

    way: str
    change: str
    kept: bool | None
    noticed: bool


_EARLIER: dict[str, tuple[Any, ...]] = {}  # by path: opened by `prepare`, closed by `finish`
_WAYS: list[Way] = []


def ways() -> list[Way]:
    """Return the usual ways, then the further ones."""
    return sorted(_WAYS, key=lambda way: not way.usual)


def outcome(read: Read, path: Path) -> tuple[str, object]:
    """Return the comparable value of a reading, or the type of its error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy warns of empty files
            return "value", _plain(read(str(path)))
    except Exception as error:
        return "error", type(error).__name__


def trials(
    cached: Callable[[Read], Read],
    folder: Path,
    settle: Callable[[], None] = lambda: None,
    hits: Callable[[Read], int] | None = None,
    choice: Callable[[Way], bool] = lambda way: True,
) -> list[Trial]:
    """Apply every change to every way under a cache.

    All files are prepared first and all are changed at once, so that `settle` is called three times
    only. It should wait for as long as the cache may leave a file unchecked.

    Args:
        cached: decorates the function of a way.
        folder: an empty folder.
        settle: called after the files are prepared, after they are read and after they are changed.
        hits: the hits of a decorated function so far, to report whether anything was kept.
        choice: selects ways.
    """
    chosen = [way for way in ways() if way.available() and choice(way)]
    loads = {way.name: cached(way.read) for way in chosen}
    paths = _prepared(chosen, folder)
    settle()
    kept = {place: _is_kept(loads[place[0].name], path, hits) for place, path in paths.items()}
    settle()
    for (way, kind), path in paths.items():
        way.change(path, kind)
    settle()
    rows = [
        Trial(way.name, kind, kept[way, kind], _is_noticed(loads[way.name], way, path))
        for (way, kind), path in paths.items()
    ]
    for (way, _), path in paths.items():
        way.finish(path)
    return rows


def _prepared(chosen: list[Way], folder: Path) -> dict[tuple[Way, str], Path]:
    """Return a prepared path for each pair of a way and a change."""
    paths = {}
    for way in chosen:
        for number, kind in enumerate(way.changes):
            place = folder / way.name / str(number)
            place.mkdir(parents=True)
            paths[way, kind] = way.prepare(place)
    return paths


def _is_kept(load: Read, path: Path, hits: Callable[[Read], int] | None) -> bool | None:
    outcome(load, path)
    before = hits(load) if hits else 0
    outcome(load, path)
    return hits(load) > before if hits else None


def _is_noticed(load: Read, way: Way, path: Path) -> bool:
    answer = outcome(load, path)
    return answer == outcome(way.read, path)


def _plain(value: Any) -> object:
    """Return a frame, a series or an array as text, other values as they are."""
    if hasattr(value, "to_csv"):
        return value.to_csv(), str(value.dtypes)
    return value.tolist() if hasattr(value, "tolist") else value


def _importable(module: str) -> bool:
    with contextlib.suppress(ImportError, ValueError):
        return importlib.util.find_spec(module) is not None
    return False


def way(
    material: Material,
    sight: str = "call",
    usual: bool = False,
    needs: tuple[str, ...] = (),
    without: tuple[str, ...] = (),
) -> Callable[[Read], Read]:
    """Register a function as a way of reading, without some changes of its material."""
    changes = {kind: change for kind, change in material.changes.items() if kind not in without}

    def register(read: Read) -> Read:
        name = read.__name__
        _WAYS.append(Way(name, read, Material(material.prepare, changes), sight, usual, needs))
        return read

    return register


# Contents: bytes by version. FIRST and SAME_SIZE of the texts have one size.


def _rows(version: int) -> list[tuple[str, int]]:
    rows = [("alpaca", 40 + version), ("merino", 55)]
    return [*rows, ("cashmere", 7)] if version == LONGER else rows


def _csv(version: int) -> bytes:
    return "".join(f"{a},{b}\n" for a, b in [("yarn", "kg"), *_rows(version)]).encode()


def _fixed_width(version: int) -> bytes:
    return "".join(f"{a:<12}{b:>6}\n" for a, b in [("yarn", "kg"), *_rows(version)]).encode()


def _numbers(version: int) -> bytes:
    return "".join(f"{kg} {kg + 1}\n" for _, kg in _rows(version)).encode()


def _json(version: int) -> bytes:
    return json.dumps([{"yarn": yarn, "kg": kg} for yarn, kg in _rows(version)]).encode()


def _pickle(version: int) -> bytes:
    return pickle.dumps(_rows(version))


def _ini(version: int) -> bytes:
    return ("[stock]\n" + "".join(f"{yarn} = {kg}\n" for yarn, kg in _rows(version))).encode()


def _toml(version: int) -> bytes:
    return _ini(version)


def _xml(version: int) -> bytes:
    body = "".join(f"<row><yarn>{yarn}</yarn><kg>{kg}</kg></row>" for yarn, kg in _rows(version))
    return f"<stock>{body}</stock>".encode()


def _plist(version: int) -> bytes:
    return plistlib.dumps(dict(_rows(version)))


def _source(version: int) -> bytes:
    return f"STOCK = {_rows(version)!r}\n".encode()


def _template(version: int) -> bytes:
    return f"<p>{{{{ 1 + 1 }}}} bales, {dict(_rows(version))!r}</p>\n".encode()


def _gzip(version: int) -> bytes:
    return gzip.compress(_csv(version), mtime=0)


def _bz2(version: int) -> bytes:
    return bz2.compress(_csv(version))


def _xz(version: int) -> bytes:
    return lzma.compress(_csv(version))


def _zip(version: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("stock.csv"), _csv(version))
    return buffer.getvalue()


def _tar(version: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("stock.csv")
        member.size = len(_csv(version))
        archive.addfile(member, io.BytesIO(_csv(version)))
    return buffer.getvalue()


def _array(version: int) -> bytes:
    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, np.array([kg for _, kg in _rows(version)], dtype=np.int64))
    return buffer.getvalue()


def _arrays(version: int) -> bytes:
    import numpy as np

    buffer = io.BytesIO()
    np.savez(buffer, kg=np.array([kg for _, kg in _rows(version)], dtype=np.int64))
    return buffer.getvalue()


def _raw_numbers(version: int) -> bytes:
    import numpy as np

    return np.array([kg for _, kg in _rows(version)], dtype=np.int64).tobytes()


def _frame(version: int) -> Any:
    import pandas as pd

    return pd.DataFrame(_rows(version), columns=["yarn", "kg"])


def _written(method: str, version: int, **options: Any) -> bytes:
    buffer = io.BytesIO()
    getattr(_frame(version), method)(buffer, **options)
    return buffer.getvalue()


def _workbook(version: int) -> bytes:
    return _written("to_excel", version, index=False)


def _parquet(version: int) -> bytes:
    return _written("to_parquet", version)


def _feather(version: int) -> bytes:
    import pyarrow as pa
    from pyarrow import feather

    buffer = io.BytesIO()
    table = pa.Table.from_pandas(_frame(version))
    feather.write_feather(table, buffer, compression="uncompressed")
    return buffer.getvalue()


def _frame_pickle(version: int) -> bytes:
    return pickle.dumps(_frame(version))


def _stata(version: int) -> bytes:
    from datetime import datetime

    stamp = datetime(2026, 11, 2)  # noqa: DTZ001 - Stata has no zones
    return _written("to_stata", version, write_index=False, time_stamp=stamp)


# Changes of one file.


def _rewrite(contents: Callable[[int], bytes], version: int) -> Change:
    def change(path: Path) -> None:
        with open(path.resolve(), "r+b") as stream:  # in place: the same inode
            stream.write(contents(version))
            stream.truncate()

    return change


def _replace(contents: Callable[[int], bytes], version: int) -> Change:
    def change(path: Path) -> None:
        other = path.with_name(f"{path.name}.new")
        other.write_bytes(contents(version))
        os.replace(other, path)

    return change


def _put_back(change: Change) -> Change:
    """Return a change after which the file's time of modification is the one before it."""

    def touched_back(path: Path) -> None:
        status = path.stat()
        change(path)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    return touched_back


def _backdated(contents: Callable[[int], bytes], version: int) -> Change:
    """Return a replacement by a file that is a year older, as `cp -p` from an archive gives."""

    def change(path: Path) -> None:
        year_ns = 365 * 86_400 * 10**9
        when = path.stat().st_mtime_ns - year_ns
        _replace(contents, version)(path)
        os.utime(path, ns=(when, when))

    return change


def _swapped_by_link(contents: Callable[[int], bytes], version: int) -> Change:
    """Return a change that moves the file away and puts another one under its name."""

    def change(path: Path) -> None:
        path.rename(path.with_name(f"{path.name}.old"))
        path.write_bytes(contents(version))

    return change


def _delete(path: Path) -> None:
    path.unlink()


def _truncate(path: Path) -> None:
    os.truncate(path, 0)


def _append(path: Path) -> None:
    with open(path, "ab") as stream:
        stream.write(b"shetland,61\n")


def _file(contents: Callable[[int], bytes], suffix: str, appended: bool = False) -> Material:
    """Return one file and its changes."""

    def prepare(folder: Path) -> Path:
        path = folder / f"stock{suffix}"
        path.write_bytes(contents(FIRST))
        return path

    changes = {
        "rewritten": _rewrite(contents, LONGER),
        "same size": _rewrite(contents, SAME_SIZE),
        "replaced": _replace(contents, SAME_SIZE),
        "touched back": _put_back(_rewrite(contents, SAME_SIZE)),
        "replaced and touched back": _put_back(_replace(contents, SAME_SIZE)),
        "replaced by an older file": _backdated(contents, LONGER),
        "moved away": _swapped_by_link(contents, SAME_SIZE),
        "deleted": _delete,
        "truncated": _truncate,
    }
    return Material(prepare, changes | ({"appended": _append} if appended else {}))


CSV = _file(_csv, ".csv", appended=True)
NUMBERS = _file(_numbers, ".txt")
IN_PLACE = ("replaced", "replaced and touched back", "replaced by an older file", "moved away",
            "deleted", "truncated")  # fmt: skip
"""Changes that something opened earlier does not notice, since it still has the old file, and
truncation, which is not safe to read through a mapping."""
BY_TIME_ONLY = ("touched back", "replaced and touched back")
"""Changes that code which compares times or sizes itself does not notice either."""


# Folders.


def _folder(folder: Path) -> Path:
    orders = folder / "orders"
    deep = orders / "2026" / "november"
    deep.mkdir(parents=True)
    for place in (orders / "alpaca.csv", orders / "merino.csv", orders / "notes.txt"):
        place.write_bytes(_csv(FIRST))
    (deep / "late.csv").write_bytes(_csv(FIRST))
    return orders


def _new_file(path: Path) -> None:
    (path / "shetland.csv").write_bytes(_csv(FIRST))


def _removed_file(path: Path) -> None:
    (path / "merino.csv").unlink()


def _renamed_file(path: Path) -> None:
    (path / "merino.csv").rename(path / "mohair.csv")


def _folder_replaced(path: Path) -> None:
    """Put another folder under the same name, with a time of modification like the first one's."""
    status = path.stat()
    path.rename(path.with_name("orders.old"))
    path.mkdir()
    (path / "cashmere.csv").write_bytes(_csv(FIRST))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _new_file_touched_back(path: Path) -> None:
    status = path.stat()
    _new_file(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _new_deep_file(path: Path) -> None:
    (path / "2026" / "november" / "later.csv").write_bytes(_csv(FIRST))


def _new_deep_folder(path: Path) -> None:
    place = path / "2026" / "december"
    place.mkdir()
    (place / "early.csv").write_bytes(_csv(FIRST))


def _inner_rewritten(path: Path) -> None:
    _rewrite(_csv, LONGER)(path / "merino.csv")


_LISTING: dict[str, Change] = {
    "new file": _new_file,
    "new file, touched back": _new_file_touched_back,
    "removed file": _removed_file,
    "renamed file": _renamed_file,
    "folder replaced": _folder_replaced,
}
_DEEP: dict[str, Change] = {"new deep file": _new_deep_file, "new deep folder": _new_deep_folder}
FOLDER = Material(_folder, _LISTING)
TREE = Material(_folder, _LISTING | _DEEP)
SIZES = Material(_folder, _LISTING | {"file rewritten": _inner_rewritten})


# Files and folders that are missing at first.


def _missing(folder: Path) -> Path:
    return folder / "stock.csv"


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_csv(FIRST))


def _create_by_rename(path: Path) -> None:
    other = path.with_name("upload.part")
    other.write_bytes(_csv(FIRST))
    os.replace(other, path)


def _missing_below(folder: Path) -> Path:
    return folder / "uploads" / "november" / "stock.csv"


def _missing_folder(folder: Path) -> Path:
    return folder / "orders"


def _create_folder(path: Path) -> None:
    path.mkdir()
    (path / "alpaca.csv").write_bytes(_csv(FIRST))


MISSING = Material(_missing, {"created": _create, "created by rename": _create_by_rename})
MISSING_BELOW = Material(_missing_below, {"created with its folders": _create})
MISSING_FOLDER = Material(_missing_folder, {"folder created": _create_folder})


# Links.


def _linked_file(folder: Path) -> Path:
    for version in (FIRST, SAME_SIZE):
        (folder / f"stock-{version}.csv").write_bytes(_csv(version))
    link = folder / "stock.csv"
    link.symlink_to(folder / f"stock-{FIRST}.csv")
    return link


def _relink(path: Path) -> None:
    other = path.with_name("link.new")
    other.symlink_to(path.with_name(f"stock-{SAME_SIZE}.csv"))
    os.replace(other, path)


def _releases(folder: Path) -> Path:
    for version in (FIRST, SAME_SIZE):
        place = folder / "releases" / str(version)
        place.mkdir(parents=True)
        (place / "stock.csv").write_bytes(_csv(version))
    (folder / "current").symlink_to(folder / "releases" / str(FIRST), target_is_directory=True)
    return folder / "current" / "stock.csv"


def _release(path: Path) -> None:
    other = path.parent.with_name("current.new")
    other.symlink_to(path.parent.with_name("releases") / str(SAME_SIZE), target_is_directory=True)
    os.replace(other, path.parent)


def _hard_linked(folder: Path) -> Path:
    path = CSV.prepare(folder)
    os.link(path, folder / "same-file.csv")
    return path


def _rewrite_by_the_other_name(path: Path) -> None:
    _rewrite(_csv, SAME_SIZE)(path.with_name("same-file.csv"))


LINKED_FILE = Material(
    _linked_file,
    {
        "target rewritten": _rewrite(_csv, LONGER),
        "link to another file": _relink,
        "target deleted": lambda path: path.resolve().unlink(),
    },
)
RELEASES = Material(
    _releases, {"another release": _release, "target rewritten": _rewrite(_csv, LONGER)}
)
HARD_LINKED = Material(_hard_linked, {"rewritten by its other name": _rewrite_by_the_other_name})


# Databases.


def _database(folder: Path) -> Path:
    path = folder / "mill.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("create table stock (yarn text, kg integer)")
        connection.executemany("insert into stock values (?, ?)", _rows(FIRST))
    return path


def _database_with_log(folder: Path) -> Path:
    """Lay down a database whose changes stay in its write-ahead log while it is open."""
    path = _database(folder)
    connection = sqlite3.connect(path, check_same_thread=False)
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma wal_autocheckpoint = 0")
    connection.execute("select count(*) from stock").fetchall()
    _EARLIER[str(path)] = (connection,)
    return path


def _statement(statement: str) -> Change:
    def change(path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(statement)

    return change


def _database_replaced(path: Path) -> None:
    other = _database(Path(tempfile.mkdtemp(dir=path.parent)))
    _statement("update stock set kg = 99")(other)
    os.replace(other, path)


_ROWS: dict[str, Change] = {
    "row updated": _statement("update stock set kg = 41 where yarn = 'alpaca'"),
    "row inserted": _statement("insert into stock values ('mohair', 3)"),
    "rows deleted": _statement("delete from stock"),
}
DATABASE = Material(_database, _ROWS | {"database replaced": _database_replaced})
DATABASE_WITH_LOG = Material(_database_with_log, _ROWS)
DATABASE_OPENED = Material(_database, _ROWS)


def _all_rows(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
    return connection.execute("select yarn, kg from stock order by yarn").fetchall()


# Keyed files.


def _keyed(folder: Path) -> Path:
    path = folder / "stock"
    with dbm.dumb.open(str(path), "n") as store:
        store["alpaca"] = "40"
    return path


def _keyed_value(path: Path) -> None:
    with dbm.dumb.open(str(path), "w") as store:
        store["alpaca"] = "41"


def _keyed_entry(path: Path) -> None:
    with dbm.dumb.open(str(path), "w") as store:
        store["merino"] = "55"


KEYED = Material(_keyed, {"value changed": _keyed_value, "key added": _keyed_entry})


def _shelf(folder: Path) -> Path:
    path = folder / "shelf"
    with shelve.open(str(path)) as store:
        store["alpaca"] = 40
    return path


def _shelf_entry(path: Path) -> None:
    with shelve.open(str(path)) as store:
        store["merino"] = 55


SHELF = Material(_shelf, {"key added": _shelf_entry})


# The 39 usual ways.


@way(CSV, usual=True)
def open_text(path: str) -> object:
    """Text of a file by `open`: each change of it is noticed."""
    with open(path, encoding="utf-8") as stream:
        return stream.read()


@way(CSV, usual=True)
def open_bytes(path: str) -> object:
    """Bytes of a file by `open`: each change of it is noticed."""
    with open(path, "rb") as stream:
        return stream.read()


@way(CSV, usual=True)
def open_lines(path: str) -> object:
    """Lines of a file that is closed when it is collected: each change of it is noticed."""
    return list(open(path, encoding="utf-8"))


@way(CSV, usual=True)
def io_open(path: str) -> object:
    """Text of a file by `io.open`: each change of it is noticed."""
    with io.open(path, encoding="utf-8") as stream:  # noqa: UP020 - the way itself
        return stream.read()


@way(CSV, usual=True)
def codecs_open(path: str) -> object:
    """Text of a file by `codecs.open`: each change of it is noticed."""
    with codecs.open(path, "r", "utf-8") as stream:
        return stream.read()


@way(CSV, usual=True)
def os_open_and_read(path: str) -> object:
    """Bytes of a file by `os.open` and `os.read`: each change of it is noticed."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, 4096)
    finally:
        os.close(descriptor)


@way(CSV, usual=True)
def path_read_text(path: str) -> object:
    """Text of a file by `Path.read_text`: each change of it is noticed."""
    return Path(path).read_text(encoding="utf-8")


@way(CSV, usual=True)
def path_read_bytes(path: str) -> object:
    """Bytes of a file by `Path.read_bytes`: each change of it is noticed."""
    return Path(path).read_bytes()


@way(CSV, usual=True)
def path_open(path: str) -> object:
    """First line of a file by `Path.open`: each change of it is noticed."""
    with Path(path).open(encoding="utf-8") as stream:
        return stream.readlines()


@way(FOLDER, usual=True)
def path_iterdir(path: str) -> object:
    """Names in a folder by `Path.iterdir`: a new, removed or renamed file is noticed."""
    return sorted(place.name for place in Path(path).iterdir())


@way(FOLDER, usual=True)
def path_glob(path: str) -> object:
    """Names by `Path.glob`: a new, removed or renamed file is noticed."""
    return sorted(place.name for place in Path(path).glob("*.csv"))


@way(TREE, usual=True)
def path_rglob(path: str) -> object:
    """Names in a tree by `Path.rglob`: a new file three folders below is noticed."""
    return sorted(str(place) for place in Path(path).rglob("*.csv"))


@way(FOLDER, usual=True)
def os_listdir(path: str) -> object:
    """Names in a folder by `os.listdir`: a new, removed or renamed file is noticed."""
    return sorted(os.listdir(path))


@way(SIZES, usual=True)
def os_scandir(path: str) -> object:
    """Names and sizes by `os.scandir`: a rewritten file in the folder is noticed as well."""
    with os.scandir(path) as entries:
        return sorted((entry.name, entry.stat().st_size) for entry in entries if entry.is_file())


@way(TREE, usual=True)
def os_walk(path: str) -> object:
    """Names in a tree by `os.walk`: a new file three folders below is noticed."""
    return sorted((root, sorted(files)) for root, _, files in os.walk(path))


@way(FOLDER, usual=True)
def glob_glob(path: str) -> object:
    """Names by `glob.glob`: a new, removed or renamed file is noticed."""
    return sorted(glob.glob(os.path.join(path, "*.csv")))


@way(MISSING, sight="metadata", usual=True)
def path_exists(path: str) -> object:
    """Existence of a file: its creation is noticed though nothing is opened."""
    return Path(path).exists()


@way(CSV, sight="metadata", usual=True, without=BY_TIME_ONLY)
def os_path_getmtime(path: str) -> object:
    """Time of a file's modification: another time is noticed though nothing is opened."""
    return os.path.getmtime(path)


@way(
    CSV,
    sight="metadata",
    usual=True,
    without=("same size", "replaced", *BY_TIME_ONLY, "moved away"),
)
def path_stat(path: str) -> object:
    """Size of a file: another size is noticed though nothing is opened."""
    return Path(path).stat().st_size


@way(MISSING, usual=True)
def missing_file_tried(path: str) -> object:
    """Text of a file, or a default without it: its creation is noticed."""
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except FileNotFoundError:
        return "no stock yet"


@way(CSV, usual=True)
def csv_reader(path: str) -> object:
    """Rows by `csv.DictReader`: each change of the file is noticed."""
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@way(_file(_json, ".json"), usual=True)
def json_load(path: str) -> object:
    """Document by `json.load`: each change of the file is noticed."""
    with open(path, encoding="utf-8") as stream:
        return json.load(stream)


@way(_file(_pickle, ".pickle"), usual=True)
def pickle_load(path: str) -> object:
    """Objects by `pickle.load`: each change of the file is noticed."""
    with open(path, "rb") as stream:
        return pickle.load(stream)


@way(_file(_ini, ".ini"), usual=True)
def configparser_read(path: str) -> object:
    """Settings by `ConfigParser.read`, which passes over missing files: a change is noticed."""
    parser = configparser.ConfigParser()
    parser.read([path, f"{path}.local"], encoding="utf-8")
    return {name: dict(section) for name, section in parser.items()}


@way(_file(_toml, ".toml"), usual=True)
def tomllib_load(path: str) -> object:
    """Settings by `tomllib.load`: each change of the file is noticed."""
    with open(path, "rb") as stream:
        return tomllib.load(stream)


@way(_file(_zip, ".zip"), usual=True)
def zipfile_member(path: str) -> object:
    """Member of a ZIP archive: each change of the archive is noticed."""
    with zipfile.ZipFile(path) as archive:
        return archive.read("stock.csv")


@way(_file(_gzip, ".csv.gz"), usual=True)
def gzip_open(path: str) -> object:
    """Text of a compressed file by `gzip.open`: each change of it is noticed."""
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        return stream.read()


@way(DATABASE, usual=True)
def sqlite_connect(path: str) -> object:
    """Rows by `sqlite3.connect`: a committed change and another file are noticed."""
    with closing(sqlite3.connect(path)) as connection:
        return _all_rows(connection)


@way(CSV, usual=True, needs=("pandas",))
def pandas_read_csv(path: str) -> object:
    """Frame by `read_csv`: each change of the file is noticed."""
    import pandas as pd

    return pd.read_csv(path)


@way(_file(_workbook, ".xlsx"), usual=True, needs=("pandas", "openpyxl"))
def pandas_read_excel(path: str) -> object:
    """Frame by `read_excel`: each change of the workbook is noticed."""
    import pandas as pd

    return pd.read_excel(path)


@way(_file(_workbook, ".xlsx"), usual=True, needs=("pandas", "openpyxl"))
def pandas_excel_file(path: str) -> object:
    """Frame by `ExcelFile.parse`: each change of the workbook is noticed."""
    import pandas as pd

    with pd.ExcelFile(path) as book:
        return book.parse(book.sheet_names[0])


@way(_file(_json, ".json"), usual=True, needs=("pandas",))
def pandas_read_json(path: str) -> object:
    """Frame by `read_json`: each change of the file is noticed."""
    import pandas as pd

    return pd.read_json(path)


@way(_file(_parquet, ".parquet"), usual=True, needs=("pandas", "pyarrow"))
def pandas_read_parquet(path: str) -> object:
    """Frame by `read_parquet`: each change of the file is noticed."""
    import pandas as pd

    return pd.read_parquet(path)


@way(_file(_frame_pickle, ".pickle"), usual=True, needs=("pandas",))
def pandas_read_pickle(path: str) -> object:
    """Frame by `read_pickle`: each change of the file is noticed."""
    import pandas as pd

    return pd.read_pickle(path)


@way(_file(_array, ".npy"), usual=True, needs=("numpy",))
def numpy_load(path: str) -> object:
    """Array by `np.load`: each change of the file is noticed."""
    import numpy as np

    return np.load(path)


@way(NUMBERS, sight="held", usual=True, needs=("numpy",))
def numpy_genfromtxt(path: str) -> object:
    """Array by `np.genfromtxt`, which has a reference to `io.open`: a change is noticed."""
    import numpy as np

    return np.genfromtxt(path)


@way(_file(_parquet, ".parquet"), sight="native", usual=True, needs=("pyarrow",))
def pyarrow_read_table(path: str) -> object:
    """Table by `pyarrow.parquet`, which opens the file in C++: a change is noticed."""
    from pyarrow import parquet

    return parquet.read_table(path).to_pydict()


@way(CSV, sight="native", usual=True, needs=("$cat",))
def subprocess_cat(path: str) -> object:
    """Output of a program that reads the file: each change of it is noticed."""
    return subprocess.run(["cat", path], capture_output=True, check=True).stdout


@way(CSV, usual=True)
def thread_of_the_load(path: str) -> object:
    """Text that a thread reads which the load starts: each change of the file is noticed."""
    texts: list[str] = []
    thread = threading.Thread(
        target=lambda: texts.append(Path(path).read_text(encoding="utf-8")), daemon=True
    )
    with _quiet_threads():
        thread.start()
        thread.join()
    return texts[0]


@contextlib.contextmanager
def _quiet_threads() -> Any:
    """Drop the traceback of a thread whose file is missing."""
    hook, threading.excepthook = threading.excepthook, lambda _: None
    try:
        yield
    finally:
        threading.excepthook = hook


# Further ways: other forms of opening.


@way(CSV)
def open_for_update(path: str) -> object:
    """Bytes of a file opened for reading and writing: each change of it is noticed."""
    with open(path, "r+b") as stream:
        return stream.read()


@way(CSV, without=("deleted",))
def open_for_appending(path: str) -> object:
    """Text before the end of a file opened for appending: each change of it is noticed."""
    with open(path, "a+", encoding="utf-8") as stream:
        stream.seek(0)
        return stream.read()


@way(CSV)
def open_unbuffered(path: str) -> object:
    """Bytes of an unbuffered file: each change of it is noticed."""
    with open(path, "rb", buffering=0) as stream:
        return stream.readall()


@way(CSV)
def open_path_as_bytes(path: str) -> object:
    """Bytes of a file whose path is bytes: each change of it is noticed."""
    with open(os.fsencode(path), "rb") as stream:
        return stream.read()


@way(CSV)
def open_path_by_keyword(path: str) -> object:
    """Text of a file whose path is a keyword argument: each change of it is noticed."""
    with open(encoding="utf-8", file=Path(path)) as stream:
        return stream.read()


@way(CSV)
def open_descriptor(path: str) -> object:
    """Text by `open` of a descriptor: each change of the file is noticed."""
    with open(os.open(path, os.O_RDONLY), encoding="utf-8") as stream:
        return stream.read()


@way(CSV)
def open_with_opener(path: str) -> object:
    """Text by an `opener` that opens another path than `open` was called with: noticed."""

    def opener(_: str, flags: int) -> int:
        return os.open(path, flags)

    with open("stock", encoding="utf-8", opener=opener) as stream:
        return stream.read()


@way(CSV)
def open_relative_path(path: str) -> object:
    """Text by a path relative to a working folder that holds for the load: noticed."""
    folder, name = os.path.split(path)
    with contextlib.chdir(folder), open(name, encoding="utf-8") as stream:
        return stream.read()


@way(CSV, needs=("fcntl",))
def os_open_below_folder(path: str) -> object:
    """Bytes by a name relative to the descriptor of a folder: each change is noticed."""
    folder, name = os.path.split(path)
    place = os.open(folder, os.O_RDONLY)
    try:
        descriptor = os.open(name, os.O_RDONLY, dir_fd=place)
    finally:
        os.close(place)
    with os.fdopen(descriptor, "rb") as stream:
        return stream.read()


@way(FOLDER, needs=("fcntl",))
def os_listdir_of_descriptor(path: str) -> object:
    """Names in a folder by its descriptor: a new, removed or renamed file is noticed."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return sorted(os.listdir(descriptor))
    finally:
        os.close(descriptor)


@way(FOLDER)
def os_listdir_of_working_folder(path: str) -> object:
    """Names in the working folder, without any argument: a new file is noticed."""
    with contextlib.chdir(path):
        return sorted(os.listdir())


@way(CSV, sight="native")
def io_file_io(path: str) -> object:
    """Bytes by `io.FileIO`, the class beneath `open`: each change is noticed."""
    with io.FileIO(path) as stream:
        return stream.readall()


@way(CSV, sight="native")
def io_open_code(path: str) -> object:
    """Bytes by `io.open_code`, which imports use: each change is noticed."""
    with io.open_code(path) as stream:
        return stream.read()


@way(CSV)
def shared_path_spelt_differently(path: str) -> object:
    """Text by a path with a detour: each change of the file is noticed."""
    folder, name = os.path.split(path)
    with open(os.path.join(folder, ".", "..", os.path.basename(folder), name), "rb") as stream:
        return stream.read()


@way(CSV)
def fileinput_lines(path: str) -> object:
    """Lines by `fileinput`: each change of the file is noticed."""
    with fileinput.input(path, encoding="utf-8") as lines:
        return list(lines)


@way(CSV, sight="held")
def linecache_lines(path: str) -> object:
    """Lines by `linecache`, which opens by `tokenize`: each change is noticed."""
    linecache.clearcache()
    return linecache.getlines(path)


@way(CSV, sight="held")
def tokenize_open(path: str) -> object:
    """Text by `tokenize.open`, which has a reference to `open`: each change is noticed."""
    with tokenize.open(path) as stream:
        return stream.read()


@way(CSV)
def hashlib_file_digest(path: str) -> object:
    """Digest of a file: each change of it is noticed."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@way(CSV)
def shutil_copy_then_read(path: str) -> object:
    """Text of a copy that the load makes: each change of the original is noticed."""
    with tempfile.TemporaryDirectory() as folder:
        return Path(shutil.copyfile(path, os.path.join(folder, "copy.csv"))).read_bytes()


@way(CSV)
def filecmp_with_copy(path: str) -> object:
    """Equality of a file and a reference that the load writes: another content is noticed."""
    with tempfile.TemporaryDirectory() as folder:
        reference = Path(folder) / "reference.csv"
        reference.write_bytes(_csv(FIRST))
        filecmp.clear_cache()
        return filecmp.cmp(path, reference, shallow=False)


@way(CSV)
def urllib_file_address(path: str) -> object:
    """Bytes by an address of the scheme `file`: each change of the file is noticed."""
    with urllib.request.urlopen(Path(path).as_uri()) as response:
        return response.read()


@way(CSV)
def generator_that_the_load_drains(path: str) -> object:
    """Total of numbers that a generator reads line by line: another content is noticed."""

    def weights() -> Any:
        with open(path, encoding="utf-8") as stream:
            next(stream)
            for line in stream:
                yield int(line.rpartition(",")[2])

    return sum(weights())


@way(CSV, without=("deleted",))
def open_then_deleted_default(path: str) -> object:
    """Text of a file, after one with another name was tried and missing: noticed."""
    for name in (f"{path}.override", path):
        with contextlib.suppress(FileNotFoundError), open(name, encoding="utf-8") as stream:
            return stream.read()
    return None


# References that were taken before the load.

_HELD_OPEN = open


@way(CSV, sight="held")
def held_open_of_module(path: str) -> object:
    """Text by a module's reference to `open`: each change is noticed."""
    with _HELD_OPEN(path, encoding="utf-8") as stream:
        return stream.read()


@way(CSV, sight="held")
def held_open_as_default(path: str, opener: Callable[..., Any] = open) -> object:
    """Text by a default argument that is `open`: each change is noticed."""
    with opener(path, encoding="utf-8") as stream:
        return stream.read()


@way(FOLDER, sight="held")
def held_listdir_of_import(path: str) -> object:
    """Names by `from os import listdir`: a new, removed or renamed file is noticed."""
    return sorted(held_listdir(path))


@way(FOLDER, sight="held")
def held_scandir_of_import(path: str) -> object:
    """Names by `from os import scandir`: a new, removed or renamed file is noticed."""
    return sorted(entry.name for entry in held_scandir(path))


@way(DATABASE, sight="held")
def held_connect_of_import(path: str) -> object:
    """Rows by `from sqlite3 import connect`: a committed change is noticed."""
    with closing(held_connect(path)) as connection:
        return _all_rows(connection)


# Status only.


@way(MISSING, sight="metadata")
def os_path_isfile(path: str) -> object:
    """Kind of a file: its creation is noticed though nothing is opened."""
    return os.path.isfile(path)


@way(MISSING, sight="metadata")
def os_access(path: str) -> object:
    """Readability of a file: its creation is noticed though nothing is opened."""
    return os.access(path, os.R_OK)


@way(MISSING_FOLDER, sight="metadata")
def path_is_dir(path: str) -> object:
    """Existence of a folder: its creation is noticed though nothing is opened."""
    return Path(path).is_dir()


@way(MISSING, sight="metadata")
def exists_before_open(path: str) -> object:
    """Text of a file if it exists, else a default: its creation is noticed."""
    return Path(path).read_text(encoding="utf-8") if os.path.exists(path) else "no stock yet"


@way(LINKED_FILE, sight="metadata", without=("target rewritten", "target deleted"))
def os_readlink(path: str) -> object:
    """Target of a link: another target is noticed."""
    return os.readlink(path)


@way(RELEASES, sight="metadata", without=("target rewritten",))
def path_resolve(path: str) -> object:
    """Real path of a file below a link: another release is noticed."""
    return str(Path(path).resolve())


@way(Material(CSV.prepare, {"mode": lambda path: path.chmod(0o444)}), sight="metadata")
def os_stat_mode(path: str) -> object:
    """Mode of a file: another mode is noticed though its content is the same."""
    return stat.filemode(os.stat(path).st_mode)


# Missing at first.


@way(MISSING_BELOW)
def missing_folders_tried(path: str) -> object:
    """Text of a file below missing folders, or a default: its creation is noticed."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return "no upload yet"


@way(MISSING_FOLDER)
def missing_folder_listed(path: str) -> object:
    """Names in a folder that is missing, or none: its creation is noticed."""
    try:
        return sorted(os.listdir(path))
    except FileNotFoundError:
        return []


@way(MISSING_FOLDER)
def missing_folder_globbed(path: str) -> object:
    """Names by a pattern below a missing folder, which is not an error: noticed."""
    return sorted(place.name for place in Path(path).glob("*.csv"))


@way(MISSING)
def missing_setting_passed_over(path: str) -> object:
    """Settings of a file that `ConfigParser.read` passes over when missing: noticed."""
    parser = configparser.ConfigParser(strict=False)
    try:
        return parser.read(path, encoding="utf-8")
    except configparser.Error as error:
        return type(error).__name__


@way(MISSING, needs=("pandas",))
def missing_frame_tried(path: str) -> object:
    """Frame of a file, or an empty one without it: its creation is noticed."""
    import pandas as pd

    try:
        return pd.read_csv(path)
    except FileNotFoundError:
        return pd.DataFrame({"yarn": [], "kg": []})


def _create_database(path: Path) -> None:
    _database(path.parent)


@way(Material(_missing, {"created": _create_database}))
def missing_database_tried(path: str) -> object:
    """Rows of a database in the folder, or none without it: its creation is noticed."""
    address = Path(path).with_name("mill.db").as_uri() + "?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True)) as connection:
            return _all_rows(connection)
    except sqlite3.OperationalError:
        return []


# Archives, keyed files, mappings.


@way(_file(_bz2, ".csv.bz2"))
def bz2_open(path: str) -> object:
    """Text of a compressed file by `bz2.open`: each change of it is noticed."""
    with bz2.open(path, "rt", encoding="utf-8") as stream:
        return stream.read()


@way(_file(_xz, ".csv.xz"))
def lzma_open(path: str) -> object:
    """Text of a compressed file by `lzma.open`: each change of it is noticed."""
    with lzma.open(path, "rt", encoding="utf-8") as stream:
        return stream.read()


@way(_file(_tar, ".tar"))
def tarfile_member(path: str) -> object:
    """Member of a tar archive: each change of the archive is noticed."""
    with tarfile.open(path) as archive:
        member = archive.extractfile("stock.csv")
        return member.read() if member else None


@way(_file(_zip, ".zip"))
def zipfile_path(path: str) -> object:
    """Member by `zipfile.Path`: each change of the archive is noticed."""
    with zipfile.ZipFile(path) as archive:
        return zipfile.Path(archive, "stock.csv").read_text(encoding="utf-8")


@way(KEYED)
def dbm_values(path: str) -> object:
    """Values of a keyed file, which lies in several files: each change is noticed."""
    with dbm.dumb.open(path, "r") as store:
        return {key: store[key] for key in sorted(store.keys())}


@way(SHELF, sight="native")
def shelve_values(path: str) -> object:
    """Values of a shelf, which C code may open: a new key is noticed."""
    with shelve.open(path, "r") as store:
        return dict(store)


@way(CSV)
def mmap_of_the_load(path: str) -> object:
    """Bytes of a mapping that the load makes: each change of the file is noticed."""
    with (
        open(path, "rb") as stream,
        mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view,
    ):
        return bytes(view)


@way(_file(_xml, ".xml"))
def element_tree_parse(path: str) -> object:
    """Texts of an XML file: each change of it is noticed."""
    return [node.text for node in ET.parse(path).iter("kg")]


@way(_file(_plist, ".plist"))
def plistlib_load(path: str) -> object:
    """Document by `plistlib`: each change of the file is noticed."""
    with open(path, "rb") as stream:
        return plistlib.load(stream)


# Databases.


@way(DATABASE)
def sqlite_by_address(path: str) -> object:
    """Rows by an address with options: a committed change is noticed."""
    with closing(sqlite3.connect(f"{Path(path).as_uri()}?mode=ro", uri=True)) as connection:
        return _all_rows(connection)


@way(DATABASE)
def sqlite_attached(path: str) -> object:
    """Rows of a database that a connection to none attaches: a committed change is noticed."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("attach ? as mill", (path,))
        return connection.execute("select yarn, kg from mill.stock order by yarn").fetchall()


@way(DATABASE_WITH_LOG)
def sqlite_with_write_ahead_log(path: str) -> object:
    """Rows of a database whose changes are in its log and not in its file: noticed."""
    with closing(sqlite3.connect(path)) as connection:
        return _all_rows(connection)


@way(DATABASE, needs=("pandas",))
def pandas_read_sql(path: str) -> object:
    """Frame by `read_sql_query`: a committed change is noticed."""
    import pandas as pd

    with closing(sqlite3.connect(path)) as connection:
        return pd.read_sql_query("select yarn, kg from stock order by yarn", connection)


# NumPy.


@way(NUMBERS, sight="held", needs=("numpy",))
def numpy_loadtxt(path: str) -> object:
    """Array by `np.loadtxt`: each change of the file is noticed."""
    import numpy as np

    return np.loadtxt(path)


@way(_file(_raw_numbers, ".raw"), needs=("numpy",))
def numpy_fromfile(path: str) -> object:
    """Array by `np.fromfile`: each change of the file is noticed."""
    import numpy as np

    return np.fromfile(path, dtype=np.int64)


@way(_file(_raw_numbers, ".raw"), needs=("numpy",))
def numpy_memmap(path: str) -> object:
    """Copy of a mapped array: each change of the file is noticed."""
    import numpy as np

    return np.array(np.memmap(path, dtype=np.int64, mode="r"))


@way(_file(_array, ".npy"), needs=("numpy",))
def numpy_load_mapped(path: str) -> object:
    """Copy of an array that `np.load` maps: each change of the file is noticed."""
    import numpy as np

    return np.array(np.load(path, mmap_mode="r"))


@way(_file(_arrays, ".npz"), needs=("numpy",))
def numpy_load_archive(path: str) -> object:
    """Array of an archive of arrays: each change of the file is noticed."""
    import numpy as np

    with np.load(path) as arrays:
        return arrays["kg"]


# pandas.


@way(CSV, needs=("pandas",))
def pandas_read_csv_of_handle(path: str) -> object:
    """Frame by `read_csv` of an open file: each change of it is noticed."""
    import pandas as pd

    with open(path, encoding="utf-8") as stream:
        return pd.read_csv(stream)


@way(CSV, needs=("pandas",))
def pandas_read_csv_of_path_object(path: str) -> object:
    """Frame by `read_csv` of a `Path`: each change of the file is noticed."""
    import pandas as pd

    return pd.read_csv(Path(path), index_col="yarn")["kg"]


@way(CSV, needs=("pandas",))
def pandas_read_csv_of_address(path: str) -> object:
    """Frame by `read_csv` of an address: each change of the file is noticed."""
    import pandas as pd

    return pd.read_csv(Path(path).as_uri())


@way(CSV, needs=("pandas",))
def pandas_read_csv_python_engine(path: str) -> object:
    """Frame by the engine in Python: each change of the file is noticed."""
    import pandas as pd

    return pd.read_csv(path, engine="python", sep=None)


@way(CSV, needs=("pandas", "pyarrow"))
def pandas_read_csv_arrow_engine(path: str) -> object:
    """Frame by the engine of Arrow: each change of the file is noticed."""
    import pandas as pd

    return pd.read_csv(path, engine="pyarrow")


@way(CSV, needs=("pandas",))
def pandas_read_csv_mapped(path: str) -> object:
    """Frame by `read_csv` of a mapped file: each change of it is noticed."""
    import pandas as pd

    return pd.read_csv(path, memory_map=True)


@way(CSV, needs=("pandas",))
def pandas_read_csv_in_chunks(path: str) -> object:
    """Total of a file that is read in chunks: each change of it is noticed."""
    import pandas as pd

    with pd.read_csv(path, chunksize=1) as chunks:
        return int(sum(chunk["kg"].sum() for chunk in chunks))


@way(_file(_gzip, ".csv.gz"), needs=("pandas",))
def pandas_read_csv_compressed(path: str) -> object:
    """Frame by `read_csv` of a compressed file: each change of it is noticed."""
    import pandas as pd

    return pd.read_csv(path)


@way(_file(_zip, ".zip"), needs=("pandas",))
def pandas_read_csv_of_archive(path: str) -> object:
    """Frame by `read_csv` of a ZIP archive: each change of it is noticed."""
    import pandas as pd

    return pd.read_csv(path)


@way(_file(_fixed_width, ".txt"), needs=("pandas",))
def pandas_read_fwf(path: str) -> object:
    """Frame by `read_fwf`: each change of the file is noticed."""
    import pandas as pd

    return pd.read_fwf(path)


@way(CSV, needs=("pandas",))
def pandas_read_table(path: str) -> object:
    """Frame by `read_table`: each change of the file is noticed."""
    import pandas as pd

    return pd.read_table(path, sep=",")


@way(_file(_feather, ".feather"), needs=("pandas", "pyarrow"))
def pandas_read_feather(path: str) -> object:
    """Frame by `read_feather`: each change of the file is noticed."""
    import pandas as pd

    return pd.read_feather(path)


@way(_file(_xml, ".xml"), needs=("pandas",))
def pandas_read_xml(path: str) -> object:
    """Frame by `read_xml`: each change of the file is noticed."""
    import pandas as pd

    return pd.read_xml(path, parser="etree")


@way(_file(_stata, ".dta"), needs=("pandas",))
def pandas_read_stata(path: str) -> object:
    """Frame by `read_stata`: each change of the file is noticed."""
    import pandas as pd

    return pd.read_stata(path)


@way(SIZES, needs=("pandas",), without=("renamed file",))
def pandas_concat_of_folder(path: str) -> object:
    """Frame of all files in a folder: a new file and a change of one are noticed."""
    import pandas as pd

    return pd.concat([pd.read_csv(place) for place in sorted(Path(path).glob("*.csv"))])


@way(_file(_workbook, ".xlsx"), needs=("pandas", "openpyxl"))
def pandas_read_excel_of_handle(path: str) -> object:
    """Frame by `read_excel` of an open file: each change of it is noticed."""
    import pandas as pd

    with open(path, "rb") as stream:
        return pd.read_excel(stream)


@way(_file(_workbook, ".xlsx"), needs=("pandas", "openpyxl"))
def pandas_read_excel_of_bytes(path: str) -> object:
    """Frame by `read_excel` of bytes that were read: each change of the file is noticed."""
    import pandas as pd

    return pd.read_excel(io.BytesIO(Path(path).read_bytes()))


@way(_file(_workbook, ".xlsx"), needs=("openpyxl",))
def openpyxl_load_workbook(path: str) -> object:
    """Cells by `load_workbook`: each change of the workbook is noticed."""
    import openpyxl

    with closing(openpyxl.load_workbook(path, read_only=True)) as book:
        return [tuple(row) for row in book.worksheets[0].iter_rows(values_only=True)]


# Arrow itself, which opens files in C++.


@way(CSV, sight="native", needs=("pyarrow",))
def pyarrow_read_csv(path: str) -> object:
    """Table by `pyarrow.csv`: each change of the file is noticed."""
    from pyarrow import csv as arrow_csv

    return arrow_csv.read_csv(path).to_pydict()


@way(_file(_feather, ".feather"), sight="native", needs=("pyarrow",), without=("truncated",))
def pyarrow_memory_map(path: str) -> object:
    """Table of a file that Arrow maps: each change of it is noticed."""
    import pyarrow as pa

    with pa.memory_map(path) as source:
        return pa.ipc.open_file(source).read_all().to_pydict()


@way(_file(_parquet, ".parquet"), sight="native", needs=("pyarrow",))
def pyarrow_dataset(path: str) -> object:
    """Table by `pyarrow.dataset`: each change of the file is noticed."""
    from pyarrow import dataset

    return dataset.dataset(path, format="parquet").to_table().to_pydict()


# Other processes and C code.


@way(CSV, sight="native", needs=("$cat",))
def os_popen(path: str) -> object:
    """Output of a shell command: each change of the file is noticed."""
    with os.popen(f"cat '{path}' 2>&1") as stream:
        return stream.read()


@way(CSV, sight="native", needs=("$cat",))
def subprocess_of_open_file(path: str) -> object:
    """Output of a program whose standard input is the file: each change is noticed."""
    with open(path, "rb") as stream:
        return subprocess.run(["cat"], stdin=stream, capture_output=True, check=True).stdout


@way(CSV, sight="native", needs=("fcntl",), without=("deleted",))
def forked_child(path: str) -> object:
    """Bytes that a forked child reads and sends back: each change of the file is noticed."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads in the parent
        child = os.fork()
    if not child:
        try:
            with open(path, "rb") as stream:
                os.write(writer, stream.read())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return text


@way(CSV, sight="native", needs=("fcntl",))
def libc_open(path: str) -> object:
    """Bytes by the C library's `open`: each change of the file is noticed."""
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    descriptor = library.open(os.fsencode(path), os.O_RDONLY)
    if descriptor < 0:
        raise FileNotFoundError(path)
    with os.fdopen(descriptor, "rb") as stream:
        return stream.read()


# Threads and coroutines.


@way(CSV)
def pool_of_the_load(path: str) -> object:
    """Bytes that a thread of the load's pool reads: each change of the file is noticed."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return list(pool.map(_bytes, [path, path]))


@functools.cache
def _pool() -> concurrent.futures.ThreadPoolExecutor:
    pool = concurrent.futures.ThreadPoolExecutor(1)
    pool.submit(str).result()  # its thread runs before any load
    return pool


def _prepare_pool(folder: Path) -> Path:
    _pool()
    return CSV.prepare(folder)


@way(Material(_prepare_pool, CSV.changes))
def pool_from_before_the_load(path: str) -> object:
    """Bytes that a thread reads which is older than the load: each change is noticed."""
    return _pool().submit(_bytes, path).result()


@way(CSV)
def coroutine_in_thread(path: str) -> object:
    """Bytes by `asyncio.to_thread` in a loop of the load: each change is noticed."""
    return asyncio.run(asyncio.to_thread(_bytes, path))


@way(CSV)
def coroutine_in_executor(path: str) -> object:
    """Bytes by `run_in_executor`, which does not copy the context: each change is noticed."""

    async def read() -> bytes:
        return await asyncio.get_running_loop().run_in_executor(None, _bytes, path)

    return asyncio.run(read())


def _bytes(path: str) -> bytes:
    with open(path, "rb") as stream:
        return stream.read()


# Links.


@way(LINKED_FILE, needs=("fcntl",))
def link_to_file(path: str) -> object:
    """Text of a file by a link: another target, and a change of the target, are noticed."""
    return Path(path).read_text(encoding="utf-8")


@way(RELEASES, needs=("fcntl",))
def link_above_file(path: str) -> object:
    """Text of a file below a link to a folder: another release is noticed."""
    return Path(path).read_text(encoding="utf-8")


@way(HARD_LINKED)
def hard_link(path: str) -> object:
    """Text of a file with two names: a change by the other name is noticed."""
    return Path(path).read_text(encoding="utf-8")


# Code, resources and templates.


def _package(folder: Path) -> Path:
    (folder / "__init__.py").write_text("", encoding="utf-8")
    return CSV.prepare(folder)


@way(_file(_source, ".py"))
def runpy_run_path(path: str) -> object:
    """Variable of a script that the load runs: each change of the script is noticed."""
    return runpy.run_path(path)["STOCK"]


@way(
    _file(_source, ".py"),
    sight="native",
    without=("same size", "replaced", *BY_TIME_ONLY, "moved away"),
)
def importlib_exec_module(path: str) -> object:
    """Variable of a module that the load imports by its path: another size is noticed."""
    spec = importlib.util.spec_from_file_location("stock_of_the_load", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.STOCK


@way(Material(_package, CSV.changes))
def importlib_resources(path: str) -> object:
    """Text of a package's resource: each change of the file is noticed."""
    spec = importlib.util.spec_from_file_location(
        "package_of_the_load", os.path.join(os.path.dirname(path), "__init__.py")
    )
    assert spec is not None
    package = importlib.util.module_from_spec(spec)
    return importlib.resources.files(package).joinpath("stock.csv").read_text(encoding="utf-8")


@way(_file(_template, ".html"), needs=("jinja2",))
def jinja_new_environment(path: str) -> object:
    """Text of a template that a new environment loads: each change of it is noticed."""
    import jinja2

    folder, name = os.path.split(path)
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(folder), autoescape=True)
    return environment.get_template(name).render()


@functools.cache
def _environment(folder: str) -> Any:
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder), autoescape=True, auto_reload=True
    )


def _rendered_before(folder: Path) -> Path:
    path = _file(_template, ".html").prepare(folder)
    _environment(str(folder)).get_template(path.name)
    return path


@way(
    Material(_rendered_before, _file(_template, ".html").changes),
    sight="metadata",
    needs=("jinja2",),
    without=BY_TIME_ONLY,
)
def jinja_known_template(path: str) -> object:
    """Text of a template that is compiled already, so that only its time is read: noticed."""
    folder, name = os.path.split(path)
    return _environment(folder).get_template(name).render()


@way(_file(_source, ".py"), needs=("flask",))
def flask_config_from_file(path: str) -> object:
    """Setting of a Python file that Flask's config reads: each change of it is noticed."""
    import flask

    config = flask.Config(os.path.dirname(path))
    config.from_pyfile(os.path.basename(path))
    return config["STOCK"]


@way(CSV, needs=("flask",))
def flask_open_resource(path: str) -> object:
    """Bytes of an application's resource: each change of the file is noticed."""
    import flask

    app = flask.Flask("mill", root_path=os.path.dirname(path))
    with app.open_resource(os.path.basename(path)) as stream:
        return stream.read()


# Opened before the load.


def _opened(folder: Path) -> Path:
    path = CSV.prepare(folder)
    _EARLIER[str(path)] = (open(path, "rb", buffering=0),)  # noqa: SIM115 - closed by finish
    return path


def _mapped(folder: Path) -> Path:
    path = CSV.prepare(folder)
    with open(path, "rb") as stream:
        view = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    _EARLIER[str(path)] = (view,)
    return path


def _connected(folder: Path) -> Path:
    path = _database(folder)
    _EARLIER[str(path)] = (sqlite3.connect(path, check_same_thread=False),)
    return path


@way(Material(_opened, CSV.changes), sight="earlier", without=IN_PLACE)
def file_opened_before(path: str) -> object:
    """Bytes of a file that was opened before the load: a change in place is noticed."""
    [stream] = _EARLIER[path]
    stream.seek(0)
    return stream.read()


@way(
    Material(_opened, CSV.changes),
    sight="earlier",
    without=IN_PLACE,
    needs=("fcntl",),
)
def descriptor_opened_before(path: str) -> object:
    """Bytes by `os.pread` of a descriptor from before the load: a change in place is noticed."""
    [stream] = _EARLIER[path]
    return os.pread(stream.fileno(), 4096, 0)


@way(Material(_mapped, CSV.changes), sight="earlier", without=(*IN_PLACE, "appended"))
def mapping_from_before(path: str) -> object:
    """Bytes of a mapping from before the load: a change in place is noticed."""
    [view] = _EARLIER[path]
    return bytes(view)


@way(Material(_connected, DATABASE_OPENED.changes), sight="earlier")
def connection_from_before(path: str) -> object:
    """Rows by a connection from before the load: a committed change is noticed."""
    [connection] = _EARLIER[path]
    return _all_rows(connection)


# The check of the corpus.


def check(folder: Path) -> list[str]:
    """Return the defects: readings that vary without a change, or not with one."""
    chosen = [way for way in ways() if way.available()]
    paths = _prepared(chosen, folder)
    time.sleep(GRAIN_S)
    before = {place: outcome(place[0].read, path) for place, path in paths.items()}
    again = {place: outcome(place[0].read, path) for place, path in paths.items()}
    time.sleep(GRAIN_S)
    for (way, kind), path in paths.items():
        way.change(path, kind)
    defects = []
    for (way, kind), path in paths.items():
        label = f"{way.name}, {kind}"
        if before[way, kind] != again[way, kind]:
            defects.append(f"{label}: two readings differ without a change")
        if outcome(way.read, path) == before[way, kind]:
            defects.append(f"{label}: the change makes no difference")
        if before[way, kind][0] == "error":
            defects.append(f"{label}: the first reading raises {before[way, kind][1]}")
        way.finish(path)
    return defects


def _main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        defects = check(Path(folder))
        never = trials(lambda read: read, Path(folder) / "never", lambda: time.sleep(GRAIN_S))
        always = trials(functools.lru_cache(maxsize=None), Path(folder) / "always",
                        lambda: time.sleep(GRAIN_S), lambda read: read.cache_info().hits)  # type: ignore[attr-defined] # fmt: skip
    chosen = [way for way in ways() if way.available()]
    print(f"{len(chosen)} of {len(ways())} ways, {sum(way.usual for way in chosen)} usual")
    print(f"{len(never)} changes; unnoticed: {sum(not row.noticed for row in never)} without a cache,"
          f" {sum(not row.noticed for row in always)} with one that never forgets")  # fmt: skip
    print("\n".join(defects) or "no defects")
    return bool(defects or len([way for way in chosen if way.usual]) != USUAL_WAYS)


if __name__ == "__main__":
    sys.exit(_main())
