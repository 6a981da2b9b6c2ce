"""Cached results of queries: key and dependencies of a statement, and whether it bypasses the cache.

A call runs its query unless everything is understood: the statement, the session of its connection, and
what else may change the tables that it reads. Whatever prevents that is counted with its reason. A
failure of this code is logged, and the query is run.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypedDict

from ...caching.invalidation import tag_slot
from ...caching.keys import Encoding
from ...caching.query_cache import NAMESPACE, NOT_PUBLISHED, QueryCache, QueryCall
from ...core.errors import CacheKeyError
from ...core.host_exceptions import raise_if_of_host
from ...storage.versions import slot
from .cacheable import KEYWORDS, facts_of
from .catalog import Catalog
from .connection_writes import SCHEMA
from .fingerprint import FINGERPRINTS
from .query_sessions import Catalogs, state_of
from .query_sources import AlchemySource, Statement, WrappedSource, source_of

log = logging.getLogger("flask_knitperf")
MAX_TEXTS = 1000
"""Number of statements whose dependencies are kept."""
_NAME_CHARS = 60
_WORDS = re.compile(r"[\w$]+")


class QueryOptions(NamedTuple):
    """Options of a cached query.

    Attributes:
        ttl: seconds until a result expires.
        tags: names by which results are invalidated too.
        vary: a further part of the key, which stands for what listeners change; ``None`` for nothing.
        form: what distinguishes results of other forms, such as frames.
    """

    ttl: float
    tags: tuple[str, ...] = ()
    vary: Any = None
    form: Any = "rows"


class QueryExplanation(TypedDict):
    """State of one call of a cached query, in this process.

    Attributes:
        statement: its fingerprint.
        cached: whether a call would be answered from the cache now.
        bypassed: why a call runs the query now, ``None`` if it need not.
        refused: why its result is never cached, ``None`` if it may be.
        tables: relations on whose writes it depends, as far as the catalog has them.
    """

    statement: str
    cached: bool
    bypassed: str | None
    refused: str | None
    tables: list[str]


class Plan(NamedTuple):
    """One call, and the way in which it is answered.

    Attributes:
        name: under which it is counted.
        statement: its fingerprint.
        refused: why its result is never cached, empty if it may be.
        bypassed: why it runs the query now, empty if it need not.
        call: for the cache, ``None`` if it runs the query.
        schema: version of the schema for which ``tables`` are right.
        tables: on whose writes it depends.
    """

    name: str
    statement: str
    refused: str = ""
    bypassed: str = ""
    call: QueryCall | None = None
    schema: tuple[int, ...] = ()
    tables: frozenset[str] = frozenset()


class CachedQueries:
    """Answers queries from the cache.

    Args:
        cache: the results.
        obstacle: returns why no query of this process may be cached, empty if they may.
    """

    def __init__(self, cache: QueryCache, obstacle: Callable[[], str]) -> None:
        self.cache, self._obstacle = cache, obstacle
        self._catalogs = Catalogs(cache.take)
        # by the hash of a statement and its length: no text is stored
        self._slots: dict[
            tuple[int, int], tuple[Catalog, frozenset[str], str, tuple[int, ...]]
        ] = {}

    def answer(
        self, statement: Any, connection: Any, parameters: Any, options: QueryOptions,
        load: Callable[[AlchemySource | WrappedSource], Any],
    ) -> Any:  # fmt: skip
        """Return the result of a query.

        Args:
            statement: the query.
            connection: see :func:`.source_of`.
            parameters: of the query.
            options: of the call.
            load: runs the query on the connection that it is passed; returns a new result.

        Raises:
            KnitPerfError: the statement selects objects, or the connection is not watched.
            Exception: that of the query.
        """
        publishes = self.cache.publishes()  # before a transaction of this connection begins
        with source_of(connection, statement) as source:
            plan = self.plan(source, source.identify(statement, parameters), options)
            if plan.call is None:
                self.count(plan)
                return load(source)
            return self.look_up(plan, source, load, publishes)

    def look_up(
        self, plan: Plan, source: Any, load: Callable[[Any], Any], publishes: bool
    ) -> Any:  # fmt: skip
        """Return the result of a call from the cache, or load it.

        Args:
            plan: of the call.
            source: its connection.
            load: runs the query on the connection; returns a new result.
            publishes: whether all writes moved versions already when it began.

        Raises:
            Exception: that of the query.
        """

        def check() -> str:
            """Return why a result is not cached that was just loaded, empty if it may be."""
            if source.writes.tables:
                return "the query has written"
            if self._catalogs.schema_version() != plan.schema:
                return "the schema was changed meanwhile"
            return "" if publishes else NOT_PUBLISHED

        assert plan.call is not None
        return self.cache.answer(plan.call, functools.partial(load, source), check)

    def count(self, plan: Plan) -> None:
        """Count a call that runs its query."""
        if plan.bypassed:
            self.cache.bypass(plan.name, plan.bypassed)
        else:
            self.cache.refuse(plan.name, plan.refused)

    def explain(
        self, statement: Any, connection: Any, parameters: Any, options: QueryOptions
    ) -> QueryExplanation:
        """Return the state of a call; the query is not run."""
        self.cache.publishes()
        with source_of(connection, statement) as source:
            plan = self.plan(source, source.identify(statement, parameters), options)
        return {
            "statement": plan.statement,
            "cached": plan.call is not None and self.cache.is_cached(plan.call),
            "bypassed": plan.bypassed or None, "refused": plan.refused or None,
            "tables": sorted(plan.tables),
        }  # fmt: skip

    def plan(self, source: Any, statement: Statement, options: QueryOptions) -> Plan:
        """Return the way in which a call is answered.

        Args:
            source: its connection.
            statement: that of :meth:`.AlchemySource.identify`.
            options: of the call.
        """
        fingerprint = FINGERPRINTS.of(statement.text)
        plan = Plan(_name(fingerprint.id, fingerprint.text), fingerprint.text)
        try:
            return self._planned(plan, source, statement, options)
        except CacheKeyError as error:
            return plan._replace(refused=f"a parameter has no content that could be a key: {error}")
        except Exception as error:
            raise_if_of_host(error)
            log.exception("flask_knitperf: a query is not cached; it was run")
            return plan._replace(refused=f"{type(error).__name__} while it was looked up")

    def _planned(
        self, plan: Plan, source: Any, statement: Statement, options: QueryOptions
    ) -> Plan:  # fmt: skip
        if self.cache.is_bypassed():
            return plan._replace(bypassed="within bypass()")
        facts = facts_of(statement.text)
        refusal = self._obstacle() or facts.refusal
        if not refusal and (options.vary is None or "listener" not in statement.refusal):
            refusal = statement.refusal
        if refusal:
            return plan._replace(refused=refusal)
        state = state_of(source)
        if state.bypass:
            return plan._replace(bypassed=state.bypass)
        catalog, schema = self._catalogs.of(source, state.settings)
        tables, refusal, slots = self._dependencies(statement.text, facts.words, catalog)
        if refusal:
            return plan._replace(refused=refusal, tables=tables)
        encoding = Encoding()
        encoding.add((
            state.settings.digest, statement.text, statement.identity, statement.values,
            options.form, options.vary, options.tags,
        ))  # fmt: skip
        slots += tuple(map(tag_slot, options.tags))
        call = QueryCall(plan.name, encoding.digest(), slots, options.ttl)
        return plan._replace(call=call, tables=tables, schema=schema)

    def _dependencies(
        self, text: str, words: frozenset[str], catalog: Catalog
    ) -> tuple[frozenset[str], str, tuple[int, ...]]:
        """Return the tables on which a statement depends, why it is refused, and the versions."""
        key = hash(text), len(text)
        known = self._slots.get(key)
        if known is None or known[0] is not catalog:
            mentioned = catalog.mentioned(text)
            tables = catalog.dependencies(mentioned)
            named = {word for table in tables for word in _WORDS.findall(table)}
            named |= words - KEYWORDS  # a table that the catalog lacks is among them
            slots = tuple(sorted({slot(word) for word in {SCHEMA, *named}}))
            if len(self._slots) >= MAX_TEXTS:
                self._slots.clear()
            known = self._slots[key] = catalog, tables, catalog.refusal(mentioned), slots
        return known[1:]


def _name(number: str, text: str) -> str:
    """Return the name under which a statement is counted."""
    short = text if len(text) <= _NAME_CHARS else f"{text[: _NAME_CHARS - 2]} …"
    return f"{NAMESPACE}: {short} [{number[:6]}]"


def tags_of(tags: str | Iterable[str]) -> tuple[str, ...]:
    """Return tags in one order."""
    return (tags,) if isinstance(tags, str) else tuple(sorted(set(tags)))
