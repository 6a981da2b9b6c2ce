"""One endpoint over time: percentiles of response times by slot, where the time went, deploys, steps."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Literal, get_args

from ..core.clock import NS_PER_MS
from ..core.drift import drift
from ..core.steps import steps
from ..core.usual import WEEK_HOURS, WEEKS, Band, usual_band
from ..metrics.catalogue import PART, REQUEST, WAITS, PartKind
from ..metrics.histogram import Histogram
from ..reports.values import moment
from .resolutions import DAY, HOUR, HOURS, Stretch
from .slots import by_slot, heat, milliseconds, slots
from .store import Mark, SeriesKey, Store
from .totals import Outcome, Warmth, total_of
from .writer import DEPLOY

if TYPE_CHECKING:
    from ..reports.documents.charts import DeployRow
    from ..reports.documents.endpoint import DriftRow, PartTimes, StepRow, Timeline, TimelineRow

MIN_REQUESTS = 30
"""Requests of a day or an hour that its percentiles need to be compared with those of others."""
_Group = Literal["database", "files", "rendering", "waiting"]
_GROUPS: Mapping[str, _Group] = {
    **dict.fromkeys((PartKind.SQL, PartKind.POOL, PartKind.EXPLAIN), "database"),
    **dict.fromkeys((PartKind.FILE_READ,), "files"),
    **dict.fromkeys((PartKind.RENDER,), "rendering"),
    **dict.fromkeys(WAITS - {PartKind.POOL}, "waiting"),
}
"""Group of a kind of part; others are own time."""
_NO_REQUESTS = Histogram()


def endpoint_timeline(
    store: Store, endpoint: str, method: str, since: float, until: float, now: float,
    source: int | None = None,
) -> Timeline:  # fmt: skip
    """Return an endpoint over time, up to the latest write.

    Args:
        store: the rows, with their series (:func:`.store.opened`).
        endpoint: its name.
        method: of its requests; cold starts are left out of percentiles, as in reports.
        since: start, in seconds since the epoch.
        until: end.
        now: the present.
        source: number of the source that is read, ``None`` for all.
    """
    with store.connection.reading():
        return _timeline(store, endpoint, method, since, until, now, source)


class _Series:
    """Numbers of the series of one endpoint."""

    def __init__(self, store: Store, endpoint: str, method: str) -> None:
        self.warm: set[int] = set()
        self.cold: set[int] = set()
        self.failed: set[int] = set()
        self.parts: dict[int, _Group] = {}
        for number, (key, _) in store.series().items():
            if key.name == REQUEST.name:
                self._add_requests(number, key, [endpoint, method])
            elif key.name == PART.name:
                self._add_part(number, key, [endpoint, method])

    def _add_requests(self, number: int, key: SeriesKey, pair: list[str]) -> None:
        labels = json.loads(key.labels)
        if labels[:2] == pair:
            outcome, warmth = total_of(labels)
            (self.cold if warmth is Warmth.COLD else self.warm).add(number)
            if outcome is Outcome.FAILED:
                self.failed.add(number)

    def _add_part(self, number: int, key: SeriesKey, pair: list[str]) -> None:
        *owner, part = json.loads(key.labels)
        group = _GROUPS.get(part.partition(":")[0])
        if owner == pair and group is not None:
            self.parts[number] = group


def _timeline(
    store: Store, endpoint: str, method: str, since: float, until: float, now: float,
    source: int | None,
) -> Timeline:  # fmt: skip
    series = _Series(store, endpoint, method)
    length, chosen, _ = slots(store, since, until, now)
    some = store.rows(chosen, [*series.warm, *series.cold, *series.parts], source)
    warm = some.of(series.warm)
    points = by_slot(warm, length)
    cold = by_slot(some.of(series.cold), length)
    failed = by_slot(some.of(series.failed), length)
    parts = {
        group: by_slot(some.of(_numbers(series.parts, group)), length)
        for group in dict.fromkeys(series.parts.values())
    }
    starts = sorted({*points, *cold})
    usual = _usual(store, series.warm, since, now, source)
    level_steps, drifted = _trend(by_slot(warm, DAY) if until - since > DAY else {})
    marks = store.marks(chosen[0].begins if chosen else since, until)
    return {
        "slot_s": length,
        "points": [
            _point(
                at, points.get(at, _NO_REQUESTS), cold.get(at, _NO_REQUESTS),
                usual_band(usual, range(at // HOUR, -(-(at + length) // HOUR))),
                failed.get(at, _NO_REQUESTS).count,
                {group: sums[at] for group, sums in parts.items() if at in sums},
            )
            for at in starts
        ],
        "deploys": [deploy_row(mark) for mark in marks if mark.kind == DEPLOY],
        "steps": level_steps,
        "drift": drifted,
        "heat": heat([points.get(at, _NO_REQUESTS) for at in starts]),
    }  # fmt: skip


def _numbers(parts: Mapping[int, _Group], group: _Group) -> set[int]:
    return {number for number, one in parts.items() if one == group}


def _usual(
    store: Store, numbers: Collection[int], since: float, now: float, source: int | None
) -> dict[int, float]:  # fmt: skip
    """Return the p95 in milliseconds of the hours that bands are made of, by their number."""
    begins = HOURS.slot(since) - (WEEKS * WEEK_HOURS + 1) * HOUR
    some = store.rows([Stretch(HOURS, begins, HOURS.slot(now))], list(numbers), source)
    return {
        at // HOUR: milliseconds(one, 0.95) or 0.0 for at, one in by_slot(some, HOUR).items()
        if one.count >= MIN_REQUESTS
    }  # fmt: skip


def _point(
    at: int, warm: Histogram, cold: Histogram, usual: Band | None, failed: int,
    sums: Mapping[_Group, Histogram],
) -> TimelineRow:  # fmt: skip
    return {
        "at": moment(at), "count": warm.count + cold.count, "p50_ms": milliseconds(warm, 0.5),
        "p95_ms": milliseconds(warm, 0.95), "p99_ms": milliseconds(warm, 0.99),
        "usual_low_ms": None if usual is None else round(usual.low, 3),
        "usual_high_ms": None if usual is None else round(usual.high, 3),
        "failed": failed, "parts": _part_times(warm, cold, sums),
    }  # fmt: skip


def _part_times(warm: Histogram, cold: Histogram, sums: Mapping[_Group, Histogram]) -> PartTimes:
    """Return the mean time of a request by where it goes."""
    per_request = NS_PER_MS * (warm.count + cold.count)
    database, files, rendering, waiting = (
        sums[group].total / per_request if group in sums else 0.0 for group in get_args(_Group)
    )
    own = (warm.total + cold.total) / per_request - database - files - rendering - waiting
    return {
        "database": round(database, 3), "files": round(files, 3), "rendering": round(rendering, 3),
        "waiting": round(waiting, 3), "own": round(max(0.0, own), 3),
    }  # fmt: skip


def deploy_row(mark: Mark) -> DeployRow:
    """Return the row of a deploy."""
    return {"at": moment(mark.at), "release": mark.about.get("release")}


def _trend(days: Mapping[int, Histogram]) -> tuple[list[StepRow], DriftRow | None]:
    """Return the steps and the drift of the daily p95, of the days with enough requests."""
    busy = [day for day, requests in days.items() if requests.count >= MIN_REQUESTS]
    values = [milliseconds(days[day], 0.95) or 0.0 for day in busy]
    rows: list[StepRow] = [
        {"at": moment(busy[step.day]), "before_ms": step.before, "after_ms": step.after}
        for step in steps(values)
    ]
    if rows:
        return rows, None
    slope = drift([day // DAY for day in busy], values, [days[day].count for day in busy])
    if slope is None:
        return rows, None
    return rows, {
        "days": slope.days, "per_week": round(slope.per_week, 4), "change": round(slope.change, 4)
    }  # fmt: skip
