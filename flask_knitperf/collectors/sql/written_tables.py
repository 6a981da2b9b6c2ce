"""Which tables a statement writes, told once it can be seen by others.

For whoever remembers answers of a database (:class:`~flask_knitperf.storage.versions.Versions`). A
statement tells when it has run, which is right where each is committed by itself, and its connection
tells once more when it commits. Until somebody wants to know, none of this runs.

Names are read off the statement's text, so more is said to be changed rather than less: words in
literals pass for names, and of a statement that writes, and of which it cannot be told what, everything
is changed. What a text does not say nobody is told of: triggers, cascades, functions that write, views
over a table, and writers that are no process of this application.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Iterable
from typing import Any

from ...storage.versions import Versions
from .fingerprint import READS, SHAPES, WRITES, as_text

EVERYTHING = "*"
MOST = 1000
"""Words of a statement; one that has more names everything."""
_NAME = r"(?:[\w$]+|\"[^\"]+\"|`[^`]+`|\[[^\]]+\])"
_PATH = rf"{_NAME}(?:\s*\.\s*{_NAME})*"
_WRITTEN = re.compile(
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
_HARMLESS = re.compile(
    r"\s*(?:begin|start|savepoint|release|rollback|set|reset|show|pragma|explain(?!.*\banaly[sz]e)|analy[sz]e"
    r"|vacuum|use|lock|declare|fetch|close|deallocate|listen|unlisten|notify|discard|checkpoint|select|values"
    r"|table|desc|describe|reindex|create\s+(?:unique\s+)?index|drop\s+index|comment|grant|revoke)\b",
    re.IGNORECASE | re.DOTALL,
)
_COMMITS = re.compile(r"\s*(?:commit|end)\b", re.IGNORECASE)


def written(statement: Any) -> frozenset[str]:
    """Return the names of the tables that a statement may change, as :func:`names` calls them.

    Returns:
        Names; :data:`EVERYTHING` alone where that cannot be told; nothing where it changes none.
    """
    shape = SHAPES.of(statement)
    several = ";" in shape.text
    text = as_text(statement)
    reads = shape.kind == READS and not (shape.text[:4].lower() == "with" and _WRITES.search(text))
    if not several and (reads or (shape.kind != WRITES and _HARMLESS.match(shape.text))):
        return frozenset()
    if several or not (reads or shape.kind in (READS, WRITES) or _DEFINES.match(shape.text)):
        return frozenset({EVERYTHING})
    found = list(_WRITTEN.finditer(text))
    if any(match["more"] for match in found):
        return names(statement)
    made = {word for match in found for word in _words(match[1].rpartition(".")[2])}
    return frozenset(made or {EVERYTHING})


def names(statement: Any) -> frozenset[str]:
    """Return all words in a statement, in lower case: what it reads is named by some of them.

    A name in quotes that holds several words is all of them. What has very many words is
    :data:`EVERYTHING`.
    """
    text = as_text(statement)
    found = _words(text) if len(text) < MOST * 100 else []
    return frozenset(found if 0 < len(found) <= MOST else (EVERYTHING,))


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORDS.findall(text)]


class Tables:
    """Tells of every table that this process changes.

    Attributes:
        wanted: whether anybody wants to know.
    """

    def __init__(self) -> None:
        self.wanted = False
        self._told: weakref.WeakSet[Versions] = weakref.WeakSet()

    def __contains__(self, versions: Versions) -> bool:
        return versions in self._told

    def tell(self, versions: Versions) -> None:
        """Give versions to what is changed from now on."""
        self._told.add(versions)
        self.wanted = True

    def executed(self, statement: Any, open_ones: set[str]) -> None:
        """Take note of a statement that has run.

        Args:
            statement: it.
            open_ones: tables that its connection changed and did not commit yet; it adds its own.
        """
        if _COMMITS.match(SHAPES.of(statement).text):
            self.committed(open_ones)
            return
        changed = written(statement)
        if changed:
            open_ones |= changed
            self._changed(changed)

    def committed(self, open_ones: set[str]) -> None:
        """Take note of a commit, or of what may be one."""
        changed = frozenset(open_ones)
        open_ones.clear()
        if changed:
            self._changed(changed)

    def _changed(self, tables: Iterable[str]) -> None:
        for versions in list(self._told):
            if EVERYTHING in tables:
                versions.all_changed()
            else:
                versions.changed(tables)


TABLES = Tables()
