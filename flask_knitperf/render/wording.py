"""Words that the pages and the terminal share, so that one thing has one name in both."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from ..analysis.phrases import grows
from ..core.units import MB, NBSP, NONE, about, count, duration, number, percent, size
from ..metrics.catalogue import QUERY, QUERY_AT

if TYPE_CHECKING:
    from ..reports.documents import EndpointReport, MemoryReport, QueriesReport, Report
    from ..reports.documents.cards import CardRow, PointRow
    from ..reports.documents.comparison import ComparisonRow, Hours
    from ..reports.documents.fields import Window
    from ..reports.documents.queries import PoolLeakRow
    from ..reports.documents.report import (
        ConversationRow,
        CriterionRow,
        EndpointRow,
        JobPartRow,
        SizeLaw,
    )
    from ..storage.windows import WindowName

SEVERITIES = {"CRITICAL": "Critical", "WARNING": "Warning", "INFO": "Note"}
CAUSES = {
    "own_cpu": "Python code", "cpu_queue": "queueing for a core", "waiting": "waiting",
    "sql": "database", "file_read": "reading files",
    "cache": "cache", "gc": "garbage collection", "gil_contention": "waiting for the GIL",
    "section": "section", "early_hook": "before_request function",
    "late_hook": "function after the view", "unknown": "not measured",
}  # fmt: skip
CONVERSATIONS = {"websocket": ("websocket", "websockets"), "long_poll": ("long poll", "long polls")}
LEVELS = {"fine": "Fine", "warning": "Warning", "critical": "Critical", None: "Not measured"}
LEAK_SUSPECTED = "Leak suspected"
"""Level of memory that is not under pressure yet."""
REPEATS = {"n_plus_one": "one query per row (N+1)", "duplicates": "same query, same values"}
CHANGES = {
    "slower": "slower", "new": "new", "more rows": "more rows", "faster": "faster",
    "same": f"same within 10{NBSP}%", "too few": "too few", "gone": "gone",
}  # fmt: skip
"""Verdicts of a comparison."""
MAX_CARDS = 5
"""Things to fix that are shown at first."""
MAX_NAMED_ENDPOINTS = 3
"""Endpoints of a card that are shown by name."""
_LATENCY_TYPES = ("SLOW_RESPONSE", "MODERATE_RESPONSE", "SLOWED_BY", "SLOW_QUERY")
"""Types of findings whose threshold is a duration."""
COVERAGE = "coverage"
"""Criterion whose miss is not a fault: an endpoint may simply not have been called yet."""
_STEADY_MB_PER_HOUR = 0.5


_SPANS: dict[str, str] = {
    "5m": f"5{NBSP}minutes", "1h": f"1{NBSP}hour", "6h": f"6{NBSP}hours", "24h": f"24{NBSP}hours",
    "7d": f"7{NBSP}days", "30d": f"30{NBSP}days",
}  # fmt: skip
"""Lengths of the windows that have one."""
_RUNS = {"run": "this run", "previous": "previous run"}


def window(name: WindowName) -> str:
    """Return a window as a heading: ``24 hours``, ``this run``."""
    return {**_SPANS, **_RUNS, "span": "this span"}[name]


def window_in_text(name: WindowName) -> str:
    """Return a window within a sentence: ``the last 24 hours``, ``the previous run``."""
    if name in _SPANS:
        return f"the last {_SPANS[name].removeprefix(f'1{NBSP}')}"
    return "the previous run" if name == "previous" else window(name)


def moment(text: str | None) -> str:
    """Return an ISO 8601 moment (UTC) without year and fraction: ``24 Nov 03:12:05 UTC``."""
    if not text:
        return NONE
    at = datetime.fromisoformat(text)
    return f"{at.day}{NBSP}{at:%b}{NBSP}{at:%H:%M:%S}{NBSP}UTC"


def period(begin: str, end: str) -> str:
    """Return two ISO 8601 moments (UTC) as a period; the day of the end only if it is another one."""
    first, last = datetime.fromisoformat(begin), datetime.fromisoformat(end)
    until = f"{last:%H:%M:%S}{NBSP}UTC" if first.date() == last.date() else moment(end)
    return f"{moment(begin).removesuffix(f'{NBSP}UTC')} – {until}"


def release(window: Window) -> str:
    """Return the release that a window is about as the end of a sentence, empty without one."""
    return f", release {window['release']}" if window["release"] else ""


def result(row: CriterionRow) -> str:
    """Return the result of a row of the scorecard."""
    if row["ok"] is None:
        return "Not measured"
    if row["ok"]:
        return "Met"
    return "Not all called" if row["criterion"] == COVERAGE else "Missed"


def memory_trend(mb_per_hour: float | None) -> str:
    """Return the trend of a worker's memory."""
    if mb_per_hour is None:
        return f"after 10{NBSP}min"
    if abs(mb_per_hour) < _STEADY_MB_PER_HOUR:
        return "steady"
    return f"{size(mb_per_hour * MB, signed=True)}/h"


def mb(value: float | None) -> str:
    """Return an amount of memory that a document states in MB."""
    return size(None if value is None else value * MB)


SAMPLER_OFF = (
    "Sampling is off, the default on Python 3.11. The option KNITPERF_SAMPLER switches it on, and shows "
    "the slow lines, for half a percent of a core at most."
)


def overhead(us_per_request: float | None) -> str:
    """Return the cost of measuring."""
    if us_per_request is None:
        return "not measured yet"
    return f"{duration(us_per_request / 1000)} per request (timed on 1 in 64)"


COLD_STARTS = (
    "The first request to an endpoint in each worker is a cold start: it counts here, and in no verdict "
    "on latency."
)


def too_few(rows: Iterable[ComparisonRow]) -> str:
    """Return the number of requests that a comparison needs, empty where no endpoint lacks any."""
    lacking = [row for row in rows if row["change"] == "too few"]
    if not lacking:
        return ""
    return (
        f"Too few: {count(len(lacking), 'endpoint')} whose requests show neither a change nor that "
        f"it is the same; that takes {lacking[0]['needed']} before and now at least. The first requests "
        "of each worker are not counted."
    )


def compared_hours(hours: Hours) -> str:
    """Return a sentence on the hours of two windows, empty where there is nothing to state."""
    if hours == "common":
        return "Of both windows only the hours of the day are compared that they have in common."
    if hours == "different":
        return "The windows have other hours of the day, so a change may be that of the hours."
    return ""


def nothing_to_fix(report: Report) -> str:
    """Return a sentence on a report without a finding; where nothing was judged, it praises nothing."""
    if not any(row["count"] or row["killed"] for row in report["endpoints"]):
        return "No requests recorded in this window yet."
    judged = report["coverage"]["judged"]
    if not judged:
        return (
            "No endpoint can be judged yet: that takes three requests to it, not counting the first in "
            "each worker, which is a cold start."
        )
    endpoints = (
        "the one judged endpoint is"
        if judged == 1
        else f"all {number(judged)} judged endpoints are"
    )
    return f"Nothing to fix: {endpoints} within the thresholds."


def more_cards(report: Report, shown: int) -> str:
    """Return the number of all things to fix where fewer are shown, else an empty text."""
    number_of = len(report["cards"])
    return f"Show all {number(number_of)}" if number_of > shown else ""


def judged(point: PointRow) -> str:
    """Return the threshold and the confidence of a verdict as a sentence; empty without a verdict."""
    if point["confidence"] is None:
        return ""
    confidence = point["confidence"]
    if point["type"] in _LATENCY_TYPES and point["threshold"] is not None:
        return f"Threshold {duration(point['threshold'])}, {confidence}."
    return f"{confidence[:1].upper()}{confidence[1:]}."


def saving(point: PointRow) -> str:
    """Return the time that following an advice saves as a sentence; empty where it is not known.

    It is a mean, so the mean time of a request stands beside it: the median may be far less.
    """
    saved = point["saving"]
    if saved is None or not point["recommendation"] or not saved["share"]:
        return ""
    up_to = "up to " if saved["at_most"] else ""
    mean = duration(saved["ms_per_request"] / saved["share"])
    return f"Saves {up_to}{duration(saved['ms_per_request'])} of {mean} per request, on average."


def price(card: CardRow) -> str:
    """Return the time in the window that fixing a card saves its users; empty where it is not known."""
    if not card["saving_s"]:
        return ""
    up_to = "up to " if card["at_most"] else ""
    return f"fixing it saves {up_to}{duration(card['saving_s'] * 1000)} in all"


def named(card: CardRow) -> str:
    """Return the endpoints that a card is about, the first ones by name."""
    names = [
        f"{row['method']} {row['endpoint']}" for row in card["endpoints"][:MAX_NAMED_ENDPOINTS]
    ]
    more = len(card["endpoints"]) - len(names)
    return ", ".join(names) + (f" and {number(more)} more" if more else "")


def not_compared(document: EndpointReport) -> str:
    """Return that slow requests are not compared with others; empty where they are, or none is slow."""
    row = document["row"]
    over = (row["max_ms"] or 0.0) > row["thresholds"]["moderate_ms"]
    if document["difference"] or not over or not row["lines"]:
        return ""
    return "Too few samples of slow or of other requests: fast ones are rarely sampled."


def calm(row: EndpointRow) -> str:
    """Return a sentence on an endpoint without a finding."""
    if (row["max_ms"] or 0.0) > row["thresholds"]["moderate_ms"]:
        return "No verdict: the slow requests may be chance, or too few requests were measured."
    if not row["judged"]:
        return (
            "Not judged: that takes three requests, not counting the first in each worker; redirects "
            "and paths without a rule never are."
        )
    return "Within its thresholds."


def time_growth(law: SizeLaw) -> str:
    """Return the growth of an endpoint's time with its rows."""
    return grows(law["k"], law["low"], law["high"], law["passes_rows"], law["passes_ms"])


def size_law(law: SizeLaw | None) -> str | None:
    """Return the law by which an endpoint's time grows with rows, and the requests it rests on."""
    if law is None:
        return None
    return (
        f"{time_growth(law)}. Measured in {count(law['requests'], 'request')} of "
        f"{about(law['rows_least'])} to {about(law['rows_most'])}{NBSP}rows, which take up to "
        f"{duration(law['ms_most'])}."
    )


def dropped(document: QueriesReport) -> list[str]:
    """Return sentences about executions that a document of queries does not list one by one."""
    kinds = {QUERY.short_name: "statements", QUERY_AT.short_name: "statements by line"}
    return [
        f"{count(document['dropped'][name], 'execution')} of other statements are counted in one row: "
        f"each worker distinguishes {number(document['told_apart'][name])} {kind}"
        for name, kind in kinds.items()
        if name in document["dropped"]
    ]


def conversations(row: ConversationRow) -> str:
    """Return the number and the duration of an endpoint's websockets or long polls."""
    failed = f", {number(row['failed'])}{NBSP}failed" if row["failed"] else ""
    name = CONVERSATIONS[row["kind"]][row["count"] > 1]
    return (
        f"{number(row['count'])}{NBSP}{name}: p50 {duration(row['p50_ms'])}, longest "
        f"{duration(row['max_ms'])}{failed}; not judged"
    )


def connection_leak(leak: PoolLeakRow) -> str:
    """Return the number of connections that were not returned, and the line that took them."""
    where = f", checked out at {leak['where']}" if leak["where"] else ""
    return f"{count(leak['count'], 'connection')} not returned to the pool{where}"


def memory_level(document: MemoryReport) -> str:
    """Return the level of memory: that of its pressure, or a suspected leak where that is fine."""
    if document["suspects"] and document["level"] in ("fine", None):
        return LEAK_SUSPECTED
    return LEVELS[document["level"]]


def memory_totals(document: MemoryReport) -> str:
    """Return the memory of all workers and of the machine as sentences."""
    total = f"Total: {mb(document['total_rss_mb'])} resident"
    if document["total_pss_mb"] is not None:
        total += f", {mb(document['total_pss_mb'])} with shared pages counted once (PSS)"
    machine = f"The machine has {mb(document['available_mb'])} available"
    if document["percent"] is not None:
        machine += f"; {percent(document['percent'] / 100)} of its memory is in use"
    if document["cgroup_limit_mb"] is not None:
        machine += f"; the container's limit is {mb(document['cgroup_limit_mb'])}"
    return f"{total}. {machine}."


def failures(counts: dict[str, int]) -> str:
    """Return the exceptions of a job's failed runs, each with its number."""
    return ", ".join(f"{number(n)} × {exception}" for exception, n in counts.items())


def longest_part(parts: list[JobPartRow]) -> str:
    """Return the part that took most of a job's time, with its share; empty without parts."""
    return f"{percent(parts[0]['share'])} {parts[0]['name']}" if parts else ""
