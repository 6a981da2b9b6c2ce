"""What both phases say together, and each phase on small requests in this process."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from flask_knitperf.collectors.memory.allocators import malloc_meter
from flask_knitperf.experiments.leakhunt import native_phase
from flask_knitperf.experiments.leakhunt.growth import FLAT, Growth
from flask_knitperf.experiments.leakhunt.native_phase import untraced
from flask_knitperf.experiments.leakhunt.python_phase import traced
from flask_knitperf.experiments.leakhunt.retainers import Holder
from flask_knitperf.experiments.leakhunt.verdict import (
    RETURNED_FLOOR,
    WAITING_FLOOR,
    Traced,
    Untraced,
    Where,
    verdict,
)

from . import leaking
from .leaking import (
    KEPT,
    REQUESTS,
    apart,
    failing,
    is_own,
    keeping,
    line_of,
    taking,
    tell,
)

GROWS = Growth(2_000.0, 1_990.0, 2_010.0, 12, 12, True)
NATIVE = Growth(5_000.0, 4_990.0, 5_010.0, 12, 12, True)
QUIET = Traced(FLAT, 0.0, (), {}, (), 0.0, (), 240, {200: 240})
CALM = Untraced(FLAT, "malloc", FLAT, FLAT, (), 100 << 20, 0, 240, {200: 240})
KEEPS = replace(QUIET, growth=GROWS, lines=(Where("a.py", 3, 2_000.0),))
SEEN = replace(CALM, blocks=Growth(3.0, 3.0, 3.0, 12, 12, True))
TAKES = replace(CALM, growth=NATIVE, lines=(Where("a.py", 9, 5_000.0, 5_000.0),))
FULL = Holder("lru_cache of price", 600, 1.0, 600)

VERDICTS = [
    ("nothing grows", QUIET, CALM, "none", 0.0),
    ("Python's memory grows", KEEPS, SEEN, "leak", 2_000.0),
    ("it grows only while it is traced", KEEPS, CALM, "none", 0.0),
    ("other memory grows", QUIET, TAKES, "native leak", 5_000.0),
    ("both grow, other memory more", KEEPS, TAKES, "native leak", 7_000.0),
    ("both grow, Python's more", replace(KEEPS, growth=replace(GROWS, per_request=9_000.0)), TAKES,
     "leak", 14_000.0),
    ("a cache with room left", replace(KEEPS, holders=(replace(FULL, bound=4_096),)), SEEN,
     "filling", 2_000.0),
    ("a cache that is full and yet grows", replace(KEEPS, holders=(FULL,)), SEEN, "leak", 2_000.0),
    ("a holder without a bound", replace(KEEPS, holders=(replace(FULL, bound=None),)), SEEN, "leak",
     2_000.0),
    ("garbage waits", replace(QUIET, waiting=WAITING_FLOOR), CALM, "cycles", 0.0),
    ("little garbage waits", replace(QUIET, waiting=WAITING_FLOOR - 1.0), CALM, "none", 0.0),
    ("much went back", QUIET, replace(CALM, returned=RETURNED_FLOOR), "fragmentation", 0.0),
    ("every answer is an error", replace(QUIET, statuses={404: 240}), replace(CALM, statuses={404: 240}),
     "unproved", 0.0),
    ("an answer was none", replace(QUIET, statuses={404: 239, 200: 1}),
     replace(CALM, statuses={404: 240}), "none", 0.0),
    ("what answers errors leaks", replace(KEEPS, statuses={500: 240}),
     replace(SEEN, statuses={500: 240}), "leak", 2_000.0),
    ("a little of much went back", QUIET, replace(CALM, returned=RETURNED_FLOOR, resident=1 << 30),
     "none", 0.0),
]  # fmt: skip


@pytest.mark.parametrize(
    ("first", "second", "kind", "kept"),
    [pytest.param(*row[1:], id=row[0]) for row in VERDICTS],
)
def test_the_verdict(first: Traced, second: Untraced, kind: str, kept: float) -> None:
    found = verdict(first, second)
    assert (found.kind, found.per_request) == (kind, kept)
    assert found.leaks is (kind in ("leak", "native leak"))


def test_a_line_that_keeps_of_both_is_told_once_with_the_sum() -> None:
    arrow = replace(TAKES, by="arrow", lines=(Where("a.py", 3, 5_000.0, 5_000.0),))
    [line] = verdict(KEEPS, arrow).lines
    assert (line.line, line.per_request, line.native) == (3, 7_000.0, 5_000.0)


def test_what_malloc_gave_python_is_not_counted_twice() -> None:
    same = replace(TAKES, lines=(Where("a.py", 3, 5_000.0, 5_000.0),))
    [line] = verdict(KEEPS, same).lines
    assert (line.per_request, line.native) == (5_000.0, 3_000.0)


def test_lines_of_the_application_come_before_larger_ones_that_are_nobodys() -> None:
    lines = (Where("", 0, 9_000.0, library="/lib/x.py:4"), Where("a.py", 3, 1_000.0),
             Where("a.py", 4, 8_000.0, steady=False))  # fmt: skip
    found = verdict(replace(KEEPS, lines=lines), SEEN).lines
    assert [(line.file, line.line) for line in found] == [("a.py", 3), ("a.py", 4), ("", 0)]


def test_a_line_that_takes_much_more_than_is_kept_is_not_the_first() -> None:
    lines = (Where("a.py", 9, 5_000.0, 5_000.0), Where("a.py", 8, 90_000.0, 90_000.0, steady=False))
    found = verdict(QUIET, replace(TAKES, lines=lines)).lines
    assert [line.line for line in found] == [9, 8]


# -- each phase, here ------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    yield
    KEPT.clear()


def hunted(serve: Callable[[], int], requests: int = REQUESTS) -> Traced:
    return traced(serve, is_own, tell, requests)


def test_a_leak_is_found_with_its_bytes_its_line_its_types_and_its_holder() -> None:
    found = apart("keeping")
    assert found.growth.steady
    assert found.growth.per_request == pytest.approx(1_280, abs=60)
    assert (found.lines[0].file, found.lines[0].line) == (leaking.__file__, line_of("kept"))
    assert found.malloced == pytest.approx(1_052, abs=20)
    assert found.types["dict"] == pytest.approx(1, abs=0.1)
    assert f"KEPT of module {leaking.__name__} → list" in found.holders[0].path


def test_who_holds_a_chain_is_found_at_its_end() -> None:
    found = apart("chaining")
    assert found.lines[0].line == line_of("linked")
    [holder] = found.holders
    assert holder.path.startswith(f"KEPT of module {leaking.__name__} → list of 1 → Link")
    assert holder.items is None


def test_a_cache_that_is_full_during_the_run_is_no_leak() -> None:
    assert not apart("filling", 300).growth.steady


def test_cycles_are_no_leak_and_are_told_with_their_line() -> None:
    found = apart("cycling")
    assert not found.growth.steady
    assert found.waiting == pytest.approx(30_200, abs=400)
    assert found.waiting_lines[0].line == line_of("waits")


def test_statuses_are_told() -> None:
    assert set(apart("failing", 40).statuses) == {503}


def test_nothing_of_the_hunt_is_left_on() -> None:
    hunted(failing, 40)
    assert not tracemalloc.is_tracing()
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


@pytest.mark.skipif(malloc_meter() is None, reason="only glibc from 2.33 on tells")
def test_a_native_leak_is_found_with_its_bytes_and_its_line() -> None:
    found = untraced(taking, is_own, tell, 90)
    assert found.growth.steady and found.by == "malloc"
    assert found.growth.per_request == pytest.approx(3_008, rel=0.05)
    assert found.lines[0].line == line_of("taken")


@pytest.mark.skipif(malloc_meter() is None, reason="only glibc from 2.33 on tells")
def test_what_python_is_known_to_keep_is_no_native_leak() -> None:
    found = untraced(keeping, is_own, tell, 90, known=(1_052.0, 1_300.0))
    assert not found.growth.steady
    assert found.grows  # which confirms that it is a leak


def test_without_a_word_from_the_allocator_resident_memory_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resident = [100 << 20]

    def grown() -> int:
        resident[0] += 20_000
        return 200

    monkeypatch.setattr(native_phase, "malloc_meter", lambda: None)
    monkeypatch.setattr(native_phase, "rss", lambda: resident[0])
    found = untraced(grown, is_own, tell, 90)
    assert found.by == "resident" and found.lines == ()
    assert found.growth.per_request == pytest.approx(20_000)


def test_what_python_keeps_is_not_taken_for_native_by_resident_memory_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resident = [100 << 20]

    def grown() -> int:
        resident[0] += 20_000
        return 200

    monkeypatch.setattr(native_phase, "malloc_meter", lambda: None)
    monkeypatch.setattr(native_phase, "rss", lambda: resident[0])
    assert not untraced(grown, is_own, tell, 90, known=(300.0, 19_000.0)).growth.steady
