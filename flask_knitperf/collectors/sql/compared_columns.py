"""Columns that the conditions of a statement compare, found by an SQL parser (sqlglot), if installed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

_MAX_PARSED_CHARS = 10_000
"""Length above which a statement is not parsed."""


class Table(NamedTuple):
    """A table in a statement.

    Attributes:
        alias: its name in the statement.
        name: its name in the database.
        columns: compared in conditions; an unqualified one may belong to another table.
    """

    alias: str
    name: str
    columns: tuple[str, ...]


def tables(statement: str, dialect: str, aliases: Iterable[str]) -> list[Table]:
    """Return the tables of some aliases, with the columns that conditions compare."""
    try:
        import sqlglot
        from sqlglot import exp
    except ImportError:
        return []
    if len(statement) > _MAX_PARSED_CHARS or " indexed" in statement.lower():
        return []
    try:
        tree = sqlglot.parse_one(statement, dialect=dialect)
    except sqlglot.errors.SqlglotError:
        return []
    if tree.find(exp.SetOperation) or any(table.db for table in tree.find_all(exp.Table)):
        return []  # a condition may apply to one half only, and the name to another schema
    names = {table.alias_or_name: table.name for table in tree.find_all(exp.Table)}
    return [
        Table(alias, names[alias], _compared_columns(tree, {alias, names[alias]}))
        for alias in dict.fromkeys(aliases)
        if alias in names
    ]


def filter_columns(condition: str, names: set[str]) -> tuple[str, ...]:
    """Return the columns of a table that a filter of PostgreSQL compares."""
    try:
        import sqlglot
    except ImportError:
        return ()
    try:
        tree = sqlglot.parse_one(f"SELECT 1 WHERE {condition}", dialect="postgres")
    except sqlglot.errors.SqlglotError:
        return ()
    return _compared_columns(tree, names)


def _compared_columns(tree: Any, names: set[str]) -> tuple[str, ...]:
    """Return the columns that conditions compare: those for equality first, then one of a range.

    Args:
        tree: a parsed statement.
        names: of the table; an unqualified column may belong to it.
    """
    from sqlglot import exp

    equal: dict[str, None] = {}
    ranged: dict[str, None] = {}
    for comparisons, columns in (
        ((exp.EQ, exp.In), equal),
        ((exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between), ranged),
    ):
        for test in tree.find_all(*comparisons):
            if test.find_ancestor(exp.Where, exp.Join) is None or test.find_ancestor(
                exp.Or, exp.Not
            ):
                continue
            sides = (test.this, test.args.get("expression"))
            if test.find(exp.Collate) or all(
                isinstance(side, exp.Column) and side.table in {"", *names} for side in sides
            ):
                continue
            for side in sides:
                column = side
                while isinstance(column, exp.Cast | exp.Paren):
                    column = column.this
                if isinstance(column, exp.Column) and column.table in {"", *names}:
                    columns[column.name] = None
    return (*equal, *[name for name in ranged if name not in equal][:1])
