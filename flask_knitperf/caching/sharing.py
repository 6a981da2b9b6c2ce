"""One copy and one load per host: the values of a function that other processes find.

A value of at least :attr:`Host.min_bytes` is written to a file (:mod:`.host_values`), and kept
mapped from there. Whether another process may use it depends on its key, on the code behind the function
(:mod:`.code_identity`) and on the versions that were taken before its load.

Smaller values are not shared, so a function whose values are small and fast takes no part in this: a
look into the folder would take a good part of the time of its load.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Hashable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from ..core.host_exceptions import raise_if_of_host
from ..core.printable import printable
from .cacheability import NotCacheable
from .code_identity import NotShareable
from .dependencies import CHECK_S, Sources
from .host_values import HostValues, pauses
from .invalidation import Invalidation
from .key_digests import KeyDigests
from .region import Entry, Region
from .server.sharing import ServerFlight, ServerSharing
from .sizes import size_of
from .store import Store
from .value_files import Pickled, Unpicklable, pickled
from .values import isolate

if TYPE_CHECKING:
    from .server.level import ServerLevel

log = logging.getLogger("flask_knitperf")
ALONE_S = 10.0
"""Seconds in which a process does not wait for loads of others after one that gave no value to share."""
MIN_LOAD_S = 0.001
"""Mean load time from which values are looked up in the folder although the latest one was small."""


class Host(NamedTuple):
    """Everything that the functions of an application share with other processes.

    Attributes:
        values: the folder.
        min_bytes: returns the size from which values are shared.
        surroundings: returns the digest of the libraries and the configuration.
        identity: returns the digest of a function's code and of its surroundings.
        identity_of_hosts: the same, without everything in which hosts differ.
        server: returns the server that hosts share, ``None`` without one.
    """

    values: HostValues
    min_bytes: Callable[[], int]
    surroundings: Callable[[], bytes]
    identity: Callable[[Callable[..., Any]], bytes]
    identity_of_hosts: Callable[[Callable[..., Any]], bytes]
    server: Callable[[], ServerLevel | None] = lambda: None


class Sharing:
    """The shared values of one region.

    Args:
        region: its entries.
        store: keeps them.
        invalidation: versions that they depend on.
        host: shared with other processes.
        digests: those of keys.
        always: whether values of any size are shared; ``None`` by their size.
        max_wait_s: longest time that a load waits for the one of another process, in seconds.
        clock: returns monotonic time in seconds, the same one in all processes of the host.
        refresh_time: returns the time from which one call loads a value again, of the time at which it
            expires and the seconds that its load took.
        server: the values that other hosts find, ``None`` to share none with them.

    Attributes:
        server: see above.
    """

    def __init__(
        self, region: Region, store: Store, invalidation: Invalidation, host: Host,
        digests: KeyDigests, *, always: bool | None, max_wait_s: float,
        clock: Callable[[], float] = time.monotonic,
        refresh_time: Callable[[float, float], float] = lambda *_: math.inf,
        server: ServerSharing | None = None,
    ) -> None:  # fmt: skip
        self._region, self._store, self._invalidation = region, store, invalidation
        self._host, self._digests, self._always = host, digests, always
        self._max_wait_s, self._clock, self._refresh_time = max_wait_s, clock, refresh_time
        self.server = server
        self._is_possible = True
        self._loads, self._latest_is_small = 0, False
        self._alone_until = -math.inf

    def flight(self, key: Hashable, due: Entry | None = None) -> HostFlight | None:
        """Return the load of a key among all processes, ``None`` if its value is not to be shared.

        Args:
            key: of the call.
            due: the entry that is to be replaced although it is still valid.
        """
        server = None if self.server is None else self.server.flight(key, due)
        is_on_host = (
            self._is_possible and self._is_worthwhile() and self._host.values.has_folder()
        )  # fmt: skip
        digest = self._digest(key) if is_on_host else None
        if digest is None and server is None:
            return None
        waits = self._clock() >= self._alone_until
        return HostFlight(self, key, digest, due, waits=waits, server=server)

    def note_failed(self) -> None:
        """Do not wait for other processes for a while: a load raised, or its result is not cached.

        They would get no value either, and would load one after the other.
        """
        self._alone_until = self._clock() + ALONE_S
        if self.server is not None:
            self.server.note_failed()

    def _is_worthwhile(self) -> bool:
        if self._always or not self._latest_is_small:
            return True
        return self._region.load_seconds >= MIN_LOAD_S * self._loads

    def _digest(self, key: Hashable) -> bytes | None:
        """Return the digest of a key, ``None`` if it has a meaning in this process alone."""
        try:
            return self._digests.of(key)
        except NotShareable as reason:
            self._stop(f"its values are not shared between workers: {reason}")
            return None

    def _stop(self, reason: str) -> None:
        self._is_possible = False
        log.info("flask_knitperf: %s", printable(f"{self._region.namespace}: {reason}"))

    def forget(self) -> None:
        """Compute the identity again: the code was replaced."""
        self._is_possible = True
        self._digests.forget()
        if self.server is not None:
            self.server.forget()

    # -- values --------------------------------------------------------------------------------------

    def find(self, key: Hashable, digest: bytes, due: Entry | None = None) -> Entry | None:
        """Return an entry with the value that another process has loaded, ``None`` if there is none.

        Args:
            key: of the call.
            digest: of the key.
            due: an entry that a later value is to replace.
        """
        file = self._host.values.find(digest)
        if file is None:
            return None
        path, facts = file
        try:
            cost = float(facts["cost"])
            expires = math.inf if facts["expires"] is None else float(facts["expires"])
            if due is not None and expires <= due.expires:
                return None
            entry = Entry(
                self._region, key, None, cost=cost, slots=tuple(facts["slots"]), expires=expires,
                versions=tuple(facts["versions"]), refresh=self._refresh_time(expires, cost),
                sources=Sources.of_facts(facts["files"], facts["tables"]),
                check_at=self._clock() + CHECK_S,
            )  # fmt: skip
            if not self._clock() < entry.expires or not self._invalidation.is_valid(entry):
                return None
            if entry.sources is not None and entry.sources.changed_file():
                return None
        except (KeyError, TypeError, ValueError, IndexError) as error:  # it is none of our files
            raise_if_of_host(error)
            return None
        loaded = self._host.values.load(path)
        if loaded is None:
            return None
        return entry if self._hold(entry, *loaded) and self._store.add(entry) else None

    def remove(self, key: Hashable) -> None:
        """Remove the value of a key from those that other processes find."""
        digest = self._digest(key) if self._host.values.has_folder() else None
        if digest is not None:
            self._host.values.remove(digest)
        if self.server is not None:
            self.server.remove(key)

    def publish(
        self, key: Hashable, value: Any, entry: Entry, generations: memoryview | None = None
    ) -> bool:
        """Share the value of a new entry; return whether the entry has it now.

        On this host it is shared if it is large enough.

        Args:
            key: of the entry.
            value: as the function returned it.
            entry: without a value; its versions were taken before the load.
            generations: those of the server before the load, ``None`` without one.
        """
        self._loads += 1
        content = self._content(value)
        if self.server is not None:
            self.server.publish(key, value, entry, generations, content)
        digest = None if content is None else self._digest(key)
        return digest is not None and content is not None and self._write(digest, entry, content)

    def keep(self, digest: bytes, entry: Entry, content: Pickled) -> bool:
        """Share the value of another host with this one, if it is large enough.

        Args:
            digest: of its key.
            entry: without a value.
            content: the value.

        Returns:
            Whether the entry has it now.
        """
        is_small = content.size < self._host.min_bytes()
        return bool(self._always or not is_small) and self._write(digest, entry, content)

    def _write(self, digest: bytes, entry: Entry, content: Pickled) -> bool:
        """Write a value to a file; return whether the entry has it from there."""
        facts = {
            "function": self._region.namespace, "slots": entry.slots, "versions": entry.versions,
            "cost": entry.cost, "expires": None if entry.expires == math.inf else entry.expires,
            "files": () if entry.sources is None else entry.sources.files,
            "tables": () if entry.sources is None else entry.sources.tables,
        }  # fmt: skip
        path = self._host.values.store(digest, facts, content)
        loaded = None if path is None else self._host.values.load(path)
        return loaded is not None and self._hold(entry, *loaded)

    def _content(self, value: Any) -> Pickled | None:
        """Return a value as it is written to a file, ``None`` if it is not to be written to one."""
        if not self._is_possible or not self._host.values.has_folder():
            return None
        self._latest_is_small = size_of((value,)) < self._host.min_bytes()
        if self._latest_is_small and not self._always:
            return None
        try:
            return pickled(value)
        except Unpicklable as reason:
            self._stop(str(reason))
            return None

    def _hold(self, entry: Entry, value: Any, mapped: int) -> bool:
        """Set the value of an entry to one from a file; return whether it can be cached."""
        try:
            kept, copy, size = isolate(value, owned=True)
        except NotCacheable as reason:
            self._stop(str(reason))
            return False
        entry.set_value(kept, copy, size, mapped)
        entry.is_shared = True
        return True


class HostFlight:
    """The load of one key among all processes of the host; it has to be closed, or is a ``with`` block.

    A process that is to load for its host looks for the value of another host first.

    Args:
        sharing: of the function.
        key: of the call.
        digest: of the key, the same in all processes; ``None`` if the host does not share it.
        due: the entry that is to be replaced although it is still valid.
        waits: whether to wait while another process loads.
        server: the load among all hosts, ``None`` if they do not share it.

    Attributes:
        entry: the entry to be served, ``None`` to load.
    """

    def __init__(
        self, sharing: Sharing, key: Hashable, digest: bytes | None, due: Entry | None = None, *,
        waits: bool, server: ServerFlight | None = None,
    ) -> None:  # fmt: skip
        self._sharing, self._key, self._digest, self._due = sharing, key, digest, due
        self._waits, self._leads, self._server = waits, False, server
        self.entry: Entry | None = None

    def pauses(self) -> Iterator[float]:
        """Yield seconds to wait for, as long as another process loads the value."""
        if self._digest is not None:
            yield from self._pauses_of_host(self._digest)
        if self.entry is None and self._server is not None:
            yield from self._server.pauses(self._keep)
            self.entry = self._server.entry

    def _keep(self, entry: Entry, content: Pickled) -> bool:
        """Share a value of another host with this one; return whether the entry has it now."""
        return self._digest is not None and self._sharing.keep(self._digest, entry, content)

    def _pauses_of_host(self, digest: bytes) -> Iterator[float]:
        sharing = self._sharing
        values, until = sharing._host.values, sharing._clock() + sharing._max_wait_s
        self.entry = sharing.find(self._key, digest, self._due)
        for pause in pauses():
            if self.entry is not None or not self._waits:
                return
            self._leads = values.try_lead(digest)
            # it may have been written between the look and the lock
            self.entry = sharing.find(self._key, digest, self._due)
            if self._due is not None and not self._leads and self.entry is None:
                self.entry = self._due  # another process loads it already
            if self._leads or self.entry is not None or sharing._clock() >= until:
                return
            yield pause

    def __enter__(self) -> HostFlight:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let another process load."""
        if self._server is not None:
            self._server.close()
        if self._leads and self._digest is not None:
            self._sharing._host.values.end_lead(self._digest)
