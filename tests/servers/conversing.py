"""An application with websockets and long polls, by Flask-Sock and by Flask-SocketIO."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from flask import Flask, Response
from flask_sock import Sock
from flask_socketio import SocketIO

from flask_knitperf import KnitPerf


def create_app() -> Flask:
    """Return the application, set up by the file that ``MILL_CONFIG`` names."""
    app = Flask("conversing", static_folder=None)
    app.config.update(json.loads(Path(os.environ["MILL_CONFIG"]).read_text()))
    SocketIO(app, async_mode="threading")

    @Sock(app).route("/echo")
    def echo(socket: Any) -> None:
        socket.send(socket.receive())
        socket.close()

    @app.after_request
    def signed(response: Response) -> Response:
        response.headers["X-Pid"] = str(os.getpid())
        return response

    app.add_url_rule("/ready", "ready", lambda: "ready")
    app.add_url_rule("/", "index", lambda: "ok")
    KnitPerf(app)
    return app
