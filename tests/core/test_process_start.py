"""The start of the process is never later than it was."""

from __future__ import annotations

import time

import pytest

from flask_knitperf.core.process_start import started_at


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="the clock is Linux'")
def test_a_clock_that_was_set_back_moves_the_start_back_and_one_set_forward_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, now = started_at(), time.time
    monkeypatch.setattr(time, "time", lambda: now() - 3600)
    assert started_at() == pytest.approx(before - 3600, abs=1)
    monkeypatch.setattr(time, "time", lambda: now() + 3600)
    assert started_at() == pytest.approx(before, abs=1)
