"""Preparation of the process for tests of leak hunts."""

from __future__ import annotations

import gc

import pytest


@pytest.fixture(autouse=True)
def no_object_is_frozen() -> None:
    """A hunt reads all objects, and the session froze those that its collection of tests created."""
    gc.unfreeze()
