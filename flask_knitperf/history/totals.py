"""Requests of all endpoints, added up while they are written.

A chart of the whole application would otherwise decode a row of each endpoint for each of its slots:
for a day of 200 endpoints in minutes 288,000. These rows are derived from the others, so windows and
alerts do not read them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np

from ..metrics import columns
from ..metrics.catalogue import REQUEST, StatusClass, When
from ..metrics.columns import Columns, Descriptor
from ..metrics.instruments import Key
from . import rows
from .store import RowKind, SeriesKey, json_text

NAME = "http.request_total"
"""Name of these series."""
_ABOUT = {"unit": REQUEST.unit, "merge": REQUEST.merge.value}


class Outcome(StrEnum):
    """Whether a response had a status of 500 or more."""

    ANSWERED = "answered"
    FAILED = "failed"


class Warmth(StrEnum):
    """Whether a request was a worker's first one of its endpoint."""

    COLD = "cold"
    WARM = "warm"


class Total(NamedTuple):
    """Labels of a series of totals."""

    outcome: Outcome
    warmth: Warmth


TOTALS = tuple(Total(outcome, warmth) for outcome in Outcome for warmth in Warmth)
KEYS = tuple(SeriesKey(RowKind.TOTAL, NAME, json_text(total)) for total in TOTALS)
"""Identities of their series."""
_DESCRIPTORS = tuple(
    Descriptor(Key(NAME, tuple(total)), REQUEST.kind, REQUEST.unit, REQUEST.merge) for total in TOTALS
)  # fmt: skip


def total_rows(delta: Columns) -> Iterator[tuple[SeriesKey, Mapping[str, Any], bytes]]:
    """Yield the totals of some observations: identity and description of each series, and its row.

    Args:
        delta: what was observed in one slot.
    """
    active, blobs = rows.rows_of(total_columns(delta))
    for row, data in zip(active.tolist(), blobs, strict=True):
        yield KEYS[row], _ABOUT, data


def total_columns(observed: Columns) -> Columns:
    """Return the requests of all endpoints: one series for each of :data:`TOTALS`."""
    keys, name = [descriptor.key for descriptor in observed.descriptors], REQUEST.name
    place = np.array([_place(labels) if meter == name else -1 for meter, labels in keys], np.int64)
    chosen = place >= 0
    cells = place[observed.row]
    return columns.summed(
        _DESCRIPTORS, place[chosen], observed.count[chosen], observed.total[chosen],
        cells[cells >= 0], observed.bucket[cells >= 0].astype(np.int64), observed.weight[cells >= 0],
    )  # fmt: skip


@functools.lru_cache(maxsize=4096)
def _place(labels: tuple[str, ...]) -> int:
    """Return the place in :data:`TOTALS` of requests with some labels, of which there are few."""
    return TOTALS.index(total_of(labels))


def total_of(labels: Sequence[str]) -> Total:
    """Return the series of totals that requests with some labels belong to."""
    _, _, status, when = labels
    has_failed = status[:1] == StatusClass.SERVER_ERROR[0]
    return Total(
        Outcome.FAILED if has_failed else Outcome.ANSWERED,
        Warmth.COLD if when == When.FIRST else Warmth.WARM,
    )
