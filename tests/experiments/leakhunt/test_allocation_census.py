"""Whose line allocated it: the innermost one of the application, and what ran below it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flask_knitperf.experiments import replay as replay_module
from flask_knitperf.experiments.leakhunt import allocation_census
from flask_knitperf.experiments.leakhunt.allocation_census import (
    Census,
    Place,
    Tracer,
    growing,
    place_of,
)

KEPT: list[Any] = []
HERE = __file__


def is_own(file: str) -> bool:
    return file.startswith("/mill/")


def test_the_innermost_line_of_the_application_is_named_with_what_ran_below_it() -> None:
    frames = [("/lib/pandas/frame.py", 7), ("/lib/pandas/io.py", 8), ("/mill/yarn.py", 41),
              ("/mill/app.py", 9), ("/lib/flask/app.py", 5)]  # fmt: skip
    assert place_of(frames, is_own) == Place("/mill/yarn.py", 41, "/lib/pandas/frame.py:7")


def test_a_line_that_allocates_itself_has_nothing_below_it() -> None:
    assert place_of([("/mill/yarn.py", 41), ("/lib/x.py", 1)], is_own) == Place("/mill/yarn.py", 41)


def test_without_a_line_of_the_application_the_stack_is_kept() -> None:
    frames = [(f"/lib/a{depth}.py", depth) for depth in range(20)]
    found = place_of(frames, is_own)
    assert (found.file, found.line, found.library) == ("", 0, "/lib/a0.py:0")
    assert found.stack == tuple(f"/lib/a{depth}.py:{depth}" for depth in range(6))


def test_no_frames_are_no_place() -> None:
    assert place_of([], is_own) == Place("", 0)


def test_code_of_a_template_counts_for_the_line_that_renders_it() -> None:
    tracer = Tracer(is_own)
    frames = (("/mill/templates/page.html", 3), ("/lib/jinja2/x.py", 5), ("/mill/app.py", 12))
    assert tracer.place(frames) == Place("/mill/app.py", 12, "/mill/templates/page.html:3")


def test_what_this_package_allocates_to_watch_is_nobodys() -> None:
    ours, replay = str(allocation_census.__file__), str(replay_module.__file__)
    tracer = Tracer(is_own)
    assert tracer.place((("/lib/collections.py", 3), (ours, 1), (replay, 9))) is None
    served = (("/lib/collections.py", 3), ("/mill/app.py", 2), (replay, 1), (ours, 9))
    assert tracer.place(served) == Place("/mill/app.py", 2, "/lib/collections.py:3")


@pytest.fixture
def traced() -> Iterator[Tracer]:
    tracemalloc.start(16)
    yield Tracer(lambda file: file == HERE)
    tracemalloc.stop()
    KEPT.clear()


def line_here() -> int:
    return next(
        number for number, line in enumerate(Path(HERE).read_text().splitlines(), 1)
        if line.endswith("# kept here")
    )  # fmt: skip


def test_a_census_counts_bytes_and_blocks_of_a_line(traced: Tracer) -> None:
    KEPT.extend(bytearray(5_000) for _ in range(3))  # kept here
    census = traced.census(3)
    size = sum(
        size for place, size in census.sizes.items() if place.line == line_here() and place.file
    )
    # the data, one byte more for its end; objects, the list's places, what measuring coverage adds
    assert 3 * 5_001 <= size <= 3 * 5_001 + 1_000
    assert census.malloced >= 3 * 5_001


def test_a_census_says_what_tracemalloc_says_itself(traced: Tracer) -> None:
    KEPT.append([str(number) for number in range(500)])
    census = traced.census(0)
    snapshot = tracemalloc.take_snapshot()
    public = sum(
        each.size for each in snapshot.statistics("traceback")
        if traced.place(tuple((f.filename, f.lineno) for f in reversed(each.traceback)))
    )  # fmt: skip
    assert abs(sum(census.sizes.values()) - public) < 60_000  # what the first census left behind
    assert public > 500 * 50


def test_an_object_leads_back_to_its_line(traced: Tracer) -> None:
    made = bytearray(10)  # a list may come from those that were there before
    place = traced.place_of_object(made)
    assert place is not None and place.file == HERE
    assert traced.place_of_object(pytest) is None


def censuses(by_line: dict[int, list[int]]) -> list[Census]:
    moments = len(next(iter(by_line.values())))
    return [
        Census(10 * moment, {Place("a.py", line): sizes[moment] for line, sizes in by_line.items()},
               {Place("a.py", line): sizes[moment] // 100 for line, sizes in by_line.items()}, 0)
        for moment in range(moments)
    ]  # fmt: skip


def test_lines_that_grow_all_the_time_come_before_larger_ones_that_do_not() -> None:
    found = growing(censuses({
        1: [0, 1_000, 2_000, 3_000, 4_000, 5_000, 6_000],
        2: [0, 0, 0, 0, 0, 0, 90_000],
        3: [0, 2_000, 4_000, 6_000, 8_000, 10_000, 12_000],
        4: [500] * 7,
    }), 8)  # fmt: skip
    assert [(line.place.line, line.steady) for line in found] == [(3, True), (1, True), (2, False)]
    assert found[0].per_request == pytest.approx(200)
    assert found[0].blocks_per_request == pytest.approx(2)


def test_ways_below_one_line_are_added_up_and_the_largest_is_told() -> None:
    small, large = Place("a.py", 5, "/lib/small.py:1"), Place("a.py", 5, "/lib/large.py:2")
    seen = [Census(at, {small: 10 * at, large: 90 * at}, {}, 0) for at in range(8)]
    [line] = growing(seen, 8)
    assert line.place == large
    assert line.per_request == pytest.approx(100)


def test_too_few_censuses_show_no_growth() -> None:
    assert growing(censuses({1: [0, 10_000, 20_000]}), 8) == []
