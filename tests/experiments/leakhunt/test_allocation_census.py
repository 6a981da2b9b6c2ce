"""Allocations are attributed to the innermost line of the application, with the library below it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flask_knitperf.experiments import replay as replay_module
from flask_knitperf.experiments.leakhunt import allocation_census
from flask_knitperf.experiments.leakhunt.allocation_census import (
    AllocationSite,
    Census,
    Tracer,
    growing_lines,
    site_of,
)

KEPT: list[Any] = []
HERE = __file__


def is_own(file: str) -> bool:
    return file.startswith("/mill/")


def test_a_site_is_the_innermost_line_of_the_application_with_the_library_below() -> None:
    frames = [("/lib/pandas/frame.py", 7), ("/lib/pandas/io.py", 8), ("/mill/yarn.py", 41),
              ("/mill/app.py", 9), ("/lib/flask/app.py", 5)]  # fmt: skip
    assert site_of(frames, is_own) == AllocationSite("/mill/yarn.py", 41, "/lib/pandas/frame.py:7")


def test_a_line_that_allocates_itself_has_no_library_below() -> None:
    assert site_of([("/mill/yarn.py", 41), ("/lib/x.py", 1)], is_own) == AllocationSite(
        "/mill/yarn.py", 41
    )


def test_without_a_line_of_the_application_the_stack_is_kept() -> None:
    frames = [(f"/lib/a{depth}.py", depth) for depth in range(20)]
    site = site_of(frames, is_own)
    assert (site.file, site.line, site.library) == ("", 0, "/lib/a0.py:0")
    assert site.stack == tuple(f"/lib/a{depth}.py:{depth}" for depth in range(6))


def test_an_empty_stack_has_an_empty_site() -> None:
    assert site_of([], is_own) == AllocationSite("", 0)


def test_a_template_is_attributed_to_the_line_that_renders_it() -> None:
    tracer = Tracer(is_own)
    frames = (("/mill/templates/page.html", 3), ("/lib/jinja2/x.py", 5), ("/mill/app.py", 12))
    assert tracer.site(frames) == AllocationSite("/mill/app.py", 12, "/mill/templates/page.html:3")


def test_allocations_of_the_hunt_have_no_site() -> None:
    ours, replay = str(allocation_census.__file__), str(replay_module.__file__)
    tracer = Tracer(is_own)
    assert tracer.site((("/lib/collections.py", 3), (ours, 1), (replay, 9))) is None
    served = (("/lib/collections.py", 3), ("/mill/app.py", 2), (replay, 1), (ours, 9))
    assert tracer.site(served) == AllocationSite("/mill/app.py", 2, "/lib/collections.py:3")


@pytest.fixture
def tracer() -> Iterator[Tracer]:
    tracemalloc.start(16)
    yield Tracer(lambda file: file == HERE)
    tracemalloc.stop()
    KEPT.clear()


def line_here() -> int:
    return next(
        number for number, line in enumerate(Path(HERE).read_text().splitlines(), 1)
        if line.endswith("# kept here")
    )  # fmt: skip


def test_a_census_counts_bytes_and_blocks_of_a_line(tracer: Tracer) -> None:
    KEPT.extend(bytearray(5_000) for _ in range(3))  # kept here
    census = tracer.census(3)
    size = sum(
        size for site, size in census.sizes.items() if site.line == line_here() and site.file
    )
    # the data with a terminating byte each; objects, the list's slots, and those of coverage
    assert 3 * 5_001 <= size <= 3 * 5_001 + 1_000
    assert census.malloc_bytes >= 3 * 5_001


def test_a_census_equals_the_statistics_of_tracemalloc(tracer: Tracer) -> None:
    KEPT.append([str(number) for number in range(500)])
    census = tracer.census(0)
    snapshot = tracemalloc.take_snapshot()
    public = sum(
        row.size for row in snapshot.statistics("traceback")
        if tracer.site(tuple((f.filename, f.lineno) for f in reversed(row.traceback)))
    )  # fmt: skip
    assert abs(sum(census.sizes.values()) - public) < 60_000  # allocated by the first census
    assert public > 500 * 50


def test_an_object_is_attributed_to_the_line_that_allocated_it(tracer: Tracer) -> None:
    value = bytearray(10)  # a list may come from the free list
    site = tracer.site_of_object(value)
    assert site is not None and site.file == HERE
    assert tracer.site_of_object(pytest) is None


def censuses(by_line: dict[int, list[int]]) -> list[Census]:
    series = []
    for number, row in enumerate(zip(*by_line.values(), strict=True)):
        sites = [AllocationSite("a.py", line) for line in by_line]
        sizes = dict(zip(sites, row, strict=True))
        counts = {site: size // 100 for site, size in sizes.items()}
        series.append(Census(10 * number, sizes, counts, 0))
    return series


def test_lines_that_grow_steadily_come_before_larger_ones_that_do_not() -> None:
    lines = growing_lines(censuses({
        1: [0, 1_000, 2_000, 3_000, 4_000, 5_000, 6_000],
        2: [0, 0, 0, 0, 0, 0, 90_000],
        3: [0, 2_000, 4_000, 6_000, 8_000, 10_000, 12_000],
        4: [500] * 7,
    }), 8)  # fmt: skip
    assert [(line.site.line, line.steady) for line in lines] == [(3, True), (1, True), (2, False)]
    assert lines[0].bytes_per_request == pytest.approx(200)
    assert lines[0].blocks_per_request == pytest.approx(2)


def test_sites_of_one_line_are_added_and_the_largest_is_reported() -> None:
    small = AllocationSite("a.py", 5, "/lib/small.py:1")
    large = AllocationSite("a.py", 5, "/lib/large.py:2")
    series = [Census(at, {small: 10 * at, large: 90 * at}, {}, 0) for at in range(8)]
    [line] = growing_lines(series, 8)
    assert line.site == large
    assert line.bytes_per_request == pytest.approx(100)


def test_growth_needs_four_censuses() -> None:
    assert growing_lines(censuses({1: [0, 10_000, 20_000]}), 8) == []
