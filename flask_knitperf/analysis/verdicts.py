"""Verdicts on endpoints: their habits and their latency."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from .endpoints import Endpoint
from .habits import HABITS
from .judged import SEVERITIES, Verdict
from .latency import LatencyJudge, judged_for_latency
from .noisy_neighbours import NeighbourNote, weights
from .overload import overload

if TYPE_CHECKING:
    from ..core.settings import Settings


def verdicts(
    rows: Iterable[Endpoint], settings: Settings, notes: Iterable[NeighbourNote]
) -> list[Verdict]:
    """Return every verdict, the most severe first, then by time spent above the threshold.

    Args:
        rows: of :func:`.endpoints.endpoints`.
        settings: global thresholds and those of endpoints.
        notes: neighbours of slow requests.
    """
    known, judgements = list(rows), []
    judge = LatencyJudge(weights(known, notes), overloaded=overload(known) is not None)
    for row in known:
        budget = settings.budget(row.endpoint)
        judgements += [
            Verdict(habit.type, habit.severity, row, judged)
            for habit in HABITS if (judged := habit.test(row, budget, settings))
        ]  # fmt: skip
        if judged_for_latency(row):
            judgements += judge.verdicts(row, budget)
    return sorted(
        judgements, key=lambda v: (SEVERITIES[v.severity], -v.row.excess_s, -v.row.time_spent_s)
    )
