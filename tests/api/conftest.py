"""Warnings that are issued once per process, here once per test; and a server."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Thread
from typing import Any

import pytest
from werkzeug.serving import make_server

from flask_knitperf.core import notices


@pytest.fixture(autouse=True)
def no_warning_issued_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "_issued", set())


@pytest.fixture
def server_url(quiet: Any) -> Iterator[str]:
    """Return the URL of a server of the application of the fixture ``quiet``."""
    server = make_server("127.0.0.1", 0, quiet.app, threaded=True)
    server.log = lambda *_: None
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
