"""One endpoint over time: percentiles of response times by slot, deploys, and steps of the level."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..core.clock import NS_PER_MS
from ..core.steps import steps
from ..core.usual import WEEK_HOURS, WEEKS, Band, usual_band
from ..metrics.catalogue import REQUEST, When
from ..metrics.histogram import Histogram
from ..reports.documents.endpoint import DeployRow, StepRow, Timeline, TimelineRow
from ..reports.values import moment
from . import rows
from .reader import bounds
from .resolutions import DAY, HOUR, HOURS, MINUTES, Stretch, stretches
from .store import Mark, SeriesKey, Store, StoredRows
from .writer import DEPLOY

MAX_POINTS = 120
"""Number of points of a timeline, at most."""
_LENGTHS = (60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, DAY)
"""Lengths of the slots of a timeline, in seconds."""
MIN_REQUESTS = 30
"""Requests of a day or an hour that its percentiles need to be compared with those of others."""


def endpoint_timeline(
    store: Store, endpoint: str, method: str, since: float, now: float
) -> Timeline:
    """Return an endpoint over time, up to the latest write.

    Args:
        store: the rows, with their series (:func:`.store.opened`).
        endpoint: its name.
        method: of its requests; cold starts are left out, as in reports.
        since: start, in seconds since the epoch.
        now: the present.
    """
    with store.connection.reading():
        return _timeline(store, endpoint, method, since, now)


def _timeline(store: Store, endpoint: str, method: str, since: float, now: float) -> Timeline:
    numbers = [
        number for number, (key, _) in store.series().items() if _is_of(key, endpoint, method)
    ]
    edge, complete = bounds(store, since, now)
    length = next(one for one in _LENGTHS if (now - since) / one <= MAX_POINTS or one == DAY)
    resolution = MINUTES if length < HOURS.seconds else HOURS
    chosen = stretches(since, edge, now, complete, resolution)
    some = store.rows(chosen, numbers)
    usual = _usual(store, numbers, since, now)
    marks = store.marks(chosen[0].begins if chosen else since, now)
    return Timeline(
        slot_s=length,
        points=[
            _point(at, one, usual_band(usual, range(at // HOUR, -(-(at + length) // HOUR))))
            for at, one in by_slot(some, length).items()
        ],
        deploys=[_deploy(mark) for mark in marks if mark.kind == DEPLOY],
        steps=_steps(by_slot(some, DAY)) if now - since > DAY else [],
    )


def _is_of(key: SeriesKey, endpoint: str, method: str) -> bool:
    if key.name != REQUEST.name:
        return False
    labels = json.loads(key.labels)
    return bool(labels[:2] == [endpoint, method] and labels[3] != When.FIRST)


def by_slot(some: StoredRows, length: int) -> Mapping[int, Histogram]:
    """Return the sums of rows by the start of slots of a length in seconds, in order of time."""
    slots = np.array(some.slots, np.int64) // length * length
    starts, owner = np.unique(slots, return_inverse=True)
    nameless: Any = (None,) * len(starts)
    whole = rows.columns_of(nameless, owner.astype(np.int64), some.data)
    places = np.arange(len(starts))
    begins = whole.row.searchsorted(places, "left")
    ends = whole.row.searchsorted(places, "right")
    return {
        start: Histogram(
            int(whole.count[place]), int(whole.total[place]),
            cells=(whole.bucket[begin:end].astype(np.int64), whole.weight[begin:end]),
        )
        for place, (start, begin, end) in enumerate(
            zip(starts.tolist(), begins.tolist(), ends.tolist(), strict=True)
        )
    }  # fmt: skip


def _usual(store: Store, numbers: list[int], since: float, now: float) -> dict[int, float]:
    """Return the p95 in milliseconds of the hours that bands are made of, by their number."""
    begins = HOURS.slot(since) - (WEEKS * WEEK_HOURS + 1) * HOUR
    some = store.rows([Stretch(HOURS, begins, HOURS.slot(now))], numbers)
    return {
        at // HOUR: _ms(one, 0.95) for at, one in by_slot(some, HOUR).items()
        if one.count >= MIN_REQUESTS
    }  # fmt: skip


def _point(at: int, requests: Histogram, usual: Band | None) -> TimelineRow:
    return TimelineRow(
        at=moment(at), count=requests.count, p50_ms=_ms(requests, 0.5), p95_ms=_ms(requests, 0.95),
        p99_ms=_ms(requests, 0.99), usual_low_ms=None if usual is None else round(usual.low, 3),
        usual_high_ms=None if usual is None else round(usual.high, 3),
    )  # fmt: skip


def _ms(requests: Histogram, share: float) -> float:
    return round((requests.quantile(share) or 0.0) / NS_PER_MS, 3)


def _deploy(mark: Mark) -> DeployRow:
    return DeployRow(at=moment(mark.at), release=mark.about.get("release"))


def _steps(days: Mapping[int, Histogram]) -> list[StepRow]:
    """Return the steps of the daily p95, of the days with enough requests."""
    busy = [day for day, requests in days.items() if requests.count >= MIN_REQUESTS]
    values = [_ms(days[day], 0.95) for day in busy]
    return [
        StepRow(at=moment(busy[step.day]), before_ms=step.before, after_ms=step.after)
        for step in steps(values)
    ]
