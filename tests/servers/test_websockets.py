"""Websockets of Flask-Sock and Flask-SocketIO, under gunicorn's threads and Flask's own server."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import pytest
import simple_websocket

from .serving import GUNICORN, Server, gunicorn

APP = "tests.servers.conversing:create_app"
SERVERS = {
    "gunicorn": lambda: tuple(
        f"{APP}()" if part == GUNICORN[-1] else part
        for part in gunicorn("--worker-class", "gthread", "--threads", "32")
    ),
    "flask": lambda: (sys.executable, "-m", "flask", "--app", APP, "run", "--port", "0"),
}


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Server:
    if request.param == "gunicorn" and sys.platform == "win32":
        pytest.skip("gunicorn needs POSIX")
    return Server(tmp_path, SERVERS[request.param]())


def connect(server: Server, path: str) -> simple_websocket.Client:
    return simple_websocket.Client.connect(f"ws://127.0.0.1:{server.port}{path}")


@pytest.mark.slow
def test_websockets_are_counted_apart_from_requests_and_never_judged(server: Server) -> None:
    with server:
        for _ in range(12):
            echo = connect(server, "/echo")
            echo.send("yarn")
            assert echo.receive(timeout=5) == "yarn"
            with contextlib.suppress(simple_websocket.ConnectionClosed):
                echo.receive(timeout=5)
            socket_io = connect(server, "/socket.io/?EIO=4&transport=websocket")
            socket_io.send(
                "40"
            )  # the client reads what came with the handshake at the next message
            assert socket_io.receive(timeout=5).startswith("0")
            socket_io.close()
        server.drive("/", 20)

        def counted() -> bool:
            rows = server.document()["endpoints"]
            return sum(row["status"].get("websocket", 0) for row in rows) == 24

        server.until(counted)
        document = server.document()
    rows = {row["endpoint"]: row for row in document["endpoints"]}
    assert rows["echo"]["status"]["websocket"] == 12
    assert all(row["status"]["5xx"] == row["killed"] == 0 for row in rows.values())
    assert rows["index"]["status"]["2xx"] == 20
    assert (document["bottlenecks"], document["self"]["degraded"]) == ([], [])
    assert "knitperf" not in server.output
