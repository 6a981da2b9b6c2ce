"""Statements of a request: for each execution a duration, a result and a hash of its parameters.

They are interpreted when the request ends (:mod:`.request_queries`). No parameter is stored, only a hash
that shows whether two executions had the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...core.clock import NS_PER_MS
from ...core.host_exceptions import raise_if_of_host
from ...metrics.catalogue import PartKind
from .comments import without_comments
from .fastpath import MAX_KEPT_TEXT, StatementBase
from .fingerprint import FINGERPRINTS, Fingerprint

if TYPE_CHECKING:
    from .n_plus_one import StatementGroup

PART = PartKind.SQL.value
_HASHED_BY_REPR = frozenset({list, dict, set, bytearray})
_MAX_EVENT_CHARS = 160
"""Number of characters of a fingerprint in the timeline of a request."""


class Statement(StatementBase):
    """Executions of one text, from one call site of a request, on one database.

    Three lists have one entry per execution that is not merged yet.

    Attributes:
        fingerprint: of the text, once computed.
        text: of the statement, empty for a long one.
        text_hash: hash of the text without comments.
        call_site: ``file:line`` of own code, empty where unknown.
        database: number of the database.
        durations: nanoseconds, including the fetching of rows.
        results: number of rows returned or changed, -1 where unknown; or the class of the error.
        parameter_hashes: hashes of the parameters, ``None`` where they are not compared.
        merged: number of executions that are merged already.
        page_hashes: hashes of the parameters without those that select a page; at most two.
        value_count: number of values in the parameters, those in lists included.
        lazy_count: number of executions that a lazy attribute of an ORM sent.
        ended: end of the latest execution, in nanoseconds on the recorder's clock.
        awaits_rows: whether it returns rows and none was fetched yet, 0 or 1.
        sender: of it; see :data:`.fastpath.DRIVER`.
        setup_ns: nanoseconds from executions that are not merged yet to the first fetch of their rows.
    """

    __slots__ = ()

    def __init__(self, text: str, call_site: str, database: int) -> None:
        self.text, self.call_site, self.database = text, call_site, database
        self.text_hash = hash(without_comments(text))
        self.fingerprint: Fingerprint | None = None
        if len(text) > MAX_KEPT_TEXT:
            self.fingerprint, self.text = FINGERPRINTS.of(text), ""
        self.durations: list[int] = []
        self.results: list[int | str] = []
        self.parameter_hashes: list[int | None] = []
        self.page_hashes: set[int] = set()
        self.merged = self.value_count = self.lazy_count = 0
        self.ended = self.awaits_rows = self.sender = self.setup_ns = 0

    def ensure_fingerprint(self) -> Fingerprint:
        """Return the fingerprint, computed at the first call."""
        if self.fingerprint is None:
            self.fingerprint = FINGERPRINTS.of(self.text)
        return self.fingerprint


class StatementEvent:
    """One execution in the timeline of a request.

    Args:
        statement: the statement.
        results: of the statement; see :class:`Statement`.
        position: of the execution in ``results``.
        began: start, in nanoseconds on the recorder's clock.
        ended: end, in nanoseconds on that clock.
    """

    __slots__ = ("_position", "_results", "_statement", "began", "ended")
    name = PART

    def __init__(
        self, statement: Statement, results: list[int | str], position: int, began: int, ended: int
    ) -> None:
        self._statement, self._results, self._position = statement, results, position
        self.began, self.ended = began, ended

    @property
    def detail(self) -> StatementEvent:
        """The event itself."""
        return self

    def as_dict(self) -> dict[str, Any]:
        """Return the execution as JSON values."""
        result = self._results[self._position]
        failed = isinstance(result, str)
        return {
            "shape": self._statement.ensure_fingerprint().text[:_MAX_EVENT_CHARS],
            "where": self._statement.call_site or None,
            "rows": None if isinstance(result, str) or result < 0 else result,
            "error": result if failed else None,
        }


class RepeatedStatementEvent:
    """Equal statements of a request as one entry of its timeline, from the first to the last.

    Args:
        group: the statements, from one call site.
        began: start of the first one, in nanoseconds on the recorder's clock.
    """

    __slots__ = ("_document", "began", "ended")
    name = PART

    def __init__(self, group: StatementGroup, began: int) -> None:
        self.began, self.ended = began, max(began, group.ended)
        self._document = {
            "shape": group.fingerprint.text[:_MAX_EVENT_CHARS],
            "where": group.call_site or None,
            "rows": group.rows or None,
            "error": next(iter(group.failed), None),
            "calls": group.count,
            "total_ms": round(group.total_ns / NS_PER_MS, 3),
        }

    @property
    def detail(self) -> RepeatedStatementEvent:
        """The event itself."""
        return self

    def as_dict(self) -> dict[str, Any]:
        """Return the statements as JSON values."""
        return self._document


def add_parameters(statement: Statement, parameters: Any) -> None:
    """Add a hash of an execution's parameters; the parameters themselves are not stored.

    The last two parameters of a paged statement select the page, in either order. Only plain tuples,
    lists and dicts are read: other types that a driver accepts are its own, and may have side effects.
    """
    if parameters is None:
        statement.parameter_hashes.append(0)
        return
    kind = type(parameters)
    if kind is tuple or kind is list:
        values = tuple(parameters)
    elif isinstance(parameters, dict):
        values = tuple(parameters.values())
    else:
        statement.parameter_hashes.append(None)
        return
    statement.value_count += len(values)
    try:
        number = hash(values)
    except Exception as error:  # values that are not hashable, like lists and arrays
        raise_if_of_host(error)
        statement.value_count += sum(len(value) - 1 for value in values if type(value) is list)
        values = tuple(map(_hash, values))
        number = hash(values)
    statement.parameter_hashes.append(number)
    if len(values) > 2 and len(statement.page_hashes) < 2:
        statement.page_hashes.add(hash(values[:-2]))


def _hash(value: Any) -> int:
    """Return a hash of any value; one without a hash or a plain ``repr`` equals no other."""
    try:
        return hash(value)
    except Exception as error:
        raise_if_of_host(error)
        if type(value) in _HASHED_BY_REPR:
            return hash(repr(value)[:MAX_KEPT_TEXT])
        return id(value)
