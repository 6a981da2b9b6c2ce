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

_HEADS_KEPT = 4
_layouts_known: dict[
    int, tuple[Descriptors, dict[str, list[Row]], dict[Pair, dict[str, list[Row]]]]
] = {}


@dataclass(frozen=True, slots=True)
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
        found: all series.
        evidence: by its identity, see :class:`.table.Table`.
        incomplete: logs that ended in something not there in full.
    """

    def __init__(
        self,
        found: Columns,
        evidence: Mapping[NoteId, NoteDocument] | None = None,
        incomplete: int = 0,
    ) -> None:
        self._evidence = evidence or {}
        self.incomplete = incomplete
        self._columns = found
        self._meters, self._pairs = _layout(found.descriptors)
        self._count: list[int] = found.count.tolist()
        self._total: list[int] = found.total.tolist()

    @classmethod
    def of(cls, table: Table) -> Totals:
        """Return the totals of a table of objects."""
        return cls(as_columns(table), table.evidence, table.incomplete)

    @property
    def pairs(self) -> Mapping[Pair, By]:
        """The series that have at least two labels: by those two, then by meter.

        Their rows hold the further labels only.
        """
        return self._pairs

    def notes(self, kind: Evidence[K, D]) -> list[Note[K, D]]:
        """Return the evidence of one kind; a note that does not fit the declaration is left out."""
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
        """Return what series add up to."""
        count = total = 0
        for _, row in rows:
            count += self._count[row]
            total += self._total[row]
        return Tally(count, total)

    def tallies(self, rows: Iterable[Row]) -> dict[str, Tally]:
        """Return the tally of each series, by its first label."""
        return {labels[0]: Tally(self._count[row], self._total[row]) for labels, row in rows}

    def gauges(self, rows: Iterable[Row]) -> dict[str, float]:
        """Return the last values of gauges by worker; of several series the last one counts."""
        made: dict[str, float] = {}
        for _, row in rows:
            made.update(self._columns.gauges.get(row, ()))
        return made

    def histogram(self, rows: Iterable[Row]) -> Histogram:
        """Return the sum of series."""
        return self.sums([rows], {"all": None})["all"].each[0]

    def sums(
        self, groups: Sequence[Iterable[Row]], wanted: Mapping[str, frozenset[str] | None]
    ) -> dict[str, Sums]:
        """Return several sums of each group of series, their buckets gathered once.

        Args:
            groups: series; each in one group only.
            wanted: for each sum by its name the last labels of the series that belong to it, ``None``
                for all of the group.
        """
        owner = np.full(len(self._columns.descriptors), -1, np.int64)
        last: list[tuple[str, int]] = []
        for number, rows in enumerate(groups):
            for labels, row in rows:
                owner[row] = number
                last.append((labels[-1] if labels else "", row))
        gathered = _gather(self._columns, owner, len(groups))
        made = {}
        for name, which in wanted.items():
            chosen = [row for label, row in last if which is None or label in which]
            made[name] = Sums(self._columns, gathered, np.array(chosen, np.int64), owner)
        return made


class Sums:
    """A sum of some series for each of many groups.

    A histogram adds its buckets up when it is asked for them; :meth:`batch` does it for all in one pass.

    Attributes:
        each: a histogram for every group, in their order.
    """

    def __init__(self, found: Columns, gathered: Gathered, chosen: Ints, owner: Ints) -> None:
        self._gathered = gathered
        self._chosen = np.zeros(len(found.descriptors), np.bool_)
        self._chosen[chosen] = True
        size = len(gathered.ends)
        count, total = np.zeros(size, np.int64), np.zeros(size, np.int64)
        low, high = np.full(size, np.nan), np.full(size, np.nan)
        of = owner[chosen]
        np.add.at(count, of, found.count[chosen])
        np.add.at(total, of, found.total[chosen])
        np.fmin.at(low, of, found.low[chosen])
        np.fmax.at(high, of, found.high[chosen])
        rows = zip(count.tolist(), total.tolist(), low.tolist(), high.tolist(), strict=True)
        self.each = [
            Histogram(n, whole, None if least != least else least, None if most != most else most,
                      cells=partial(gathered.cells, self._chosen, number))
            for number, (n, whole, least, most) in enumerate(rows)
        ]  # fmt: skip

    def batch(self) -> Batch:
        """Return all histograms for statistics in one pass, with their buckets added up."""
        of, index, weight = self._gathered.summed(self._chosen, slice(None))
        ends = of.searchsorted(np.arange(1, len(self.each) + 1)).tolist()
        begin = 0
        for one, end in zip(self.each, ends, strict=True):
            one.set_cells((index[begin:end], weight[begin:end]))
            begin = end
        return Batch(self.each, (index, weight))


class Gathered(NamedTuple):
    """Buckets of many series, by group and index.

    Attributes:
        code: of :func:`.histogram.join_codes`, ascending.
        weight: count of each.
        row: series of each.
        ends: where each group's buckets end.
    """

    code: Ints
    weight: Ints
    row: npt.NDArray[np.int32]
    ends: list[int]

    def summed(self, chosen: Chosen, part: slice) -> tuple[Ints, Ints, Ints]:
        """Return group, index and count of the chosen series' buckets, equal ones added up.

        Args:
            chosen: whether a series is, by its row.
            part: of the buckets.
        """
        code, weight = self.code[part], self.weight[part]
        kept = np.flatnonzero(chosen[self.row[part]])
        if len(kept) < len(code):
            code, weight = code[kept], weight[kept]
        if len(code):
            starts = run_starts(code)
            code, weight = code[starts], np.add.reduceat(weight, starts)
        return *split_codes(code), weight

    def cells(self, chosen: Chosen, number: int) -> Cells:
        """Return the chosen series' buckets of one group."""
        begin = self.ends[number - 1] if number else 0
        return self.summed(chosen, slice(begin, self.ends[number]))[1:]


def _gather(found: Columns, owner: Ints, groups: int) -> Gathered:
    """Return the buckets of series by their owners (-1 for none)."""
    of = owner[found.row]
    kept = np.flatnonzero(of >= 0)
    of = of[kept]
    code = join_codes(of, found.bucket[kept])
    order = np.argsort(code, kind="stable")  # few ascending runs, which it only merges
    kept = kept[order]
    ends = np.bincount(of, minlength=groups).cumsum().tolist()
    return Gathered(code[order], found.weight[kept], found.row[kept], ends)


def _layout(
    descriptors: Descriptors,
) -> tuple[dict[str, list[Row]], dict[Pair, dict[str, list[Row]]]]:
    """Return where the series stand, by meter and by pair; kept for descriptors that were met before."""
    found = _layouts_known.get(id(descriptors))
    if found is not None and found[0] is descriptors:
        return found[1], found[2]
    meters: dict[str, list[Row]] = {}
    pairs: dict[Pair, dict[str, list[Row]]] = {}
    for row, descriptor in enumerate(descriptors):
        meter, labels = descriptor.key
        meters.setdefault(meter, []).append((labels, row))
        if len(labels) >= 2:
            by_meter = pairs.setdefault((labels[0], labels[1]), {})
            by_meter.setdefault(meter, []).append((labels[2:], row))
    remember(_layouts_known, id(descriptors), (descriptors, meters, pairs), _HEADS_KEPT)
    return meters, pairs
