"""``CacheOptimizer``: results of functions, cached so that no caller gets a wrong one."""

from __future__ import annotations

import inspect
import math
import random
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar, overload

from ..caching import warm_record
from ..caching.bypass import SLOW_PATH, bypass, is_bypassed
from ..caching.call_keys import KeyOptions, name_of
from ..caching.code_identity import CodeIdentity
from ..caching.dependencies import AUTO, Dependency, declared
from ..caching.explanation import Explanation
from ..caching.function_cache import FunctionCache
from ..caching.host_values import HostValues
from ..caching.invalidation import Invalidation
from ..caching.key_value_cache import KeyValueCache
from ..caching.lifetimes import TTLAdvice
from ..caching.load_reads import NO_OBSERVER, ReadObserver
from ..caching.observed import ObservedCache, PolledCache
from ..caching.observers import observe, observe_class
from ..caching.options import Options
from ..caching.read_cache import ReadCache
from ..caching.region import CacheCounts, Region, counts
from ..caching.sharing import Host
from ..caching.size_simulation import SizeAdvice, SizeSimulation, size_advice
from ..caching.store import Store
from ..caching.ttl_tuning import DEFAULT_BUDGET, StalePrice
from ..caching.verification import DEFAULT_EVERY, Verification
from ..caching.warming import WarmCounts, Warmer
from ..core.errors import KnitPerfError
from ..core.locks import create_lock
from ..core.units import MB
from ..metrics.catalogue import MAX_NAMESPACES, OBSERVED_CACHE
from ..metrics.instruments import OTHER

if TYPE_CHECKING:
    from pathlib import Path

    from ..caching.registry import Caches
    from ..caching.server.level import ServerLevel
    from ..caching.server.round_trips import ServerCounts
    from ..collectors.sql.cached_queries import CachedQueries
    from ..runtime.session import Session
    from ..storage.versions import Versions

Depends = str | Dependency | Iterable[str | Dependency]
F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
_NO_KEY = object()
DEFAULT_NAMESPACE = "default"
"""Namespace of ``get`` and ``put`` without one."""
DEFAULT_MAX_MB = 64.0
DEFAULT_WARM_SECONDS = 10.0
WARMING_JOB = "cache warming"
"""Name of the job of which each load ahead of a call is a run."""
MAX_PATTERNS_OF_ALL = 150
"""Number of patterns of keys that are distinguished, of all observed caches."""
_PATIENCE_S = 5.0
"""Seconds for which verification waits for a moment without another request in flight."""
_MAX_ENDED = 1000
"""Number of functions whose counts are kept after they were freed, until they are published."""


class CacheReport(TypedDict):
    """Statistics of a cache.

    Attributes:
        total: of all namespaces.
        namespaces: by name.
        evictions: number of values that were evicted for want of room.
        max_bytes: bytes that all values together may take.
        server: use of the server that hosts share, ``None`` without one.
    """

    total: CacheCounts
    namespaces: dict[str, CacheCounts]
    evictions: int
    max_bytes: int
    server: ServerCounts | None


class CacheOptimizer:
    """A cache of function results and of values under chosen keys.

    ``perf.cache`` is one for an application. ``CacheOptimizer()`` is one for a script: it has the same
    methods, and invalidation reaches this process alone.

    Args:
        max_mb: bytes of all values, in MB of 1024² bytes; by default ``KNITPERF_CACHE_MAX_MB``, which is
            64 without an application.
        resolve: returns the session of the current application, ``None`` without one.
        caches: the registry of caches.
        vary: by name, what an application may vary its answers by.
        observer: records what a load reads of the current request.
        configuration: returns the configuration of the application.
    """

    def __init__(
        self, max_mb: float | None = None, *, resolve: Callable[[], Session | None] = lambda: None,
        caches: Caches | None = None, vary: Mapping[str, Callable[[], Any]] | None = None,
        observer: ReadObserver = NO_OBSERVER, configuration: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:  # fmt: skip
        self._resolve, self._vary, self._observer = resolve, dict(vary or {}), observer
        self._store = Store(round((DEFAULT_MAX_MB if max_mb is None else max_mb) * MB))
        self._has_own_bound = max_mb is not None
        self._invalidation = Invalidation(self._versions, self._server)
        self._sizes = SizeSimulation(self._store, self._invalidation, time.monotonic)
        self._values = KeyValueCache(self._store, self._invalidation)
        self._functions: weakref.WeakSet[FunctionCache] = weakref.WeakSet()
        identity = CodeIdentity(configuration, lambda: self._setting("cache_per_host", ()))
        self._host = Host(
            HostValues(self._state_dir, lambda: self._setting("cache_shared_max_mb", 0.0) * MB),
            lambda: self._setting("cache_share_bytes", 0), identity.surroundings, identity.of,
            identity.of_hosts, self._server,
        )  # fmt: skip
        self._tracked: Versions | None = None  # those that writes of tables move
        self._ended: deque[Region] = deque(maxlen=_MAX_ENDED)  # of functions that were freed
        self._lock = create_lock()  # guards the set of functions
        self._reads: ReadCache | None = None
        self._prices = StalePrice(self._stale_budget), StalePrice(self._stale_budget)
        self._verification = Verification(
            self._verified_one_in, self._after_response, observer,
            self._tracks_tables, time.monotonic, time.time, random.random,
        )  # fmt: skip
        self._queries: CachedQueries | None = None
        self._has_application = caches is not None
        self._warmer = Warmer(
            self._all_functions, self._store, self._request, self._job,
            lambda function: observer.is_view(self._application(), function),
        )  # fmt: skip
        self._observed: dict[str, ObservedCache] = {}  # by name
        self._polled: list[PolledCache] = []
        self._patterns = 0  # that are distinguished, of all observed caches
        if caches is not None:
            caches.register(self._store, name="function results")

    def _versions(self) -> Versions | None:
        session = self._resolve()
        if session is None:
            return None
        if not self._has_own_bound:
            self._store.maxsize = round(session.settings.cache_max_mb * MB)
        return session.recorder.versions

    def _server(self) -> ServerLevel | None:
        """Return the server that hosts share, ``None`` without one."""
        session = self._resolve()
        return None if session is None else session.cache_server

    def _state_dir(self) -> Path | None:
        session = self._resolve()
        return None if session is None else session.recorder.state_dir()

    def _setting(self, name: str, default: T) -> T:
        session = self._resolve()
        value: T = default if session is None else getattr(session.settings, name)
        return value

    def _verified_one_in(self) -> int:
        """Return the mean number of hits of which one is verified, 0 for none.

        A load by chance would be one too many for a test of the application that counts them.
        """
        session = self._resolve()
        if session is None:
            return 0
        every = session.settings.cache_verify
        if every is None:
            return 0 if session.in_memory() else DEFAULT_EVERY
        return every

    def _stale_budget(self) -> float:
        return self._setting("cache_stale_budget", DEFAULT_BUDGET)

    def _after_response(self, job: Callable[[], None]) -> bool:
        """Have a job run once a response was sent; return whether it will."""
        session = self._resolve()
        if session is None:
            return False
        session.recorder.after_response.add(job, _PATIENCE_S, only_sent=True)
        return True

    def _tracks_tables(self) -> bool:
        """Return whether all writes of tables move versions from now on."""
        versions = self._invalidation.versions
        if versions is not self._tracked:
            from ..collectors import sql  # most scripts have no database

            sql.track_tables(versions)
            self._tracked = versions
        return versions.hold

    def attach(self) -> None:
        """Use the versions and the settings of the first application, and publish the counts there."""
        self._invalidation.forget()
        session = self._resolve()
        if session is not None:
            session.publish_cache(
                self._unpublished_regions, self._store, self._observed_caches, self._sizes
            )
            session.warm_cache(self._warmer)

    @property
    def reads(self) -> ReadCache:
        """Results of the readers of pandas, for applications with ``KNITPERF_REUSE_READS``."""
        if self._reads is None:
            self._reads = ReadCache(self._store, self._invalidation, is_bypassed, host=self._host)
        return self._reads

    @property
    def queries(self) -> CachedQueries:
        """Results of queries, see :meth:`.QueryOptimizer.cached`."""
        if self._queries is None:
            from ..caching.query_cache import QueryCache
            from ..collectors.sql.cached_queries import CachedQueries

            results = QueryCache(
                self._store, self._invalidation, is_bypassed, self._tracks_tables,
                observer=self._observer,
            )  # fmt: skip
            self._queries = CachedQueries(results, self._query_obstacle)
        return self._queries

    def _query_obstacle(self) -> str:
        """Return why no query may be cached: writes of other workers would be missed."""
        session = self._resolve()
        if session is None:
            return "there is no application that is enabled" if self._has_application else ""
        if not session.settings.queries:
            return "KNITPERF_QUERIES is off, so that workers do not publish their writes"
        is_shared = self._invalidation.versions.shared or self._state_dir() is None
        return "" if is_shared else "the state directory cannot be written"

    # -- functions -----------------------------------------------------------------------------------

    @overload
    def cached(self, function: F) -> F: ...

    @overload
    def cached(
        self, function: None = None, *, namespace: str | None = None,
        ttl: float | Literal["auto"] | None = None,
        tags: Iterable[str] = (), key: Callable[..., Any] | None = None, ignore: Iterable[str] = (),
        vary: str | Callable[[], Any] | Iterable[Any] = (),
        errors: type[Exception] | tuple[type[Exception], ...] = (), stale: float = 0.0,
        stale_if_error: float = 0.0, early: float = 0.0, share: bool | None = None,
        depends: Depends = AUTO, warm: bool | Callable[[], Iterable[Any]] = False,
    ) -> Callable[[F], F]: ...  # fmt: skip

    def cached(
        self, function: Callable[..., Any] | None = None, *, namespace: str | None = None,
        ttl: float | Literal["auto"] | None = None, tags: Iterable[str] = (),
        key: Callable[..., Any] | None = None, ignore: Iterable[str] = (),
        vary: str | Callable[[], Any] | Iterable[Any] = (),
        errors: type[Exception] | tuple[type[Exception], ...] = (), stale: float = 0.0,
        stale_if_error: float = 0.0, early: float = 0.0, share: bool | None = None,
        depends: Depends = AUTO, warm: bool | Callable[[], Iterable[Any]] = False,
    ) -> Any:  # fmt: skip
        """Cache the results of a function, a coroutine function, a method or a view.

        Its arguments are the key, by content and type; an argument without content, such as an open
        file, raises. Each caller gets a separate copy. Of several concurrent calls with one key one
        loads, and the others wait for it. Results are cached per instance where the function is a
        method, unless ``key`` is given. A view is called for each request other than ``GET`` and
        ``HEAD``, and a response is cached only if it is the same for all clients.

        Args:
            function: the function; without one the result is a decorator with these options.
            namespace: name for statistics and :meth:`invalidate`; that of the function by default.
            ttl: seconds until a value expires; never by default. ``"auto"`` tunes the lifetime of each
                value, see :meth:`optimize_ttl`.
            tags: names by which :meth:`invalidate` finds its values too.
            key: called with the arguments; its result is the key in place of them.
            ignore: names of parameters that the result does not depend on.
            vary: functions without arguments whose results are a part of the key too, or names:
                ``user``, ``url``, ``host``.
            errors: exceptions that are cached like results; others are raised and not cached.
            stale: seconds after ``ttl`` in which other calls get the old value while one loads.
            stale_if_error: seconds after ``ttl`` in which the old value is returned if loading raises.
            early: one call loads a value again shortly before it expires, and the others are served the
                old one meanwhile. The lead time is random, on average ``early`` times the time that its
                load took; 1 is usual, and it is off by default.
            share: whether other workers of the host find its values in files; by default those of
                ``KNITPERF_CACHE_SHARE_BYTES`` or more.
            depends: what invalidates a value besides: ``"auto"`` is each file, folder and database table
                that its load reads; :class:`.File`, :class:`.Folder`, :class:`.Table` and :class:`.Tag`
                name one. Several are a list, and ``()`` is nothing.
            warm: whether values are loaded before a call needs them: at the start of a worker the most
                valuable ones of former runs, and later those that are about to expire or were
                invalidated. The arguments of the calls are stored for that, in a file of the state
                directory. A function without arguments returns those to begin with, a tuple for each
                call, or a value that is the only argument; then none are stored.

        Raises:
            CacheKeyError: (a call) an argument has no content that could be a key.
            KnitPerfError: an option is out of bounds.
        """
        if function is None:
            return lambda function: self.cached(
                function, namespace=namespace, ttl=ttl, tags=tags, key=key, ignore=ignore, vary=vary,
                errors=errors, stale=stale, stale_if_error=stale_if_error, early=early, share=share,
                depends=depends, warm=warm,
            )  # fmt: skip
        if isinstance(function, staticmethod | classmethod):
            raise KnitPerfError(
                f"@cached comes below @{type(function).__name__}, nearest to the function"
            )
        options = Options(
            namespace=name_of(function) if namespace is None else _text("namespace", namespace),
            ttl=_lifetime(ttl), auto_ttl=ttl == "auto",
            tags=_texts("tags", tags), keys=KeyOptions(
                key, frozenset(_texts("ignore", ignore)), self._varied(vary)
            ),
            errors=(errors,) if isinstance(errors, type) else tuple(errors),
            stale=_seconds("stale", stale), stale_if_error=_seconds("stale_if_error", stale_if_error),
            early=_number("early", early),
            share=share,
            depends=declared(depends), warm=_warmable(function, warm, vary),
        )  # fmt: skip
        cache = FunctionCache(
            function, options, self._store, self._invalidation, SLOW_PATH, is_bypassed,
            observer=self._observer, host=self._host, tracks_tables=self._tracks_tables,
            verification=self._verification, prices=self._prices,
        )  # fmt: skip
        if warm and cache.keys.is_method:
            raise KnitPerfError(
                f"{name_of(function)} cannot have warm=: a method is cached for each instance"
            )
        wrapper: Any = cache.wrapper
        wrapper.__knitperf_cache__ = cache
        with self._lock:
            self._functions.add(cache)
        end = weakref.finalize(cache, _end, cache.region, self._store.orphans, self._ended)
        end.atexit = False
        return wrapper

    def _varied(self, vary: Any) -> tuple[Callable[[], Any], ...]:
        chosen = [vary] if isinstance(vary, str) or callable(vary) else list(vary)
        unknown = [one for one in chosen if not callable(one) and one not in self._vary]
        if unknown:
            raise KnitPerfError(
                f"vary={unknown[0]!r} is unknown; it can be a function without arguments or one of "
                f"{', '.join(self._vary) or 'the names that an application has'}"
            )
        return tuple(one if callable(one) else self._vary[one] for one in chosen)

    @staticmethod
    def bypass() -> AbstractContextManager[None]:
        """Call functions themselves within the block, and cache none of their results."""
        return bypass()

    # -- warming -------------------------------------------------------------------------------------

    def warm(
        self, function: Callable[..., Any] | None = None, *, seconds: float | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> WarmCounts:  # fmt: skip
        """Load the values with which a process begins, now and in this thread, without rests.

        Workers do that by themselves once they have served a request. Call it before, for example in a
        server that loads the application before it forks, or in a hook at the start of a worker.

        Args:
            function: the one to be warmed; all with ``warm=`` by default.
            seconds: of loading at most; by default ``KNITPERF_CACHE_WARM_SECONDS``.
            progress: called after each value with the number of those that are done, and of all.

        Raises:
            KnitPerfError: the function is not a cached one with ``warm=``.
        """
        cache: FunctionCache | None = getattr(function, "__knitperf_cache__", None)
        if function is not None and (cache is None or not cache.options.warm):
            raise KnitPerfError(f"{name_of(function)} is not a cached function with warm=")
        limit = self._setting("cache_warm_seconds", DEFAULT_WARM_SECONDS)
        bounds = self._warmer.bounds(limit if seconds is None else _seconds("seconds", seconds))
        folder = self._state_dir()
        record = [] if folder is None else warm_record.read(folder)
        caches = self._warmer.functions() if cache is None else [cache]
        due = self._warmer.at_start(record, bounds, caches)
        return self._warmer.run(due, bounds, None, progress or (lambda *_: None))

    def _request(self) -> AbstractContextManager[Any]:
        """Return a context with a request of no client to the application."""
        return self._observer.blank_request(self._application())

    def _application(self) -> Any:
        session = self._resolve()
        return None if session is None else session.application()

    def _job(self) -> AbstractContextManager[Any]:
        """Return a context that records a load as a run of a job, in a process that records."""
        session = self._resolve()
        if session is None or not session.recorder.has_worker:
            return nullcontext()
        from ..collectors.jobs import jobs

        return jobs.run(session.recorder, WARMING_JOB)

    # -- values --------------------------------------------------------------------------------------

    def get(self, key: Any, default: Any = None, *, namespace: str = DEFAULT_NAMESPACE) -> Any:
        """Return the value of a key, ``default`` if there is none.

        Raises:
            CacheKeyError: the key has no content, such as a file.
            KnitPerfError: the namespace is not a text.
        """
        return self._values.get(key, default, _text("namespace", namespace))

    def put(
        self, key: Any, value: Any, ttl: float | None = None, *,
        namespace: str = DEFAULT_NAMESPACE, tags: Iterable[str] = (),
    ) -> None:  # fmt: skip
        """Store a value under a key in this process.

        Args:
            key: anything with content.
            value: later changes of it are not seen by :meth:`get`.
            ttl: seconds until it expires; never by default.
            namespace: name for statistics and :meth:`invalidate`.
            tags: names by which :meth:`invalidate` finds it too.

        Raises:
            CacheKeyError: the key has no content, such as a file.
            KnitPerfError: the value belongs to one caller, such as a generator.
        """
        seconds = _seconds("ttl", math.inf if ttl is None else ttl, positive=True)
        self._values.put(key, value, seconds, _text("namespace", namespace), _texts("tags", tags))

    set = put

    # -- caches of the application itself --------------------------------------------------------------

    def observe(self, cache: T, *, name: str | None = None) -> T:
        """Count hits, misses and writes of a cache that the application has itself.

        What it returns, raises and evicts stays as it is. Of keys the report shows structure, types, and
        the words that stand in the source.

        Args:
            cache: a mapping, such as a cache of cachetools; an object with ``get(key)``, which returns
                ``None`` for a miss, and ``set(key, value)``, such as a backend of Flask-Caching; or a
                function with ``functools.lru_cache``, of which only hits and misses are counted.
            name: in the report; by default that of the cache itself, else that of its class. Caches with
                one name are counted together.

        Returns:
            The cache. A ``dict``, ``OrderedDict`` or ``defaultdict`` cannot be observed itself: use the
            equal one that is returned in its place.

        Raises:
            KnitPerfError: it cannot be observed.
        """
        if callable(getattr(cache, "cache_info", None)):
            function: Any = getattr(cache, "__func__", cache)  # of a bound method
            name = name_of(function) if name is None else _text("name", name)
            with self._lock:
                if not any(polled.is_of(function) for polled in self._polled):
                    self._polled.append(PolledCache(name, function))
            return cache
        own = getattr(cache, "name", None)
        kind = type(cache)
        default = own if isinstance(own, str) and own else f"{kind.__module__}.{kind.__qualname__}"
        observed: T = observe(cache, self._observed_cache(name, default))
        return observed

    @overload
    def observe_class(self, kind: type[T]) -> type[T]: ...

    @overload
    def observe_class(
        self, kind: None = None, *, get: str = "get", set: str = "set",
        missing: Any = None, name: str | None = None,
    ) -> Callable[[type[T]], type[T]]: ...  # fmt: skip

    def observe_class(
        self, kind: type[Any] | None = None, *, get: str = "get", set: str = "set",  # noqa: A002
        missing: Any = None, name: str | None = None,
    ) -> Any:  # fmt: skip
        """Count hits, misses and writes of all instances of a class, together; return the class.

        Args:
            kind: the class; without one the result is a decorator with these options.
            get: name of the method that looks up; its first argument is the key.
            set: name of the method that writes; its first argument is the key.
            missing: what ``get`` returns for a miss.
            name: in the report; by default that of the class.

        Raises:
            KnitPerfError: the class lacks one of the methods, or one is asynchronous.
        """
        if kind is None:
            return lambda kind: self.observe_class(
                kind, get=get, set=set, missing=missing, name=name
            )
        default = f"{kind.__module__}.{kind.__qualname__}"
        observe_class(kind, self._observed_cache(name, default), get, set, missing)
        return kind

    def _observed_cache(self, name: str | None, default: str) -> ObservedCache:
        """Return the counters of a name; those of too many names are one."""
        name = (default if name is None else _text("name", name))[: OBSERVED_CACHE.longest]
        with self._lock:
            if name not in self._observed and len(self._observed) >= MAX_NAMESPACES:
                name = OTHER
            if name not in self._observed:
                self._observed[name] = ObservedCache(name, self._observer.endpoint, self._has_room)
            return self._observed[name]

    def _observed_caches(self) -> list[ObservedCache | PolledCache]:
        with self._lock:
            return [*self._observed.values(), *self._polled]

    def _has_room(self) -> bool:
        """Return whether one more pattern of keys may be distinguished, and count it."""
        self._patterns += 1
        return self._patterns <= MAX_PATTERNS_OF_ALL

    # -- invalidation --------------------------------------------------------------------------------

    def invalidate(
        self, namespace: str | None = None, *, key: Any = _NO_KEY, tag: str | None = None
    ) -> None:
        """Invalidate values in every process of the application, before it returns.

        Args:
            namespace: all values of a namespace, those of a function by its module and name; with
                ``key``, the namespace of the key.
            key: the value that :meth:`put` has stored under a key.
            tag: all values with a tag.

        Raises:
            KnitPerfError: it is called without any of them.
        """
        if key is not _NO_KEY:
            self._values.invalidate(key, DEFAULT_NAMESPACE if namespace is None else namespace)
        elif namespace is not None:
            self._invalidation.namespace(_text("namespace", namespace))
        elif tag is None:
            raise KnitPerfError(
                "invalidate() needs a namespace, a key or a tag; clear() invalidates everything"
            )
        if tag is not None:
            self._invalidation.tags([_text("tag", tag)])

    def invalidate_pattern(self, pattern: str, *, namespace: str | None = None) -> None:
        """Invalidate the values whose keys match a pattern, and others with them.

        Keys are not known to other processes, so all of the namespace is invalidated, everything
        without one.

        Args:
            pattern: as of other cache managers, such as ``style:*``.
            namespace: of the keys.
        """
        _text("pattern", pattern)
        if namespace is None:
            self._invalidation.all()
        else:
            self._invalidation.namespace(namespace)

    def clear(self) -> None:
        """Invalidate everything in every process, and free the values of this one."""
        self._invalidation.all()
        self._store.clear()

    # -- statistics ----------------------------------------------------------------------------------

    def get_cache_statistics(self) -> CacheReport:
        """Return the statistics of this process by namespace."""
        by_name: dict[str, list[Region]] = {}
        server = self._server()
        regions = self._regions()
        for region in regions:
            by_name.setdefault(region.namespace, []).append(region)
        return {
            "total": counts(regions),
            "namespaces": {name: counts(group) for name, group in sorted(by_name.items())},
            "evictions": self._store.evicted,
            "max_bytes": self._store.maxsize,
            "server": None if server is None else server.counts(),
        }

    get_statistics = get_cache_statistics

    def advise(self) -> list[SizeAdvice]:
        """Return the hit rates that this process would have with less or more room for values.

        They are those of simulated caches with the same policy, which begin once the cache is half full.
        """
        self._sizes.tick()
        lookups = counts(self._regions())
        return size_advice(self._sizes.totals, lookups["hit_rate"], self._store.maxsize)

    def optimize_ttl(self) -> list[TTLAdvice]:
        """Return the outcome of the lifetimes of each cached function, and that of tuned ones.

        With ``ttl="auto"`` they are tuned already: the lifetime of a value follows from its rate of
        changes, its rate of calls and the time of its load, so that the share of hits that are out of
        date stays within ``KNITPERF_CACHE_STALE_BUDGET``. Nothing is changed by this call.
        """
        advice = [cache.lifetimes.advice() for cache in self._all_functions()]
        return sorted(advice, key=lambda row: (row["namespace"], row["function"]))

    def _regions(self) -> list[Region]:
        regions = list(self._values.regions.values())
        regions += [] if self._reads is None else [self._reads.region]
        regions += [] if self._queries is None else self._queries.cache.regions.values()
        return regions + [cache.region for cache in self._all_functions()]

    def _all_functions(self) -> list[FunctionCache]:
        with self._lock:
            return list(self._functions)

    def _unpublished_regions(self) -> list[Region]:
        """Return all regions, once also those of functions that were freed since the latest call."""
        regions, ended = self._regions(), self._ended
        return regions + [ended.popleft() for _ in range(len(ended))]

    @staticmethod
    def explain(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Explanation:
        """Return the key of a call, why its latest look-up missed, and when its value expires.

        The function is not called.

        Args:
            function: a function of :meth:`cached`, bound to its instance if it is a method.
            args: arguments of the call.
            kwargs: keyword arguments of the call.

        Raises:
            KnitPerfError: the function is not cached.
            CacheKeyError: an argument has no content that could be a key.
        """
        cache: FunctionCache | None = getattr(function, "__knitperf_cache__", None)
        if cache is None:
            raise KnitPerfError(f"{name_of(function)} is not a cached function")
        bound = getattr(function, "__self__", None)
        return cache.explain(args if bound is None else (bound, *args), kwargs)


def _end(region: Region, orphans: deque[Region], ended: deque[Region]) -> None:
    """Note that the function of a region was freed; called at any place of any thread."""
    orphans.append(region)
    ended.append(region)


def _seconds(name: str, value: Any, *, positive: bool = False) -> float:
    valid = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
    if not valid or (positive and value == 0):
        raise KnitPerfError(f"{name} must be a number of seconds above 0, not {value!r}")
    return float(value)


def _lifetime(ttl: Any) -> float:
    """Return the seconds of the option ``ttl``; infinite where it is tuned."""
    if isinstance(ttl, str) and ttl != "auto":
        raise KnitPerfError(f'ttl must be a number of seconds above 0, or "auto", not {ttl!r}')
    return math.inf if ttl in (None, "auto") else _seconds("ttl", ttl, positive=True)


def _warmable(function: Callable[..., Any], warm: Any, vary: Any) -> Any:
    """Return the option ``warm``.

    Raises:
        KnitPerfError: the function cannot be called without a request, or without an event loop.
    """
    if not (isinstance(warm, bool) or callable(warm)):
        raise KnitPerfError(f"warm must be a bool or a function without arguments, not {warm!r}")
    reason = ""
    if warm and vary:
        reason = "with vary= its values depend on the request"
    elif warm and inspect.iscoroutinefunction(function):
        reason = "it is a coroutine function, which an event loop of the application has to run"
    if reason:
        raise KnitPerfError(f"{name_of(function)} cannot have warm=: {reason}")
    return warm


def _number(name: str, value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < math.inf:
        raise KnitPerfError(f"{name} must be a number of 0 or more, not {value!r}")
    return float(value)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise KnitPerfError(f"{name} must be a text, not {value!r}")
    return value


def _texts(name: str, values: Any) -> tuple[str, ...]:
    chosen = (values,) if isinstance(values, str) else tuple(values)
    return tuple(sorted({_text(name, value) for value in chosen}))
