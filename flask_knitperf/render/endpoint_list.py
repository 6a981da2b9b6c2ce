"""The list of endpoints, searched and sorted by parameters of the address: it works without script."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..core.errors import ConfigurationError

if TYPE_CHECKING:
    from ..reports.documents.report import EndpointRow

MAX_QUERY = 100
"""Characters of a search that count."""
DEFAULT = "excess"
MAX_LISTED = 50
"""Endpoints that the page lists at first."""

_Key = Callable[["EndpointRow"], Any]
_KEYS: dict[str, tuple[str, _Key]] = {
    "excess": ("time over threshold", lambda row: (-row["excess_s"], -row["time_spent_s"])),
    "time": ("total time", lambda row: -row["time_spent_s"]),
    "p95": ("p95", lambda row: -(row["p95_ms"] or 0.0)),
    "requests": ("requests", lambda row: -row["count"]),
    "failures": ("failures", lambda row: -row["status"]["5xx"]),
    "name": ("name", lambda row: (row["endpoint"], row["method"])),
}
SORTS = [(name, text) for name, (text, _) in _KEYS.items()]
"""Names of the orders in an address, with their names for readers."""


def chosen(rows: Sequence[EndpointRow], query: str, sort: str) -> list[EndpointRow]:
    """Return the endpoints that a search matches, in an order.

    Args:
        rows: of the report.
        query: words that the endpoint, its rule or its method has, in any order and case.
        sort: one of :data:`SORTS`.

    Raises:
        ConfigurationError: there is no such order.
    """
    if sort not in _KEYS:
        raise ConfigurationError("sort", sort, f"one of {', '.join(_KEYS)}")
    words = query[:MAX_QUERY].casefold().split()
    matches = [row for row in rows if all(word in _text(row) for word in words)]
    return sorted(matches, key=_KEYS[sort][1])


def _text(row: EndpointRow) -> str:
    return f"{row['endpoint']} {row['rule'] or ''} {row['method']}".casefold()
