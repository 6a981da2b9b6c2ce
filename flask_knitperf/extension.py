"""``KnitPerf``: the Flask extension. The work is done in :mod:`.instrumentation` and :mod:`.api`."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from flask import Flask, current_app, has_app_context

from .caching.registry import Caches
from .collectors.jobs import jobs
from .collectors.requests import sections
from .core import process_start  # noqa: F401 (notes the time before more code is loaded)
from .core.errors import KnitPerfError
from .core.settings import limits, read
from .instrumentation.install import create_session, install
from .instrumentation.routes import set_budget
from .recording.recorder import Recorder
from .recording.span import current
from .runtime.session import Session

if TYPE_CHECKING:
    from .api.caches import CacheOptimizer
    from .api.memory import MemoryOptimizer
    from .api.profiler import PerformanceProfiler
    from .api.queries import QueryOptimizer
    from .reports.documents import Report

F = TypeVar("F", bound=Callable[..., Any])
_KEY = "knitperf"


class KnitPerf:
    """The extension. Its state is in ``app.extensions["knitperf"]``, a :class:`.Session`.

    Outside of an application context (in a thread, in a script) its methods apply to the application
    that it was initialised with, provided that there is exactly one.

    Args:
        app: an application to initialise at once; else call :meth:`init_app`.
    """

    def __init__(self, app: Flask | None = None) -> None:
        self._caches = Caches()
        self._sessions: weakref.WeakSet[Session] = weakref.WeakSet()
        self._first: Callable[[], Session | None] = lambda: None
        self._cache_configuration: Mapping[str, Any] = {}
        if app is not None:
            self.init_app(app)

    # A worker imports what it uses: each of these is created when it is first read.

    @cached_property
    def profiler(self) -> PerformanceProfiler:
        """Sections, bottlenecks and reports, see :class:`.PerformanceProfiler`."""
        from .api.profiler import PerformanceProfiler

        return PerformanceProfiler(resolve=self._enabled_session)

    @cached_property
    def memory(self) -> MemoryOptimizer:
        """Memory and DataFrames, see :class:`.MemoryOptimizer`."""
        from .api.memory import MemoryOptimizer

        return MemoryOptimizer(resolve=self._enabled_session, caches=self._caches)

    @cached_property
    def queries(self) -> QueryOptimizer:
        """SQL statements and connection pools, see :class:`.QueryOptimizer`."""
        from .api.queries import QueryOptimizer

        return QueryOptimizer(resolve=self._enabled_session, cache=lambda: self.cache)

    @cached_property
    def cache(self) -> CacheOptimizer:
        """Cached results of functions, see :class:`.CacheOptimizer`."""
        from .api.caches import CacheOptimizer
        from .instrumentation.cache_reads import FlaskReads
        from .instrumentation.cache_vary import VARY

        optimizer = CacheOptimizer(
            resolve=self._cache_session, caches=self._caches, vary=VARY, observer=FlaskReads(),
            configuration=lambda: self._cache_configuration,
        )  # fmt: skip
        optimizer.attach()
        return optimizer

    def init_app(self, app: Flask) -> None:
        """Initialise an application. A second call for the same application changes nothing.

        Raises:
            ConfigurationError: a ``KNITPERF_`` setting is unknown or out of bounds.
        """
        if _KEY in app.extensions:
            return
        settings = read(
            app.config, app_root=app.root_path, name=app.name, instance=app.instance_path
        )
        session = app.extensions[_KEY] = create_session(app, settings, self._caches)
        if settings.enabled:
            self._sessions.add(session)
            if self._first() is None:  # its cache is that of all applications
                self._first = weakref.ref(session)
                self._cache_configuration = app.config
            if session.alerts is not None:
                session.alerts.check()
            if settings.reuse_reads:
                session.read_cache = self.cache.reads
            install(app, session, settings)
            if "cache" in self.__dict__ or session.cache_server is not None:
                self.cache.attach()

    def budget(self, **thresholds: float) -> Callable[[F], F]:
        """Return a decorator that gives the endpoint of a view its own thresholds.

        ``KNITPERF_ENDPOINTS`` takes precedence, threshold by threshold.

        Args:
            thresholds: ``slow_ms``, ``moderate_ms`` (or ``p95_ms``), ``min_success_rate``,
                ``variance_ratio``, ``queries`` (statements that a request may send).

        Raises:
            ConfigurationError: a threshold is unknown or out of bounds.
        """
        checked = limits("budget", thresholds)
        return lambda view: set_budget(view, checked)

    def section(self, name: str) -> AbstractContextManager[None]:
        """Time a block of code as a part of the current request."""
        return sections.section(name)

    def profile(self, function: F) -> F:
        """Time a function (sync, async or generator) as a section with its own histogram.

        A generator is timed only while it runs: each step is a part of the request, and all steps are
        one call in the histogram.
        """
        return sections.profiled(function, self._recorder, outside=jobs.run)

    def job(self, name: str | Callable[..., Any]) -> Any:
        """Record work outside of requests as a job: a command, a task of a queue, a thread's work.

        ``with perf.job("nightly"):`` records one run; ``@perf.job("nightly")`` and ``@perf.job`` record
        each call of a function or a coroutine function. Within a request it is a section too.

        Args:
            name: of the job, or a function whose qualified name it is. Never a value from data:
                beyond a hundred names in a process, runs are counted as ``<other>``.

        Raises:
            KnitPerfError: the function is a generator function.
        """
        return jobs.job(self._recorder, name)

    def rows(self, count: int) -> None:
        """Add rows to those that the current request works on.

        Rows that pandas reads are counted automatically. Call this for frames that were in memory
        before, so that the report can relate time to the number of rows.
        """
        span = current()
        if span is not None and count > 0:
            span.ensure_notes().rows += count

    def instrument(self, service: Any) -> Any:
        """Time every public method of an object or a class; return it.

        An instrumented object is freed by the garbage collector, not with its last reference.
        """
        return sections.instrument(service, self._recorder, outside=jobs.run)

    def register_cache(self, cache: Any, lock: Any = None, name: str | None = None) -> None:
        """Let the housekeeper expire a cachetools cache. Works before there is an application too.

        Args:
            cache: any cachetools cache; it is held weakly.
            lock: the lock that guards it. Without one the cache is counted, never changed.
            name: its name in the report.
        """
        self._caches.register(cache, lock, name)

    def report(self, window: str = "1h") -> Report:
        """Return the document behind ``/perf/report``."""
        return self.session().documents.report(window)

    def session(self) -> Session:
        """Return the session of the current application, else of the only one.

        Raises:
            KnitPerfError: there is none, or more than one and none is current.
        """
        session = self._any_session()
        if session is None:
            raise KnitPerfError(
                "no application is current, and there is not exactly one with KnitPerf; "
                "push an application context"
            )
        return session

    def _any_session(self) -> Session | None:
        if has_app_context():
            session: Session | None = current_app.extensions.get(_KEY)
            return session
        sessions = list(self._sessions)
        return sessions[0] if len(sessions) == 1 else None

    def _enabled_session(self) -> Session | None:
        session = self._any_session()
        return session if session is not None and session.settings.enabled else None

    def _cache_session(self) -> Session | None:
        """Return the session of the first application, whose versions and settings the cache uses."""
        return self._first()

    def _recorder(self) -> Recorder | None:
        span = current()
        if span is not None:  # also in a stream, where no application is current
            recorder: Recorder = span.owner
            return recorder
        session = self._enabled_session()
        return None if session is None else session.recorder
