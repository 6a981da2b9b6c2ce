"""Performance toolkit for Flask applications: what is slow, why, and did it get better.

Public names are imported at first use: ``import flask_knitperf`` imports neither Flask nor pandas.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api.caches import CacheOptimizer
    from .api.memory import MemoryOptimizer
    from .api.profiler import PerformanceProfiler
    from .api.queries import QueryOptimizer
    from .caching import WeakCache
    from .caching.dependencies import File, Folder, Table, Tag
    from .core.errors import CacheKeyError, ConfigurationError, KnitPerfError, NPlusOneError
    from .core.notices import MigrationWarning
    from .extension import KnitPerf
    from .frames import limit_dataframe_size, memory_efficient

__all__ = [
    "CacheKeyError", "CacheOptimizer", "ConfigurationError", "File", "Folder", "KnitPerf",
    "KnitPerfError", "MemoryOptimizer", "MigrationWarning", "NPlusOneError", "PerformanceProfiler",
    "QueryOptimizer", "Table", "Tag", "WeakCache", "limit_dataframe_size", "memory_efficient",
]  # fmt: skip
__version__ = "0.1.0"

_MODULES = {
    "CacheKeyError": "core.errors",
    "CacheOptimizer": "api.caches",
    "ConfigurationError": "core.errors",
    "File": "caching.dependencies",
    "Folder": "caching.dependencies",
    "KnitPerf": "extension",
    "KnitPerfError": "core.errors",
    "MemoryOptimizer": "api.memory",
    "MigrationWarning": "core.notices",
    "NPlusOneError": "core.errors",
    "PerformanceProfiler": "api.profiler",
    "QueryOptimizer": "api.queries",
    "Table": "caching.dependencies",
    "Tag": "caching.dependencies",
    "WeakCache": "caching",
    "limit_dataframe_size": "frames",
    "memory_efficient": "frames",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    try:
        module = import_module(f".{_MODULES[name]}", __name__)
    except ImportError as error:
        from .core.server_limits import explanation

        if reason := explanation(error):
            raise ImportError(f"{error}: {reason}") from error
        raise
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
