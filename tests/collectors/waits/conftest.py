"""Views that are served in memory, and a service that answers over HTTP, in a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from flask_knitperf.metrics.readings.rows import WaitReading

HEAD_S, BODY_S = 0.03, 0.03


@pytest.fixture
def serve(quiet: Any) -> Callable[..., dict[str, dict[str, Any]]]:
    """Return a function that serves a view, and returns the parts of its requests."""

    def serve(view: Callable[[], Any], times: int = 1) -> dict[str, dict[str, Any]]:
        quiet.app.add_url_rule("/view", "view", lambda: str(view())[:0] + "ok")
        for _ in range(times):
            assert quiet.get("/view").body == b"ok"
        parts: dict[str, dict[str, Any]] = quiet.parts("view")
        return parts

    return serve


@pytest.fixture
def serve_async(quiet: Any) -> Callable[..., dict[str, dict[str, Any]]]:
    """Return a function that serves an asynchronous view, and returns the parts of its requests."""

    def serve(
        view: Callable[[], Coroutine[Any, Any, Any]], times: int = 1
    ) -> dict[str, dict[str, Any]]:
        async def answer() -> str:
            await view()
            return "ok"

        quiet.app.add_url_rule("/view", "view", answer)
        for _ in range(times):
            assert quiet.get("/view").body == b"ok"
        parts: dict[str, dict[str, Any]] = quiet.parts("view")
        return parts

    return serve


def waits(mill: Any, endpoint: str = "view") -> list[WaitReading]:
    """Return the waits that were recorded of an endpoint."""
    readings = mill.session.recorder.snapshot().readings
    return [wait for row in readings.endpoints if row.endpoint == endpoint for wait in row.waits]


class _Service(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        time.sleep(HEAD_S)
        if "moved" in self.path:
            self.send_response(302)
            self.send_header("Location", self.path.replace("moved", "rates"))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = b"1.07"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if "slow-body" in self.path:
            time.sleep(BODY_S)
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def service() -> Iterator[str]:
    """Return the address of a service that answers ``GET`` after :data:`HEAD_S` seconds."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Service)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://localhost:{server.server_port}/rates?key=secret"
    server.shutdown()
    thread.join()
    server.server_close()
