"""Random reads and changes of files and tables, with loads that depend on them.

This corpus was written from the issue's text by an author who had not seen the cache; it did not exist.

`run(cached, connect, folder, seed, count)` decorates every load with `cached`, then applies `count`
operations: about nine in ten read, the others change a file, a folder or a table. Each answer of a
decorated load is compared with that of the load itself right afterwards; the list of those that differ
is returned. `cached` takes a function and returns one; `connect` takes nothing and returns a connection
to a SQLite database which the caller keeps outside of `folder`. `settle` is called after each change,
for a cache that leaves files unchecked for a while. `tally` returns numbers as well.

Loads call one another: within a decorated load the inner ones are decorated, within the comparison they
are not, so that an outer load must also depend on what an inner one read earlier, when it was not a hit.

Changes are those of real deployments: in place with the same size, several within the grain of the
file system's clock, with the time of modification put back, by rename over, two files that exchange
their names, missing files and folders that appear, new files in a listed folder, whole folders that go;
transactions that commit, roll back, fail within a `with` block, are closed without a commit, roll back
to a savepoint, or are open while others read; tables that are changed by a trigger, a cascade, an
upsert, or read through a view. Some loads are interrupted by a change of what they have just read: the
answer of that call may be old or new and is not judged, but the next one is.

The operations depend on the seed only. Everything runs in the calling thread, except that some loads
start threads themselves. Run as a script, it runs with no cache and with one that never forgets.
"""

from __future__ import annotations

import concurrent.futures
import configparser
import contextlib
import functools
import glob
import gzip
import io
import json
import os
import random
import shutil
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["LOADS", "Operation", "Stale", "Tally", "operations", "run", "tally"]

YARNS = 8
MONTHS = 4
DROPS = 4
PAUSE_S = 0.012  # longer than the grain of a file's times on the usual file systems
READS = 0.88  # share of operations that read

Load = Callable[..., Any]
Connect = Callable[[], Any]


class Operation(NamedTuple):
    """One step.

    Attributes:
        kind: `read`, or the name of a change.
        name: a load, or a file relative to the folder, or a transaction.
        number: the argument of the load, or the row of a table.
        value: a random number of six digits, for contents.
    """

    kind: str
    name: str
    number: int
    value: int


class Stale(NamedTuple):
    """An answer that differs from that of the load itself.

    Attributes:
        step: the number of the operation.
        load: the name of the load.
        number: its argument.
        answer: the answer of the decorated load.
        fresh: the answer of the load itself.
        change: the kind and name of the last change before.
    """

    step: int
    load: str
    number: int
    answer: object
    fresh: object
    change: str


@dataclass
class Tally:
    """Numbers of a run."""

    reads: int = 0
    changes: Counter[str] = field(default_factory=Counter)
    stale: list[Stale] = field(default_factory=list)


@dataclass
class _Scene:
    """Surroundings of the loads: one run at a time."""

    connect: Connect = sqlite3.connect
    shared: Any = None  # a connection that is open during the whole run
    inner: Mapping[str, Load] = field(default_factory=dict)  # what loads call each other by
    pending: Callable[[], None] | None = None  # the change that interrupts the next load


_scene = _Scene()
LOADS: dict[str, Load] = {}
"""All loads, undecorated, by name; each takes the folder as text, and a number if it is in NUMBERS."""
NUMBERS: dict[str, int] = {}
"""By name of a load: its argument is below this number."""


def load(numbers: int = 0) -> Callable[[Load], Load]:
    """Register a load that takes a number below `numbers` besides the folder."""

    def register(function: Load) -> Load:
        LOADS[function.__name__] = function
        if numbers:
            NUMBERS[function.__name__] = numbers
        return function

    return register


def _call(function: Load, *args: Any) -> Any:
    """Call another load as the run has decorated it."""
    return _scene.inner[function.__name__](*args)


def _interrupt() -> None:
    """Apply the pending change, if there is one."""
    pending, _scene.pending = _scene.pending, None
    if pending:
        pending()


# Contents. All versions of a file have one size, unless lines are added.


def _content(name: str, value: int, added: int = 0) -> bytes:
    stem, _, suffix = name.rpartition(".")
    if suffix == "json":
        document: dict[str, Any] = {f"p{n}": f"{value + n:07d}" for n in range(YARNS)}
        return json.dumps(document | {"note": "x" * added}).encode()
    if suffix == "ini":
        lines = f"[mill]\nyarn = {value % YARNS}\nsource = {value % 3}\nvalue = {value:07d}\n"
        return (lines + "".join(f"added{n} = 1\n" for n in range(added))).encode()
    if stem == "current":
        return f"yarns/y{value % YARNS}.csv".encode() + b"\n" * added
    text = f"kg\n{value:07d}\n" + "0000001\n" * added
    return gzip.compress(text.encode(), mtime=0) if suffix == "gz" else text.encode()


def _names() -> list[str]:
    """Return the files that there are at the start or that may appear."""
    yarns = [f"yarns/y{n}.csv" for n in range(YARNS)]
    orders = [f"orders/m{month}/o{n}.json" for month in range(MONTHS) for n in range(3)]
    drops = [f"drops/d{n}.txt" for n in range(DROPS)]
    single = ["rates.csv", "history.csv.gz", "prices.json", "bom.json", "settings.ini",
              "override.ini", "current.txt"]  # fmt: skip
    return [*yarns, *orders, *drops, *single]


FILES = tuple(_names())
MISSING_AT_START = ("override.ini", "drops/", "yarns/y6", "yarns/y7", "orders/m3")


def _lay_down(folder: Path) -> None:
    for name in FILES:
        if not name.startswith(MISSING_AT_START):
            _written(folder / name, _content(name, len(name) * 101))
    (folder / "yarns").mkdir(exist_ok=True)


def _written(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


SCHEMA = """
create table yarns (id integer primary key, name text not null, kg integer not null);
create table orders (
    id integer primary key, yarn_id integer not null, kg integer not null, state text not null
);
create table lines (
    id integer primary key,
    order_id integer not null references orders (id) on delete cascade,
    kg integer not null
);
create table audit (id integer primary key, yarn_id integer not null, kg integer not null);
create table "order notes" (order_id integer primary key, "text of note" text not null);
create view open_orders as
    select o.id, y.name, o.kg from orders o join yarns y on y.id = o.yarn_id where o.state = 'open';
create view heavy_orders as select id, name from open_orders where kg > 400000;
create trigger yarn_audit after update of kg on yarns
    begin insert into audit (yarn_id, kg) values (new.id, new.kg); end;
"""


def _fill(connection: sqlite3.Connection) -> None:
    connection.executescript(SCHEMA)
    for number in range(YARNS):
        connection.execute("insert into yarns values (?, ?, ?)", (number, f"yarn {number}", 40))
    for number in range(1, 20):
        row = (number, number % YARNS, number * 1000, "open")
        connection.execute("insert into orders values (?, ?, ?, ?)", row)
        connection.execute("insert into lines (order_id, kg) values (?, ?)", (number, number))
    connection.commit()


# Loads of files.


@load()
def rates_text(folder: str) -> str:
    """Text of one file by `open`."""
    with open(f"{folder}/rates.csv", encoding="utf-8") as stream:
        return stream.read()


@load()
def rates_bytes(folder: str) -> bytes:
    """Bytes of the same file by `Path`."""
    return Path(folder, "rates.csv").read_bytes()


@load()
def rates_descriptor(folder: str) -> bytes:
    """Bytes of the same file by `os.open`."""
    descriptor = os.open(f"{folder}/rates.csv", os.O_RDONLY)
    try:
        return os.read(descriptor, 65536)
    finally:
        os.close(descriptor)


@load()
def rates_number(folder: str) -> int:
    """Second line of the same file by `io.open`."""
    with io.open(f"{folder}/rates.csv", encoding="utf-8") as stream:  # noqa: UP020 - as meant
        return int(stream.readlines()[1])


@load()
def rates_parity(folder: str) -> int:
    """Parity of a number in the file: most changes of the file do not change it."""
    return int(Path(folder, "rates.csv").read_text(encoding="utf-8").split()[1]) % 2


@load()
def rates_in_thread(folder: str) -> str:
    """Text that a thread of the load reads; it is empty when the file is missing."""
    texts: list[str] = []

    def work() -> None:
        with contextlib.suppress(FileNotFoundError):
            texts.append(Path(folder, "rates.csv").read_text(encoding="utf-8"))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return "".join(texts)


@load()
def history_total(folder: str) -> int:
    """Total of a compressed file."""
    with gzip.open(f"{folder}/history.csv.gz", "rt", encoding="utf-8") as stream:
        return sum(int(line) for line in list(stream)[1:])


@load(YARNS)
def yarn_text(folder: str, number: int) -> str:
    """Text of a yarn's file, or a default without it."""
    try:
        with open(f"{folder}/yarns/y{number}.csv", encoding="utf-8") as stream:
            return stream.read()
    except FileNotFoundError:
        return "no such yarn"


@load(YARNS)
def yarn_weight(folder: str, number: int) -> int:
    """Weight in a yarn's file; an error without it."""
    lines = Path(folder, "yarns", f"y{number}.csv").read_text(encoding="utf-8").split()
    return sum(map(int, lines[1:]))


@load(YARNS)
def yarn_pair(folder: str, number: int) -> list[str]:
    """Texts of two yarns' files, of which each may be missing."""
    return [yarn_text(folder, number), yarn_text(folder, (number + 1) % YARNS)]


@load()
def settings(folder: str) -> dict[str, str]:
    """Settings of a file and of an override that is often missing."""
    parser = configparser.ConfigParser()
    parser.read([f"{folder}/settings.ini", f"{folder}/override.ini"], encoding="utf-8")
    return dict(parser["mill"])


@load()
def override_or_settings(folder: str) -> str:
    """Text of the override, or else of the settings."""
    for name in ("override.ini", "settings.ini"):
        with (
            contextlib.suppress(FileNotFoundError),
            open(f"{folder}/{name}", encoding="utf-8") as stream,
        ):
            return stream.read()
    return "no settings"


@load()
def prices(folder: str) -> dict[str, str]:
    """Document of a JSON file."""
    with open(f"{folder}/prices.json", encoding="utf-8") as stream:
        document: dict[str, str] = json.load(stream)
    return document


@load(YARNS)
def price(folder: str, number: int) -> str:
    """One value of a JSON file."""
    document = json.loads(Path(folder, "prices.json").read_bytes())
    return str(document[f"p{number}"])


@load()
def bill_of_materials(folder: str) -> list[str]:
    """Values of another JSON file."""
    with open(f"{folder}/bom.json", encoding="utf-8") as stream:
        return sorted(json.load(stream).values())


@load()
def pointed_file(folder: str) -> str:
    """Text of a file whose name is the content of another one."""
    name = Path(folder, "current.txt").read_text(encoding="utf-8").strip()
    return name + Path(folder, name).read_text(encoding="utf-8")


@load(DROPS)
def drop(folder: str, number: int) -> str:
    """Text of a file in a folder that may be missing as a whole."""
    try:
        return Path(folder, "drops", f"d{number}.txt").read_text(encoding="utf-8")
    except FileNotFoundError:
        return "no drop"


@load()
def first_drop(folder: str) -> str:
    """Text of the first of several files that may be missing."""
    for number in range(DROPS):
        path = f"{folder}/drops/d{number}.txt"
        with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8") as stream:
            return f"{number} {stream.read()}"
    return "no drops"


# Loads of folders.


@load()
def yarn_names(folder: str) -> list[str]:
    """Names in a folder by `os.listdir`."""
    return sorted(os.listdir(f"{folder}/yarns"))


@load()
def yarn_names_by_scandir(folder: str) -> list[str]:
    """Names in a folder by `os.scandir`."""
    with os.scandir(f"{folder}/yarns") as entries:
        return sorted(entry.name for entry in entries if entry.is_file())


@load()
def yarn_names_by_pattern(folder: str) -> list[str]:
    """Names in a folder by `glob.glob`."""
    return sorted(os.path.basename(path) for path in glob.glob(f"{folder}/yarns/*.csv"))


@load()
def yarn_names_by_path(folder: str) -> list[str]:
    """Names in a folder by `Path.iterdir`."""
    return sorted(path.name for path in Path(folder, "yarns").iterdir())


@load()
def yarn_count(folder: str) -> int:
    """Number of files in a folder: a renamed one does not change it."""
    return len(os.listdir(f"{folder}/yarns"))


@load()
def yarn_total(folder: str) -> int:
    """Total of all files in a folder."""
    paths = sorted(glob.glob(f"{folder}/yarns/*.csv"))
    return sum(int(Path(path).read_text(encoding="utf-8").split()[1]) for path in paths)


@load()
def last_yarn(folder: str) -> str:
    """Text of the file whose name is the last in a folder."""
    names = os.listdir(f"{folder}/yarns")
    return Path(folder, "yarns", max(names)).read_text(encoding="utf-8") if names else "no yarns"


@load()
def tree_names(folder: str) -> list[str]:
    """Names in a tree by `os.walk`."""
    walk = os.walk(f"{folder}/orders")
    return sorted(os.path.join(root, name) for root, _, names in walk for name in names)


@load()
def tree_total(folder: str) -> int:
    """Total of all documents in a tree."""
    return sum(_weight(path) for path in tree_names(folder))


@load()
def months(folder: str) -> list[str]:
    """Names of the folders in a folder."""
    return sorted(os.listdir(f"{folder}/orders"))


@load(MONTHS)
def month_names(folder: str, number: int) -> list[str]:
    """Names in a folder that may be missing."""
    try:
        return sorted(os.listdir(f"{folder}/orders/m{number}"))
    except FileNotFoundError:
        return []


@load(MONTHS)
def month_total(folder: str, number: int) -> int:
    """Total of the documents in a folder that may be missing."""
    return sum(_weight(path) for path in glob.glob(f"{folder}/orders/m{number}/*.json"))


@load()
def drop_names(folder: str) -> list[str]:
    """Names in a folder that comes and goes."""
    try:
        return sorted(entry.name for entry in os.scandir(f"{folder}/drops"))
    except FileNotFoundError:
        return []


def _weight(path: str) -> int:
    with open(path, encoding="utf-8") as stream:
        return int(json.load(stream)["p0"])


# Loads of tables.


def _rows(statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    with closing(_scene.connect()) as connection:
        return connection.execute(statement, parameters).fetchall()


@load()
def db_yarns(folder: str) -> list[tuple[Any, ...]]:
    """All rows of a table."""
    return _rows("select id, name, kg from yarns order by id")


@load(YARNS)
def db_yarn(folder: str, number: int) -> list[tuple[Any, ...]]:
    """One row of a table."""
    return _rows("select name, kg from yarns where id = ?", number)


@load()
def db_yarn_weight(folder: str) -> object:
    """Total of a column, by a cursor."""
    with closing(_scene.connect()) as connection:
        cursor = connection.cursor()
        cursor.execute('SELECT SUM("kg") FROM "yarns"')
        return cursor.fetchone()[0]


@load()
def db_open_orders(folder: str) -> list[tuple[Any, ...]]:
    """Rows in a state."""
    return _rows("select id, kg from main.orders where state = 'open' order by id")


@load(YARNS)
def db_orders_of_yarn(folder: str, number: int) -> list[tuple[Any, ...]]:
    """Orders of one yarn."""
    return _rows("select id, kg, state from [orders] where yarn_id = ? order by id", number)


@load()
def db_last_order(folder: str) -> list[tuple[Any, ...]]:
    """Greatest number of an order."""
    return _rows("select max(id) from orders")


@load()
def db_join(folder: str) -> list[tuple[Any, ...]]:
    """Join of three tables."""
    return _rows(
        "select y.name, count(*), sum(l.kg) from yarns y, orders o join lines l on l.order_id = o.id"
        " where o.yarn_id = y.id group by y.name order by y.name"
    )


@load()
def db_left_join(folder: str) -> list[tuple[Any, ...]]:
    """Orders without lines."""
    return _rows(
        "select o.id from orders o left join lines l on l.order_id = o.id where l.id is null"
        " order by o.id"
    )


@load()
def db_view(folder: str) -> list[tuple[Any, ...]]:
    """Rows of a view over two tables."""
    return _rows("select * from open_orders order by id")


@load()
def db_view_of_view(folder: str) -> list[tuple[Any, ...]]:
    """Number of rows of a view over a view."""
    return _rows("select count(*) from heavy_orders")


@load()
def db_common_expression(folder: str) -> list[tuple[Any, ...]]:
    """Rows by a common table expression that has the name of another table."""
    return _rows(
        "with audit as (select yarn_id, sum(kg) kg from orders group by yarn_id)"
        " select * from audit order by yarn_id"
    )


@load()
def db_subquery(folder: str) -> list[tuple[Any, ...]]:
    """Yarns that an order has, by a subquery."""
    return _rows(
        "select name from yarns where exists (select 1 from orders where yarn_id = yarns.id"
        " and state <> 'done') order by name"
    )


@load()
def db_union(folder: str) -> list[tuple[Any, ...]]:
    """Numbers of rows of three tables."""
    return _rows(
        "select 'o', count(*) from orders union all select 'l', count(*) from lines"
        " union all select 'a', count(*) from audit"
    )


@load()
def db_audit(folder: str) -> list[tuple[Any, ...]]:
    """Rows that only a trigger writes."""
    return _rows("select yarn_id, kg from audit order by id desc limit 5")


@load()
def db_lines(folder: str) -> list[tuple[Any, ...]]:
    """Rows that a cascade deletes."""
    return _rows("select order_id, kg from lines order by id")


@load()
def db_quoted(folder: str) -> list[tuple[Any, ...]]:
    """Rows of a table whose name has a space."""
    return _rows('select "text of note" from "order notes" order by order_id')


@load()
def db_two_statements(folder: str) -> list[Any]:
    """Rows of two tables by one connection; the second statement depends on the first."""
    with closing(_scene.connect()) as connection:
        [(last,)] = connection.execute("select max(id) from orders").fetchall()
        return connection.execute("select kg from lines where order_id = ?", (last,)).fetchall()


@load()
def db_empty_answer(folder: str) -> list[tuple[Any, ...]]:
    """Rows that are seldom there."""
    return _rows("select id from orders where state = 'late' order by id")


@load()
def db_shared_yarns(folder: str) -> list[tuple[Any, ...]]:
    """Rows by a connection that other code may have changed and not committed."""
    rows: list[tuple[Any, ...]]
    rows = _scene.shared.execute("select id, kg from yarns order by id").fetchall()
    return rows


@load()
def db_shared_orders(folder: str) -> list[tuple[Any, ...]]:
    """Number of rows by a connection that other code may have changed and not committed."""
    rows: list[tuple[Any, ...]]
    rows = _scene.shared.execute("select count(*), sum(kg) from orders").fetchall()
    return rows


# Loads that call others.


@load(YARNS)
def card(folder: str, number: int) -> list[Any]:
    """File, price and row of a yarn."""
    return [
        _call(yarn_text, folder, number),
        _call(price, folder, number),
        _call(db_yarn, folder, number),
    ]


@load()
def cards(folder: str) -> list[Any]:
    """Cards of the yarns that a listing has: three levels."""
    numbers = [int(name[1]) for name in _call(yarn_names, folder) if name[1].isdigit()]
    return [_call(card, folder, number) for number in numbers if number < YARNS]


@load()
def page(folder: str) -> list[Any]:
    """Total of a folder beside rows of a table."""
    return [_call(yarn_total, folder), _call(db_open_orders, folder)]


@load()
def dashboard(folder: str) -> list[Any]:
    """Page, tree and settings: its inner loads have inner loads."""
    return [_call(page, folder), _call(tree_total, folder), _call(settings, folder)]


@load()
def branch(folder: str) -> Any:
    """Another inner load by a setting."""
    source = int(_call(settings, folder)["source"])
    return _call((yarn_total, tree_total, db_join)[source], folder)


@load()
def row_by_setting(folder: str) -> Any:
    """Row of a table whose number a file has."""
    return _call(db_yarn, folder, int(_call(settings, folder)["yarn"]))


@load(YARNS)
def staircase(folder: str, number: int) -> list[Any]:
    """Texts of all yarns up to a number, by the same load with a lesser one."""
    below = _call(staircase, folder, number - 1) if number else []
    return [*below, _call(yarn_text, folder, number)]


@load(YARNS)
def weight_or_table(folder: str, number: int) -> Any:
    """Weight in a file, or in a table if the inner load raises."""
    try:
        return _call(yarn_weight, folder, number)
    except (FileNotFoundError, ValueError):
        return _call(db_yarn, folder, number)


@load()
def inner_twice(folder: str) -> list[Any]:
    """One inner load twice, the second time a hit."""
    return [_call(prices, folder), _call(prices, folder)]


@load()
def own_file_after_inner(folder: str) -> list[Any]:
    """A file of the load itself after an inner load has ended."""
    return [_call(rates_number, folder), Path(folder, "bom.json").read_bytes()]


@load()
def inner_in_thread(folder: str) -> list[Any]:
    """An inner load that a thread of the outer one calls."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return [pool.submit(_call, yarn_total, folder).result()]


@load(MONTHS)
def month_share(folder: str, number: int) -> list[Any]:
    """Totals of a folder and of the tree that it lies in."""
    return [_call(month_total, folder, number), _call(tree_total, folder)]


@load()
def outer_of_shared(folder: str) -> list[Any]:
    """Inner loads by a connection that may have changes that are not committed."""
    return [_call(db_shared_yarns, folder), _call(db_shared_orders, folder)]


@load()
def only_the_length(folder: str) -> int:
    """Length of an inner load's answer, of which nothing is returned."""
    return len(_call(db_orders_of_yarn, folder, 1)) + len(_call(drop, folder, 0))


# Loads that a change interrupts.


@load()
def interrupted_after_open(folder: str) -> bytes:
    """Bytes of a file that changes before the load returns."""
    content = Path(folder, "rates.csv").read_bytes()
    _interrupt()
    return content


@load()
def interrupted_between_files(folder: str) -> list[bytes]:
    """Bytes of two files, of which the first changes before the second is read."""
    first = Path(folder, "bom.json").read_bytes()
    _interrupt()
    return [first, Path(folder, "prices.json").read_bytes()]


@load()
def interrupted_listing(folder: str) -> list[str]:
    """Names in a folder that has a new file before the load returns."""
    names = sorted(os.listdir(f"{folder}/yarns"))
    _interrupt()
    return names


@load()
def interrupted_missing(folder: str) -> str:
    """Default for a missing file, which appears before the load returns."""
    answer = override_or_settings(folder)
    _interrupt()
    return answer


@load()
def interrupted_query(folder: str) -> list[tuple[Any, ...]]:
    """Rows of a table that a transaction changes before the load returns."""
    rows = _rows("select id, kg from yarns order by id")
    _interrupt()
    return rows


@load()
def interrupted_outer(folder: str) -> list[Any]:
    """An inner load whose file changes while the outer one goes on."""
    answer = _call(rates_number, folder)
    _interrupt()
    return [answer, "outer"]


@load()
def interrupted_outer_of_table(folder: str) -> list[Any]:
    """An inner load whose table changes while the outer one goes on."""
    answer = _call(db_yarns, folder)
    _interrupt()
    return [answer, "outer"]


INTERRUPTED = {
    "interrupted_after_open": "rates.csv",
    "interrupted_between_files": "bom.json",
    "interrupted_listing": "yarns/y7.csv",
    "interrupted_missing": "override.ini",
    "interrupted_query": "",
    "interrupted_outer": "rates.csv",
    "interrupted_outer_of_table": "",
}
"""Loads that are interrupted, with the file that changes meanwhile, or none for the table of yarns."""


# Changes of files: functions of a path, its name in the folder, and a value.


def _rewrite(path: Path, name: str, value: int) -> None:
    if path.exists():
        with open(path, "r+b") as stream:  # in place: the same inode
            stream.write(_content(name, value))
            stream.truncate()


def _rewrite_longer(path: Path, name: str, value: int) -> None:
    if path.exists():
        path.write_bytes(_content(name, value, 1 + value % 4))


def _rewrite_twice(path: Path, name: str, value: int) -> None:
    _rewrite(path, name, value)
    _rewrite(path, name, value ^ 1)


def _rewrite_unchanged(path: Path, name: str, value: int) -> None:
    if path.exists():
        path.write_bytes(path.read_bytes())


def _replace(path: Path, name: str, value: int) -> None:
    if path.exists():
        other = path.parent.parent / "upload.part"
        other.write_bytes(_content(name, value))
        os.replace(other, path)


def _touched_back(change: Callable[[Path, str, int], None]) -> Callable[[Path, str, int], None]:
    def touch_back(path: Path, name: str, value: int) -> None:
        if path.exists():
            status = path.stat()
            change(path, name, value)
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    return touch_back


def _delete(path: Path, name: str, value: int) -> None:
    path.unlink(missing_ok=True)


def _create(path: Path, name: str, value: int) -> None:
    if not path.exists():
        _written(path, _content(name, value))


def _delete_and_create(path: Path, name: str, value: int) -> None:
    _delete(path, name, value)
    _create(path, name, value)


def _exchange(path: Path, name: str, value: int) -> None:
    """Exchange the names of two yarns' files, which have one size unless lines were added."""
    first, second = (path.parents[1] / "yarns" / f"y{n % YARNS}.csv" for n in (value, value + 1))
    if first.exists() and second.exists():
        aside = first.parent.parent / "aside"
        first.rename(aside)
        second.rename(first)
        aside.rename(second)


def _rename(path: Path, name: str, value: int) -> None:
    other = path.parents[1] / "yarns" / f"y{value % YARNS}.csv"
    if name.startswith("yarns/") and path.exists() and not other.exists():
        path.rename(other)


def _new_name(path: Path, name: str, value: int) -> None:
    """Put a new file into the folder of yarns, or take it away."""
    other = path.parents[1] / "yarns" / f"z{value % 3}.csv"
    if other.exists():
        other.unlink()
    elif other.parent.exists():
        _written(other, _content("yarns/z.csv", value))


def _remove_folder(path: Path, name: str, value: int) -> None:
    if name.startswith(("orders/", "drops/")):
        shutil.rmtree(path.parent, ignore_errors=True)


def _replace_folder(path: Path, name: str, value: int) -> None:
    """Put another folder with one file under the name of a month."""
    if name.startswith("orders/") and path.parent.exists():
        aside = path.parents[2] / "aside"
        path.parent.rename(aside)
        _written(path, _content(name, value))
        shutil.rmtree(aside)


FILE_CHANGES: dict[str, tuple[int, Callable[[Path, str, int], None]]] = {
    "rewritten": (20, _rewrite),
    "rewritten longer": (10, _rewrite_longer),
    "rewritten twice": (5, _rewrite_twice),
    "rewritten unchanged": (3, _rewrite_unchanged),
    "replaced": (12, _replace),
    "touched back": (6, _touched_back(_rewrite)),
    "replaced and touched back": (6, _touched_back(_replace)),
    "deleted": (6, _delete),
    "created": (14, _create),
    "deleted and created": (5, _delete_and_create),
    "exchanged": (4, _exchange),
    "renamed": (4, _rename),
    "new name": (6, _new_name),
    "folder removed": (2, _remove_folder),
    "folder replaced": (4, _replace_folder),
}
"""By kind: weight and change."""
VITAL = ("rates.csv", "history.csv.gz", "prices.json", "bom.json", "settings.ini", "current.txt")
"""Files that are created again soon, since a load of a missing one is an error, which is not kept."""


# Changes of tables.

STATEMENTS: dict[str, tuple[str, ...]] = {
    "update": ("update yarns set kg = :value where id = :yarn",),
    "insert": (
        "insert into orders (yarn_id, kg, state) values (:yarn, :value, 'open')",
        "insert into lines (order_id, kg) select max(id), :value % 100 from orders",
    ),
    "delete with cascade": ("delete from orders where id = (select max(id) from orders)",),
    "delete lines": ("DELETE FROM Lines WHERE id IN (SELECT MAX(id) FROM Lines)",),
    "upsert": (
        (
            "insert into yarns (id, name, kg) values (:yarn, 'yarn', :value)"
            " on conflict (id) do update set kg = excluded.kg, name = 'yarn ' || :yarn"
        ),
    ),
    "replace": ("""replace into "order notes" values (:yarn, 'note ' || :value)""",),
    "replace rows": ("insert or replace into yarns values (:yarn, 'yarn ' || :value, :value)",),
    "delete all": ('delete from "order notes"',),
    "comment": (
        "/* nightly */\n  -- of the mill\n  UPDATE [orders] SET kg = :value WHERE id = :yarn",
    ),
    "schema": ("update main.\"orders\" set state = 'open' where yarn_id = :yarn",),
    "expression": (
        (
            "with old as (select id from orders order by id limit 3)"
            " update orders set state = 'done' where id in (select id from old)"
        ),
    ),
    "late": ("update orders set state = 'late' where id % 7 = :yarn",),
    "copy": (
        (
            "insert into orders (yarn_id, kg, state)"
            " select yarn_id, kg, 'open' from orders order by id limit 1"
        ),
    ),
    "two tables": (
        "update yarns set kg = kg + 1 where id = :yarn",
        "insert or ignore into \"order notes\" values (:value, 'late')",
        "delete from lines where order_id not in (select id from orders)",
    ),
    "no row": ("update yarns set kg = 0 where id = -1",),
    "trim": (
        "delete from orders where id < (select max(id) - 40 from orders)",
        "delete from audit where id < (select max(id) - 40 from audit)",
        'delete from "order notes" where order_id > 100',
    ),
}
"""Statements of a transaction, by name."""


def _execute(connection: Any, operation: Operation) -> None:
    parameters = {"yarn": operation.number % YARNS, "value": operation.value}
    for index, statement in enumerate(STATEMENTS[operation.name]):
        used = {name: value for name, value in parameters.items() if f":{name}" in statement}
        if (operation.value + index) % 2:
            connection.execute(statement, used)
        else:
            connection.cursor().execute(statement, used)


@contextlib.contextmanager
def _writer() -> Iterator[Any]:
    with closing(_scene.connect()) as connection:
        connection.execute("pragma foreign_keys = on")
        connection.execute("pragma synchronous = off")
        yield connection


def _commit(operation: Operation) -> None:
    with _writer() as connection:
        _execute(connection, operation)
        connection.commit()


def _commit_with_block(operation: Operation) -> None:
    with _writer() as connection, connection:
        _execute(connection, operation)


def _commit_many(operation: Operation) -> None:
    rows = [(operation.value + n, n) for n in range(3)]
    with _writer() as connection:
        connection.executemany("update yarns set kg = ? where id = ?", rows)
        connection.commit()


def _commit_twice(operation: Operation) -> None:
    with _writer() as connection:
        _execute(connection, operation)
        connection.commit()
        _execute(connection, operation._replace(value=operation.value // 2))
        connection.commit()


def _commit_after_savepoint(operation: Operation) -> None:
    with _writer() as connection:
        connection.execute("begin")
        _execute(connection, operation)
        connection.execute("savepoint half")
        connection.execute("update yarns set kg = -1")
        connection.execute("rollback to half")
        connection.commit()


def _commit_own_transaction(operation: Operation) -> None:
    """Begin and commit by statements, in a connection that has no transactions itself."""
    with _writer() as connection:
        connection.isolation_level = None
        connection.execute("begin immediate")
        _execute(connection, operation)
        connection.execute("commit")


def _commit_each_statement(operation: Operation) -> None:
    with _writer() as connection:
        connection.isolation_level = None
        _execute(connection, operation)


def _commit_script(operation: Operation) -> None:
    with _writer() as connection:
        connection.executescript(
            f"begin; update yarns set kg = {operation.value} where id = 2;"
            " delete from lines where id = (select min(id) from lines); commit;"
        )


def _roll_back(operation: Operation) -> None:
    with _writer() as connection:
        _execute(connection, operation)
        connection.rollback()


def _close_without_commit(operation: Operation) -> None:
    with _writer() as connection:
        _execute(connection, operation)


def _fail_in_block(operation: Operation) -> None:
    with contextlib.suppress(sqlite3.IntegrityError), _writer() as connection, connection:
        _execute(connection, operation)
        connection.execute("insert into yarns select * from yarns limit 1")


TRANSACTIONS: dict[str, tuple[int, Callable[[Operation], None]]] = {
    "committed": (30, _commit),
    "committed by a block": (15, _commit_with_block),
    "committed by executemany": (4, _commit_many),
    "committed twice": (4, _commit_twice),
    "committed after a savepoint": (4, _commit_after_savepoint),
    "committed by a statement": (5, _commit_own_transaction),
    "committed by each statement": (5, _commit_each_statement),
    "committed by a script": (3, _commit_script),
    "rolled back": (10, _roll_back),
    "closed without a commit": (4, _close_without_commit),
    "failed in a block": (5, _fail_in_block),
}
"""By kind: weight and transaction."""
AROUND = {
    "open meanwhile": 8,
    "not committed in the shared connection": 8,
    "interrupted": 10,
    "rewritten between reads": 10,
    "pause": 16,
}
"""Steps with reads in them, and pauses, by weight."""

WITHIN_THE_GRAIN: dict[str, tuple[tuple[str, int], ...]] = {
    "rates.csv": (("rates_text", 0), ("rates_number", 0), ("own_file_after_inner", 0)),
    "prices.json": (("price", 2), ("inner_twice", 0), ("card", 2)),
    "yarns/y0.csv": (("yarn_text", 0), ("staircase", 1), ("yarn_total", 0)),
    "yarns/z0.csv": (("yarn_names", 0), ("yarn_count", 0), ("yarn_names_by_scandir", 0)),
    "drops/d0.txt": (("drop", 0), ("first_drop", 0), ("drop_names", 0)),
}
"""Files that change several times within a tick of the clock, with loads to read after each change."""


# Operations.


def operations(seed: int, count: int) -> Iterator[Operation]:
    """Yield operations; the same ones for the same seed."""
    chance = random.Random(seed)
    loads = list(LOADS)
    weights = {kind: weight for kind, (weight, _) in (FILE_CHANGES | TRANSACTIONS).items()} | AROUND  # type: ignore[operator]
    kinds, shares = list(weights), list(weights.values())
    for _ in range(count):
        value = chance.randrange(1_000_000)
        if chance.random() < READS:
            name = chance.choice(loads)
            number = int(NUMBERS.get(name, 1) * chance.random() ** 2)
            yield Operation("read", name, number, value)
        else:
            [kind] = chance.choices(kinds, shares)
            yield Operation(kind, _name(chance, kind), chance.randrange(YARNS), value)


def _name(chance: random.Random, kind: str) -> str:
    if kind in FILE_CHANGES:
        return chance.choice(VITAL if kind == "created" and chance.random() < 0.5 else FILES)
    return chance.choice(list(INTERRUPTED if kind == "interrupted" else STATEMENTS))


# The driver.


def run(
    cached: Callable[[Load], Load],
    connect: Connect,
    folder: Path,
    seed: int,
    count: int,
    settle: Callable[[], None] = lambda: None,
) -> list[Stale]:
    """Apply operations under a cache; return the answers that were stale.

    Args:
        cached: decorates a load.
        connect: opens a connection to an empty SQLite database outside of `folder`.
        folder: an empty folder.
        seed: of the operations.
        count: number of operations.
        settle: called after each change.
    """
    return tally(cached, connect, folder, seed, count, settle).stale


def tally(
    cached: Callable[[Load], Load],
    connect: Connect,
    folder: Path,
    seed: int,
    count: int,
    settle: Callable[[], None] = lambda: None,
) -> Tally:
    """Apply operations under a cache; return its numbers. The arguments are those of `run`."""
    _lay_down(folder)
    with closing(connect()) as connection:
        _fill(connection)
    with closing(connect()) as shared:
        _scene.connect, _scene.shared, _scene.pending = connect, shared, None
        driver = _Driver({name: cached(load) for name, load in LOADS.items()}, folder, settle)
        for step, operation in enumerate(operations(seed, count)):
            driver.step = step
            driver.apply(operation)
    return driver.tally


@dataclass
class _Driver:
    """One run.

    Attributes:
        loads: decorated loads by name.
        folder: the folder of the files.
        settle: called after each change.
        tally: the numbers so far.
        step: number of the operation.
        change: the last change.
    """

    loads: Mapping[str, Load]
    folder: Path
    settle: Callable[[], None]
    tally: Tally = field(default_factory=Tally)
    step: int = 0
    change: str = "the start"

    def apply(self, operation: Operation) -> None:
        """Apply one operation."""
        if operation.kind == "read":
            self.judge(operation.name, operation.number)
            return
        self.change = f"{operation.kind}: {operation.name}"
        self.tally.changes[operation.kind] += 1
        if operation.kind in FILE_CHANGES:
            change = FILE_CHANGES[operation.kind][1]
            change(self.folder / operation.name, operation.name, operation.value)
            self.settle()
        elif operation.kind in TRANSACTIONS:
            TRANSACTIONS[operation.kind][1](operation)
            self.settle()
        elif operation.kind == "pause":
            time.sleep(PAUSE_S)
        elif operation.kind == "open meanwhile":
            self.read_while_open(operation)
        elif operation.kind == "interrupted":
            self.interrupt(operation)
        elif operation.kind == "rewritten between reads":
            self.read_between_changes(operation)
        else:
            self.read_what_is_not_committed(operation)

    def judge(self, name: str, number: int) -> None:
        """Read a decorated load and compare it with the load itself."""
        answer = self.outcome(self.loads, name, number)
        fresh = self.outcome(LOADS, name, number)
        self.tally.reads += 1
        if answer != fresh:
            row = Stale(self.step, name, number, answer, fresh, self.change)
            self.tally.stale.append(row)

    def outcome(self, loads: Mapping[str, Load], name: str, number: int) -> tuple[str, object]:
        """Return the answer of a load, or the type of its error."""
        _scene.inner = loads
        arguments = (number,) if name in NUMBERS else ()
        try:
            return "value", loads[name](str(self.folder), *arguments)
        except Exception as error:  # any error is an outcome
            return "error", type(error).__name__

    def read_while_open(self, operation: Operation) -> None:
        """Read tables while a transaction is open, then end it and read again."""
        names = ("db_yarns", "db_open_orders", "db_view", "card", "db_audit")
        with _writer() as connection:
            _execute(connection, operation)
            self.settle()
            for name in names:
                self.judge(name, operation.number % YARNS)
            connection.rollback() if operation.value % 3 == 0 else connection.commit()
            self.settle()
        for name in names:
            self.judge(name, operation.number % YARNS)

    def read_what_is_not_committed(self, operation: Operation) -> None:
        """Read by the connection whose changes are not committed, then mostly take them back."""
        names = ("db_shared_yarns", "db_shared_orders", "outer_of_shared")
        _execute(_scene.shared, operation)
        self.settle()
        for name in names:
            self.judge(name, 0)
        if operation.value % 3 == 0:
            _scene.shared.commit()
        else:
            _scene.shared.rollback()
        self.settle()
        for name in (*names, "db_yarns", "db_open_orders"):
            self.judge(name, 0)

    def read_between_changes(self, operation: Operation) -> None:
        """Change a file four times and read it after each change, all within a few milliseconds."""
        name, loads = list(WITHIN_THE_GRAIN.items())[operation.number % len(WITHIN_THE_GRAIN)]
        path = self.folder / name
        for change in range(4):
            if name.startswith("yarns/z") and path.exists():
                path.unlink()
            else:
                _written(path, _content(name, operation.value ^ change))
            self.settle()
            for load_name, number in loads:
                self.judge(load_name, number)

    def interrupt(self, operation: Operation) -> None:
        """Let a load begin on files that are old enough, and change them before it returns."""
        name, file = operation.name, INTERRUPTED[operation.name]
        self.change_of(file, operation)  # so that the load is not a hit
        time.sleep(PAUSE_S)
        _scene.pending = functools.partial(
            self.change_of, file, operation._replace(value=(operation.value + 17) % 1_000_000)
        )
        self.outcome(self.loads, name, 0)  # old or new: both are right
        _interrupt()  # if it was a hit
        self.settle()
        self.judge(name, 0)
        time.sleep(PAUSE_S)
        self.judge(name, 0)

    def change_of(self, file: str, operation: Operation) -> None:
        """Change a file, or a row of the table of yarns without one."""
        if not file:
            _commit(operation._replace(name="update"))
        elif file in ("override.ini", "yarns/y7.csv") and (self.folder / file).exists():
            (self.folder / file).unlink()
        else:
            _written(self.folder / file, _content(file, operation.value))
        self.settle()


def _main() -> int:
    unexpected = 0
    for label, cached in (("no cache", lambda load: load), ("lru_cache", functools.lru_cache)):
        with tempfile.TemporaryDirectory() as folder:
            connect = functools.partial(sqlite3.connect, Path(folder) / "mill.db")
            files = Path(folder) / "files"
            files.mkdir()
            start = time.perf_counter()
            numbers = tally(cached, connect, files, seed=1, count=20_000)
            seconds = time.perf_counter() - start
        loads = {row.load for row in numbers.stale}
        unexpected += bool(numbers.stale) != (cached is functools.lru_cache)
        print(f"{label}: {numbers.reads} reads of {len(LOADS)} loads, "
              f"{numbers.changes.total()} changes of {len(numbers.changes)} kinds, "
              f"{len(numbers.stale)} stale answers of {len(loads)} loads, {seconds:.1f} s")  # fmt: skip
        for row in numbers.stale[:0] if cached is functools.lru_cache else numbers.stale[:5]:
            print(row)
    return unexpected


if __name__ == "__main__":
    sys.exit(_main())
