"""Waiting for what another thread or process does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def wait_for(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    """Wait until a condition is true.

    Raises:
        AssertionError: it did not become true in time.
    """
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, f"{condition} did not become true"
        time.sleep(0.005)
