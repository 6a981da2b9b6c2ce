"""Hook for httpx: calls of its transports for the network, and reads of the bodies that they return.

Each request that such a transport sends is a call: those after a redirect, for authentication, and those
that a transport for retries sends once more. Transports that send nothing (``MockTransport``,
``WSGITransport``, ``ASGITransport``) are not calls of a service: the application behind them runs here.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from ...metrics.catalogue import PartKind
from . import async_waits, names
from .async_waits import TaskWait
from .replacements import Switch, Target
from .request_waits import MIN_WAIT_NS, Started, begin, end


def _handle_request(
    original: Callable[..., Any], switch: Switch, body_class: type
) -> Callable[..., Any]:
    @functools.wraps(original)
    def handle_request(self: Any, request: Any) -> Any:
        wait = begin() if switch.is_on else None
        if wait is None:
            return original(self, request)
        try:
            response = original(self, request)
        finally:
            _end(wait, request, 1, 0)
        _time_body(wait, request, response, body_class)
        return response

    return handle_request


def _handle_async_request(
    original: Callable[..., Any], switch: Switch, body_class: type
) -> Callable[..., Any]:
    @functools.wraps(original)
    async def handle_async_request(self: Any, request: Any) -> Any:
        wait = async_waits.enter(PartKind.HTTP) if switch.is_on else None
        if wait is None:
            return await original(self, request)
        try:
            response = await original(self, request)
        finally:
            _leave(wait, request, 1, 0)
        _time_body(wait, request, response, body_class)
        return response

    return handle_async_request


def _time_body(wait: Started | TaskWait, request: Any, response: Any, body_class: type) -> None:
    """Have the reads of a body timed."""
    try:
        response.stream = body_class(response.stream, request)
    except Exception as error:
        wait.span.owner.failed("waits", error)


def _end(wait: Started, request: Any, times: int, min_ns: int = MIN_WAIT_NS) -> None:
    try:
        end(wait, names.HTTP.of(request.url.raw_host), times, min_ns)
    except Exception as error:
        wait.span.owner.failed("waits", error)


def _leave(wait: TaskWait, request: Any, times: int, min_ns: int = MIN_WAIT_NS) -> None:
    try:
        part = names.HTTP.of(request.url.raw_host)
    except Exception as error:
        part = None
        wait.span.owner.failed("waits", error)
    async_waits.leave(wait, part, times, min_ns)


class _Body:
    """Body of a response.

    Args:
        stream: the body.
        request: its request.
    """

    def __init__(self, stream: Any, request: Any) -> None:
        self._stream = stream
        self._request = request

    def __iter__(self) -> Iterator[bytes]:
        """Yield the chunks; only the time until each of them arrives is the call's."""
        chunks = iter(self._stream)
        try:
            while True:
                wait = begin()
                try:
                    chunk = next(chunks)
                except StopIteration:
                    return
                finally:
                    if wait is not None:
                        _end(wait, self._request, 0)
                yield chunk
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()

    def close(self) -> None:
        """Close the body."""
        self._stream.close()


class _AsyncBody:
    """Body of a response to an asynchronous client; see :class:`_Body`."""

    def __init__(self, stream: Any, request: Any) -> None:
        self._stream = stream
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the chunks; only the time until each of them arrives is the call's."""
        chunks = aiter(self._stream)
        try:
            while True:
                wait = async_waits.enter(PartKind.HTTP)
                try:
                    chunk = await anext(chunks)
                except StopAsyncIteration:
                    return
                finally:
                    if wait is not None:
                        _leave(wait, self._request, 0)
                yield chunk
        finally:
            close = getattr(chunks, "aclose", None)
            if close is not None:
                await close()

    async def aclose(self) -> None:
        """Close the body."""
        await self._stream.aclose()


def targets(httpx: Any) -> Iterator[Target]:
    """Yield the methods that wait.

    Args:
        httpx: the module.
    """
    body = type("Body", (_Body, httpx.SyncByteStream), {})
    async_body = type("AsyncBody", (_AsyncBody, httpx.AsyncByteStream), {})
    yield Target(
        httpx.HTTPTransport, "handle_request",
        functools.partial(_handle_request, body_class=body),
    )  # fmt: skip
    yield Target(
        httpx.AsyncHTTPTransport, "handle_async_request",
        functools.partial(_handle_async_request, body_class=async_body),
    )  # fmt: skip
