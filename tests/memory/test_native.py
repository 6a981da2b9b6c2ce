"""Memory that Python does not know of: told to the byte, and by line."""

from __future__ import annotations

import ctypes
import sys
import threading
from pathlib import Path

import pytest

from flask_knitperf.memory import native
from flask_knitperf.memory.native import LineMeter, arrow_bytes, likeliest, malloc_meter

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


@pytest.mark.skipif(malloc_meter() is None, reason="only glibc from 2.33 on tells")
def test_what_malloc_has_given_out_is_told() -> None:
    libc, used = ctypes.CDLL(None), malloc_meter()
    assert used is not None
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    before = used()
    address = libc.malloc(5_000_000)
    taken = used() - before
    libc.free(address)
    assert taken == pytest.approx(5_000_000, abs=20_000)  # Python takes and frees some meanwhile
    assert used() - before == pytest.approx(0, abs=20_000)


def test_other_systems_have_no_such_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert malloc_meter() is None


def test_an_older_c_library_has_no_such_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native.ctypes, "CDLL", lambda _: object())
    assert malloc_meter() is None


def test_arrow_is_asked_once_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    before = arrow_bytes()
    kept = pyarrow.array(["x" * 10_000])
    assert arrow_bytes() - before >= 10_000
    del kept
    monkeypatch.delitem(sys.modules, "pyarrow")
    assert arrow_bytes() == 0
