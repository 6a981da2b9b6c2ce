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
from enum import Enum
from typing import Any, NamedTuple

from ..core.code_locations import caller
from ..core.host_exceptions import raise_if_of_host
from ..core.locks import create_lock
from ..core.printable import printable
from ..metrics.catalogue import ALL_KEYS, CacheMismatchKey, ObservedEvent
from ..recording.span import CURRENT, Span
from .key_pattern import pattern_of, words_in_source

log = logging.getLogger("flask_knitperf")
MAX_PATTERNS = 50
"""Number of patterns of one cache that are distinguished; the others count as :data:`OTHER_KEYS`."""
OTHER_KEYS = "other keys"
MAX_HASHES = 20_000
"""Number of keys of one cache of which it is known whether they were looked up or written before."""
_MAX_PENDING = 32
"""Number of missed look-ups of a request that wait for the write of their value."""
MAX_MISMATCHES = 50
"""Number of pairs of patterns of one cache that are distinguished between two publications."""


class Inner(Enum):
    """Calls of a method of a cache to others of its methods, the latest that shows something."""

    NOTHING = "nothing"
    THERE = "the key was there"
    MISSING = "the key was not there"
    WRITTEN = "a value was written"


class PatternUse:
    """Counters of the keys with one pattern.

    Attributes:
        pattern: the pattern.
    """

    __slots__ = (
        "_counters", "_published", "gone", "hit", "miss", "other", "pattern", "repeat", "write",
    )  # fmt: skip

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self._counters = {event: itertools.count() for event in ObservedEvent}
        self._published = dict.fromkeys(ObservedEvent, 0)
        self.hit, self.miss, self.repeat, self.gone, self.write, self.other = (
            self._counters[event].__next__
            for event in (
                ObservedEvent.HIT, ObservedEvent.MISS, ObservedEvent.REPEATED,
                ObservedEvent.GONE, ObservedEvent.WRITE, ObservedEvent.OTHER,
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


class _Miss(NamedTuple):
    """A missed look-up whose value may be written next.

    Attributes:
        cache: that was looked up.
        number: hash of the key.
        use: counters of its pattern.
        began_ns: time.
        by_test: whether it was a test by ``in``, after which the value is read once written.
    """

    cache: ObservedCache
    number: int
    use: PatternUse
    began_ns: int
    by_test: bool


class _Pending(NamedTuple):
    """Missed look-ups of one request, or of what runs outside of one.

    Attributes:
        span: of the request.
        misses: the latest.
        loaded: cache and hash of keys that were written after a test by ``in``, and not yet read.
    """

    span: Span | None
    misses: list[_Miss]
    loaded: set[tuple[ObservedCache, int]]


_PENDING: ContextVar[_Pending | None] = ContextVar("knitperf_observed_misses", default=None)


class ObservedCache:
    """Counters of one cache, or of all instances of a class.

    Args:
        name: of the cache in the report.
        endpoint: returns endpoint and method of the current request.
        has_room: returns whether one more pattern may be distinguished.
        clock: returns nanoseconds.

    Attributes:
        inside: threads in which a method of the cache runs, by identity, and what it has called so far;
            for :mod:`.observers`.
    """

    def __init__(
        self, name: str, endpoint: Callable[[], tuple[str, str]],
        has_room: Callable[[], bool] = lambda: True,
        clock: Callable[[], int] = time.perf_counter_ns,
    ) -> None:  # fmt: skip
        self.name = name
        self.inside: dict[int, Inner] = {}
        self._endpoint, self._has_room, self._clock = endpoint, has_room, clock
        self._lock, self._is_on = create_lock(), True
        self._uses: dict[str, PatternUse] = {}  # by pattern
        self._by_hash: dict[int, PatternUse] = {}
        self._sought: set[int] = set()
        self._written: set[int] = set()
        self._loads: dict[str, list[int]] = {}  # number and nanoseconds by pattern
        self._mismatches: dict[CacheMismatchKey, list[int]] = {}

    # Each of these is called after the cache has returned. A failure ends the observation, and raises
    # nothing.

    def count_hit(self, key: Any) -> None:
        """Count a look-up that hit."""
        if self._is_on:
            try:
                use, number, _ = self._of(key)
                pending = _PENDING.get()
                if pending is not None and pending.loaded and (self, number) in pending.loaded:
                    pending.loaded.discard((self, number))  # part of the look-up that missed
                else:
                    use.hit()
            except Exception as error:
                raise_if_of_host(error)
                self._end(error)

    def count_miss(self, key: Any, *, by_test: bool = False) -> None:
        """Count a look-up that missed; ``by_test`` for one by ``in``."""
        if self._is_on:
            try:
                use, number, is_known = self._of(key)
                use.miss()
                if is_known:
                    self._missed(use, number, by_test)
            except Exception as error:
                raise_if_of_host(error)
                self._end(error)

    def count_write(self, key: Any) -> None:
        """Count a write."""
        if self._is_on:
            try:
                use, number, is_known = self._of(key)
                use.write()
                if is_known:
                    self._wrote(use, number)
            except Exception as error:
                raise_if_of_host(error)
                self._end(error)

    def count_set_default(self, key: Any, was_there: bool) -> None:
        """Count a ``setdefault``: a hit, or a write, the look-up of which may have missed before."""
        if was_there:
            self.count_hit(key)
            return
        if self._is_on:
            try:
                _, number, _ = self._of(key)
                pending = _PENDING.get()
                if pending is None or not any(
                    one.cache is self and one.number == number for one in pending.misses
                ):
                    self.count_miss(key)
            except Exception as error:
                raise_if_of_host(error)
                self._end(error)
        self.count_write(key)

    def count_other(self, key: Any = None, *, of_all: bool = False) -> None:
        """Count a use that is neither a look-up nor a write, of one key or of all."""
        if self._is_on:
            try:
                if of_all:
                    self._use(ALL_KEYS).other()
                    return
                use, number, is_known = self._of(key)
                use.other()
                if is_known and len(self._sought) < MAX_HASHES:
                    self._sought.add(number)
            except Exception as error:
                raise_if_of_host(error)
                self._end(error)

    def _end(self, error: Exception) -> None:
        self._is_on = False
        log.error(
            "flask_knitperf: cache %s is no longer observed", printable(self.name), exc_info=error
        )

    def _of(self, key: Any) -> tuple[PatternUse, int, bool]:
        """Return the counters of a key, its hash, and whether the hash identifies it."""
        kind: Any = type(key)
        try:
            number = hash(key)
        except Exception as error:  # it has none
            raise_if_of_host(error)
            return self._use(pattern_of(key, words_in_source(3))), hash(kind), False
        use = self._by_hash.get(number)
        if use is not None:
            return use, number, True
        use, is_known = (
            self._use(pattern_of(key, words_in_source(3))),
            kind.__hash__ is not object.__hash__,
        )
        if is_known and len(self._by_hash) < MAX_HASHES:
            self._by_hash[number] = use
        return use, number, is_known

    def _use(self, pattern: str) -> PatternUse:
        use = self._uses.get(pattern)
        if use is not None:
            return use
        with self._lock:
            if pattern not in self._uses and (
                len(self._uses) >= MAX_PATTERNS or not self._has_room()
            ):
                pattern = OTHER_KEYS
            return self._uses.setdefault(pattern, PatternUse(pattern))

    def _missed(self, use: PatternUse, number: int, by_test: bool) -> None:
        if number in self._sought:
            use.repeat()
        elif len(self._sought) < MAX_HASHES:
            self._sought.add(number)
        if number in self._written:
            use.gone()
        span, pending = CURRENT.get(), _PENDING.get()
        if pending is None or pending.span is not span:
            pending = _Pending(span, [], set())
            _PENDING.set(pending)
        pending.misses.append(_Miss(self, number, use, self._clock(), by_test))
        if len(pending.misses) > _MAX_PENDING:
            del pending.misses[0]

    def _wrote(self, use: PatternUse, number: int) -> None:
        """Count a write as the load of the look-up of its key, else note the two different keys."""
        if len(self._written) < MAX_HASHES:
            self._written.add(number)
        elif number not in self._written:
            self._use(ALL_KEYS).other()  # from now on it is not known which keys were written
        pending = _PENDING.get()
        if pending is None or not pending.misses or pending.span is not CURRENT.get():
            return
        own = [miss for miss in pending.misses if miss.cache is self]
        for miss in reversed(own):
            if miss.number == number:
                pending.misses.remove(miss)
                if miss.by_test:
                    pending.loaded.add((self, number))
                self._add(self._loads, use.pattern, self._clock() - miss.began_ns)
                return
        is_new = number not in self._sought and len(self._sought) < MAX_HASHES
        if own and is_new and pending.span is not None:
            miss = own[-1]
            pair = CacheMismatchKey(
                *self._endpoint(), self.name, miss.use.pattern, use.pattern, caller(2)
            )
            self._add(self._mismatches, pair, self._clock() - miss.began_ns)

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

    pattern = ALL_KEYS

    def __init__(self, name: str, function: Any) -> None:
        self.name = name
        self._function = weakref.ref(function)
        self._published = self._now(function)

    @staticmethod
    def _now(function: Any) -> tuple[int, int]:
        info = function.cache_info()
        return info.hits, info.misses

    def is_of(self, function: Any) -> bool:
        """Return whether it polls a function."""
        return self._function() is function

    def uses(self) -> list[PolledCache]:
        """Return the cache itself: its keys are not known."""
        return [self]

    def take(self) -> dict[ObservedEvent, int]:
        """Return the hits and misses since the previous call."""
        function = self._function()
        if function is None:
            return {}
        now, before = self._now(function), self._published
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
