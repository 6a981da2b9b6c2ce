"""Responses as cached values: those of a successful GET or HEAD that are the same for every client.

A response is cached as its parts, since werkzeug's object is changed while it is sent: the session adds
its cookie, extensions add headers, ``call_on_close`` collects functions. Each caller gets a separate
object of the same class, built from the parts.

The rules are those of a shared cache (RFC 9111, section 3), except that expiry is the application's: its
``ttl``, not the header ``Cache-Control: max-age``, which is for browsers. Werkzeug is looked up in
``sys.modules``, so a process without it does not import it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

from ..core.host_exceptions import raise_if_of_host
from .cacheability import NotCacheable
from .immutability import is_immutable
from .instance_state import attributes, is_plain
from .load_reads import SAFE_METHODS, CurrentRequest
from .sizes import size_of
from .values import Isolated, isolate

_STATE = frozenset({
    "headers", "_status", "_status_code", "direct_passthrough", "response", "_on_close",
})  # fmt: skip
"""Attributes of a response that are its state."""
_DERIVED = frozenset({"stream"})
"""Attributes that a response computes from its state when they are first read."""
_PRIVATE = ("private", "no-store")
"""Directives of ``Cache-Control`` of a response that is for one client."""


class ResponseParts(NamedTuple):
    """A response as it is cached.

    Attributes:
        kind: its class.
        status: such as ``200 OK``.
        headers: names and values, in order.
        body: chunks of the body, in a list or a tuple as the response has them.
    """

    kind: type
    status: str
    headers: tuple[tuple[str, str], ...]
    body: list[str | bytes] | tuple[str | bytes, ...]


def is_response(value: Any) -> bool:
    """Return whether a value is a response of werkzeug, or a tuple of Flask that begins with one."""
    first = value[0] if type(value) is tuple and 2 <= len(value) <= 3 else value
    module = sys.modules.get("werkzeug.wrappers")
    return module is not None and isinstance(first, module.Response)


def content(value: Any) -> Any:
    """Return a result with the parts of its response in place of the response.

    Raises:
        RuntimeError: the response is streamed.
    """
    if not is_response(value):
        return value
    if type(value) is tuple:
        return (content(value[0]), *value[1:])
    return value.status, tuple(value.headers), value.get_data()


def isolate_result(value: Any, request: CurrentRequest) -> Isolated:
    """Return the result of a function in the form in which it is cached.

    Args:
        value: the result.
        request: the current request, for a result that is a response to it.

    Raises:
        NotCacheable: another caller could not use it, or it is a response to one client.
    """
    try:
        return _isolate_result(value, request)
    except NotCacheable:
        raise
    except Exception as error:  # a result that Flask refuses too, or a class that misbehaves
        raise_if_of_host(error)
        raise NotCacheable(f"its response cannot be read ({error!r})") from error


def _isolate_result(value: Any, request: CurrentRequest) -> Isolated:
    if request.is_view:
        _check_view_result(value)
    if not is_response(value):
        return isolate(value)
    if request.method not in SAFE_METHODS:
        when = "outside of a request" if request.method is None else f"for {request.method}"
        raise NotCacheable(
            f"its response was created {when}; only those for GET and HEAD are cached"
        )
    if type(value) is not tuple:
        parts = _parts(value)
        return Isolated(parts, _response, size_of((parts,)))
    _check_view_result(value)
    parts, rest = _parts(value[0]), isolate(value[1:])
    return Isolated((parts, rest), _response_tuple, size_of((parts,)) + rest.size)


def comparable(value: Any, copy: Callable[[Any], Any] | None) -> Any:
    """Return a value in a form that can be compared: parts of a response, else as a caller gets it.

    Args:
        value: in the form in which it is cached.
        copy: returns a copy for one caller, ``None`` where the value is immutable.
    """
    return value if copy in (None, _response, _response_tuple) else copy(value)


def _response(parts: ResponseParts) -> Any:
    """Return a response that no other caller has."""
    kind: Any = parts.kind
    response = object.__new__(kind)
    response.__dict__.update(
        headers=sys.modules["werkzeug.datastructures"].Headers(parts.headers),
        _status=parts.status, _status_code=int(HTTPStatus.OK), direct_passthrough=False,
        response=parts.body[:] if type(parts.body) is list else parts.body, _on_close=[],
    )  # fmt: skip
    return response


def _response_tuple(kept: tuple[ResponseParts, Isolated]) -> tuple[Any, ...]:
    parts, (rest, copy, _) = kept
    others: tuple[Any, ...] = rest if copy is None else copy(rest)
    return (_response(parts), *others)


# -- what makes a response one client's ------------------------------------------------------------


def _parts(response: Any) -> ResponseParts:
    """Return the parts of a response.

    Raises:
        NotCacheable: it is not for every client, or has state besides its parts.
    """
    kind, state = type(response), vars(response)
    others = {name for name, _ in attributes(response)} - _STATE - _DERIVED
    if others or not is_plain(kind):
        which = f"the attribute {min(others)!r}" if others else "a base class with state"
        raise NotCacheable(f"its response, a {kind.__qualname__}, has {which}")
    body, headers = state["response"], state["headers"]
    if state["direct_passthrough"] or type(body) not in (list, tuple):
        raise NotCacheable("its response is streamed, such as a file or a generator")
    if state["_on_close"]:
        raise NotCacheable(
            "its response has functions for call_on_close, which are for one request"
        )
    _check_status(state["_status_code"])
    if type(headers) is not sys.modules["werkzeug.datastructures"].Headers:
        raise NotCacheable(f"its response has headers of type {type(headers).__qualname__}")
    pairs = tuple(headers)
    _check_headers(pairs)
    if not all(isinstance(chunk, str | bytes) and is_immutable(chunk) for chunk in body):
        raise NotCacheable("its response has a body that is not of texts and bytes")
    return ResponseParts(kind, state["_status"], pairs, body[:])


def _check_view_result(value: Any) -> None:
    """Raise for the result of a view that Flask turns into a response to one client.

    Raises:
        NotCacheable: it does.
    """
    if callable(value) and not is_response(value):
        raise NotCacheable(f"a {type(value).__qualname__} is called for each request")
    if type(value) is not tuple or not 2 <= len(value) <= 3:
        return
    last = value[-1]
    has_headers = (
        len(value) == 3 or isinstance(last, Mapping | list | tuple) or hasattr(last, "items")
    )
    if len(value) == 3 or not has_headers:
        _check_status(value[1])
    if has_headers and last is not None:
        _check_headers(tuple(_pairs(last)))


def _check_status(status: Any) -> None:
    """Raise for a status other than 200, a number or a text that begins with it."""
    if status is None:
        return
    text = status.decode("latin-1") if isinstance(status, bytes) else status
    number = text.split(None, 1)[0] if isinstance(text, str) and text.strip() else text
    try:
        code = int(number)
    except (TypeError, ValueError) as error:  # not a status, and Flask will refuse it
        raise_if_of_host(error)
        return
    if code != HTTPStatus.OK:
        raise NotCacheable(f"its response has the status {code}; only 200 is cached")


def _pairs(headers: Any) -> Iterator[tuple[str, str]]:
    """Yield the names and values of headers in any form that Flask accepts."""
    items = headers.items() if hasattr(headers, "items") else headers
    for name, value in items:
        values = value if isinstance(value, list | tuple | set) else (value,)
        for one in values:
            yield str(name), str(one)


def _check_headers(pairs: Iterable[tuple[str, str]]) -> None:
    for name, value in pairs:
        if not (is_immutable(name) and is_immutable(value)):
            raise NotCacheable(f"its response has a header of type {type(value).__qualname__}")
        lower = name.lower()
        values = [part.partition("=")[0].strip().lower() for part in value.split(",")]
        if lower == "set-cookie":
            raise NotCacheable("its response sets a cookie, which is for one client")
        if lower == "vary" and "*" in values:
            raise NotCacheable("its response has the header Vary: *")
        private = [directive for directive in _PRIVATE if directive in values]
        if lower == "cache-control" and private:
            raise NotCacheable(f"its response has the header Cache-Control: {private[0]}")
