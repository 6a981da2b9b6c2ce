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
import logging
import math
import random
import time
from collections import defaultdict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any, NamedTuple, TypedDict, cast

from ..core.host_exceptions import SuppressOwn, raise_if_of_host
from ..core.printable import printable
from ..metrics.catalogue import PartKind
from ..recording.span import current
from ..storage.versions import EPOCH
from .cacheability import NotCacheable
from .call_keys import CallKeys, KeyOptions, count, name_of
from .code_identity import callable_digest, enclosed_digest
from .dependencies import CHECK_S, RUNNING, Declared, Problem, pass_on
from .early_refresh import refresh_time
from .invalidation import ALL, Invalidation, namespace_slot, tag_slot
from .load import Load
from .load_reads import CURRENT_READS, NO_OBSERVER, Read, ReadObserver, description, repair, unkeyed
from .refusals import TOO_LARGE, UnkeyedRead
from .region import Entry, Region
from .responses import METHODS, is_response, isolate_result
from .sharing import Host, HostFlight, Sharing
from .single_flight import SingleFlight, copy_of
from .sizes import size_of
from .store import Store

log = logging.getLogger("flask_knitperf")
MAX_WAIT_S = 20.0
"""Longest time that a call waits for another one that loads the same key."""
MAX_EXPLAINED = 500
"""Number of keys of a function whose latest miss is remembered."""
_MAX_FOLLOWED = 3
"""Number of loads that a call waits for, each of which is out of date when it ends."""


class Explanation(TypedDict):
    """State of one call of a cached function, in this process.

    Attributes:
        namespace: of the function.
        key: the key, as a text; content that is not plain text or a whole number is a digest.
        cached: whether a call would be answered from the cache now.
        last_miss: why the latest look-up missed, ``None`` if none is remembered.
        refused: why the latest result of the function was not cached, ``None`` if it was.
        age_s: seconds since the value was cached.
        expires_in_s: seconds until it expires, ``None`` if it does not.
        bytes: estimated bytes of the value.
        load_s: seconds that its load took.
        depends_on: everything whose change invalidates it or makes another key.
    """

    namespace: str
    key: str
    cached: bool
    last_miss: str | None
    refused: str | None
    age_s: float | None
    expires_in_s: float | None
    bytes: int | None
    load_s: float | None
    depends_on: list[str]


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a cached function.

    Attributes:
        namespace: name under which it is reported and invalidated.
        ttl: seconds until a value expires.
        tags: names by which its values are invalidated too.
        keys: what of a call is its key.
        errors: exceptions that are cached like values.
        stale: seconds after the expiry in which the old value is served while one call loads.
        stale_if_error: seconds after the expiry in which the old value is served if loading raises.
        early: factor of the mean time before the expiry at which one call loads a value again, in load
            times; 0 for never.
        share: whether other processes find its values; ``None`` by their size.
        depends: what its values depend on.
    """

    namespace: str
    ttl: float = math.inf
    tags: tuple[str, ...] = ()
    keys: KeyOptions = field(default_factory=KeyOptions)
    errors: tuple[type[Exception], ...] = ()
    stale: float = 0.0
    stale_if_error: float = 0.0
    early: float = 0.0
    share: bool | None = None
    depends: Declared = field(default_factory=Declared)


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

    Attributes:
        region: its entries and counts.
        keys: its keys.
        wrapper: the function that callers use.

    Raises:
        KnitPerfError: ``ignore`` names no parameter of the function.
    """

    def __init__(
        self, function: Callable[..., Any], options: Options, store: Store,
        invalidation: Invalidation, bypasses: list[Any], is_bypassed: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic, observer: ReadObserver = NO_OBSERVER,
        draw: Callable[[], float] = random.random, host: Host | None = None,
        tracks_tables: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        self.function, self.options = function, options
        self.keys = CallKeys(function, options.keys)
        self.region = Region(options.namespace)
        self._store, self._invalidation, self._clock = store, invalidation, clock
        self._bypasses, self._is_bypassed, self._observer = bypasses, is_bypassed, observer
        self._draw, self._tracks_tables = draw, tracks_tables
        self._flights = SingleFlight(MAX_WAIT_S)
        self._sharing = None
        if host is not None and options.share is not False and not self.keys.is_method:
            self._sharing = Sharing(
                self.region, store, invalidation, host,
                lambda: (host.identity(function), *_shared_options(options)),
                always=options.share, max_wait_s=MAX_WAIT_S, clock=clock,
                refresh_time=self._refresh_time,
                variables=functools.partial(enclosed_digest, function)
                if getattr(function, "__closure__", None) else None,
            )  # fmt: skip
        self._slots = (ALL, namespace_slot(options.namespace), *map(tag_slot, options.tags))
        self._misses: dict[Hashable, str] = {}  # the latest reasons, by key, oldest first
        self._refused = ""  # why the latest result was not cached
        self._refused_keys: set[Hashable] = set()  # whose latest results could not be cached
        self._of_instance: defaultdict[int, set[Hashable]] = defaultdict(set)
        self.is_async = inspect.iscoroutinefunction(function)
        environment = {
            "get": self.region.entries.get, "words": invalidation.words, "index": EPOCH,
            "now": clock, "bypasses": bypasses, "miss": self._miss_async if self.is_async else self.miss,
        }  # fmt: skip
        wrapper = self.keys.compile(environment, is_async=self.is_async)
        self._scope = wrapper.__globals__
        self._code = _code_of(function)
        self.wrapper = functools.update_wrapper(wrapper, function)
        invalidation.subscribe(self)

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
            self.region.bypassed += 1
            return self.function(*args, **kwargs)
        entry = self.region.entries.get(key)
        if (  # something else was invalidated: the common case, and nothing of the below is needed
            entry is not None
            and self._clock() < entry.until
            and self._is_valid(entry)
            and not self._is_replaced()
        ):
            return self._serve(entry)
        if self._is_unsafe():
            self.region.bypassed += 1
            return self.function(*args, **kwargs)
        if self._is_replaced():
            args = self._renew(args)
            key = self.keys.of_call(args, kwargs)
        load = functools.partial(self._load, key, args, kwargs)
        for _ in range(_MAX_FOLLOWED):
            routed = self._routed(key)
            entry = self._servable(routed, self._tolerated(routed))
            if entry is not None and not entry.claim_refresh(self._clock()):
                return self._serve(entry)
            if routed in self._refused_keys:  # waiting for a value of one caller is in vain
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
            self.region.bypassed += 1
            return await self.function(*args, **kwargs)
        if self._is_unsafe():
            self.region.bypassed += 1
            return await self.function(*args, **kwargs)
        if self._is_replaced():
            args = self._renew(args)
            key = self.keys.of_call(args, kwargs)
        load = functools.partial(self._load_async, key, args, kwargs)
        for _ in range(_MAX_FOLLOWED):
            routed = self._routed(key)
            entry = self._servable(routed, self._tolerated(routed))
            if entry is not None and not entry.claim_refresh(self._clock()):
                return self._serve(entry)
            if routed in self._refused_keys:
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

    def _is_unsafe(self) -> bool:
        """Return whether the call is a view's for a request that may change something."""
        method, is_view = self._observer.request(self.wrapper)
        return is_view and method is not None and method not in METHODS

    def _is_valid(self, entry: Entry) -> bool:
        """Return whether nothing has changed that an entry depends on; check its files if due."""
        if not self._invalidation.is_valid(entry):
            return False
        if entry.sources is None:
            return True
        now = self._clock()
        if now >= entry.check_at:
            if entry.sources.changed_file():
                return False
            entry.check_again(now + CHECK_S)
        return True

    def _is_replaced(self) -> bool:
        """Return whether the code of the function was replaced in place, as reloaders do."""
        (code, defaults), function = self._code, cast("FunctionType", self.function)
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

    def _servable(self, key: Hashable, stale: float) -> Entry | None:
        """Return the entry of a key, ``None`` if it is missing, invalidated or too old.

        Args:
            key: of the call.
            stale: seconds after its expiry in which a value is still returned.
        """
        entry = self.region.entries.get(key)
        if entry is None or not self._is_valid(entry):
            return None
        age = self._clock() - entry.expires
        if age >= 0:
            if age >= stale:
                return None
            self.region.stale += 1
        return entry

    def _routed(self, key: Hashable) -> Hashable:
        """Return the key of an entry: with the routing data that loads of the function have read."""
        names = self.region.routing
        if not names:
            return key
        reads = CURRENT_READS.get()
        if reads is not None:  # a load around this call depends on its routing too
            for name in names:
                reads.add_routing(name)
        return key, self._observer.routing(names)

    def _is_for_this_call(self, entry: Entry, key: Hashable) -> bool:
        """Return whether a value that another call has loaded meanwhile is right for this one."""
        return entry.key in (key, self._routed(key)) and self._is_valid(entry)

    def _tolerated(self, key: Hashable) -> float:
        """Return the seconds after the expiry in which a value is returned: 0 if nothing loads."""
        return self.options.stale if self._flights.is_loading(key) else 0.0

    def _serve(self, entry: Entry) -> Any:
        if RUNNING:
            pass_on(entry.slots, entry.sources, self._invalidation.words, entry.expires)
        self._count_for_request(PartKind.CACHE_HIT)
        value = entry.serve()
        if entry.raises:
            raise copy_of(value) or value
        return value

    @staticmethod
    def _count_for_request(event: PartKind) -> None:
        span = current()
        if span is not None:
            count(span, event.value)

    # -- loads ---------------------------------------------------------------------------------------

    def _load(
        self, key: Hashable, args: tuple[Any, ...], kwargs: dict[str, Any], due: Entry | None = None
    ) -> tuple[Any, Entry | None]:
        """Call the function; return its result, and its entry if it was cached.

        Args:
            key: of the call.
            args: positional arguments.
            kwargs: keyword arguments.
            due: the entry that is to be replaced although it is still valid.
        """
        routed = self._routed(key)
        entry = self._servable(routed, 0.0)
        if entry is not None and entry is not due:  # loaded by another call since this one looked
            return self._serve(entry), entry
        flight = self._host_flight(routed, due)
        if flight is None:
            return self._load_here(key, routed, args, kwargs)
        with flight:
            for pause in flight.pauses():
                time.sleep(pause)
            if flight.entry is not None:
                self.region.fetched += flight.entry is not due
                return self._serve(flight.entry), flight.entry
            return self._load_here(key, routed, args, kwargs)

    def _host_flight(self, key: Hashable, due: Entry | None) -> HostFlight | None:
        """Return the load of a key among all processes, ``None`` if its value is not to be shared."""
        if self._sharing is None or self._observer.request(self.wrapper).is_view:
            return None
        return self._sharing.flight(key, due)

    def _load_here(
        self, key: Hashable, routed: Hashable, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, Entry | None]:
        load = self._begin(key, routed, args, kwargs)
        try:
            value = self.function(*args, **kwargs)
            entry = self.keep(value, load)
            return (value if entry is None else entry.of_loader(value)), entry
        except Exception as error:
            return self._failed(error, load)
        finally:
            load.close()

    async def _load_async(
        self, key: Hashable, args: tuple[Any, ...], kwargs: dict[str, Any], due: Entry | None = None
    ) -> tuple[Any, Entry | None]:
        routed = self._routed(key)
        entry = self._servable(routed, 0.0)
        if entry is not None and entry is not due:
            return self._serve(entry), entry
        flight = self._host_flight(routed, due)
        if flight is None:
            return await self._load_here_async(key, routed, args, kwargs)
        with flight:
            for pause in flight.pauses():
                import asyncio  # most processes have no tasks

                await asyncio.sleep(pause)
            if flight.entry is not None:
                self.region.fetched += flight.entry is not due
                return self._serve(flight.entry), flight.entry
            return await self._load_here_async(key, routed, args, kwargs)

    async def _load_here_async(
        self, key: Hashable, routed: Hashable, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, Entry | None]:
        load = self._begin(key, routed, args, kwargs)
        try:
            value = await self.function(*args, **kwargs)
            entry = self.keep(value, load)
            return (value if entry is None else entry.of_loader(value)), entry
        except Exception as error:
            return self._failed(error, load)
        finally:
            load.close()

    def _begin(
        self, key: Hashable, routed: Hashable, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Load:
        region, before = self.region, self.region.entries.get(routed)
        if before is None:
            region.cold += 1
            reason = "evicted, or never cached" if routed in self._misses else "never cached"
        elif before.expires <= self._clock():
            region.expired += 1
            reason = "expired"
        elif self._is_valid(before):
            region.early += 1
            reason = "expires soon"
        else:
            region.invalidated += 1
            reason = "invalidated"
        self._note_miss(routed, reason)
        self._count_for_request(PartKind.CACHE_LOAD)
        self._forget_instances()
        return Load(
            key, before, self._code, self._invalidation, self._slots, self._observer,
            functools.partial(self.keys.vary, args, kwargs), self._clock,
            self._observer.request(self.wrapper), self.options.depends, self._bypasses,
            self._tracks_tables, self.options.ttl,
        )  # fmt: skip

    def _refresh_time(self, expires: float, seconds: float) -> float:
        """Return the time from which one call loads a value again that took some seconds to load."""
        early = self.options.early
        return (
            refresh_time(self._clock(), expires, seconds, early, self._draw()) if early else expires
        )

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
            self.keep(kept, load, raises=True)
            raise error
        if (
            before is not None
            and not before.raises
            and self._clock() < before.expires + self.options.stale_if_error
            and self._is_valid(before)
        ):
            self.region.stale += before.expires <= self._clock()
            return self._serve(before), before
        if load.unkeyed() or load.effects or not load.routing.issubset(self.region.routing):
            return _PrivateError(error), None  # it is that of this request: no other call gets it
        raise error

    def _note_miss(self, key: Hashable, reason: str) -> None:
        """Remember why a look-up missed, of the latest :data:`MAX_EXPLAINED` keys."""
        misses = self._misses
        misses.pop(key, None)
        misses[key] = reason
        if len(misses) > MAX_EXPLAINED:
            with SuppressOwn(KeyError, RuntimeError, StopIteration):  # another thread does the same
                del misses[next(iter(misses))]

    def explain(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Explanation:
        """Return the state of a call in this process; the function is not called."""
        key = self._routed(self.keys.of_call(args, kwargs))
        entry, now = self.region.entries.get(key), self._clock()
        is_valid = entry is not None and self._is_valid(entry)
        forever = entry is None or entry.expires == math.inf
        return {
            "namespace": self.options.namespace,
            "key": printable_key(key),
            "cached": is_valid and entry is not None and now < entry.expires,
            "last_miss": self._misses.get(key),
            "refused": self._refused or None,
            "age_s": None if entry is None else now - entry.born,
            "expires_in_s": None if forever or entry is None else entry.expires - now,
            "bytes": None if entry is None else entry.size,
            "load_s": None if entry is None else entry.cost,
            "depends_on": [
                f"namespace {self.options.namespace}", *(f"tag {tag}" for tag in self.options.tags),
                *(f"request.{name}" for name in self.region.routing),
                *self.options.depends.names(),
                *(() if entry is None or entry.sources is None else entry.sources.names()),
            ],
        }  # fmt: skip

    def keep(self, value: Any, load: Load, *, raises: bool = False) -> Entry | None:
        """Cache a result, or an exception; return its entry, ``None`` if it was refused."""
        key, now = load.key, self._clock()
        seconds = now - load.began
        self.region.load_seconds += seconds
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
        if not load.routing.issubset(self.region.routing):
            self.region.routing = tuple(sorted(load.routing.union(self.region.routing)))
        if load.routing:
            key = self._routed(key)
        before = self.region.entries.get(key)
        if load.code != self._code or (
            before is not None and before.born > load.began and self._is_valid(before)
        ):
            return None  # the code was replaced meanwhile, or a later load was faster
        expires = min(now + self.options.ttl, load.expires)
        entry = Entry(
            self.region, key, value if raises else None, cost=seconds, raises=raises, expires=expires,
            refresh=self._refresh_time(expires, seconds), epoch=load.epoch, slots=load.slots,
            versions=load.versions, sources=load.sources, check_at=now + CHECK_S,
        )  # fmt: skip
        is_shared = (
            not raises
            and self._sharing is not None
            and not load.request.is_view
            and self._sharing.publish(key, value, entry)
        )
        if not raises and not is_shared:
            try:
                kept, copy, size = isolate_result(value, load.request)
            except NotCacheable as reason:
                self._refuse(key, str(reason))
                return None
            entry.set_value(kept, copy, size + size_of((key,)))
        if not self._store.add(entry):
            self._refuse(key, TOO_LARGE)
            return None
        self._refused_keys.discard(key)
        self._refused = ""
        if self.keys.is_method:
            self._note_instance(key)
        return entry

    def _note_instance(self, key: Any) -> None:
        """Note that an entry belongs to an instance, if its key begins with the number of one."""
        call = key[0] if self.region.routing and isinstance(key[0], tuple) else key
        if not isinstance(call[0], int):
            return
        keys = self._of_instance[call[0]]
        keys.add(key)
        if len(keys) > 2 * len(self.region.entries) + MAX_EXPLAINED:
            self._of_instance[call[0]] = {one for one in keys if one in self.region.entries}

    def _refuse_unkeyed(self, key: Hashable, reads: dict[Read, str], seconds: float) -> None:
        """Count a result that depends on the request beyond its key; its load took some seconds."""
        self.region.unkeyed += 1
        self.region.unkeyed_reads = reads
        endpoint, method = self._observer.endpoint()
        for (source, name), where in reads.items():
            read = UnkeyedRead(endpoint, method, name_of(self.function), source, name, where)
            self.region.refusals.add_unkeyed(read, seconds)
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
        self.region.refusals.add(reason)
        self._note_refused(key, reason if problem is None else str(problem))
        if problem is None or not problem.is_passing:
            self._count_refused(reason)

    def _note_refused(self, key: Hashable, reason: str) -> None:
        """Remember that the latest result of a key was not cached."""
        if len(self._refused_keys) >= MAX_EXPLAINED:
            self._refused_keys.clear()
        self._refused_keys.add(key)
        self._refused = reason
        if self._sharing is not None:
            self._sharing.note_failed()

    def _count_refused(self, reason: str) -> None:
        """Count a result that is not cached; log the first one."""
        self.region.refused += 1
        if self.region.refused == 1:
            text = printable(f"{name_of(self.function)} is not cached: {reason}")
            log.warning("flask_knitperf: %s", text)

    def _forget_instances(self) -> None:
        """Remove the entries of instances that were freed."""
        gone = self.keys.instances.gone
        while gone:
            for key in self._of_instance.pop(gone.popleft(), ()):
                entry = self.region.entries.get(key)
                if entry is not None:
                    self._store.remove(entry)


def _code_of(function: Any) -> tuple[Any, Any]:
    """Return the code and the defaults of a function, ``None`` where it has none."""
    return getattr(function, "__code__", None), getattr(function, "__defaults__", None)


def _shared_options(options: Options) -> tuple[Any, ...]:
    """Return the options that two caches of one function must have in common to share values.

    Raises:
        NotShareable: a function among them encloses a value without content.
    """
    keys = options.keys
    return (
        options.ttl, options.tags, options.depends, tuple(sorted(keys.ignore)),
        None if keys.key is None else callable_digest(keys.key), tuple(map(callable_digest, keys.vary)),
    )  # fmt: skip


def printable_key(key: Hashable) -> str:
    """Return a key as a text, digests in hexadecimal."""
    if isinstance(key, tuple):
        parts = [printable_key(part) for part in key if part is not ...]
        return ", ".join(parts) if ... in key else f"({', '.join(parts)})"
    return key.hex() if isinstance(key, bytes) else repr(key)


class _PrivateError(NamedTuple):
    """Result of a load whose error belongs to its caller: calls that wait load for themselves."""

    error: Exception


def _result(value: Any) -> Any:
    """Return a loaded value; raise the error that belongs to this caller."""
    if type(value) is _PrivateError:
        raise value.error
    return value
