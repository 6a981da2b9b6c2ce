"""Whether a worker's memory grows, and which requests keep it: watched always, weighed on suspicion.

Each second, in a busy worker after each few hundred requests, the housekeeper reads what is allocated
(:mod:`.allocators`; where nobody tells that, the resident size) and how many requests each endpoint has
served. Of each interval the lowest reading stays, for garbage comes and goes in between; a full series
is thinned to half, so it spans the whole life of a young worker and the last two hours of an old one.

*Grows* means: over the last two thirds of the series (the first is warm-up) the low readings rise, by
the Mann-Kendall test and by the interval of the Theil-Sen slope against requests served, and in the
last half of that still do. While that is at all likely some requests are weighed
(:mod:`.retained_bytes`), and an endpoint is suspected if what its requests leave behind explains a good
part of what memory grew. Where requests never run alone nothing can be weighed; then non-negative least
squares on the numbers of requests is asked, and believed only where resampling the intervals leaves its
answer standing. What neither explains is said to be unexplained: mere growth accuses nobody.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ...core.trends import nnls, rises, theil_sen
from ...metrics.instruments import Kind, Merge, Meter
from ...recording.recorder import Recorder
from .allocators import Used, allocated
from .process import rss
from .retained_bytes import Key, RetainedBytesMeter

KEPT = 120
"""Readings kept, at most."""
OFTEN_S, SELDOM_S = 0.25, 1.0
"""Readings are so far apart,"""
BUSY = 400
"""the first where so many requests were served meanwhile, else the second."""
LONGEST_S = 64.0
"""An interval begins at the first of those and grows up to this."""
JUDGED_S = 5.0
"""It is judged so often, or"""
JUDGED = 8
"""after so many intervals."""
SOME, FEWEST = 6, 12
"""Readings below which nothing is suspected, and below which nothing is said."""
REQUESTS = 1_000
"""Requests in the judged part below which nothing is said."""
WORTH = 512 * 1024
"""Bytes of growth below which nothing is said."""
STILL = 0.5
"""Share of its slope that growth must have in its last half: a cache that fills up slows down."""
CHANCE = 0.01
SUSPICION = 0.1
EXPLAINS = {"large": 0.35, "small": 0.5}
"""Share of a heap's growth that a suspect explains at least. Some bytes seem to be left: pandas
keeps lists of views for a while, and the C library counts a few freed blocks of up to 1 KB as in use
until somebody takes them again;"""
TOO_MUCH = 1.25
"""who would explain so many times the upper end of its interval leaves what others free."""
IN_VAIN = 400
"""Requests after which weighing that weighed nothing is given up, and numbers of requests are asked."""
REFUTES = 300
"""Requests in the last quarter of the judged part that clear a suspect, if memory grew no more."""
_RESAMPLED = 40

GROWTH = Meter("growth", Kind.GAUGE, "1", ("figure",), 12, Merge.PER_WORKER)
LEAK = Meter("leak", Kind.GAUGE, "bytes", ("endpoint", "method", "figure"), 60, Merge.PER_WORKER)


class Reading(NamedTuple):
    """What was allocated at one moment.

    Attributes:
        seconds: on a clock that never goes back.
        requests: served so far.
        used: bytes of one heap.
        counts: requests served so far by endpoint and method.
    """

    seconds: float
    requests: int
    used: int
    counts: Mapping[Key, int]


class Trend(NamedTuple):
    """How memory grew over the judged part of the series.

    Attributes:
        grown: bytes, by the slope.
        least: bytes that it grew at least, by the lower end of the slope's interval.
        most: bytes that it grew at most, by the upper end.
        requests: served meanwhile.
        seconds: that it took.
        chance: odds that it is an accident.
        lasting: whether the last half still grows.
        readings: how many it rests on.
    """

    grown: float
    least: float
    most: float
    requests: int
    seconds: float
    chance: float
    lasting: bool
    readings: int = FEWEST

    @property
    def known(self) -> bool:
        """Whether anything may be said."""
        return self.readings >= FEWEST

    @property
    def suspicious(self) -> bool:
        """Whether it is worth a closer look; what lasts is not known of few readings."""
        return (
            (self.lasting or not self.known) and self.chance < SUSPICION and self.grown > WORTH / 4
        )

    @property
    def certain(self) -> bool:
        """Whether memory grows."""
        surely = self.chance < CHANCE and self.least > 0
        return self.known and self.lasting and surely and self.grown > WORTH


class Suspect(NamedTuple):
    """An endpoint whose requests keep memory.

    Attributes:
        name: endpoint and method.
        each: bytes per request.
        grown: bytes over the judged part of the series; of who is named, in all the worker's life.
        pairs: requests that were weighed, 0 where it was inferred from their numbers.
    """

    name: Key
    each: float
    grown: float
    pairs: int


class Series:
    """The readings of one worker, thinned as they grow many."""

    def __init__(self) -> None:
        self.readings: deque[Reading] = deque(maxlen=KEPT)
        self.interval = OFTEN_S
        self._lowest: Reading | None = None
        self._opened = 0.0

    def add(self, reading: Reading) -> bool:
        """Take a reading; return whether an interval is over."""
        if self._lowest is None:
            self._opened = reading.seconds
        if self._lowest is None or reading.used <= self._lowest.used:
            self._lowest = reading
        if reading.seconds - self._opened < self.interval:
            return False
        if self.readings and reading.requests == self.readings[-1].requests:
            return False  # nothing was served: nothing is learnt
        self.readings.append(self._lowest)
        self._lowest = None
        if len(self.readings) == KEPT and self.interval * 2 <= LONGEST_S:
            self._thin()
        return True

    def _thin(self) -> None:
        pairs = list(self.readings)
        self.readings = deque(
            (min(pairs[place : place + 2], key=lambda r: r.used) for place in range(0, KEPT, 2)),
            maxlen=KEPT,
        )
        self.interval *= 2

    def judged(self) -> list[Reading]:
        """Return the part that is judged: without the first third, in which a worker warms up."""
        readings = list(self.readings)
        return readings[len(readings) // 3 :]


def trend(readings: Sequence[Reading]) -> Trend | None:
    """Return how memory grew, ``None`` where there is too little to suspect anything."""
    if len(readings) < SOME:
        return None
    served = readings[-1].requests - readings[0].requests
    if served < REQUESTS:
        return None
    x, y = [r.requests for r in readings], [r.used for r in readings]
    whole, half = theil_sen(x, y), len(readings) // 2
    if whole is None:
        return None
    late = theil_sen(x[half:], y[half:], 0.8)
    lasting = late is not None and late.low > 0 and late.middle >= STILL * whole.middle
    seconds = readings[-1].seconds - readings[0].seconds
    low, middle, high = (each * served for each in whole)
    return Trend(middle, low, high, served, seconds, rises(y), lasting, len(readings))


def suspects(
    found: Trend, readings: Sequence[Reading], left: Mapping[Key, float] | None,
    pairs: Mapping[Key, int], share: float,
) -> list[Suspect]:  # fmt: skip
    """Return the endpoints that explain a good part of what one heap grew, the first the most.

    Args:
        found: how it grew.
        readings: the judged ones.
        left: bytes of that heap that a request leaves behind, by endpoint; ``None`` where none could be
            weighed.
        pairs: how many were weighed, by endpoint.
        share: of the growth that a suspect explains at least.
    """
    if left is None:
        made = _inferred(readings)
    else:
        served = _served(readings)
        made = [
            Suspect(name, each, each * served.get(name, 0), pairs[name])
            for name, each in left.items()
        ]
    made = [one for one in made if share * found.grown <= one.grown <= TOO_MUCH * found.most]
    return sorted(made, key=lambda one: -one.grown)


def _served(readings: Sequence[Reading]) -> dict[Key, int]:
    first, last = readings[0].counts, readings[-1].counts
    return {name: count - first.get(name, 0) for name, count in last.items()}


def _inferred(readings: Sequence[Reading]) -> list[Suspect]:
    """Return whom the numbers of requests accuse, nobody where another sample accuses others."""
    served = {name: count for name, count in _served(readings).items() if count}
    names = list(served)
    levels = np.array([[r.counts.get(name, 0) for name in names] + [r.seconds] for r in readings])
    asked = np.diff(levels.astype(float), axis=0)
    grew = np.diff(np.array([r.used for r in readings], float))
    rng = np.random.default_rng(len(readings))
    weights = []
    for _ in range(_RESAMPLED):
        rows = rng.integers(len(grew), size=len(grew))
        weights.append(nnls(asked[rows], grew[rows])[:-1])
    middle, low = np.median(weights, axis=0), np.quantile(weights, 0.05, axis=0)
    return [
        Suspect(name, float(each), float(each) * served[name], 0)
        for name, each, least in zip(names, middle, low, strict=True)
        if least > 0
    ]


class GrowthWatch:
    """Watches the memory of one worker after another. Its methods are the housekeeper's jobs.

    Args:
        recorder: where gauges go.
        weigher: weighs single requests while it is asked to.
        turns: returns how many requests this process began; asked often.
        counts: returns how many requests this worker served, by endpoint and method.
        read: returns the bytes that are allocated, ``None`` where nobody knows.
    """

    def __init__(
        self, recorder: Recorder, weigher: RetainedBytesMeter, turns: Callable[[], int],
        counts: Callable[[], Mapping[Key, int]],
        read: Callable[[], Used | None] = allocated,
    ) -> None:  # fmt: skip
        self._recorder = recorder
        self._weigher = weigher
        self._turns, self._counts, self._read = turns, counts, read
        self._forget()
        recorder.on_change.append(self._forget)

    def _forget(self) -> None:
        """Begin anew: another process has another memory."""
        self._heaps = {heap: Series() for heap in Used._fields}
        self._taken, self._taken_after = 0.0, 0  # the last reading: when, after how many requests
        self._news, self._judged = 0, 0.0
        self._told: dict[Key, Suspect] = {}
        self._calm = 0
        self._stop()

    def _stop(self) -> None:
        self._weigher.stop()
        self._asked_at: int | None = None  # the turn at which weighing was asked for

    def turn(self) -> None:
        """Take a reading when it is time for one, and judge when it is time for that."""
        now, turns = self._recorder.clock.monotonic_ns() / 1e9, self._turns()
        if now - self._taken < SELDOM_S and turns - self._taken_after < BUSY:
            return
        self._taken, self._taken_after = now, turns
        self.take(now)
        if self._news >= JUDGED or (self._news and now - self._judged >= JUDGED_S):
            self._news, self._judged = 0, now
            self.judge()

    def take(self, now: float) -> None:
        """Take a reading.

        Args:
            now: seconds on a clock that never goes back.
        """
        counts = self._counts()
        used = self._read() or Used(rss(), 0)
        served = sum(counts.values())
        over = [
            series.add(Reading(now, served, getattr(used, heap), counts))
            for heap, series in self._heaps.items()
        ]
        self._news += any(over)

    def judge(self) -> list[Suspect]:
        """Say how memory grew and who is suspected, and have requests weighed while it does."""
        counts, served = self._counts(), dict[Key, int]()
        weighed = self._weigher.left()
        pairs = {name: left.pairs for name, left in weighed.items()}
        trends, accused = [], []
        for heap, series in self._heaps.items():
            readings = series.judged()
            found = trend(readings)
            if found is None:
                continue
            trends.append(found)
            served = _served(
                readings[3 * len(readings) // 4 :]
            )  # by then growth has ended, if it has
            if found.certain and (self._weigher.weighs or self._in_vain()):
                left = {name: float(getattr(each, heap)) for name, each in weighed.items()}
                accused += suspects(
                    found, readings, left if self._weigher.weighs else None, pairs, EXPLAINS[heap]
                )
        now = _together(accused)
        known = {one.name for one in now}
        kept = [
            one
            for name, one in self._told.items()
            if name not in known and served.get(name, 0) < REFUTES
        ]  # who is hardly asked any more is not cleared by that
        named = [one._replace(grown=one.each * counts.get(one.name, 0)) for one in (*now, *kept)]
        self._weigh(any(found.suspicious for found in trends))
        self._tell(trends, named)
        return named

    def _weigh(self, suspicious: bool) -> None:
        """Have requests weighed while memory seems to grow, and for a while after that."""
        self._calm = 0 if suspicious else self._calm + 1
        if suspicious:
            self._weigher.start()
            if self._asked_at is None:
                self._asked_at = self._turns()
        elif self._calm > FEWEST:
            self._stop()

    def _in_vain(self) -> bool:
        """Return whether weighing has had its chance: requests do not run alone here."""
        return self._asked_at is not None and self._turns() - self._asked_at >= IN_VAIN

    def _tell(self, trends: Sequence[Trend], named: Sequence[Suspect]) -> None:
        """Record the figures; of what grows no more, and of a suspect that is none any more, zeros."""
        recorder = self._recorder
        grows = [found for found in trends if found.certain]
        told = grows or [found for found in trends if found.known]
        figures = {"grown_bytes": sum(found.grown for found in grows)}
        if told:
            most = max(told, key=lambda found: found.grown)
            figures |= {
                "requests": most.requests, "seconds": most.seconds, "chance": most.chance,
            }  # fmt: skip
        rows = [(recorder.series(GROWTH, name), value) for name, value in figures.items()]
        for one in named:
            rows += [
                (recorder.series(LEAK, *one.name, figure), value)
                for figure, value in (("each", one.each), ("grown", one.grown), ("pairs", one.pairs))
            ]  # fmt: skip
        by_name = {one.name: one for one in named}
        gone = self._told.keys() - by_name.keys()
        rows += [(recorder.series(LEAK, *name, "grown"), 0.0) for name in gone]
        self._told = by_name
        recorder.emit([(series, 1, float(value)) for series, value in rows])


def _together(accused: Sequence[Suspect]) -> list[Suspect]:
    """Return each endpoint once, with what it keeps in both heaps."""
    by_name: dict[Key, Suspect] = {}
    for one in accused:
        had = by_name.get(one.name, Suspect(one.name, 0.0, 0.0, 0))
        by_name[one.name] = Suspect(
            one.name, had.each + one.each, had.grown + one.grown, max(had.pairs, one.pairs)
        )
    return sorted(by_name.values(), key=lambda one: -one.grown)
