"""Performance toolkit for Flask applications: what is slow, why, and did it get better.

Public names are loaded when they are first used, so importing a part that knows no Flask loads none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .caching import WeakCache
    from .core.errors import ConfigurationError, KnitPerfError, NPlusOneError
    from .extension import KnitPerf

__all__ = ["ConfigurationError", "KnitPerf", "KnitPerfError", "NPlusOneError", "WeakCache"]
__version__ = "0.1.0"

_PLACES = {
    "KnitPerf": "extension",
    "ConfigurationError": "core.errors",
    "KnitPerfError": "core.errors",
    "NPlusOneError": "core.errors",
    "WeakCache": "caching",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_PLACES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
