"""The series of a table, found by meter, endpoint and method without a search."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flask_knitperf.core.columns import Series
from flask_knitperf.core.stats import Histogram, sums
from flask_knitperf.core.table import Table

Pair = tuple[str, str]
"""An endpoint and a method."""


class Index:
    """The series of a table, found by meter, endpoint and method without a search."""

    def __init__(self, table: Table) -> None:
        self._rows: dict[str, dict[Pair, list[tuple[tuple[str, ...], Series]]]] = {}
        for key, series in table.series.items():
            if len(key.labels) >= 2:
                pair = (key.labels[0], key.labels[1])
                by_pair = self._rows.setdefault(key.meter, {})
                by_pair.setdefault(pair, []).append((key.labels[2:], series))

    def pairs(self, meter: str) -> Iterable[Pair]:
        """Return every endpoint and method of which a meter says anything."""
        return self._rows.get(meter, {}).keys()

    def rows(self, meter: str, pair: Pair) -> Sequence[tuple[tuple[str, ...], Series]]:
        """Return the series of a meter for an endpoint, with their further labels."""
        by_pair = self._rows.get(meter)
        return () if by_pair is None else by_pair.get(pair, ())

    def total(self, meter: str, pair: Pair) -> Histogram | None:
        """Return the sum of those series, ``None`` if nothing was observed; not to be changed."""
        rows = self.rows(meter, pair)
        if not rows:
            return None
        if len(rows) == 1:
            made = rows[0][1].data
        else:
            (made,) = sums([[series.data for _, series in rows]])
        return made if made.count else None

    def share(self, meter: str, whole: Histogram, pair: Pair) -> float | None:
        """Return the total of a meter over a whole, 0 to 1; ``None`` where either is not known."""
        part = self.total(meter, pair)
        if part is None or whole.total <= 0:
            return None
        return min(1.0, max(0.0, part.total / whole.total))
