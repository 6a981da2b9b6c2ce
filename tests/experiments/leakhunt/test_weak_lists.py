"""Weak references that pile up in a list until its owner removes them: pandas' frames, and others."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from flask_knitperf.experiments.in_process import Request
from flask_knitperf.experiments.leakhunt.growth import Growth
from flask_knitperf.experiments.leakhunt.native_phase import run as run_native
from flask_knitperf.experiments.leakhunt.retainers import Retainer, refers_to_freed_objects
from flask_knitperf.experiments.leakhunt.verdict import UNPRUNED_ITEMS, verdict
from flask_knitperf.experiments.leakhunt.weak_lists import PandasReferences
from flask_knitperf.render import leakhunt

from . import leaking_pandas
from .leaking import ignore_progress, is_own
from .leaking_pandas import FRAME
from .test_phases import CONFIRMED, RETAINS


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    yield
    leaking_pandas.clear()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["reading", "assigning", "caching"])
@pytest.mark.parametrize("requests", [40, 100, 200])
def test_a_view_on_a_frame_of_the_module_retains_nothing(name: str, requests: int) -> None:
    assert not leaking_pandas.in_subprocess(name, requests).growth.steady


@pytest.mark.slow
def test_small_stores_of_libraries_that_fill_are_no_leak() -> None:
    assert not verdict(leaking_pandas.in_subprocess("masking", 40), CONFIRMED).leaks


@pytest.mark.slow
def test_frames_that_are_retained_are_a_leak() -> None:
    result = leaking_pandas.in_subprocess("retaining_views", 100)
    assert result.growth.steady
    assert "VIEWS of module" in result.retainers[0].path
    assert not result.retainers[0].dead_references
    assert verdict(result, CONFIRMED).kind == "leak"


@pytest.mark.slow
def test_the_second_phase_prunes_as_well(thawed: None) -> None:
    leaking_pandas.reading()
    native = run_native(leaking_pandas.reading, is_own, ignore_progress, 100)
    assert not native.grows


def test_lists_of_pandas_are_pruned_and_references_to_living_objects_stay() -> None:
    frame = pd.DataFrame({"pounds": range(5)})
    references = PandasReferences()
    alive = frame["pounds"]
    for _ in range(20):
        frame[:]  # a column is kept by the frame itself where copies are not made on write
    owner = frame._mgr.blocks[0].refs
    before = len(owner.referenced_blocks)
    references.prune()
    assert len(owner.referenced_blocks) < 20 < before
    assert len(alive) == 5


def test_another_version_of_pandas_has_nothing_to_prune(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pandas._libs.internals", object())
    assert PandasReferences().old == []
    PandasReferences().prune()


# -- containers of others --------------------------------------------------------------------------


@pytest.mark.slow
def test_a_short_list_of_dead_references_is_neither_a_leak_nor_none() -> None:
    result = leaking_pandas.in_subprocess("listening", 100)
    assert result.growth.steady
    assert result.retainers[0].dead_references
    hunt = verdict(result, CONFIRMED)
    assert hunt.kind == "unproved" and not hunt.leaks


@pytest.mark.slow
def test_a_long_list_of_dead_references_is_a_leak() -> None:
    result = leaking_pandas.in_subprocess("listening", UNPRUNED_ITEMS)
    assert (result.retainers[0].items or 0) >= UNPRUNED_ITEMS
    assert verdict(result, CONFIRMED).kind == "leak"


def test_what_references_cannot_explain_is_a_leak() -> None:
    dead = Retainer("LISTENERS of module mill", 140, 1.0, None, dead_references=True)
    assert verdict(replace(RETAINS, retainers=(dead,)), CONFIRMED).kind == "leak"


def test_the_text_has_the_number_of_requests_that_would_prove_a_leak() -> None:
    dead = Retainer("LISTENERS of module mill", 140, 1.0, None, dead_references=True)
    growth = Growth(96.0, 95.0, 97.0, 12, 12, True)
    hunt = verdict(replace(RETAINS, growth=growth, retainers=(dead,)), CONFIRMED)
    text = " ".join(leakhunt.text(Request("/listen"), hunt).split())
    assert "whether it leaks is unknown" in text
    assert "--requests 1300" in text
    assert "LISTENERS of module mill" in text
    assert "responded with errors" not in text


def test_the_text_has_the_number_of_requests_that_fill_a_store_of_a_library() -> None:
    growth = Growth(300.0, 295.0, 305.0, 12, 12, True)
    hunt = verdict(replace(RETAINS, growth=growth, requests=80), CONFIRMED)
    text = " ".join(leakhunt.text(Request("/mask"), hunt).split())
    assert "whether it leaks is unknown" in text
    assert "Repeat it with --requests 500" in text
    assert "responded with errors" not in text


class _Listener:
    pass


def test_references_are_dead_if_most_of_the_newest_items_are() -> None:
    alive = [_Listener() for _ in range(3)]
    living: list[Any] = [weakref.ref(value) for value in alive]
    dead: list[Any] = [weakref.ref(_Listener()) for _ in range(4)]
    gc.collect()
    assert not refers_to_freed_objects(living)
    assert refers_to_freed_objects(living + dead)
    assert refers_to_freed_objects(dict(enumerate(dead)))
    assert not refers_to_freed_objects([])


def test_a_subclass_of_a_reference_is_not_called() -> None:
    class Raising(weakref.ref[Any]):
        def __call__(self) -> Any:
            raise AssertionError

    assert refers_to_freed_objects([Raising(_Listener())])


def test_the_frame_of_the_tests_is_intact() -> None:
    leaking_pandas.assigning()
    assert list(FRAME) == ["pounds", "style", "copy"]
