"""Bytes in use by the allocators, exact to the byte."""

from __future__ import annotations

import ctypes
import sys

import pytest

from flask_knitperf.collectors.memory import allocators as module
from flask_knitperf.collectors.memory.allocators import allocated_bytes, arrow_bytes, malloc_meter


@pytest.mark.skipif(malloc_meter() is None, reason="mallinfo2 needs glibc 2.33")
def test_bytes_in_use_by_malloc_are_counted() -> None:
    libc, read = ctypes.CDLL(None), malloc_meter()
    assert read is not None
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    before = read()
    address = libc.malloc(5_000_000)
    allocation = read() - before
    libc.free(address)
    # Python allocates and frees some meanwhile
    assert allocation == pytest.approx(5_000_000, abs=20_000)
    assert read() - before == pytest.approx(0, abs=20_000)


def test_other_systems_have_no_malloc_meter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert malloc_meter() is None


def test_an_older_c_library_has_no_malloc_meter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.ctypes, "CDLL", lambda _: object())
    assert malloc_meter() is None


def test_the_arrow_pool_counts_once_pyarrow_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    before = arrow_bytes()
    values = pyarrow.array(["x" * 10_000])
    assert arrow_bytes() - before >= 10_000
    del values
    monkeypatch.delitem(sys.modules, "pyarrow")
    assert arrow_bytes() == 0


@pytest.mark.skipif(allocated_bytes() is None, reason="needs mallinfo2 of glibc 2.33")
def test_a_large_block_counts_to_the_byte() -> None:
    before = allocated_bytes()
    block = bytes(100_000)
    after = allocated_bytes()
    assert before is not None
    assert after is not None
    assert 100_000 <= after.large - before.large < 101_000
    del block


@pytest.mark.skipif(allocated_bytes() is None, reason="needs mallinfo2 of glibc 2.33")
def test_small_objects_count_as_blocks_of_mean_size() -> None:
    before = allocated_bytes()
    objects = [float(n) for n in range(10_000)]
    after = allocated_bytes()
    assert before is not None
    assert after is not None
    assert after.small - before.small == pytest.approx(10_000 * module.BYTES_PER_BLOCK, rel=0.02)
    del objects


def test_without_a_malloc_meter_there_is_no_reading(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_MALLOC", None)
    assert allocated_bytes() is None
