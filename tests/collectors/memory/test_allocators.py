"""What allocators have handed out: told to the byte."""

from __future__ import annotations

import ctypes
import sys

import pytest

from flask_knitperf.collectors.memory import allocators as module
from flask_knitperf.collectors.memory.allocators import allocated, arrow, malloc_meter


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
    monkeypatch.setattr(module.ctypes, "CDLL", lambda _: object())
    assert malloc_meter() is None


def test_arrow_is_asked_once_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    before = arrow()
    kept = pyarrow.array(["x" * 10_000])
    assert arrow() - before >= 10_000
    del kept
    monkeypatch.delitem(sys.modules, "pyarrow")
    assert arrow() == 0


@pytest.mark.skipif(allocated() is None, reason="this C library does not tell what it allocated")
def test_readings_see_what_is_kept_to_the_byte() -> None:
    before = allocated()
    kept = bytes(100_000)
    after = allocated()
    assert before is not None
    assert after is not None
    assert 100_000 <= after.large - before.large < 101_000
    del kept


@pytest.mark.skipif(allocated() is None, reason="this C library does not tell what it allocated")
def test_small_objects_are_counted_in_blocks_of_the_usual_size() -> None:
    before = allocated()
    kept = [float(n) for n in range(10_000)]
    after = allocated()
    assert before is not None
    assert after is not None
    assert after.small - before.small == pytest.approx(10_000 * module.BLOCK, rel=0.02)
    del kept


def test_where_the_c_library_does_not_tell_nothing_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_MALLOC", None)
    assert allocated() is None
