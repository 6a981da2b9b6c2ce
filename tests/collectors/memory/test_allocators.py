"""Bytes in use by the allocators, exact to the byte."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from flask_knitperf.collectors.memory import allocators as module
from flask_knitperf.collectors.memory.allocators import (
    allocated_bytes,
    arrow_bytes,
    malloc_meter,
    small_bytes,
)


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
@pytest.mark.parametrize(
    ("create", "size"),
    [(float, 32), (lambda n: ("x" * 100) + str(n), 160), (lambda n: bytes(440) + b"%d" % n, 480)],
)
def test_small_objects_count_with_the_size_of_their_blocks(
    create: Callable[[int], object], size: int
) -> None:
    before = allocated_bytes()
    objects = [create(n) for n in range(10_000, 20_000)]
    after = allocated_bytes()
    assert before is not None
    assert after is not None
    assert after.small - before.small == pytest.approx(10_000 * size, rel=0.02)
    del objects


@pytest.mark.skipif(allocated_bytes() is None, reason="needs mallinfo2 of glibc 2.33")
def test_readings_retain_nothing() -> None:
    before = allocated_bytes()
    for _ in range(1_000):
        after = allocated_bytes()
    assert before is not None
    assert after is not None
    assert abs(after.small - before.small) < 10_000  # ten bytes each would be a leak
    assert abs(after.large - before.large) < 10_000


def test_without_size_classes_blocks_count_with_an_assumed_mean(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_TABLED_BLOCKS", 0)
    assert small_bytes() == pytest.approx(
        sys.getallocatedblocks() * module.BYTES_PER_BLOCK, rel=0.01
    )


@pytest.mark.parametrize("allocator", ["malloc", "pymalloc_debug"])
def test_other_allocators_of_the_interpreter_are_read_too(allocator: str) -> None:
    code = "from flask_knitperf.collectors.memory import allocators as a; print(a.small_bytes())"
    environment = {**os.environ, "PYTHONMALLOC": allocator}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True,
                         text=True, check=True)  # fmt: skip
    assert (int(run.stdout) > 1_000_000) == (allocator == "pymalloc_debug")


def test_without_a_malloc_meter_there_is_no_reading(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_MALLOC", None)
    assert allocated_bytes() is None
