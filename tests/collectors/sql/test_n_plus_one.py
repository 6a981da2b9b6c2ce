"""N+1 and duplicates, by what the calls of a request have in common."""

from __future__ import annotations

import pytest

from flask_knitperf.collectors.sql.fingerprint import shape
from flask_knitperf.collectors.sql.n_plus_one import Group, repeats
from flask_knitperf.collectors.sql.statements import Sent
from flask_knitperf.metrics.catalogue import RepeatKind

ONE = "SELECT a FROM t WHERE id = ?"


def group(
    statement: str = ONE,
    values: list[int] | None = None,
    rows: int = 1,
    listed: int = 1,
    lazy: int = 0,
    pages: bool = False,
) -> Group:
    """Return calls of one request, each of 10 ns."""
    made = Group(shape(statement), "views.py:3")
    sent = Sent(statement, "views.py:3", 1)
    sent.parameter_hashes = [*values] if values is not None else [*range(10)]
    count = len(sent.parameter_hashes)
    sent.durations, sent.results = [10] * count, [rows] * count
    sent.value_count, sent.lazy_count = listed * count, lazy * count
    sent.page_hashes = {0} if pages else {1, 2}
    made.take(sent)
    return made


def kinds(*groups: Group) -> list[str]:
    return [one.kind for one in repeats(groups)]


@pytest.mark.parametrize(("values", "found"), [
    ([1, 2, 3, 4, 5], [RepeatKind.N_PLUS_ONE]),
    ([1, 2, 3, 4], []),
    ([1, 1, 2, 2, 3], [RepeatKind.N_PLUS_ONE]),
    ([1, 1, 1, 2, 2, 2], [RepeatKind.DUPLICATES]),
    ([1, 1, 1], [RepeatKind.DUPLICATES]),
    ([1, 1], []),
    ([1, 1, 2, 2], []),
    ([], []),
])  # fmt: skip
def test_five_calls_with_three_sets_of_parameters_are_an_n_plus_one(
    values: list[int], found: list[str]
) -> None:
    assert kinds(group(values=values)) == found


@pytest.mark.parametrize("statement", [
    "UPDATE t SET a = 1 WHERE id = ?", "INSERT INTO t VALUES (?)", "COMMIT",
])  # fmt: skip
def test_writes_are_none(statement: str) -> None:
    assert kinds(group(statement)) == []


def test_calls_that_differ_in_their_offset_alone_are_pages() -> None:
    statement = (
        "SELECT a FROM t WHERE b = ? LIMIT ? OFFSET ?"  # as SQLAlchemy writes LIMIT 1 for SQLite
    )
    assert kinds(group(statement, pages=True)) == []
    assert kinds(group(statement)) == [RepeatKind.N_PLUS_ONE]
    assert kinds(group(pages=True)) == [RepeatKind.N_PLUS_ONE]


def test_limited_ranges_of_many_rows_are_pages_and_the_latest_row_is_not() -> None:
    statement = "SELECT a FROM t WHERE b = ? AND at <= ? ORDER BY at LIMIT ?"
    assert kinds(group(statement, rows=10)) == []
    assert kinds(group(statement, rows=1)) == [RepeatKind.N_PLUS_ONE]


def test_lists_of_many_values_are_pieces_and_short_ones_are_not() -> None:
    statement = "SELECT a FROM t WHERE id IN (?, ?)"
    assert kinds(group(statement, listed=10)) == []
    assert kinds(group(statement, listed=2)) == [RepeatKind.N_PLUS_ONE]


def test_ranges_of_many_rows_are_pieces_and_short_ones_are_not() -> None:
    statement = "SELECT a FROM t WHERE id BETWEEN ? AND ?"
    assert kinds(group(statement, rows=10)) == []
    assert kinds(group(statement, rows=2)) == [RepeatKind.N_PLUS_ONE]


def test_what_is_told_counts_all_calls_and_of_duplicates_those_behind_the_first() -> None:
    [n_plus_one] = repeats([group(values=[1, 2, 3, 4, 5], rows=2, lazy=1)])
    assert (n_plus_one.times, n_plus_one.took) == (5, 50)
    assert (n_plus_one.lazy, n_plus_one.each) == (True, 2.0)
    [duplicates] = repeats([group(values=[1, 1, 1, 1, 2, 2])])
    assert (duplicates.times, duplicates.took, duplicates.lazy) == (3, 30, False)


def test_the_dearest_comes_first() -> None:
    small, large = group(values=[1, 2, 3, 4, 5]), group("SELECT b FROM u WHERE id = ?")
    assert [one.shape.text for one in repeats([small, large])] == [
        large.shape.text,
        small.shape.text,
    ]


def test_sets_of_parameters_that_are_remembered_are_bounded() -> None:
    made = group(values=list(range(5000)))
    assert len(made.same) == 2000 and made.judged == 5000
    assert kinds(made) == [RepeatKind.N_PLUS_ONE]
