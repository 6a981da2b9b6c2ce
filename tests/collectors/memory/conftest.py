"""Fixtures for the tests of memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from flask_knitperf.recording.recorder import Recorder


@pytest.fixture
def recorder(time: Any) -> Iterator[Recorder]:
    """A recorder without files or threads, on the clock of the fixture ``time``."""
    recorder = Recorder(lambda: (None, {}), clock=time.clock(), threaded=lambda: False)
    yield recorder
    recorder.close()
