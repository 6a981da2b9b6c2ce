"""Leak detection: whether a worker's memory grows, and which endpoints retain it.

Once a second, in a busy worker after every few hundred requests, the housekeeper reads the allocated
bytes (:mod:`.allocators`; RSS where the C library does not publish them) and the number of requests that
each endpoint has served. Each interval keeps its low-water mark, since garbage comes and goes in
between. A full series is thinned to half its readings, so it spans the whole life of a young worker and
the last two hours of an old one.

*Growth* is judged over the last two thirds of the series (the first third is warm-up): the low-water
marks rise, by the Mann-Kendall test and by the confidence interval of the Theil-Sen slope against
requests served, and they still do in the last half. While growth is at all likely, the retained bytes of
single requests are measured (:mod:`.retained_bytes`); an endpoint is suspected if what its requests
retain explains a large share of the growth. Where requests never run solo nothing can be measured; then
non-negative least squares on the request counts takes its place, and counts only if a bootstrap over the
intervals confirms it. Growth that neither explains is reported as unexplained: growth alone names no
endpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ...core.trends import nnls
from ...metrics.catalogue import GROWTH, LEAK, GrowthFigure, LeakFigure
from ...recording.recorder import Recorder
from ..requests.endpoint_series import EndpointKey
from .allocators import AllocatedBytes, allocated_bytes
from .heap_growth import MIN_READINGS, Reading, Series, Trend, trend
from .process import rss
from .retained_bytes import RetainedBytesMeter

READING_INTERVAL_S = 1.0
"""Seconds between two readings of a worker that is not busy."""
REQUESTS_PER_READING = 400
"""Number of requests between two readings of a busy worker."""
JUDGE_INTERVAL_S = 5.0
"""Seconds after which new intervals are judged."""
INTERVALS_PER_JUDGEMENT = 8
"""Number of new intervals that are judged without waiting."""
MIN_EXPLAINED_SHARE = {"large": 0.35, "small": 0.5}
"""Share of a heap's growth that a suspect must explain. It is below 1 because some bytes only seem to be
retained: pandas keeps lists of views for a while, and the C library counts a few freed blocks of up to
1 KB as in use until they are reused."""
MAX_EXPLAINED_RATIO = 1.25
"""A suspect that would explain more than this multiple of the growth's upper bound retains memory that
others free."""
MEASURING_TRIAL_REQUESTS = 400
"""Number of requests without one measurement after which request counts are used instead."""
EXONERATING_REQUESTS = 300
"""Number of requests in the last quarter of the judged part that clear a suspect if growth stopped."""
_BOOTSTRAP_SAMPLES = 40


class Suspect(NamedTuple):
    """An endpoint whose requests retain memory.

    Attributes:
        key: endpoint and method.
        bytes_per_request: retained by one request.
        grown: bytes over the judged part of the series; of a published suspect, over the worker's life.
        pairs: number of measured requests, 0 where it was inferred from request counts.
    """

    key: EndpointKey
    bytes_per_request: float
    grown: float
    pairs: int


def suspects(
    growth: Trend, readings: Sequence[Reading], retained: Mapping[EndpointKey, float] | None,
    pairs: Mapping[EndpointKey, int], min_share: float,
) -> list[Suspect]:  # fmt: skip
    """Return the endpoints that explain a large share of one heap's growth, the largest first.

    Args:
        growth: of the heap.
        readings: the judged ones.
        retained: bytes of that heap retained per request, by endpoint; ``None`` where no request could
            be measured.
        pairs: number of measured requests, by endpoint.
        min_share: share of the growth that a suspect explains at least, 0 to 1.
    """
    if retained is None:
        candidates = _inferred_from_counts(readings)
    else:
        served = _served(readings)
        candidates = [
            Suspect(key, size, size * served.get(key, 0), pairs[key])
            for key, size in retained.items()
        ]
    low, high = min_share * growth.grown, MAX_EXPLAINED_RATIO * growth.grown_high
    return sorted((s for s in candidates if low <= s.grown <= high), key=lambda s: -s.grown)


def _served(readings: Sequence[Reading]) -> dict[EndpointKey, int]:
    """Return the number of requests between the first and the last reading, by endpoint."""
    first, last = readings[0].counts, readings[-1].counts
    return {key: count - first.get(key, 0) for key, count in last.items()}


def _inferred_from_counts(readings: Sequence[Reading]) -> list[Suspect]:
    """Return the endpoints to which non-negative least squares attributes growth.

    An endpoint counts only if it has a positive weight in 95 % of the bootstrap samples.
    """
    served = {key: count for key, count in _served(readings).items() if count}
    keys = list(served)
    levels = np.array([[r.counts.get(key, 0) for key in keys] + [r.seconds] for r in readings])
    requests = np.diff(levels.astype(float), axis=0)
    growth = np.diff(np.array([r.used for r in readings], float))
    rng = np.random.default_rng(len(readings))
    weights = []
    for _ in range(_BOOTSTRAP_SAMPLES):
        rows = rng.integers(len(growth), size=len(growth))
        weights.append(nnls(requests[rows], growth[rows])[:-1])  # without the weight of time
    medians, lows = np.median(weights, axis=0), np.quantile(weights, 0.05, axis=0)
    return [
        Suspect(key, float(weight), float(weight) * served[key], 0)
        for key, weight, low in zip(keys, medians, lows, strict=True)
        if low > 0
    ]


class LeakDetector:
    """Detects leaks in one worker after another. Its methods run in the housekeeper.

    Args:
        recorder: receives gauges.
        meter: measures single requests while memory seems to grow.
        request_count: returns the number of requests that this process has started; called often.
        counts: returns the number of requests that this worker has served, by endpoint and method.
        read: returns the allocated bytes, ``None`` where they are not published.
    """

    def __init__(
        self, recorder: Recorder, meter: RetainedBytesMeter, request_count: Callable[[], int],
        counts: Callable[[], Mapping[EndpointKey, int]],
        read: Callable[[], AllocatedBytes | None] = allocated_bytes,
    ) -> None:  # fmt: skip
        self._recorder = recorder
        self._meter = meter
        self._request_count, self._counts, self._read = request_count, counts, read
        self._reset()
        recorder.on_change.append(self._reset)

    def _reset(self) -> None:
        """Start over: a forked process has another memory."""
        self._heaps = {heap: Series() for heap in AllocatedBytes._fields}
        self._last_reading_s, self._last_reading_requests = 0.0, 0
        self._new_intervals, self._judged_at = 0, 0.0
        self._published: dict[EndpointKey, Suspect] = {}
        self._calm_judgements = 0
        self._stop_measuring()

    def _stop_measuring(self) -> None:
        self._meter.stop()
        self._measuring_since: int | None = None  # number of the request

    def tick(self) -> None:
        """Take a reading when one is due, and judge when that is due."""
        now, requests = self._recorder.clock.monotonic_ns() / 1e9, self._request_count()
        busy = requests - self._last_reading_requests >= REQUESTS_PER_READING
        if now - self._last_reading_s < READING_INTERVAL_S and not busy:
            return
        self._last_reading_s, self._last_reading_requests = now, requests
        self.take_reading(now)
        waited = self._new_intervals and now - self._judged_at >= JUDGE_INTERVAL_S
        if waited or self._new_intervals >= INTERVALS_PER_JUDGEMENT:
            self._new_intervals, self._judged_at = 0, now
            self.judge()

    def take_reading(self, now: float) -> None:
        """Add a reading to the series of both heaps.

        Args:
            now: monotonic time in seconds.
        """
        counts = self._counts()
        used = self._read() or AllocatedBytes(rss(), 0)
        served = sum(counts.values())
        completed = [
            series.add(Reading(now, served, getattr(used, heap), counts))
            for heap, series in self._heaps.items()
        ]
        self._new_intervals += any(completed)

    def judge(self) -> list[Suspect]:
        """Publish growth and suspects, and have requests measured while memory grows."""
        trends, current, recently_served = self._judge_heaps()
        retained = self._unrefuted(current, recently_served)
        counts = self._counts()
        named = [
            suspect._replace(grown=suspect.bytes_per_request * counts.get(suspect.key, 0))
            for suspect in (*current, *retained)
        ]
        self._measure(any(growth.suspicious for growth in trends))
        self._publish(trends, named)
        return named

    def _judge_heaps(self) -> tuple[list[Trend], list[Suspect], dict[EndpointKey, int]]:
        """Return the growth of each heap, the suspects, and the requests of the last quarter."""
        measured = self._meter.review()
        pairs = {key: retained.pairs for key, retained in measured.items()}
        trends: list[Trend] = []
        candidates: list[Suspect] = []
        recently_served = dict[EndpointKey, int]()
        for heap, series in self._heaps.items():
            readings = series.judged()
            growth = trend(readings)
            if growth is None:
                continue
            trends.append(growth)
            # the last quarter: growth that has ended has ended by then
            recently_served = _served(readings[3 * len(readings) // 4 :])
            if not growth.certain:
                continue
            share = MIN_EXPLAINED_SHARE[heap]
            if self._meter.has_measured:
                by_key = {key: float(getattr(row, heap)) for key, row in measured.items()}
                candidates += suspects(growth, readings, by_key, pairs, share)
            elif self._measuring_failed():
                candidates += suspects(growth, readings, None, pairs, share)
        return trends, _merged_heaps(candidates), recently_served

    def _unrefuted(
        self, current: Sequence[Suspect], recently_served: Mapping[EndpointKey, int]
    ) -> list[Suspect]:
        """Return earlier suspects with too few requests since to clear them."""
        keys = {suspect.key for suspect in current}
        return [
            suspect
            for key, suspect in self._published.items()
            if key not in keys and recently_served.get(key, 0) < EXONERATING_REQUESTS
        ]

    def _measure(self, suspicious: bool) -> None:
        """Have requests measured while memory seems to grow, and for a while after that."""
        self._calm_judgements = 0 if suspicious else self._calm_judgements + 1
        if suspicious:
            self._meter.start()
            if self._measuring_since is None:
                self._measuring_since = self._request_count()
        elif self._calm_judgements > MIN_READINGS:
            self._stop_measuring()

    def _measuring_failed(self) -> bool:
        """Return whether measuring had enough requests: here they do not run solo."""
        since = self._measuring_since
        return since is not None and self._request_count() - since >= MEASURING_TRIAL_REQUESTS

    def _publish(self, trends: Sequence[Trend], named: Sequence[Suspect]) -> None:
        """Record the gauges; zeros take back growth that ended and suspects that were cleared."""
        recorder = self._recorder
        growing = [growth for growth in trends if growth.certain]
        judged = growing or [growth for growth in trends if growth.sufficient]
        figures = {GrowthFigure.GROWN_BYTES: sum(growth.grown for growth in growing)}
        if judged:
            largest = max(judged, key=lambda growth: growth.grown)
            figures |= {
                GrowthFigure.REQUESTS: largest.requests,
                GrowthFigure.SECONDS: largest.seconds,
                GrowthFigure.P_VALUE: largest.p_value,
            }
        rows = [(recorder.series(GROWTH, name), value) for name, value in figures.items()]
        for suspect in named:
            values = {
                LeakFigure.BYTES_PER_REQUEST: suspect.bytes_per_request,
                LeakFigure.GROWN_BYTES: suspect.grown,
                LeakFigure.PAIRS: suspect.pairs,
            }
            rows += [
                (recorder.series(LEAK, *suspect.key, name), value) for name, value in values.items()
            ]
        by_key = {suspect.key: suspect for suspect in named}
        cleared = self._published.keys() - by_key.keys()
        rows += [(recorder.series(LEAK, *key, LeakFigure.GROWN_BYTES), 0.0) for key in cleared]
        self._published = by_key
        recorder.emit([(series, 1, float(value)) for series, value in rows])


def _merged_heaps(candidates: Sequence[Suspect]) -> list[Suspect]:
    """Return one suspect per endpoint, with the bytes of both heaps added up."""
    by_key: dict[EndpointKey, Suspect] = {}
    for suspect in candidates:
        total = by_key.get(suspect.key, Suspect(suspect.key, 0.0, 0.0, 0))
        by_key[suspect.key] = Suspect(
            suspect.key,
            total.bytes_per_request + suspect.bytes_per_request,
            total.grown + suspect.grown,
            max(total.pairs, suspect.pairs),
        )
    return sorted(by_key.values(), key=lambda suspect: -suspect.grown)
