"""Frames of ``pandas.read_sql``, answered from the cache of queries.

Each caller gets a separate frame. Chunks, names of tables and addresses of databases are passed on.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from ...caching.read_cache import pandas_options
from ...core.errors import KnitPerfError
from .cached_queries import CachedQueries, QueryOptions

READERS = ("read_sql", "read_sql_query")
"""Names of the functions of pandas that are cached."""
_NOT_IN_KEY = frozenset({"sql", "con", "params", "chunksize"})


def is_reader(function: Any) -> bool:
    """Return whether a function is one of pandas that runs a query."""
    module = str(getattr(function, "__module__", "")).partition(".")[0]
    return module == "pandas" and getattr(function, "__name__", "") in READERS


def cached_reader(
    reader: Callable[..., Any], queries: Callable[[], CachedQueries], options: QueryOptions
) -> Callable[..., Any]:
    """Return a function like a reader of pandas whose frames are cached.

    Args:
        reader: ``pandas.read_sql`` or ``pandas.read_sql_query``.
        queries: returns the cache.
        options: of the queries.
    """
    signature = inspect.signature(reader)

    @functools.wraps(reader)
    def read(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        arguments = dict(bound.arguments)
        statement, connection = arguments["sql"], arguments["con"]
        reason = _obstacle(arguments)
        if reason:
            queries().cache.refuse(f"pandas {reader.__name__}", reason)
            return reader(*args, **kwargs)
        rest = {name: value for name, value in arguments.items() if name not in ("sql", "con")}
        form = tuple((name, value) for name, value in arguments.items() if name not in _NOT_IN_KEY)
        chosen = options._replace(form=(reader.__name__, form, pandas_options()))
        return queries().answer(
            statement, connection, arguments["params"], chosen,
            lambda source: reader(statement, source.connection, **rest),
        )  # fmt: skip

    return read


def _obstacle(arguments: dict[str, Any]) -> str:
    """Return why a call of a reader is passed on, empty if it may be cached."""
    statement = arguments["sql"]
    if arguments.get("chunksize") is not None:
        return "it reads in chunks"
    if isinstance(arguments["con"], str):
        return "it connects by itself; pass an engine"
    if isinstance(statement, str) and len(statement.split()) < 2:
        return "it reads a table by its name; pass a query"
    return ""


def reader_of(function: Any) -> Callable[..., Any]:
    """Return a function that is a reader of pandas.

    Raises:
        KnitPerfError: it is another function.
    """
    if not is_reader(function):
        name = getattr(function, "__name__", type(function).__name__)
        raise KnitPerfError(
            f"queries.cached takes a query with its connection, or {' or '.join(READERS)} of pandas, "
            f"not {name}; perf.cache.cached caches functions"
        )
    reader: Callable[..., Any] = function
    return reader
