"""The report as text for a terminal: what to fix first, then tables no wider than asked for."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from ..analysis.phrases import (
    calm,
    duration,
    frames_held,
    frames_left_out,
    frames_shown,
    grows,
    memory_grows,
)
from ..core.units import MB, amount

_MARKS = {"CRITICAL": "!!", "WARNING": "! ", "INFO": "i "}
_DIFFERENCES = 5
_FRAMES = 20
_RESULTS = {True: "met", False: "MISSED", None: "not measured"}


def _time(ms: float | None) -> str:
    return "-" if ms is None else duration(ms)


def _clip(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], width: int) -> list[str]:
    """Return lines of a table: the first column takes what room is left, the others fit.

    A table without rows has no lines.
    """
    body = [list(map(str, row)) for row in rows]
    if not body:
        return []
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


def _joined(sections: Iterable[tuple[str, list[str]]]) -> str:
    """Return sections of a text, each with its title; one without lines is left out."""
    told = [
        "\n".join([title, "", *lines] if title else lines) for title, lines in sections if lines
    ]
    return "\n\n".join(told) + "\n"


def _findings(found: list[dict[str, Any]], width: int, *, named: bool) -> list[str]:
    """Return what is wrong, the worst first.

    Args:
        found: findings.
        width: columns.
        named: whether to tell which endpoint each is about.
    """
    lines: list[str] = []
    for finding in found:
        lines += ["", *_wrap(finding["text"], width, f"{_MARKS[finding['severity']]} ", "   ")]
        if named:
            lines.append(f"   {finding['type']} {finding['method']} {finding['endpoint']}")
    return lines[1:]


def report(document: dict[str, Any], width: int = 80) -> str:
    """Return the report of a window as text."""
    about = document["window"]
    count = sum(row["count"] for row in document["endpoints"])
    named = f"release {about['release']}" if about["release"] else "this server start"
    begins = f"{count:,} requests, {about['from'][:19]} to {about['to'][11:19]} UTC, {named}"
    limits: list[str] = []
    for sentence in document["self"]["degraded"]:
        limits += _wrap(f"Limited: {sentence}", width, "", "  ")
    nothing = "Nothing exceeds its thresholds." if count else "No request was recorded yet."
    return _joined((
        ("", [begins]),
        ("", limits),
        ("WHAT TO FIX FIRST", _findings(document["bottlenecks"], width, named=True) or [nothing]),
        ("SCORECARD", _scorecard(document["scorecard"], width)),
        ("ENDPOINTS", _endpoints(document["endpoints"], width)),
        ("FUNCTIONS", _functions(document["functions"], width)),
    ))  # fmt: skip


def _scorecard(rows: list[dict[str, Any]], width: int) -> list[str]:
    lines: list[str] = []
    for row in rows:
        said = f"{_RESULTS[row['ok']]:13}{row['criterion']}: {row['actual'] or '-'}"
        lines += _wrap(f"{said} (target: {row['target']})", width, "", " " * 13)
    return lines


def _endpoints(rows: list[dict[str, Any]], width: int) -> list[str]:
    return table(
        ("endpoint", "n", "p50", "p95", "p99", "beyond"),
        ((f"{row['method']} {row['endpoint']}", f"{row['count']:,}", _time(row["p50_ms"]),
          _time(row["p95_ms"]), _time(row["p99_ms"]),
          _time(row["excess_s"] * 1000) if row["excess_s"] else "-") for row in rows),
        width,
    )  # fmt: skip


def _functions(rows: list[dict[str, Any]], width: int) -> list[str]:
    return table(
        ("function", "n", "mean", "p95", "together"),
        ((row["name"], f"{row['count']:,}", _time(row["mean_ms"]), _time(row["p95_ms"]),
          _time(row["time_spent_s"] * 1000)) for row in rows),
        width,
    )  # fmt: skip


def why(document: dict[str, Any], width: int = 80) -> str:
    """Return what is known of one endpoint as text."""
    row = document["row"]
    slowest = document["requests"]["slowest"][:_DIFFERENCES]
    return _joined((
        ("", [f"{document['method']} {document['endpoint']}"]),
        ("", _figures(row, width)),
        ("", _findings(document["findings"], width, named=False) or [calm(row)]),
        ("", _wrap(f"{grows(row['size_law'])}.", width, "", "  ") if row["size_law"] else []),
        ("LINES", _sampled(document, width)),
        ("USE OF PANDAS", _patterns(row["patterns"], width)),
        ("WHAT SLOW REQUESTS DO OTHERWISE", _otherwise(document["difference"] or [], width)),
        ("CHANGED SINCE", _changed(document["against"], width) if document["against"] else []),
        ("PARTS", _parts(row["parts"], width)),
        ("FILE READS", _reads(row["file_reads"], width)),
        ("QUERIES", _asked(row["queries"], width)),
        ("SLOWEST REQUESTS", _slowest(slowest, width)),
    ))  # fmt: skip


def _figures(row: dict[str, Any], width: int) -> list[str]:
    said = (
        f"{row['count']:,} requests: p50 {_time(row['p50_ms'])}, p95 {_time(row['p95_ms'])}, slowest "
        f"{_time(row['max_ms'])}; {_time(row['excess_s'] * 1000)} beyond its threshold together"
    )
    return _wrap(said, width, "", "  ")


def _sampled(document: dict[str, Any], width: int) -> list[str]:
    lines = document["row"]["lines"]
    if not lines:
        off = "not sampled: KNITPERF_SAMPLER is off (on Python 3.11 unless it is set)"
        return ["none sampled" if document["sampled"] else off]
    return table(
        ("line", "share", "computing", "samples"),
        ((f"{line['where']} {line['calls'] or ''}", _share(line["share"]),
          _share(line["running_share"]), f"{line['samples']:,}") for line in lines),
        width,
    )  # fmt: skip


def _patterns(uses: list[dict[str, Any]], width: int) -> list[str]:
    lines: list[str] = []
    for use in uses:
        said = f"{_share(use['share'])} in {use['name']} ({use['where']}): {use['rewrite']}"
        lines += _wrap(said, width, "", "  ")
    return lines


def _otherwise(lines: list[dict[str, Any]], width: int) -> list[str]:
    return table(
        ("line", "slow ones", "others"),
        ((each["where"], _share(each["slow_share"]), _share(each["normal_share"]))
         for each in lines[:_DIFFERENCES]),
        width,
    )  # fmt: skip


def _parts(parts: list[dict[str, Any]], width: int) -> list[str]:
    return table(
        ("part", "per request", "share", "times"),
        ((part["name"], _time(part["ms"]), _share(part["share"]), f"{part['count']:,}")
         for part in parts),
        width,
    )  # fmt: skip


def _reads(reads: list[dict[str, Any]], width: int) -> list[str]:
    return table(
        ("file", "reads", "unchanged", "each", "avoidable"),
        ((read["path"], f"{read['count']:,}", f"{read['unchanged']:,}", _time(read["mean_ms"]),
          _time(read["avoidable_s"] * 1000)) for read in reads),
        width,
    )  # fmt: skip


def _asked(known: dict[str, Any] | None, width: int) -> list[str]:
    if known is None:
        return []
    lines = [f"{known['per_request']:,.1f} per request, {_time(known['ms'])} of it"]
    for one in known["repeated"]:
        lines += _wrap(_again(one), width, "", "  ")
    rows = ((row["text"], f"{row['count']:,}", _time(row["mean_ms"]), row["where"] or "-")
            for row in known["asked"])  # fmt: skip
    return [*lines, "", *table(("statement", "n", "each", "line"), rows, width)]


def _again(one: dict[str, Any]) -> str:
    how = "for each row" if one["kind"] == "n_plus_one" else "with the same values"
    where = f" at {one['where']}" if one["where"] else ""
    return f"{one['per_request']:,.0f} times per request {how}{where}: {_clip(one['text'], 120)}"


def queries(document: dict[str, Any], width: int = 80) -> str:
    """Return what databases were asked as text: statements by the time they take together."""
    about = document["window"]
    begins = f"Statements within requests, {about['from'][:19]} to {about['to'][11:19]} UTC"
    limits = [f"Limited: {sentence}" for sentence in document["degraded"]]
    limits += [f"{count:,} not told apart: {name}" for name, count in document["dropped"].items()]
    again: list[str] = []
    for row in document["queries"]:
        for one in row["repeated"]:
            said = f"{one['method']} {one['endpoint']}: {_again({**one, 'text': row['text']})}"
            again += _wrap(said, width, "", "  ")
    return _joined((
        ("", [begins]),
        ("", [line for each in limits for line in _wrap(each, width, "", "  ")]),
        ("BY TIME", _statements(document["queries"], width) or ["none was seen"]),
        ("ASKED AGAIN AND AGAIN", again),
        ("POOLS", _pools(document["pools"], width)),
    ))  # fmt: skip


def _pools(rows: list[dict[str, Any]], width: int) -> list[str]:
    lines = table(
        ("pool", "taken", "wait p95", "held p50", "held p95", "most", "timeouts"),
        ((row["pool"], f"{row['checkouts']:,}", _time(row["wait"]["p95_ms"]),
          _time(row["hold"]["p50_ms"]), _time(row["hold"]["p95_ms"]),
          "-" if row["in_use_max"] is None else f"{row['in_use_max']:,}", f"{row['timeouts']:,}")
         for row in rows),
        width,
    )  # fmt: skip
    for row in rows:
        for leak in row["leaks"]:
            where = f" (taken at {leak['where']})" if leak["where"] else ""
            lines += _wrap(
                f"{leak['count']:,} connections did not come back{where}", width, "", "  "
            )
            lines += [_clip(f"    called by {line}", width) for line in leak["stack"][1:]]
        if row["advice"] is not None:
            lines += _wrap(row["advice"]["text"], width, "", "  ")
    return lines


def _statements(rows: list[dict[str, Any]], width: int) -> list[str]:
    """Return statements, each with its figures and, below, who sends it."""
    lines: list[str] = []
    for row in rows:
        figures = (
            f"{_time(row['time_spent_s'] * 1000)} in {row['count']:,}: p50 {_time(row['p50_ms'])}, "
            f"p95 {_time(row['p95_ms'])}"
        )
        if row["rows_mean"] is not None:
            figures += f", {row['rows_mean']:,.1f} rows"
        if row["errors"]:
            figures += f", {row['errors']:,} failed"
        lines += ["", *_wrap(figures, width, "", "  "), f"  {_clip(row['text'], width - 2)}"]
        for each in (row["plan"] or {"missing": []})["missing"]:
            lines += _wrap(f"It {each['seen']}. Missing: {each['index']}", width, "  ", "  ")
        for each in row["asked_by"][:_DIFFERENCES]:
            sent = f"{each['count']:,} by {each['method']} {each['endpoint']}"
            lines.append(
                _clip(f"  {sent}" + (f" ({each['where']})" if each["where"] else ""), width)
            )
    return lines[1:]


def _slowest(requests: list[dict[str, Any]], width: int) -> list[str]:
    return table(
        ("at", "took", "largest part", "beside it"),
        ((f"{each['at'][:19]} UTC", _time(each["ms"]),
          f"{each['most']} {_time(each['most_ms'])}" if each["most"] else "-",
          _clip(each["beside"] or "-", 24)) for each in requests),
        width,
    )  # fmt: skip


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
    said = f"Does it grow with requests? {memory_grows(document['growth'])}"
    lines += ["", *_wrap(said, width, "", "  ")]
    for row in document["suspects"]:
        each, grown = amount(row["kb_per_request"] * 1024), amount(row["grown_mb"] * MB)
        lines += _wrap(f"Suspected: {row['method']} {row['endpoint']} keeps {each} per request, "
                       f"{grown} so far", width, "  ", "    ")  # fmt: skip
    for row in document["housekeeper"]:
        lines += _wrap(f"{row['at'][:19]} {row['worker']} freed {row['freed_mb']} MB in "
                       f"{_time(row['pause_ms'])}: {row['why']}", width, "", "  ")  # fmt: skip
    return "\n".join(lines) + "\n"


def live_frames(found: list[dict[str, Any]], width: int = 80) -> str:
    """Return the live frames of all workers as text."""
    lines: list[str] = []
    for told in found:
        lines += _wrap(f"Worker {told['pid']}: {frames_held(told)}", width, "", "  ")
        rows = frames_shown(told, _FRAMES)
        lines += ["", *table(
            ("frame", "MB", "shared", "pinned", "copies", "saves"),
            ((_frame_name(frame), f"{frame['mb']:,.1f}", f"{frame['shared_mb']:,.1f}",
              f"{frame['pinned_mb']:,.1f}", str(frame["copies"]),
              "-" if frame["saves_mb"] is None else f"{frame['saves_mb']:,.1f}")
             for frame in rows),
            width,
        )]  # fmt: skip
        more = frames_left_out(told, len(rows))
        lines += [more, ""] if more else [""]
    return "\n".join(lines or ["No worker has listed its frames."]) + "\n"


def _frame_name(frame: dict[str, Any]) -> str:
    """Return how a frame is told: where it came from, else its first columns; and its shape."""
    name = frame["origin"] or ", ".join(frame["names"])
    where = f" ({frame['where']})" if frame["where"] else ""
    return f"{frame['rows']:,} x {frame['columns']} {name}{where}"


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
