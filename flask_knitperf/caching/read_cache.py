"""Cache of what the readers of pandas return, for files that have not changed since.

A read is answered from the cache if the same reader was called with the same arguments, and the file is
the same one in the same state: device, inode, size, and the times of its last modification and of its
last change of status, in nanoseconds. The latter cannot be set by a program, so a file whose time of
modification was put back is not taken for the former one.

A file that was modified within the grain of the file system's clock may be modified again without
another time, so a file younger than :data:`MIN_AGE_S` is read and not cached; nor is one that changed
while it was read. Anything but the path of a regular file is passed on: addresses, open files, text,
folders. Where the cache itself fails, the file is read.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Hashable
from typing import Any, cast

from ..core.errors import CacheKeyError
from ..core.host_exceptions import raise_if_of_host
from ..core.printable import printable
from .bypass import is_counted
from .cacheability import NotCacheable
from .file_state import FileState, is_young, local_path, regular_state_of
from .function_cache import MAX_WAIT_S
from .invalidation import ALL, Invalidation, namespace_slot
from .key_digests import KeyDigests
from .keys import Encoding
from .refusals import TOO_LARGE
from .region import Entry, Region
from .sharing import Host, HostFlight, Sharing
from .single_flight import Flight, SingleFlight
from .store import Store
from .values import isolate

log = logging.getLogger("flask_knitperf")
NAMESPACE = "pandas reads"
STATE = "_knitperf_file_state"
"""Attribute of a workbook: the path and the state of the file when it was opened."""
_MAX_FORGOTTEN = 64
"""Number of calls whose former state is remembered although it is cached no longer."""
_SHOWN_ONLY = ("display", "plotting", "styler")
"""Groups of options of pandas on which readers do not depend, those of dates apart."""


class ReadCache:
    """Results of readers of pandas, by their arguments and the state of the file.

    Args:
        store: keeps the entries.
        invalidation: versions of namespaces.
        is_bypassed: returns whether the current code bypasses the cache.
        clock: returns monotonic time in seconds.
        wall: returns the seconds since the epoch.
        host: what is shared with other processes, ``None`` to share nothing.

    Attributes:
        region: its entries and counts.
        flights: reads that are under way.
        slots: versions that its entries depend on.
        current: by the call, the key with the latest state of its file.
    """

    def __init__(
        self, store: Store, invalidation: Invalidation, is_bypassed: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time,
        host: Host | None = None,
    ) -> None:  # fmt: skip
        self.region = Region(NAMESPACE)
        self._store, self.invalidation = store, invalidation
        self._is_bypassed, self.clock, self._wall = is_bypassed, clock, wall
        self.flights = SingleFlight(MAX_WAIT_S)
        self.slots = (ALL, namespace_slot(NAMESPACE))
        self.current: dict[bytes, tuple[bytes, FileState]] = {}
        self.sharing = None if host is None else Sharing(
            self.region, store, invalidation, host, KeyDigests(NAMESPACE, host.surroundings),
            always=None, max_wait_s=MAX_WAIT_S, clock=clock,
        )  # fmt: skip

    @staticmethod
    def file_state(source: Any) -> tuple[str, FileState] | None:
        """Return the path and the state of the file that a source names, ``None`` for anything else."""
        return file_state(source)

    def note_opened(self, workbook: Any, source: Any, state: tuple[str, FileState]) -> None:
        """Note the state of the file of a workbook, unless it has changed while that was opened."""
        if file_state(source) == state and not self.is_young(state[1]):
            setattr(workbook, STATE, state)

    def begin(self, reader: str, source: Any, options: tuple[Any, ...]) -> CachedRead | None:
        """Return a read that may be answered from the cache, ``None`` to call the reader alone.

        Args:
            reader: name of the reader.
            source: its argument that names the file.
            options: its other arguments.
        """
        try:
            return self._begin(reader, source, options)
        except CacheKeyError as reason:
            self.refuse(f"an argument of {reader}: {reason}")
        except Exception as error:  # another call of the reader failed, or this cache did
            raise_if_of_host(error)
            self.refuse(repr(error))
        return None

    def _begin(self, reader: str, source: Any, options: tuple[Any, ...]) -> CachedRead | None:
        if self._is_bypassed():
            self.region.bypassed += is_counted()
            return None
        state = file_state(source)
        if state is None:
            return None
        path, signature = state
        encoding = Encoding(functions=False)
        encoding.add((reader, path, options, pandas_options()))
        return CachedRead(self, path, encoding.digest(), signature)

    def valid(self, key: Hashable) -> Entry | None:
        """Return the entry of a key, ``None`` if it is missing or invalidated."""
        entry = self.region.entries.get(key)
        return entry if entry is not None and self.invalidation.is_valid(entry) else None

    def keep(
        self, call: bytes, signature: FileState, value: Any, seconds: float, epoch: int,
        versions: tuple[int, ...],
    ) -> Entry | None:  # fmt: skip
        """Cache a result; return its entry, ``None`` if it was refused."""
        key = call, signature
        entry = Entry(
            self.region, key, None, cost=seconds, epoch=epoch, slots=self.slots, versions=versions,
        )  # fmt: skip
        if self.sharing is None or not self.sharing.publish(key, value, entry):
            try:
                entry.set_value(*isolate(value))
            except NotCacheable as reason:  # chunks, for example
                self.refuse(str(reason))
                return None
        self._forget_former(call)
        if not self._store.add(entry):
            self.refuse(TOO_LARGE)
            return None
        self.current[call] = key
        return entry

    def note_fetched(self, entry: Entry) -> None:
        """Note an entry whose value another process has read."""
        call, _ = key = cast("tuple[bytes, FileState]", entry.key)
        if self.current.get(call) != key:
            self._forget_former(call)
        self.current[call] = key
        self.region.fetched += 1

    def _forget_former(self, call: bytes) -> None:
        """Remove the entry of a call with the former state of its file."""
        former = self.region.entries.get(self.current.get(call))
        if former is not None:
            self._store.remove(former)
        if len(self.current) > 2 * len(self.region.entries) + _MAX_FORGOTTEN:
            known = set(self.region.entries)
            self.current = {one: key for one, key in self.current.items() if key in known}

    def is_young(self, signature: FileState) -> bool:
        """Return whether a file may have changed without another time since its state was taken."""
        return is_young(signature, self._wall())

    def pass_on(self, reason: str) -> None:
        """Count a result that is not cached."""
        self.region.refusals.add(reason)
        self.region.refused += 1

    def refuse(self, reason: str) -> None:
        """Count a result that cannot be cached; log the first one."""
        self.pass_on(reason)
        if self.region.refused == 1:
            log.info("flask_knitperf: a read of pandas is not cached: %s", printable(reason))


class CachedRead:
    """One call of a reader.

    The reader is called by the code that has this object, in its own frame, since a warning of pandas
    names the first frame outside of pandas.

    Args:
        cache: where its result is cached.
        path: of the file.
        call: digest of the reader, its arguments and the path.
        signature: state of the file.

    Raises:
        Exception: a copy of the one of another call of the reader, for which this one waited.
    """

    def __init__(self, cache: ReadCache, path: str, call: bytes, signature: FileState) -> None:
        self._cache, self._path, self._call, self._signature = cache, path, call, signature
        self._key = call, signature
        self._is_young = cache.is_young(signature)  # before it is read
        self._flight: Flight | None = None
        self._host_flight: HostFlight | None = None
        self._entry = cache.valid(self._key)
        try:
            self._look()
        except BaseException:
            self.close()
            raise

    def _look(self) -> None:
        """Wait for another call that reads the file, or lead the others."""
        cache = self._cache
        if self._entry is None:
            self._flight, outcome = cache.flights.join(self._key)
            if outcome is not None:
                cache.region.shared_loads += 1
                self._entry = outcome[0]
                if self._entry is not None and not cache.invalidation.is_valid(self._entry):
                    self._entry = None
            elif self._flight is not None:
                self._token = self._flight.begin()
                self._entry = cache.valid(self._key)  # read by another call since this one looked
                if self._entry is None:
                    self._entry = self._fetch()
        if self._entry is None:
            is_known = self._call in cache.current
            if is_known:
                cache.region.invalidated += 1
            else:
                cache.region.count_missing(self._key)
            self._epoch, self._versions = cache.invalidation.take(cache.slots)
            self._began = cache.clock()

    def _fetch(self) -> Entry | None:
        """Return the entry of a result that another process has read, ``None`` to read the file."""
        sharing = None if self._is_young else self._cache.sharing
        flight = self._host_flight = None if sharing is None else sharing.flight(self._key)
        if flight is None:
            return None
        for pause in flight.pauses():
            time.sleep(pause)
        if flight.entry is not None:
            self._cache.note_fetched(flight.entry)
        return flight.entry

    @property
    def is_hit(self) -> bool:
        """Whether the reader need not be called."""
        return self._entry is not None

    def hit(self) -> Any:
        """Return a copy of the cached result."""
        entry = self._entry
        assert entry is not None
        return entry.serve()

    def end(self, value: Any) -> Any:
        """Cache the result of the reader; return it, mapped if it is shared."""
        cache, entry = self._cache, None
        seconds = cache.clock() - self._began
        cache.region.load_seconds += seconds
        if self._is_young:
            cache.pass_on("the file changed within the last two seconds")
        elif regular_state_of(self._path) != self._signature:
            cache.pass_on("the file changed while it was read")
        else:
            entry = cache.keep(
                self._call, self._signature, value, seconds, self._epoch, self._versions
            )
        if self._flight is not None:
            self._flight.outcome = (entry,)
        return value if entry is None else entry.of_loader(value)

    def failed(self, error: Exception) -> None:
        """Pass the error of the reader on to the calls that wait."""
        if self._cache.sharing is not None:
            self._cache.sharing.note_failed()
        if self._flight is not None:
            self._flight.error = error

    def close(self) -> None:
        """Wake up the calls that wait, in all processes."""
        if self._host_flight is not None:
            self._host_flight.close()
        if self._flight is not None:
            if self._entry is not None:
                self._flight.outcome = (self._entry,)
            self._cache.flights.leave(self._key, self._flight, self._token)


def file_state(source: Any) -> tuple[str, FileState] | None:
    """Return the absolute path of a source and the state of its file, ``None`` for anything else.

    A workbook that is open has the state that its file had when it was opened; it has none once the file
    has changed.

    Args:
        source: a path, a workbook of pandas, or anything else that a reader accepts.
    """
    opened: tuple[str, FileState] | None = getattr(source, STATE, None)
    if opened is not None:
        return opened if regular_state_of(opened[0]) == opened[1] else None
    path = local_path(source)
    signature = None if path is None else regular_state_of(path)
    return None if path is None or signature is None else (path, signature)


def pandas_options() -> str:
    """Return the options of pandas that a reader may depend on, as a text.

    Raises:
        CacheKeyError: they cannot be read.
    """
    options = getattr(sys.modules.get("pandas._config.config"), "_global_config", None)
    if not isinstance(options, dict):
        raise CacheKeyError("the options of this version of pandas cannot be read")
    kept = {name: value for name, value in options.items() if name not in _SHOWN_ONLY}
    display = options.get("display", {})
    return repr((kept, {name: display[name] for name in display if name.startswith("date_")}))
