"""Hits that a function would have if it were cached: seven caches without values, one per TTL.

A call is looked up in each of the seven at its start, and stored at its end where it was missed, as
:mod:`.function_cache` does: a value lives from the end of its load until ``ttl`` seconds later, and the
end itself is a miss. So for up to :data:`MAX_KEYS` keys and calls one after another, hits and saved time
are exactly those of a cache with room for all values, in one process. A call that begins while another
one loads its key would wait for that load: it is neither a hit nor a load here.

Where the digests of two results are known, of a call and of the load whose value it would have got, they
are compared: a hit whose answer differs would have been stale.

The module reads no clock and hashes nothing: keys, times and digests are arguments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from typing import NamedTuple

from ..core.clock import NS_PER_S
from ..core.locks import create_reentrant_lock

TTLS_S: tuple[float, ...] = (5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, math.inf)
"""TTLs of the simulated caches, in seconds."""
MAX_KEYS = 4_000
"""Number of keys of one function whose calls are judged."""
FORGET_AFTER_S = 3600.0
"""Seconds after its latest load at which a key makes room for others, once there is none."""
_FOR_EVER_NS = 1 << 62
_LIVES_NS = tuple(
    _FOR_EVER_NS if ttl == math.inf else round(ttl * NS_PER_S) for ttl in TTLS_S
)  # fmt: skip
_COUNT = len(TTLS_S)
_PLACES = tuple(
    (place, life, 1 << place, 1 << place + _COUNT) for place, life in enumerate(_LIVES_NS)
)
"""Of each cache its place, the life of its values, and the bits of a hit and of a load."""
HIT_IN_ALL = (1 << _COUNT) - 1
"""Outcome of a call that hits in every cache."""
STORED_IN_ALL = HIT_IN_ALL << _COUNT
"""Outcome of the first call of a key."""


class Tally(NamedTuple):
    """Calls and their nanoseconds."""

    calls: int = 0
    ns: int = 0


class TtlCounts(NamedTuple):
    """Counts of the cache with one TTL.

    Attributes:
        hits: calls that would have hit, with the time that they took.
        compared: hits whose answer was compared with the one that the cache would have had.
        weight: that number squared by this one is the number of independent comparisons. It is
            ``compared`` where all loads are hashed, and the sum of the squares of the hits of each load
            where nearly none is, since hits of one load depend on one another.
        stale: those of them whose answer was another one.
    """

    hits: Tally
    compared: int
    weight: float
    stale: int


class Counts(NamedTuple):
    """Counts of a simulation since they were last taken.

    Attributes:
        judged: calls that were looked up.
        beyond: calls of keys for which there was no room.
        by_ttl: in the order of :data:`TTLS_S`.
    """

    judged: Tally
    beyond: Tally
    by_ttl: tuple[TtlCounts, ...]


NOTHING = Counts(Tally(), Tally(), (TtlCounts(Tally(), 0, 0, 0),) * _COUNT)
"""Counts of a simulation without a call."""


class _Entry:
    """One key in all seven caches.

    Attributes:
        expires: monotonic nanoseconds by cache, in the past before the first load.
        digests: of the values by cache, ``None`` where unknown.
        latest: end of the latest load.
        until: when the first of the values expires.
        compared: number of compared hits of the present load by cache, ``None`` before the first.
    """

    __slots__ = ("compared", "digests", "expires", "latest", "until")

    def __init__(self, ended: int) -> None:
        self.expires = [ended + life for life in _LIVES_NS]
        self.digests: list[bytes | None] = [None] * _COUNT
        self.latest, self.until = ended, self.expires[0]
        self.compared: list[int] | None = None


class Simulation:
    """Seven caches of one function. Thread-safe.

    Args:
        max_keys: number of keys that are looked up.
        claim_room: returns whether there is room for one more key among all functions, and takes it.

    Attributes:
        entries: keys with their values in the caches.
    """

    def __init__(
        self, max_keys: int = MAX_KEYS, claim_room: Callable[[], bool] = lambda: True
    ) -> None:  # fmt: skip
        self._max_keys, self._claim_room = max_keys, claim_room
        # reentrant: a finalizer of the host may call the function in the middle of a call
        self._lock = create_reentrant_lock()
        self.entries: dict[Hashable, _Entry] = {}
        self._start_counting()

    def _start_counting(self) -> None:
        # by the set of caches that hit, a number of seven bits
        self._calls, self._ns = [0] * (HIT_IN_ALL + 1), [0] * (HIT_IN_ALL + 1)
        self._beyond_calls = self._beyond_ns = 0
        self._compared, self._weights, self._stale = [0] * _COUNT, [0.0] * _COUNT, [0] * _COUNT

    def __len__(self) -> int:
        return len(self.entries)

    def call(self, key: Hashable, began: int, ended: int, *, stores: bool = True) -> int:
        """Look a call up in every cache, and store it where it was missed.

        Args:
            key: of the call.
            began: its start, in monotonic nanoseconds.
            ended: its end.
            stores: whether its result can be cached; an error cannot.

        Returns:
            Seven bits of the caches that hit, above them seven of those that stored the result.
        """
        with self._lock:
            entry = self.entries.get(key)
            if entry is not None and entry.latest <= began < entry.until:
                outcome = hits = HIT_IN_ALL
            elif entry is not None:
                outcome = _look_up(entry, began, ended, stores=stores)
                hits = outcome & HIT_IN_ALL
            else:
                outcome = hits = 0
                if stores:
                    if len(self.entries) >= self._max_keys or not self._claim_room():
                        self._beyond_calls += 1
                        self._beyond_ns += ended - began
                        return 0
                    self.entries[key] = _Entry(ended)
                    outcome = STORED_IN_ALL
            self._calls[hits] += 1
            self._ns[hits] += ended - began
            return outcome

    def compare(
        self, key: Hashable, ended: int, outcome: int, digest: bytes, *, unhashed: float = 0.0
    ) -> None:  # fmt: skip
        """Compare the answer of a call with those that it would have got, and remember it.

        Args:
            key: of the call.
            ended: its end.
            outcome: of :meth:`call`.
            digest: of its result.
            unhashed: share of the loads whose results are not hashed.
        """
        with self._lock:
            entry = self.entries.get(key)
            if entry is None:
                return
            if entry.compared is None:
                entry.compared = [0] * _COUNT
            for place, life, hit, load in _PLACES:
                if outcome & load:
                    if entry.expires[place] == ended + life:  # no other load came in between
                        entry.digests[place], entry.compared[place] = digest, 0
                    continue
                known = entry.digests[place]
                if known is None or not outcome & hit:
                    continue
                before = entry.compared[place]
                entry.compared[place] = before + 1
                self._compared[place] += 1
                # of one load with n compared hits n * n, if that is one of few loads
                self._weights[place] += 1 + 2 * before * unhashed
                self._stale[place] += known != digest

    # -- housekeeping --------------------------------------------------------------------------------

    def take(self) -> Counts:
        """Return the counts since the previous call."""
        with self._lock:
            calls, ns = self._calls, self._ns
            compared, weights, stale = self._compared, self._weights, self._stale
            beyond = Tally(self._beyond_calls, self._beyond_ns)
            self._start_counting()
        if not any(calls) and not beyond.calls:
            return NOTHING
        happened = [hits for hits, count in enumerate(calls) if count]
        tallies = [
            Tally(
                sum(calls[hits] for hits in happened if hits >> place & 1),
                sum(ns[hits] for hits in happened if hits >> place & 1),
            )
            for place in range(_COUNT)
        ]
        rows = map(TtlCounts, tallies, compared, weights, stale)
        return Counts(Tally(sum(calls), sum(ns)), beyond, tuple(rows))

    def forget(self, now: int) -> int:
        """Remove keys that were not loaded for long if there is no room left; return their number.

        Args:
            now: monotonic nanoseconds.
        """
        if len(self.entries) < self._max_keys:
            return 0
        before = now - round(FORGET_AFTER_S * NS_PER_S)
        return self.discard(lambda _, latest: latest < before)

    def discard(self, is_old: Callable[[Hashable, int], bool]) -> int:
        """Remove keys; return their number.

        Args:
            is_old: called with a key and the end of its latest load, returns whether it is removed.
        """
        with self._lock:
            old = [key for key, entry in self.entries.items() if is_old(key, entry.latest)]
            for key in old:
                del self.entries[key]
        return len(old)

    def start_comparisons(self) -> None:
        """Begin the numbers of compared hits by load again: those of different hours are independent."""
        with self._lock:
            for entry in self.entries.values():
                entry.compared = None


def _look_up(entry: _Entry, began: int, ended: int, *, stores: bool) -> int:
    """Look a call up in each cache of its key; return the outcome as :meth:`Simulation.call` does."""
    outcome, expires = 0, entry.expires
    for place, life, hit, load in _PLACES:
        end = expires[place]
        if began < end:
            if began >= end - life:  # it would not have waited for the load of this value
                outcome |= hit
        elif stores:
            expires[place], entry.digests[place] = ended + life, None
            outcome |= load
    if outcome > HIT_IN_ALL:
        entry.latest, entry.until = ended, min(expires)
    return outcome
