"""Lists of pages, searched and sorted by parameters of the address: they work without script."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..core.errors import ConfigurationError

if TYPE_CHECKING:
    from ..reports.documents.queries import QueryRow
    from ..reports.documents.report import EndpointRow

MAX_QUERY = 100
"""Characters of a search that count."""
MAX_LISTED = 50
"""Rows that a page lists at first."""

T = TypeVar("T")


class Listing(Generic[T]):
    """A kind of list.

    Args:
        orders: name of each order for readers, and the key of a row in it, by its name in an address;
            the first one is the default.
        text: returns the text of a row that is searched.
    """

    def __init__(
        self, orders: Mapping[str, tuple[str, Callable[[T], Any]]], text: Callable[[T], str]
    ) -> None:
        self._orders, self._text = orders, text

    @property
    def default(self) -> str:
        """The name of the default order."""
        return next(iter(self._orders))

    @property
    def sorts(self) -> list[tuple[str, str]]:
        """Names of the orders in an address, with their names for readers."""
        return [(name, text) for name, (text, _) in self._orders.items()]

    def chosen(self, rows: Sequence[T], query: str, sort: str) -> list[T]:
        """Return the rows that a search matches, in an order.

        Args:
            rows: of a document.
            query: words that the text of a row has, in any order and case.
            sort: name of an order.

        Raises:
            ConfigurationError: there is no such order.
        """
        if sort not in self._orders:
            raise ConfigurationError("sort", sort, f"one of {', '.join(self._orders)}")
        words = query[:MAX_QUERY].casefold().split()
        texts = ((row, self._text(row).casefold()) for row in rows)
        matches = [row for row, text in texts if all(word in text for word in words)]
        return sorted(matches, key=self._orders[sort][1])


def _endpoint_text(row: EndpointRow) -> str:
    return f"{row['endpoint']} {row['rule'] or ''} {row['method']}"


def _query_text(row: QueryRow) -> str:
    senders = " ".join(f"{one['endpoint']} {one['where'] or ''}" for one in row["asked_by"])
    return f"{row['text']} {senders}"


ENDPOINTS: Listing[EndpointRow] = Listing(
    {
        "excess": ("time over threshold", lambda row: (-row["excess_s"], -row["time_spent_s"])),
        "time": ("total time", lambda row: -row["time_spent_s"]),
        "p95": ("p95", lambda row: -(row["p95_ms"] or 0.0)),
        "requests": ("requests", lambda row: -row["count"]),
        "failures": ("failures", lambda row: -row["status"]["5xx"]),
        "name": ("name", lambda row: (row["endpoint"], row["method"])),
    },
    _endpoint_text,
)
QUERIES: Listing[QueryRow] = Listing(
    {
        "time": ("total time", lambda row: -row["time_spent_s"]),
        "calls": ("calls", lambda row: -row["count"]),
        "p95": ("p95", lambda row: -(row["p95_ms"] or 0.0)),
        "rows": ("rows", lambda row: -(row["rows_mean"] or 0.0)),
        "failures": ("failures", lambda row: -row["errors"]),
        "text": ("text", lambda row: row["text"]),
    },
    _query_text,
)
