"""Documents of single requests: ``/perf/request``, and their rows in ``/perf/why``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from ..analysis.single_requests import SingleRequest, latest_and_slowest
from ..core.errors import KnitPerfError
from ..metrics.stack_trie import Trie
from ..storage.exemplars import Exemplar
from .values import in_ms, moment, rounded

if TYPE_CHECKING:
    from .documents import request as types
    from .documents.endpoint import RequestTables
    from .documents.report import EndpointRow


def request_tables(exemplars: Iterable[Exemplar], row: EndpointRow) -> RequestTables:
    """Return the newest and the slowest requests of an endpoint.

    Args:
        exemplars: of the window, of any endpoint.
        row: the endpoint in the report.
    """
    latest, slowest = latest_and_slowest(exemplars, (row["endpoint"], row["method"]))
    return {
        "latest": [_row(request, row) for request in latest],
        "slowest": [_row(request, row) for request in slowest],
    }


def _row(request: SingleRequest, row: EndpointRow) -> types.RequestRow:
    concurrent = request.concurrent
    return {**_summary(request, row), "beside": concurrent[0].endpoint if concurrent else None}


def _summary(request: SingleRequest, row: EndpointRow) -> types.RequestSummary:
    exemplar, document, parts = request.exemplar, request.document, request.parts
    return {
        "id": exemplar.name,
        "at": moment(exemplar.at, "milliseconds"),
        "ms": in_ms(exemplar.wall),
        "status": document["status"],
        "slow": request.is_slow(row["thresholds"]["moderate_ms"], row["p99_ms"]),
        "first": document["first"],
        "disconnected": document["disconnected"],
        "most": parts[0].name if parts else None,
        "most_ms": parts[0].us / 1000 if parts else None,
        "sampled": document["stacks"] is not None,
    }


def build_request_report(
    exemplar: Exemplar, row: EndpointRow
) -> tuple[types.RequestReport, Trie | None]:
    """Return the document of one request, and its stack samples.

    Args:
        exemplar: the request.
        row: its endpoint in the report.

    Returns:
        The stacks are ``None`` where the request ended before it was sampled.

    Raises:
        KnitPerfError: the stored request is damaged.
    """
    request = SingleRequest.of(exemplar)
    if request is None:
        raise KnitPerfError(f"request {exemplar.name} is damaged")
    document, wall_ms = request.document, exemplar.wall / 1e6
    cpu_ms = None if document["cpu"] is None else min(wall_ms, document["cpu"] / 1000)
    ready_ms = 0.0 if cpu_ms is None else min(wall_ms - cpu_ms, document["ready"] / 1000)
    report: types.RequestReport = {
        "schema": "flask-knitperf/request/1",
        **_summary(request, row),
        "pid": document["pid"],
        "endpoint": exemplar.endpoint,
        "method": exemplar.method,
        "rule": row["rule"],
        "bytes_out": document["bytes"],
        "rows": document.get("rows"),
        "cpu_ms": rounded(cpu_ms),
        "ready_ms": None if cpu_ms is None else rounded(ready_ms),
        "wait_ms": None if cpu_ms is None else rounded(wall_ms - cpu_ms - ready_ms),
        "gc_ms": document["gc"] / 1000,
        "parts": _parts(request, wall_ms),
        "timeline": _timeline(request),
        "parts_left_out": document["more"],
        "beside": [
            {"endpoint": overlap.endpoint, "method": overlap.method, "ms": overlap.us / 1000}
            for overlap in request.concurrent
        ],
    }
    return report, request.stacks


def _parts(request: SingleRequest, wall_ms: float) -> list[types.RequestPartRow]:
    return [
        {"name": part.name, "count": part.runs, "ms": part.us / 1000,
         "share": rounded(min(1.0, part.us / 1000 / wall_ms), 4) if wall_ms else 0.0}
        for part in request.parts
    ]  # fmt: skip


def _timeline(request: SingleRequest) -> list[types.EventRow]:
    return [
        {"name": event.name, "begin_ms": event.begin_us / 1000, "ms": event.us / 1000,
         "depth": event.depth, "detail": cast("types.EventDetail | None", event.detail)}
        for event in request.timeline()
    ]  # fmt: skip
