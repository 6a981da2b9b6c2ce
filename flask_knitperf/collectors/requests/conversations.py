"""Conversations: websockets and long polls, whose duration is not a response time.

A websocket lasts until either side closes it, a long poll or a stream of events until there is news.
They are counted with their duration, apart from requests, and never as neighbours of other requests.

A websocket is not recognised by its headers alone, which any client may send to any view. Werkzeug
matches rules with ``websocket=True`` to handshakes of websockets, and no other rules; so the endpoint
decides. Where a middleware serves it (Flask-SocketIO), it is one whose handshake was answered with 101,
or whose response was never started though the server offered its socket: the handler took the socket,
and ended by returning, by ``StopIteration`` (gunicorn) or by ``ConnectionError`` (Werkzeug).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...metrics.catalogue import ConversationKind
from ...recording.span import Span
from .endpoint_series import MIDDLEWARE, is_bodiless, routed_endpoint
from .response_headers import header

# entries of environments by which servers offer their socket, or a websocket
_SOCKETS = (
    "werkzeug.socket", "gunicorn.socket", "eventlet.input", "uwsgi.version", "wsgi.websocket",
)  # fmt: skip
_OUTGOING = ConnectionRefusedError  # of a connection that the application opens


class Conversations:
    """Recognises conversations.

    Args:
        is_websocket: returns whether an endpoint has a rule with ``websocket=True``.
        long_polls: endpoints that the application declares to be long polls.
    """

    def __init__(self, is_websocket: Callable[[str], bool], long_polls: tuple[str, ...]) -> None:
        self._is_websocket = is_websocket
        self._long_polls = frozenset(long_polls)

    def in_flight(self, span: Span) -> ConversationKind | None:
        """Return the kind of a request in flight, as far as that is known before its end."""
        environ = span.environ
        endpoint = span.endpoint or routed_endpoint(span)
        is_unrouted = environ.get("werkzeug.request") is None
        if is_handshake(environ) and (
            self._is_routed_websocket(endpoint) or (is_unrouted and _offers_socket(environ))
        ):
            return ConversationKind.WEBSOCKET
        is_polling = is_unrouted and _is_engine_io_poll(environ)
        if is_polling or endpoint in self._long_polls or is_event_stream(span.headers):
            return ConversationKind.LONG_POLL
        return None

    def kind(self, span: Span) -> ConversationKind | None:
        """Return the kind of a request that ends, ``None`` for one whose duration is a response time."""
        if is_handshake(span.environ) and self._was_websocket(span):
            return ConversationKind.WEBSOCKET
        if self._was_long_poll(
            span
        ):  # whatever its status: one whose client is gone may end by 400
            return ConversationKind.LONG_POLL
        return None

    def _was_websocket(self, span: Span) -> bool:
        status = span.status
        if self._is_routed_websocket(span.endpoint):
            return status[:1] not in ("3", "4")  # else the handshake was refused
        return status[:3] == "101" or (not status and _offers_socket(span.environ))

    def _was_long_poll(self, span: Span) -> bool:
        if span.endpoint in self._long_polls:
            return True
        if is_event_stream(span.headers):  # the answer to a HEAD request is none, and ends at once
            return not is_bodiless(span.environ.get("REQUEST_METHOD", "GET"), span.status)
        return span.endpoint == MIDDLEWARE and _is_engine_io_poll(span.environ)

    def _is_routed_websocket(self, endpoint: str | None) -> bool:
        return endpoint is not None and self._is_websocket(endpoint)


def ends_websocket(environ: dict[str, Any], status: str, error: BaseException) -> bool:
    """Return whether an exception is the regular end of a websocket whose socket was taken.

    Args:
        environ: of the request.
        status: of its response, empty if that was not started.
        error: raised by the application.
    """
    is_end = isinstance(error, StopIteration | ConnectionError) and not isinstance(error, _OUTGOING)
    is_taken = not status or status[:3] == "101"
    return is_end and is_taken and is_handshake(environ) and _offers_socket(environ)


def is_handshake(environ: dict[str, Any]) -> bool:
    """Return whether a request is the handshake of a websocket."""
    upgrade = environ.get("HTTP_UPGRADE")
    if not upgrade or environ.get("REQUEST_METHOD") != "GET":
        return False
    options = str(environ.get("HTTP_CONNECTION")).lower().split(",")
    return str(upgrade).lower() == "websocket" and "upgrade" in map(str.strip, options)


def _offers_socket(environ: dict[str, Any]) -> bool:
    is_gevent = str(environ.get("SERVER_SOFTWARE")).startswith("gevent")
    return is_gevent or any(key in environ for key in _SOCKETS)


def _is_engine_io_poll(environ: dict[str, Any]) -> bool:
    """Return whether a request waits for messages by the protocol of Socket.IO."""
    query = str(environ.get("QUERY_STRING"))
    is_polling = "transport=polling" in query and "EIO=" in query and "sid=" in query
    return is_polling and environ.get("REQUEST_METHOD") == "GET"


def is_event_stream(headers: Any) -> bool:
    """Return whether a response is a stream of server-sent events."""
    return (header(headers, "content-type") or "").lower().startswith("text/event-stream")
