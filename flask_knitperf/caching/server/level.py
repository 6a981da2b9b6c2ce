"""The server as one process uses it: look-ups and writes while it answers, nothing while it does not.

The first failure ends all use of the server in this process. From then on the watcher alone tries it,
after pauses that double (:mod:`.watcher`), and only once generations were compared is it used again. So
a server that hangs costs each process one timeout, not each request one.

While it is lost, invalidations by other hosts do not arrive. What was loaded before is expired once the
latest comparison is :attr:`Budget.stale_s` old, and what is loaded meanwhile expires after that time.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from ...core.host_exceptions import raise_if_of_host
from ...core.locks import create_lock, create_reentrant_lock
from ...core.printable import printable
from ...metrics.catalogue import ServerEvent
from ...storage.atomic_files import Disk
from ...storage.versions import Versions
from ..value_files import Pickled
from .connection import Connections, ServerRefused, ServerUnavailable
from .generations import ALL, Answer, Generations
from .host_view import HostView
from .message import ForeignValue, derived, opened, sealed
from .round_trips import RoundTrips, ServerCounts
from .watcher import POLL_S, Watcher

log = logging.getLogger("flask_knitperf")
FRESH_S = 2.5 * POLL_S
"""Age of the latest comparison above which what is loaded expires within the budget."""
MAX_KEPT_S = 86_400.0
"""Seconds that the server keeps a value without a ttl."""
REFUSED_PAUSE_S = 10.0
"""Seconds without writes after the server has refused one, as one that is full does."""
MAX_FACTS = 65_536
"""Bytes of a message beside its value."""
FORMAT = 1


class Budget(NamedTuple):
    """Bounds of the use of a server.

    Attributes:
        timeout_s: of one round trip, in seconds.
        stale_s: age of the latest comparison of generations at which held values expire, in seconds.
        max_bytes: of one value.
    """

    timeout_s: float
    stale_s: float
    max_bytes: int


class RemoteValue(NamedTuple):
    """A value of the server that was verified, and whose generations hold.

    Attributes:
        facts: everything about it.
        content: not decoded yet.
        left_s: seconds until the server removes it, infinite if it does not.
    """

    facts: dict[str, Any]
    content: Pickled
    left_s: float


class ServerLevel:
    """Use of a server by one application in this process. Its methods never raise.

    Args:
        url: of the server.
        budget: bounds.
        secret: returns the secret of the application, empty without one.
        versions: those of this host.
        state_dir: returns the state directory, ``None`` without one.
        is_off: returns whether the server is not to be used, as in tests.
        clock: returns monotonic time in seconds.
        wall: returns the seconds since the epoch.
        failed: called with a component and its error.
    """

    def __init__(
        self, url: str, budget: Budget, *, secret: Callable[[], bytes], versions: Versions,
        state_dir: Callable[[], Path | None], is_off: Callable[[], bool] = lambda: False,
        disk: Disk | None = None, clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        failed: Callable[[str, BaseException], None] = lambda *_: None,
    ) -> None:  # fmt: skip
        self.budget, self._secret, self._versions = budget, secret, versions
        self._is_off, self.clock, self.wall, self._failed = is_off, clock, wall, failed
        self._connections = Connections(url, budget.timeout_s, clock)
        self._state_dir, self._disk = state_dir, disk
        self._view: HostView = _NO_VIEW
        self._max_message = budget.max_bytes + MAX_FACTS
        self._generations: Generations | None = None
        self._key = self._prefix = b""
        self._watcher: Watcher | None = None
        self._starting = create_reentrant_lock()
        self._ready = threading.Event()  # set once this process has tried to compare
        self._is_up = False
        self._lost, self._lost_at = "", 0.0
        self._refused_until, self._refused = -math.inf, ""
        self._round_trips = RoundTrips(clock)
        self._syncing = create_lock()
        _ALL.add(self)

    # -- life ----------------------------------------------------------------------------------------

    def start(self) -> bool:
        """Start the watcher of this process, if it does not run; return whether the server is used."""
        if self._watcher is not None:
            return True
        if not self._is_on():
            return False
        with self._starting:
            if self._watcher is None:
                watcher = Watcher(self, self._connections, self._prepared().key)
                try:
                    watcher.start()
                except RuntimeError as error:  # the system refuses a thread
                    raise_if_of_host(error)
                    self._lose("its thread cannot be started")
                    return False
                self._watcher = watcher
        return True

    def _is_on(self) -> bool:
        """Return whether the server is to be used."""
        if self._is_off():
            return False
        if not self._secret():
            self._lose("there is no SECRET_KEY and no KNITPERF_CACHE_SECRET to sign values with")
            return False
        return True

    def _prepared(self) -> Generations:
        """Return the generations; open the state of the host at the first call."""
        with self._starting:
            if self._generations is None:
                secret = self._secret()
                space = derived(secret, "name space").hex()[:16]
                self._key = derived(secret, "signature")
                # in braces, so that all names of an application are in one slot of a cluster
                self._prefix = b"{knitperf:%d:%b}:" % (FORMAT, space.encode())
                self._view = HostView(self._state_dir, space, self._disk)
                self._generations = Generations(
                    self._connections, self._view, self._versions, self._prefix + b"generations",
                    self.clock,
                )  # fmt: skip
        return self._generations

    def close(self) -> None:
        """Stop the watcher and close the connections; later use starts again."""
        with self._starting:
            if self._is_up and self._view.has_unsent:
                self._is_up = False
                self.sync()  # all of it: nothing else may run on this host to send it
            watcher, self._watcher = self._watcher, None
            self._is_up = False
            self._ready.clear()
        if watcher is not None:
            watcher.stop()
        self._connections.close()

    def forget(self) -> None:
        """Drop what belongs to the parent, in a forked child."""
        watcher, self._watcher, self._is_up = self._watcher, None, False
        self._ready = threading.Event()
        if watcher is not None:
            watcher.forget()
        self._connections.forget()
        self._round_trips = RoundTrips(self.clock)

    # -- what is known of the server -----------------------------------------------------------------

    def is_ready(self) -> bool:
        """Return whether the server can be used; wait for the first comparison, within the bound."""
        if not self.start():
            return False
        if not self._ready.is_set():
            self._ready.wait(self.budget.timeout_s)
            self._ready.set()  # others do not wait once more
            self.expire_old()
        return self._is_up and not self._view.has_unsent

    def generations(self) -> memoryview | None:
        """Return a copy of the known generations, taken before a load; ``None`` if it is off."""
        return self._view.generations() if self.start() else None

    def known_until(self, now: float) -> float:
        """Return the monotonic time at which a value that is loaded now expires, perhaps infinite.

        Args:
            now: monotonic time in seconds.
        """
        if not self._is_on():
            return math.inf
        if not self.start():
            return now + self.budget.stale_s
        return math.inf if self._view.age(now) <= FRESH_S else now + self.budget.stale_s

    @property
    def lost(self) -> str:
        """Reason why the server is not used, a sentence without a full stop; empty while it is."""
        if self._lost:
            since = datetime.fromtimestamp(self._lost_at, tz=UTC)
            return (
                f"the cache server is not used since {since:%H:%M:%S} UTC: {self._lost}; values are "
                "shared within each host only"
            )
        if self._refused and self.clock() < self._refused_until:
            return f"the cache server refuses values: {self._refused}"
        return ""

    def _lose(self, reason: str) -> None:
        """Stop using the server until it was compared again."""
        was_up, self._is_up = self._is_up, False
        if was_up or not self._lost:
            self._lost_at = self.wall()
            log.warning("flask_knitperf: the cache server is not used: %s", printable(reason))
        self._lost = reason
        self._connections.close()

    # -- comparison, by the watcher ------------------------------------------------------------------

    def sync(self) -> bool:
        """Compare generations with those of the server; return whether it has answered."""
        began, generations = self.clock(), self._generations
        if generations is None:
            return False
        try:
            with self._syncing:
                generations.sync(sends_all=not self._is_up)
            self._view.note_synced(began)
            if self._lost:
                log.warning("flask_knitperf: the cache server is used again")
            self._lost, self._is_up = "", True
        except (ServerUnavailable, ServerRefused) as error:
            raise_if_of_host(error)
            self._round_trips.count(ServerEvent.FAILURE, began)
            self._lose(str(error))
        except Exception as error:  # answers of another server than ours
            self._failed("cache server", error)
            self._lose("its answer cannot be read")
        self.expire_old()
        self._ready.set()
        return self._is_up

    def expire_old(self) -> None:
        """Expire what this host has loaded before it lacks invalidations for longer than the budget."""
        latest = self.budget.stale_s - POLL_S  # it is called as often as that
        if self._view.age(self.clock()) > latest and self._view.claim_expiry():
            self._versions.apply((ALL,))

    # -- values --------------------------------------------------------------------------------------

    def name_of(self, digest: bytes) -> bytes:
        """Return the name under which the value of a key lies."""
        return self._prefix + b"value:" + digest.hex().encode()

    def find(self, name: bytes, slots: Sequence[int]) -> RemoteValue | None:
        """Return the value under a name, if it is signed and its generations hold.

        Args:
            name: of the value.
            slots: those that it presumably depends on; others take one more round trip.
        """
        if not self.is_ready():
            return None
        assert self._generations is not None
        began, event = self.clock(), ServerEvent.FAILURE
        try:
            answer = self._generations.look_up(name, slots, self._max_message)
            event = ServerEvent.MISS
            if answer.message is None or answer.generations is None:
                return None
            value = self._verified(name, answer)
            if value is not None:
                event = ServerEvent.HIT
            return value
        except (ForeignValue, KeyError, TypeError, ValueError, OverflowError) as error:
            raise_if_of_host(error)  # or one that another version has signed
            event = ServerEvent.REJECTED
        except (ServerUnavailable, ServerRefused) as error:
            self._failed_with(error)
        finally:
            self._round_trips.count(event, began)
        return None

    def _verified(self, name: bytes, answer: Answer) -> RemoteValue | None:
        assert answer.message is not None
        assert self._generations is not None
        facts, content = opened(self._key, name, answer.message)
        needed = {int(index): int(word) for index, word in facts["generations"]}
        current = answer.generations or {}
        missing = sorted(needed.keys() - current.keys())
        if any(current[index] != needed[index] for index in needed.keys() & current.keys()):
            return None
        if missing and self._generations.of(missing) != {index: needed[index] for index in missing}:
            return None
        left = math.inf if answer.left_ms < 0 else answer.left_ms / 1000
        if facts["expires"] is not None:
            # the shorter time counts: clocks of hosts differ, and times of the server are not signed
            left = min(left, float(facts["expires"]) - self.wall())
        else:
            left = math.inf
        return RemoteValue(facts, content, left) if left > 0 else None

    def store(
        self, name: bytes, facts: dict[str, Any], value: Pickled, left_s: float, lease: bytes | None
    ) -> bool:  # fmt: skip
        """Write a value, and end the lease of its key; return whether the server has it.

        Args:
            name: of the value.
            facts: what readers have to check.
            value: the value.
            left_s: seconds until it expires, infinite if it does not.
            lease: name of the lease that the caller holds, ``None`` without one.
        """
        if not self.is_ready() or self.clock() < self._refused_until:
            return False
        kept_ms = max(1, int(min(left_s, MAX_KEPT_S) * 1000))
        began, event = self.clock(), ServerEvent.FAILURE
        try:
            message = sealed(self._key, name, facts, value)
            if len(message) > self._max_message:
                event = ServerEvent.REFUSED
                return False
            self._connections.run([
                ("SET", name, message, "PX", kept_ms), *([("DEL", lease)] if lease else [])
            ])  # fmt: skip
            event, self._refused = ServerEvent.STORED, ""
            return True
        except (ServerUnavailable, ServerRefused) as error:
            if isinstance(error, ServerRefused):
                event, self._refused = ServerEvent.REFUSED, str(error)
                self._refused_until = self.clock() + REFUSED_PAUSE_S
            self._failed_with(error)
            return False
        finally:
            self._round_trips.count(event, began)

    def claim(
        self, lease: bytes, seconds: float, name: bytes, slots: Sequence[int]
    ) -> tuple[bool, RemoteValue | None]:
        """Return whether this process is to load, and the value if there is one by now.

        It is to load if no other host does, or if the server is not used.

        Args:
            lease: name of the lease.
            seconds: until it ends by itself, if this process dies.
            name: of the value, which may have been stored since it was looked up.
            slots: as of :meth:`find`.
        """
        if not self.is_ready():
            return True, None
        assert self._generations is not None
        began, lease_ms = self.clock(), max(1, int(seconds * 1000))
        try:
            is_free, answer = self._generations.claim(
                lease, lease_ms, name, slots, self._max_message
            )
            if answer.message is None or answer.generations is None:
                return is_free, None
            value = self._verified(name, answer)
            if value is not None:
                self._round_trips.count(ServerEvent.HIT, began)
            return is_free, value
        except (ForeignValue, KeyError, TypeError, ValueError, OverflowError) as error:
            raise_if_of_host(error)
            return True, None  # it was counted when it was looked up
        except (ServerUnavailable, ServerRefused) as error:
            self._round_trips.count(ServerEvent.FAILURE, began)
            self._failed_with(error)
            return True, None

    def remove(self, name: bytes) -> None:
        """Remove a value, or end a lease."""
        if self._is_up:
            try:
                self._connections.run([("DEL", name)])
            except (ServerUnavailable, ServerRefused) as error:
                self._failed_with(error)

    # -- invalidation, as :class:`...storage.versions.OtherHosts` ------------------------------------

    def announce(self, slots: tuple[int, ...]) -> dict[int, int]:
        """Note invalidations that are about to be made on this host; return their marks."""
        try:
            if not self._is_on():
                return {}
            self._prepared()
            return self._view.note_unsent(slots)
        except Exception as error:
            self._failed("cache server", error)
            return {}

    def publish(self, marks: dict[int, int]) -> None:
        """Write invalidations to the server; those that it does not get are sent once it is back."""
        if not marks:
            return
        try:
            if self.start():
                self._publish(marks)
        except Exception as error:
            self._failed("cache server", error)

    def _publish(self, marks: dict[int, int]) -> None:
        if not self._ready.is_set():
            self._ready.wait(self.budget.timeout_s)  # the first comparison sends them
        if not self._is_up:
            return
        assert self._generations is not None
        began, event = self.clock(), ServerEvent.FAILURE
        try:
            self._generations.push(marks)
            event = ServerEvent.INVALIDATION
        except (ServerUnavailable, ServerRefused) as error:
            raise_if_of_host(error)
            self._view.note_unsent(
                marks
            )  # another process may have taken its mark for an older one
            self._lose(str(error))
        finally:
            self._round_trips.count(event, began)

    def _failed_with(self, error: Exception) -> None:
        raise_if_of_host(error)
        if isinstance(error, ServerUnavailable):
            self._lose(str(error))

    def count_rejected(self) -> None:
        """Count a value that was signed and cannot be decoded."""
        self._round_trips.count(ServerEvent.REJECTED, self.clock())

    def take(self) -> dict[ServerEvent, tuple[int, int]]:
        """Return numbers and nanoseconds of the events since the previous call."""
        return self._round_trips.take()

    def counts(self) -> ServerCounts:
        """Return the use of the server by this process."""
        return self._round_trips.counts(self.lost)


_NO_VIEW = HostView(lambda: None, "")
"""Before the name space is known: nothing is written to it."""
_ALL: weakref.WeakSet[ServerLevel] = weakref.WeakSet()


def _after_fork() -> None:
    for level in list(_ALL):
        level.forget()


if hasattr(os, "register_at_fork"):  # pragma: no branch (Windows)
    os.register_at_fork(after_in_child=_after_fork)
