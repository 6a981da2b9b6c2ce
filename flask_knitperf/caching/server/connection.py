"""Round trips to the server, each within a deadline.

Connecting and signing in are part of it (:mod:`.deadlines`). Each connection has the number of the
server's run, which differs after a restart and after a failover.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from ...core.errors import ConfigurationError, KnitPerfError
from ...core.host_exceptions import SuppressOwn, raise_if_of_host
from ...core.locks import create_lock
from .deadlines import Addresses, bounded

Command = tuple[str | bytes | int, ...]
MAX_IDLE = 8
"""Connections of a process that are kept open."""
MAX_OPEN = 32
"""Connections of a process at one time; look-ups beyond them do without the server."""
RUN_ID_BYTES = 40
_SCHEMES = {"valkey": "redis", "valkeys": "rediss"}


class ServerUnavailable(KnitPerfError):  # noqa: N818 (not a fault)
    """The server did not answer in time, or cannot be reached; the reason."""


class ServerClosed(ServerUnavailable):
    """The server has closed the connection."""


class ServerRefused(KnitPerfError):  # noqa: N818 (not a fault)
    """The server answered with an error, such as that it is out of memory; the reason."""


def load_client() -> Any:
    """Return the module of redis-py.

    Raises:
        ConfigurationError: it is not installed.
    """
    try:
        return importlib.import_module("redis")
    except ImportError as error:
        raise_if_of_host(error)
        raise ConfigurationError(
            "KNITPERF_CACHE_URL", "<hidden>", "it needs redis-py: pip install flask-knitperf[redis]"
        ) from None


class Connections:
    """Connections of one process to one server.

    Args:
        url: of the server; it may hold a password, so no message has it.
        timeout_s: bound of one round trip, in seconds.
        clock: returns monotonic time in seconds.

    Attributes:
        timeout_s: see above.
    """

    def __init__(
        self, url: str, timeout_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:  # fmt: skip
        self._url, self.timeout_s, self._clock = url, timeout_s, clock
        self._lock = create_lock()
        self._idle: list[Any] = []
        self._number = 0  # of open ones
        self._closed = 0  # number of times that all were closed
        self._options: dict[str, Any] | None = None
        self._addresses = Addresses()

    def run(
        self, commands: Sequence[Command], *, beyond_bound: bool = False
    ) -> tuple[bytes, list[Any]]:
        """Run commands as one transaction; return the number of the server's run, and their results.

        Args:
            commands: with their arguments.
            beyond_bound: whether to open a connection beyond :data:`MAX_OPEN`, for what others cannot do
                without.

        Raises:
            ServerUnavailable: no answer within the deadline.
            ServerRefused: one of them is an error.
        """
        deadline = self._clock() + self.timeout_s
        connection, is_new = self._take(deadline, beyond_bound=beyond_bound)
        try:
            return self._run_on(connection, deadline, commands)
        except ServerClosed:
            if is_new:
                raise
        self.close()  # it closed this one because it was idle, so the others are closed too
        connection, _ = self._take(deadline, beyond_bound=beyond_bound)
        return self._run_on(connection, deadline, commands)

    def _run_on(
        self, connection: Any, deadline: float, commands: Sequence[Command]
    ) -> tuple[bytes, list[Any]]:
        is_usable = False
        try:
            results = self._exchange(connection, deadline, commands)
            is_usable = True
            return connection.knitperf_run, results
        except ServerRefused:
            is_usable = True
            raise
        finally:
            self._give_back(connection, is_usable)

    def open(self, protocol: int = 2, deadline: float | None = None) -> Any:
        """Return a new connection of redis-py, which the caller closes by :meth:`disconnect`.

        Raises:
            ServerUnavailable: it could not be opened within the deadline.
        """
        deadline = self._clock() + self.timeout_s if deadline is None else deadline
        connection = None
        try:
            connection = self._new(protocol)
            connection.knitperf_deadline = deadline
            connection.connect()
            connection.knitperf_run = self._run_of(connection)
            return connection
        except Exception as error:  # what a client raises of an answer that is none may be anything
            if connection is not None:
                with SuppressOwn(Exception):
                    connection.disconnect()
            raise_if_of_host(error)
            raise ServerUnavailable(_reason(error)) from None

    def exchange(self, connection: Any, *commands: Command) -> list[Any]:
        """Run commands one by one on a connection of :meth:`open`; return their results.

        Raises:
            ServerUnavailable: no answer within the deadline.
            ServerRefused: one of them is an error.
        """
        connection.knitperf_deadline = self._clock() + self.timeout_s
        return self._answers(connection, connection.pack_commands(commands), len(commands))

    def forget(self) -> None:
        """Drop the connections of the parent, in a forked child: they stay open there."""
        idle, self._idle, self._number = self._idle, [], 0
        for connection in idle:
            with SuppressOwn(Exception):
                connection.disconnect()  # of another process: redis-py only closes the descriptor

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            idle, self._idle = self._idle, []
            self._number -= len(idle)
            self._closed += 1  # those in use are closed when they are given back
        for connection in idle:
            with SuppressOwn(Exception):
                connection.disconnect()

    # -- single connections --------------------------------------------------------------------------

    def _take(self, deadline: float, *, beyond_bound: bool = False) -> tuple[Any, bool]:
        """Return a connection, and whether it is new."""
        with self._lock:
            if self._idle:
                return self._idle.pop(), False
            if self._number >= MAX_OPEN and not beyond_bound:
                raise ServerRefused("all connections of this process are in use")
            self._number += 1
        try:
            connection = self.open(deadline=deadline)
            connection.knitperf_closed = self._closed
            return connection, True
        except BaseException:
            with self._lock:
                self._number -= 1
            raise

    def _give_back(self, connection: Any, is_usable: bool) -> None:
        with self._lock:
            if connection.pid != os.getpid():  # a fork in the middle
                return
            is_current = connection.knitperf_closed == self._closed
            if is_usable and is_current and len(self._idle) < MAX_IDLE:
                self._idle.append(connection)
                return
            self._number -= 1
        with SuppressOwn(Exception):
            connection.disconnect()

    def _exchange(self, connection: Any, deadline: float, commands: Sequence[Command]) -> list[Any]:
        connection.knitperf_deadline = deadline
        packed = connection.pack_commands([("MULTI",), *commands, ("EXEC",)])
        results = self._answers(connection, packed, len(commands) + 2)[-1]
        if not isinstance(results, list) or len(results) != len(commands):
            raise ServerUnavailable("its answer is not that to a transaction")
        for result in results:
            if isinstance(result, Exception):
                raise ServerRefused(_reason(result))
        return results

    @staticmethod
    def _answers(connection: Any, packed: Any, count: int) -> list[Any]:
        redis = load_client()
        answers, refused = [], None
        try:
            connection.send_packed_command(packed, check_health=False)
            for _ in range(count):
                try:
                    answers.append(connection.read_response(disable_decoding=True))
                except redis.ResponseError as error:  # the others have to be read too
                    raise_if_of_host(error)
                    refused = refused or _reason(error)
        except Exception as error:  # what a client raises of an answer that is none may be anything
            raise_if_of_host(error)
            is_slow = isinstance(error, TimeoutError | redis.TimeoutError)
            kind = ServerUnavailable if is_slow else ServerClosed
            raise kind(_reason(error)) from None
        if refused:
            raise ServerRefused(refused)
        return answers

    def _run_of(self, connection: Any) -> bytes:
        """Return the number of the server's run.

        Raises:
            ServerUnavailable: it does not tell.
        """
        (about,) = self._answers(connection, connection.pack_commands([("INFO", "server")]), 1)
        for line in about.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name == b"run_id":
                return bytes(value[:RUN_ID_BYTES].ljust(RUN_ID_BYTES, b"-"))
        raise ServerUnavailable("INFO has no run_id")

    def _new(self, protocol: int) -> Any:
        if self._options is None:
            self._options = self._parsed()
        options = dict(self._options)
        kind = options.pop("connection_class")
        connection = kind(**options, protocol=protocol)
        connection.knitperf_clock = self._clock
        connection.knitperf_addresses = self._addresses
        return connection

    def _parsed(self) -> dict[str, Any]:
        """Return the arguments of a connection.

        Raises:
            ServerUnavailable: the URL cannot be used.
        """
        load_client()
        module = importlib.import_module("redis.connection")
        scheme, separator, rest = self._url.partition("://")
        try:
            options: dict[str, Any] = module.parse_url(
                _SCHEMES.get(scheme, scheme) + separator + rest
            )
        except ValueError as error:
            raise_if_of_host(error)
            raise ServerUnavailable("KNITPERF_CACHE_URL cannot be used") from None
        kind = options.pop("connection_class", module.Connection)
        options |= {
            "connection_class": bounded(module, kind), "socket_timeout": self.timeout_s,
            "socket_connect_timeout": self.timeout_s, "decode_responses": False,
            "health_check_interval": 0,
        }  # fmt: skip
        return options


def _reason(error: BaseException) -> str:
    """Return the reason of a failure, without anything that a URL may hold."""
    if isinstance(error, ServerUnavailable):
        return str(error)
    redis = load_client()
    if isinstance(error, TimeoutError | redis.TimeoutError):
        return "it did not answer in time"
    if isinstance(error, redis.AuthenticationError):
        return "it refused user name or password"
    if isinstance(error, redis.OutOfMemoryError):
        return "it is full (OOM)"
    if isinstance(error, redis.ResponseError):
        # the code alone: an old server repeats the arguments of an unknown command
        code = str(error).partition(" ")[0]
        kind = type(error).__name__
        return f"it answered {code if code.isalpha() and code.isupper() else kind}"
    if isinstance(error, OSError | redis.ConnectionError):
        return "it cannot be reached"
    return "its answer cannot be read"
