"""Connections of redis-py whose operations end at one deadline.

The timeouts of redis-py hold for one read of a socket, so an answer that arrives byte by byte could take
for ever. Here the socket of a connection computes what is left of the whole round trip before each
operation. The look-up of the name of the host, which no timeout of a socket bounds, is done by a thread.
"""

from __future__ import annotations

import socket
import threading
from typing import Any

from ...core.host_exceptions import SuppressOwn, raise_if_of_host


def bounded(module: Any, kind: type) -> type:
    """Return the class of a kind of connection whose sockets have the deadline of the round trip."""

    class Tcp(module.Connection):  # type: ignore[misc]
        """Connection to an address that was looked up within the deadline."""

        def _connect(self) -> Any:
            error: OSError = OSError("the name of the host has no address")
            left = self.knitperf_deadline - self.knitperf_clock()
            for family, address in self.knitperf_addresses.of(self.host, self.port, left):
                plain = socket.socket(family, socket.SOCK_STREAM)
                try:
                    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    plain.settimeout(_left(self))
                    plain.connect(address)
                    return plain
                except OSError as failure:
                    plain.close()
                    raise_if_of_host(failure)
                    error = failure
            raise error

    bases = (kind, Tcp) if kind is module.SSLConnection else (Tcp,)
    if kind is module.UnixDomainSocketConnection:
        bases = (kind,)

    class Bounded(*bases):  # type: ignore[misc]
        """Connection whose operations end at the deadline of its round trip."""

        knitperf_deadline = 0.0

        def _connect(self) -> Any:
            return _BoundedSocket(super()._connect(), self)

    return Bounded


def _left(connection: Any) -> float:
    """Return the seconds until the deadline of a connection.

    Raises:
        TimeoutError: it has passed.
    """
    left: float = connection.knitperf_deadline - connection.knitperf_clock()
    if left <= 0:
        raise TimeoutError("the deadline of the round trip has passed")
    return left


class _BoundedSocket:
    """Socket whose operations end at the deadline of its connection."""

    def __init__(self, plain: Any, connection: Any) -> None:
        self.plain, self._connection = plain, connection

    def recv(self, *args: Any) -> Any:
        self.plain.settimeout(_left(self._connection))
        return self.plain.recv(*args)

    def recv_into(self, *args: Any) -> Any:
        self.plain.settimeout(_left(self._connection))
        return self.plain.recv_into(*args)

    def sendall(self, *args: Any) -> Any:
        self.plain.settimeout(_left(self._connection))
        return self.plain.sendall(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.plain, name)


class Addresses:
    """Addresses of a host, looked up by a thread, since no timeout bounds that."""

    def __init__(self) -> None:
        self._known: list[tuple[Any, Any]] = []
        self._lookup: threading.Thread | None = None

    def of(self, host: str, port: int, left_s: float) -> list[tuple[Any, Any]]:
        """Return families and addresses.

        Args:
            host: name or address.
            port: the port.
            left_s: seconds to wait for; afterwards the former addresses are used.

        Raises:
            OSError: there are none.
        """
        try:
            return _looked_up(host, port, socket.AI_NUMERICHOST)
        except socket.gaierror as error:
            raise_if_of_host(error)
        thread = self._lookup
        if thread is None or not thread.is_alive():
            thread = self._lookup = threading.Thread(
                target=self._look_up, args=(host, port), name="flask_knitperf resolver", daemon=True
            )
            thread.start()
        thread.join(max(0.0, left_s))
        if not self._known:
            raise OSError("the name of the host has no address")
        return self._known

    def _look_up(self, host: str, port: int) -> None:
        with SuppressOwn(OSError, UnicodeError):
            self._known = _looked_up(host, port, 0)


def _looked_up(host: str, port: int, flags: int) -> list[tuple[Any, Any]]:
    rows = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM, 0, flags)
    return [(row[0], row[4]) for row in rows]
