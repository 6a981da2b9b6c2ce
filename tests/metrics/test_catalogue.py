"""The catalogue: every meter and kind of evidence is declared once, recorded and read."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from enum import StrEnum
from functools import cache
from pathlib import Path

import pytest

import flask_knitperf
from flask_knitperf.metrics import catalogue
from flask_knitperf.metrics.catalogue import EVIDENCE, METERS
from flask_knitperf.metrics.codec import FORMAT
from flask_knitperf.metrics.instruments import Evidence, Meter

PACKAGE = Path(flask_knitperf.__file__).parent
HOME = "metrics/catalogue.py"
INSTRUMENTS = {
    name: value for name, value in vars(catalogue).items() if isinstance(value, Meter | Evidence)
}
"""Meters and kinds of evidence by the name of their constant."""
RECORDERS = ("caching", "collectors", "recording", "instrumentation", "runtime", "storage")
READERS = ("metrics/readings", "analysis", "reports", "storage")
DOCUMENTS = ("analysis", "reports", "render", "web", "cli", "runtime", "api", "alerts", "exports")
"""Folders that read totals through readings only."""
CATALOGUE_OF_FORMAT = (16, "5ce35aee10b5eda1")
"""Number of the format, and hash of the names that its runs contain. A change of the catalogue changes
the hash: then increment ``FORMAT``, and put both here."""
NOT_READ: dict[str, str] = {
    "STARTED": "storage.state_dir counts what is open at its worker's death as KILLED, by its kind",
}
"""Meters that no report reads by their constant: the reason."""


@cache
def trees(*folders: str) -> dict[str, ast.Module]:
    """Return the modules of the package by path, or those of some folders."""
    paths = [path.relative_to(PACKAGE).as_posix() for path in sorted(PACKAGE.rglob("*.py"))]
    chosen = [p for p in paths if not folders or p.startswith(tuple(f"{f}/" for f in folders))]
    return {path: ast.parse((PACKAGE / path).read_text(encoding="utf-8")) for path in chosen}


def names_used(modules: Iterable[ast.Module]) -> set[str]:
    """Return the names that modules use, without those that they only import."""
    nodes = [node for module in modules for node in ast.walk(module)]
    used = {node.id for node in nodes if isinstance(node, ast.Name)}
    return used | {node.attr for node in nodes if isinstance(node, ast.Attribute)}


def imports(module: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield the module and the name of each name that is imported from somewhere."""
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node.module or "", alias.name


def test_every_name_is_declared_once() -> None:
    assert len(INSTRUMENTS) == len(METERS) + len(EVIDENCE)
    assert not METERS.keys() & EVIDENCE.keys()
    assert set(INSTRUMENTS.values()) == {*METERS.values(), *EVIDENCE.values()}


def names_on_disk() -> list[str]:
    """Return the names that a run contains: of meters, labels and their values, keys and details."""
    meters = [f"{m.name} {m.kind} {m.unit} {m.labels}" for m in METERS.values()]
    evidence = [
        f"{e.name} {e.key._fields} {sorted(e.detail.__annotations__)}" for e in EVIDENCE.values()
    ]
    enumerations = [
        f"{name} {[str(member) for member in value]}"
        for name, value in vars(catalogue).items()
        if isinstance(value, type)
        and issubclass(value, StrEnum)
        and value.__module__ == catalogue.__name__
    ]
    return sorted(meters + evidence + enumerations)


def test_a_change_of_the_names_in_a_run_is_another_format() -> None:
    """Without it a run of an earlier version reads as one without requests."""
    digest = hashlib.sha256("\n".join(names_on_disk()).encode()).hexdigest()[:16]
    assert (FORMAT, digest) == CATALOGUE_OF_FORMAT


def test_names_of_reports_are_unique() -> None:
    assert len({meter.short_name for meter in METERS.values()}) == len(METERS)


@pytest.mark.parametrize("meter", METERS.values(), ids=list(METERS))
def test_the_labels_of_a_meter_are_unique_and_its_series_are_limited(meter: Meter) -> None:
    assert len(set(meter.labels)) == len(meter.labels)
    assert all(label.isidentifier() for label in meter.labels)
    assert 0 < meter.limit <= 2000
    if "endpoint" in meter.labels:
        assert meter.labels[:2] == ("endpoint", "method")  # by which readings group


def test_instruments_are_constructed_in_the_catalogue_only() -> None:
    calls = {
        f"{path}:{node.lineno}"
        for path, module in trees().items()
        for node in ast.walk(module)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in (Meter.__name__, Evidence.__name__)
    }
    assert {place.partition(":")[0] for place in calls} == {HOME}


def test_no_other_module_holds_a_name_as_a_literal() -> None:
    assert [
        f"{path}:{node.lineno}: {node.value}"
        for path, module in trees().items()
        for node in ast.walk(module)
        if isinstance(node, ast.Constant)
        and path != HOME
        and node.value in METERS.keys() | EVIDENCE.keys()
    ] == []


@pytest.mark.slow
def test_every_instrument_is_recorded() -> None:
    used = names_used(trees(*RECORDERS).values())
    assert sorted(INSTRUMENTS.keys() - used) == []


def test_every_instrument_is_read_or_has_a_reason_not_to_be() -> None:
    used = names_used(trees(*READERS).values())
    assert sorted(INSTRUMENTS.keys() - used) == sorted(NOT_READ)


def test_reports_read_through_readings_only() -> None:
    assert [
        (path, name)
        for path, module in trees(*DOCUMENTS).items()
        for source, name in imports(module)
        if (source.endswith("metrics.totals") and name in ("Totals", "By", "Row"))
        or (source.endswith("metrics.table") and name == "Table")
    ] == []
