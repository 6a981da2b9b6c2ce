"""The databases of the history, and receivers of messages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.history.conftest import another, connection, database, host

from .receivers import Post, Web

__all__ = ["another", "connection", "database", "host"]


@pytest.fixture
def web() -> Iterator[Web]:
    """An HTTP server that takes every message."""
    with Web() as started:
        yield started


@pytest.fixture
def post() -> Iterator[Post]:
    """An SMTP server that takes every mail."""
    with Post() as started:
        yield started
