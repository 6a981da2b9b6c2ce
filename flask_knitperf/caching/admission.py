"""Admission of results to the cache: which are kept, and why others are not.

A result is refused if another caller could not use it, if it depends on request data that its key
lacks, if its load changed the request's state, or if something that it depends on changed meanwhile. The
first refusal of a function is logged.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Hashable
from typing import Any

from ..core.printable import printable
from .cacheability import NotCacheable
from .call_keys import CallKeys, name_of
from .dependencies import CHECK_S, Problem
from .early_refresh import refresh_time
from .frame_copies import is_shallow
from .lifetimes import Lifetimes
from .load import Load
from .load_reads import Read, ReadObserver, description, repair, unkeyed
from .lookup import Lookup
from .options import Options
from .refusals import TOO_LARGE, UnkeyedRead
from .region import Entry, Region
from .responses import is_response, isolate_result
from .sharing import Sharing
from .sizes import size_of_key
from .store import Store

log = logging.getLogger("flask_knitperf")
MAX_REFUSED = 500
"""Number of keys of a function that are remembered because their latest results were refused."""


class Admission:
    """Keeps the results of one function.

    Args:
        region: entries and counts.
        store: keeps the entries.
        options: of the function.
        keys: of the function.
        lookup: finds entries.
        observer: returns the endpoint of the current request.
        clock: returns monotonic time in seconds.
        draw: returns random numbers of at least 0 and below 1.
        lifetimes: of the values.

    Attributes:
        sharing: shares values with other processes, ``None`` to share none.
        refused: why the latest result was refused, empty if it was kept.
    """

    def __init__(
        self, region: Region, store: Store, options: Options, keys: CallKeys, lookup: Lookup,
        observer: ReadObserver, clock: Callable[[], float], draw: Callable[[], float],
        lifetimes: Lifetimes,
    ) -> None:  # fmt: skip
        self._region, self._store, self._options, self._keys = region, store, options, keys
        self._lookup, self._observer, self._clock, self._draw = lookup, observer, clock, draw
        self._lifetimes = lifetimes
        self.sharing: Sharing | None = None
        self.refused = ""
        self._refused_keys: set[Hashable] = set()
        self._of_instance: defaultdict[int, set[Hashable]] = defaultdict(set)

    def is_refused(self, key: Hashable) -> bool:
        """Return whether the latest result of a key was refused."""
        return key in self._refused_keys

    def admit(self, value: Any, load: Load, *, raises: bool = False) -> Entry | None:
        """Cache a result, or an exception; return its entry, ``None`` if it was refused."""
        key, now = load.key, self._clock()
        seconds = now - load.began
        self._region.load_seconds += seconds
        reads = load.unkeyed()
        if reads:
            self._refuse_unkeyed(key, reads, seconds)
            return None
        if load.effects:
            self._refuse(
                key,
                f"it changes {description(load.effects)}, and a cached result would not; do that in its "
                "caller",
            )
            return None
        if is_response(value):
            load.add_routing("method")
        problem = load.settle()
        if problem is not None:
            self._refuse(key, problem.reason, problem)
            return None
        if not load.routing.issubset(self._region.routing):
            self._region.routing = tuple(sorted(load.routing.union(self._region.routing)))
        if load.routing:
            key = self._lookup.routed(key)
        before = self._region.entries.get(key)
        if before is not None and before.born > load.began and self._lookup.is_valid(before):
            return None  # a later load was faster
        ttl = self._options.ttl if raises else self._lifetimes.of(key, value, load, now)
        expires = min(now + ttl, load.expires)
        entry = Entry(
            self._region, key, value if raises else None, cost=seconds, raises=raises, expires=expires,
            refresh=self.refresh_time(expires, seconds), epoch=load.epoch, slots=load.slots,
            versions=load.versions, sources=load.sources, check_at=now + CHECK_S, call=load.call,
        )  # fmt: skip
        began = time.perf_counter()
        is_shared = (
            not raises
            and self.sharing is not None
            and not load.request.is_view
            and self.sharing.publish(key, value, entry, load.generations)
        )
        if not raises and not is_shared:
            try:
                kept, copy, size = isolate_result(value, load.request)
            except NotCacheable as reason:
                self._refuse(key, str(reason))
                return None
            entry.set_value(kept, copy, size + size_of_key(key))
            if copy is not None and not is_shallow(copy):  # a hit copies as much
                entry.hit_cost = time.perf_counter() - began
        self._region.overhead.seconds += time.perf_counter() - began
        if not self._store.add(entry):
            self._refuse(key, TOO_LARGE)
            return None
        self._refused_keys.discard(key)
        self.refused = ""
        if self._keys.is_method:
            self._note_instance(key)
        return entry

    def refresh_time(self, expires: float, seconds: float) -> float:
        """Return the time from which one call loads a value again that took some seconds to load."""
        early = self._options.early
        return (
            refresh_time(self._clock(), expires, seconds, early, self._draw()) if early else expires
        )

    def _refuse_unkeyed(self, key: Hashable, reads: dict[Read, str], seconds: float) -> None:
        """Count a result that depends on the request beyond its key; its load took some seconds."""
        self._region.unkeyed += 1
        self._region.unkeyed_reads = reads
        endpoint, method = self._observer.endpoint()
        for (source, name), where in reads.items():
            read = UnkeyedRead(endpoint, method, name_of(self._keys.function), source, name, where)
            self._region.refusals.add_unkeyed(read, seconds)
        reason = f"it {unkeyed(reads)}: one user would get the answer of another. {repair(reads)}"
        self._note_refused(key, reason)
        self._count_refused(reason)

    def _refuse(self, key: Hashable, reason: str, problem: Problem | None = None) -> None:
        """Note that a result cannot be cached.

        Args:
            key: of the call.
            reason: why, as a clause.
            problem: the reason in full; if it is passing, the next result may be cached, so that this
                one is not counted.
        """
        self._region.refusals.add(reason)
        self._note_refused(key, reason if problem is None else str(problem))
        if problem is None or not problem.is_passing:
            self._count_refused(reason)

    def _note_refused(self, key: Hashable, reason: str) -> None:
        """Remember that the latest result of a key was not cached."""
        if len(self._refused_keys) >= MAX_REFUSED:
            self._refused_keys.clear()
        self._refused_keys.add(key)
        self.refused = reason
        if self.sharing is not None:
            self.sharing.note_failed()

    def _count_refused(self, reason: str) -> None:
        """Count a result that is not cached; log the first one."""
        self._region.refused += 1
        if self._region.refused == 1:
            text = printable(f"{name_of(self._keys.function)} is not cached: {reason}")
            log.warning("flask_knitperf: %s", text)

    def _note_instance(self, key: Any) -> None:
        """Note that an entry belongs to an instance, if its key begins with the number of one."""
        call = key[0] if self._region.routing and isinstance(key[0], tuple) else key
        if not isinstance(call[0], int):
            return
        keys = self._of_instance[call[0]]
        keys.add(key)
        if len(keys) > 2 * len(self._region.entries) + MAX_REFUSED:
            self._of_instance[call[0]] = {one for one in keys if one in self._region.entries}

    def forget_instances(self) -> None:
        """Remove the entries of instances that were freed."""
        gone = self._keys.instances.gone
        while gone:
            for key in self._of_instance.pop(gone.popleft(), ()):
                entry = self._region.entries.get(key)
                if entry is not None:
                    self._store.remove(entry)
