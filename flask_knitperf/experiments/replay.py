"""One request, served again and again, with exact figures read when no garbage waits.

A collection costs more than many a request, so it does not follow each of them. How many requests lie
between two is drawn from a fixed sequence: a fixed number would beat against the period of a batch.
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

WARM = 40
"""Requests before anything is judged."""
_LEAST, _MOST = 60, 600
_SECONDS = 40.0
"""About how long a phase may take where nobody says how many requests."""
_COLLECTING = 0.5
"""Time for collections, as a share of the time for requests."""
_LEAST_SAMPLES = 40

Serve = Callable[[], int]
"""Serves the request and returns its status."""
Tell = Callable[[int, int, float], None]
"""Told how many requests are done, of how many, and the seconds that all take (0: not known yet)."""
Series = list[tuple[int, float]]


class Replay:
    """Serves a request and keeps what figures are after it.

    Args:
        serve: serves the request once.
        figures: functions that read a number each.
        tell: told how far it is.
        requests: how many to measure; by default as many as fit into a short time.
    """

    def __init__(
        self, serve: Serve, figures: Mapping[str, Callable[[], float]], tell: Tell,
        requests: int | None = None,
    ) -> None:  # fmt: skip
        self.serve = serve
        self._figures = figures
        self._tell = tell
        self._random = random.Random(0)  # noqa: S311
        self._stride = 1.0
        self._most = requests
        self.requests = requests or _LEAST
        self.seconds = 0.0
        self.at = 0
        self.statuses: Counter[int] = Counter()

    def warm(self) -> None:
        """Serve until caches are filled as a rule, and see how long it takes."""
        self._few(WARM // 2)
        gc.collect()
        began = time.perf_counter()
        self._few(WARM // 2)
        served = time.perf_counter()
        gc.collect()
        one = (served - began) / (WARM // 2)
        collecting = time.perf_counter() - served
        if self._most is None:
            fit = round(_SECONDS / max(one * (1 + _COLLECTING), 1e-6))
            self.requests = min(_MOST, max(_LEAST, fit))
        self._pace(one, collecting, self.requests // 3)
        self.seconds = self.requests * (one + collecting / self._stride)

    def _pace(self, one: float, collecting: float, count: int) -> None:
        """Collect after so many requests that it takes its share of the time, but often enough."""
        wanted = collecting / max(one * _COLLECTING, 1e-9)
        self._stride = max(1.0, min(wanted, count / _LEAST_SAMPLES))

    def _few(self, count: int) -> None:
        for _ in range(count):
            self.once()

    def once(self) -> None:
        """Serve the request once."""
        status = self.serve()
        self.at += 1
        self.statuses[status] += 1
        self._tell(self.at, WARM + self.requests, self.seconds)

    def run(
        self, count: int, looks: int = 0, look: Callable[[], None] = lambda: None
    ) -> dict[str, Series]:
        """Serve so many requests; return each figure's values.

        Args:
            count: how many.
            looks: how often to look closer, first and last included, at uneven distances.
            look: what is done then; the collector has run before.
        """
        places = array("q", bytes(8 * (count + 1)))
        values = [array("d", bytes(8 * (count + 1))) for _ in self._figures]
        reads = list(self._figures.values())
        closer = set(uneven(count, looks, self._random))
        kept = next_ = last = 0
        left = time.perf_counter()
        for turn in range(count + 1):
            if turn:
                self.once()
            if turn >= next_ or turn in closer or turn == count:
                came = time.perf_counter()
                gc.collect()
                if turn > last:  # it takes longer the more has stayed
                    self._pace((came - left) / (turn - last), time.perf_counter() - came, count)
                places[kept] = self.at
                for place, read in enumerate(reads):
                    values[place][kept] = read()
                kept += 1
                if turn >= next_:
                    next_ = turn + self._step()
                if turn in closer:
                    look()
                last, left = turn, time.perf_counter()
        return {
            name: list(zip(places[:kept], values[place][:kept], strict=True))
            for place, name in enumerate(self._figures)
        }

    def _step(self) -> int:
        """Return after how many requests to collect again: on average the stride."""
        return max(1, math.floor(self._random.uniform(0.5, 2 * self._stride - 0.5) + 0.5))


def uneven(count: int, looks: int, chance: random.Random) -> Sequence[int]:
    """Return moments from 0 to ``count``, both included, at distances that differ."""
    if looks < 2:
        return []
    weights = [chance.uniform(0.6, 1.4) for _ in range(looks - 1)]
    whole = sum(weights)
    return [0, *(round(part / whole * count) for part in accumulate(weights))]
