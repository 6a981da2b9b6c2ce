"""Tables written by statements, published to caches of query results.

Subscribers are version counters (:class:`~flask_knitperf.storage.versions.Versions`). A table is marked
as being written while a statement that writes it runs, and while its transaction is committed; its
version is another one afterwards. Without a subscriber none of this runs.

A cached value whose load reads tables depends on them: while such loads run, the tables that statements
read are added to their dependencies.

Names are parsed from the text of a statement, with false positives rather than false negatives: words in
literals count as names, and a writing statement without a recognisable table counts as writing every
table. Writes that are not in the text are not published: triggers, cascades, functions that write, views
over a table, and writers outside this application.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Iterable
from typing import Any, NamedTuple

from ...caching import dependencies
from ...core.host_exceptions import SuppressOwn
from ...storage.versions import Versions
from .connection_writes import (
    ALL_TABLES,
    NO_EFFECTS,
    SCHEMA,
    ConnectionWrites,
    SessionEffects,
    session_effects,
)
from .fingerprint import FINGERPRINTS, MAX_CACHED, READS, WRITES, as_text

MAX_WORDS = 1000
"""Number of words above which a statement counts as naming every table."""
_NAME = r"(?:[\w$]+|\"[^\"]+\"|`[^`]+`|\[[^\]]+\])"
_PATH = rf"{_NAME}(?:\s*\.\s*{_NAME})*"
_WRITTEN_TABLE = re.compile(
    rf"""\b(?:
        (?:insert|replace)(?:\s+or\s+\w+|\s+ignore|\s+low_priority|\s+delayed)*\s+(?:overwrite\s+|into\s+)?
      | update\s+(?:or\s+\w+\s+|only\s+|low_priority\s+|ignore\s+)*
      | delete\s+(?:low_priority\s+|quick\s+|ignore\s+)*from\s+(?:only\s+)?
      | merge\s+(?:into\s+)?(?:only\s+)?
      | copy\s+
      | truncate\s+(?:table\s+)?(?:only\s+)?
      | (?:create|alter|drop|rename)\s+(?:or\s+replace\s+)?(?:\w+\s+){{0,2}}?(?:table|view)\s+
        (?:if\s+(?:not\s+)?exists\s+)?(?:only\s+)?
    )({_PATH})
    (?P<more>(?:\s+(?:as\s+)?[\w$]+)?\s*(?:,|(?:\w+\s+)?join\b))?""",
    re.IGNORECASE | re.VERBOSE,
)
_WORDS = re.compile(r"[\w$]+")
_WRITES = re.compile(r"\b(?:insert|update|delete|merge)\b", re.IGNORECASE)
_DEFINES = re.compile(r"\s*(?:create|alter|drop|rename|truncate)\b", re.IGNORECASE)
_READ_ONLY = re.compile(
    r"\s*(?:begin|start|savepoint|release|rollback|set|reset|show|pragma|explain(?!.*\banaly[sz]e)|analy[sz]e"
    r"|vacuum|use|lock|declare|fetch|close|deallocate|listen|unlisten|notify|discard|checkpoint|select|values"
    r"|table|desc|describe|reindex|create\s+(?:unique\s+)?index|drop\s+index|comment|grant|revoke)\b",
    re.IGNORECASE | re.DOTALL,
)
_QUERIES = re.compile(r"[\s(]*(?:select|with|values)\b", re.IGNORECASE)
_READ_TABLE = re.compile(rf"\b(?:from|join)\s+(?:only\s+|lateral\s+)?({_PATH})", re.IGNORECASE)
_COMMITS = re.compile(r"\s*(?:commit|end)\b", re.IGNORECASE)
_PREPARED = re.compile(r"\s*commit\s+prepared\b", re.IGNORECASE)
_CHANGES_SCHEMA = re.compile(r"\s*(?:create|alter|drop|rename|grant|revoke)\b", re.IGNORECASE)
_TEMPORARY = re.compile(
    r"\s*(?:create|drop)\s+(?:or\s+replace\s+)?(?:local\s+|global\s+)?temp", re.IGNORECASE
)
_INTO = re.compile(r"\binto\b", re.IGNORECASE)


def written(statement: Any) -> frozenset[str]:
    """Return the names of the tables that a statement may write, in the form of :func:`names`.

    Returns:
        Names; :data:`ALL_TABLES` alone where they are not recognisable; empty where it writes none.
    """
    fingerprint = FINGERPRINTS.of(statement)
    kind, outline = fingerprint.kind, fingerprint.text
    is_script = ";" in outline
    text = as_text(statement)
    into = kind == READS and _INTO.search(text if outline.endswith(" …") else outline)
    if into and not _WRITES.search(text):  # SELECT … INTO creates a table
        return frozenset({ALL_TABLES})
    reads = kind == READS and not (outline[:4].lower() == "with" and _WRITES.search(text))
    if not is_script and (reads or (kind != WRITES and _READ_ONLY.match(outline))):
        return frozenset()
    if is_script or not (reads or kind in (READS, WRITES) or _DEFINES.match(outline)):
        return frozenset({ALL_TABLES})
    matches = list(_WRITTEN_TABLE.finditer(text))
    if any(match["more"] for match in matches):
        return names(statement)
    tables = {word for match in matches for word in _words(match[1].rpartition(".")[2])}
    return frozenset(tables or {ALL_TABLES})


def names(statement: Any) -> frozenset[str]:
    """Return all words in a statement, in lower case; the tables that it reads are among them.

    A quoted name of several words yields each of them. A statement with too many words yields
    :data:`ALL_TABLES`.
    """
    text = as_text(statement)
    words = _words(text) if len(text) < MAX_WORDS * 100 else []
    return frozenset(words if 0 < len(words) <= MAX_WORDS else (ALL_TABLES,))


def add_to_loads(statement: Any, uncommitted: set[str]) -> None:
    """Add the tables that a statement reads to the cached values that are loaded by it.

    A load that writes, or whose statements give other results each time, has no value that could be
    cached. Nor has one that reads what its transaction has written, since that may be rolled back.

    Args:
        statement: as it was executed.
        uncommitted: tables that its connection has written but not committed.
    """
    fingerprint = FINGERPRINTS.of(statement)
    if written(statement):
        dependencies.refuse("it writes to a database, which a call from the cache would not")
        return
    if fingerprint.kind != READS:
        if _QUERIES.match(fingerprint.text):
            dependencies.refuse("it runs a query with another result each time")
        return
    words = names(statement)
    if ALL_TABLES in words:
        dependencies.refuse("it runs a query too long to find the tables that it reads")
    elif ALL_TABLES in uncommitted or words & uncommitted:
        dependencies.defer("it reads a table that its transaction has written")
    else:
        shown = {match[1].rpartition(".")[2].strip('"`[] ').lower()
                 for match in _READ_TABLE.finditer(fingerprint.text)}  # fmt: skip
        dependencies.add_tables(words, shown or {"of a query without FROM"})


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORDS.findall(text)]


class WrittenTables:
    """Publishes the tables that this process writes.

    Attributes:
        has_subscribers: whether there is anyone to publish to.
    """

    def __init__(self) -> None:
        self.has_subscribers = False
        self._subscribers: weakref.WeakSet[Versions] = weakref.WeakSet()

    def __contains__(self, versions: Versions) -> bool:
        return versions in self._subscribers

    def subscribe(self, versions: Versions) -> None:
        """Have the versions of written tables changed from now on."""
        self._subscribers.add(versions)
        self.has_subscribers = True

    def writes(self, *, is_new: bool) -> ConnectionWrites:
        """Return the writes of a connection that were not tracked so far.

        Args:
            is_new: whether its transaction has only begun; else it may have written anything.
        """
        return ConnectionWrites(self._end, () if is_new else (ALL_TABLES,))

    def before_execute(self, statement: Any, writes: ConnectionWrites) -> None:
        """Mark the tables that a statement is about to change, or to commit.

        In autocommit mode, and where it defines a table, others may see its change before it returns.
        One whose tables are not recognisable marks none until its commit: all caches would stand still
        while a script or a procedure runs.

        Args:
            statement: as it will be executed.
            writes: of its connection.
        """
        effects = effects_of(statement)
        tables = writes.tables if effects.commits else effects.tables
        if ALL_TABLES in tables and not effects.commits:
            tables = frozenset()
        if tables or writes.begun:
            self._begin(writes, tables)

    def on_execute(self, statement: Any, writes: ConnectionWrites) -> None:
        """Publish the tables that a statement has written.

        Args:
            statement: as it was executed.
            writes: of its connection; extended here.
        """
        if dependencies.RUNNING:
            self._add_to_loads(statement, writes.tables)
        effects = effects_of(statement)
        if effects.commits:
            if effects.is_prepared:  # by any connection, at any time
                writes.tables.add(ALL_TABLES)
            self.on_end(writes)
            return
        if effects.session is not NO_EFFECTS:
            writes.note_session(effects.session)
        if writes.begun:
            self._end(writes)
        if effects.tables:
            writes.tables |= effects.tables
            self._publish(effects.tables)

    def on_error(self, statement: Any, writes: ConnectionWrites | None = None) -> None:
        """Publish the tables of a statement that failed, which may have written some rows. Never raises.

        A load that goes on without the table, until that exists, depends on it.
        """
        with SuppressOwn(Exception):
            if dependencies.RUNNING:
                self._add_to_loads(statement, set())
            if writes is not None and self.has_subscribers:
                tables = effects_of(statement).tables
                writes.tables |= tables
                self._end(writes)
                self._publish(tables)

    @staticmethod
    def _add_to_loads(statement: Any, uncommitted: set[str]) -> None:
        try:
            add_to_loads(statement, uncommitted)
        except Exception:
            dependencies.refuse("a query that it runs cannot be read")
            raise

    def before_end(self, writes: ConnectionWrites) -> None:
        """Mark the tables of a transaction that is about to be committed. Never raises."""
        with SuppressOwn(Exception):
            self._begin(writes, writes.tables)

    def on_end(self, writes: ConnectionWrites) -> None:
        """Publish the tables of a transaction that has ended. Never raises.

        One that was rolled back may have committed a part before, by a statement that changes a schema.
        """
        if not self.has_subscribers:  # what was written stays unknown
            return
        with SuppressOwn(Exception):
            tables = writes.end_transaction()
            self._end(writes)
            if tables:
                self._publish(tables)

    def on_savepoint(self, writes: ConnectionWrites) -> None:
        """Publish the tables of a transaction that goes on. Never raises."""
        with SuppressOwn(Exception):
            self._end(writes)

    def _begin(self, writes: ConnectionWrites, tables: Iterable[str]) -> None:
        self._end(writes)  # of a statement without an end
        if tables:
            names = writes.begun = frozenset(tables)
            for versions in list(self._subscribers):
                versions.begin_writing(names)

    def _end(self, writes: ConnectionWrites) -> None:
        names, writes.begun = writes.begun, frozenset()
        if names:
            for versions in list(self._subscribers):
                versions.end_writing(names)

    def _publish(self, tables: Iterable[str]) -> None:
        for versions in list(self._subscribers):
            versions.changed(tables)


class Effects(NamedTuple):
    """Effects of a statement.

    Attributes:
        tables: that it may write, and :data:`.SCHEMA` where it may define one.
        commits: whether it commits the transaction.
        is_prepared: whether that is one which was prepared before, perhaps by another connection.
        session: effects on the session of its connection.
    """

    tables: frozenset[str]
    commits: bool
    is_prepared: bool
    session: SessionEffects


_EFFECTS: dict[tuple[int, int], Effects] = {}
"""Effects of recent statements, by the hash of their text and its length; no text is stored."""


def effects_of(statement: Any) -> Effects:
    """Return the effects of a statement."""
    text = as_text(statement)
    key = hash(text), len(text)
    effects = _EFFECTS.get(key)
    if effects is None:
        if len(_EFFECTS) >= MAX_CACHED:
            _EFFECTS.clear()
        effects = _EFFECTS[key] = _effects(text)
    return effects


def _effects(statement: str) -> Effects:
    outline = FINGERPRINTS.of(statement).text
    tables = written(statement)
    defines = _CHANGES_SCHEMA.match(outline) and not _TEMPORARY.match(outline)
    if defines or ALL_TABLES in tables:
        tables |= {SCHEMA}
    return Effects(
        tables, _COMMITS.match(outline) is not None, _PREPARED.match(outline) is not None,
        session_effects(outline, statement),
    )  # fmt: skip


WRITTEN_TABLES = WrittenTables()
