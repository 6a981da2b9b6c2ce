"""``QueryOptimizer``: which statements an application sends, which of them again and again.

Engines and connections are watched in this process whether there is an application or not; what they
send is counted while a request runs. Tests can have N+1 queries raise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from ..collectors.sql import dbapi, engines, sqlalchemy, written_tables
from ..collectors.sql.fingerprint import READS, SHAPES
from ..collectors.sql.n_plus_one import Repeat
from ..collectors.sql.request_queries import ASKED, Pair
from ..core.errors import KnitPerfError, NPlusOneError
from ..metrics.catalogue import RepeatKind
from ..recording.span import current
from ..runtime.session import Session

E = TypeVar("E")


class QueryOptimizer:
    """Watches statements, and reports on them.

    Args:
        resolve: returns the session of the application that runs, ``None`` where there is none.
    """

    def __init__(self, resolve: Callable[[], Session | None] = lambda: None) -> None:
        self._resolve = resolve

    def instrument(self, engine: E) -> E:
        """Watch every statement of a SQLAlchemy engine; return it. Doing it twice changes nothing.

        Engines of Flask-SQLAlchemy are found without this.

        Args:
            engine: an ``Engine`` or ``AsyncEngine`` of SQLAlchemy 2.0 or newer.

        Raises:
            KnitPerfError: it is neither.
        """
        sqlalchemy.instrument(engine)
        return engine

    def create_engine(self, url: Any, **options: Any) -> Any:
        """Return a SQLAlchemy engine that is watched, with defaults that hold in production.

        Connections are tried before they are used (``pool_pre_ping``), renewed after half an hour
        (``pool_recycle``), the one used last is used next (``pool_use_lifo``), and nobody waits more
        than ten seconds for one (``pool_timeout``, ``connect_timeout``).

        Args:
            url: as SQLAlchemy takes it.
            options: of ``sqlalchemy.create_engine``; they win over these defaults.

        Raises:
            ImportError: SQLAlchemy is not installed (``pip install flask-knitperf[sqlalchemy]``).
        """
        return engines.create_engine(url, **options)

    def uninstrument(self, engine: Any) -> None:
        """Watch an engine no more."""
        sqlalchemy.uninstrument(engine)

    def wrap_connect(self, connect: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that connects as the given one, and watches what is sent.

        Args:
            connect: ``sqlite3.connect``, ``psycopg.connect`` or any function that returns a DB-API
                connection (PEP 249). Asynchronous connections are left as they are.
        """
        return dbapi.wrap_connect(connect)

    def analyze_slow_queries(self, window: str = "1h", limit: int = 10) -> list[dict[str, Any]]:
        """Return the statements that take most time together, the largest first.

        Args:
            window: ``5m``, ``1h``, ``run`` or ``previous``.
            limit: how many.

        Returns:
            Entries of ``queries`` in ``/perf/queries``.

        Raises:
            KnitPerfError: there is no application.
        """
        rows: list[dict[str, Any]] = self._report(window)["queries"]
        return rows[:limit]

    def pool_advice(self, window: str = "1h") -> list[dict[str, Any]]:
        """Return the size that each pool should have, by Little's law, with the figures it follows from.

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
            for row in self._report(window)["pools"] if row["advice"] is not None
        ]  # fmt: skip

    def _report(self, window: str) -> dict[str, Any]:
        return self._session().documents.queries(window)

    def _session(self) -> Session:
        found = self._resolve()
        if found is None:
            raise KnitPerfError(
                "there is nothing to report: no application is current; push an application context"
            )
        return found

    def table_versions(self, statement: Any) -> tuple[int, ...] | None:
        """Return a value that differs as soon as something was written that a statement may read.

        For whoever remembers answers: take it, *then* ask, and keep the answer with it. All processes of
        the application share it, where it has a state directory (:attr:`tables_are_shared`). It tells
        of what watched engines and connections write; ``docs/queries.md`` says what it cannot know.

        Args:
            statement: SQL, as it is sent.

        Returns:
            Some numbers; ``None`` where the answer must not be remembered: the statement writes, or
            its answers differ each time, or it is too long to be read; and in the first three seconds
            in which anybody asks this of an application.

        Raises:
            KnitPerfError: there is no application.
        """
        session = self._session()
        versions = session.recorder.versions
        holds = versions.hold  # from now on somebody wants them
        session.jobs.enable_table_tracking()
        read = written_tables.names(statement)
        if not holds or SHAPES.of(statement).kind != READS or written_tables.EVERYTHING in read:
            return None
        return None if written_tables.written(statement) else versions.of(sorted(read))

    @property
    def tables_are_shared(self) -> bool:
        """Whether :meth:`table_versions` tells of other processes; it needs files for that."""
        return self._session().recorder.versions.shared

    @contextmanager
    def allow_n_plus_one(self) -> Iterator[None]:
        """Let what runs inside ask the same again and again: it is meant, and no finding."""
        span = current()
        if span is None:
            yield
            return
        asked = ASKED.queries_of(span)
        asked.allow_depth += 1
        try:
            yield
        finally:
            asked.allow_depth -= 1

    @contextmanager
    def raise_on_n_plus_one(self) -> Iterator[None]:
        """Raise behind the block if requests that ended meanwhile have asked once for each row.

        For tests; also as the pytest fixture ``no_n_plus_one``.

        Raises:
            NPlusOneError: they have; it names endpoints, lines and statements.
        """
        found: list[tuple[Pair, Repeat]] = []

        def hear(pair: Pair, repeats: list[Repeat]) -> None:
            found.extend((pair, one) for one in repeats if one.kind is RepeatKind.N_PLUS_ONE)

        ASKED.listeners.append(hear)
        try:
            yield
        finally:
            ASKED.listeners.remove(hear)
        if found:
            raise NPlusOneError([_sentence(pair, one) for pair, one in found])


def _sentence(pair: Pair, one: Repeat) -> str:
    endpoint, method = pair
    where = f" at {one.where}" if one.where else ""
    return f"{method} {endpoint} asks {one.times} times{where}: {one.shape.text}"
