"""What tests of memory share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from flask_knitperf.recording.recorder import Recorder


@pytest.fixture
def recorder(time: Any) -> Iterator[Recorder]:
    """Return a recorder in memory that lives by the fixture ``time``."""
    made = Recorder(lambda: (None, {}), clock=time.clock(), threaded=lambda: False)
    yield made
    made.close()
