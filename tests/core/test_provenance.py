"""Provenance: origins of objects, by weak reference."""

from __future__ import annotations

import gc

import pytest

from flask_knitperf.core import provenance
from flask_knitperf.core.provenance import Origin, Origins


class Table:
    """An object with weak references and without a hash."""

    __hash__ = None  # type: ignore[assignment]


def test_a_registered_origin_is_returned() -> None:
    origins, table = Origins(), Table()
    origins.remember(table, "read_csv stock.csv", "app.py:3")
    assert origins.of(table) == Origin("read_csv stock.csv", "app.py:3")


def test_unregistered_objects_have_no_origin() -> None:
    origins, table = Origins(), Table()
    origins.remember(table, "read_csv stock.csv", "app.py:3")
    assert origins.of(Table()) is None


def test_an_entry_disappears_with_its_object() -> None:
    origins, table = Origins(), Table()
    origins.remember(table, "read_csv stock.csv", "app.py:3")
    del table
    gc.collect()
    assert len(origins) == 0


def test_the_first_registration_wins() -> None:
    origins, table = Origins(), Table()
    origins.remember(table, "read_excel", "app.py:3")
    origins.remember(table, "something else", "app.py:9")
    origin = origins.of(table)
    assert origin is not None
    assert origin.what == "read_excel"


def test_objects_without_weak_references_are_skipped() -> None:
    origins = Origins()
    origins.remember({}, "a dictionary", "")
    assert len(origins) == 0


def test_the_number_of_entries_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "_MAX_OBJECTS", 2)
    origins, tables = Origins(), [Table() for _ in range(5)]
    for table in tables:
        origins.remember(table, "read_csv", "")
    assert len(origins) == 2
