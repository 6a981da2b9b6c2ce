"""State of a connection on which a cached query depends: its database, its settings, its transaction.

Equal statements have different results on another database, for another role, with another search path
or time zone. So the settings of the session are part of the key. They are read once for a connection,
and again after each statement that may have changed them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from ...caching.keys import Encoding
from ...storage.versions import slot
from .catalog import Catalog, postgres_catalog, sqlite_catalog
from .connection_writes import SCHEMA, ConnectionWrites

CATALOG_S = 600.0
"""Seconds after which the catalog of a database is read again: others may have changed it."""
MAX_CATALOGS = 50
"""Number of databases whose catalogs are kept."""

_POSTGRES_SETTINGS = (
    "search_path", "TimeZone", "DateStyle", "IntervalStyle", "bytea_output", "extra_float_digits",
    "client_encoding", "lc_numeric", "lc_monetary", "lc_time", "default_transaction_isolation",
    "standard_conforming_strings", "transform_null_equals", "xmlbinary", "row_security",
)  # fmt: skip
_POSTGRES_SESSION = (
    "SELECT current_database(), pg_postmaster_start_time()::text, current_user, session_user,"
    " pg_is_in_recovery(), pg_my_temp_schema() <> 0, "
    + ", ".join(f"current_setting('{name}')" for name in _POSTGRES_SETTINGS)
)
_RECOVERY, _TEMPORARY = 4, 5
_DEFAULT_ISOLATION = 6 + _POSTGRES_SETTINGS.index("default_transaction_isolation")
_ISOLATION_LEVELS = {  # of the drivers' numbers
    "psycopg": ("", "read uncommitted", "read committed", "repeatable read", "serializable"),
    "psycopg2": ("", "read committed", "repeatable read", "serializable", "read uncommitted"),
}
_LATEST_DATA = frozenset({"read committed", "read uncommitted"})
"""Isolation levels at which each statement sees what was committed before it."""


class Source(Protocol):
    """A connection on which queries are run.

    Attributes:
        database: number of the database, or of a way to connect to one.
        kind: of database, such as ``postgresql``.
        driver: the driver's connection.
        writes: of its transaction.
        has_unseen_settings: whether code may change the settings of the session past this package.
    """

    database: int
    kind: str
    driver: Any
    writes: ConnectionWrites
    has_unseen_settings: bool

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement of this package; return its rows."""


class Settings(NamedTuple):
    """Settings of a session on which results depend.

    Attributes:
        values: of the settings.
        digest: of the values, for keys.
    """

    values: tuple[Any, ...] = ()
    digest: bytes = b""


class SessionState(NamedTuple):
    """State of a connection.

    Attributes:
        bypass: why its queries bypass the cache now, empty if they do not.
        settings: of its session.
    """

    bypass: str
    settings: Settings = Settings()


def state_of(source: Source) -> SessionState:
    """Return the state of a connection.

    Raises:
        Exception: that of the driver.
    """
    writes = source.writes
    if writes.tables:
        return SessionState("its transaction has written")
    if writes.has_temporary_tables:
        return SessionState("its session has temporary tables")
    if source.kind == "postgresql":
        return _postgres_state(source)
    if source.kind == "sqlite":
        return _sqlite_state(source)
    return SessionState(f"sessions of {source.kind} cannot be read")


def _settings(source: Source, read: Callable[[], tuple[Any, ...]]) -> Settings:
    """Return the settings of a session, read if they are not known."""
    settings = None if source.has_unseen_settings else source.writes.session
    if settings is None:
        encoding = Encoding()
        encoding.add((source.database, values := read()))
        settings = Settings(values, encoding.digest())
        if not source.writes.is_session_changed:
            source.writes.session = settings
    return settings


def _postgres_state(source: Source) -> SessionState:
    driver = source.driver
    name = type(driver).__module__.partition(".")[0]
    status = getattr(getattr(driver, "info", None), "transaction_status", None)
    if name not in _ISOLATION_LEVELS or status is None:
        return SessionState(f"sessions of the driver {name} cannot be read")
    if int(status) not in (0, 2):  # idle, or in a transaction; a failed one ends in an error anyway
        return SessionState("its transaction has failed")
    if int(getattr(driver.info, "pipeline_status", 0)):
        return SessionState("its connection is a pipeline")
    if source.writes.has_own_isolation:
        return SessionState("its transaction has an isolation level that is not known")
    settings = _settings(source, lambda: source.query(_POSTGRES_SESSION)[0])
    values = settings.values
    if values[_RECOVERY]:
        return SessionState("its server is a copy, which lags behind")
    if values[_TEMPORARY]:
        return SessionState("its session has temporary tables")
    level = getattr(driver, "isolation_level", None)
    number = None if level is None else int(level)
    isolation = (
        values[_DEFAULT_ISOLATION] if number is None else _ISOLATION_LEVELS[name][number]
    ) or values[_DEFAULT_ISOLATION]
    is_single = int(status) == 0 and getattr(driver, "autocommit", False)
    if isolation not in _LATEST_DATA and not is_single:
        return SessionState(f"its isolation level is {isolation.upper()}")
    return SessionState("", settings)


def _sqlite_state(source: Source) -> SessionState:
    driver = source.driver
    if getattr(driver, "in_transaction", True):
        return SessionState("its transaction may see older data")
    settings = _settings(source, lambda: _sqlite_settings(source))
    if settings.values[0]:
        return SessionState("its session reads uncommitted data, or has temporary tables")
    return SessionState("", settings)


def _sqlite_settings(source: Source) -> tuple[Any, ...]:
    """Return whether results cannot be cached, then the files of the session."""
    query = source.query
    [(reads_uncommitted,)] = query("PRAGMA read_uncommitted")
    [(case_sensitive,)] = query("SELECT 'a' LIKE 'A'")
    [(temporary,)] = query("SELECT count(*) FROM sqlite_temp_master")
    files = [(name, file) for _, name, file in query("PRAGMA database_list")]
    own = () if all(file for name, file in files if name != "temp") else (source.writes.number,)
    return (bool(reads_uncommitted or temporary), case_sensitive, *files, *own)


class _Kept(NamedTuple):
    catalog: Catalog
    read_at: float
    version: tuple[int, ...]


class Catalogs:
    """Catalogs of the databases of this process.

    Args:
        take: returns the versions of some slots.
        clock: returns monotonic time in seconds.
    """

    def __init__(
        self, take: Callable[[tuple[int, ...]], tuple[int, ...]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._take, self._clock = take, clock
        self._kept: dict[Any, _Kept] = {}

    def schema_version(self) -> tuple[int, ...]:
        """Return the version of all schemas."""
        return self._take((slot(SCHEMA),))

    def of(self, source: Source, settings: Settings) -> tuple[Catalog, tuple[int, ...]]:
        """Return the catalog of the database of a connection, and the version of the schema before.

        Args:
            source: the connection.
            settings: of its session.

        Raises:
            Exception: that of the driver.
        """
        is_postgres = source.kind == "postgresql"
        key = source.database, settings.values[:2] if is_postgres else settings.values
        version = self.schema_version()  # before it is read
        kept = self._kept.get(key)
        now = self._clock()
        if kept is not None and kept.version == version and now - kept.read_at < CATALOG_S:
            return kept.catalog, version
        read = postgres_catalog if is_postgres else sqlite_catalog
        catalog = read(source.query, frozenset())
        if len(self._kept) >= MAX_CATALOGS:
            self._kept.clear()
        self._kept[key] = _Kept(catalog, now, version)
        return catalog, version
