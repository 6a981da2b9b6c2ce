"""The start of the process is found on every system, and never later than it was."""

from __future__ import annotations

import time
from typing import Any

import psutil
import pytest

from flask_knitperf.core import process_start


def test_the_start_is_that_of_the_process() -> None:
    assert abs(process_start.started_at() - psutil.Process().create_time()) < 1.5


def test_on_another_system_the_start_is_read_by_psutil(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise FileNotFoundError

    monkeypatch.setattr(process_start, "open", refuse, raising=False)
    monkeypatch.setattr(process_start, "_SINCE_BOOT", process_start._start_since_boot())
    assert process_start._SINCE_BOOT is None
    assert process_start._by_the_present_clock() == psutil.Process().create_time()
    assert process_start.started_at() == process_start._AT_IMPORT


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="the clock is Linux'")
def test_a_clock_that_was_set_back_moves_the_start_back_and_one_set_forward_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, now = process_start.started_at(), time.time
    monkeypatch.setattr(time, "time", lambda: now() - 3600)
    assert process_start.started_at() == pytest.approx(before - 3600, abs=1)
    monkeypatch.setattr(time, "time", lambda: now() + 3600)
    assert process_start.started_at() == pytest.approx(before, abs=1)
