"""Requests that are served in this process, without a server: for whoever replays or measures them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from werkzeug.test import EnvironBuilder, run_wsgi_app

MOST_BYTES = 64 << 20
"""So much of a body is read; an endless stream is cut there."""
_BROKEN = 500

Application = Callable[..., Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class Request:
    """A request to be replayed.

    Attributes:
        url: a path with its query, or a whole address, whose host is then the ``Host``.
        method: of the request.
        headers: more headers.
        data: the body; JSON where it can be read as such, else a form.
    """

    url: str
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    data: str | None = None

    def environ(self) -> dict[str, Any]:
        """Return a new environment for it."""
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
        named = {name.lower(): value for name, value in self.headers}.get("content-type")
        if named is not None or self.data is None:
            return named
        try:
            json.loads(self.data)
        except ValueError:
            return "application/x-www-form-urlencoded"
        return "application/json"


def send(application: Application, request: Request) -> int:
    """Serve a request, read its body and close it; return its status.

    An application that raises has answered 500, as its server would.
    """
    try:
        body, status, _ = run_wsgi_app(application, request.environ())
        read = 0
        try:
            for piece in body:
                read += len(piece)
                if read > MOST_BYTES:
                    break
        finally:
            close = getattr(body, "close", None)
            if close is not None:
                close()
    except Exception:
        return _BROKEN
    return int(status[:3])
