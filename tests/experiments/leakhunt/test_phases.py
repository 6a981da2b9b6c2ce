"""Verdict of both phases, and each phase on small requests."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from flask_knitperf.collectors.memory.allocators import malloc_meter
from flask_knitperf.experiments.leakhunt import native_phase, python_phase
from flask_knitperf.experiments.leakhunt.growth import NO_GROWTH, Growth
from flask_knitperf.experiments.leakhunt.native_phase import PythonGrowth
from flask_knitperf.experiments.leakhunt.retainers import Retainer
from flask_knitperf.experiments.leakhunt.verdict import (
    MIN_GARBAGE_BYTES,
    MIN_RETURNED_BYTES,
    AllocationRecord,
    NativePhase,
    PythonPhase,
    verdict,
)

from . import leaking
from .leaking import (
    KEPT,
    REQUESTS,
    allocating,
    failing,
    ignore_progress,
    in_subprocess,
    is_own,
    line_of,
    retaining,
)

GROWS = Growth(2_000.0, 1_990.0, 2_010.0, 12, 12, True)
NATIVE = Growth(5_000.0, 4_990.0, 5_010.0, 12, 12, True)
QUIET = PythonPhase(NO_GROWTH, 0.0, (), {}, (), 0.0, (), 240, {200: 240})
CALM = NativePhase(NO_GROWTH, "malloc", NO_GROWTH, NO_GROWTH, (), 100 << 20, 0, 240, {200: 240})
RETAINS = replace(QUIET, growth=GROWS, lines=(AllocationRecord("a.py", 3, 2_000.0),))
CONFIRMED = replace(CALM, block_growth=Growth(3.0, 3.0, 3.0, 12, 12, True))
ALLOCATES = replace(CALM, growth=NATIVE, lines=(AllocationRecord("a.py", 9, 5_000.0, 5_000.0),))
SMALL = replace(RETAINS, growth=Growth(300.0, 290.0, 310.0, 12, 12, True), requests=80)
FULL = Retainer("lru_cache of price", 600, 1.0, 600)

VERDICTS = [
    ("nothing grows", QUIET, CALM, "none", 0.0),
    ("Python objects grow", RETAINS, CONFIRMED, "leak", 2_000.0),
    ("growth under the tracer only", RETAINS, CALM, "none", 0.0),
    ("native memory grows", QUIET, ALLOCATES, "native leak", 5_000.0),
    ("both grow, native memory more", RETAINS, ALLOCATES, "native leak", 7_000.0),
    ("both grow, Python objects more", replace(RETAINS, growth=replace(GROWS, per_request=9_000.0)),
     ALLOCATES, "leak", 14_000.0),
    ("a cache with room left", replace(RETAINS, retainers=(replace(FULL, bound=4_096),)), CONFIRMED,
     "filling", 2_000.0),
    ("a full cache that grows", replace(RETAINS, retainers=(FULL,)), CONFIRMED, "leak", 2_000.0),
    ("a retainer without a bound", replace(RETAINS, retainers=(replace(FULL, bound=None),)), CONFIRMED,
     "leak", 2_000.0),
    ("much cyclic garbage", replace(QUIET, garbage_bytes=MIN_GARBAGE_BYTES), CALM, "cycles", 0.0),
    ("little cyclic garbage", replace(QUIET, garbage_bytes=MIN_GARBAGE_BYTES - 1.0), CALM, "none",
     0.0),
    ("much memory returned", QUIET, replace(CALM, returned_bytes=MIN_RETURNED_BYTES),
     "fragmentation", 0.0),
    ("a small share returned", QUIET,
     replace(CALM, returned_bytes=MIN_RETURNED_BYTES, resident_bytes=1 << 30), "none", 0.0),
    ("every response is an error", replace(QUIET, statuses={404: 240}),
     replace(CALM, statuses={404: 240}), "unproved", 0.0),
    ("one response is not an error", replace(QUIET, statuses={404: 239, 200: 1}),
     replace(CALM, statuses={404: 240}), "none", 0.0),
    ("little memory that nothing known holds, in a short hunt", SMALL, CONFIRMED, "unproved", 300.0),
    ("the same in a long hunt", replace(SMALL, requests=540), CONFIRMED, "leak", 300.0),
    ("little memory that a container holds", replace(SMALL, retainers=(replace(FULL, bound=None),)),
     CONFIRMED, "leak", 300.0),
    ("much memory in a short hunt", replace(SMALL, growth=GROWS), CONFIRMED, "leak", 2_000.0),
    ("a leak with error responses", replace(RETAINS, statuses={500: 240}),
     replace(CONFIRMED, statuses={500: 240}), "leak", 2_000.0),
]  # fmt: skip


@pytest.mark.parametrize(
    ("python", "native", "kind", "retained"),
    [pytest.param(*row[1:], id=row[0]) for row in VERDICTS],
)
def test_the_verdict(python: PythonPhase, native: NativePhase, kind: str, retained: float) -> None:
    hunt = verdict(python, native)
    assert (hunt.kind, hunt.bytes_per_request) == (kind, retained)
    assert hunt.leaks is (kind in ("leak", "native leak"))


def test_a_line_with_memory_of_both_kinds_is_listed_once_with_the_sum() -> None:
    arrow = replace(
        ALLOCATES, source="arrow", lines=(AllocationRecord("a.py", 3, 5_000.0, 5_000.0),)
    )
    [line] = verdict(RETAINS, arrow).lines
    assert (line.line, line.bytes_per_request, line.native_bytes) == (3, 7_000.0, 5_000.0)


def test_python_objects_allocated_by_malloc_are_not_counted_twice() -> None:
    same = replace(ALLOCATES, lines=(AllocationRecord("a.py", 3, 5_000.0, 5_000.0),))
    [line] = verdict(RETAINS, same).lines
    assert (line.bytes_per_request, line.native_bytes) == (5_000.0, 3_000.0)


def test_lines_of_the_application_come_before_larger_ones_of_libraries() -> None:
    lines = (
        AllocationRecord("", 0, 9_000.0, library="/lib/x.py:4"),
        AllocationRecord("a.py", 3, 1_000.0),
        AllocationRecord("a.py", 4, 8_000.0, steady=False),
    )
    merged = verdict(replace(RETAINS, lines=lines), CONFIRMED).lines
    assert [(line.file, line.line) for line in merged] == [("a.py", 3), ("a.py", 4), ("", 0)]


def test_a_line_that_allocates_much_more_than_the_retained_amount_is_not_first() -> None:
    lines = (
        AllocationRecord("a.py", 9, 5_000.0, 5_000.0),
        AllocationRecord("a.py", 8, 90_000.0, 90_000.0, steady=False),
    )
    merged = verdict(QUIET, replace(ALLOCATES, lines=lines)).lines
    assert [line.line for line in merged] == [9, 8]


# -- phases ------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    yield
    KEPT.clear()


def run_python_phase(serve: Callable[[], int], requests: int = REQUESTS) -> PythonPhase:
    return python_phase.run(serve, is_own, ignore_progress, requests)


@pytest.mark.slow
def test_a_leak_has_its_bytes_line_types_and_retainer() -> None:
    result = in_subprocess("retaining")
    assert result.growth.steady
    assert result.growth.per_request == pytest.approx(1_280, abs=80)  # its list grows in steps
    assert (result.lines[0].file, result.lines[0].line) == (leaking.__file__, line_of("kept"))
    assert result.malloc_bytes == pytest.approx(1_052, abs=20)
    assert result.types["dict"] == pytest.approx(1, abs=0.1)
    assert f"KEPT of module {leaking.__name__} → list" in result.retainers[0].path


@pytest.mark.slow
def test_the_retaining_path_of_a_chain_starts_at_its_end() -> None:
    result = in_subprocess("chaining")
    assert result.lines[0].line == line_of("linked")
    [retainer] = result.retainers
    assert retainer.path.startswith(f"KEPT of module {leaking.__name__} → list of 1 → Link")
    assert retainer.items is None


@pytest.mark.slow
def test_a_cache_that_fills_during_the_run_is_not_a_leak() -> None:
    assert not in_subprocess("filling", 300).growth.steady


@pytest.mark.slow
def test_cycles_are_not_a_leak_and_have_their_line() -> None:
    result = in_subprocess("cycling")
    assert not result.growth.steady
    assert result.garbage_bytes == pytest.approx(30_200, abs=400)
    assert result.garbage_lines[0].line == line_of("garbage")


@pytest.mark.slow
def test_statuses_are_counted() -> None:
    assert set(in_subprocess("failing", 40).statuses) == {503}


@pytest.mark.slow
def test_a_phase_restores_the_tracer_and_the_collector(thawed: None) -> None:
    run_python_phase(failing, 40)
    assert not tracemalloc.is_tracing()
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


@pytest.mark.slow
@pytest.mark.skipif(malloc_meter() is None, reason="needs the malloc counters of glibc 2.33")
def test_a_native_leak_has_its_bytes_and_its_line(thawed: None) -> None:
    result = native_phase.run(allocating, is_own, ignore_progress, 90)
    assert result.growth.steady and result.source == "malloc"
    assert result.growth.per_request == pytest.approx(3_008, rel=0.05)
    assert result.lines[0].line == line_of("allocated")


@pytest.mark.slow
@pytest.mark.skipif(malloc_meter() is None, reason="needs the malloc counters of glibc 2.33")
def test_retained_python_objects_are_not_a_native_leak(thawed: None) -> None:
    result = native_phase.run(
        retaining, is_own, ignore_progress, 90, python=PythonGrowth(1_052.0, 1_300.0)
    )
    assert not result.growth.steady
    assert result.grows  # which confirms the leak of the first phase


@pytest.mark.slow
def test_without_a_malloc_counter_resident_memory_is_read(
    monkeypatch: pytest.MonkeyPatch,
    thawed: None,
) -> None:
    resident = [100 << 20]

    def grow() -> int:
        resident[0] += 20_000
        return 200

    monkeypatch.setattr(native_phase, "malloc_meter", lambda: None)
    monkeypatch.setattr(native_phase, "rss", lambda: resident[0])
    result = native_phase.run(grow, is_own, ignore_progress, 90)
    assert result.source == "resident" and result.lines == ()
    assert result.growth.per_request == pytest.approx(20_000)


@pytest.mark.slow
def test_retained_python_objects_are_not_a_native_leak_by_resident_memory_either(
    monkeypatch: pytest.MonkeyPatch,
    thawed: None,
) -> None:
    resident = [100 << 20]

    def grow() -> int:
        resident[0] += 20_000
        return 200

    monkeypatch.setattr(native_phase, "malloc_meter", lambda: None)
    monkeypatch.setattr(native_phase, "rss", lambda: resident[0])
    result = native_phase.run(grow, is_own, ignore_progress, 90, PythonGrowth(300.0, 19_000.0))
    assert not result.growth.steady
