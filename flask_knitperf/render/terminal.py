"""Report and endpoint as terminal text: what to fix first, then tables within the width."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..core.units import NONE, count, duration, number, percent, plain, ratio
from . import cache_text, terminal_cards, wording
from .layout import Section, cut, document, table, wrap
from .terminal_cache import advice
from .terminal_queries import endpoint_queries

if TYPE_CHECKING:
    from ..reports.documents import ComparisonReport, EndpointReport, Report
    from ..reports.documents.endpoint import Against
    from ..reports.documents.report import (
        CriterionRow,
        EndpointRow,
        FileReadRow,
        FindingRow,
        FunctionRow,
        JobRow,
        PartRow,
        PatternRow,
        SizeLaw,
    )
    from ..reports.documents.request import RequestRow

_MAX_ROWS = 5
"""Rows of tables about slow requests and changed lines."""
_RESULT_WIDTH = 16


def report(report_: Report, width: int = 80, *, everything: bool = False) -> str:
    """Return the report of a window as text.

    Args:
        report_: the document.
        width: columns.
        everything: whether all things to fix are shown, not the first five only.
    """
    window = report_["window"]
    requests = sum(row["count"] for row in report_["endpoints"])
    head = (
        f"{count(requests, 'request')}, {wording.period(window['from'], window['to'])}"
        f"{wording.release(window)}"
    )
    cards = terminal_cards.cards(report_, width, everything=everything)
    cards = cards or wrap(wording.nothing_to_fix(report_), width)
    return document((
        Section("", wrap(head, width, then="")),
        Section("", limits(report_["self"]["degraded"], width)),
        Section("WHAT TO FIX FIRST", cards),
        Section("SCORECARD", _scorecard(report_["scorecard"], width)),
        Section("ENDPOINTS", _endpoints(report_["endpoints"], width)),
        Section("WORTH CACHING", advice(report_["cache_advice"], width)),
        Section("FUNCTIONS", _functions(report_["functions"], width)),
        Section("JOBS", _jobs(report_["jobs"], width)),
        Section("", [] if report_["self"]["sampled"] else wrap(wording.SAMPLER_OFF, width, then="")),
        Section("", wrap(f"Overhead: {wording.overhead(report_['self']['us_per_request'])}", width)),
    ))  # fmt: skip


def limits(sentences: Iterable[str], width: int) -> list[str]:
    """Return sentences about what could not be measured."""
    return [line for sentence in sentences for line in wrap(f"Limited: {sentence}", width)]


def _findings(findings: list[FindingRow], width: int) -> list[str]:
    """Return findings, the worst first."""
    lines: list[str] = []
    for finding in findings:
        mark = terminal_cards.MARKS[finding["severity"]]
        lines += ["", *wrap(finding["text"], width, f"{mark} ", "   ")]
    return lines[1:]


def _scorecard(rows: list[CriterionRow], width: int) -> list[str]:
    lines: list[str] = []
    for row in rows:
        result = wording.result(row)
        text = (
            f"{result:{_RESULT_WIDTH}}{row['criterion']}: {row['actual'] or NONE} "
            f"(target: {row['target']})"
        )
        lines += wrap(text, width, "", " " * _RESULT_WIDTH)
    return lines


def _endpoints(rows: list[EndpointRow], width: int) -> list[str]:
    lines = table(
        ("endpoint", "n", "p50", "p95", "p99", "over threshold"),
        ((f"{row['method']} {row['endpoint']}", number(row["count"]), duration(row["p50_ms"]),
          duration(row["p95_ms"]), duration(row["p99_ms"]), _seconds(row["excess_s"]))
         for row in rows),
        width,
    )  # fmt: skip
    note = ["", *wrap(wording.COLD_STARTS, width, then="")]
    return lines + note if any(row["first_ms"] for row in rows) else lines


def _seconds(value: float) -> str:
    return duration(value * 1000) if value else NONE


def _functions(rows: list[FunctionRow], width: int) -> list[str]:
    return table(
        ("function", "n", "mean", "p95", "total"),
        ((row["name"], number(row["count"]), duration(row["mean_ms"]), duration(row["p95_ms"]),
          duration(row["time_spent_s"] * 1000)) for row in rows),
        width,
    )  # fmt: skip


def _jobs(rows: list[JobRow], width: int) -> list[str]:
    return table(
        ("job", "runs", "failed", "p50", "p95", "last"),
        ((row["name"], number(row["runs"]), number(row["failed"]), duration(row["p50_ms"]),
          duration(row["p95_ms"]), wording.moment(row["last"])) for row in rows),
        width,
    )  # fmt: skip


def why(endpoint: EndpointReport, width: int = 80) -> str:
    """Return one endpoint in detail as text."""
    row = endpoint["row"]
    slowest = endpoint["requests"]["slowest"][:_MAX_ROWS]
    return document((
        Section("", [cut(f"{endpoint['method']} {endpoint['endpoint']}", width)]),
        Section("", _figures(row, width)),
        Section("", _findings(endpoint["findings"], width) or [wording.calm(row)]),
        Section("", _growth(row["size_law"], width)),
        Section("LINES", _sampled(endpoint, width)),
        Section("EXPENSIVE CALLS", _patterns(row["patterns"], width)),
        Section("SLOW VS. NORMAL REQUESTS", _difference(endpoint, width)),
        Section("CHANGES", _changes(endpoint["against"], width) if endpoint["against"] else []),
        Section("PARTS", _parts(row["parts"], width)),
        Section("CACHE", wrap(cache_text.of_endpoint(row), width, then="")),
        Section("FILE READS", _reads(row["file_reads"], width)),
        Section("QUERIES", endpoint_queries(row["queries"], width)),
        Section("SLOWEST REQUESTS", _slowest(slowest, width)),
    ))  # fmt: skip


def _growth(law: SizeLaw | None, width: int) -> list[str]:
    return [] if law is None else wrap(f"{wording.time_growth(law)}.", width, then="")


def _figures(row: EndpointRow, width: int) -> list[str]:
    requests = row["count"] - sum(kind["count"] for kind in row["conversations"])
    figures = [wording.conversations(kind) for kind in row["conversations"]]
    if requests or not figures:
        over = f"; over threshold by {duration(row['excess_s'] * 1000)} in total"
        figures.insert(0, (
            f"{count(requests, 'request')}: p50 {duration(row['p50_ms'])}, p95 "
            f"{duration(row['p95_ms'])}, slowest {duration(row['max_ms'])}"
            f"{over if row['excess_s'] else ''}"
        ))  # fmt: skip
        if row["first_ms"]:
            first = f"First request of a worker: {duration(row['first_ms'])}"
            figures.insert(1, f"{first}, a cold start that is in no verdict on latency")
    return [line for text in figures for line in wrap(text, width, then="")]


def _sampled(endpoint: EndpointReport, width: int) -> list[str]:
    lines = endpoint["row"]["lines"]
    if not lines:
        return wrap("No samples." if endpoint["sampled"] else wording.SAMPLER_OFF, width, then="")
    return table(
        ("line", "calls", "share", "on CPU", "samples"),
        ((line["where"], line["calls"] or NONE, percent(line["share"]),
          percent(line["running_share"]), number(line["samples"])) for line in lines),
        width,
        flexible=(0, 1),
    )  # fmt: skip


def _patterns(patterns: list[PatternRow], width: int) -> list[str]:
    lines: list[str] = []
    for pattern in patterns:
        where = f"{percent(pattern['share'])} in {pattern['name']} ({pattern['where']})"
        lines += wrap(f"{where}: {pattern['rewrite']}", width)
    return lines


def _difference(endpoint: EndpointReport, width: int) -> list[str]:
    if not endpoint["difference"]:
        return wrap(wording.not_compared(endpoint), width, then="")
    return table(
        ("line", "slow", "normal"),
        ((line["where"], percent(line["slow_share"]), percent(line["normal_share"]))
         for line in endpoint["difference"][:_MAX_ROWS]),
        width,
    )  # fmt: skip


def _parts(parts: list[PartRow], width: int) -> list[str]:
    return table(
        ("part", "per request", "share", "calls"),
        ((part["name"], duration(part["ms"]), percent(part["share"]), number(part["count"]))
         for part in parts),
        width,
    )  # fmt: skip


def _reads(reads: list[FileReadRow], width: int) -> list[str]:
    return table(
        ("file", "reads", "unchanged", "mean", "avoidable"),
        ((read["path"], number(read["count"]), number(read["unchanged"]),
          duration(read["mean_ms"]), _seconds(read["avoidable_s"])) for read in reads),
        width,
    )  # fmt: skip


def _slowest(requests: list[RequestRow], width: int) -> list[str]:
    return table(
        ("when", "duration", "largest part", "ran alongside"),
        ((wording.moment(request["at"]), duration(request["ms"]),
          f"{request['most']}, {duration(request['most_ms'])}" if request["most"] else NONE,
          request["beside"] or NONE) for request in requests),
        width,
        flexible=(2, 3),
    )  # fmt: skip


def _changes(against: Against, width: int) -> list[str]:
    """Return the lines whose time per request changed most since another window."""
    if against["row"] is None:
        return ["No data for this endpoint in that window."]
    if not against["lines"]:
        return ["No samples in one of the two windows."]
    changed = sorted(against["lines"], key=lambda line: -abs(line["change_ms"]))[:_MAX_ROWS]
    return table(
        ("line", "now", "before"),
        ((line["where"], duration(line["ms"]), duration(line["before_ms"])) for line in changed),
        width,
    )


def comparison(compared: ComparisonReport, width: int = 80) -> str:
    """Return a comparison of two windows as text."""
    rows = compared["rows"]
    lines = table(
        ("endpoint", "change", "requests", "p95 before", "p95 now", "ratio"),
        ((f"{row['method']} {row['endpoint']}", wording.CHANGES[row["change"]],
          f"{number(row['count_before'])} → {number(row['count'])}", duration(row["p95_before_ms"]),
          duration(row["p95_ms"]), ratio(row["ratio"])) for row in rows),
        width,
        flexible=(0, 1),
    )  # fmt: skip
    notes = [
        Section("", wrap(note, width, then=""))
        for note in (wording.compared_hours(compared["hours"]), wording.too_few(rows))
    ]
    return document([Section("", lines or ["No endpoint to compare."]), *notes])


def commands_done(done: Iterable[str], failed: dict[str, str], alive: list[str]) -> str:
    """Return the number of workers that executed a command: ``3 of 4 workers``."""
    executed = f"{len(set(done) & set(alive))} of {count(len(alive), 'worker')}"
    return "; ".join([plain(executed), *(f"{worker}: {error}" for worker, error in failed.items())])
