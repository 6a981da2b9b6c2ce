"""Schedule of values in use that have to be loaded again: before they expire, and after a change.

A value is loaded again only if it had :data:`MIN_HITS` hits since its latest load, so the loads of a key
that no call needs any more end by themselves, and those of a table that changes faster than it is read
never begin.

A change seldom comes alone: an import writes a thousand rows. So an invalidated value is due once its
sources have not changed for :data:`QUIET_S`. That is also the age from which a file is trusted.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from typing import Any

from .file_state import MIN_AGE_S, state_of
from .function_cache import FunctionCache
from .region import Entry
from .warming import Due

MIN_HITS = 2
"""Number of hits since the latest load from which a value is loaded again."""
LEAD_S = 2.0
"""Seconds before the expiry from which a value is due, beside twice the time of its load."""
QUIET_S = MIN_AGE_S + 0.5
"""Seconds without a change of its sources after which an invalidated value is due."""
MAX_DUE = 200
"""Number of values that are due at once."""


class WarmSchedule:
    """Values in use that are due to be loaded again.

    Args:
        clock: returns monotonic time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changes: dict[
            int, tuple[Entry, Any, float]
        ] = {}  # by id: its sources, and since when
        self._tried: dict[int, Entry] = {}  # by id: one attempt for each value

    def due(self, caches: Iterable[FunctionCache]) -> list[Due]:
        """Return the values that are due, those with the longest loads per second of use first.

        Args:
            caches: functions that are warmed.
        """
        now, rows = self._clock(), []
        changes: dict[int, tuple[Entry, Any, float]] = {}
        tried: dict[int, Entry] = {}
        for cache in caches:
            for entry in list(cache.region.entries.values()):
                if entry.call is None or entry.raises or entry.hits < MIN_HITS:
                    continue
                if id(entry) in self._tried:
                    tried[id(entry)] = entry
                elif self._is_due(cache, entry, now, changes):
                    rows.append(Due(cache, entry.call, entry))
        rows.sort(key=lambda one: _worth(one.entry, now), reverse=True)
        del rows[MAX_DUE:]
        self._changes = changes
        self._tried = tried | {id(one.entry): one.entry for one in rows if one.entry is not None}
        return rows

    def _is_due(
        self, cache: FunctionCache, entry: Entry, now: float,
        changes: dict[int, tuple[Entry, Any, float]],
    ) -> bool:  # fmt: skip
        if cache.is_valid(entry):
            lead = min(LEAD_S + 2 * entry.cost, (entry.expires - entry.born) / 2)
            return entry.expires < math.inf and entry.expires - lead <= now < entry.expires
        if now >= entry.expires:
            return False  # it is removed soon, and the next call loads it
        state = _state(cache, entry)
        _, before, since = self._changes.get(id(entry), (entry, None, now))
        if state == before and now - since >= QUIET_S:
            return True
        changes[id(entry)] = entry, state, since if state == before else now
        return False


def _state(cache: FunctionCache, entry: Entry) -> Any:
    """Return the state of everything that a value depends on."""
    words = cache.words
    files = () if entry.sources is None else entry.sources.files
    return tuple([words[slot] for slot in entry.slots]), tuple(
        [state_of(path) for path, _ in files]
    )


def _worth(entry: Entry | None, now: float) -> float:
    """Return the load seconds that the hits of a value saved per second of its life."""
    return 0.0 if entry is None else entry.hits * entry.cost / max(now - entry.born, 1e-3)
