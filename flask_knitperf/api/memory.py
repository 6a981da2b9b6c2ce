"""``MemoryOptimizer``: what this process uses, and giving it back, with an application or without."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Collection, Hashable
from typing import TYPE_CHECKING, Any, TypeVar

from ..collectors.memory.process import CollectionResult, collect, machine, peak, pss, rss
from ..core.clock import SYSTEM
from ..core.code_locations import caller
from ..core.errors import KnitPerfError
from ..core.provenance import ORIGINS
from ..core.units import MB
from ..runtime.session import Session

if TYPE_CHECKING:
    import pandas as pd

    from ..caching import WeakCache
    from ..frames.plan import LevelName, Plan

F = TypeVar("F", bound=Callable[..., Any])


class MemoryOptimizer:
    """Memory of this process.

    Args:
        resolve: returns the session of the application that runs, ``None`` where there is none.
        register: told of caches that a housekeeper is to look after.
    """

    def __init__(
        self, resolve: Callable[[], Session | None] = lambda: None,
        register: Callable[[Any], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self._resolve, self._register = resolve, register

    def get_memory_stats(self) -> dict[str, float | int | None]:
        """Return this process's memory now.

        Returns:
            ``{rss_mb, pss_mb, peak_mb, available_mb, percent, tracked_objects}``, MB of 1024²
            bytes; ``percent`` of the machine's memory in use; ``None`` where the system does not
            tell.
        """
        had = machine()
        return {
            "rss_mb": _mb(rss()), "pss_mb": _mb(pss()), "peak_mb": _mb(peak()),
            "available_mb": _mb(had["available"]), "percent": had["percent"],
            "tracked_objects": len(gc.get_objects()),
        }  # fmt: skip

    def get_memory_report(self) -> dict[str, Any]:
        """Return the dict behind ``/perf/memory``.

        Raises:
            KnitPerfError: no application is current.
        """
        found = self._resolve()
        if found is None:
            raise KnitPerfError("there is no application to report on; push an application context")
        return found.documents.memory()

    def plan_dataframe(
        self, df: pd.DataFrame, level: LevelName = "balanced", keep: Collection[Hashable] = (),
        float_tolerance: float = 0.0,
    ) -> Plan:  # fmt: skip
        """Return how a frame can be stored in fewer bytes.

        See :func:`flask_knitperf.frames.plan_dataframe`.
        """
        from ..frames import plan_dataframe

        return plan_dataframe(df, level, keep, float_tolerance)

    def optimize_dataframe(
        self, df: pd.DataFrame, label: str = "", *, level: LevelName | None = None,
        keep: Collection[Hashable] = (), float_tolerance: float = 0.0, aggressive: bool = False,
    ) -> pd.DataFrame:  # fmt: skip
        """Return a new frame with the same values in fewer bytes, every cell of it checked.

        See :func:`flask_knitperf.frames.optimize_dataframe`.
        """
        from ..frames import optimize_dataframe

        return optimize_dataframe(
            df, label, level=level, keep=keep, float_tolerance=float_tolerance, aggressive=aggressive
        )  # fmt: skip

    def read_csv(self, path: str | os.PathLike[str], **options: Any) -> pd.DataFrame:
        """Return what ``pandas.read_csv`` reads from a file, in fewer bytes and read in chunks.

        See :func:`flask_knitperf.frames.read_csv`.
        """
        from ..frames import read_csv

        found = read_csv(path, **options)
        ORIGINS.remember(found, f"read_csv {os.path.basename(os.fspath(path))}", caller())
        return found

    def memory_efficient(
        self, function: F | None = None, *, level: LevelName = "safe", keep: Collection[Hashable] = (),
        float_tolerance: float = 0.0,
    ) -> Any:  # fmt: skip
        """Decorate a function whose frames are to take fewer bytes, with or without arguments.

        See :func:`flask_knitperf.frames.memory_efficient`.
        """
        from ..frames import memory_efficient

        decorate = memory_efficient(level, keep, float_tolerance)
        return decorate if function is None else decorate(function)

    def limit_dataframe_size(self, *args: Any, **options: Any) -> Any:
        """Decorate a function whose frames may have so many rows.

        See :func:`flask_knitperf.frames.limit_dataframe_size`.
        """
        from ..frames import limit_dataframe_size

        return limit_dataframe_size(*args, **options)

    def weak_cache(self, name: str, strong: int = 16) -> WeakCache[Any, Any]:
        """Return a cache whose values may go as soon as nobody else holds them, shown and cleared up.

        The housekeeper of the application that is current clears it up, and shrinks it when memory
        presses; without an application it is a cache all the same.

        Args:
            name: how it is shown.
            strong: how many values, the ones used last, it keeps from going.
        """
        from ..caching import WeakCache

        made: WeakCache[Any, Any] = WeakCache(strong, name)
        self._register(made)
        return made

    def collect_garbage(self) -> dict[str, float | int]:
        """Collect all generations now, then give free memory back to the system.

        It stops all threads of this process for as long as ``pause_ms`` says.

        Returns:
            ``{before_mb, after_mb, freed_mb, objects, pause_ms}``.
        """
        found = self._resolve()
        freed: CollectionResult = (
            found.memory_jobs.collector.collect("requested")
            if found is not None
            else collect(SYSTEM.monotonic_ns)
        )
        return {
            "before_mb": round(freed.before / MB, 2), "after_mb": round(freed.trimmed / MB, 2),
            "freed_mb": round((freed.before - freed.trimmed) / MB, 2),
            "objects": freed.objects, "pause_ms": round(freed.pause_ns / 1e6, 3),
        }  # fmt: skip


def _mb(size: float | None) -> float | None:
    return None if size is None else round(size / MB, 2)
