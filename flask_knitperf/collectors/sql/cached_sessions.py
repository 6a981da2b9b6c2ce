"""A block in which the sessions of SQLAlchemy answer their selects of columns from the cache of queries.

SQLAlchemy has an event for that (``do_orm_execute``), whose listener may return another result. There is
none for connections without a session, so their statements are run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from ...caching.query_cache import NAMESPACE
from ...core.errors import KnitPerfError
from .cached_queries import CachedQueries, QueryOptions
from .query_sources import AlchemySource

_STREAMS = ("stream_results", "yield_per")


class _Block(NamedTuple):
    queries: CachedQueries
    options: QueryOptions


_BLOCK: ContextVar[_Block | None] = ContextVar("knitperf_cached_queries", default=None)


@contextmanager
def cached_block(queries: Callable[[], CachedQueries], options: QueryOptions) -> Iterator[None]:
    """Answer the selects of sessions from the cache within the block.

    Args:
        queries: returns the cache.
        options: of the queries.
    """
    from sqlalchemy import event
    from sqlalchemy.orm import Session

    if not event.contains(Session, "do_orm_execute", _answer):
        event.listen(Session, "do_orm_execute", _answer)
    token = _BLOCK.set(_Block(queries(), options))
    try:
        yield
    finally:
        _BLOCK.reset(token)


def _answer(state: Any) -> Any:
    """Return the result of a select, ``None`` to have it executed as always."""
    block = _BLOCK.get()
    if block is None or not state.is_select or state.is_column_load or state.is_relationship_load:
        return None
    token = _BLOCK.set(None)  # what the load executes is not looked up again
    try:
        return _result(state, block)
    finally:
        _BLOCK.reset(token)


def _result(state: Any, block: _Block) -> Any:
    from sqlalchemy.engine.result import IteratorResult, SimpleResultMetaData

    session, statement, parameters = state.session, state.statement, state.parameters
    if any(state.execution_options.get(name) for name in _STREAMS):
        return None
    publishes = block.queries.cache.publishes()
    connection = session.connection(bind_arguments=dict(state.bind_arguments))
    try:
        source = AlchemySource(connection, session)
        identified = source.identify(statement, parameters)
    except KnitPerfError as refused:  # objects, or an engine that is not watched
        block.queries.cache.refuse(NAMESPACE, str(refused).partition(":")[0])
        return None
    plan = block.queries.plan(source, identified, block.options)
    if plan.call is None:
        block.queries.count(plan)
        return None
    columns, rows = block.queries.look_up(
        plan, source, lambda _: source.execute(statement, parameters), publishes
    )
    return IteratorResult(
        SimpleResultMetaData(columns, _column_keys(statement, columns)), iter(rows)
    )


def _column_keys(statement: Any, names: tuple[str, ...]) -> list[tuple[Any, ...]] | None:
    """Return the keys of rows besides their names: attributes of classes, and columns."""
    described = getattr(statement, "column_descriptions", [])
    if len(described) != len(names):
        return None
    keys: list[tuple[Any, ...]] = []
    for one in described:
        expression = one["expr"]
        element = getattr(expression, "__clause_element__", lambda: None)()
        columns = getattr(getattr(expression, "property", None), "columns", ())
        keys.append((expression, *(() if element is None else (element,)), *columns[:1]))
    return keys
