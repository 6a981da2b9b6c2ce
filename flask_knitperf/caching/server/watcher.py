"""The thread that keeps a process up to date with the server.

It compares generations each second, and at once when the server reports a change: a second connection
has client-side tracking on for the one string that holds them, where the server has that (Redis 6,
Valkey). What arrives there only ends the pause, so a report that is lost costs a second at most.

A server that does not answer is tried again after pauses that double.
"""

from __future__ import annotations

import logging
import socket
import threading
from typing import TYPE_CHECKING, Any

from ...core.host_exceptions import SuppressOwn, raise_if_of_host
from .connection import Connections, ServerRefused, ServerUnavailable

if TYPE_CHECKING:
    from .level import ServerLevel

log = logging.getLogger("flask_knitperf")
POLL_S = 1.0
"""Seconds between two comparisons if no change is reported."""
FIRST_PAUSE_S, MAX_PAUSE_S = 1.0, 30.0
"""Pauses between two attempts while the server is lost, in seconds."""
MIN_GAP_S = 0.01
"""Seconds between two comparisons, however many changes are reported."""
STOP_S = 2.0
"""Seconds that closing waits for the thread."""


class Watcher:
    """The thread of one process.

    Args:
        level: compares generations.
        connections: opens the connection with tracking.
        key: name of the string with the generations.
    """

    def __init__(self, level: ServerLevel, connections: Connections, key: bytes) -> None:
        self._level, self._connections, self._key = level, connections, key
        self._tracking: Any = None
        self._has_tracking, self._has_failed = True, False
        self._stopping = threading.Event()
        self._pause_s = FIRST_PAUSE_S
        self._thread = threading.Thread(
            target=self._run, name="flask_knitperf cache server", daemon=True
        )

    def start(self) -> None:
        """Start the thread.

        Raises:
            RuntimeError: the system refuses it.
        """
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread."""
        self._stopping.set()
        tracking = self._tracking
        if tracking is not None:
            with SuppressOwn(OSError, AttributeError):  # the thread has closed it meanwhile
                tracking._sock.shutdown(socket.SHUT_RDWR)  # ends its wait
        if self._thread is not threading.current_thread():
            self._thread.join(STOP_S)

    def forget(self) -> None:
        """Close the connection in a forked child: that of the parent stays open."""
        self._close_tracking()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._wait(self._turn())
            except Exception as error:
                raise_if_of_host(error)
                if not self._has_failed:
                    log.error(
                        "flask_knitperf: comparing with the cache server failed", exc_info=error
                    )
                self._has_failed = True
                self._stopping.wait(POLL_S)
        self._close_tracking()

    def _turn(self) -> float:
        """Compare once; return the seconds to wait for."""
        if self._has_tracking and self._tracking is None:
            self._track()
        if self._level.sync():
            self._pause_s = FIRST_PAUSE_S
            return POLL_S
        self._close_tracking()
        pause, self._pause_s = self._pause_s, min(2 * self._pause_s, MAX_PAUSE_S)
        return pause

    def _track(self) -> None:
        """Have the server report changes of the generations, if it can."""
        try:
            self._tracking = self._connections.open(protocol=3)
            self._connections.exchange(
                self._tracking, ("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", self._key)
            )
        except ServerUnavailable as error:  # tried again before the next comparison
            raise_if_of_host(error)
            self._close_tracking()
        except ServerRefused as error:
            raise_if_of_host(error)
            self._close_tracking()
            self._has_tracking = False  # an older server, or one that does not permit it: polled

    def _close_tracking(self) -> None:
        tracking, self._tracking = self._tracking, None
        if tracking is not None:
            with SuppressOwn(Exception):
                tracking.disconnect()

    def _wait(self, seconds: float) -> None:
        """Wait for a time, a report of the server, or the end."""
        if self._tracking is None:
            until = self._level.clock() + seconds
            while (left := until - self._level.clock()) > 0:
                if self._stopping.wait(min(left, POLL_S)):
                    return
                self._level.expire_old()
            return
        if self._stopping.is_set():
            return
        try:
            plain = self._tracking._sock.plain
            plain.settimeout(seconds)
            if not plain.recv(65536):
                self._close_tracking()
        except TimeoutError as error:
            raise_if_of_host(error)
            return
        except (OSError, AttributeError, ValueError) as error:
            raise_if_of_host(error)
            self._close_tracking()
        self._stopping.wait(MIN_GAP_S)
