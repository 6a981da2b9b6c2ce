"""Fixtures for pytest, which loads this plug-in where the package is installed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture
def no_n_plus_one() -> Iterator[None]:
    """Fail a test whose requests run one query per row."""
    from .api.queries import QueryOptimizer

    with QueryOptimizer().raise_on_n_plus_one():
        yield
