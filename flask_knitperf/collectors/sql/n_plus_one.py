"""N+1 and duplicates: one request sends the same statement again and again from the same line.

An **N+1**: something is asked for each of many rows. Within one request there are at least five calls
of one shape to one database from one line, with at least three different sets of parameters. What only
looks like that is told apart by what it does: pages (``OFFSET``, or a range with ``LIMIT``), lists and
ranges of many rows ask for a large set in pieces on purpose; writes are no reads.

**Duplicates**: the same statement with the same parameters, at least three times within one request.
They are told apart from the former, for what helps is to remember the answer.

The least number of calls is what others use in production (Sentry's "N+1 queries" wants five spans;
bullet and prosopite ask for the same line); the look-alikes are false alarms that were reported of
such detectors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from ...metrics.catalogue import RepeatKind
from .fingerprint import READS, Shape
from .statements import Sent

LEAST = 5
"""Calls from one line that are an N+1,"""
LEAST_DIFFERENT = 3
"""with so many sets of parameters among them."""
LEAST_SAME = 3
"""Calls with the same parameters that are duplicates."""
PIECES = 10
"""Values of a list, or rows of a range, from which on (on the average) it is one of many pieces."""
_DIFFERENT_KEPT = 2000
_PAGES_KEPT = 2
_PAGE = re.compile(r"\b(offset|limit|fetch\s+(?:first|next))\s+\d+(\s*,\s*\d+)?", re.IGNORECASE)


class Group:
    """The calls of one request that have one shape and come from one line.

    Attributes:
        shape: theirs.
        where: the line.
        count: calls.
        took: nanoseconds of all of them.
        rows: that all gave.
        listed: values that all asked for.
        lazy: calls that an attribute of an ORM's object sent.
        failed: number and nanoseconds of those that failed, by the class of error.
        judged: calls that succeeded where repeating was not allowed.
        same: how many of those had the same parameters, and their nanoseconds, by those parameters.
        pages: what those differ in, leaving out which page they ask for; a few.
    """

    __slots__ = (
        "count", "failed", "judged", "lazy", "listed", "pages", "rows", "same", "shape", "took", "where",
    )  # fmt: skip

    def __init__(self, shape: Shape, where: str) -> None:
        self.shape, self.where = shape, where
        self.count = self.took = self.rows = self.listed = self.lazy = self.judged = 0
        self.failed: dict[str, list[int]] = {}
        self.same: dict[int, list[int]] = {}
        self.pages: set[int] = set()

    def take(self, sent: Sent) -> None:
        """Take in the calls of one text, which has nothing left then."""
        times, results, values = sent.durations, sent.results, sent.parameter_hashes
        sent.durations, sent.results, sent.parameter_hashes = [], [], []
        sent.merged += len(times)
        self.count += len(times)
        self.took += sum(times)
        self.listed += sent.value_count
        self.lazy += sent.lazy_count
        sent.value_count = sent.lazy_count = 0
        for took, result in zip(times, results, strict=False):
            if type(result) is int:
                self.rows += max(0, result)
            else:
                row = self.failed.setdefault(str(result), [0, 0])
                row[0] += 1
                row[1] += took
        if self.shape.kind == READS:
            self._judge(sent, times, values)

    def _judge(self, sent: Sent, times: list[int], values: list[int | None]) -> None:
        text = sent.text_hash  # values may be written into it
        same = self.same
        for took, value in zip(times, values, strict=False):
            if value is None:
                continue
            self.judged += 1
            row = same.get(value ^ text)
            if row is not None:
                row[0] += 1
                row[1] += took
            elif len(same) < _DIFFERENT_KEPT:
                same[value ^ text] = [1, took]
        if self.shape.offset and len(self.pages) < _PAGES_KEPT:
            page = hash(_PAGE.sub("", sent.text))
            self.pages |= {page ^ each for each in sent.page_hashes or (0,)}


class Repeat(NamedTuple):
    """Calls of one request that one call could have been.

    Attributes:
        kind: ``n_plus_one`` or ``duplicates``.
        shape: their shape.
        where: the line of own code they come from.
        times: how many calls there are, of duplicates those behind the first.
        took: nanoseconds of them.
        lazy: whether attributes of an ORM's objects sent them.
        each: rows that one gave, on the average.
    """

    kind: RepeatKind
    shape: Shape
    where: str
    times: int
    took: int
    lazy: bool
    each: float


def repeats(groups: Iterable[Group]) -> list[Repeat]:
    """Return what a request asked again and again, the dearest first."""
    found = [repeat for group in groups if (repeat := _judge(group)) is not None]
    return sorted(found, key=lambda one: (-one.took, one.shape.id, one.where))


def _judge(group: Group) -> Repeat | None:
    if group.judged < LEAST_SAME or group.shape.kind != READS:
        return None
    lazy, each = group.lazy * 2 > group.count, group.rows / group.count
    if group.judged >= LEAST and len(group.same) >= LEAST_DIFFERENT:
        if _in_pieces(group):
            return None
        return Repeat(
            RepeatKind.N_PLUS_ONE, group.shape, group.where, group.judged, group.took, lazy, each
        )
    again = [row for row in group.same.values() if row[0] >= LEAST_SAME]
    if not again:
        return None
    times = sum(count - 1 for count, _ in again)
    took = sum(ns * (count - 1) // count for count, ns in again)
    return Repeat(RepeatKind.DUPLICATES, group.shape, group.where, times, took, lazy, each)


def _in_pieces(group: Group) -> bool:
    """Return whether calls fetch one large set in pieces on purpose."""
    shape = group.shape
    if shape.offset and len(group.pages) == 1:  # calls that differ in nothing else
        return True
    if shape.listed and group.listed >= PIECES * group.count:
        return True
    many = shape.ranged or shape.limited or shape.arrayed
    return many and max(group.rows, group.listed) >= PIECES * group.count
