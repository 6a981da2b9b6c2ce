"""Applications whose housekeeping is done by the test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .applications import without_thread


@pytest.fixture
def threadless(make_app: Callable[..., Any]) -> Any:
    """Return an application on disk without a housekeeper thread."""
    return without_thread(make_app())
