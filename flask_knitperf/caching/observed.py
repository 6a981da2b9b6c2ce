"""Use of a cache that the application already has, counted without a change of what it does.

Every look-up and write of an observed cache is counted by the pattern of its key (:mod:`.key_pattern`).
Of keys only hashes are kept, to tell a key that was looked up before from a new one, and one that was
written from one that never was. A write that follows a missed look-up of the same request gives the time
that loading took; where it has another key than the look-up, the two patterns are noted, since a cache
that is read under one key and written under another never hits.

Counters are advanced by a call in C (``next``), so threads lose no count and need no lock.
"""

from __future__ import annotations

import itertools
import logging
import time
import weakref
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any, TypeAlias

from ..core.code_locations import caller
from ..core.host_exceptions import raise_if_of_host
from ..core.locks import create_lock
from ..core.printable import printable
from ..metrics.catalogue import CacheMismatchKey, ObservedEvent
from ..recording.span import CURRENT, Span
from .key_pattern import pattern_of, words_in_source

log = logging.getLogger("flask_knitperf")
MAX_PATTERNS = 50
"""Number of patterns of one cache that are distinguished; the others count as :data:`OTHER_KEYS`."""
OTHER_KEYS = "other keys"
MAX_HASHES = 20_000
"""Number of keys of one cache of which it is known whether they were looked up or written before."""
_MAX_PENDING = 8
"""Number of missed look-ups of a request that wait for the write of their value."""
MAX_MISMATCHES = 50
"""Number of pairs of patterns of one cache that are distinguished between two publications."""


class PatternUse:
    """Counters of the keys with one pattern.

    Attributes:
        pattern: the pattern.
    """

    __slots__ = ("_counters", "_published", "gone", "hit", "miss", "pattern", "repeat", "write")

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self._counters = {event: itertools.count() for event in ObservedEvent}
        self._published = dict.fromkeys(ObservedEvent, 0)
        self.hit, self.miss, self.repeat, self.gone, self.write = (
            self._counters[event].__next__
            for event in (
                ObservedEvent.HIT, ObservedEvent.MISS, ObservedEvent.REPEATED,
                ObservedEvent.GONE, ObservedEvent.WRITE,
            )
        )  # fmt: skip

    def counts(self) -> dict[ObservedEvent, int]:
        """Return the number of each event so far."""
        # repr() reads a counter without advancing it: "count(7)"
        return {event: int(repr(counter)[6:-1]) for event, counter in self._counters.items()}

    def take(self) -> dict[ObservedEvent, int]:
        """Return the number of each event since the previous call, those that occurred."""
        now, before = self.counts(), self._published
        self._published = now
        return {event: n - before[event] for event, n in now.items() if n != before[event]}


_Miss: TypeAlias = "tuple[ObservedCache, int, PatternUse, int]"
"""A missed look-up whose value may be written next: cache, hash, counters, time in nanoseconds."""
_Pending: TypeAlias = "tuple[Span | None, list[_Miss]]"
"""Missed look-ups of one request, or of what runs outside of one."""
_PENDING: ContextVar[_Pending | None] = ContextVar("knitperf_observed_misses", default=None)


class ObservedCache:
    """Counters of one cache, or of all instances of a class.

    Args:
        name: of the cache in the report.
        endpoint: returns endpoint and method of the current request.
        clock: returns nanoseconds.
    """

    def __init__(
        self, name: str, endpoint: Callable[[], tuple[str, str]],
        clock: Callable[[], int] = time.perf_counter_ns,
    ) -> None:  # fmt: skip
        self.name = name
        self._endpoint, self._clock = endpoint, clock
        self._lock, self._is_on = create_lock(), True
        self._uses: dict[str, PatternUse] = {}  # by pattern
        self._by_hash: dict[int, PatternUse] = {}
        self._sought: set[int] = set()
        self._written: set[int] = set()
        self._loads: dict[str, list[int]] = {}  # number and nanoseconds by pattern
        self._mismatches: dict[CacheMismatchKey, list[int]] = {}

    def count_look_up(self, key: Any, is_hit: bool) -> None:
        """Count a look-up that has just returned; a failure ends the observation, and raises nothing.

        Args:
            key: that was looked up.
            is_hit: whether there was a value.
        """
        if not self._is_on:
            return
        try:
            try:
                number = hash(key)
            except TypeError:
                number = hash(type(key))  # all keys of a type that has no hash count as one
            use = self._by_hash.get(number) or self._use(key, number)
            if is_hit:
                use.hit()
            else:
                self._missed(number, use)
        except Exception as error:
            self._end(error)

    def count_write(self, key: Any) -> None:
        """Count a write that has just returned; a failure ends the observation, and raises nothing."""
        if not self._is_on:
            return
        try:
            try:
                number = hash(key)
            except TypeError:
                number = hash(type(key))
            use = self._by_hash.get(number) or self._use(key, number)
            use.write()
            if len(self._written) < MAX_HASHES:
                self._written.add(number)
            pending = _PENDING.get()
            if pending is not None and pending[1] and pending[0] is CURRENT.get():
                self._written_after(pending[1], number, use, is_in_request=pending[0] is not None)
        except Exception as error:
            self._end(error)

    def _end(self, error: Exception) -> None:
        raise_if_of_host(error)
        self._is_on = False
        log.error(
            "flask_knitperf: cache %s is no longer observed", printable(self.name), exc_info=error
        )

    def _missed(self, number: int, use: PatternUse) -> None:
        use.miss()
        if number in self._sought:
            use.repeat()
        elif len(self._sought) < MAX_HASHES:
            self._sought.add(number)
        if number in self._written:
            use.gone()
        span, pending = CURRENT.get(), _PENDING.get()
        if pending is None or pending[0] is not span:
            pending = span, []
            _PENDING.set(pending)
        misses = pending[1]
        misses.append((self, number, use, self._clock()))
        if len(misses) > _MAX_PENDING:
            del misses[0]

    def _written_after(
        self, misses: list[_Miss], number: int, use: PatternUse, *, is_in_request: bool
    ) -> None:
        """Count a write as the load of the look-up of its key, else note the two different keys."""
        for place in reversed(range(len(misses))):
            cache, missed, _, began_ns = misses[place]
            if cache is self and missed == number:
                del misses[place:]  # those after it were looked up while its value was loaded
                self._add(self._loads, use.pattern, self._clock() - began_ns)
                return
        cache, _, missed_use, began_ns = misses[-1]
        if cache is self and is_in_request:
            pair = CacheMismatchKey(
                *self._endpoint(), self.name, missed_use.pattern, use.pattern, caller(2)
            )
            self._add(self._mismatches, pair, self._clock() - began_ns)

    def _use(self, key: Any, number: int) -> PatternUse:
        """Return the counters of a key with a hash that was not seen recently."""
        pattern = pattern_of(key, words_in_source(2))
        with self._lock:
            if pattern not in self._uses and len(self._uses) >= MAX_PATTERNS:
                pattern = OTHER_KEYS
            use = self._uses.setdefault(pattern, PatternUse(pattern))
            if len(self._by_hash) >= MAX_HASHES:
                self._by_hash.clear()
            self._by_hash[number] = use
        return use

    def _add(self, rows: dict[Any, list[int]], key: Any, ns: int) -> None:
        with self._lock:
            row = rows.get(key)
            if row is not None:
                row[0] += 1
                row[1] += ns
            elif len(rows) < MAX_MISMATCHES:
                rows[key] = [1, ns]

    # -- publication ---------------------------------------------------------------------------------

    def uses(self) -> list[PatternUse]:
        """Return the counters of all patterns."""
        with self._lock:
            return list(self._uses.values())

    def take_loads(self) -> Iterable[tuple[str, int, int]]:
        """Return pattern, number and nanoseconds of loads since the previous call."""
        with self._lock:
            rows, self._loads = self._loads, {}
        return [(pattern, *row) for pattern, row in rows.items()]  # type: ignore[misc]

    def take_mismatches(self) -> Iterable[tuple[CacheMismatchKey, int, int]]:
        """Return the mismatches since the previous call, each with its number and nanoseconds."""
        with self._lock:
            rows, self._mismatches = self._mismatches, {}
        return [(pair, *row) for pair, row in rows.items()]  # type: ignore[misc]


class PolledCache:
    """Hits and misses of a function with ``functools.lru_cache``, from its own statistics.

    Args:
        name: of the cache in the report.
        function: the function; it is held weakly.
    """

    def __init__(self, name: str, function: Any) -> None:
        self.name = name
        self._function = weakref.ref(function)
        self._published = 0, 0

    def uses(self) -> list[PolledCache]:
        """Return the cache itself: its keys are not known."""
        return [self]

    pattern = ""

    def take(self) -> dict[ObservedEvent, int]:
        """Return the hits and misses since the previous call."""
        function = self._function()
        if function is None:
            return {}
        info = function.cache_info()
        now, before = (info.hits, info.misses), self._published
        self._published = now
        if now[0] < before[0] or now[1] < before[1]:
            before = 0, 0  # cache_clear() begins again
        return {
            event: n - earlier
            for event, n, earlier in zip(
                (ObservedEvent.HIT, ObservedEvent.MISS), now, before, strict=True
            )
            if n != earlier
        }

    def take_loads(self) -> Iterable[tuple[str, int, int]]:
        """Return nothing: the time of loads is not known."""
        return ()

    def take_mismatches(self) -> Iterable[tuple[CacheMismatchKey, int, int]]:
        """Return nothing: its function writes under the key that was looked up."""
        return ()
