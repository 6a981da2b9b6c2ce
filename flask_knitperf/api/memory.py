"""``MemoryOptimizer``: memory of this process and its DataFrames, with an application or without."""

from __future__ import annotations

import functools
import logging
import numbers
import os
from collections.abc import Callable, Collection, Hashable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar, overload

from ..caching.registry import Caches
from ..caching.sizes import newest_within, size_of
from ..collectors.memory.operation_log import OperationLog
from ..core.code_locations import caller
from ..core.errors import KnitPerfError
from ..core.notices import warn_once
from ..core.provenance import ORIGINS
from ..core.units import MB
from ..runtime.process_memory import ProcessMemory

if TYPE_CHECKING:
    import pandas as pd

    from ..analysis.leak_signs import LeakSign
    from ..caching import WeakCache
    from ..collectors.memory.operation_log import Operation
    from ..frames.plan import LevelName, Plan
    from ..reports.documents.process import (
        ApplicationMemoryReport,
        MemoryStatistics,
        ProcessMemoryReport,
    )
    from ..runtime.session import Session

log = logging.getLogger("flask_knitperf")
F = TypeVar("F", bound=Callable[..., Any])


class MemoryOptimizer:
    """Memory of this process: read it, relieve it, and store DataFrames in fewer bytes.

    ``perf.memory`` is one for an application: its housekeeper does the work, and its reports cover all
    workers. ``MemoryOptimizer()`` is one for a script or a notebook. Methods on DataFrames can be called
    on the class too: ``MemoryOptimizer.optimize_dataframe(df)``.

    Attributes:
        memory_stats: the last hundred operations of :meth:`memory_tracker`, oldest first.

    Args:
        resolve: returns the session of the current application, ``None`` without one.
        caches: the registry of caches.
    """

    def __init__(
        self,
        *,
        resolve: Callable[[], Session | None] = lambda: None,
        caches: Caches | None = None,
    ) -> None:
        self._resolve = resolve
        self._process = ProcessMemory(Caches() if caches is None else caches)
        self._operations = OperationLog()
        self.memory_stats = self._operations.operations

    # -- reading -------------------------------------------------------------------------------------

    def get_memory_usage(self) -> float:
        """Return the resident memory of this process in MB (of 1024² bytes)."""
        self._process.resume()
        return self._process.figures()["rss_mb"]

    def get_memory_stats(self) -> MemoryStatistics:
        """Return the memory of this process now.

        Returns:
            ``{rss_mb, vms_mb, pss_mb, peak_mb, available_mb, percent, tracked_objects, gc_stats,
            gc_count, cache_size}``: MB of 1024² bytes, ``None`` where the system has no such figure;
            ``percent`` of the machine's memory in use; ``gc_stats`` and ``gc_count`` as of :mod:`gc`;
            ``cache_size`` entries in registered caches.
        """
        self._process.resume()
        return self._process.statistics()

    def get_memory_report(self) -> ApplicationMemoryReport | ProcessMemoryReport:
        """Return the memory report: sizes, pressure, and recommendations.

        Returns:
            The document behind ``/perf/memory`` for all workers of an application; without one its
            keys about pressure, for this process alone. In both ``rss_mb``, ``initial_memory_mb`` and
            ``memory_growth_mb`` of this process (since it was first read here), ``percent`` of the
            machine's memory in use, and ``recommendations``.
        """
        self._process.resume()
        session = self._resolve()
        figures = self._process.figures()
        if session is None:
            return {**self._process.report(), **figures}
        return {**session.documents.memory(), **figures}

    def monitor_memory_usage(self, function: F | str | None = None) -> Any:
        """Check the pressure on memory, or decorate a function whose memory is to be tracked.

        ``monitor_memory_usage()`` checks. ``@monitor_memory_usage`` and
        ``@monitor_memory_usage("name")`` call :meth:`memory_tracker` around each call of a function.

        Args:
            function: a function, or the name under which one is tracked.

        Returns:
            Of a check ``None`` while memory is fine, else ``{level, memory_mb, memory_percent, message,
            recommendations}`` with the level ``WARNING`` or ``CRITICAL`` and the share of this process
            in the machine's memory in percent. Without an application the next step of relief is taken
            then; an application's housekeeper takes it by itself.
        """
        if isinstance(function, str):
            return functools.partial(self._tracked, function)
        if function is not None:
            return self._tracked(getattr(function, "__qualname__", repr(function)), function)
        self._process.resume()
        warning = self._process.warning()
        if warning is not None:
            log.warning("flask_knitperf: %s", warning["message"])
            if self._resolve() is None:
                self._process.relieve()
        return warning

    def _tracked(self, name: str, function: F) -> F:
        @functools.wraps(function)
        def tracked(*args: Any, **kwargs: Any) -> Any:
            with self.memory_tracker(name):
                return function(*args, **kwargs)

        return tracked  # type: ignore[return-value]

    def memory_tracker(self, operation: str) -> AbstractContextManager[Operation]:
        """Measure resident memory before and after a block, into :attr:`memory_stats`.

        No garbage is collected for it. The difference is that of the whole process: it means little
        while other threads work.

        Args:
            operation: name of the block.

        Returns:
            A context manager with the operation as a dict: ``{operation, start_memory_mb,
            end_memory_mb, memory_delta_mb, duration_seconds, timestamp}``, complete after the block.
        """
        self._process.resume()
        return self._operations.track(operation)

    def detect_memory_leaks(self) -> list[LeakSign]:
        """Return the signs of a leak: suspected endpoints, and growth over tracked operations.

        Returns:
            ``{type, severity, description, recommendation}`` of each, with ``endpoint`` and ``method``
            where it is an endpoint. An empty list means that no growth beyond chance was seen; it takes
            ten operations of :meth:`memory_tracker`, or a worker that watches its requests.
        """
        from ..analysis.leak_signs import of_operations
        from ..reports.leak_signs import of_report

        self._process.resume()
        session = self._resolve()
        suspects = [] if session is None else session.documents.report("run")["bottlenecks"]
        sizes = [row["end_memory_mb"] for row in self.memory_stats if "end_memory_mb" in row]
        return of_report(suspects) + of_operations(sizes)

    # -- relief --------------------------------------------------------------------------------------

    def setup_automatic_cleanup(self, interval_minutes: float = 15) -> None:
        """Expire caches, and relieve memory pressure, at an interval.

        With an application it sets the interval at which the housekeeper expires caches; pressure is
        checked each second anyway. Without one it starts a housekeeper in a daemon thread, or one with
        the new interval; a forked child starts its own at the next call of a method.

        Args:
            interval_minutes: above 0.

        Raises:
            KnitPerfError: the interval is not a number above 0.
        """
        if not isinstance(interval_minutes, numbers.Real) or not interval_minutes > 0:
            raise KnitPerfError(f"interval_minutes must be above 0, not {interval_minutes!r}")
        session = self._resolve()
        if session is None:
            self._process.start(interval_minutes * 60)
        else:
            session.memory_jobs.set_cleanup_interval(interval_minutes * 60)

    def shutdown(self) -> None:
        """Stop the housekeeper of :meth:`setup_automatic_cleanup`; that of an application goes on."""
        self._process.stop()

    def collect_garbage(self, force: bool = False) -> dict[str, float | int]:
        """Collect all generations now, then return free memory to the system.

        It stops all threads of this process for ``pause_ms``.

        Args:
            force: accepted and without effect: it always collects.

        Returns:
            ``{before_mb, after_mb, freed_mb, objects, pause_ms}``, and ``memory_freed_mb`` and
            ``objects_collected``, which are ``freed_mb`` and ``objects``.
        """
        del force  # ERPs pass it
        self._process.resume()
        session = self._resolve()
        result = (
            self._process.collect()
            if session is None
            else session.memory_jobs.collector.collect("requested")
        )
        freed_mb = round((result.before - result.trimmed) / MB, 2)
        return {
            "before_mb": round(result.before / MB, 2), "after_mb": round(result.trimmed / MB, 2),
            "freed_mb": freed_mb, "memory_freed_mb": freed_mb,
            "objects": result.objects, "objects_collected": result.objects,
            "pause_ms": round(result.pause_ns / 1e6, 3),
        }  # fmt: skip

    def cleanup_memory(self, aggressive: bool = False) -> dict[str, float | int]:
        """Drop expired entries of registered caches, then :meth:`collect_garbage`.

        Args:
            aggressive: empty the registered caches; their values can be computed again.

        Returns:
            The same as :meth:`collect_garbage`, with the number of ``cache_entries_dropped``.
        """
        caches = self._process.caches
        dropped = caches.expire() + (caches.shrink(0.0) if aggressive else 0)
        return {**self.collect_garbage(), "cache_entries_dropped": dropped}

    def weak_cache(self, name: str, strong: int = 16) -> WeakCache[Any, Any]:
        """Return a cache whose values are dropped when nothing else references them.

        It is registered: the housekeeper of the application, or that of
        :meth:`setup_automatic_cleanup`, shrinks it when memory is short.

        Args:
            name: its name in the report.
            strong: number of values, those used last, that are kept without other references.
        """
        from ..caching import WeakCache

        cache: WeakCache[Any, Any] = WeakCache(strong, name)
        self._process.caches.register(cache)
        return cache

    def limit_cache_size(
        self, cache: dict[Any, Any], max_mb: float = 200.0, *, evict: bool = False
    ) -> dict[Any, Any]:
        """Return a dict that serves as a cache, within a limit on request.

        The dict itself is never changed.

        Args:
            cache: entries, oldest first.
            max_mb: limit of the memory of keys and values, in MB of 1024² bytes.
            evict: return a new dict of the newest entries within the limit. Otherwise the dict itself
                is returned, and a message is logged where it exceeds the limit.

        Warns:
            MigrationWarning: once, where entries stay that another optimiser would have removed.
        """
        if not cache:
            return cache
        used_mb = size_of([*cache, *cache.values()]) / MB
        if used_mb <= max_mb:
            return cache
        if evict:
            kept = newest_within(cache, max_mb)
            log.warning(
                "flask_knitperf: removed %d of %d entries of a cache",
                len(cache) - len(kept),
                len(cache),
            )
            return kept
        log.warning("flask_knitperf: a cache uses %.1f MB, above %.1f MB", used_mb, max_mb)
        warn_once(
            "limit_cache_size removes no entry; evict=True returns a dict without the oldest entries"
        )
        return cache

    # -- DataFrames ----------------------------------------------------------------------------------

    @staticmethod
    def plan_dataframe(
        df: pd.DataFrame, level: LevelName = "balanced", keep: Collection[Hashable] = (),
        float_tolerance: float = 0.0,
    ) -> Plan:  # fmt: skip
        """Return a plan to store a frame in fewer bytes.

        See :func:`flask_knitperf.frames.plan_dataframe`.
        """
        from ..frames import plan_dataframe

        return plan_dataframe(df, level, keep, float_tolerance)

    @overload
    @staticmethod
    def optimize_dataframe(
        df: pd.DataFrame, label: str = "", *, level: LevelName | None = None,
        keep: Collection[Hashable] = (), float_tolerance: float = 0.0, aggressive: bool = False,
    ) -> pd.DataFrame: ...  # fmt: skip

    @overload
    @staticmethod
    def optimize_dataframe(
        df: None, label: str = "", *, level: LevelName | None = None,
        keep: Collection[Hashable] = (), float_tolerance: float = 0.0, aggressive: bool = False,
    ) -> None: ...  # fmt: skip

    @staticmethod
    def optimize_dataframe(
        df: pd.DataFrame | None, label: str = "", *, level: LevelName | None = None,
        keep: Collection[Hashable] = (), float_tolerance: float = 0.0, aggressive: bool = False,
    ) -> pd.DataFrame | None:  # fmt: skip
        """Return a new frame with the same values in fewer bytes, every cell verified.

        See :func:`flask_knitperf.frames.optimize_dataframe`.
        """
        from ..frames import optimize_dataframe

        return optimize_dataframe(
            df, label, level=level, keep=keep, float_tolerance=float_tolerance, aggressive=aggressive
        )  # fmt: skip

    @staticmethod
    def read_csv(path: str | os.PathLike[str], **options: Any) -> pd.DataFrame:
        """Read a CSV file in chunks, and return its frame in fewer bytes.

        See :func:`flask_knitperf.frames.read_csv`.
        """
        from ..frames import read_csv

        frame = read_csv(path, **options)
        ORIGINS.remember(frame, f"read_csv {os.path.basename(os.fspath(path))}", caller())
        return frame

    @staticmethod
    def memory_efficient(
        function: F | None = None, *, level: LevelName = "safe", keep: Collection[Hashable] = (),
        float_tolerance: float = 0.0,
    ) -> Any:  # fmt: skip
        """Decorate a function whose frames are to take fewer bytes, with or without arguments.

        See :func:`flask_knitperf.frames.memory_efficient`.
        """
        from ..frames import memory_efficient

        decorate = memory_efficient(level, keep, float_tolerance)
        return decorate if function is None else decorate(function)

    @staticmethod
    def limit_dataframe_size(*args: Any, **options: Any) -> Any:
        """Limit the rows of the frames that a function returns, or of a frame.

        See :func:`flask_knitperf.frames.limit_dataframe_size`.
        """
        from ..frames import limit_dataframe_size

        return limit_dataframe_size(*args, **options)
