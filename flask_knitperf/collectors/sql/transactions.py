"""Transactions of wrapped DB-API connections: what they have written, when others see it.

Each function takes the wrapper (:class:`.TimedConnection`), whose writes it publishes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

from ...core.host_exceptions import raise_if_of_host
from .connection_writes import ALL_TABLES
from .written_tables import WRITTEN_TABLES

log = logging.getLogger("flask_knitperf")


@contextmanager
def transaction(connection: Any, begin: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Open a transaction of psycopg, which commits at its end, or a savepoint."""
    try:
        with begin(*args, **kwargs) as begun:
            try:
                yield begun
            finally:
                WRITTEN_TABLES.before_end(connection._writes)
    finally:
        if _is_idle(connection._real):
            WRITTEN_TABLES.on_end(connection._writes)
        else:  # a savepoint, whose transaction goes on
            WRITTEN_TABLES.on_savepoint(connection._writes)


PREPARED_ENDS = frozenset({"tpc_commit", "tpc_rollback"})
"""Methods that may end a transaction which another connection has prepared (PEP 249)."""


def end_prepared(connection: Any, end: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Commit or roll back a prepared transaction."""
    connection._writes.tables.add(ALL_TABLES)
    WRITTEN_TABLES.before_end(connection._writes)
    try:
        return end(*args, **kwargs)
    finally:
        WRITTEN_TABLES.on_end(connection._writes)


def track_tables(connection: Any, statement: Any) -> None:
    """Publish the tables that a statement has written. Never raises."""
    try:
        writes = connection._writes
        WRITTEN_TABLES.on_execute(statement, writes)
        if (writes.tables or writes.is_session_changed) and _is_idle(
            connection._real
        ):  # the statement has committed them
            WRITTEN_TABLES.on_end(writes)
    except Exception as error:
        raise_if_of_host(error)
        log.exception("flask_knitperf: versions of tables failed; the statement was sent")


def _is_idle(real: Any) -> bool:
    """Return whether a connection of SQLite or psycopg has no transaction, as in autocommit mode."""
    if getattr(real, "in_transaction", None) is False:
        return True
    return getattr(getattr(real, "info", None), "transaction_status", None) == 0
