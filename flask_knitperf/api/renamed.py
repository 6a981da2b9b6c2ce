"""Documents that still accept the keys and attributes that other optimisers gave them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..core.notices import warn_once

Former = Mapping[str, tuple[str, Callable[[Any], Any]]]
"""By former name: the key that replaces it, and the conversion to the former unit."""


def _same(value: Any) -> Any:
    return value


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


ENDPOINT: Former = {
    "avg_response_time": ("mean_ms", _same),
    "min_response_time": ("min_ms", _same),
    "max_response_time": ("max_ms", _same),
    "p50_response_time": ("p50_ms", _same),
    "p95_response_time": ("p95_ms", _same),
    "p99_response_time": ("p99_ms", _same),
    "samples": ("count", _same),
    "success_rate": ("success_rate", _percent),  # as an attribute; the key is the share
}
SUMMARY: Former = {
    "avg_response_time": ("mean_ms", _same),
    "avg_p95_time": ("p95_ms", _same),
    "avg_success_rate": ("success_rate", _percent),
}


class Renamed(dict[str, Any]):
    """A document whose former names work too, as keys where they are free and as attributes.

    Each of them warns once.

    Args:
        document: keys and values.
        former: the former names.
    """

    def __init__(self, document: Mapping[str, Any], former: Former) -> None:
        super().__init__(document)
        self._former = former

    def __missing__(self, name: str) -> Any:
        if name not in self._former:
            raise KeyError(name)
        return self._former_value(name)

    def _former_value(self, name: str) -> Any:
        key, convert = self._former[name]
        unit = ", a share from 0 to 1 instead of percent" if convert is _percent else ""
        warn_once(f"flask_knitperf writes {name} as [{key!r}]{unit}")
        return convert(self[key])

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value by its key or former name, or ``default``."""
        return self[key] if key in self or key in self._former else default

    def __getattr__(self, name: str) -> Any:
        former = self.__dict__.get("_former", {})
        if name in former:
            return self._former_value(name)
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None
