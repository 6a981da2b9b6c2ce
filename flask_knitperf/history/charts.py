"""The application over time: load, response times, saturation, and the trends of some endpoints."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..core.printable import printable
from ..core.units import MB
from ..metrics.catalogue import BUSY_SHARE, GIL_PRESSURE, QUEUE, REQUEST, RSS, When
from ..metrics.histogram import Histogram
from ..reports.values import moment
from . import rows
from .slots import Slots, by_owner, by_slot, heat, milliseconds, slots
from .store import Store, StoredRows
from .timelines import deploy_row
from .totals import KEYS, TOTALS, Outcome, Warmth
from .writer import DEPLOY

if TYPE_CHECKING:
    from ..reports.documents.charts import (
        DeployRow,
        EndpointTrend,
        Heat,
        LoadPoint,
        SaturationName,
        SaturationRow,
    )

MAX_TREND_POINTS = 30
"""Slots of the trend of one endpoint, at most: it is as small as a word."""
MAX_TRENDS = 15
"""Endpoints whose trend is read, at most."""
Pair = tuple[str, str]
"""An endpoint and its method."""
_GAUGES: Mapping[str, tuple[SaturationName, float]] = {
    BUSY_SHARE.name: ("busy_share", 1.0), GIL_PRESSURE.name: ("gil_pressure", 1.0),
    RSS.name: ("rss_mb", 1.0 / MB),
}  # fmt: skip
"""Name and factor of each gauge that is shown."""
_NO_REQUESTS = Histogram()


class ChartParts(NamedTuple):
    """The application over time; fields as in :class:`..reports.documents.charts.Charts`."""

    slot_s: int
    points: list[LoadPoint]
    deploys: list[DeployRow]
    heat: Heat
    saturation: list[SaturationRow]
    trend_slot_s: int
    endpoints: list[EndpointTrend]


def read_charts(
    store: Store, since: float, until: float, now: float, pairs: Sequence[Pair] = (),
    source: int | None = None,
) -> ChartParts:  # fmt: skip
    """Read the application over time, up to the latest write.

    Args:
        store: the rows, with their series (:func:`.store.opened`).
        since: start, in seconds since the epoch.
        until: end.
        now: the present.
        pairs: endpoints whose trend is read, the first :data:`MAX_TRENDS` of them.
        source: number of the source that is read, ``None`` for all.
    """
    pairs = list(dict.fromkeys(pairs))[:MAX_TRENDS]
    with store.connection.reading():
        chosen = slots(store, since, until, now)
        warm, cold, failed = _load(store, chosen, source)
        starts = sorted({*warm, *cold})
        marks = store.marks(since if chosen.begins is None else chosen.begins, until)
        first = store.first(now)
        few = slots(store, since, until, now, MAX_TREND_POINTS)
        return ChartParts(
            chosen.length,
            [_point(at, chosen.seconds(at, first), warm, cold, failed) for at in starts],
            [deploy_row(mark) for mark in marks if mark.kind == DEPLOY],
            heat([warm.get(at, _NO_REQUESTS) for at in starts]),
            _saturation(store, chosen, starts, source),
            few.length,
            _trends(store, few, pairs, source),
        )


_BySlot = Mapping[int, Histogram]


def _load(
    store: Store, chosen: Slots, source: int | None
) -> tuple[_BySlot, _BySlot, _BySlot]:  # fmt: skip
    """Return the requests of all endpoints by slot: warm ones, cold starts, and failures of both."""
    place = dict(zip(KEYS, TOTALS, strict=True))
    totals = {
        number: place[key] for number, (key, _) in store.series().items() if key in place
    }  # fmt: skip
    some = store.rows(chosen.stretches, list(totals), source)

    def of(label: Outcome | Warmth) -> _BySlot:
        chosen_series = {number for number, total in totals.items() if label in total}
        return by_slot(some.of(chosen_series), chosen.length)

    return of(Warmth.WARM), of(Warmth.COLD), of(Outcome.FAILED)


def _point(
    at: int, seconds: float, warm: _BySlot, cold: _BySlot, failed: _BySlot
) -> LoadPoint:  # fmt: skip
    requests = warm.get(at, _NO_REQUESTS)
    return {
        "at": moment(at), "seconds": seconds,
        "count": requests.count + cold.get(at, _NO_REQUESTS).count,
        "failed": failed.get(at, _NO_REQUESTS).count, "p50_ms": milliseconds(requests, 0.5),
        "p95_ms": milliseconds(requests, 0.95), "p99_ms": milliseconds(requests, 0.99),
    }  # fmt: skip


def _saturation(
    store: Store, chosen: Slots, starts: Sequence[int], source: int | None
) -> list[SaturationRow]:  # fmt: skip
    """Return the largest value of each resource at the points of a chart."""
    gauges: dict[int, str] = {}
    queue: list[int] = []
    for number, (key, _) in store.series().items():
        if key.name in _GAUGES:
            gauges[number] = key.name
        elif key.name == QUEUE.name:
            queue.append(number)
    some = store.rows(chosen.stretches, [*gauges, *queue], source)
    shown: list[SaturationRow] = []
    for name, (label, factor) in _GAUGES.items():
        numbers = {number for number, gauge in gauges.items() if gauge == name}
        highest = _highest(some.of(numbers), chosen.length)
        shown.append(_row(label, [_scaled(highest.get(at), factor) for at in starts]))
    waits = by_slot(some.of(queue), chosen.length)
    values = [milliseconds(waits.get(at, _NO_REQUESTS), 0.95) for at in starts]
    return [*shown, _row("queue_p95_ms", values)]


def _row(name: SaturationName, values: list[float | None]) -> SaturationRow:
    return {"name": name, "values": values}


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else round(value * factor, 4)


def _highest(some: StoredRows, length: int) -> dict[int, float]:
    """Return the highest values of gauges by the start of slots."""
    highest: dict[int, float] = {}
    for slot, row in zip(some.slots, rows.gauges_of(some.data), strict=True):
        at = slot // length * length
        highest[at] = max(row.high, highest.get(at, row.high))
    return highest


def _trends(
    store: Store, few: Slots, pairs: Sequence[Pair], source: int | None
) -> list[EndpointTrend]:  # fmt: skip
    """Return the p95 of endpoints in a few slots, all rows at once.

    Args:
        store: the rows.
        few: the slots.
        pairs: the endpoints, by the names that documents have for them.
        source: number of the source that is read, ``None`` for all.
    """
    place = {(printable(name), method): number for number, (name, method) in enumerate(pairs)}
    owner: dict[int, int] = {}
    for number, (key, _) in store.series().items():
        if key.name == REQUEST.name:
            endpoint, method, _, when = json.loads(key.labels)
            pair = printable(endpoint), method
            if pair in place and when != When.FIRST:
                owner[number] = place[pair]
    some = store.rows(few.stretches, list(owner), source)
    if not some.slots:
        return [{"endpoint": name, "method": method, "p95_ms": []} for name, method in pairs]
    slot = np.array(some.slots, np.int64) // few.length
    first = int(slot.min())
    size = int(slot.max()) - first + 1
    owners = np.array([owner[number] for number in some.series], np.int64) * size + slot - first
    sums = by_owner(owners, some.data, (0.95,))
    return [
        {"endpoint": name, "method": method,
         "p95_ms": [
             milliseconds(sums.get(number * size + at, _NO_REQUESTS), 0.95) for at in range(size)
         ]}
        for number, (name, method) in enumerate(pairs)
    ]  # fmt: skip
