"""Instruments: meters count and time, evidence keeps single facts with a key.

A meter names a quantity; a series is a meter with its label values. The ``limit`` of a meter bounds the
series that it may open in one worker; later ones go to a series whose labels all read ``<other>``, so
nothing that a client sends can make memory or disk grow without end.

A note is one piece of evidence. Notes with equal keys add up, and of each kind only the heaviest stay.

flask_knitperf's own instruments are declared in :mod:`.catalogue`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, NamedTuple, TypeVar

OTHER = "<other>"


class Kind(StrEnum):
    """Aggregation of a meter's observations."""

    HISTOGRAM = "histogram"
    """count, sum, min, max and base-2 exponential buckets."""
    COUNTER = "counter"
    """count and sum only."""
    GAUGE = "gauge"
    """the last value of each worker; workers are merged by :class:`Merge`."""
    OPEN = "open"
    """a start (value: wall clock seconds) and, later, an end (value: minus those seconds); what is
    still open when its worker dies was killed."""


class Merge(StrEnum):
    """Merging of the gauges of several workers."""

    SUM = "sum"
    MAX = "max"
    LAST = "last"
    PER_WORKER = "per_worker"
    LATEST = "latest"
    """the largest, also of workers that have ended."""


class Meter(NamedTuple):
    """A quantity that collectors observe.

    Attributes:
        name: unique within the application, e.g. ``http.request``.
        kind: aggregation of its observations.
        unit: ``ns``, ``bytes`` or ``1``; values of the first two are whole numbers.
        labels: names of the labels, in the order in which values are given.
        limit: maximum number of series per worker.
        merge: merging of the gauges of several workers.
        longest: maximum length of a label value; longer ones are cut.
    """

    name: str
    kind: Kind
    unit: str = "1"
    labels: tuple[str, ...] = ()
    limit: int = 2000
    merge: Merge = Merge.SUM
    longest: int = 200

    @property
    def short_name(self) -> str:
        """Name without its room, as reports print it."""
        return self.name.rpartition(".")[2]


class Key(NamedTuple):
    """Identifies a series across workers: the meter, and its label values."""

    meter: str
    labels: tuple[str, ...]


K = TypeVar("K", bound=NamedTuple)
"""Key of a note: a named tuple of texts and whole numbers."""
D = TypeVar("D", bound=Mapping[str, Any])
"""Detail of a note: a typed dict of JSON values."""


class Evidence(NamedTuple, Generic[K, D]):
    """Kind of evidence.

    Attributes:
        name: unique within the application, e.g. ``evidence.error``.
        key: type of its keys.
        detail: type of its details.
    """

    name: str
    key: type[K]
    detail: type[D]


@dataclass(frozen=True, slots=True)
class Note(Generic[K, D]):
    """One piece of evidence.

    Attributes:
        key: its identity within its kind.
        count: number of times that it was noted.
        weight: its importance, in the unit that its kind declares; the sum over all times.
        detail: of the first time that it was noted.
    """

    key: K
    count: int
    weight: float
    detail: D
