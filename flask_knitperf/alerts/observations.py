"""Observations of rules: tallies of slots and values, from rows of the history.

A series concerns few rules; which ones, and as which subject, is decided once for each series. Rows are
decoded all at once, as columns.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..core.clock import NS_PER_MS
from ..core.units import MB
from ..history import rows
from ..history.lease import LEASE_OF_HISTORY
from ..history.resolutions import DAY, FINEST, Stretch
from ..history.store import SeriesKey, Store
from ..metrics.catalogue import (
    CACHE_EVENT,
    CACHE_HIT,
    CACHE_MISSES,
    FAILURE_STATUSES,
    KILLED,
    LEAK,
    QUEUE,
    REQUEST,
    RSS,
    LeakFigure,
    StatusClass,
    When,
)
from ..metrics.columns import Columns
from ..metrics.histogram import bucket
from .conditions import Tally
from .evaluator import REST, Slot
from .rules import ALL, EVERY, Metric, Rule

FORGOTTEN_S = 7 * DAY
"""Time after which a host that has written nothing is not expected any more."""
_NONE = -(1 << 40)  # in place of a bucket
_FRESH_S = 90  # age of the latest value of a gauge, at most
_SLOTS_AT_ONCE = 64  # whose rows are in memory

Ints = npt.NDArray[np.int64]
Threshold = Callable[[str], float]
"""Returns the threshold of an endpoint in milliseconds."""
ValuesBySlot = dict[int, dict[str, float]]
"""Values by the start of their slot, and by subject."""


class _Use(NamedTuple):
    """Use of a series by one rule.

    Attributes:
        rule: name of the rule.
        subject: of its tally.
        above: bucket above which its observations are bad; ``None`` if all are, or none.
        all_bad: whether all of them are.
    """

    rule: str
    subject: str
    above: int | None
    all_bad: bool


class _Reading(NamedTuple):
    """A value of a gauge, with the start of its slot and the number of its host."""

    slot: int
    source: int
    key: SeriesKey
    row: rows.GaugeRow


class Observer:
    """Reads what rules observe.

    Args:
        rules: the rules.
        threshold: returns the threshold of an endpoint in milliseconds.
    """

    def __init__(self, rules: Iterable[Rule], threshold: Threshold) -> None:
        self._rules = list(rules)
        self._threshold = threshold
        self._uses: dict[int, list[_Use]] = {}

    def slots(self, store: Store, stretches: Iterable[Stretch]) -> Iterator[Slot]:
        """Yield the slots of some stretches, in order of time; of three days they are many.

        Args:
            store: the rows.
            stretches: slots of one resolution each, in order of time.
        """
        self._learn(store)
        numbers = [number for number, uses in self._uses.items() if uses]
        for stretch in stretches:
            step = _SLOTS_AT_ONCE * stretch.resolution.seconds
            for begins in range(stretch.begins, stretch.ends, step):
                ends = min(begins + step, stretch.ends)
                yield from self._slots(store, Stretch(stretch.resolution, begins, ends), numbers)

    def _slots(self, store: Store, stretch: Stretch, numbers: Sequence[int]) -> Iterator[Slot]:
        some = store.rows([stretch], numbers)
        if not some.series:
            return
        nameless: Any = (None,) * len(some.series)
        whole = rows.columns_of(nameless, np.arange(len(some.series)), some.data)
        pairs = [
            (place, use) for place, number in enumerate(some.series) for use in self._uses[number]
        ]
        place = np.array([place for place, _ in pairs])
        total = whole.count[place]
        bad = self._bad(whole, place, total, [use for _, use in pairs])
        slots, slot = np.unique(some.slots, return_inverse=True)
        owners = {(use.rule, use.subject): 0 for _, use in pairs}
        owners.update(zip(owners, range(len(owners)), strict=True))
        owner = np.array([owners[use.rule, use.subject] for _, use in pairs])
        code = owner * len(slots) + slot[place]
        sums = [
            np.bincount(code, values, len(owners) * len(slots)).astype(np.int64).tolist()
            for values in (total, bad)
        ]
        for number, at in enumerate(slots.tolist()):
            tallies: dict[str, dict[str, Tally]] = {}
            for (rule, subject), first in owners.items():
                where = first * len(slots) + number
                if sums[0][where]:
                    tallies.setdefault(rule, {})[subject] = Tally(sums[0][where], sums[1][where])
            yield Slot(at, stretch.resolution.seconds, tallies)

    def _bad(self, whole: Columns, place: Ints, total: Ints, uses: Sequence[_Use]) -> Ints:
        """Return the number of bad observations of each use of a row.

        Args:
            whole: the rows as columns.
            place: of the row of each use.
            total: number of observations of each use.
            uses: the uses.
        """
        bad = np.where([use.all_bad for use in uses], total, 0)
        limits = np.array([_NONE if use.above is None else use.above for use in uses])
        for limit in np.unique(limits[limits != _NONE]).tolist():
            above = whole.bucket > limit
            counts = np.bincount(whole.row[above], whole.weight[above], len(whole.count))
            chosen = limits == limit
            bad[chosen] = counts[place[chosen]].astype(np.int64)
        return bad

    def _learn(self, store: Store) -> None:
        """Decide on the uses of series that are new; another host may have added a lower number."""
        store.load_series()
        known = store.series()
        if len(known) != len(self._uses):
            for number in known.keys() - self._uses.keys():
                self._uses[number] = list(self._uses_of(known[number][0]))

    def _uses_of(self, key: SeriesKey) -> Iterable[_Use]:
        chosen = _METERS.get(key.name)
        if chosen is None:
            return
        labels = tuple(json.loads(key.labels))
        for rule in self._rules:
            if rule.metric in chosen:
                use = self._use(rule, key.name, labels)
                if use is not None:
                    yield use

    def _use(self, rule: Rule, meter: str, labels: tuple[str, ...]) -> _Use | None:
        if meter in (REQUEST.name, KILLED.name):
            endpoint, method = labels[:2]
            if rule.endpoint not in (ALL, EVERY, endpoint):
                return None
            subject = "" if rule.endpoint == ALL else f"{method} {endpoint}"
            if rule.metric is Metric.SLOW:
                if labels[3] == When.FIRST:
                    return None
                limit = self._threshold(endpoint) if rule.limit_ms is None else rule.limit_ms
                return _Use(rule.name, subject, bucket(limit * NS_PER_MS), all_bad=False)
            failed = rule.metric is Metric.KILLED or labels[2] in _FAILED
            return _Use(rule.name, subject, None, all_bad=failed)
        if meter == QUEUE.name:
            limit = rule.limit_ms or 0.0
            return _Use(rule.name, "", bucket(limit * NS_PER_MS), all_bad=False)
        if meter == CACHE_HIT.name:
            return _Use(rule.name, "", None, all_bad=False)
        return _Use(rule.name, "", None, all_bad=True) if labels[1] in CACHE_MISSES else None

    # -- values --------------------------------------------------------------------------------------

    def values(self, store: Store, now: float) -> dict[str, dict[str, float]]:
        """Return the latest values by rule and subject; hosts write at different moments of a slot."""
        stretch = Stretch(FINEST, FINEST.slot(now - _FRESH_S), FINEST.slot(now) + FINEST.seconds)
        by_slot = self._by_slot(store, stretch, _latest)
        values = {name: one.get(0, {}) for name, one in by_slot.items()}
        for rule in self._rules:
            if rule.metric is Metric.LEAKS and any(_gauges(store, stretch, RSS.name)):
                # a worker that suspects an endpoint no longer, or was replaced, has no value for it
                values[rule.name] = {REST: 0.0, **values[rule.name]}
        silent = [rule.name for rule in self._rules if rule.metric is Metric.SILENCE_S]
        if silent:
            values.update(dict.fromkeys(silent, _silence(store, now)))
        return values

    def values_by_slot(self, store: Store, stretch: Stretch) -> dict[str, ValuesBySlot]:
        """Return values by rule, of the rules that observe gauges."""
        return self._by_slot(store, stretch, list)

    def _by_slot(
        self, store: Store, stretch: Stretch, choose: Callable[[Iterable[_Reading]], list[_Reading]]
    ) -> dict[str, ValuesBySlot]:
        chosen = [rule for rule in self._rules if rule.metric in _GAUGES]
        read = {
            metric: values(choose(_gauges(store, stretch, meter)))
            for metric, (meter, values) in _GAUGES.items()
            if any(rule.metric is metric for rule in chosen)
        }
        return {rule.name: read[rule.metric] for rule in chosen}


_FAILED = FAILURE_STATUSES | {StatusClass.SERVER_ERROR}
_METERS: Mapping[str, frozenset[Metric]] = {
    REQUEST.name: frozenset((Metric.SLOW, Metric.FAILED)),
    KILLED.name: frozenset((Metric.KILLED,)),
    QUEUE.name: frozenset((Metric.QUEUED,)),
    CACHE_HIT.name: frozenset((Metric.CACHE_MISSES,)),
    CACHE_EVENT.name: frozenset((Metric.CACHE_MISSES,)),
}


def _gauges(store: Store, stretch: Stretch, name: str) -> Iterator[_Reading]:
    """Yield the values of a gauge."""
    numbers = [number for number, (key, _) in store.series().items() if key.name == name]
    some = store.rows([stretch], numbers) if numbers else None
    if some is not None and some.series:
        values = rows.gauges_of(some.data)
        for number, slot, source, row in zip(
            some.series, some.slots, some.sources, values, strict=True
        ):
            yield _Reading(slot, source, store.series()[number][0], row)


def _latest(readings: Iterable[_Reading]) -> list[_Reading]:
    """Return the latest value of a gauge on every host, all in one slot."""
    latest: dict[tuple[SeriesKey, int], _Reading] = {}
    for one in sorted(readings, key=lambda one: one.slot):
        latest[one.key, one.source] = one._replace(slot=0)
    return list(latest.values())


def _memory(readings: Iterable[_Reading]) -> ValuesBySlot:
    """Return the resident memory of the largest worker, in MB."""
    most: dict[int, dict[str, float]] = {}
    for slot, _, _, row in readings:
        values = most.setdefault(slot, {})
        values[""] = max(values.get("", 0.0), row.high / MB)
    return most


def _leaks(readings: Iterable[_Reading]) -> ValuesBySlot:
    """Return the bytes by which endpoints that are suspected have grown."""
    grown: dict[int, dict[str, float]] = {}
    for slot, _, key, row in readings:
        endpoint, method, figure = json.loads(key.labels)
        if figure == LeakFigure.GROWN_BYTES:
            values, subject = grown.setdefault(slot, {}), f"{method} {endpoint}"
            values[subject] = max(values.get(subject, 0.0), row.high)
    return grown


_GAUGES = {Metric.MEMORY_MB: (RSS.name, _memory), Metric.LEAKS: (LEAK.name, _leaks)}


def _silence(store: Store, now: float) -> dict[str, float]:
    """Return the seconds since hosts wrote; of those that ended regularly, none."""
    results = store.connection.execute(
        "SELECT knitperf_sources.name, max(at), max(expires) FROM knitperf_sources"
        " JOIN knitperf_baselines ON source = id"
        " JOIN knitperf_leases ON knitperf_leases.name = ? || knitperf_sources.name"
        " GROUP BY knitperf_sources.name",
        (LEASE_OF_HISTORY,),
    )
    return {
        name: max(0.0, now - at) for name, at, expires in results
        if expires > 0 and now - at < FORGOTTEN_S
    }  # fmt: skip
