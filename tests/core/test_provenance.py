"""Where objects came from, without keeping them."""

from __future__ import annotations

import gc

import pytest

from flask_knitperf.core import provenance
from flask_knitperf.core.provenance import Origin, Origins


class Table:
    """Something that can be held weakly and has no hash."""

    __hash__ = None  # type: ignore[assignment]


def test_what_was_told_is_known() -> None:
    known, table = Origins(), Table()
    known.remember(table, "read_csv stock.csv", "app.py:3")
    assert known.of(table) == Origin("read_csv stock.csv", "app.py:3")


def test_of_other_objects_nothing_is_known() -> None:
    known, table = Origins(), Table()
    known.remember(table, "read_csv stock.csv", "app.py:3")
    assert known.of(Table()) is None


def test_an_object_that_goes_is_forgotten() -> None:
    known, table = Origins(), Table()
    known.remember(table, "read_csv stock.csv", "app.py:3")
    del table
    gc.collect()
    assert len(known) == 0


def test_the_first_to_tell_is_believed() -> None:
    known, table = Origins(), Table()
    known.remember(table, "read_excel", "app.py:3")
    known.remember(table, "something else", "app.py:9")
    found = known.of(table)
    assert found is not None
    assert found.what == "read_excel"


def test_what_cannot_be_held_weakly_is_passed_over() -> None:
    known = Origins()
    known.remember({}, "a dictionary", "")
    assert len(known) == 0


def test_there_is_an_end_to_what_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "_KEPT", 2)
    known, tables = Origins(), [Table() for _ in range(5)]
    for table in tables:
        known.remember(table, "read_csv", "")
    assert len(known) == 2
