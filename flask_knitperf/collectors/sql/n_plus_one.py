"""N+1 and duplicate queries: one request sends the same statement repeatedly from one call site.

An **N+1** is one query per row. Within one request there are at least five calls with one fingerprint to
one database from one call site, with at least three different sets of parameters. Look-alikes are
recognised by their behaviour: pages (``OFFSET``, or a range with ``LIMIT``), and lists and ranges of
many rows, fetch a large set in chunks on purpose; writes are not reads.

**Duplicates** are the same statement with the same parameters, at least three times within one request.
They are reported separately, since the remedy is to reuse the result.

The minimum number of calls is common in production (Sentry's "N+1 queries" needs five spans; bullet and
prosopite require the same line); the look-alikes are false alarms that were reported of such detectors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from ...metrics.catalogue import RepeatKind
from .comments import without_comments
from .fingerprint import READS, Fingerprint
from .statements import Statement

MIN_CALLS = 5
"""Number of calls from one call site that make an N+1."""
MIN_PARAMETER_SETS = 3
"""Number of different sets of parameters among them."""
MIN_DUPLICATES = 3
"""Number of calls with the same parameters that make duplicates."""
MIN_CHUNK_SIZE = 10
"""Mean number of values of a list, or of rows of a range, that makes it a chunk of a large set."""
_MAX_PARAMETER_SETS = 2000
_MAX_PAGE_HASHES = 2
_PAGE = re.compile(r"\b(offset|limit|fetch\s+(?:first|next))\s+\d+(\s*,\s*\d+)?", re.IGNORECASE)


class StatementGroup:
    """Calls of one request with one fingerprint and one call site.

    Attributes:
        fingerprint: of the calls.
        call_site: ``file:line``.
        count: number of calls.
        total_ns: duration of all calls.
        setup_ns: time from their execution to the first fetch of their rows; see :mod:`.call_overhead`.
        sender: of the latest one; see :data:`.fastpath.DRIVER`.
        overhead_ns: time that an engine and an ORM spend on the calls besides, by their set-up.
        between_ns: time between the calls, an upper bound of it.
        ended: end of the latest execution, in nanoseconds on the recorder's clock.
        rows: number of rows of all calls.
        value_count: number of values in the parameters of all calls.
        lazy_count: number of calls that lazy attributes of an ORM sent.
        failed: number and nanoseconds of failed calls, by class of the error.
        comparable: number of calls that succeeded and whose parameters are compared.
        by_parameters: number and nanoseconds of those, by the hash of their parameters.
        page_hashes: hashes of their parameters without those that select a page; a few.
    """

    __slots__ = (
        "between_ns", "by_parameters", "call_site", "comparable", "count", "ended", "failed",
        "fingerprint", "lazy_count", "overhead_ns", "page_hashes", "rows", "sender", "setup_ns",
        "total_ns", "value_count",
    )  # fmt: skip

    def __init__(self, fingerprint: Fingerprint, call_site: str) -> None:
        self.fingerprint, self.call_site = fingerprint, call_site
        self.count = self.total_ns = self.rows = 0
        self.setup_ns = self.overhead_ns = self.between_ns = self.ended = self.sender = 0
        self.value_count = self.lazy_count = self.comparable = 0
        self.failed: dict[str, list[int]] = {}
        self.by_parameters: dict[int, list[int]] = {}
        self.page_hashes: set[int] = set()

    def merge(self, statement: Statement) -> None:
        """Move the buffered calls of a statement into this group."""
        durations, results = statement.durations, statement.results
        parameter_hashes = statement.parameter_hashes
        statement.durations, statement.results, statement.parameter_hashes = [], [], []
        statement.merged += len(durations)
        self.count += len(durations)
        self.total_ns += sum(durations)
        self.setup_ns += statement.setup_ns
        self.sender = statement.sender
        statement.setup_ns = 0
        self.ended = max(self.ended, statement.ended)
        self.value_count += statement.value_count
        self.lazy_count += statement.lazy_count
        statement.value_count = statement.lazy_count = 0
        for duration, result in zip(durations, results, strict=False):
            if type(result) is int:
                self.rows += max(0, result)
            else:
                row = self.failed.setdefault(str(result), [0, 0])
                row[0] += 1
                row[1] += duration
        if self.fingerprint.kind == READS:
            self._compare(statement, durations, parameter_hashes)

    def add(self, other: StatementGroup) -> None:
        """Add the calls of a group of the same fingerprint and call site."""
        self.count += other.count
        self.total_ns += other.total_ns
        self.setup_ns += other.setup_ns
        self.sender, self.ended = other.sender, max(self.ended, other.ended)
        self.rows += other.rows
        self.value_count += other.value_count
        self.lazy_count += other.lazy_count
        self.comparable += other.comparable
        self.page_hashes |= other.page_hashes
        _add_counts(self.failed, other.failed)
        _add_counts(self.by_parameters, other.by_parameters)

    def _compare(
        self, statement: Statement, durations: list[int], parameter_hashes: list[int | None]
    ) -> None:
        """Count calls by their parameters; the text is part of them, as it may contain values."""
        by_parameters, text_hash = self.by_parameters, statement.text_hash
        for duration, parameter_hash in zip(durations, parameter_hashes, strict=False):
            if parameter_hash is None:
                continue
            self.comparable += 1
            row = by_parameters.get(parameter_hash ^ text_hash)
            if row is not None:
                row[0] += 1
                row[1] += duration
            elif len(by_parameters) < _MAX_PARAMETER_SETS:
                by_parameters[parameter_hash ^ text_hash] = [1, duration]
        if self.fingerprint.has_offset and len(self.page_hashes) < _MAX_PAGE_HASHES:
            page = hash(_PAGE.sub("", without_comments(statement.text)))
            self.page_hashes |= {page ^ rest for rest in statement.page_hashes or (0,)}


def _add_counts(rows: dict[Any, list[int]], others: dict[Any, list[int]]) -> None:
    """Add numbers and nanoseconds by key."""
    for key, (count, total_ns) in others.items():
        row = rows.get(key)
        if row is not None:
            row[0] += count
            row[1] += total_ns
        elif len(rows) < _MAX_PARAMETER_SETS:
            rows[key] = [count, total_ns]


class Repeat(NamedTuple):
    """Calls of one request that one call could replace.

    Attributes:
        kind: N+1 or duplicates.
        fingerprint: of the calls.
        call_site: ``file:line`` of own code.
        calls: number of calls; of duplicates, those after the first.
        total_ns: their duration.
        avoidable_ns: time that one call in place of all saves, with the overhead of the calls.
        bound_ns: upper bound of it, with all of the time between the calls.
        lazy: whether lazy attributes of an ORM sent most of them.
        rows_per_call: mean number of rows.
    """

    kind: RepeatKind
    fingerprint: Fingerprint
    call_site: str
    calls: int
    total_ns: int
    avoidable_ns: int
    bound_ns: int
    lazy: bool
    rows_per_call: float


def repeats(groups: Iterable[StatementGroup]) -> list[Repeat]:
    """Return the repeated calls of a request, the most expensive first."""
    judged = [
        repeat
        for group in groups
        if group.comparable >= MIN_DUPLICATES and (repeat := _judge(group)) is not None
    ]
    return sorted(judged, key=lambda r: (-r.total_ns, r.fingerprint.id, r.call_site))


def _judge(group: StatementGroup) -> Repeat | None:
    if group.fingerprint.kind != READS:
        return None
    lazy, rows_per_call = group.lazy_count * 2 > group.count, group.rows / group.count
    if group.comparable >= MIN_CALLS and len(group.by_parameters) >= MIN_PARAMETER_SETS:
        if _fetches_chunks(group):
            return None
        return Repeat(
            RepeatKind.N_PLUS_ONE, group.fingerprint, group.call_site, group.comparable,
            group.total_ns, _of_others(group, group.overhead_ns),
            _of_others(group, group.between_ns), lazy, rows_per_call,
        )  # fmt: skip
    duplicates = [row for row in group.by_parameters.values() if row[0] >= MIN_DUPLICATES]
    if not duplicates:
        return None
    calls = sum(count - 1 for count, _ in duplicates)
    total_ns = sum(ns * (count - 1) // count for count, ns in duplicates)
    avoidable_ns = total_ns + group.overhead_ns * calls // group.count
    bound_ns = total_ns + group.between_ns * calls // group.count
    return Repeat(
        RepeatKind.DUPLICATES, group.fingerprint, group.call_site, calls, total_ns, avoidable_ns,
        bound_ns, lazy, rows_per_call,
    )  # fmt: skip


def _of_others(group: StatementGroup, overhead_ns: int) -> int:
    """Return the time of all calls but one in nanoseconds, with their overhead."""
    return (group.total_ns + overhead_ns) * (group.comparable - 1) // group.count


def _fetches_chunks(group: StatementGroup) -> bool:
    """Return whether the calls fetch one large set in chunks on purpose."""
    text = group.fingerprint
    if text.has_offset and len(group.page_hashes) == 1:  # the calls differ in their page only
        return True
    if text.has_list and group.value_count >= MIN_CHUNK_SIZE * group.count:
        return True
    may_return_many = text.has_range or text.has_limit or text.has_array
    largest = max(group.rows, group.value_count)
    return may_return_many and largest >= MIN_CHUNK_SIZE * group.count
