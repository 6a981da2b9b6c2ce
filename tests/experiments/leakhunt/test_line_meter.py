"""Native memory is attributed to lines."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from flask_knitperf.experiments.leakhunt.line_meter import LineMeter, likely_lines

LEVEL = [0]


def line_of(mark: str) -> int:
    lines = Path(__file__).read_text().splitlines()
    return next(at for at, line in enumerate(lines, 1) if line.endswith(f"# {mark}"))


def inner() -> None:
    LEVEL[0] += 40  # inner


def view() -> None:
    LEVEL[0] += 1_000  # allocates
    LEVEL[0] -= 1_000  # frees
    inner()  # calls
    LEVEL[0] += 7  # retains


def meter() -> LineMeter:
    return LineMeter(lambda: LEVEL[0], lambda file: file == __file__)


def by_line(line_meter: LineMeter) -> dict[int, int]:
    return {line: change for (_, line), change in line_meter.changes.items()}


def test_each_line_counts_its_own_change() -> None:
    line_meter = meter()
    with line_meter.measure():
        view()
    expected = {"allocates": 1_000, "frees": -1_000, "inner": 40, "retains": 7}
    assert by_line(line_meter) == {line_of(mark): change for mark, change in expected.items()}


def test_lines_of_started_threads_count_too() -> None:
    line_meter = meter()
    with line_meter.measure():
        thread = threading.Thread(target=inner)
        thread.start()
        thread.join()
    assert by_line(line_meter)[line_of("inner")] == 40


def test_code_of_libraries_is_not_measured() -> None:
    line_meter = LineMeter(lambda: LEVEL[0], lambda _: False)
    with line_meter.measure():
        view()
    assert line_meter.changes == {}


def test_another_tracer_is_restored() -> None:
    before = sys.gettrace()
    with meter().measure():
        assert sys.gettrace() is not before
    assert sys.gettrace() is before


def test_the_line_that_allocates_the_retained_amount_comes_before_one_that_allocates_more() -> None:
    changes = {("a.py", 1): 90_000, ("a.py", 2): 3_100, ("a.py", 3): 20, ("a.py", 4): -90_000}
    assert likely_lines(changes, 10, 300) == [
        (("a.py", 2), 310.0, True),
        (("a.py", 1), 9_000.0, False),
    ]
