"""Values of the pages of all endpoints and of one: a document's figures as text, bars as coordinates.

Pure functions from a report document to what a template prints. No HTML here: templates escape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from ..analysis.phrases import title
from ..core.units import NONE, count, duration, number, percent, rate, size
from . import Values, cache_text, html_times, wording
from .anchors import anchor
from .chart import seconds
from .html_cache import what_if
from .html_cards import cards
from .html_charts import trend
from .html_request import listed
from .html_timeline import timeline

if TYPE_CHECKING:
    from ..reports.documents import EndpointReport, Report
    from ..reports.documents.charts import EndpointTrend
    from ..reports.documents.endpoint import Against, ChangedLineRow
    from ..reports.documents.report import (
        CriterionRow,
        EndpointRow,
        FindingRow,
        FunctionRow,
        JobRow,
    )

_WIDTH = 120.0
_HEIGHT = 28.0
"""Width and height of a small picture, in its units."""
_MIN_BARS = 12
_NO_TRENDS: Mapping[tuple[str, str], EndpointTrend] = MappingProxyType({})
_MAX_NEIGHBOURS = 12
_MAX_LINES = 8
"""Lines that differ between slow and other requests, or between two windows."""
_BUCKET_TOLERANCE = 1.012
"""A histogram bucket's upper end may exceed its values by this factor."""


def histogram(row: EndpointRow) -> Values:
    """Return an endpoint's response times as bars: ``{bars[{x, y, w, h, slow}], low, high, label}``.

    Bars are of equal ratio in time (a log scale); those over the moderate threshold are ``slow``.
    Heights are proportional to counts, but at least one unit, so that rare slow ones are visible.
    """
    distribution = row["distribution"]
    buckets = list(zip(distribution["upper_ms"], distribution["count"], strict=True))
    limit = row["thresholds"]["moderate_ms"]
    most = max((n for _, n in buckets), default=0)
    step = _WIDTH / max(len(buckets), _MIN_BARS)
    bars = []
    for position, (upper, n) in enumerate(buckets):
        if n:
            height = max(1.5, (_HEIGHT - 2) * n / most)
            bars.append({
                "x": round(position * step, 2), "w": round(max(1.0, step - 1), 2),
                "y": round(_HEIGHT - height, 2), "h": round(height, 2),
                "slow": upper > limit * _BUCKET_TOLERANCE,
            })  # fmt: skip
    label = (
        f"Response times from {duration(row['min_ms'])} to {duration(row['max_ms'])} on a log scale: "
        f"p50 {duration(row['p50_ms'])}, p95 {duration(row['p95_ms'])}"
    )
    low, high = duration(row["min_ms"]), duration(row["max_ms"])
    return {"bars": bars, "low": low, "high": high, "label": label}


def spent(seconds: float) -> str:
    """Return a total time; a dash for none."""
    return NONE if seconds <= 0 else duration(seconds * 1000)


def report(
    document: Report, endpoints: Sequence[EndpointRow] | None = None,
    over_time: Mapping[tuple[str, str], EndpointTrend] = _NO_TRENDS,
) -> Values:  # fmt: skip
    """Return the values of the report page.

    Args:
        document: the report.
        endpoints: those that are listed, in order; by default all of the report.
        over_time: trends of endpoints, by endpoint and method.
    """
    by_endpoint: dict[tuple[str, str], list[FindingRow]] = {}
    for finding in document["bottlenecks"]:
        by_endpoint.setdefault((finding["endpoint"], finding["method"]), []).append(finding)
    window = document["window"]
    limits = {
        (row["endpoint"], row["method"]): row["thresholds"]["moderate_ms"]
        for row in document["endpoints"]
    }
    shown_trends = {
        pair: trend(over_time.get(pair), limit) for pair, limit in limits.items()
    }  # fmt: skip
    return {
        "cards": cards(document, shown_trends),
        "load": _load(document),
        "endpoints": [
            {
                **_endpoint(row, by_endpoint.get((row["endpoint"], row["method"]), [])),
                "trend": shown_trends.get((row["endpoint"], row["method"])),
            }
            for row in (document["endpoints"] if endpoints is None else endpoints)
        ],
        "requests": sum(row["count"] for row in document["endpoints"]),
        "nothing": wording.nothing_to_fix(document),
        "cold_starts": wording.COLD_STARTS,
        "period": html_times.period(window["from"], window["to"]),
        "sampler_off": wording.SAMPLER_OFF,
        "overhead": wording.overhead(document["self"]["us_per_request"]),
        "advice": [what_if(row) for row in document["cache_advice"]],
        "functions": [_function(row) for row in document["functions"]],
        "jobs": [_job(row) for row in document["jobs"]],
        "workers": [
            {**row, "since": html_times.moment(row["started"]), "busy": percent(row["busy_share"]),
             "gil_wait": percent(row["gil_pressure"])}
            for row in document["workers"]
        ],
        "neighbours": [
            {**row, "victim": title(row["victim"]), "culprit": title(row["culprit"]),
             "computed": spent(row["computed_s"]), "percent": percent(row["share"])}
            for row in document["neighbours"][:_MAX_NEIGHBOURS]
        ],
        "scorecard": [_criterion(row) for row in document["scorecard"]],
    }  # fmt: skip


def _function(row: FunctionRow) -> Values:
    return {
        **row, "spent": spent(row["time_spent_s"]), "mean": duration(row["mean_ms"]),
        "p95": duration(row["p95_ms"]), "max": duration(row["max_ms"]),
    }  # fmt: skip


def _job(row: JobRow) -> Values:
    return {
        **row, "mean": duration(row["mean_ms"]), "p50": duration(row["p50_ms"]),
        "p95": duration(row["p95_ms"]), "spent": spent(row["time_spent_s"]),
        "ended": html_times.moment(row["last"]), "failure": wording.failures(row["failures"]),
        "longest": wording.longest_part(row["parts"]),
    }  # fmt: skip


def _load(document: Report) -> list[Values]:
    """Return the key figures of the load: ``{name, value, more, spark}``."""
    load, bounds = document["load"], document["window"]
    seconds_ = max(1.0, seconds(bounds["to"]) - seconds(bounds["from"]))
    per_second = rate(load["count"] / seconds_, "request")
    share = load["failed"] / load["count"] if load["count"] else None
    return [
        {"name": "Requests", "value": number(load["count"]), "more": per_second, "spark": "requests"},
        {"name": "Failed", "value": percent(share), "more": count(load["failed"], "request"),
         "spark": "failed"},
        {"name": "p50", "value": duration(load["p50_ms"]), "more": "", "spark": "p50"},
        {"name": "p95", "value": duration(load["p95_ms"]),
         "more": f"p99 {duration(load['p99_ms'])}", "spark": "p95"},
        {"name": "Over threshold", "value": spent(load["excess_s"]), "more": "users waited",
         "spark": ""},
    ]  # fmt: skip


def _criterion(row: CriterionRow) -> Values:
    """Return a row of the scorecard; an endpoint that was not called is not a fault."""
    missed = row["ok"] is False and row["criterion"] != wording.COVERAGE
    tone = "good" if row["ok"] else "bad" if missed else "none"
    return {**row, "result": wording.result(row), "tone": tone}


def why(document: EndpointReport) -> Values:
    """Return the values of the page of one endpoint."""
    return {
        "title": title(document["endpoint"]),
        "findings": [_finding(finding) for finding in document["findings"]],
        "row": _endpoint(document["row"], document["findings"]),
        "calm": wording.calm(document["row"]),
        "size_law": wording.size_law(document["row"]["size_law"]),
        "cache": cache_text.of_endpoint(document["row"]),
        "not_compared": wording.not_compared(document),
        "difference": [
            {**row, "slow": percent(row["slow_share"]), "normal": percent(row["normal_share"])}
            for row in document["difference"][:_MAX_LINES]
        ],
        "timeline": timeline(document["timeline"], document["row"]["thresholds"]["moderate_ms"]),
        "requests": listed(document["requests"]),
        "changed": [
            {**row, "now": duration(row["ms"]), "before": duration(row["before_ms"])}
            for row in _most_changed(document["against"])
        ],
    }


def _most_changed(against: Against | None) -> list[ChangedLineRow]:
    lines = [] if against is None else against["lines"]
    return sorted(lines, key=lambda row: -abs(row["change_ms"]))[:_MAX_LINES]


def _finding(finding: FindingRow) -> Values:
    """Return a finding with the words of its severity."""
    return {**finding, "level": wording.SEVERITIES[finding["severity"]]}


def _endpoint(row: EndpointRow, findings: list[FindingRow]) -> Values:
    worst = findings[0] if findings else None
    return {
        **row, "title": title(row["endpoint"]), "histogram": histogram(row),
        "anchor": anchor(row["method"], row["endpoint"]),
        "p50": duration(row["p50_ms"]), "p95": duration(row["p95_ms"]),
        "p99": duration(row["p99_ms"]), "max": duration(row["max_ms"]),
        "excess": spent(row["excess_s"]), "spent": spent(row["time_spent_s"]),
        "level": wording.SEVERITIES[worst["severity"]] if worst else None,
        "severity": worst["severity"].lower() if worst else "fine",
        "types": ", ".join(finding["type"] for finding in findings),
        "facts": _facts(row),
        "parts": [
            {**part, "duration": duration(part["ms"]), "percent": percent(part["share"])}
            for part in row["parts"]
        ],
        "lines": [
            {**line, "percent": percent(line["share"]), "on_cpu": percent(line["running_share"])}
            for line in row["lines"]
        ],
        "patterns": [{**pattern, "percent": percent(pattern["share"])} for pattern in row["patterns"]],
        "file_reads": [
            {**read, "mean": duration(read["mean_ms"]), "spent": spent(read["time_spent_s"]),
             "avoidable": spent(read["avoidable_s"]) if read["unchanged"] else NONE,
             "size": size(read["bytes_mean"])}
            for read in row["file_reads"]
        ],
    }  # fmt: skip


def _facts(row: EndpointRow) -> list[tuple[str, str]]:
    """Return further figures of an endpoint, each with its name."""
    status = ", ".join(
        f"{number(n)} × {name}" for name, n in row["status"].items() if n and name[0].isdigit()
    )
    thresholds = sorted((row["thresholds"]["slow_ms"], row["thresholds"]["moderate_ms"]))
    facts = [
        ("Responses", status or "none yet"),
        ("Success rate", percent(row["success_rate"])),
        ("Mean", duration(row["mean_ms"])),
        ("Fastest", duration(row["min_ms"])),
        ("Slowest", duration(row["max_ms"])),
        ("Standard deviation", duration(row["stddev_ms"])),
        ("First request of a worker", duration(row["first_ms"])),
        ("CPU time", _if_measured(row["cpu_ms"])),
        ("Waiting", _if_measured(row["wait_ms"])),
        ("of that for a CPU core", duration(row["ready_ms"])),
        ("Garbage collection", duration(row["gc_ms"])),
        ("Response size", size(row["bytes_out_mean"])),
        ("Thresholds", " / ".join(duration(limit) for limit in thresholds)),
    ]  # fmt: skip
    facts += [
        (wording.CONVERSATIONS[kind["kind"]][1].capitalize(), wording.conversations(kind))
        for kind in row["conversations"]
    ]
    if row["in_flight"]:
        facts.append(("In flight now", count(row["in_flight"], "request")))
    if row["killed"]:
        facts.append(("Killed by the server", count(row["killed"], "request")))
    if row["disconnected"]:
        facts.append(("Client disconnected", count(row["disconnected"], "request")))
    return facts


def _if_measured(ms: float | None) -> str:
    return "not measured" if ms is None else duration(ms)
