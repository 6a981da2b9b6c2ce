"""Reading the mill: each table once per process, at its first use.

Healthy endpoints and every repaired one read through here. The planted ones go to the files
themselves, by `path`, on each request.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from demo_app.mill import database, postgres

Connect = Callable[..., Any]


class Mill:
    """The generated tables of one folder.

    Args:
        folder: written by `generate`.
        fixed: True opens the database that has the missing index.
        database_url: a PostgreSQL server to copy the database to; empty for the SQLite file itself.
        pool_size: connections to that server which one process keeps, 0 for the usual number.

    Attributes:
        connect: what opens the database, the driver's `connect` or one that watches it.
        engine: of whose pool the connections are; None for the SQLite file.
    """

    def __init__(
        self, folder: Path, fixed: bool = False, database_url: str = "", pool_size: int = 0
    ) -> None:
        self.folder = folder
        self.fixed = fixed
        self._file = folder / (database.INDEXED if fixed else database.PLAIN)
        self._url = database_url
        self._schema = postgres.load(database_url, self._file) if database_url else ""
        self.connect: Connect = postgres.driver() if database_url else sqlite3.connect
        self.engine: Any = None
        if database_url:
            self.engine = postgres.pool(database_url, pool_size, self._open)
        self._frames: dict[str, pd.DataFrame] = {}
        self._lock = threading.Lock()

    def path(self, name: str) -> Path:
        """The file of a table or workbook, CSV where there is one, else XLSX."""
        csv = self.folder / f"{name}.csv"
        return csv if csv.exists() else self.folder / f"{name}.xlsx"

    def table(self, name: str) -> pd.DataFrame:
        """A table as a shared frame, read once; do not change it."""
        frame = self._frames.get(name)
        if frame is None:
            with self._lock:
                frame = self._frames.get(name)
                if frame is None:
                    frame = self._read(name)
                    self._frames[name] = frame
        return frame

    def warm(self, *names: str) -> None:
        """Reads tables before the first request needs them."""
        for name in names:
            self.table(name)

    def open_database(self) -> Any:
        """A connection, rows addressed by position; the caller closes it."""
        if self.engine is not None:
            return postgres.Connection(self.engine.raw_connection())
        connection = self.connect(str(self._file), timeout=10.0, isolation_level=None)
        connection.execute("PRAGMA synchronous = OFF")  # a demo's orders may be lost with power
        return connection

    def _open(self) -> Any:
        options = f"-c search_path={self._schema} -c synchronous_commit=off"
        return self.connect(self._url, autocommit=True, options=options)

    def _read(self, name: str) -> pd.DataFrame:
        path = self.path(name)
        if path.suffix == ".xlsx":
            return pd.read_excel(path)
        return pd.read_csv(path, dtype=str if name == "styles" else None)
