"""Watch over the calls of one function that is not cached: its keys, its results, its simulated caches.

Every call has its key computed as a cached function has, by code compiled for its parameters, before the
function may change its arguments. Results are looked at by their type, and hashed within a share of the
function's time (:mod:`.result_digests`). One call in about :data:`OBSERVE_EVERY` is observed in full
(:mod:`.observed_call`), since a function that reads the session or writes to a database must not be
recommended.

Nothing here changes the call: what is passed, returned and raised stays as it is.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

from ..core.errors import CacheKeyError
from ..core.host_exceptions import raise_if_of_host
from ..core.locks import create_lock
from ..metrics.catalogue import WHAT_IF_CALLS, WhatIfObstacle
from .cacheability import NotCacheable, refuse
from .call_keys import CallKeys, KeyOptions
from .frame_copies import is_array, kind_of
from .keys import Encoding
from .load_reads import ReadObserver, repair, unkeyed
from .observed_call import ObservedCall
from .responses import is_response
from .result_digests import ResultDigests
from .sizes import size_of_key
from .what_if import HIT_IN_ALL, Counts, Simulation

OBSERVE_EVERY = 128
"""Number of calls of which one is observed, after the first :data:`OBSERVED_FIRST`."""
OBSERVED_FIRST = 4
"""Number of calls of a function that are all observed."""
MAX_KEY_NS = 3_000
"""Time that computing a key may take on average, besides a share of the function's time."""
TIMED_FIRST = 4
"""Number of keys whose computation is timed."""
TIME_EVERY = 16
"""Number of keys of which one is timed after that: reading the clock takes as long as most keys."""
MAX_OBSTACLES = 8
"""Number of obstacles of one function that are distinguished."""
_KEY_CREDIT_NS = 5_000_000  # with which a function begins
_MAX_ITEMS = 1_000  # of an argument that is hashed
_MAX_ARGUMENT_BYTES = 10_000_000  # of an array or frame that is hashed
_MAX_KINDS = 100  # types of results that are remembered
_MAX_KEY_BYTES = 1_000  # of a key that is kept as it is; of a longer one the digest is kept


class Obstacle(NamedTuple):
    """Reason not to cache a function.

    Attributes:
        kind: of the reason.
        reason: a clause about the function, such as ``it writes to a file``.
        remedy: a sentence without a full stop, empty where there is none.
    """

    kind: WhatIfObstacle
    reason: str
    remedy: str = ""


class _TooLongError(CacheKeyError):
    """A key that takes too long to be computed."""


WatchedCall = tuple[Hashable, ObservedCall | None]
"""Key of a call that has begun, and its reads and changes, if it is one that is observed."""


class FunctionWatch:
    """Watches the calls of one function, or of a method of all instances.

    Args:
        function: the function; that of a bound method is called with the instance.
        name: of the function in reports.
        where: its ``file:line``.
        share: of the function's time that hashing results may take.
        observer: records the reads of request data.
        claim_room: returns whether there is room for one more key.
        draw: returns random numbers of at least 0 and below 1.
        clock: returns CPU nanoseconds of the thread.

    Attributes:
        name: see above.
        where: see above.
        simulation: its simulated caches.
    """

    def __init__(
        self, function: Callable[..., Any], name: str, where: str, *, share: float,
        observer: ReadObserver, claim_room: Callable[[], bool] = lambda: True,
        draw: Callable[[], float] = random.random, clock: Callable[[], int] = time.thread_time_ns,
    ) -> None:  # fmt: skip
        self.name, self.where = name[: WHAT_IF_CALLS.longest], where[: WHAT_IF_CALLS.longest]
        self.simulation = Simulation(claim_room=claim_room)
        self._entries = self.simulation.entries
        self._share, self._observer, self._draw, self._clock = share, observer, draw, clock
        self._keys = CallKeys(function, KeyOptions())
        self._key = self._keys.compile_key(self._encode)
        self._digests = ResultDigests(share, draw, clock) if share else None
        self._routing: tuple[str, ...] = ()
        self._calls, self._observe_at, self._encoded = 0, 0, 0
        self._key_ns_left, self._latest_ns = float(_KEY_CREDIT_NS), 0
        self._kinds: dict[type, bool] = {}  # whether results of a type can be cached
        self._has_values = False
        self._lock = create_lock()  # guards the obstacles
        # of the function, in the order of their detection
        self._obstacles: dict[Obstacle, None] = {}
        self._refused: dict[Obstacle, int] = {}  # calls whose results cannot be cached
        self._unkeyed = 0
        self._is_stopped = False  # since computing its keys takes too long

    # -- calls ---------------------------------------------------------------------------------------

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> WatchedCall | None:
        """Return a call that begins, ``None`` if it has no key.

        Args:
            args: its positional arguments.
            kwargs: its keyword arguments.
        """
        if self._is_stopped:
            self._unkeyed += 1
            return None
        try:
            key = self._key(*args, **kwargs)
        except _TooLongError as error:
            raise_if_of_host(error)
            self._unkeyed += 1
            self._stop()
            return None
        except CacheKeyError as error:
            raise_if_of_host(error)
            self._unkeyed += 1
            self._note(Obstacle(WhatIfObstacle.UNKEYED, str(error)))
            return None
        except TypeError as error:  # the function will refuse the arguments too
            raise_if_of_host(error)
            return None
        if key not in self._entries and size_of_key(key) > _MAX_KEY_BYTES:
            key = self._shortened(key)
        if self._routing:
            key = key, self._observer.routing(self._routing)
        self._calls = calls = self._calls + 1
        return key, None if calls < self._observe_at else self._observe(calls)

    def _shortened(self, key: Hashable) -> Hashable:
        """Return the digest of a long key, behind the number of the instance if it begins with one."""
        encoding = Encoding()
        encoding.add(key)
        digest: tuple[Hashable, ...] = (encoding.digest(), ...)
        is_of_instance = self._keys.is_method and type(key) is tuple and type(key[0]) is int
        return (key[0], *digest) if is_of_instance else digest  # type: ignore[index]

    def _observe(self, calls: int) -> ObservedCall:
        distance = 1 if calls < OBSERVED_FIRST else 1 + int(2 * OBSERVE_EVERY * self._draw())
        self._observe_at = calls + distance
        return ObservedCall(self._observer)

    def end(self, call: WatchedCall, began: int, ended: int, result: Any) -> None:
        """Look a call that has returned up in the simulated caches.

        Args:
            call: the call.
            began: its start, in monotonic nanoseconds.
            ended: its end.
            result: of the function.
        """
        key, observed = call
        if observed is not None:
            key = self._judge(observed, key)
        kind, took = type(result), ended - began
        self._latest_ns = took
        stores = self._kinds.get(kind)
        if stores is None:
            stores = self._check(kind, result)
        if not stores:
            self._refuse(kind, result)
        outcome, digests = self.simulation.call(key, began, ended, stores), self._digests
        if digests is None or not outcome:
            return
        hash_of = digests.of_hit if outcome <= HIT_IN_ALL else digests.of_load
        digest = hash_of(result, took)
        if digest is not None:
            self.simulation.compare(key, ended, outcome, digest, unhashed=digests.unhashed_share)

    def fail(self, call: WatchedCall, began: int, ended: int) -> None:
        """Look up a call that has raised, as :meth:`end` does: an error is not cached."""
        key, observed = call
        if observed is not None:
            key = self._judge(observed, key)
        self.simulation.call(key, began, ended, stores=False)

    def _encode(self, *values: Any) -> Hashable:
        """Return the key of a call that is not its arguments themselves; stop if that takes too long."""
        if any(map(_is_long, values)):  # not even once: a request waits for it
            raise _TooLongError("hashing its arguments takes too long")
        self._encoded += 1
        if self._encoded > TIMED_FIRST and self._encoded % TIME_EVERY:
            return self._keys.encode(*values)
        began = self._clock()
        try:
            return self._keys.encode(*values)
        finally:
            allowed = MAX_KEY_NS + self._latest_ns * self._share
            self._key_ns_left += allowed - (self._clock() - began)
            if self._key_ns_left < 0 and self._encoded > 1:  # the time of the first call is unknown
                self._stop()

    def _stop(self) -> None:
        """Watch no further calls: their keys take too long."""
        self._is_stopped = True
        self._note(Obstacle(
            WhatIfObstacle.UNKEYED, "hashing its arguments takes too long",
            "Pass key= with a function of the arguments whose result is the key",
        ))  # fmt: skip

    # -- obstacles -----------------------------------------------------------------------------------

    def _judge(self, observed: ObservedCall, key: Hashable) -> Hashable:
        """Note what forbids to cache the result of an observed call; return the key of the call."""
        observed.end()
        if observed.obstacle:
            self._note(Obstacle(WhatIfObstacle.CHANGES, observed.obstacle))
        reads = observed.reads
        if reads:
            self._note(Obstacle(WhatIfObstacle.READS, f"it {unkeyed(reads)}", repair(reads)))
        routing = observed.routing
        if routing.issubset(self._routing):
            return key
        call = _without_routing(key)
        self._routing = tuple(sorted(routing.union(self._routing)))
        return call, self._observer.routing(self._routing)

    def _check(self, kind: type, result: Any) -> bool:
        """Return whether results of a type can be cached, and remember it."""
        try:
            if is_response(result):
                raise NotCacheable("a response is judged as that of its view")
            refuse(result)
            stores = True
        except NotCacheable as error:
            raise_if_of_host(error)
            stores = False
        self._has_values |= result is not None
        if len(self._kinds) < _MAX_KINDS:
            self._kinds[kind] = stores
        return stores

    def _refuse(self, kind: type, result: Any) -> None:
        """Count a result that cannot be cached."""
        reason = f"it returns a response, a {kind.__qualname__}"
        if not is_response(result):
            try:
                refuse(result)
            except NotCacheable as error:
                raise_if_of_host(error)
                reason = f"a result cannot be cached: {error}"
        obstacle = Obstacle(WhatIfObstacle.REFUSED, reason)
        with self._lock:
            if obstacle in self._refused or len(self._refused) < MAX_OBSTACLES:
                self._refused[obstacle] = self._refused.get(obstacle, 0) + 1

    def _note(self, obstacle: Obstacle) -> None:
        """Note a reason that holds for the function from now on, whichever call showed it."""
        with self._lock:
            if len(self._obstacles) < MAX_OBSTACLES:
                self._obstacles[obstacle] = None

    @property
    def hashing_ns(self) -> int:
        """Time that hashing results took so far, in nanoseconds."""
        return 0 if self._digests is None else self._digests.spent_ns

    # -- publication ---------------------------------------------------------------------------------

    def take(self) -> tuple[Counts, int, dict[Obstacle, int]]:
        """Return the counts, the calls without a key, and the calls by obstacle since then."""
        counts = self.simulation.take()
        with self._lock:
            refused, self._refused = self._refused, {}
            unkeyed, self._unkeyed = self._unkeyed, 0
            known = list(self._obstacles)
        calls = counts.judged.calls + counts.beyond.calls + unkeyed
        if not calls:
            return counts, unkeyed, refused
        if not self._has_values and counts.judged.calls:
            known.append(Obstacle(WhatIfObstacle.NOTHING, "all of its results are None"))
        digests = self._digests
        if digests is not None and digests.problem:
            known.append(Obstacle(
                WhatIfObstacle.UNCOMPARED, f"its results cannot be compared: {digests.problem}"
            ))  # fmt: skip
        return counts, unkeyed, refused | dict.fromkeys(known, calls)

    def tidy(self, now: int) -> None:
        """Remove keys of instances that were freed, and old ones if there is no room for new ones.

        Args:
            now: monotonic nanoseconds.
        """
        gone, numbers = self._keys.instances.gone, set[Hashable]()
        while gone:
            numbers.add(gone.popleft())
        if numbers:
            self.simulation.discard(lambda key, _: _instance_of(key) in numbers)
        self.simulation.forget(now)

    def start_comparisons(self) -> None:
        """Begin the numbers of compared hits by load again."""
        self.simulation.start_comparisons()
        if self._digests is not None:
            self._digests.start_comparisons()


def _without_routing(key: Any) -> Any:
    """Return the key of a call, without the routing data that may stand behind it."""
    return key[0] if len(key) == 2 and type(key[0]) is tuple else key


def _instance_of(key: Any) -> Hashable:
    """Return the number of the instance in the key of a method's call."""
    call = _without_routing(key)
    number: Hashable = call[0] if call else None
    return number


def _is_long(value: Any) -> bool:
    """Return whether an argument is too large to be hashed for a prediction."""
    kind = type(value)
    if kind in _CONTAINERS:
        return len(value) > _MAX_ITEMS
    if is_array(value):
        return bool(value.nbytes > _MAX_ARGUMENT_BYTES)
    return kind_of(value) is not None and bool(value.size > _MAX_ARGUMENT_BYTES / 8)


_CONTAINERS = frozenset({list, tuple, dict, set, frozenset})
