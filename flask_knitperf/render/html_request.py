"""Values of the lists of single requests and of the page of one request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..analysis.phrases import title
from ..core.units import NONE, count, duration, number, percent, size
from . import Values
from .html_times import moment

if TYPE_CHECKING:
    from ..reports.documents import RequestReport
    from ..reports.documents.endpoint import RequestTables
    from ..reports.documents.request import EventDetail, RequestRow
_STATES = {
    "first": "first read",
    "changed": "changed",
    "unchanged": "unchanged",
    "reusable": "unchanged",
    "reused": "from the cache",
}


def listed(requests: RequestTables) -> list[Values]:
    """Return the lists of single requests: the slowest, then the latest; empty ones are left out."""
    lists = (("Slowest", requests["slowest"]), ("Latest", requests["latest"]))
    return [
        {"title": heading, "rows": [_summary(row) for row in rows]}
        for heading, rows in lists
        if rows
    ]


def _summary(row: RequestRow | RequestReport) -> Values:
    remarks = [
        remark for applies, remark in (
            (row["first"], "first of its worker"), (row["disconnected"], "client disconnected"),
            (row["sampled"], "sampled"),
        ) if applies
    ]  # fmt: skip
    return {
        **row, "moment": moment(row["at"]), "duration": duration(row["ms"]),
        "part": f"{row['most']}, {duration(row['most_ms'])}" if row["most"] else NONE,
        "alongside": row["beside"] or NONE, "remarks": ", ".join(remarks) or NONE,
    }  # fmt: skip


def request(document: RequestReport) -> Values:
    """Return the values of the page of one request."""
    cpu = document["cpu_ms"]
    facts = [
        ("Duration", duration(document["ms"])),
        ("Status", document["status"] or "none"),
        ("CPU time", "not sampled" if cpu is None else duration(cpu)),
        ("Waiting for a CPU core", duration(document["ready_ms"])),
        ("Other waiting", duration(document["wait_ms"])),
        ("Garbage collection", duration(document["gc_ms"])),
        ("Response size", size(document["bytes_out"])),
        ("Rows", "unknown" if document["rows"] is None else number(document["rows"])),
        ("Worker", f"pid {document['pid']}"),
    ]
    return {
        **_summary(document), "title": title(document["endpoint"]), "facts": facts,
        "parts": [
            {**part, "duration": duration(part["ms"]), "percent": percent(part["share"])}
            for part in document["parts"]
        ],
        "timeline": [
            {**event, "start": duration(event["begin_ms"]), "duration": duration(event["ms"]),
             "details": _details(event["detail"] or {}), "indent": "› " * event["depth"]}
            for event in document["timeline"]
        ],
        "neighbours": [
            {**other, "overlap": duration(other["ms"]),
             "percent": percent(min(1.0, other["ms"] / document["ms"]) if document["ms"] else None)}
            for other in document["beside"]
        ],
    }  # fmt: skip


def _details(event: EventDetail) -> str:
    """Return the details of a part: file or statement, line, bytes, rows, outcome."""
    shape, calls = event.get("shape"), event.get("calls")
    if shape and calls:
        shape = f"{number(calls)} × {shape}"
    texts = (event.get("path"), shape, event.get("where"))
    details = [text for text in texts if text]
    if (bytes_ := event.get("bytes")) is not None:
        details.append(size(bytes_))
    if (rows := event.get("rows")) is not None:
        details.append(count(rows, "row"))
    if state := event.get("state"):
        details.append(_STATES[state])
    if calls:
        details.append(f"{duration(event.get('total_ms'))} in total")
    if error := event.get("error"):
        details.append(f"failed: {error}")
    return ", ".join(details)
