"""Hook for the client of aiohttp: its calls, until the end of the head, and reads of bodies.

Each request that is sent is a call, those after a redirect too; one that finds no connection is one as
well. Waiting for a connection, of the session's pool too, belongs to the call.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from ...metrics.catalogue import PartKind
from . import async_waits, names
from .async_waits import TaskWait
from .replacements import Switch, Target
from .request_waits import MIN_WAIT_NS

_HOST = "_knitperf_host"  # attribute of a connection: the host of its latest response


def _request(original: Callable[..., Any], switch: Switch) -> Callable[..., Any]:
    @functools.wraps(original)
    async def request(self: Any, method: Any, str_or_url: Any, **kwargs: Any) -> Any:
        wait = async_waits.enter(PartKind.HTTP) if switch.is_on else None
        if wait is None:
            return await original(self, method, str_or_url, **kwargs)
        try:
            return await original(self, method, str_or_url, **kwargs)
        finally:
            _leave(wait, lambda: wait.host or _host_of(self, str_or_url), int(not wait.calls), 0)

    return request


def _host_of(session: Any, url: Any) -> Any:
    """Return the host of a URL, which may be relative to that of the session."""
    return urlsplit(str(url)).hostname or urlsplit(str(session._base_url)).hostname


def _start(original: Callable[..., Any], switch: Switch) -> Callable[..., Any]:
    @functools.wraps(original)
    async def start(self: Any, connection: Any) -> Any:
        wait = async_waits.enter(PartKind.HTTP) if switch.is_on else None
        if wait is None:
            return await original(self, connection)
        try:
            host = self.url.raw_host
            setattr(connection.protocol, _HOST, host)
            if wait.outer is not None:
                wait.outer.host = wait.outer.host or host
        except Exception as error:
            wait.span.owner.failed("waits", error)
        try:
            return await original(self, connection)
        finally:
            _leave(wait, lambda: self.url.raw_host, 1, 0)

    return start


def _wait(original: Callable[..., Any], switch: Switch) -> Callable[..., Any]:
    @functools.wraps(original)
    async def wait_for_data(self: Any, func_name: Any) -> Any:
        host = getattr(self._protocol, _HOST, None)  # servers read by this class too
        wait = async_waits.enter(PartKind.HTTP) if host is not None and switch.is_on else None
        if wait is None:
            return await original(self, func_name)
        try:
            return await original(self, func_name)
        finally:
            _leave(wait, lambda: host, 0)

    return wait_for_data


def _leave(
    wait: TaskWait, host_of: Callable[[], Any], times: int, min_ns: int = MIN_WAIT_NS
) -> None:
    part = None
    try:
        part = names.HTTP.of(host_of())
    except Exception as error:
        wait.span.owner.failed("waits", error)
    async_waits.leave(wait, part, times, min_ns)


def targets(aiohttp: Any) -> Iterator[Target]:
    """Yield the methods that wait.

    Args:
        aiohttp: the module.
    """
    yield Target(aiohttp.ClientSession, "_request", _request)
    yield Target(aiohttp.ClientResponse, "start", _start)
    yield Target(aiohttp.StreamReader, "_wait", _wait)
