"""Judge of answers about rows that several processes change at once.

Each change of a row adds one to its number and writes a unique token, so that the numbers of a row only
grow, and each answer names the change that it saw. All processes note their changes and answers with the
time of one clock; the answers are judged afterwards. An answer is

- stale, if a later change of the row was committed before the question was put,
- of rolled-back data, if its token is of a change that was never committed,
- too early, if its change was not even requested to be committed when the answer came.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import NamedTuple


class Change(NamedTuple):
    """A change of one row.

    Attributes:
        row: its number.
        value: of the row after it.
        token: unique.
        began: when its commit was requested, in nanoseconds.
        ended: when the commit had returned; infinite if it is not known whether it was committed.
    """

    row: int
    value: int
    token: str
    began: float
    ended: float


class Answer(NamedTuple):
    """An answer about some rows.

    Attributes:
        way: how the query was put.
        rows: their numbers.
        values: of the rows, or one sum of them.
        tokens: of the rows, none for a sum.
        put_at: in nanoseconds.
        came_at: in nanoseconds.
    """

    way: str
    rows: tuple[int, ...]
    values: tuple[int, ...]
    tokens: tuple[str, ...]
    put_at: int
    came_at: int


class Verdict(NamedTuple):
    """Numbers of answers that are wrong, by way, and the longest staleness."""

    stale: Counter[str]
    rolled_back: Counter[str]
    early: Counter[str]
    longest_ns: float


def judge(changes: Iterable[Change], answers: Iterable[Answer]) -> Verdict:
    """Return the wrong answers.

    Args:
        changes: all that were committed, or perhaps were.
        answers: all.
    """
    by_row: dict[int, list[Change]] = defaultdict(list)
    for change in changes:
        by_row[change.row].append(change)
    ends = {}
    for row, of_row in by_row.items():
        of_row.sort(key=lambda change: change.ended)
        highest = 0
        ends[row] = ([change.ended for change in of_row],
                     [highest := max(highest, change.value) for change in of_row])  # fmt: skip
    tokens = {change.token: change for of_row in by_row.values() for change in of_row}
    stale, rolled_back, early = Counter[str](), Counter[str](), Counter[str]()
    longest = 0.0
    for answer in answers:
        least = [_least(ends.get(row), answer.put_at) for row in answer.rows]
        pairs = [(sum(answer.values), sum(least))] if not answer.tokens else list(
            zip(answer.values, least, strict=True)
        )  # fmt: skip
        if any(value < bound for value, bound in pairs):
            stale[answer.way] += 1
            longest = max(longest, _since(answer, by_row))
        for token in answer.tokens:
            if token and token not in tokens:
                rolled_back[answer.way] += 1
            elif token and tokens[token].began > answer.came_at:
                early[answer.way] += 1
        if not answer.tokens:
            most = sum(_most(by_row.get(row, ()), answer.came_at) for row in answer.rows)
            rolled_back[answer.way] += sum(answer.values) > most
    return Verdict(stale, +rolled_back, early, longest)


def _least(ends: tuple[list[float], list[int]] | None, at: int) -> int:
    """Return the value that a row had at least, by the commits that had returned."""
    if ends is None:
        return 0
    place = bisect_left(ends[0], at)
    return ends[1][place - 1] if place else 0


def _most(changes: Iterable[Change], at: int) -> int:
    """Return the value that a row had at most, by the commits that were requested."""
    return max((change.value for change in changes if change.began <= at), default=0)


def _since(answer: Answer, by_row: dict[int, list[Change]]) -> float:
    """Return for how long an answer was out of date when its query was put, in nanoseconds."""
    ages = [0.0]
    for place, row in enumerate(answer.rows):
        for change in by_row.get(row, ()):
            is_newer = not answer.tokens or change.value > answer.values[place]
            if is_newer and change.ended < answer.put_at:
                ages.append(answer.put_at - change.ended)
    return max(ages)
