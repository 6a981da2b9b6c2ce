"""Calls of a function within a block, as the interpreter reports them to a profiler."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def profiled_by(profile: Callable[[FrameType, str, Any], None]) -> Iterator[None]:
    """Have a function called at each call and return within the block."""
    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(before)
