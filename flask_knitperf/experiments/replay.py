"""Replay of one request, with gauges read right after garbage collections.

A collection takes longer than many requests do, so there is not one after each. The number of requests
between two collections is drawn from a fixed pseudo-random sequence: a constant number would alias with
the period of a batch.
"""

from __future__ import annotations

import gc
import math
import random
import time
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate

WARM_UP_REQUESTS = 40
"""Requests before measuring starts."""
MIN_REQUESTS = 60
MAX_REQUESTS = 600
"""Bounds of the number of measured requests, if the caller does not choose it."""
TARGET_S = 40.0
"""Duration of a phase that the number of requests is chosen for."""
COLLECTION_SHARE = 0.5
"""Time for collections as a share of the time for requests."""
MIN_SAMPLES = 40
"""Smallest number of gauge readings in a run."""

Serve = Callable[[], int]
"""Function that serves the request and returns its status code."""
OnProgress = Callable[[int, int, float], None]
"""Callback: requests done, requests in total, seconds that all take (0 while unknown)."""
Series = list[tuple[int, float]]
"""Readings of a gauge: requests served by then, and the value."""


class Replay:
    """Replays a request and records gauges.

    Args:
        serve: serves the request once.
        gauges: functions that each read a number, by name.
        on_progress: called after each request.
        requests: number of requests to measure; by default as many as fit into :data:`TARGET_S`.
    """

    def __init__(
        self, serve: Serve, gauges: Mapping[str, Callable[[], float]], on_progress: OnProgress,
        requests: int | None = None,
    ) -> None:  # fmt: skip
        self.serve = serve
        self._gauges = gauges
        self._on_progress = on_progress
        self._random = random.Random(0)  # noqa: S311
        self._stride = 1.0
        self._chosen_requests = requests
        self.requests = requests or MIN_REQUESTS
        self.expected_s = 0.0
        self.served = 0
        self.statuses: Counter[int] = Counter()

    def warm_up(self) -> None:
        """Serve until caches are usually filled, and estimate the duration of the run."""
        self._serve(WARM_UP_REQUESTS // 2)
        gc.collect()
        started = time.perf_counter()
        self._serve(WARM_UP_REQUESTS // 2)
        served = time.perf_counter()
        gc.collect()
        request_s = (served - started) / (WARM_UP_REQUESTS // 2)
        collection_s = time.perf_counter() - served
        if self._chosen_requests is None:
            fitting = round(TARGET_S / max(request_s * (1 + COLLECTION_SHARE), 1e-6))
            self.requests = min(MAX_REQUESTS, max(MIN_REQUESTS, fitting))
        self._set_stride(request_s, collection_s, self.requests // 3)
        self.expected_s = self.requests * (request_s + collection_s / self._stride)

    def _set_stride(self, request_s: float, collection_s: float, count: int) -> None:
        """Set the mean number of requests between collections to meet their share of the time."""
        stride = collection_s / max(request_s * COLLECTION_SHARE, 1e-9)
        self._stride = max(1.0, min(stride, count / MIN_SAMPLES))

    def _serve(self, count: int) -> None:
        for _ in range(count):
            self.serve_once()

    def serve_once(self) -> None:
        """Serve the request once."""
        status = self.serve()
        self.served += 1
        self.statuses[status] += 1
        self._on_progress(self.served, WARM_UP_REQUESTS + self.requests, self.expected_s)

    def run(
        self, count: int, inspections: int = 0, inspect: Callable[[], None] = lambda: None
    ) -> dict[str, Series]:
        """Serve ``count`` requests and return the readings of each gauge.

        Args:
            count: number of requests.
            inspections: calls of ``inspect``, first and last request included, at uneven distances.
            inspect: called right after a collection.
        """
        requests = array("q", bytes(8 * (count + 1)))
        values = [array("d", bytes(8 * (count + 1))) for _ in self._gauges]
        gauges = list(self._gauges.values())
        inspected = set(uneven_steps(count, inspections, self._random))
        n_readings = next_reading = last_reading = 0
        resumed = time.perf_counter()
        for number in range(count + 1):
            if number:
                self.serve_once()
            if number >= next_reading or number in inspected or number == count:
                stopped = time.perf_counter()
                gc.collect()
                if number > last_reading:  # collections take longer as memory is retained
                    request_s = (stopped - resumed) / (number - last_reading)
                    self._set_stride(request_s, time.perf_counter() - stopped, count)
                requests[n_readings] = self.served
                for column, read in zip(values, gauges, strict=True):
                    column[n_readings] = read()
                n_readings += 1
                if number >= next_reading:
                    next_reading = number + self._draw_stride()
                if number in inspected:
                    inspect()
                last_reading, resumed = number, time.perf_counter()
        return {
            name: list(zip(requests[:n_readings], column[:n_readings], strict=True))
            for name, column in zip(self._gauges, values, strict=True)
        }

    def _draw_stride(self) -> int:
        """Return the number of requests to the next collection, with the stride as its mean."""
        return max(1, math.floor(self._random.uniform(0.5, 2 * self._stride - 0.5) + 0.5))


def uneven_steps(count: int, steps: int, generator: random.Random) -> Sequence[int]:
    """Return ``steps`` numbers from 0 to ``count``, both included, at different distances."""
    if steps < 2:
        return []
    weights = [generator.uniform(0.6, 1.4) for _ in range(steps - 1)]
    total = sum(weights)
    return [0, *(round(weight / total * count) for weight in accumulate(weights))]
