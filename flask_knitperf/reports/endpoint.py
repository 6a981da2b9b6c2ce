"""One endpoint in detail: ``/perf/why``, alone or compared with another window."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..analysis.hot_lines import ChangedLine, Difference, change, difference, whole
from ..core.clock import NS_PER_MS
from ..core.errors import KnitPerfError
from ..core.printable import printable
from ..metrics.stack_trie import Trie, Tries
from ..storage.exemplars import Exemplar
from .request import request_tables
from .values import rounded

if TYPE_CHECKING:
    from .documents import endpoint as types
    from .documents.report import EndpointRow, Report

MIN_SIMILARITY = 0.4  # of names, for a suggestion; 1.0 is equal
Kinds = dict[str, Trie]
"""Stacks of one endpoint, by kind of requests."""


class Opened(NamedTuple):
    """One endpoint in detail.

    Attributes:
        document: the document of ``/perf/why``.
        kinds: its stacks.
        before: its stacks in the window that it is compared with, ``None`` without one.
    """

    document: types.EndpointReport
    kinds: Kinds
    before: Trie | None = None


def endpoint_row(report: Report, endpoint: str, method: str | None = None) -> EndpointRow:
    """Return the row of one endpoint in a report.

    Args:
        report: the report of a window.
        endpoint: its name, as recorded or as documents show it.
        method: one of its methods, ``None`` for the one that took most time.

    Raises:
        KnitPerfError: the endpoint has no data.
    """
    rows = [row for row in report["endpoints"] if method in (None, row["method"])]
    named = [row for row in rows if row["endpoint"] == endpoint]
    named = named or [row for row in rows if printable(row["endpoint"]) == endpoint]
    if not named:
        raise KnitPerfError(_unknown(endpoint, method, report["endpoints"]))
    return max(named, key=lambda row: row["time_spent_s"])


def build_endpoint_report(
    report: Report,
    row: EndpointRow,
    tries: Tries | None,
    exemplars: Iterable[Exemplar] | None,
) -> Opened:
    """Return one endpoint in detail.

    Args:
        report: the report of a window.
        row: of the endpoint in the report, see :func:`endpoint_row`.
        tries: sampled stacks of the same window, ``None`` where the sampler is off.
        exemplars: single requests of the same window, ``None`` where none are kept.
    """
    pair = row["endpoint"], row["method"]
    kinds = (tries or {}).get(pair, {})
    document: types.EndpointReport = {
        "schema": "flask-knitperf/why/1",
        "window": report["window"],
        "endpoint": row["endpoint"],
        "method": row["method"],
        "findings": [
            finding for finding in report["bottlenecks"]
            if (finding["endpoint"], finding["method"]) == pair
        ],
        "row": row,
        "difference": [_difference(line) for line in difference(kinds, _normal_ns(row))],
        "sampled": tries is not None,
        "requests": request_tables(exemplars or (), row),
        "keeps_requests": exemplars is not None,
        "against": None,
        "release_change": None,
        "timeline": None,
    }  # fmt: skip
    return Opened(document, kinds)


def compare_endpoint(opened: Opened, report: Report, tries: Tries | None) -> Opened:
    """Return one endpoint in detail, compared with another window.

    Args:
        opened: of :func:`build_endpoint_report`.
        report: the report of the window to compare with.
        tries: stacks of that window.
    """
    document = opened.document
    pair = document["endpoint"], document["method"]
    rows = [row for row in report["endpoints"] if (row["endpoint"], row["method"]) == pair]
    row = rows[0] if rows else None
    before = whole((tries or {}).get(pair, {}))
    lines: list[ChangedLine] = []
    if row is not None:
        lines = change(whole(opened.kinds), before, document["row"]["mean_ms"], row["mean_ms"])
    against: types.Against = {
        "window": report["window"],
        "row": row,
        "lines": [_changed_line(line) for line in lines],
    }
    return Opened({**document, "against": against}, opened.kinds, before)


def _normal_ns(row: EndpointRow) -> float | None:
    """Return an upper bound of the time of requests within the threshold, if most requests are."""
    distribution, limit = row["distribution"], row["thresholds"]["moderate_ms"]
    buckets = list(zip(distribution["upper_ms"], distribution["count"], strict=True))
    within = [(upper, count) for upper, count in buckets if upper <= limit]
    if 2 * sum(count for _, count in within) < sum(distribution["count"]):
        return None
    return sum(upper * count for upper, count in within) * NS_PER_MS


def _difference(line: Difference) -> types.DifferenceRow:
    return {
        "where": line.where,
        "function": line.function,
        "slow_share": rounded(line.slow_share, 4),
        "normal_share": rounded(line.normal_share, 4),
        "change": rounded(line.change, 4),
    }


def _changed_line(line: ChangedLine) -> types.ChangedLineRow:
    return {
        "where": line.where,
        "function": line.function,
        "ms": rounded(line.ms),
        "before_ms": rounded(line.before_ms),
        "change_ms": rounded(line.change_ms),
    }


def _unknown(endpoint: str, method: str | None, rows: Sequence[EndpointRow]) -> str:
    names = sorted({row["endpoint"] for row in rows})
    near = difflib.get_close_matches(endpoint, names, 1, MIN_SIMILARITY)
    hint = f"; did you mean {near[0]}?" if near else ""
    name = endpoint if method is None else f"{method} {endpoint}"
    return f'no data for "{name}" in this window{hint}'
