"""The mill's SQLite database: customers, orders, invoices and a ledger without an index.

Two files are written: `mill.sqlite3`, where the ledger's column has no index (the plant), and
`mill_indexed.sqlite3`, the same after the migration that `DEMO_FIXED` stands for.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from demo_app.mill.draw import Draw
from demo_app.sizes import Sizes

PLAIN, INDEXED = "mill.sqlite3", "mill_indexed.sqlite3"
CUSTOMERS, INVOICES_EACH = 50, 130

_SCHEMA = """
CREATE TABLE customers (customer_no TEXT PRIMARY KEY, name TEXT NOT NULL, terms TEXT NOT NULL);
CREATE TABLE styles (style_no TEXT PRIMARY KEY, fabric TEXT, finish TEXT);
CREATE TABLE stock (yarn_id INTEGER PRIMARY KEY, colour TEXT, description TEXT, balance REAL);
CREATE TABLE orders (order_no TEXT PRIMARY KEY, customer_no TEXT NOT NULL, due TEXT NOT NULL);
CREATE TABLE order_lines (id INTEGER PRIMARY KEY, order_no TEXT NOT NULL, style_no TEXT NOT NULL,
    pounds REAL NOT NULL);
CREATE INDEX order_lines_order ON order_lines (order_no);
CREATE TABLE invoices (invoice_no TEXT PRIMARY KEY, customer_no TEXT NOT NULL,
    amount INTEGER NOT NULL);
CREATE INDEX invoices_customer ON invoices (customer_no);
CREATE TABLE web_orders (order_no TEXT PRIMARY KEY, style_no TEXT NOT NULL, pounds REAL NOT NULL);
CREATE TABLE cancellations (order_no TEXT PRIMARY KEY);
"""


def write(folder: Path, draw: Draw, sizes: Sizes, frames: dict[str, pd.DataFrame]) -> None:
    """Writes both database files into `folder`."""
    table, column = sizes.ledger
    path = folder / PLAIN
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.executescript(_SCHEMA)
        connection.execute(
            f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, {column} TEXT NOT NULL,"
            " amount INTEGER NOT NULL, memo TEXT)"
        )
        connection.execute("BEGIN")
        _fill(connection, draw, frames)
        _ledger(connection, draw, sizes)
        connection.execute("COMMIT")
    shutil.copyfile(path, folder / INDEXED)
    with closing(sqlite3.connect(folder / INDEXED, isolation_level=None)) as connection:
        connection.execute(f"CREATE INDEX {table}_{column} ON {table} ({column})")
    for name in (PLAIN, INDEXED):  # readers and writers of several workers side by side
        with closing(sqlite3.connect(folder / name)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")


def _fill(connection: sqlite3.Connection, draw: Draw, frames: dict[str, pd.DataFrame]) -> None:
    rng = draw.rng
    customers = [f"C{n:03d}" for n in range(CUSTOMERS)]
    _insert(connection, "customers", ((c, f"Customer {c[1:]}", "Net 30") for c in customers))
    styles = frames["styles"].drop_duplicates("Style")
    rows = styles[["Style", "Fabric", "Finish"]].itertuples(index=False, name=None)
    _insert(connection, "styles", rows)
    yarn = frames["yarn_inventory"]
    columns = ["Desc#", "Color", "Description", "Planning Balance"]
    _insert(connection, "stock", yarn[columns].itertuples(index=False, name=None))
    count = draw.count(2000, 60)
    owners = rng.integers(0, CUSTOMERS, count).tolist()
    due = draw.dates(count).astype(str).tolist()
    numbers = [f"S{n:06d}" for n in range(count)]
    orders = ((n, customers[o], d) for n, o, d in zip(numbers, owners, due, strict=True))
    _insert(connection, "orders", orders)
    known = styles["Style"].tolist()
    drawn = rng.integers(0, len(known), count * 10).tolist()
    pounds = draw.amounts(count * 10, 5, 900).tolist()
    lines = (
        (row + 1, numbers[row // 10], known[style], amount)
        for row, (style, amount) in enumerate(zip(drawn, pounds, strict=True))
    )
    _insert(connection, "order_lines", lines)


def _ledger(connection: sqlite3.Connection, draw: Draw, sizes: Sizes) -> None:
    """Invoices of every customer and the ledger's rows; amounts are cents, so sums are exact."""
    rng = draw.rng
    count = CUSTOMERS * INVOICES_EACH
    cents = rng.integers(1000, 900_000, count).tolist()
    invoices = (
        (f"I{row:06d}", f"C{row % CUSTOMERS:03d}", amount) for row, amount in enumerate(cents)
    )
    _insert(connection, "invoices", invoices)
    rows = max(200, round(sizes.ledger_rows * min(1.0, draw.scale)))
    owner = rng.integers(0, count, rows).tolist()
    paid = rng.integers(10, 5000, rows).tolist()
    entries = (
        (row + 1, f"I{o:06d}", p, "wire transfer")
        for row, (o, p) in enumerate(zip(owner, paid, strict=True))
    )
    _insert(connection, sizes.ledger[0], entries)


def _insert(connection: sqlite3.Connection, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
    ready = [tuple(_plain(value) for value in row) for row in rows]
    if ready:
        marks = ", ".join("?" * len(ready[0]))
        connection.executemany(f"INSERT INTO {table} VALUES ({marks})", ready)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
