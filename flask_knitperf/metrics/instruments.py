"""What can be observed: a meter names a quantity, a series is a meter with its label values.

A meter is declared once, by the collector that owns it. Its ``limit`` bounds how many series it may
open in one worker; what comes later goes to a series whose labels all read ``<other>``, so nothing
that a client sends can make memory or disk grow without end.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

OTHER = "<other>"


class Kind(StrEnum):
    """How observations of a meter are folded."""

    HISTOGRAM = "histogram"
    """count, sum, min, max and base-2 exponential buckets."""
    COUNTER = "counter"
    """count and sum only."""
    GAUGE = "gauge"
    """the last value of each worker; workers are put together by :class:`Merge`."""
    OPEN = "open"
    """something that was begun (value: wall clock seconds) and, later, ended (value: minus those
    seconds); what is still open when its worker dies was killed."""


class Merge(StrEnum):
    """How the gauges of several workers become one."""

    SUM = "sum"
    MAX = "max"
    LAST = "last"
    PER_WORKER = "per_worker"


class Meter(NamedTuple):
    """A quantity that collectors observe.

    Attributes:
        name: unique within the application, e.g. ``request``.
        kind: how it is folded.
        unit: ``ns``, ``bytes`` or ``1``; values of the first two are whole numbers.
        labels: names of the labels, in the order in which values are given.
        limit: series that one worker may open.
        merge: how gauges of several workers are put together.
        longest: characters of a label that are kept.
    """

    name: str
    kind: Kind
    unit: str = "1"
    labels: tuple[str, ...] = ()
    limit: int = 2000
    merge: Merge = Merge.SUM
    longest: int = 200


class Key(NamedTuple):
    """Identifies a series across workers: the meter, and its label values."""

    meter: str
    labels: tuple[str, ...]
