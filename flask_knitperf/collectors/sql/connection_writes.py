"""Writes of one connection that are not committed, and whether its session was changed.

One object lies in each connection's ``info`` (SQLAlchemy) or wrapper (DB-API). While it holds tables,
queries of the connection see what others do not, so they bypass every cache.
"""

from __future__ import annotations

import itertools
import os
import re
from typing import Any, NamedTuple

ALL_TABLES = "*"
"""In place of the name of a table: all of them."""
SCHEMA = "schema:"
"""Pseudo table that statements write which define tables, views, triggers or functions."""

_BENIGN = re.compile(
    r"\s*(?:begin|start|savepoint|release|rollback|commit|end|show|explain|analy[sz]e|vacuum|lock|declare"
    r"|fetch|close|listen|unlisten|notify|checkpoint|select|with|values|table|desc|describe|insert|update"
    r"|delete|replace|merge|copy"
    r"|pragma\s+(?:\"?\w+\"?\.)?(?:table_x?info|table_list|index_\w+|foreign_key_list|database_list))\b",
    re.IGNORECASE,
)
_TEMPORARY = re.compile(
    r"\s*create\s+(?:or\s+replace\s+)?(?:local\s+|global\s+)?temp|\binto\s+(?:temp|#)|\btable\s+#",
    re.IGNORECASE,
)
_ISOLATION = re.compile(r"\b(?:isolation|snapshot)\b", re.IGNORECASE)
_numbers = itertools.count(1)


class SessionEffects(NamedTuple):
    """Effects of a statement on the session of its connection.

    Attributes:
        isolation: whether it may set the isolation level of the transaction.
        settings: whether it may change a setting.
        temporary: whether it may create a temporary table.
    """

    isolation: bool
    settings: bool
    temporary: bool


NO_EFFECTS = SessionEffects(False, False, False)


def session_effects(outline: str, text: str) -> SessionEffects:
    """Return the effects of a statement on its session.

    Args:
        outline: the statement without literals and comments.
        text: the statement.
    """
    effects = SessionEffects(
        _ISOLATION.search(outline) is not None,
        not _BENIGN.match(outline) or "set_config" in text.lower(),
        _TEMPORARY.search(outline) is not None,
    )
    return effects if any(effects) else NO_EFFECTS


class ConnectionWrites:
    """Writes of one connection.

    Attributes:
        tables: names of tables that are written but not committed; :data:`ALL_TABLES` where unknown.
        begun: names whose versions are marked as being written until the statement or the commit ends.
        session: settings of the session that results depend on, ``None`` while they are unknown.
        has_temporary_tables: whether names of tables may stand for temporary ones.
        has_own_isolation: whether a statement has set the isolation level of the transaction.
        is_session_changed: whether the transaction may have changed the settings of the session.
        number: no other object of this process has it.
        process: in which it was created; a forked child frees it while its parent goes on.
        end: called with ``begun`` when the object is freed while something is marked.
    """

    __slots__ = (
        "begun",
        "end",
        "has_own_isolation",
        "has_temporary_tables",
        "is_session_changed",
        "number",
        "process",
        "session",
        "tables",
    )

    def __init__(self, end: Any, tables: tuple[str, ...] = ()) -> None:
        self.tables: set[str] = set(tables)
        self.begun: frozenset[str] = frozenset()
        self.session: Any = None
        self.is_session_changed = self.has_temporary_tables = self.has_own_isolation = False
        self.number, self.process = next(_numbers), os.getpid()
        self.end = end

    def note_session(self, effects: SessionEffects) -> None:
        """Note the effects of a statement, by which the settings may be other ones."""
        if effects.isolation:
            self.has_own_isolation = True
        if effects.settings:
            self.session, self.is_session_changed = None, True
        if effects.temporary:
            self.has_temporary_tables = True

    def end_transaction(self) -> frozenset[str]:
        """Return the tables that the transaction has written, and forget them.

        A setting of the session may hold for the transaction, or be taken back with it.
        """
        tables = frozenset(self.tables)
        self.tables.clear()
        self.has_own_isolation = False
        if self.is_session_changed:
            self.session, self.is_session_changed = None, False
        return tables

    def __del__(self) -> None:
        if (
            self.begun and self.process == os.getpid()
        ):  # the connection was lost in the middle of a statement
            self.end(self)
