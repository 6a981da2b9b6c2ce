"""Which endpoints are suspected to keep memory, put together from what each worker said of itself.

A worker judges its own memory (see :mod:`..collectors.memory.leak_detector`) and publishes what grew,
and whom it suspects. Here that is added up over workers; odds are those of the surest one, times how
many were asked.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..metrics.catalogue import GrowthFigure, LeakFigure
from ..metrics.totals import Pair, Totals


@dataclass(frozen=True, slots=True)
class Leak:
    """What requests of one endpoint are suspected to keep.

    Attributes:
        each_bytes: of one request, the mean over workers by what they grew.
        grown_bytes: of all workers and all requests that they served, so long as each keeps as much.
        workers: how many suspect it.
        pairs: requests that were weighed, 0 where it was inferred from numbers of requests.
        chance: odds that memory only seems to grow.
    """

    each_bytes: float
    grown_bytes: float
    workers: int
    pairs: int
    chance: float


@dataclass(frozen=True, slots=True)
class Growth:
    """How one worker's memory grew, over the stretch that it judged.

    Attributes:
        grown_bytes: 0.0 where it cannot be told from chance, or ended.
        requests: served meanwhile.
        seconds: that it took.
        chance: odds that it is an accident.
    """

    grown_bytes: float
    requests: int
    seconds: float
    chance: float


def growths(totals: Totals) -> dict[str, Growth]:
    """Return how memory grew, by worker; workers that could not judge yet are not there."""
    by_worker: dict[str, dict[str, float]] = {}
    for (figure,), row in totals.rows("growth"):
        for worker, value in totals.gauges([((), row)]).items():
            by_worker.setdefault(worker, {})[figure] = value
    return {
        worker: Growth(
            told[GrowthFigure.GROWN_BYTES],
            round(told[GrowthFigure.REQUESTS]),
            told[GrowthFigure.SECONDS],
            told[GrowthFigure.P_VALUE],
        )
        for worker, told in by_worker.items()
        if told.keys() >= set(GrowthFigure)
    }


def leaks(totals: Totals) -> dict[Pair, Leak]:
    """Return the suspects, by endpoint and method."""
    told: dict[Pair, dict[str, dict[str, float]]] = {}
    for (endpoint, method, figure), row in totals.rows("leak"):
        figures = told.setdefault((endpoint, method), {})
        figures[figure] = totals.gauges([((), row)])
    grew, found = growths(totals), dict[Pair, Leak]()
    for name, figures in told.items():
        grown = {
            worker: size
            for worker, size in figures.get(LeakFigure.GROWN_BYTES, {}).items()
            if size > 0
        }
        if not grown:
            continue
        whole = sum(grown.values())
        each = figures.get(LeakFigure.BYTES_PER_REQUEST, {})
        pairs = figures.get(LeakFigure.PAIRS, {})
        chance = min((grew[worker].chance for worker in grown if worker in grew), default=1.0)
        found[name] = Leak(
            sum(each.get(worker, 0.0) * size for worker, size in grown.items()) / whole,
            whole,
            len(grown),
            round(sum(pairs.get(worker, 0.0) for worker in grown)),
            min(1.0, chance * max(1, len(grew))),
        )
    return found
