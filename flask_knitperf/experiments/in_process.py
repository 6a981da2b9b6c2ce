"""Requests served in this process by calling the WSGI application, for replays and baselines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from werkzeug.test import EnvironBuilder, run_wsgi_app

MAX_BODY_BYTES = 64 << 20
"""Bytes of a response body that are read; an endless stream is closed there."""
FIRST_ERROR_STATUS = 400
"""Smallest HTTP status code that is an error."""
_SERVER_ERROR = 500

Application = Callable[..., Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class Request:
    """Request to replay.

    Attributes:
        url: a path with its query, or an absolute URL, whose host becomes the ``Host`` header.
        method: HTTP method.
        headers: additional headers.
        data: the body; sent as JSON if it parses as JSON, else as a form.
    """

    url: str
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    data: str | None = None

    def environ(self) -> dict[str, Any]:
        """Return a new WSGI environment."""
        parts = urlsplit(self.url)
        base = f"{parts.scheme}://{parts.netloc}/" if parts.netloc else None
        builder = EnvironBuilder(
            path=parts.path or "/", query_string=parts.query, base_url=base, method=self.method,
            headers=list(self.headers), data=self.data, content_type=self._content_type(),
        )  # fmt: skip
        try:
            return builder.get_environ()
        finally:
            builder.close()

    def _content_type(self) -> str | None:
        header = {name.lower(): value for name, value in self.headers}.get("content-type")
        if header is not None or self.data is None:
            return header
        try:
            json.loads(self.data)
        except ValueError:
            return "application/x-www-form-urlencoded"
        return "application/json"


def send(application: Application, request: Request) -> int:
    """Serve a request, read and close its body, and return the status code.

    An exception counts as status 500, as a server would answer.
    """
    try:
        body, status, _ = run_wsgi_app(application, request.environ())
        n_bytes = 0
        try:
            for chunk in body:
                n_bytes += len(chunk)
                if n_bytes > MAX_BODY_BYTES:
                    break
        finally:
            close = getattr(body, "close", None)
            if close is not None:
                close()
    except Exception:
        return _SERVER_ERROR
    return int(status[:3])
