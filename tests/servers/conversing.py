"""An application with websockets and long polls, by Flask-Sock and by Flask-SocketIO."""

from __future__ import annotations

from typing import Any

from flask import Flask
from flask_sock import Sock
from flask_socketio import SocketIO

from flask_knitperf import KnitPerf

from .mill import configured


def create_app() -> Flask:
    """Return the application, set up by the file that ``MILL_CONFIG`` names."""
    app = configured("conversing")
    SocketIO(app, async_mode="threading")

    @Sock(app).route("/echo")
    def echo(socket: Any) -> None:
        socket.send(socket.receive())
        socket.close()

    KnitPerf(app)
    return app
