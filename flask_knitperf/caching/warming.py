"""Warming: values of functions with ``warm=True`` are loaded before a call needs them.

At the start of a process the most valuable calls of former runs are made (:mod:`.warm_record`), and
those that the function for ``warm=`` returns. Later it is the values in use that are about to expire, or
were invalidated (:mod:`.warm_schedule`).

A load runs within a request of no client. So its reads of a request are recorded, as for any other call:
a function that depends on the user, or on the address, is refused, and not warmed from then on. No value
is loaded for one user and returned to another.

Time and room are both bounded, so calls are ordered by the seconds that they saved, divided by the share
of both bounds that they take.
"""

from __future__ import annotations

import itertools
import logging
import math
import time
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, TypedDict

from ..core.errors import KnitPerfError
from ..core.host_exceptions import raise_if_of_host
from ..core.printable import printable
from .call_keys import name_of
from .function_cache import FunctionCache
from .region import Entry
from .store import Store
from .warm_calls import Call, restored, stored
from .warm_record import MAX_CALLS, Bounds, RecordedCall, rank

log = logging.getLogger("flask_knitperf")
MAX_ERRORS = 3
"""Number of loads of a function, one after the other, that raise before it is left alone for a while."""
ALONE_S = 600.0
"""Seconds for which it is not warmed then."""
MAX_SHARE = 0.5
"""Share of the bound of the cache that the values of one round may take."""
MAX_CHOSEN = 10_000
"""Number of arguments that are taken of a function for ``warm=``."""


class Due(NamedTuple):
    """A call that is to be made.

    Attributes:
        cache: of the function.
        call: its arguments.
        entry: the entry that is to be replaced, ``None`` to load what is missing.
        bytes: of the value, as expected; 0 if unknown, or if it takes the place of another one.
    """

    cache: FunctionCache
    call: Call
    entry: Entry | None = None
    bytes: float = 0.0


class WarmCounts(TypedDict):
    """Outcome of a round of warming.

    Attributes:
        total: number of calls that were chosen.
        warmed: values that were loaded.
        fresh: values that were cached already.
        failed: loads that raised.
        refused: results that could not be cached.
        left: calls for which there was no time or no room.
        seconds: total time of the loads.
        skipped: reason by function, of those that are not warmed.
    """

    total: int
    warmed: int
    fresh: int
    failed: int
    refused: int
    left: int
    seconds: float
    skipped: dict[str, str]


Progress = Callable[[int, int], object]
"""Called with the number of calls that are done, and that of all."""


class Pace:
    """Time between the loads of a round: none. A round of a server has another one."""

    def wait(self) -> bool:
        """Return whether to make the next load, as soon as it may be made."""
        return True

    def rest(self, seconds: float) -> None:
        """Pause after a load that took some seconds."""


class Warmer:
    """Loads values of some cached functions ahead of the calls.

    Args:
        functions: returns the cached functions.
        store: keeps their values.
        request: returns a context with a request of no client.
        job: returns a context that records a load.
        is_view: returns whether a function that callers use is a view.
        clock: returns monotonic time in seconds.
    """

    def __init__(
        self, functions: Callable[[], Iterable[FunctionCache]], store: Store,
        request: Callable[[], AbstractContextManager[Any]] = nullcontext,
        job: Callable[[], AbstractContextManager[Any]] = nullcontext,
        is_view: Callable[[Callable[..., Any]], bool] = lambda _: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._functions, self._store, self._clock = functions, store, clock
        self._request, self._job, self._is_view = request, job, is_view
        self._health: weakref.WeakKeyDictionary[FunctionCache, _Health] = (
            weakref.WeakKeyDictionary()
        )

    def functions(self, namespaces: Collection[str] = ()) -> list[FunctionCache]:
        """Return the functions that are warmed, only those of some namespaces if there are any.

        Raises:
            KnitPerfError: a namespace has no such function.
        """
        caches = [cache for cache in self._functions() if cache.options.warm]
        unknown = set(namespaces).difference(cache.options.namespace for cache in caches)
        if unknown:
            raise KnitPerfError(
                f"no function with warm=True has the namespace {', '.join(sorted(unknown))}; there are "
                f"{', '.join(sorted({cache.options.namespace for cache in caches})) or 'none at all'}"
            )
        return [
            cache for cache in caches if not namespaces or cache.options.namespace in namespaces
        ]

    def bounds(self, seconds: float) -> Bounds:
        """Return the bounds of a round that may load for some seconds."""
        return Bounds(seconds, self._store.maxsize * MAX_SHARE)

    # -- calls at the start --------------------------------------------------------------------------

    def at_start(
        self, record: Iterable[RecordedCall], bounds: Bounds, caches: Collection[FunctionCache]
    ) -> list[Due]:
        """Return the calls with which a process begins, the most valuable first.

        Args:
            record: calls of former runs.
            bounds: of the round.
            caches: the functions that are warmed.
        """
        due = [Due(cache, call) for cache in caches for call in self._chosen(cache)]
        by_name = {_name(cache): cache for cache in _unambiguous(caches)}
        for row in sorted(record, key=lambda row: rank(row, bounds), reverse=True):
            cache = by_name.get((row.function, row.namespace))
            if cache is None or callable(cache.options.warm):
                continue
            call = restored(cache.keys.signature, row.arguments)
            if call is not None:
                due.append(Due(cache, call, None, row.bytes))
        return due

    def _chosen(self, cache: FunctionCache) -> Iterator[Call]:
        """Yield the calls that the function for ``warm=`` returns."""
        choose = cache.options.warm
        if not callable(choose) or self.reason(cache):
            return
        chosen: list[Any] | None = None
        try:
            with self._request():
                rows = choose()
                if isinstance(rows, str | bytes):  # its letters would be the arguments
                    raise TypeError("the function for warm= returned a text in place of a list")
                chosen = list(itertools.islice(rows, MAX_CHOSEN))
        except Exception as error:
            self._failed(cache, error)
        for one in chosen or ():
            yield Call(one if isinstance(one, tuple) else (one,), {})

    def recorded(self, now: float) -> list[RecordedCall]:
        """Return the calls that are worth being recorded.

        Args:
            now: seconds since the epoch.
        """
        rows = []
        for cache in _unambiguous(self.functions()):
            if cache.options.warm is not True or self.reason(cache):
                continue
            own = [_recorded(cache, entry, self._store, now) for entry in _used(cache)]
            rows += [row for row in own if row is not None]
        bounds = self.bounds(1.0)
        return sorted(rows, key=lambda row: rank(row, bounds), reverse=True)[:MAX_CALLS]

    # -- loads ---------------------------------------------------------------------------------------

    def reason(self, cache: FunctionCache) -> str:
        """Return why a function is not warmed at present, empty if it is."""
        health = self._health.get(cache)
        if health is not None and self._clock() < health.alone_until:
            return health.reason
        if cache.region.unkeyed_reads:
            return "it reads data of the request that is not in its key"
        if cache.region.routing:
            return "it depends on the address of the request"
        return ""

    def run(
        self, due: Iterable[Due], bounds: Bounds, pace: Pace | None = None,
        progress: Progress = lambda *_: None,
    ) -> WarmCounts:  # fmt: skip
        """Make some calls within bounds; return the outcome.

        Args:
            due: the calls, the most valuable first.
            bounds: of all of them.
            pace: decides when the next one is made.
            progress: called after each of them.

        Raises:
            Exception: that of ``progress``.
        """
        due, pace = list(due), Pace() if pace is None else pace
        round_ = _Round(bounds)
        for number, one in enumerate(due, 1):
            name, reason = name_of(one.cache.function), self.reason(one.cache)
            if reason:
                round_.skipped[name] = reason
            elif not round_.has_room(one):
                round_.counts["left"] += 1
            else:
                outcome = self._one(one, round_, pace)
                if outcome == "stopped":
                    round_.counts["left"] += len(due) - number + 1
                    break
                round_.counts[outcome] += 1
                reason = self.reason(one.cache)
                if reason:
                    round_.skipped[name] = reason
            progress(number, len(due))
        return round_.outcome(len(due))

    def _one(self, one: Due, round_: _Round, pace: Pace) -> str:
        """Make one call; return its outcome."""
        try:
            before = one.cache.entry_of(*one.call[:2])
        except Exception as error:  # its arguments do not fit the function any more
            return self._failed(one.cache, error)
        if before is not None and (one.entry is None or before is not one.entry):
            return "fresh"
        if not pace.wait():
            return "stopped"
        began = self._clock()
        try:
            return self._load(one, before, round_)
        finally:
            took = self._clock() - began
            round_.seconds += took
            pace.rest(took)

    def _load(self, one: Due, before: Entry | None, round_: _Round) -> str:
        cache, entry, is_loaded = one.cache, None, False
        try:
            if self._is_view(cache.wrapper):
                return self._alone(cache, "it is a view; cache what it calculates", "refused")
            with self._job(), self._request():
                entry = cache.load_ahead(*one.call[:2])
                is_loaded = True
        except Exception as error:
            if (
                not is_loaded
            ):  # else a function of the application for the end of requests has raised
                return self._failed(cache, error)
            self._log(cache, error)
        if entry is None:
            return "refused"
        if cache.region.routing:  # it is the value of an address that no client uses
            self._store.remove(entry)
            return "refused"
        if entry is before:  # the load raised, and the old value stays
            return self._alone_after_errors(cache)
        self._health.pop(cache, None)
        round_.bytes += entry.size + entry.mapped
        return "warmed"

    # -- failures ------------------------------------------------------------------------------------

    def _failed(self, cache: FunctionCache, error: Exception) -> str:
        """Count a load that raised."""
        raise_if_of_host(error)
        self._log(cache, error)
        return self._alone_after_errors(cache)

    def _log(self, cache: FunctionCache, error: Exception) -> None:
        """Log the first error of a function."""
        health = self._health.setdefault(cache, _Health())
        if not health.is_logged:
            health.is_logged = True
            name = printable(name_of(cache.function))
            log.info("flask_knitperf: %s could not be warmed", name, exc_info=error)

    def _alone_after_errors(self, cache: FunctionCache) -> str:
        health = self._health.setdefault(cache, _Health())
        health.errors += 1
        if health.errors >= MAX_ERRORS:
            health.errors = 0
            self._alone(cache, f"{MAX_ERRORS} loads raised one after the other", "")
        return "failed"

    def _alone(self, cache: FunctionCache, reason: str, outcome: str) -> str:
        """Leave a function alone for a while; return the outcome."""
        health = self._health.setdefault(cache, _Health())
        health.reason, health.alone_until = reason, self._clock() + ALONE_S
        return outcome


class _Health:
    """Errors of one function."""

    def __init__(self) -> None:
        self.errors, self.is_logged = 0, False
        self.reason, self.alone_until = "", -math.inf


class _Round:
    """Counts of one round."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self.counts: Counter[str] = Counter()
        self.skipped: dict[str, str] = {}
        self.seconds = self.bytes = 0.0

    def has_room(self, one: Due) -> bool:
        """Return whether there is time and room for one more value."""
        if self.seconds >= self._bounds.seconds:
            return False
        return one.entry is not None or self.bytes + one.bytes <= self._bounds.bytes

    def outcome(self, total: int) -> WarmCounts:
        """Return the outcome of a number of calls."""
        counts = self.counts
        return {
            "total": total, "warmed": counts["warmed"], "fresh": counts["fresh"],
            "failed": counts["failed"], "refused": counts["refused"], "left": counts["left"],
            "seconds": self.seconds, "skipped": self.skipped,
        }  # fmt: skip


def _used(cache: FunctionCache) -> list[Entry]:
    """Return the entries that were used, also before their latest load."""
    return [
        entry for entry in list(cache.region.entries.values())
        if entry.call is not None and not entry.raises and (entry.hits or entry.rate > 1)
    ]  # fmt: skip


def _recorded(
    cache: FunctionCache, entry: Entry, store: Store, now: float
) -> RecordedCall | None:  # fmt: skip
    if entry.call is None:
        return None
    with store.lock:
        saved = store.worth(entry) * entry.size * cache.lifetimes.survival(entry.key)
    return RecordedCall(
        *_name(cache), stored(cache.keys.signature, entry.call), saved, entry.cost,
        entry.size + entry.mapped, now,
    )  # fmt: skip


def _name(cache: FunctionCache) -> tuple[str, str]:
    return name_of(cache.function), cache.options.namespace


def _unambiguous(caches: Iterable[FunctionCache]) -> list[FunctionCache]:
    """Return the functions whose names no other one has, as those have that a function creates."""
    caches = list(caches)
    numbers = Counter(map(_name, caches))
    return [cache for cache in caches if numbers[_name(cache)] == 1]
