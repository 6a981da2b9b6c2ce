"""Requests to a server, by the HTTP client of the standard library."""

from __future__ import annotations

from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from ..core.errors import KnitPerfError
from .in_process import Request

TIMEOUT_S = 30.0
MAX_BODY_BYTES = 64 << 20  # an endless stream is cut off there
_CHUNK_BYTES = 1 << 16


class NoResponseError(KnitPerfError):
    """A server sent no response; the message names its URL and the reason."""


class HttpClient:
    """Sends requests to one server. Redirects are not followed: they are responses too.

    Args:
        base_url: scheme (http or https), host, and optionally a path that precedes all others.

    Raises:
        KnitPerfError: it is not such a URL.
    """

    def __init__(self, base_url: str) -> None:
        try:
            parts = urlsplit(base_url)
            self._address = parts.hostname or "", parts.port
        except (TypeError, ValueError, AttributeError) as error:
            raise KnitPerfError(f"base_url is {base_url!r}: {error}") from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise KnitPerfError(f"base_url must be an http or https URL, not {base_url!r}")
        self.base_url = base_url.rstrip("/")
        self._connect = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._prefix = parts.path.rstrip("/")

    def send(self, request: Request) -> int:
        """Send a request, read the whole response, and return its status.

        Raises:
            NoResponseError: there is no connection, or no response within 30 seconds.
        """
        connection = self._connect(*self._address, timeout=TIMEOUT_S)
        body = None if request.data is None else request.data.encode()
        try:
            path = self._prefix + request.url
            connection.request(request.method, path, body, dict(request.headers))
            response = connection.getresponse()
            remaining = MAX_BODY_BYTES
            while remaining > 0 and (chunk := response.read(_CHUNK_BYTES)):
                remaining -= len(chunk)
            return response.status
        except (OSError, HTTPException) as error:
            reason = str(error) or type(error).__name__
            raise NoResponseError(f"no response from {self.base_url}: {reason}") from error
        finally:
            connection.close()
