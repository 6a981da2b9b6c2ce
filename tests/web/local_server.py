"""Servers of applications on this machine, for a browser."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

from flask import Flask
from werkzeug.serving import WSGIRequestHandler, make_server


class Silent(WSGIRequestHandler):
    """Logs no request, and closes a connection without one."""

    timeout = 0.5

    def log_request(self, *_: Any) -> None:
        pass

    def log_error(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def servers() -> Iterator[Callable[[Flask], str]]:
    """Return a function that serves an application on this machine and returns its address."""
    running: list[Any] = []

    def start(app: Flask) -> str:
        server: Any = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Silent)
        server.daemon_threads = False  # so that closing waits for the browser's last request
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        running.append((server, thread))
        return f"http://127.0.0.1:{server.port}"

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()
