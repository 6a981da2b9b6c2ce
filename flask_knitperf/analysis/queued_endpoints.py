"""Endpoints of an overloaded machine that are slow only because of their time on the run queue."""

from __future__ import annotations

from collections.abc import Iterable

from .endpoints import Endpoint
from .latency import Requests, exceeds, judged_for_latency


def queued_endpoints(rows: Iterable[Endpoint]) -> list[Endpoint]:
    """Return the endpoints that exceed their threshold only with their run-queue time, the worst first.

    Args:
        rows: of a window in which the machine is overloaded.
    """
    fine = [row for row in rows if judged_for_latency(row) and _is_queued_endpoints(row)]
    return sorted(fine, key=lambda row: (-row.excess_s, row.endpoint))


def _is_queued_endpoints(row: Endpoint) -> bool:
    results = [
        exceeds(requests, row.moderate_ms)
        for requests in (Requests(row.warm), Requests(row.warm, row))
    ]
    return results[0] is not None and results[1] is None
