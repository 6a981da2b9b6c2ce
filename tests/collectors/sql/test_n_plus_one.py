"""N+1 and duplicates among the calls of a request."""

from __future__ import annotations

import pytest

from flask_knitperf.collectors.sql.fingerprint import fingerprint
from flask_knitperf.collectors.sql.n_plus_one import StatementGroup, repeats
from flask_knitperf.collectors.sql.statements import Statement
from flask_knitperf.metrics.catalogue import RepeatKind

ONE = "SELECT a FROM t WHERE id = ?"


def group(
    text: str = ONE,
    values: list[int] | None = None,
    rows: int = 1,
    value_count: int = 1,
    lazy: int = 0,
    pages: bool = False,
) -> StatementGroup:
    """Return calls of one request, each of 10 ns."""
    calls = StatementGroup(fingerprint(text), "views.py:3")
    statement = Statement(text, "views.py:3", 1)
    statement.parameter_hashes = [*values] if values is not None else [*range(10)]
    count = len(statement.parameter_hashes)
    statement.durations, statement.results = [10] * count, [rows] * count
    statement.value_count, statement.lazy_count = value_count * count, lazy * count
    statement.page_hashes = {0} if pages else {1, 2}
    calls.merge(statement)
    return calls


def kinds(*groups: StatementGroup) -> list[str]:
    return [repeat.kind for repeat in repeats(groups)]


@pytest.mark.parametrize(("values", "expected"), [
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
    values: list[int], expected: list[str]
) -> None:
    assert kinds(group(values=values)) == expected


@pytest.mark.parametrize("statement", [
    "UPDATE t SET a = 1 WHERE id = ?", "INSERT INTO t VALUES (?)", "COMMIT",
])  # fmt: skip
def test_writes_are_not_repeats(statement: str) -> None:
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


def test_lists_of_many_values_are_chunks_and_short_ones_are_not() -> None:
    statement = "SELECT a FROM t WHERE id IN (?, ?)"
    assert kinds(group(statement, value_count=10)) == []
    assert kinds(group(statement, value_count=2)) == [RepeatKind.N_PLUS_ONE]


def test_ranges_of_many_rows_are_chunks_and_short_ones_are_not() -> None:
    statement = "SELECT a FROM t WHERE id BETWEEN ? AND ?"
    assert kinds(group(statement, rows=10)) == []
    assert kinds(group(statement, rows=2)) == [RepeatKind.N_PLUS_ONE]


def test_all_calls_count_and_of_duplicates_those_after_the_first() -> None:
    [n_plus_one] = repeats([group(values=[1, 2, 3, 4, 5], rows=2, lazy=1)])
    assert (n_plus_one.calls, n_plus_one.total_ns) == (5, 50)
    assert (n_plus_one.lazy, n_plus_one.rows_per_call) == (True, 2.0)
    [duplicates] = repeats([group(values=[1, 1, 1, 1, 2, 2])])
    assert (duplicates.calls, duplicates.total_ns, duplicates.lazy) == (3, 30, False)


def test_the_most_expensive_comes_first() -> None:
    small, large = group(values=[1, 2, 3, 4, 5]), group("SELECT b FROM u WHERE id = ?")
    assert [repeat.fingerprint.text for repeat in repeats([small, large])] == [
        large.fingerprint.text,
        small.fingerprint.text,
    ]


def test_the_number_of_parameter_sets_is_bounded() -> None:
    calls = group(values=list(range(5000)))
    assert len(calls.by_parameters) == 2000 and calls.comparable == 5000
    assert kinds(calls) == [RepeatKind.N_PLUS_ONE]
