"""The report: one dict that the page, the terminal, the history and the exports all read.

It is a pure function of the window's totals; the clock and what only the running application knows
(its routes, its workers, the cost of measuring) are arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ..metrics.catalogue import NEIGHBOUR
from ..metrics.totals import Totals
from . import endpoints
from . import findings as found_in
from .hot_lines import top_lines, whole
from .noisy_neighbours import neighbours
from .pandas_antipatterns import patterns
from .scorecard import scorecard

if TYPE_CHECKING:
    from ..core.settings import Settings
    from ..metrics.stack_trie import Tries

SCHEMA = "flask-knitperf/report/1"


def report(
    totals: Totals,
    settings: Settings,
    *,
    routes: Iterable[endpoints.Route],
    workers: Iterable[Mapping[str, Any]],
    window: Mapping[str, Any],
    now: float,
    self_: Mapping[str, Any],
    tries: Tries | None = None,
) -> dict[str, Any]:
    """Return the report behind ``/perf/report``, JSON-serialisable.

    Args:
        totals: of a run, or of a window of one.
        settings: thresholds and targets.
        routes: ``(endpoint, rule, methods)`` of the application's URL map.
        workers: ``{host, pid, started, alive, busy_share}`` of each.
        window: ``{from, to, run, release}``.
        now: seconds since the epoch.
        self_: what measuring cost: ``{us_per_request, dropped, degraded}``.
        tries: sampled stacks, ``None`` where nobody sampled.
    """
    known = list(routes)
    rows = endpoints.endpoints(totals, settings, known)
    for row in rows:
        kinds = (tries or {}).get((row.endpoint, row.method))
        if kinds:
            row.sampled = whole(kinds)
            row.lines = top_lines(row.sampled)
            row.uses = patterns(row.sampled)
    found = found_in.findings(totals, rows, settings)
    coverage = endpoints.coverage(rows, known)
    return {
        "schema": SCHEMA,
        "generated_at": datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"),
        "window": dict(window),
        "workers": [dict(worker) for worker in workers],
        "coverage": coverage,
        "endpoints": [row.as_dict() for row in rows],
        "functions": endpoints.functions(totals),
        "queue": endpoints.queue(totals),
        "neighbours": neighbours(rows, totals.notes(NEIGHBOUR)),
        "bottlenecks": [finding.as_dict() for finding in found],
        "recommendations": found_in.recommendations(found),
        "scorecard": scorecard(totals, rows, coverage, settings),
        "self": dict(self_),
    }
