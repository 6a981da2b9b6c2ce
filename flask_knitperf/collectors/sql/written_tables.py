"""Tables written by statements, published to caches of query results.

Subscribers are version counters (:class:`~flask_knitperf.storage.versions.Versions`). A table is
published when the statement has run, which suffices in autocommit mode, and again when its connection
commits. Without a subscriber none of this runs.

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
from typing import Any

from ...caching import dependencies
from ...core.host_exceptions import SuppressOwn
from ...storage.versions import Versions
from .fingerprint import FINGERPRINTS, READS, WRITES, as_text

ALL_TABLES = "*"
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


def written(statement: Any) -> frozenset[str]:
    """Return the names of the tables that a statement may write, in the form of :func:`names`.

    Returns:
        Names; :data:`ALL_TABLES` alone where they are not recognisable; empty where it writes none.
    """
    fingerprint = FINGERPRINTS.of(statement)
    kind, outline = fingerprint.kind, fingerprint.text
    is_script = ";" in outline
    text = as_text(statement)
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

    def on_execute(self, statement: Any, uncommitted: set[str]) -> None:
        """Publish the tables that a statement has written.

        Args:
            statement: as it was executed.
            uncommitted: tables that its connection has written but not committed; extended here.
        """
        if dependencies.RUNNING:
            self._add_to_loads(statement, uncommitted)
        if _COMMITS.match(FINGERPRINTS.of(statement).text):
            self.on_commit(uncommitted)
            return
        tables = written(statement)
        if tables:
            uncommitted |= tables
            self._publish(tables)

    def on_error(self, statement: Any) -> None:
        """Add the tables of a statement that failed to the values that are loaded by it. Never raises.

        The load may go on without the table, until that exists.
        """
        if dependencies.RUNNING:
            with SuppressOwn(Exception):
                self._add_to_loads(statement, set())

    @staticmethod
    def _add_to_loads(statement: Any, uncommitted: set[str]) -> None:
        try:
            add_to_loads(statement, uncommitted)
        except Exception:
            dependencies.refuse("a query that it runs cannot be read")
            raise

    def on_commit(self, uncommitted: set[str]) -> None:
        """Publish the tables of a transaction that has ended.

        One that was rolled back may have committed a part before, by a statement that changes a schema.
        """
        tables = frozenset(uncommitted)
        uncommitted.clear()
        if tables:
            self._publish(tables)

    def _publish(self, tables: Iterable[str]) -> None:
        for versions in list(self._subscribers):
            if ALL_TABLES in tables:
                versions.all_changed()
            else:
                versions.changed(tables)


WRITTEN_TABLES = WrittenTables()
