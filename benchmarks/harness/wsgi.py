"""Direct WSGI calls: a request without a server, so that only the application is measured."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from typing import Any

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Get:
    """Repeats a GET request of one path, as a server would send it."""

    def __init__(
        self, app: Application, path: str = "/api/items/7", query: str = "", **environ: str
    ) -> None:
        self._app = app
        self._environ = {
            "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": path, "QUERY_STRING": query,
            "SERVER_NAME": "localhost", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "192.0.2.1", "HTTP_HOST": "localhost", "HTTP_ACCEPT": "*/*",
            "HTTP_USER_AGENT": "benchmark", "wsgi.version": (1, 0), "wsgi.url_scheme": "http",
            "wsgi.errors": io.StringIO(), "wsgi.multithread": True, "wsgi.multiprocess": True,
            "wsgi.run_once": False, **environ,
        }  # fmt: skip

    def __call__(self) -> bytes:
        """Send one request; return the body."""
        environ = {**self._environ, "wsgi.input": io.BytesIO()}
        body = self._app(environ, self._start)
        try:
            return b"".join(body)
        finally:
            close = getattr(body, "close", None)
            if close is not None:
                close()

    def times(self, count: int) -> None:
        """Send requests."""
        for _ in range(count):
            self()

    @staticmethod
    def _start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
        """Discard the head of a response."""
