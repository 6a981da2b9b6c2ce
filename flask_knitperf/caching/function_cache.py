"""Cached functions.

A hit is on the path of every request, so it is a dozen instructions in one frame, the wrapper that
:mod:`.call_keys` compiles: look up the key, compare one number to learn that nothing was invalidated,
compare the time, count. It takes no lock. Any other call goes to :meth:`FunctionCache.miss`.

The order of a load keeps values right: the versions of everything that the value depends on are taken
first, then the function is called, then the value is stored under the versions that were taken. A value
that was invalidated while it was loaded is returned to its caller and is out of date for every other.
"""

from __future__ import annotations

import functools
import inspect
import math
import random
import time
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

from ..core.host_exceptions import raise_if_of_host
from ..metrics.catalogue import CacheEvent, PartKind
from ..recording.span import CURRENT
from ..storage.versions import EPOCH
from .admission import Admission
from .bypass import SERVED, is_counted
from .call_keys import CallKeys, count
from .code_identity import enclosed_digest
from .dependencies import RUNNING, pass_on
from .explanation import Explanation, Misses, explanation
from .invalidation import ALL, Invalidation, namespace_slot, tag_slot
from .key_digests import KeyDigests
from .lifetimes import Lifetimes
from .load import Load
from .load_reads import NO_OBSERVER, CurrentRequest, ReadObserver
from .lookup import Lookup
from .options import Options
from .region import Entry, Region
from .server.sharing import ServerSharing
from .sharing import Host, HostFlight, Sharing
from .single_flight import SingleFlight, copy_of
from .store import Store
from .ttl_tuning import StalePrice
from .verification import Verification
from .warm_calls import IS_WARMING, call_of

MAX_WAIT_S = 20.0
"""Longest time that a call waits for another one that loads the same key."""
_MAX_FOLLOWED = 3
"""Number of loads that a call waits for, each of which is out of date when it ends."""

_REASONS = {
    CacheEvent.COLD: "never cached", CacheEvent.CAPACITY: "evicted", CacheEvent.EXPIRED: "expired",
    CacheEvent.INVALIDATED: "invalidated", CacheEvent.EARLY: "expires soon",
}  # fmt: skip
"""Texts on look-ups that missed."""


class FunctionCache:
    """Cached results of one function or coroutine function.

    Args:
        function: the function.
        options: its options.
        store: keeps the entries.
        invalidation: versions of namespaces and tags.
        observer: records the reads of request data.
        bypasses: not empty while any code bypasses the cache, and while dependencies are detected.
        is_bypassed: returns whether the current code does.
        host: what is shared with other processes, ``None`` to share nothing.
        clock: returns monotonic time in seconds.
        draw: returns random numbers of at least 0 and below 1.
        tracks_tables: returns whether all writes of tables move versions from now on.
        verification: verifies a share of the hits, ``None`` for none.
        prices: of an outdated answer, for tuned lifetimes and for advice.

    Attributes:
        region: its entries and counts.
        keys: its keys.
        lifetimes: of its values.
        wrapper: the function that callers use.

    Raises:
        KnitPerfError: ``ignore`` names no parameter of the function.
    """

    def __init__(
        self, function: Callable[..., Any], options: Options, store: Store,
        invalidation: Invalidation, bypasses: list[Any], is_bypassed: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic, observer: ReadObserver = NO_OBSERVER,
        draw: Callable[[], float] = random.random, host: Host | None = None,
        tracks_tables: Callable[[], bool] = lambda: False, verification: Verification | None = None,
        prices: tuple[StalePrice, StalePrice] | None = None,
    ) -> None:  # fmt: skip
        self.function, self.options = function, options
        profiled = getattr(function, "__knitperf_profiled__", None)
        if profiled is not None:
            profiled.is_cached = True
        self.region = Region(options.namespace)
        self.keys = CallKeys(function, options.keys, self.region.overhead)
        self._store, self._invalidation, self._clock = store, invalidation, clock
        self._bypasses, self._is_bypassed, self._observer = bypasses, is_bypassed, observer
        self._tracks_tables, self._verification = tracks_tables, verification
        self._lookup = Lookup(self.region, invalidation, observer, clock)
        self.lifetimes = Lifetimes(function, options, *(prices or (StalePrice(), StalePrice())))
        self._admission = Admission(
            self.region, store, options, self.keys, self._lookup, observer, clock, draw,
            self.lifetimes,
        )  # fmt: skip
        self._misses = Misses()
        self._flights = SingleFlight(MAX_WAIT_S)
        self._slots = (ALL, namespace_slot(options.namespace), *map(tag_slot, options.tags))
        self._sharing = None
        if host is not None and options.share is not False and not self.keys.is_method:
            self._sharing = Sharing(
                self.region, store, invalidation, host, self._digests(host.identity),
                always=options.share, max_wait_s=MAX_WAIT_S, clock=clock,
                refresh_time=self._admission.refresh_time, server=self._server_sharing(host),
            )  # fmt: skip
        self._admission.sharing = self._sharing
        self.is_async = inspect.iscoroutinefunction(function)
        environment = {
            "get": self.region.entries.get, "words": invalidation.words, "index": EPOCH,
            "now": clock, "bypasses": bypasses, "miss": self._miss_async if self.is_async else self.miss,
            "verify": self._verify,
        }  # fmt: skip
        wrapper = self.keys.compile(environment, is_async=self.is_async)
        self._scope = wrapper.__globals__
        self._code = _code_of(function)
        self.wrapper = functools.update_wrapper(wrapper, function)
        invalidation.subscribe(self)

    def _digests(self, identity: Callable[[Callable[..., Any]], bytes]) -> KeyDigests:
        """Return the digests of keys among processes that have an identity of the function in common."""
        function, options = self.function, self.options
        return KeyDigests(
            self.region.namespace, lambda: (identity(function), *options.shared()),
            functools.partial(enclosed_digest, function)
            if getattr(function, "__closure__", None) else None,
        )  # fmt: skip

    def _server_sharing(self, host: Host) -> ServerSharing:
        return ServerSharing(
            self.region, self._store, self._invalidation, host.server,
            self._digests(host.identity_of_hosts), self._slots, always=bool(self.options.share),
            clock=self._clock, refresh_time=self._admission.refresh_time,
        )  # fmt: skip

    def use(self, words: memoryview) -> None:
        """Compare epochs in ``words`` from now on."""
        self._scope["_knitperf_words"] = words

    # -- misses -----------------------------------------------------------------------

    def miss(self, key: Hashable, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the result of a call whose value was not found at once.

        Args:
            key: of the call.
            args: positional arguments.
            kwargs: keyword arguments.

        Raises:
            Exception: that of the function.
        """
        if self._bypasses and self._is_bypassed():
            self.region.bypassed += is_counted()
            return self.function(*args, **kwargs)
        entry = self.region.entries.get(key)
        if (  # something else was invalidated: the common case, and nothing of the below is needed
            entry is not None
            and self._clock() < entry.until
            and self._lookup.is_valid(entry)
            and not self._is_replaced()
        ):
            return self._hit(entry, key, args, kwargs)
        request = self._observer.request(self.wrapper)
        if request.is_unsafe_view:
            self.region.bypassed += 1
            return self.function(*args, **kwargs)
        if self._is_replaced():
            args = self._renew(args)
            key = self.keys.of_call(args, kwargs)
        load = functools.partial(self._load, key, args, kwargs, request)
        for _ in range(_MAX_FOLLOWED):
            routed = self._lookup.routed(key)
            entry = self._lookup.servable(routed, self._tolerated(routed))
            if entry is not None and not entry.claim_refresh(self._clock()):
                return self._hit(entry, key, args, kwargs)
            if self._admission.is_refused(routed):  # waiting for a value of one caller is in vain
                break
            (value, entry), is_own = self._flights.run(routed, functools.partial(load, entry))
            if is_own:
                return _result(value)
            self.region.shared_loads += 1
            if entry is not None and self._is_for_this_call(entry, key):
                return self._serve(entry)
        return _result(load()[0])

    async def _miss_async(
        self, key: Hashable, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if self._bypasses and self._is_bypassed():
            self.region.bypassed += is_counted()
            return await self.function(*args, **kwargs)
        request = self._observer.request(self.wrapper)
        if request.is_unsafe_view:
            self.region.bypassed += 1
            return await self.function(*args, **kwargs)
        if self._is_replaced():
            args = self._renew(args)
            key = self.keys.of_call(args, kwargs)
        load = functools.partial(self._load_async, key, args, kwargs, request)
        for _ in range(_MAX_FOLLOWED):
            routed = self._lookup.routed(key)
            entry = self._lookup.servable(routed, self._tolerated(routed))
            if entry is not None and not entry.claim_refresh(self._clock()):
                return self._hit(entry, key, args, kwargs)
            if self._admission.is_refused(routed):
                break
            (value, entry), is_own = await self._flights.run_async(
                routed, functools.partial(load, entry)
            )
            if is_own:
                return _result(value)
            self.region.shared_loads += 1
            if entry is not None and self._is_for_this_call(entry, key):
                return self._serve(entry)
        return _result((await load())[0])

    def _is_replaced(self) -> bool:
        """Return whether the code of the function was replaced in place, as reloaders do."""
        code, defaults = self._code
        function: Any = self.function
        return code is not None and (
            function.__code__ is not code or function.__defaults__ is not defaults
        )

    def _renew(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Drop all values of the former code; return the arguments of a call with the new defaults."""
        function: Any = self.function
        (_, former), self._code = self._code, (function.__code__, function.__defaults__)
        self._scope["_knitperf_code"], self._scope["_knitperf_defaults"] = self._code
        wrapper: Any = self.wrapper
        wrapper.__defaults__, wrapper.__kwdefaults__ = (
            function.__defaults__,
            function.__kwdefaults__,
        )
        for entry in list(self.region.entries.values()):
            self._store.remove(entry)
        if self._sharing is not None:
            self._sharing.forget()
        if not former or len(former) != len(function.__defaults__ or ()):
            return args
        first = function.__code__.co_argcount - len(former)
        return tuple(
            function.__defaults__[place - first]
            if 0 <= place - first < len(former) and value is former[place - first] else value
            for place, value in enumerate(args)
        )  # fmt: skip

    def _is_for_this_call(self, entry: Entry, key: Hashable) -> bool:
        """Return whether a value that another call has loaded meanwhile is right for this one."""
        return entry.key in (key, self._lookup.routed(key)) and self._lookup.is_valid(entry)

    def _tolerated(self, key: Hashable) -> float:
        """Return the seconds after the expiry in which a value is returned: 0 if nothing loads."""
        return self.options.stale if self._flights.is_loading(key) else 0.0

    def _hit(
        self, entry: Entry, key: Hashable, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        value = self._serve(entry)
        served = SERVED.get()
        if served is not None:
            served.append((self, entry, key, args, kwargs))
        elif entry.uses >= entry.verify_at:
            self._verify(entry, key, args, kwargs)
        return value

    def _verify(
        self, entry: Entry, key: Hashable, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Have a hit verified; called for those whose turn it is."""
        if self._verification is not None:
            self._verification.add(self, entry, key, args, kwargs)

    def _serve(self, entry: Entry) -> Any:
        if RUNNING:
            pass_on(entry.slots, entry.sources, self._invalidation.words, entry.expires)
        span = CURRENT.get()
        if span is not None:
            count(span, PartKind.CACHE_HIT.value)
        value = entry.serve()
        if entry.raises:
            raise copy_of(value) or value
        return value

    # -- loads ---------------------------------------------------------------------------------------

    def _load(
        self,
        key: Hashable,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        request: CurrentRequest,
        due: Entry | None = None,
    ) -> tuple[Any, Entry | None]:
        """Call the function; return its result, and its entry if it was cached.

        Args:
            key: of the call.
            args: positional arguments.
            kwargs: keyword arguments.
            request: that of the call.
            due: the entry that is to be replaced although it is still valid.
        """
        routed = self._lookup.routed(key)
        entry = self._loaded_since(routed, due)
        if entry is not None:
            return self._serve(entry), entry
        flight = self._host_flight(routed, due, request)
        if flight is None:
            return self._load_here(key, routed, args, kwargs, request)
        with flight:
            for pause in flight.pauses():
                time.sleep(pause)
            if flight.entry is not None:
                if self.options.warm:
                    flight.entry.call = call_of(args, kwargs)
                return self._fetched(flight.entry, due)
            return self._load_here(key, routed, args, kwargs, request)

    def _loaded_since(self, key: Hashable, due: Entry | None) -> Entry | None:
        """Return the entry that another call has loaded since this one looked, ``None`` to load."""
        entry = self._lookup.servable(key, 0.0)
        return None if entry is due else entry

    def _fetched(self, entry: Entry, due: Entry | None) -> tuple[Any, Entry]:
        """Return a value that another process has loaded, or the one that it is about to replace."""
        if entry is not due:
            self.region.count(CacheEvent.WARMED if IS_WARMING.get() else CacheEvent.FETCHED)
        if self._verification is not None and entry.verify_at == math.inf:
            entry.verify_at = self._verification.hits_until_next()
        return self._serve(entry), entry

    def _host_flight(
        self, key: Hashable, due: Entry | None, request: CurrentRequest
    ) -> HostFlight | None:  # fmt: skip
        """Return the load of a key among all processes, ``None`` if its value is not to be shared."""
        if self._sharing is None or request.is_view:
            return None
        return self._sharing.flight(key, due)

    def _load_here(
        self, key: Hashable, routed: Hashable, args: tuple[Any, ...], kwargs: dict[str, Any],
        request: CurrentRequest,
    ) -> tuple[Any, Entry | None]:  # fmt: skip
        load = self._begin(key, routed, args, kwargs, request)
        try:
            value = self.function(*args, **kwargs)
            entry = self._keep(value, load)
            return (value if entry is None else entry.of_loader(value)), entry
        except Exception as error:
            return self._failed(error, load)
        finally:
            load.close()

    async def _load_async(
        self,
        key: Hashable,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        request: CurrentRequest,
        due: Entry | None = None,
    ) -> tuple[Any, Entry | None]:
        routed = self._lookup.routed(key)
        entry = self._loaded_since(routed, due)
        if entry is not None:
            return self._serve(entry), entry
        flight = self._host_flight(routed, due, request)
        if flight is None:
            return await self._load_here_async(key, routed, args, kwargs, request)
        with flight:
            for pause in flight.pauses():
                import asyncio  # most processes have no tasks

                await asyncio.sleep(pause)
            if flight.entry is not None:
                return self._fetched(flight.entry, due)
            return await self._load_here_async(key, routed, args, kwargs, request)

    async def _load_here_async(
        self, key: Hashable, routed: Hashable, args: tuple[Any, ...], kwargs: dict[str, Any],
        request: CurrentRequest,
    ) -> tuple[Any, Entry | None]:  # fmt: skip
        load = self._begin(key, routed, args, kwargs, request)
        try:
            value = await self.function(*args, **kwargs)
            entry = self._keep(value, load)
            return (value if entry is None else entry.of_loader(value)), entry
        except Exception as error:
            return self._failed(error, load)
        finally:
            load.close()

    def _begin(
        self, key: Hashable, routed: Hashable, args: tuple[Any, ...], kwargs: dict[str, Any],
        request: CurrentRequest,
    ) -> Load:  # fmt: skip
        before = self.region.entries.get(routed)
        reason = self._reason(key, routed, before)
        if IS_WARMING.get():
            self.region.warmed += 1
        else:
            self.region.count(reason)
            self._misses.note(routed, _REASONS[reason])
        span = CURRENT.get()
        if span is not None:
            count(span, PartKind.CACHE_LOAD.value)
        self._admission.forget_instances()
        load = Load(
            key, before, self._code, self._invalidation, self._slots, self._observer,
            functools.partial(self.keys.vary, args, kwargs), self._clock,
            request, self.options.depends, self._bypasses,
            self._tracks_tables, self.lifetimes.planned(routed),
        )  # fmt: skip
        load.was_invalidated = reason is CacheEvent.INVALIDATED
        load.call = call_of(args, kwargs) if self.options.warm else None
        return load

    def _reason(self, key: Hashable, routed: Hashable, before: Entry | None) -> CacheEvent:
        """Return why an entry cannot be served, ``None`` for a missing one."""
        if before is None:
            return self.region.take_removed(routed, key)
        if before.expires <= self._clock():
            return CacheEvent.EXPIRED
        return CacheEvent.EARLY if self._lookup.is_valid(before) else CacheEvent.INVALIDATED

    def _failed(self, error: Exception, load: Load) -> tuple[Any, Entry | None]:
        """Return the old value in place of an error, where that is allowed; else raise the error."""
        raise_if_of_host(error)  # a signal handler's: it is not that of the function
        if self._sharing is not None:
            self._sharing.note_failed()
        before = load.before
        if isinstance(error, self.options.errors):
            kept = copy_of(error)
            if kept is None:  # its callers would share what it refers to
                raise error
            self._keep(kept, load, raises=True)
            raise error
        if (
            before is not None
            and not before.raises
            and self._clock() < before.expires + self.options.stale_if_error
            and self._lookup.is_valid(before)
        ):
            self.region.stale += before.expires <= self._clock()
            return self._serve(before), before
        if load.unkeyed() or load.effects or not load.routing.issubset(self.region.routing):
            return _PrivateError(error), None  # it is that of this request: no other call gets it
        raise error

    def _keep(self, value: Any, load: Load, *, raises: bool = False) -> Entry | None:
        """Cache a result, or an exception; return its entry, ``None`` if it was refused."""
        if load.code != self._code:  # it was replaced meanwhile
            self.region.load_seconds += self._clock() - load.began
            return None
        entry = self._admission.admit(value, load, raises=raises)
        if entry is not None and not raises and self._verification is not None:
            entry.verify_at = self._verification.hits_until_next()
        return entry

    # -- for warming ---------------------------------------------------------------------------------

    def entry_of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Entry | None:
        """Return the entry that would be served to a call, ``None`` without one."""
        return self._lookup.servable(self._lookup.routed(self.keys.of_call(args, kwargs)), 0.0)

    def is_valid(self, entry: Entry) -> bool:
        """Return whether nothing has changed that an entry depends on, however old it is."""
        return self._lookup.is_valid(entry)

    def load_ahead(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Entry | None:
        """Load the value of a call that no caller waits for; return its entry, ``None`` if refused.

        A valid value is replaced. Concurrent calls wait for this load where there is none.

        Raises:
            Exception: that of the function.
        """
        if self._is_replaced():
            args = self._renew(args)
        key = self.keys.of_call(args, kwargs)
        routed = self._lookup.routed(key)
        due = self._lookup.servable(routed, 0.0)
        request = self._observer.request(self.wrapper)
        load = functools.partial(self._load, key, args, kwargs, request, due)
        token = IS_WARMING.set(True)
        entry: Entry | None
        try:
            (value, entry), _ = self._flights.run(routed, load)
        finally:
            IS_WARMING.reset(token)
        _result(value)
        return entry

    # -- for verification -----------------------------------------------------------------------------

    @property
    def words(self) -> memoryview:
        """The versions that the slots of entries refer to."""
        return self._invalidation.words

    def age(self, entry: Entry) -> float:
        """Return the seconds for which an entry has been stored."""
        return self._clock() - entry.born

    def is_served(self, entry: Entry) -> bool:
        """Return whether a call would be answered with an entry now."""
        return (
            entry.place >= 0
            and self._clock() < entry.expires
            and self._lookup.is_valid(entry)
            and not self._is_replaced()
        )

    def discard(self, entry: Entry) -> None:
        """Remove a value that is out of date, also from what other processes find."""
        if self._sharing is not None:
            self._sharing.remove(entry.key)
        self._store.remove(entry)
        self.region.remember_removed(entry.key, CacheEvent.INVALIDATED)

    def explain(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Explanation:
        """Return the state of a call in this process; the function is not called."""
        key = self._lookup.routed(self.keys.of_call(args, kwargs))
        entry = self.region.entries.get(key)
        return explanation(
            key, entry, self.region, self.options,
            is_valid=entry is not None and self._lookup.is_valid(entry), now=self._clock(),
            last_miss=self._misses.reason(key), refused=self._admission.refused,
        )  # fmt: skip


def _code_of(function: Any) -> tuple[Any, Any]:
    """Return the code and the defaults of a function, ``None`` where it has none."""
    return getattr(function, "__code__", None), getattr(function, "__defaults__", None)


class _PrivateError(NamedTuple):
    """Result of a load whose error belongs to its caller: calls that wait load for themselves."""

    error: Exception


def _result(value: Any) -> Any:
    """Return a loaded value; raise the error that belongs to this caller."""
    if type(value) is _PrivateError:
        raise value.error
    return value
