"""Which line takes memory that Python does not know of."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from flask_knitperf.experiments.leakhunt.line_meter import LineMeter, likeliest

LEVEL = [0]


def line_of(mark: str) -> int:
    lines = Path(__file__).read_text().splitlines()
    return next(at for at, line in enumerate(lines, 1) if line.endswith(f"# {mark}"))


def inner() -> None:
    LEVEL[0] += 40  # inner


def view() -> None:
    LEVEL[0] += 1_000  # takes
    LEVEL[0] -= 1_000  # gives back
    inner()  # calls
    LEVEL[0] += 7  # keeps


def meter() -> LineMeter:
    return LineMeter(lambda: LEVEL[0], lambda file: file == __file__)


def by_line(found: LineMeter) -> dict[int, int]:
    return {line: change for (_, line), change in found.changes.items()}


def test_each_line_counts_what_it_changed_itself() -> None:
    found = meter()
    with found.watching():
        view()
    wanted = {"takes": 1_000, "gives back": -1_000, "inner": 40, "keeps": 7}
    assert by_line(found) == {line_of(mark): change for mark, change in wanted.items()}


def test_lines_of_threads_that_are_started_count_too() -> None:
    found = meter()
    with found.watching():
        thread = threading.Thread(target=inner)
        thread.start()
        thread.join()
    assert by_line(found)[line_of("inner")] == 40


def test_code_of_libraries_is_not_watched() -> None:
    found = LineMeter(lambda: LEVEL[0], lambda _: False)
    with found.watching():
        view()
    assert found.changes == {}


def test_another_tracer_is_put_back() -> None:
    before = sys.gettrace()
    with meter().watching():
        assert sys.gettrace() is not before
    assert sys.gettrace() is before


def test_the_line_that_takes_what_is_kept_comes_before_one_that_takes_more() -> None:
    changes = {("a.py", 1): 90_000, ("a.py", 2): 3_100, ("a.py", 3): 20, ("a.py", 4): -90_000}
    found = likeliest(changes, 10, 300)
    assert found == [(("a.py", 2), 310.0, True), (("a.py", 1), 9_000.0, False)]
