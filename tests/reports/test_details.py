"""Slices of samples: when they are written, and read back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flask_knitperf.metrics.stack_trie import Sampled, StackFrame

A = (StackFrame("a.py", 1, "f", True),)


def test_a_full_disk_is_reported_and_the_samples_stay(
    make_app: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from flask_knitperf.storage import slices

    mill = make_app(KNITPERF_SAMPLER=True)
    mill.session.recorder._threaded = lambda: False
    mill.get("/")
    mill.session.details.turn()
    mill.session.samples.add(("index", "GET"), 5, Sampled({A: [1, 0, 1, 0]}))

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(slices, "save", full)
        mill.session.details.close()
        assert "samples cannot be saved: No space left" in mill.degraded()
    mill.session.details.close()
    assert "samples cannot" not in mill.degraded()
    assert mill.row("index")["lines"][0]["samples"] == 1


def test_samples_of_a_clock_that_was_ahead_belong_to_the_run(
    make_app: Callable[..., Any], time: Any
) -> None:
    mill = make_app(TESTING=False, KNITPERF_SAMPLER=True)
    mill.session.recorder._threaded = lambda: False
    mill.session.recorder.clock = time.clock()
    mill.get("/")
    for step in (86_400, -86_400, 0):  # right, ahead, right again, still right
        mill.session.details.turn()
        mill.session.samples.add(("index", "GET"), 5, Sampled({A: [1, 0, 1, 0]}))
        mill.session.details.turn()
        time.epoch += step
    time.pass_(61)
    mill.session.details.turn()
    assert mill.row("index")["lines"][0]["samples"] == 3


def test_a_new_slice_starts_every_five_minutes(make_app: Callable[..., Any], time: Any) -> None:
    mill = make_app(TESTING=False, KNITPERF_SAMPLER=True)
    mill.session.recorder._threaded = lambda: False
    mill.session.recorder.clock = time.clock()
    mill.get("/")
    details, samples = mill.session.details, mill.session.samples
    for _ in range(3):
        details.turn()
        samples.add(("index", "GET"), 5, Sampled({A: [1, 0, 1, 0]}))
        details.turn()
        time.pass_(300)
    details.turn()
    folder = mill.session.recorder.worker.run / "details"
    assert len(list(folder.glob("*.slice"))) == 3
    assert mill.row("index")["lines"][0]["samples"] == 3
    now, run = mill.session.recorder.clock.wall(), mill.session.recorder.worker.run
    assert len(details.read(run, now - 900, now)) == 1
    assert details.read(run, now + 600, now + 900) == {}
