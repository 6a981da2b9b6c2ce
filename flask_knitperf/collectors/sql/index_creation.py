"""Runs ``CREATE INDEX`` statements of the index advice, for a caller who chose to apply them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ...core.errors import KnitPerfError
from .sqlalchemy import instrumented_engines

_CREATE = "CREATE INDEX "


def only_engine() -> Any:
    """Return the only instrumented engine of this process.

    Raises:
        KnitPerfError: there is none, or more than one.
    """
    engines = instrumented_engines()
    if len(engines) != 1:
        raise KnitPerfError(
            f"there are {len(engines)} instrumented engines; pass engine= to name the one whose tables "
            "get the indexes"
        )
    return engines[0]


def create_indexes(engine: Any, statements: Iterable[str]) -> list[str]:
    """Run statements, each in a transaction, and return them as they were run.

    An index of the same name stays as it is (``IF NOT EXISTS``). While PostgreSQL creates an index,
    writes to its table wait.

    Args:
        engine: a synchronous engine of SQLAlchemy.
        statements: ``CREATE INDEX``.

    Raises:
        KnitPerfError: the engine is asynchronous.
        Exception: that of the driver; indexes created before it stay.
    """
    if getattr(engine.dialect, "is_async", False):
        raise KnitPerfError("an asynchronous engine cannot create indexes here; run the statements")
    executed = []
    for statement in statements:
        sql = statement.replace(_CREATE, f"{_CREATE}IF NOT EXISTS ", 1)
        with engine.begin() as connection:
            connection.exec_driver_sql(sql)
        executed.append(sql)
    return executed
