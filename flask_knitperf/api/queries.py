"""``QueryOptimizer``: the SQL statements of an application, its N+1 queries, pools and indexes.

Engines and connections of this process can be watched without an application too; their statements are
counted within requests.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, overload

from ..caching.query_cache import NAMESPACE as QUERIES
from ..collectors.requests.endpoint_series import EndpointKey
from ..collectors.sql import dbapi, engines, index_creation, sqlalchemy, written_tables
from ..collectors.sql.connection_writes import ALL_TABLES
from ..collectors.sql.fingerprint import FINGERPRINTS, READS
from ..collectors.sql.n_plus_one import Repeat
from ..collectors.sql.request_queries import QUERY_COUNTER
from ..core.errors import KnitPerfError, NPlusOneError
from ..core.notices import warn_once
from ..metrics.catalogue import RepeatKind
from ..recording.span import current

if TYPE_CHECKING:
    from ..collectors.sql.cached_queries import QueryExplanation
    from ..reports.documents.queries import PoolAdviceRow, QueryRow
    from ..runtime.session import Session
    from .caches import CacheOptimizer

DEFAULT_TTL_S = 60.0
"""Seconds until the result of a query expires."""
E = TypeVar("E")


class QueryOptimizer:
    """Watches SQL statements, and reports on them.

    ``perf.queries`` is one for an application. ``QueryOptimizer()`` watches engines and connections
    without one, and has nothing to report.

    Args:
        engine: the SQLAlchemy engine on which :meth:`create_missing_indexes` creates indexes.
        resolve: returns the session of the current application, ``None`` without one.
        cache: returns the cache of the application; one for this object by default.
    """

    def __init__(
        self, engine: Any = None, *, resolve: Callable[[], Session | None] = lambda: None,
        cache: Callable[[], CacheOptimizer] | None = None,
    ) -> None:  # fmt: skip
        self._engine = engine
        self._resolve = resolve
        self._find_cache = cache
        self._cache: CacheOptimizer | None = None

    # -- watching ------------------------------------------------------------------------------------

    def instrument(self, engine: E) -> E:
        """Watch every statement of a SQLAlchemy engine; return it. A second call changes nothing.

        Engines of Flask-SQLAlchemy are watched without this.

        Args:
            engine: an ``Engine`` or ``AsyncEngine`` of SQLAlchemy 2.0 or newer.

        Raises:
            KnitPerfError: it is neither.
        """
        sqlalchemy.instrument(engine)
        return engine

    def create_engine(self, url: Any, **options: Any) -> Any:
        """Return a watched SQLAlchemy engine with defaults for production.

        Connections are tested before use (``pool_pre_ping``) and replaced after half an hour
        (``pool_recycle``), the one used last is used next (``pool_use_lifo``), and a request waits at
        most ten seconds for one (``pool_timeout``, ``connect_timeout``).

        Args:
            url: as SQLAlchemy accepts it.
            options: of ``sqlalchemy.create_engine``; they take precedence over these defaults.

        Raises:
            ImportError: SQLAlchemy is not installed (``pip install flask-knitperf[sqlalchemy]``).
        """
        return engines.create_engine(url, **options)

    def uninstrument(self, engine: Any) -> None:
        """Stop watching an engine."""
        sqlalchemy.uninstrument(engine)

    def wrap_connect(self, connect: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that connects like the argument, and watches the statements.

        Args:
            connect: ``sqlite3.connect``, ``psycopg.connect`` or any function that returns a DB-API
                connection (PEP 249). Asynchronous connections are returned unwatched.
        """
        return dbapi.wrap_connect(connect)

    # -- reports -------------------------------------------------------------------------------------

    def analyze_slow_queries(self, window: str = "1h", limit: int = 10) -> list[QueryRow]:
        """Return the statements with the largest total time, largest first.

        Args:
            window: ``5m``, ``1h``, ``run`` or ``previous``.
            limit: maximum number of statements.

        Returns:
            Entries of ``queries`` in ``/perf/queries``.

        Raises:
            KnitPerfError: there is no application.
        """
        return self._session().documents.queries(window)["queries"][:limit]

    def pool_advice(self, window: str = "1h") -> list[PoolAdviceRow]:
        """Return the recommended size of each pool, by Little's law, with the figures behind it.

        Args:
            window: ``5m``, ``1h``, ``run`` or ``previous``.

        Returns:
            ``{pool, size, need, most, seen, checkouts_per_s, held_ms, in_use, workers, text}`` of each
            pool with twenty checkouts or more; see :mod:`..analysis.pools`.

        Raises:
            KnitPerfError: there is no application.
        """
        return [
            {"pool": row["pool"], **row["advice"]}
            for row in self._session().documents.queries(window)["pools"]
            if row["advice"] is not None
        ]

    def create_missing_indexes(
        self, apply: bool = False, *, window: str = "run", engine: Any = None
    ) -> list[str]:
        """Return the ``CREATE INDEX`` statements of the index advice; run them on request.

        The advice is that of ``/perf/queries``: it needs ``KNITPERF_EXPLAIN`` and slow statements.

        Args:
            apply: run each statement in a separate transaction; an existing index stays.
            window: ``5m``, ``1h``, ``run`` or ``previous``.
            engine: where to run them; by default that of the constructor, else the only watched one.

        Raises:
            KnitPerfError: ``apply`` is set, and there is not exactly one engine to run them on.

        Warns:
            MigrationWarning: once, where another optimiser would have changed the database.
        """
        session = self._resolve()
        if session is None:
            warn_once(
                "create_missing_indexes has no advice without an application: indexes follow from the "
                "statements that its requests send"
            )
            return []
        statements = list(dict.fromkeys(
            missing["index"]
            for row in session.documents.queries(window)["queries"] if row["plan"] is not None
            for missing in row["plan"]["missing"]
        ))  # fmt: skip
        if not apply:
            warn_once(
                "create_missing_indexes returns SQL and runs none of it; apply=True runs the statements"
            )
            return statements
        if engine is None:
            engine = self._engine or index_creation.only_engine()
        return index_creation.create_indexes(engine, statements)

    def _session(self) -> Session:
        session = self._resolve()
        if session is None:
            raise KnitPerfError(
                "there is nothing to report: no application is current; "
                "use perf.queries in an application context"
            )
        return session

    # -- cached results ------------------------------------------------------------------------------

    @overload
    def cached(
        self, statement: None = None, *, ttl: float = DEFAULT_TTL_S, tags: str | Iterable[str] = (),
        vary: Any = None,
    ) -> AbstractContextManager[None]: ...  # fmt: skip

    @overload
    def cached(
        self, statement: Callable[..., Any], *, ttl: float = DEFAULT_TTL_S,
        tags: str | Iterable[str] = (), vary: Any = None,
    ) -> Callable[..., Any]: ...  # fmt: skip

    @overload
    def cached(
        self, statement: Any, connection: Any, params: Any = None, *, ttl: float = DEFAULT_TTL_S,
        tags: str | Iterable[str] = (), vary: Any = None, mappings: bool = False,
    ) -> list[Any]: ...  # fmt: skip

    def cached(
        self, statement: Any = None, connection: Any = None, params: Any = None, *,
        ttl: float = DEFAULT_TTL_S, tags: str | Iterable[str] = (), vary: Any = None,
        mappings: bool = False,
    ) -> Any:  # fmt: skip
        """Return the rows of a query, from the cache until a table is written that it reads.

        Each caller gets separate rows. The query runs, past the cache, in a transaction that has
        written, at isolation levels from ``REPEATABLE READ`` on, and where its result must not be
        cached; :meth:`explain_cached` and ``/perf/cache`` have the reason.

        ``cached(pd.read_sql)`` returns a function like ``pd.read_sql`` whose frames are cached. Within
        ``with cached(ttl=60):`` sessions of SQLAlchemy answer their selects of columns from the cache.

        Args:
            statement: a ``select()`` of columns, a ``text()`` or SQL as a text; or ``pandas.read_sql``.
            connection: a session, connection or engine of SQLAlchemy that is watched, or a connection of
                :meth:`wrap_connect`.
            params: of the query.
            ttl: seconds until a result expires, which bounds its age where others write the tables.
            tags: names by which ``perf.cache.invalidate(tag=…)`` invalidates it too.
            vary: a further part of the key, such as the tenant; needed where listeners of the
                application may change statements.
            mappings: whether rows are dicts; named tuples otherwise.

        Raises:
            KnitPerfError: the query selects objects of a session, or the connection is not watched.
            Exception: that of the database.
        """
        from ..collectors.sql import cached_frames, cached_sessions, query_sources
        from ..collectors.sql.cached_queries import QueryOptions, tags_of

        options = QueryOptions(_seconds(ttl), tags_of(tags), vary)
        if statement is None:
            return cached_sessions.cached_block(lambda: self._caching().queries, options)
        if connection is None:
            reader = cached_frames.reader_of(statement)
            return cached_frames.cached_reader(reader, lambda: self._caching().queries, options)
        query = query_sources.as_query(statement, connection)
        rows = self._caching().queries.answer(
            query, connection, params, options, lambda source: source.execute(query, params)
        )
        return query_sources.mappings(rows) if mappings else query_sources.named(rows)

    def explain_cached(
        self, statement: Any, connection: Any, params: Any = None, *, tags: str | Iterable[str] = (),
        vary: Any = None,
    ) -> QueryExplanation:  # fmt: skip
        """Return whether a call of :meth:`cached` would be answered from the cache, and why not.

        Args:
            statement: see :meth:`cached`; the query is not run.
            connection: see :meth:`cached`.
            params: see :meth:`cached`.
            tags: see :meth:`cached`.
            vary: see :meth:`cached`.

        Raises:
            KnitPerfError: see :meth:`cached`.
        """
        from ..collectors.sql import query_sources
        from ..collectors.sql.cached_queries import QueryOptions, tags_of

        options = QueryOptions(DEFAULT_TTL_S, tags_of(tags), vary)
        query = query_sources.as_query(statement, connection)
        return self._caching().queries.explain(query, connection, params, options)

    def _caching(self) -> CacheOptimizer:
        if self._find_cache is not None:
            return self._find_cache()
        if self._cache is None:
            from .caches import CacheOptimizer

            self._cache = CacheOptimizer()
        return self._cache

    def table_versions(self, statement: Any) -> tuple[int, ...] | None:
        """Return a value that changes whenever a table is written that a statement reads.

        To cache the results of a statement: take this value, *then* run the statement, and store the
        result with the value. All processes of the application share it where it has a state directory
        (:attr:`tables_are_shared`). Writes through watched engines and connections count;
        ``docs/queries.md`` lists the writes that cannot be detected.

        Args:
            statement: SQL, as it is sent.

        Returns:
            Some numbers; ``None`` where the result must not be cached: the statement writes, or its
            results differ each time, or it is too long to be parsed; and in the three seconds after the
            first call for an application.

        Raises:
            KnitPerfError: there is no application.
        """
        session = self._session()
        versions = session.recorder.versions
        hold = versions.hold  # subscribes, so it comes first
        session.jobs.enable_table_tracking()
        tables = written_tables.names(statement)
        if not hold or FINGERPRINTS.of(statement).kind != READS or ALL_TABLES in tables:
            return None
        return None if written_tables.written(statement) else versions.of(sorted(tables))

    @property
    def tables_are_shared(self) -> bool:
        """Whether :meth:`table_versions` covers other processes; it needs a state directory."""
        return self._session().recorder.versions.shared

    def clear_cache(self) -> None:
        """Invalidate the results of all queries, in every process.

        That is those of :meth:`cached`, and those that the application caches by :meth:`table_versions`.
        """
        self._caching().invalidate(QUERIES)
        session = self._resolve()
        if session is not None:
            session.recorder.versions.all_changed()

    # -- N+1 -----------------------------------------------------------------------------------------

    @contextmanager
    def allow_n_plus_one(self) -> Iterator[None]:
        """Report no repeated queries of the block: they are intended."""
        span = current()
        if span is None:
            yield
            return
        queries = QUERY_COUNTER.queries_of(span)
        queries.allow_depth += 1
        try:
            yield
        finally:
            queries.allow_depth -= 1

    @contextmanager
    def raise_on_n_plus_one(self) -> Iterator[None]:
        """Raise after the block if requests that ended within it ran one query per row.

        For tests; also as the pytest fixture ``no_n_plus_one``.

        Raises:
            NPlusOneError: with the endpoints, lines and statements.
        """
        repeats: list[tuple[EndpointKey, Repeat]] = []

        def add(key: EndpointKey, of_request: list[Repeat]) -> None:
            repeats.extend(
                (key, repeat) for repeat in of_request if repeat.kind is RepeatKind.N_PLUS_ONE
            )

        QUERY_COUNTER.listeners.append(add)
        try:
            yield
        finally:
            QUERY_COUNTER.listeners.remove(add)
        if repeats:
            raise NPlusOneError([_sentence(key, repeat) for key, repeat in repeats])


def _seconds(ttl: Any) -> float:
    """Return a lifetime in seconds.

    Raises:
        KnitPerfError: it is none.
    """
    if isinstance(ttl, bool) or not isinstance(ttl, int | float) or not 0 < ttl < math.inf:
        raise KnitPerfError(f"ttl must be a number of seconds above 0, not {ttl!r}")
    return float(ttl)


def _sentence(key: EndpointKey, repeat: Repeat) -> str:
    endpoint, method = key
    where = f" at {repeat.call_site}" if repeat.call_site else ""
    return f"{method} {endpoint} sends {repeat.calls} queries{where}: {repeat.fingerprint.text}"
