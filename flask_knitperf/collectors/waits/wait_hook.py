"""Hook for functions of the standard library that wait: times them within requests.

Outgoing HTTP is measured in :mod:`http.client`, on which urllib, urllib3 and requests are built: sending
with the connection it opens, the response up to the end of its head, and reads of the body. Connections,
the resolution of names, programs and sleeps are measured wherever a library waits for them.

Waits for other threads are measured in :mod:`.lock_hook`. Reads of other sockets are not: their methods
are in C, and a class in their place would make each read slower; the sampler shows the line.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

from ...core.clock import NS_PER_S
from ...core.code_locations import is_ours, is_own
from ...core.host_exceptions import raise_if_of_host
from ...metrics.catalogue import PartKind
from . import lock_hook, names, thread_pools
from .replacements import Builtin, Switch, Target
from .request_waits import IN_WAIT, MIN_WAIT_NS, Started, begin, end

_Function = Callable[..., Any]
_HOST = "_knitperf_host"
"""Attribute of a response and of a connection to a proxy: the host that it comes from, or is for."""
_ABSOLUTE = ("http://", "https://")
_OWN_MODULES = ("__main__", thread_pools.__name__, "asgiref.", "asyncio.")
"""Modules whose sleeps are the application's: a task of a pool or a loop may be a sleep itself."""
_MAX_ADDRESSES = 1000
_addresses: dict[str, str] = {}  # names of hosts by the addresses that they were resolved to


# -- outgoing HTTP ---------------------------------------------------------------------------------


def _host_of(connection: Any) -> Any:
    """Return the host that a connection is for, behind a proxy too."""
    behind = getattr(connection, _HOST, None) or getattr(connection, "_tunnel_host", None)
    return behind or connection.host


def _putrequest(original: _Function, switch: Switch) -> _Function:
    @functools.wraps(original)
    def putrequest(self: Any, method: Any, url: Any, *args: Any, **kwargs: Any) -> Any:
        through_proxy = switch.is_on and type(url) is str and url.startswith(_ABSOLUTE)
        if through_proxy or getattr(self, _HOST, None) is not None:
            try:
                setattr(self, _HOST, urlsplit(url).hostname if through_proxy else None)
            except Exception as error:  # a connection of the host's class, or an invalid URL
                raise_if_of_host(error)
        return original(self, method, url, *args, **kwargs)

    return putrequest


def _send(original: _Function, switch: Switch) -> _Function:
    @functools.wraps(original)
    def send(self: Any, data: Any) -> Any:
        wait = begin() if switch.is_on else None
        if wait is None:
            return original(self, data)
        try:
            return original(self, data)
        finally:
            _end_http(wait, _host_of, self, 0)

    return send


def _getresponse(original: _Function, switch: Switch) -> _Function:
    @functools.wraps(original)
    def getresponse(self: Any, *args: Any, **kwargs: Any) -> Any:
        wait = begin() if switch.is_on else None
        if wait is None:
            return original(self, *args, **kwargs)
        try:
            response = original(self, *args, **kwargs)
        finally:
            _end_http(wait, _host_of, self, 1, 0)
        try:
            setattr(response, _HOST, _host_of(self))
        except Exception as error:  # a response of the host's class
            wait.span.owner.failed("waits", error)
        return response

    return getresponse


def _read(original: _Function, switch: Switch) -> _Function:
    @functools.wraps(original)
    def read(self: Any, *args: Any, **kwargs: Any) -> Any:
        wait = begin() if switch.is_on else None
        if wait is None:
            return original(self, *args, **kwargs)
        try:
            return original(self, *args, **kwargs)
        finally:
            _end_http(wait, _origin_of, self, 0)

    return read


def _origin_of(response: Any) -> Any:
    """Return the host that a response comes from; one that began outside of the request has none."""
    return getattr(response, _HOST, "<other>")


def _end_http(
    wait: Started, host_of: Callable[[Any], Any], owner: Any, times: int, min_ns: int = MIN_WAIT_NS
) -> None:
    try:
        part = names.HTTP.of(host_of(owner))
    except Exception as error:
        wait.span.owner.failed("waits", error)
        return
    end(wait, part, times, min_ns)


# -- connections and names -------------------------------------------------------------------------


def _getaddrinfo(original: _Function, switch: Switch) -> _Function:
    @functools.wraps(original)
    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        wait = begin() if switch.is_on else None
        if wait is None:
            return original(host, *args, **kwargs)
        addresses: Any = ()
        try:
            addresses = original(host, *args, **kwargs)
            return addresses
        finally:
            try:
                end(wait, names.DNS.of(host))
                _remember(host, addresses)
            except Exception as error:
                wait.span.owner.failed("waits", error)

    return getaddrinfo


def _remember(host: Any, addresses: Any) -> None:
    """Remember the name that addresses belong to: libraries connect to an address."""
    if type(host) is not str:
        return
    if len(_addresses) >= _MAX_ADDRESSES:
        _addresses.clear()
    for *_, address in addresses:
        if type(address) is tuple and type(address[0]) is str:
            _addresses[address[0]] = host


def _connect(original: _Function, switch: Switch) -> _Function:
    @functools.wraps(original)
    def connect(self: Any, address: Any) -> Any:
        wait = begin() if switch.is_on else None
        if wait is None:
            return original(self, address)
        try:
            return original(self, address)
        finally:
            try:
                host = address[0] if isinstance(address, tuple) and address else "localhost"
                end(wait, names.CONNECT.of(_addresses.get(host, host)))
            except Exception as error:
                wait.span.owner.failed("waits", error)

    return connect


def _do_handshake(original: _Function, switch: Switch) -> _Function:
    @functools.wraps(original)
    def do_handshake(self: Any, *args: Any, **kwargs: Any) -> Any:
        wait = begin() if switch.is_on and not self.server_side else None
        if wait is None:
            return original(self, *args, **kwargs)
        try:
            return original(self, *args, **kwargs)
        finally:
            try:
                end(wait, names.CONNECT.of(self.server_hostname or "<other>"), 0)
            except Exception as error:
                wait.span.owner.failed("waits", error)

    return do_handshake


# -- programs and sleeps ---------------------------------------------------------------------------


def _wait_for_program(original: _Function, switch: Switch) -> _Function:
    @functools.wraps(original)
    def wait_for_program(self: Any, *args: Any, **kwargs: Any) -> Any:
        has_ended = getattr(self, "returncode", None) is not None  # it was waited for before
        wait = begin() if switch.is_on and not has_ended else None
        if wait is None:
            return original(self, *args, **kwargs)
        token = IN_WAIT.set(True)  # it polls, sleeps and calls itself
        try:
            return original(self, *args, **kwargs)
        finally:
            IN_WAIT.reset(token)
            try:
                end(wait, names.SUBPROCESS.of(_first(self.args)))
            except Exception as error:
                wait.span.owner.failed("waits", error)

    return wait_for_program


def _first(args: Any) -> Any:
    return args[0] if isinstance(args, list | tuple) and args else args


def _sleep(original: _Function, switch: Switch) -> Builtin:
    def sleep(seconds: Any, /) -> None:
        wait = begin() if switch.is_on else None
        if wait is None:
            original(seconds)
            return
        try:
            original(seconds)
        finally:
            try:
                part = sleep_part(sys._getframe(2))
                if part is not None:
                    end(wait, part, max_ns=seconds * NS_PER_S)
            except Exception as error:
                wait.span.owner.failed("waits", error)

    return Builtin(original, sleep)


def sleep_part(frame: FrameType) -> str | None:
    """Return the name of the part for a sleep that a frame calls, ``None`` for one of ours."""
    module = str(frame.f_globals.get("__name__"))
    if is_own(frame.f_code) or module.startswith(_OWN_MODULES):
        return PartKind.SLEEP.value
    return None if is_ours(frame.f_code) else names.SLEEP.of(module)


def targets() -> Iterator[Target]:
    """Yield the functions and methods that wait."""
    import http.client
    import socket
    import subprocess
    import threading
    import time

    yield Target(http.client.HTTPConnection, "putrequest", _putrequest)
    yield Target(http.client.HTTPConnection, "send", _send)
    yield Target(http.client.HTTPConnection, "getresponse", _getresponse)
    for name in ("read", "read1", "readinto"):
        yield Target(http.client.HTTPResponse, name, _read)
    yield Target(socket, "getaddrinfo", _getaddrinfo, is_imported=True)
    yield Target(socket.socket, "connect", _connect)
    ssl = sys.modules.get("ssl")
    if ssl is not None:
        yield Target(ssl.SSLSocket, "do_handshake", _do_handshake)
    for name in ("wait", "communicate"):
        yield Target(subprocess.Popen, name, _wait_for_program)
    yield Target(time, "sleep", _sleep, is_imported=True)
    yield Target(threading.Condition, "wait", lock_hook.wait_for_condition)
    yield Target(threading.Thread, "join", lock_hook.wait_for_thread)
