"""The report as text for a terminal: what to fix first, then tables no wider than asked for."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from ..analysis.findings import calm, duration, grows

_MARKS = {"CRITICAL": "!!", "WARNING": "! ", "INFO": "i "}
_DIFFERENCES = 5
_RESULTS = {True: "met", False: "MISSED", None: "not measured"}


def _time(ms: float | None) -> str:
    return "-" if ms is None else duration(ms)


def _clip(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], width: int) -> list[str]:
    """Return lines of a table: the first column takes what room is left, the others fit."""
    body = [list(map(str, row)) for row in rows]
    sizes = [max(len(row[i]) for row in [list(head), *body]) for i in range(len(head))]
    sizes[0] = max(10, min(sizes[0], width - sum(sizes[1:]) - 2 * (len(head) - 1)))
    lines = []
    for row in [list(head), *body]:
        first = _clip(row[0], sizes[0]).ljust(sizes[0])
        rest = [cell.rjust(size) for cell, size in zip(row[1:], sizes[1:], strict=True)]
        lines.append("  ".join([first, *rest]).rstrip())
    return lines


def _wrap(text: str, width: int, first: str, then: str) -> list[str]:
    return textwrap.wrap(text, width, initial_indent=first, subsequent_indent=then)


def report(document: dict[str, Any], width: int = 80) -> str:
    """Return the report of a window as text."""
    about = document["window"]
    count = sum(row["count"] for row in document["endpoints"])
    named = f"release {about['release']}" if about["release"] else "this server start"
    lines = [f"{count:,} requests, {about['from'][:19]} to {about['to'][11:19]} UTC, {named}", ""]
    for sentence in document["self"]["degraded"]:
        lines += _wrap(f"Limited: {sentence}", width, "", "  ")
    lines += ["WHAT TO FIX FIRST", ""]
    for finding in document["bottlenecks"]:
        lines += _wrap(finding["text"], width, f"{_MARKS[finding['severity']]} ", "   ")
        lines += [f"   {finding['type']} {finding['method']} {finding['endpoint']}", ""]
    if not document["bottlenecks"]:
        said = "Nothing exceeds its thresholds." if count else "No request was recorded yet."
        lines += [said, ""]
    lines += ["SCORECARD", ""]
    for row in document["scorecard"]:
        said = f"{_RESULTS[row['ok']]:13}{row['criterion']}: {row['actual'] or '-'}"
        lines += _wrap(f"{said} (target: {row['target']})", width, "", " " * 13)
    lines += ["", "ENDPOINTS", ""]
    lines += table(
        ("endpoint", "n", "p50", "p95", "p99", "beyond"),
        ((f"{row['method']} {row['endpoint']}", f"{row['count']:,}", _time(row["p50_ms"]),
          _time(row["p95_ms"]), _time(row["p99_ms"]),
          _time(row["excess_s"] * 1000) if row["excess_s"] else "-")
         for row in document["endpoints"]),
        width,
    )  # fmt: skip
    if document["functions"]:
        lines += ["", "FUNCTIONS", ""]
        lines += table(
            ("function", "n", "mean", "p95", "together"),
            ((row["name"], f"{row['count']:,}", _time(row["mean_ms"]), _time(row["p95_ms"]),
              _time(row["time_spent_s"] * 1000)) for row in document["functions"]),
            width,
        )  # fmt: skip
    return "\n".join(lines) + "\n"


def why(document: dict[str, Any], width: int = 80) -> str:
    """Return what is known of one endpoint as text."""
    row = document["row"]
    lines = [f"{document['method']} {document['endpoint']}", ""]
    said = (
        f"{row['count']:,} requests: p50 {_time(row['p50_ms'])}, p95 {_time(row['p95_ms'])}, slowest "
        f"{_time(row['max_ms'])}; {_time(row['excess_s'] * 1000)} beyond its threshold together"
    )
    lines += [*_wrap(said, width, "", "  "), ""]
    for finding in document["findings"]:
        lines += [*_wrap(finding["text"], width, f"{_MARKS[finding['severity']]} ", "   "), ""]
    if not document["findings"]:
        lines += [calm(row), ""]
    if row["size_law"]:
        lines += [*_wrap(f"{grows(row['size_law'])}.", width, "", "  "), ""]
    lines += ["LINES", ""]
    if row["lines"]:
        lines += table(
            ("line", "share", "computing", "samples"),
            ((f"{line['where']} {line['calls'] or ''}", _share(line["share"]),
              _share(line["running_share"]), f"{line['samples']:,}") for line in row["lines"]),
            width,
        )  # fmt: skip
    else:
        lines.append(
            "none sampled" if document["sampled"] else "not sampled: KNITPERF_SAMPLER is off"
        )
    if row["patterns"]:
        lines += ["", "USE OF PANDAS", ""]
        for use in row["patterns"]:
            said = f"{_share(use['share'])} in {use['name']} ({use['where']}): {use['rewrite']}"
            lines += _wrap(said, width, "", "  ")
    if document["difference"]:
        lines += ["", "WHAT SLOW REQUESTS DO OTHERWISE", ""]
        lines += table(
            ("line", "slow ones", "others"),
            ((each["where"], _share(each["slow_share"]), _share(each["normal_share"]))
             for each in document["difference"][:_DIFFERENCES]),
            width,
        )  # fmt: skip
    if document["against"]:
        lines += ["", "CHANGED SINCE", "", *_changed(document["against"], width)]
    if row["parts"]:
        lines += ["", "PARTS", ""]
        lines += table(
            ("part", "per request", "share", "times"),
            ((part["name"], _time(part["ms"]), _share(part["share"]), f"{part['count']:,}")
             for part in row["parts"]),
            width,
        )  # fmt: skip
    if row["file_reads"]:
        lines += ["", "FILE READS", ""]
        lines += table(
            ("file", "reads", "unchanged", "each", "avoidable"),
            ((read["path"], f"{read['count']:,}", f"{read['unchanged']:,}", _time(read["mean_ms"]),
              _time(read["avoidable_s"] * 1000)) for read in row["file_reads"]),
            width,
        )  # fmt: skip
    slowest = document["requests"]["slowest"][:_DIFFERENCES]
    if slowest:
        lines += ["", "SLOWEST REQUESTS", ""]
        lines += table(
            ("at", "took", "largest part", "beside it"),
            ((f"{each['at'][:19]} UTC", _time(each["ms"]),
              f"{each['most']} {_time(each['most_ms'])}" if each["most"] else "-",
              _clip(each["beside"] or "-", 24)) for each in slowest),
            width,
        )  # fmt: skip
    return "\n".join(lines) + "\n"


def _changed(against: dict[str, Any], width: int) -> list[str]:
    """Return where the time of a request grew or shrank since another window."""
    if against["row"] is None:
        return ["nothing was measured of it then"]
    if not against["lines"]:
        return ["no samples in one of the two windows"]
    grown = sorted(against["lines"], key=lambda each: -abs(each["change_ms"]))[:_DIFFERENCES]
    return table(
        ("line", "a request now", "then"),
        ((each["where"], _time(each["ms"]), _time(each["before_ms"])) for each in grown),
        width,
    )


def _share(value: float) -> str:
    return f"{value:.0%}".replace("%", " %")


def memory(document: dict[str, Any], width: int = 80) -> str:
    """Return the memory report as text."""
    lines = [f"Memory: {document['level'] or 'not measured'}", ""]
    for reason in document["reasons"]:
        lines += _wrap(f"{reason['level']}: {reason['text']}", width, "", "  ")
    for sentence in document["recommendations"]:
        lines += _wrap(sentence, width, "", "  ")
    lines += table(
        ("worker", "resident", "proportional", "peak", "growth"),
        ((row["worker"], _mb(row["rss_mb"]), _mb(row["pss_mb"]), _mb(row["peak_mb"]),
          "-" if row["slope_mb_per_hour"] is None else f"{row['slope_mb_per_hour']:+.1f} MB/h")
         for row in document["workers"]),
        width,
    )  # fmt: skip
    together = (
        f"Together {_mb(document['total_rss_mb'])} resident, "
        f"{_mb(document['total_pss_mb'])} with shared pages counted once; "
        f"{_mb(document['available_mb'])} available"
    )
    lines += ["", *_wrap(together, width, "", "  ")]
    for row in document["housekeeper"]:
        lines += _wrap(f"{row['at'][:19]} {row['worker']} freed {row['freed_mb']} MB in "
                       f"{_time(row['pause_ms'])}: {row['why']}", width, "", "  ")  # fmt: skip
    return "\n".join(lines) + "\n"


def _mb(size: float | None) -> str:
    return "-" if size is None else f"{size:,.0f} MB"


def comparison(rows: list[dict[str, Any]], width: int = 80) -> str:
    """Return a comparison of two windows as text."""
    lines = table(
        ("endpoint", "change", "p95 before", "p95 now", "ratio"),
        ((f"{row['method']} {row['endpoint']}", row["change"], _time(row["p95_before_ms"]),
          _time(row["p95_ms"]), "-" if row["ratio"] is None else f"{row['ratio']:.2f}")
         for row in rows),
        width,
    )  # fmt: skip
    return "\n".join(lines) + "\n"


def commands_done(done: Iterable[str], failed: dict[str, str], alive: list[str]) -> str:
    """Return who has done a command: ``3 of 4 workers``."""
    said = [f"{len(set(done) & set(alive))} of {len(alive)} workers"]
    said += [f"{worker}: {why}" for worker, why in failed.items()]
    return "; ".join(said)
