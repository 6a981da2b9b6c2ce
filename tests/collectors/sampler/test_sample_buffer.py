"""The buffer of samples: slow and normal requests, and its bounds."""

from __future__ import annotations

import pytest

from flask_knitperf.collectors.sampler import sample_buffer
from flask_knitperf.collectors.sampler.sample_buffer import SampleBuffer
from flask_knitperf.metrics.stack_trie import NORMAL, SLOW, Sampled, StackFrame, unpack

from .applications import MS

A = (StackFrame("a.py", 1, "f", True),)


def counts_by_kind(buffer: SampleBuffer) -> dict[str, int]:
    buffer.document()
    tries = unpack([buffer.document()])["e", "GET"]
    return {kind: sum(node.count for _, node in trie.stacks()) for kind, trie in tries.items()}


def test_requests_above_the_threshold_are_slow() -> None:
    buffer = SampleBuffer(lambda _: 200 * MS)
    for wall in (100, 150, 300):
        buffer.add(("e", "GET"), wall * MS, Sampled({A: [1, 0, 1, 0]}))
    assert counts_by_kind(buffer) == {NORMAL: 2, SLOW: 1}


def test_where_most_exceed_the_threshold_the_slowest_tenth_is_slow() -> None:
    buffer = SampleBuffer(lambda _: 10 * MS)
    for number in range(100):
        buffer.add(
            ("e", "GET"), (900 if number % 25 == 24 else 100) * MS, Sampled({A: [1, 0, 1, 0]})
        )
    # the first nineteen are too few for a limit
    assert counts_by_kind(buffer) == {SLOW: 19 + 4, NORMAL: 77}


def test_fast_requests_that_are_rarely_sampled_count_by_their_time() -> None:
    """One in ten takes 1.2 s, nine take 0.4 ms: every slow one is sampled, one fast one in 125."""
    buffer = SampleBuffer(lambda _: 200 * MS)
    for number in range(400):
        fast = number % 14 == 13
        wall = MS * 2 // 5 if fast else 1200 * MS
        samples = [0, 50 * MS, 1, 0] if fast else [0, 1200 * MS, 24, 0]
        buffer.add(("e", "GET"), wall, Sampled({A: samples}))
    assert counts_by_kind(buffer) == {SLOW: 372 * 24, NORMAL: 28}


def test_endpoints_and_nodes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_buffer, "MAX_ENDPOINTS", 3)
    monkeypatch.setattr(sample_buffer, "MAX_NODES", 10)
    buffer = SampleBuffer(lambda _: 1)
    for number in range(9):
        deep = tuple(StackFrame("a.py", line, "f", True) for line in range(8))
        buffer.add((f"e{number}", "GET"), 5, Sampled({deep: [1, 0, 1, 0]}))
    assert buffer.document()["dropped"] == 6
    assert sum(len(rows) - 1 for *_, rows in buffer.document()["stacks"]) == 10


def test_the_number_of_endpoints_with_a_limit_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sample_buffer, "MAX_ENDPOINTS", 2)
    buffer = SampleBuffer(lambda _: 1)
    for number in range(9):
        buffer.add((f"e{number}", "GET"), 5, Sampled({}))
    assert len(buffer._limits) <= 2
