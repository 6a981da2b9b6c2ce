"""Verification of hits: a share of them is loaded again behind the answer, and the two are compared.

A cached value is wrong as soon as something has changed that its function read and that the cache does
not observe. No statistics of hits and misses show that. So one hit in ``KNITPERF_CACHE_VERIFY`` is
noted, and once its response was sent, the function is called again with the same arguments and a copy of
the request, past all caches. Each hit has the same chance, whatever its key: an entry has a number of
hits drawn from a geometric distribution, after which the next one is verified. So the share of verified
hits that differ estimates the share of stale answers.

A value that differs is removed. Its cause is one of :class:`.DifferenceKind`: a function that has two
results within a moment cannot be cached; a file or table that it reads and does not declare is named.

A difference may be that of a cached function which the load calls. Then a load that uses the cache
returns the old value too, and the hits of that load are verified instead.

Verification costs loads, so it takes at most :data:`MAX_SHARE` of a process's time; hits beyond that
are not verified, nor are those of values that take long to load: a server has a timeout.
"""

from __future__ import annotations

import functools
import logging
import math
import os
import weakref
from collections import deque
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, NamedTuple

from ..core.host_exceptions import raise_if_of_host
from ..core.printable import printable
from ..metrics.catalogue import DifferenceKind
from .bypass import SERVED, SLOW_PATH, bypass
from .cacheability import NotCacheable
from .call_keys import name_of
from .dependencies import CURRENT, Declared, LoadDependencies, Sources
from .file_state import state_of
from .file_watch import FILE_WATCH
from .load_reads import ReadObserver, RequestCopy
from .region import Difference, Entry
from .responses import comparable, isolate_result
from .same_value import is_same

if TYPE_CHECKING:
    from .function_cache import FunctionCache

log = logging.getLogger("flask_knitperf")
DEFAULT_EVERY = 1_000
"""Mean number of hits of which one is verified, unless the application is being tested."""
MAX_SHARE = 0.01
"""Share of a process's time that verification may take."""
MAX_LOAD_S = 5.0
"""Seconds of a load beyond which its value is not verified."""
MAX_PENDING = 8
"""Number of hits that wait to be verified; they hold their arguments."""
MAX_INNER = 8
"""Number of hits within a load that are verified in its place."""
_LOADS = 3
"""Number of loads that a verification may take."""
_CREDIT_S = 0.1
"""Seconds that verification may take in a process that has only begun."""
_DETECTED = Declared()


class _Hit(NamedTuple):
    """A hit that is to be verified.

    Attributes:
        cache: of the function.
        entry: that was served.
        key: of the call, without its routing data.
        args: positional arguments.
        kwargs: keyword arguments.
        request: runs code with a copy of the request.
        endpoint: of the request, and its method.
    """

    cache: FunctionCache
    entry: Entry
    key: Hashable
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    request: RequestCopy
    endpoint: tuple[str, str]


class Verification:
    """Verifies hits of the functions of one cache.

    Args:
        every: returns the mean number of hits of which one is verified, 0 for none.
        schedule: has a job run once a response was sent; returns whether it will.
        observer: copies requests.
        track_tables: has the tables that statements read added to loads.
        clock: returns monotonic time in seconds.
        wall: returns the seconds since the epoch.
        draw: returns random numbers of at least 0 and below 1.
    """

    def __init__(
        self, every: Callable[[], int], schedule: Callable[[Callable[[], None]], bool],
        observer: ReadObserver, track_tables: Callable[[], object], clock: Callable[[], float],
        wall: Callable[[], float], draw: Callable[[], float],
    ) -> None:  # fmt: skip
        self._every, self._schedule, self._observer = every, schedule, observer
        self._track_tables, self._clock, self._wall, self._draw = track_tables, clock, wall, draw
        self._pending: deque[_Hit] = deque(maxlen=MAX_PENDING)
        self._began, self._spent_s = clock(), 0.0
        self._is_logged = False
        _ALL.add(self)

    def hits_until_next(self) -> float:
        """Return the number of hits of an entry of which the last one is to be verified."""
        every = self._every()
        if every <= 1:
            return 1 if every else math.inf
        return 1 + math.floor(math.log1p(-self._draw()) / math.log1p(-1 / every))

    def add(
        self, cache: FunctionCache, entry: Entry, key: Hashable, args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:  # fmt: skip
        """Note a hit; it is verified if it was one of a request, and there is time for it.

        Args:
            cache: of the function.
            entry: that was served.
            key: of the call.
            args: positional arguments.
            kwargs: keyword arguments.
        """
        try:
            entry.verify_at = entry.uses + self.hits_until_next()
            if not self._is_affordable(entry):
                return
            request = self._observer.copy_request()
            if request is not None and self._schedule(self.run):
                endpoint = self._observer.endpoint()
                self._pending.append(_Hit(cache, entry, key, args, kwargs, request, endpoint))
        except Exception as error:
            self._failed(cache, error)

    def _is_affordable(self, entry: Entry) -> bool:
        """Return whether there is time for the loads of an entry."""
        if entry.cost > MAX_LOAD_S:
            return False
        allowed = MAX_SHARE * (self._clock() - self._began)
        return self._spent_s + _LOADS * entry.cost <= max(allowed, _CREDIT_S)

    def clear(self) -> None:
        """Forget the hits that wait."""
        self._pending.clear()

    def run(self) -> None:
        """Verify the hits that wait. Called in the thread of a request that has ended."""
        while self._pending:
            try:
                hit = self._pending.popleft()
            except IndexError as error:  # another thread has taken it
                raise_if_of_host(error)
                return
            if not self._is_affordable(hit.entry):  # others were verified since
                continue
            began = self._clock()
            try:
                hit.request.run(functools.partial(self._verify, hit))
            except Exception as error:
                self._failed(hit.cache, error)
            took = self._clock() - began
            self._spent_s += took
            hit.cache.region.verify_seconds += took

    def _verify(self, hit: _Hit) -> None:
        """Load the value of a hit again, and count whether it is the same."""
        cache, entry = hit.cache, hit.entry
        if not cache.is_served(entry) or _is_known_to_change(entry):
            return
        if cache.keys.of_call(hit.args, hit.kwargs) != hit.key:
            return  # an argument was changed since
        kept = comparable(entry.value, entry.copy)
        with bypass(counted=False):
            loaded, sources = self._load(hit)
        if not cache.is_served(entry) or _is_known_to_change(entry):
            return  # it was invalidated meanwhile
        if is_same(kept, loaded):
            cache.region.verified += 1
            cache.lifetimes.check(entry.key, cache.age(entry), changed=False)
            return
        with bypass(counted=False):
            again, _ = self._load(hit)
        if not is_same(loaded, again):
            # else it may be the time: how old that may be is declared
            if not cache.options.expires:
                self._count(hit, DifferenceKind.UNREPEATABLE, "")
            return
        inner = self._hits_within(hit, kept)
        if inner:
            cache.discard(entry)
            for one in inner:
                self._verify(one)
            return
        self._count(hit, *self._cause(hit, sources))
        cache.lifetimes.check(entry.key, cache.age(entry), changed=True)
        cache.discard(entry)

    def _count(self, hit: _Hit, kind: DifferenceKind, source: str) -> None:
        region = hit.cache.region
        region.verified += 1
        region.count_difference(
            Difference(*hit.endpoint, name_of(hit.cache.function), kind, source)
        )

    def _hits_within(self, hit: _Hit, kept: Any) -> list[_Hit]:
        """Return the hits of a load that uses the cache, if its result is the old one."""
        served: list[tuple[Any, ...]] = []
        token = SERVED.set(served)
        try:
            loaded, _ = self._load(hit)
        finally:
            SERVED.reset(token)
        if not served or not is_same(kept, loaded):
            return []
        return [
            _Hit(cache, entry, key, args, kwargs, hit.request, hit.endpoint)
            for cache, entry, key, args, kwargs in served[:MAX_INNER]
        ]

    def _load(self, hit: _Hit) -> tuple[Any, Sources | None]:
        """Return the result of a new call, as it is compared, and the files and tables that it read."""
        cache = hit.cache
        self._track_tables()
        reads = LoadDependencies(_DETECTED, (), cache.words, SLOW_PATH, self._wall)
        token = CURRENT.set(reads)
        FILE_WATCH.begin(reads)
        try:
            value = self._observer.synchronous(cache.function)(*hit.args, **hit.kwargs)
        finally:
            FILE_WATCH.end(reads)
            reads.has_ended = True
            CURRENT.reset(token)
        try:
            kept = isolate_result(value, self._observer.request(cache.wrapper))
        except NotCacheable as reason:  # such as a response with another status
            return reason, reads.sources()
        return comparable(kept.value, kept.copy), reads.sources()

    def _cause(self, hit: _Hit, sources: Sources | None) -> tuple[DifferenceKind, str]:
        """Return why a value differs, and the file or table that it does not declare, if any."""
        options = hit.cache.options
        source = self._undeclared(hit, sources)
        if source and (options.depends.is_declared or not options.expires):
            return DifferenceKind.UNDECLARED, source
        return (DifferenceKind.AGED if options.expires else DifferenceKind.UNEXPLAINED), source

    def _undeclared(self, hit: _Hit, sources: Sources | None) -> str:
        """Return a file that has changed since, or a table, that only the new load has read."""
        if sources is None:
            return ""
        entry = hit.entry
        files = {} if entry.sources is None else dict(entry.sources.files)
        tables = () if entry.sources is None else entry.sources.tables
        born = self._wall() - hit.cache.age(entry)
        changed = [
            path for path, _ in sources.files
            if path not in files and max((*state_of(path)[-2:], 0)) / 1e9 >= born
        ]  # fmt: skip
        if changed:
            return f"file {changed[0]}"
        others = [table for table in sources.tables if table not in tables]
        return f"table {others[0]}" if others else ""

    def _failed(self, cache: FunctionCache, error: Exception) -> None:
        """Note a call that raised, as the function may at any time."""
        raise_if_of_host(error)
        if not self._is_logged:
            self._is_logged = True
            name = printable(name_of(cache.function))
            log.info("flask_knitperf: a value of %s could not be verified", name, exc_info=error)


def _is_known_to_change(entry: Entry) -> bool:
    """Return whether a file has changed that an entry depends on: it is checked once a second."""
    return entry.sources is not None and bool(entry.sources.changed_file())


_ALL: weakref.WeakSet[Verification] = weakref.WeakSet()


def _after_fork() -> None:
    for verification in list(_ALL):
        verification.clear()  # the parent verifies its hits itself


if hasattr(os, "register_at_fork"):  # pragma: no branch (Windows)
    os.register_at_fork(after_in_child=_after_fork)
