"""Columnar view of all recorded series, for reports: look up by meter and labels.

Of most series a report needs only count and sum, and buckets of some hundred sums of series. So a
reader keeps columns and creates no object per series. The position of a series in the columns depends
on the descriptors only, which rarely change, so the layout is computed once for each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .columns import Columns, Descriptors, Ints, remember
from .histogram import Cells, Histogram, join_codes, run_starts, split_codes
from .histogram_batch import Batch
from .instruments import D, Evidence, K, Note
from .table import NoteDocument, NoteId, Table, as_columns

Pair = tuple[str, str]
"""The first two labels of a series, for most an endpoint and a method."""
Row = tuple[tuple[str, ...], int]
"""Labels of a series, and where it stands in the columns."""
By = Mapping[str, Sequence[Row]]
"""Series by meter."""

Chosen = npt.NDArray[np.bool_]
"""Whether a series is chosen, by its row."""

_MAX_LAYOUTS = 4
_layouts: dict[int, tuple[Descriptors, dict[str, list[Row]], dict[Pair, dict[str, list[Row]]]]] = {}


@dataclass(slots=True)  # not frozen: a report creates thousands, and that takes three times as long
class Tally:
    """A number of observations and their exact sum, in the meter's unit."""

    count: int
    total: int

    @property
    def mean(self) -> float | None:
        """The mean, ``None`` without observations."""
        return self.total / self.count if self.count else None


NOTHING = Tally(0, 0)


class Totals:
    """Totals of a run or of a window of one. Immutable.

    Series without observations in a window remain listed; their tally is zero.

    Args:
        columns: all series.
        evidence: by its identity, see :class:`.table.Table`.
        incomplete: number of logs with an incomplete end.
    """

    def __init__(
        self,
        columns: Columns,
        evidence: Mapping[NoteId, NoteDocument] | None = None,
        incomplete: int = 0,
    ) -> None:
        self._evidence = evidence or {}
        self.incomplete = incomplete
        self._columns = columns
        self._meters, self._pairs = _layout(columns.descriptors)
        self._count: list[int] = columns.count.tolist()
        self._total: list[int] = columns.total.tolist()

    @classmethod
    def of(cls, table: Table) -> Totals:
        """Return the totals of a table of objects."""
        return cls(as_columns(table), table.evidence, table.incomplete)

    @property
    def pairs(self) -> Mapping[Pair, By]:
        """Series with at least two labels: by those two, then by meter.

        Their rows hold the remaining labels only.
        """
        return self._pairs

    def notes(self, kind: Evidence[K, D]) -> list[Note[K, D]]:
        """Return the evidence of one kind; a note that does not match the declaration is skipped."""
        fields, required = len(kind.key._fields), kind.detail.__required_keys__  # type: ignore[attr-defined]
        return [
            Note(kind.key._make(note["key"]), note["count"], note["weight"], note["detail"])
            for note in self._evidence.values()
            if note["kind"] == kind.name
            and len(note["key"]) == fields
            and note["detail"].keys() >= required
        ]

    def rows(self, meter: str) -> Sequence[Row]:
        """Return the series of a meter."""
        return self._meters.get(meter, ())

    def tally(self, rows: Iterable[Row]) -> Tally:
        """Return count and sum over series."""
        count = total = 0
        for _, row in rows:
            count += self._count[row]
            total += self._total[row]
        return Tally(count, total)

    def tallies(self, rows: Iterable[Row]) -> dict[str, Tally]:
        """Return the tally of each series, by its first label."""
        return {labels[0]: Tally(self._count[row], self._total[row]) for labels, row in rows}

    def tallied(self, rows: Iterable[Row]) -> list[tuple[tuple[str, ...], Tally]]:
        """Return labels and tally of each series."""
        count, total = self._count, self._total
        return [(labels, Tally(count[row], total[row])) for labels, row in rows]

    def gauges(self, rows: Iterable[Row]) -> dict[str, float]:
        """Return the last values of gauges by worker; of several series the last one counts."""
        values: dict[str, float] = {}
        for _, row in rows:
            values.update(self._columns.gauges.get(row, ()))
        return values

    def histogram(self, rows: Iterable[Row]) -> Histogram:
        """Return the sum of series."""
        return self.sums([rows], {"all": None})["all"].histograms[0]

    def sums(
        self, groups: Sequence[Iterable[Row]], subsets: Mapping[str, frozenset[str] | None]
    ) -> dict[str, Sums]:
        """Return several sums of each group of series, their buckets gathered once.

        Args:
            groups: disjoint groups of series.
            subsets: by name of the sum the last labels of the series that it includes, ``None`` for
                all of the group.
        """
        owner = np.full(len(self._columns.descriptors), -1, np.int64)
        last: list[tuple[str, int]] = []
        for number, rows in enumerate(groups):
            for labels, row in rows:
                owner[row] = number
                last.append((labels[-1] if labels else "", row))
        gathered = _gather(self._columns, owner, len(groups))
        sums = {}
        for name, which in subsets.items():
            chosen = [row for label, row in last if which is None or label in which]
            sums[name] = Sums(self._columns, gathered, np.array(chosen, np.int64), owner)
        return sums


class Sums:
    """Sums of series for many groups.

    A histogram adds its buckets on demand; :meth:`batch` adds those of all in one pass.

    Attributes:
        histograms: one per group, in their order.
    """

    def __init__(self, columns: Columns, gathered: Gathered, chosen: Ints, owner: Ints) -> None:
        self._gathered = gathered
        self._chosen = np.zeros(len(columns.descriptors), np.bool_)
        self._chosen[chosen] = True
        size = len(gathered.ends)
        count, total = np.zeros(size, np.int64), np.zeros(size, np.int64)
        low, high = np.full(size, np.nan), np.full(size, np.nan)
        group = owner[chosen]
        np.add.at(count, group, columns.count[chosen])
        np.add.at(total, group, columns.total[chosen])
        np.fmin.at(low, group, columns.low[chosen])
        np.fmax.at(high, group, columns.high[chosen])
        rows = zip(count.tolist(), total.tolist(), low.tolist(), high.tolist(), strict=True)
        self.histograms = [
            Histogram(n, whole, None if least != least else least, None if most != most else most,
                      cells=partial(gathered.cells, self._chosen, number))
            for number, (n, whole, least, most) in enumerate(rows)
        ]  # fmt: skip

    def batch(self) -> Batch:
        """Return all histograms with their buckets added, for statistics in one pass."""
        group, index, weight = self._gathered.summed(self._chosen, slice(None))
        ends = group.searchsorted(np.arange(1, len(self.histograms) + 1)).tolist()
        begin = 0
        for one, end in zip(self.histograms, ends, strict=True):
            one.set_cells((index[begin:end], weight[begin:end]))
            begin = end
        return Batch(self.histograms, (index, weight))


class Gathered(NamedTuple):
    """Buckets of many series, by group and index.

    Attributes:
        code: group and bucket index packed by :func:`.histogram.join_codes`, ascending.
        weight: count of each bucket.
        row: series of each bucket.
        ends: end of each group's buckets.
    """

    code: Ints
    weight: Ints
    row: npt.NDArray[np.int32]
    ends: list[int]

    def summed(self, chosen: Chosen, part: slice) -> tuple[Ints, Ints, Ints]:
        """Return group, index and count of the chosen series' buckets, equal ones added.

        Args:
            chosen: mask of series, by row.
            part: slice of the buckets.
        """
        code, weight = self.code[part], self.weight[part]
        selection = np.flatnonzero(chosen[self.row[part]])
        if len(selection) < len(code):
            code, weight = code[selection], weight[selection]
        if len(code):
            starts = run_starts(code)
            code, weight = code[starts], np.add.reduceat(weight, starts)
        return *split_codes(code), weight

    def cells(self, chosen: Chosen, number: int) -> Cells:
        """Return the chosen series' buckets of one group."""
        begin = self.ends[number - 1] if number else 0
        return self.summed(chosen, slice(begin, self.ends[number]))[1:]


def _gather(columns: Columns, owner: Ints, groups: int) -> Gathered:
    """Return the buckets of series by their owning group (-1 for none)."""
    group = owner[columns.row]
    cells = np.flatnonzero(group >= 0)
    group = group[cells]
    code = join_codes(group, columns.bucket[cells])
    order = np.argsort(code, kind="stable")  # a few ascending runs, which it only merges
    cells = cells[order]
    ends = np.bincount(group, minlength=groups).cumsum().tolist()
    return Gathered(code[order], columns.weight[cells], columns.row[cells], ends)


def _layout(
    descriptors: Descriptors,
) -> tuple[dict[str, list[Row]], dict[Pair, dict[str, list[Row]]]]:
    """Return the rows of the series, by meter and by pair; cached by identity of the descriptors."""
    entry = _layouts.get(id(descriptors))
    if entry is not None and entry[0] is descriptors:
        return entry[1], entry[2]
    meters: dict[str, list[Row]] = {}
    pairs: dict[Pair, dict[str, list[Row]]] = {}
    for row, descriptor in enumerate(descriptors):
        meter, labels = descriptor.key
        meters.setdefault(meter, []).append((labels, row))
        if len(labels) >= 2:
            by_meter = pairs.setdefault((labels[0], labels[1]), {})
            by_meter.setdefault(meter, []).append((labels[2:], row))
    remember(_layouts, id(descriptors), (descriptors, meters, pairs), _MAX_LAYOUTS)
    return meters, pairs
