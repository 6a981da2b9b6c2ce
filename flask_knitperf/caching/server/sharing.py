"""The values of one function on the server.

Unlike the files of a host, values of any size are shared if their loads take long enough to be worth a
round trip. Values that were made of local files are not: those of another host may be others.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Hashable, Iterator
from typing import TYPE_CHECKING, Any

from ...core.host_exceptions import raise_if_of_host
from ...core.printable import printable
from ..cacheability import NotCacheable
from ..code_identity import NotShareable
from ..dependencies import Sources
from ..host_values import pauses
from ..invalidation import Invalidation
from ..key_digests import KeyDigests
from ..region import Entry, Region
from ..sizes import size_of
from ..store import Store
from ..value_files import Pickled, Unpicklable, ValueFileError, pickled, unpickled
from ..values import isolate

if TYPE_CHECKING:
    from .level import RemoteValue, ServerLevel

log = logging.getLogger("flask_knitperf")
MIN_LOAD_S = 0.005
"""Load time from which values are shared: a round trip takes a good part of a millisecond."""
LEASE_LOADS = 3
"""Load times after which another host loads if the one that loads does not end."""
MIN_LEASE_S, FIRST_LEASE_S, MAX_LEASE_S = 0.2, 2.0, 10.0
"""Bounds of that time in seconds, and the time itself before the first load."""
MAX_OF_FILES = 3
"""Number of values in a row that depend on local files after which those of a function are not shared;
reads of other threads may be taken for those of a load."""
LATER_S = 0.5
"""Seconds by which a value has to expire later than one that it is to replace: times of the server are
not exact, and the value may be the same."""
ALONE_S = 10.0
"""Seconds in which a process does not wait for other hosts after a load that gave no value to share."""


Keep = Callable[[Entry, Pickled], bool]
"""Writes a value to a file of the host; returns whether its entry has it from there."""


class ServerSharing:
    """The values of one region on the server.

    Args:
        region: its entries.
        store: keeps them.
        invalidation: versions that they depend on.
        level: returns the server, ``None`` without one.
        digests: those of keys, equal on all hosts.
        slots: of the versions that each value depends on.
        always: whether values are shared however fast they load.
        clock: returns monotonic time in seconds.
        refresh_time: returns the time from which one call loads a value again, of the time at which it
            expires and the seconds that its load took.

    Attributes:
        leases: those that this process holds.
        clock: see above.
    """

    def __init__(
        self, region: Region, store: Store, invalidation: Invalidation,
        level: Callable[[], ServerLevel | None], digests: KeyDigests, slots: tuple[int, ...], *,
        always: bool, clock: Callable[[], float],
        refresh_time: Callable[[float, float], float],
    ) -> None:  # fmt: skip
        self._region, self._store, self._invalidation = region, store, invalidation
        self._level, self._digests, self._always = level, digests, always
        self.clock, self._refresh_time = clock, refresh_time
        self._own_slots = self._usual_slots = slots
        self._is_possible = True
        self._typical_s: float | None = (
            None  # of a load: the latest one, or half of a longer one before
        )
        self._alone_until = -math.inf
        self._of_files = 0  # values in a row that were made of local files
        self.leases: set[bytes] = set()

    def flight(self, key: Hashable, due: Entry | None) -> ServerFlight | None:
        """Return the load of a key among all hosts, ``None`` if its value is not to be shared.

        Args:
            key: of the call.
            due: the entry that is to be replaced although it is still valid.
        """
        level = self._level()
        is_fast = self._typical_s is not None and self._typical_s < MIN_LOAD_S
        if level is None or not self._is_possible or (is_fast and not self._always):
            return None
        if not level.is_ready():
            return None
        name = self._name(level, key)
        if name is None:
            return None
        waits = self.clock() >= self._alone_until
        return ServerFlight(self, level, key, name, due, waits=waits)

    def note_failed(self) -> None:
        """Do not wait for other hosts for a while: a load raised, or its result is not cached."""
        self._alone_until = self.clock() + ALONE_S

    def forget(self) -> None:
        """Compute the identity again: the code was replaced."""
        self._is_possible, self._typical_s = True, None
        self._digests.forget()

    @property
    def lease_s(self) -> float:
        """Seconds after which another host loads if the one that loads does not end."""
        if self._typical_s is None:
            return FIRST_LEASE_S
        return max(MIN_LEASE_S, min(LEASE_LOADS * self._typical_s, MAX_LEASE_S))

    def _name(self, level: ServerLevel, key: Hashable) -> bytes | None:
        try:
            digest = self._digests.of(key)
        except NotShareable as reason:
            self._stop(str(reason))
            return None
        return None if digest is None else level.name_of(digest)

    def _stop(self, reason: str) -> None:
        self._is_possible = False
        text = f"{self._region.namespace}: its values are not shared between hosts: {reason}"
        log.info("flask_knitperf: %s", printable(text))

    # -- values --------------------------------------------------------------------------------------

    def find(
        self, level: ServerLevel, key: Hashable, name: bytes, due: Entry | None, keep: Keep
    ) -> Entry | None:
        """Return an entry with the value that another host has loaded, ``None`` if there is none.

        Args:
            level: the server.
            key: of the call.
            name: of the value.
            due: an entry that a later value is to replace.
            keep: writes the value to a file of this host; returns whether the entry has it from there.
        """
        epoch, words = self._invalidation.snapshot()  # before the look-up
        return self._taken(level, key, level.find(name, self._usual_slots), epoch, words, due, keep)

    def claim(
        self, level: ServerLevel, key: Hashable, name: bytes, due: Entry | None, keep: Keep
    ) -> tuple[bool, Entry | None]:
        """Return whether this process is to load, and the entry if another host has loaded by now.

        The arguments are those of :meth:`find`.
        """
        lease = lease_of(name)
        epoch, words = self._invalidation.snapshot()  # before the look-up
        is_claimed, value = level.claim(lease, self.lease_s, name, self._usual_slots)
        if is_claimed:
            self.leases.add(lease)
        return is_claimed, self._taken(level, key, value, epoch, words, due, keep)

    def _taken(
        self, level: ServerLevel, key: Hashable, value: RemoteValue | None, epoch: int,
        words: memoryview, due: Entry | None, keep: Keep,
    ) -> Entry | None:  # fmt: skip
        """Return the entry of a value, ``None`` if it cannot be used."""
        if value is None:
            return None
        try:
            entry = self._entry(key, value, epoch, words)
            if due is not None and entry.expires < due.expires + LATER_S:
                return None
            is_held = keep(entry, value.content) or self._hold(entry, unpickled(value.content))
        except (KeyError, TypeError, ValueError, IndexError, ValueFileError) as error:
            raise_if_of_host(error)
            level.count_rejected()
            return None
        self._usual_slots = entry.slots
        return entry if is_held and self._store.add(entry) else None

    def _entry(self, key: Hashable, value: RemoteValue, epoch: int, words: memoryview) -> Entry:
        """Return the entry of a value, without it."""
        facts, cost = value.facts, float(value.facts["cost"])
        slots = tuple(int(index) for index, _ in facts["generations"])
        expires = min(self.clock() + value.left_s, self._invalidation.known_until(self.clock()))
        return Entry(
            self._region, key, None, cost=cost, slots=slots, expires=expires, epoch=epoch,
            versions=tuple([words[index] for index in slots]),
            refresh=self._refresh_time(expires, cost),
            sources=Sources.of_facts((), facts["tables"]),
        )  # fmt: skip

    def _hold(self, entry: Entry, value: Any) -> bool:
        """Set the value of an entry; return whether it can be cached."""
        try:
            kept, copy, size = isolate(value, owned=True)
        except NotCacheable as reason:
            self._stop(str(reason))
            return False
        entry.set_value(kept, copy, size)
        entry.is_shared = True
        return True

    def publish(
        self, key: Hashable, value: Any, entry: Entry, generations: memoryview | None,
        content: Pickled | None,
    ) -> bool:  # fmt: skip
        """Write the value of a new entry; return whether the server has it.

        Args:
            key: of the entry.
            value: as the function returned it.
            entry: its versions were taken before the load.
            generations: those of all slots before the load, ``None`` if the server was not used then.
            content: the value as bytes, if it was written to a file already.
        """
        self._typical_s = max(entry.cost, (self._typical_s or 0.0) / 2)
        level = self._level()
        if level is None or generations is None or not self._is_possible:
            return False
        if entry.cost < MIN_LOAD_S and not self._always:
            return False
        if entry.sources is not None and entry.sources.files:
            self._of_files += 1
            if self._of_files >= MAX_OF_FILES:
                self._stop("it reads local files")
            return False
        if not level.is_ready() or size_of((value,)) > level.budget.max_bytes:
            return False
        name = self._name(level, key)
        if name is None:
            return False
        try:
            content = pickled(value) if content is None else content
        except Unpicklable as reason:
            self._stop(str(reason))
            return False
        if content.size > level.budget.max_bytes:
            return False
        left = entry.expires - self.clock()
        facts = self._facts(entry, generations, None if left == math.inf else level.wall() + left)
        lease = lease_of(name)
        is_stored = level.store(name, facts, content, left, lease if lease in self.leases else None)
        if is_stored:
            self._of_files = 0
            self.leases.discard(lease)
        return is_stored

    def remove(self, key: Hashable) -> None:
        """Remove the value of a key from the server."""
        level = self._level()
        if level is None or not self._is_possible or not level.is_ready():
            return
        name = self._name(level, key)
        if name is not None:
            level.remove(name)

    def _facts(
        self, entry: Entry, generations: memoryview, expires: float | None
    ) -> dict[str, Any]:
        return {
            "function": self._region.namespace, "cost": entry.cost,
            "generations": [(index, generations[index]) for index in entry.slots],
            "expires": expires, "tables": () if entry.sources is None else entry.sources.tables,
        }  # fmt: skip


def lease_of(name: bytes) -> bytes:
    """Return the name of the lease of a value."""
    return name + b":lease"


class ServerFlight:
    """The load of one key among all hosts.

    Args:
        sharing: of the function.
        level: the server.
        key: of the call.
        name: of the value.
        due: the entry that is to be replaced although it is still valid.
        waits: whether to wait while another host loads.

    Attributes:
        entry: the entry to be served, ``None`` to load.
    """

    def __init__(
        self, sharing: ServerSharing, level: ServerLevel, key: Hashable, name: bytes,
        due: Entry | None, *, waits: bool,
    ) -> None:  # fmt: skip
        self._sharing, self._level, self._key, self._name = sharing, level, key, name
        self._due, self._waits = due, waits
        self.entry: Entry | None = None

    def pauses(self, keep: Keep) -> Iterator[float]:
        """Yield seconds to wait for, as long as another host loads the value.

        Args:
            keep: writes the value of another host to a file of this one; see :meth:`ServerSharing.find`.
        """
        sharing, level = self._sharing, self._level
        until = sharing.clock() + sharing.lease_s
        self.entry = sharing.find(level, self._key, self._name, self._due, keep)
        for pause in pauses():
            if self.entry is not None or not self._waits:
                return
            # it may have been stored since the look-up
            is_claimed, self.entry = sharing.claim(level, self._key, self._name, self._due, keep)
            if self._due is not None and not is_claimed and self.entry is None:
                self.entry = self._due  # another host loads it already
            if is_claimed or self.entry is not None:
                return
            if sharing.clock() >= until:  # it is lost, or slower than usual
                sharing.note_failed()
                return
            yield pause

    def close(self) -> None:
        """Let another host load."""
        lease = lease_of(self._name)
        if lease in self._sharing.leases:
            self._sharing.leases.discard(lease)
            self._level.remove(lease)
