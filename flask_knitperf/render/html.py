"""From the report to what a page prints: words, lengths of bars, places in a picture. Pure."""

from __future__ import annotations

import math
import zlib
from datetime import datetime
from typing import Any

from ..analysis.phrases import (
    calm,
    frames_held,
    frames_left_out,
    frames_shown,
    grows,
    many,
    memory_grows,
    title,
)
from ..analysis.phrases import duration as words
from ..core.units import MB, amount

_WIDTH, _HEIGHT = 120.0, 28.0
_FRAMES = 40
NEIGHBOURS = 12
_STATES = {"first": "read for the first time", "changed": "changed since", "unchanged": "unchanged"}
_LEVELS = {"fine": "Fine", "warning": "Warning", "critical": "Critical", None: "Not measured"}
SEVERITY = {"CRITICAL": "Critical", "WARNING": "Warning", "INFO": "Note"}
_CAUSES = {
    "own_cpu": "own Python code", "waiting": "waiting", "sql": "database",
    "file_read": "reading files", "cache": "cache", "gc": "garbage collection",
    "gil_contention": "a neighbour in its worker", "section": "section",
    "early_hook": "early hook", "unknown": "not measured",
}  # fmt: skip


def duration(ms: float | None) -> str:
    """Return a time as people say it, a dash where there is none."""
    return "–" if ms is None else words(ms)


def picture(row: dict[str, Any]) -> dict[str, Any]:
    """Return the bars of an endpoint's distribution: ``{bars[{x, y, w, h, slow}], limit, label}``.

    Bars are of equal ratio in time; a bar that lies beyond the moderate threshold is ``slow``.
    Heights are proportional to counts, but at least one unit, so that rare slow ones are seen.
    """
    drawn = row["distribution"]
    pairs = list(zip(drawn["upper_ms"], drawn["count"], strict=True))
    limit = row["thresholds"]["moderate_ms"]
    most = max((count for _, count in pairs), default=0)
    step = _WIDTH / max(len(pairs), 12)
    bars = []
    for place, (upper, count) in enumerate(pairs):
        if count:
            height = max(1.5, (_HEIGHT - 2) * count / most)
            bars.append({
                "x": round(place * step, 2), "w": round(max(1.0, step - 1), 2),
                "y": round(_HEIGHT - height, 2), "h": round(height, 2), "slow": upper > limit * 1.012,
            })  # fmt: skip
    label = (
        f"half within {duration(row['p50_ms'])}, 95 % within {duration(row['p95_ms'])}, "
        f"slowest {duration(row['max_ms'])}"
    )
    return {"bars": bars, "label": label}


def share(value: float | None) -> str:
    """Return a share as a percentage that never rounds to a claim: 99.96 % is not 100 %."""
    if value is None:
        return "–"
    percent = value * 100
    if 99.5 <= percent < 100:
        return f"{math.floor(percent * 10) / 10:.1f} %"
    if 0 < percent < 0.5:
        return "< 0.5 %"
    return f"{percent:.0f} %"


def size(number: float | None) -> str:
    """Return bytes as people say it."""
    return "–" if number is None else amount(number)


def seconds(value: float) -> str:
    """Return seconds as people say it."""
    return "–" if value <= 0 else words(value * 1000)


def moment(text: str | None) -> str:
    """Return an ISO moment without its date's noise: ``24 Nov 03:12:05``."""
    if not text:
        return "–"
    at = datetime.fromisoformat(text)
    return f"{at.day} {at:%b %H:%M:%S} UTC"


def report(document: dict[str, Any]) -> dict[str, Any]:
    """Return the rows of the report page."""
    verdicts: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for finding in document["bottlenecks"]:
        verdicts.setdefault((finding["endpoint"], finding["method"]), []).append(finding)
    return {
        "findings": [_finding(f) for f in document["bottlenecks"]],
        "endpoints": [
            _endpoint(row, verdicts.get((row["endpoint"], row["method"]), []))
            for row in document["endpoints"]
        ],
        "requests": sum(row["count"] for row in document["endpoints"]),
        "from": moment(document["window"]["from"]), "to": moment(document["window"]["to"]),
        "functions": [
            {**row, "spent": seconds(row["time_spent_s"]), "mean": duration(row["mean_ms"]),
             "p95": duration(row["p95_ms"]), "max": duration(row["max_ms"])}
            for row in document["functions"]
        ],
        "workers": [
            {**row, "since": moment(row["started"]), "busy": share(row["busy_share"]),
             "pressure": share(row["gil_pressure"])}
            for row in document["workers"]
        ],
        "neighbours": [
            {**row, "victim": title(row["victim"]), "culprit": title(row["culprit"]),
             "computed": seconds(row["computed_s"]), "percent": share(row["share"])}
            for row in document["neighbours"][:NEIGHBOURS]
        ],
        "scorecard": [
            {**row, "said": {True: "Met", False: "Missed", None: "Not measured"}[row["ok"]],
             "tone": {True: "good", False: "bad", None: "none"}[row["ok"]]}
            for row in document["scorecard"]
        ],
    }  # fmt: skip


def why(document: dict[str, Any]) -> dict[str, Any]:
    """Return what the page of one endpoint prints."""
    return {
        "title": title(document["endpoint"]),
        "findings": [_finding(finding) for finding in document["findings"]],
        "row": _endpoint(document["row"], document["findings"]),
        "calm": calm(document["row"]),
        "law": _law(document["row"]["size_law"]),
        "difference": [
            {**row, "slow": share(row["slow_share"]), "normal": share(row["normal_share"])}
            for row in document["difference"][:8]
        ],
        "requests": requests(document["requests"]),
        "changed": [
            {**row, "now": duration(row["ms"]), "then": duration(row["before_ms"])}
            for row in _most_changed(document["against"])
        ],
    }


def requests(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return single requests as rows of tables: the slowest, then the latest."""
    return [
        {"title": title_, "rows": [_request(row) for row in document[name]]}
        for name, title_ in (("slowest", "The slowest"), ("latest", "The latest"))
        if document[name]
    ]  # fmt: skip


def _law(known: dict[str, Any] | None) -> str | None:
    """Return how an endpoint's time grows with its rows, as a sentence."""
    if known is None:
        return None
    return (
        f"{grows(known)}. Seen in {known['requests']:,} requests with "
        f"{many(known['rows_least'])} to {many(known['rows_most'])} rows, where it takes "
        f"{duration(known['ms_most'])}."
    )


def _most_changed(against: dict[str, Any] | None) -> list[dict[str, Any]]:
    lines = [] if against is None else against["lines"]
    return sorted(lines, key=lambda row: -abs(row["change_ms"]))[:8]


def _request(row: dict[str, Any]) -> dict[str, Any]:
    remarks = [
        said for known, said in (
            (row["first"], "first of its worker"), (row["disconnected"], "left by the client"),
            (row["sampled"], "sampled"),
        ) if known
    ]  # fmt: skip
    return {
        **row, "moment": moment(row["at"]), "took": duration(row["ms"]),
        "part": f"{row['most']}, {duration(row['most_ms'])}" if row["most"] else "–",
        "neighbour": row["beside"] or "–", "remarks": ", ".join(remarks) or "–",
    }  # fmt: skip


def request(document: dict[str, Any]) -> dict[str, Any]:
    """Return what the page of one request prints."""
    cpu = document["cpu_ms"]
    facts = [
        ("Took", duration(document["ms"])),
        ("Status", document["status"] or "none"),
        ("Own CPU", "not sampled" if cpu is None else duration(cpu)),
        ("Waiting for a core", duration(document["ready_ms"])),
        ("Other waiting", duration(document["wait_ms"])),
        ("Garbage collection meanwhile", duration(document["gc_ms"])),
        ("Body", size(document["bytes_out"])),
        ("Rows", "unknown" if document["rows"] is None else f"{document['rows']:,}"),
        ("Worker", f"pid {document['pid']}"),
    ]
    return {
        **_request(document), "title": title(document["endpoint"]), "facts": facts,
        "parts": [
            {**part, "took": duration(part["ms"]), "percent": share(part["share"])}
            for part in document["parts"]
        ],
        "timeline": [
            {**event, "begin": duration(event["begin_ms"]), "took": duration(event["ms"]),
             "said": _detail(event["detail"] or {}), "indent": "› " * event["depth"]}
            for event in document["timeline"]
        ],
        "neighbours": [
            {**other, "took": duration(other["ms"]),
             "percent": share(min(1.0, other["ms"] / document["ms"]) if document["ms"] else None)}
            for other in document["beside"]
        ],
    }  # fmt: skip


def _detail(known: dict[str, Any]) -> str:
    """Return what is known of a part: file or statement, line, bytes, rows, what came of it."""
    said = [known[name] for name in ("path", "shape", "where") if known.get(name)]
    if known.get("bytes") is not None:
        said.append(size(known["bytes"]))
    if known.get("rows") is not None:
        said.append(f"{known['rows']:,} rows")
    if known.get("state"):
        said.append(_STATES[known["state"]])
    if known.get("error"):
        said.append(f"failed: {known['error']}")
    return ", ".join(said)


def _finding(finding: dict[str, Any]) -> dict[str, Any]:
    """Return a finding with its headline apart, and its causes as bars."""
    head, _, rest = finding["text"].partition(". ")
    certain = finding["confidence"]  # said below, once
    rest = rest.removesuffix(f"{certain[:1].upper()}{certain[1:]}.").strip()
    failing = finding["type"] == "LOW_SUCCESS_RATE"
    causes = [
        {**cause, "percent": share(cause["share"]), "width": round(cause["share"] * 100, 1),
         "name": "failures" if failing else _CAUSES.get(cause["cause"], cause["cause"])}
        for cause in finding["why"][:5]
    ]  # fmt: skip
    return {
        **finding, "head": head + ".", "rest": rest, "causes": causes,
        "level": SEVERITY[finding["severity"]], "spent": seconds(finding["time_spent_s"]),
        "anchor": anchor(finding),
    }  # fmt: skip


def anchor(row: dict[str, Any]) -> str:
    """Return the id of an endpoint's place on the page."""
    safe = "".join(c if c.isalnum() else "-" for c in f"{row['method']}-{row['endpoint']}")
    return f"e-{safe}-{zlib.crc32(row['endpoint'].encode()):08x}"


def _endpoint(row: dict[str, Any], found: list[dict[str, Any]]) -> dict[str, Any]:
    worst = found[0] if found else None
    return {
        **row, "title": title(row["endpoint"]), "anchor": anchor(row), "picture": picture(row),
        "p50": duration(row["p50_ms"]), "p95": duration(row["p95_ms"]),
        "p99": duration(row["p99_ms"]), "max": duration(row["max_ms"]),
        "excess": seconds(row["excess_s"]), "spent": seconds(row["time_spent_s"]),
        "level": SEVERITY[worst["severity"]] if worst else None,
        "severity": worst["severity"].lower() if worst else "fine",
        "types": ", ".join(f["type"] for f in found),
        "facts": _facts(row),
        "parts": [
            {**part, "took": duration(part["ms"]), "percent": share(part["share"])}
            for part in row["parts"]
        ],
        "lines": [
            {**line, "percent": share(line["share"]), "computing": share(line["running_share"])}
            for line in row["lines"]
        ],
        "patterns": [{**use, "percent": share(use["share"])} for use in row["patterns"]],
        "file_reads": [
            {**read, "mean": duration(read["mean_ms"]), "spent": seconds(read["time_spent_s"]),
             "avoidable": seconds(read["avoidable_s"]) if read["unchanged"] else "–",
             "size": size(read["bytes_mean"])}
            for read in row["file_reads"]
        ],
    }  # fmt: skip


def _facts(row: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what else is known of an endpoint, as names and values."""
    status = ", ".join(f"{n:,} × {name}" for name, n in row["status"].items() if n)
    cpu = row["cpu_ms"]
    facts = [
        ("Answers", status or "none yet"),
        ("Answered below 500", share(row["success_rate"])),
        ("Mean", duration(row["mean_ms"])),
        ("Fastest", duration(row["min_ms"])),
        ("Slowest", duration(row["max_ms"])),
        ("Standard deviation", duration(row["stddev_ms"])),
        ("First request of a worker", duration(row["first_ms"])),
        ("Own CPU", "not measured" if cpu is None else duration(cpu)),
        ("Not on the CPU", "not measured" if row["wait_ms"] is None else duration(row["wait_ms"])),
        ("Of that waiting for a core", duration(row["ready_ms"])),
        ("Garbage collection", duration(row["gc_ms"])),
        ("Body", size(row["bytes_out_mean"])),
        ("Thresholds", " / ".join(words(limit) for limit in sorted(row["thresholds"].values()))),
    ]  # fmt: skip
    for name, label in (("in_flight", "In flight now"), ("killed", "Killed by the server"),
                        ("disconnected", "Left by the client")):  # fmt: skip
        if row[name]:
            facts.append((label, f"{row[name]:,}"))
    return facts


def memory(document: dict[str, Any]) -> dict[str, Any]:
    """Return the rows of the memory page."""
    return {
        "level": _LEVELS[document["level"]],
        "tone": {"fine": "good", "warning": "warning", "critical": "bad", None: "none"}[
            document["level"]
        ],
        "workers": [
            {**row, "said": _LEVELS[row["level"]], "line": line(row["trend"]),
             "slope": slope(row["slope_mb_per_hour"])}
            for row in document["workers"]
        ],
        "grows": memory_grows(document["growth"]),
        "suspects": [
            {**row, "each": size(row["kb_per_request"] * 1024), "grown": size(row["grown_mb"] * MB)}
            for row in document["suspects"]
        ],
        "live_frames": [_frames(told) for told in document["live_frames"]],
        "housekeeper": [{**row, "at": moment(row["at"])} for row in document["housekeeper"]],
    }  # fmt: skip


def _frames(told: dict[str, Any]) -> dict[str, Any]:
    """Return a worker's live frames as its table shows them."""
    rows = [
        {**frame, "name": frame["origin"] or ", ".join(frame["names"])}
        for frame in frames_shown(told, _FRAMES)
    ]
    said = f"{frames_held(told)} Listed {moment(told['at'])}."
    return {**told, "said": said, "frames": rows, "more": frames_left_out(told, len(rows))}


def slope(value: float | None) -> str:
    """Return a growth as people say it."""
    if value is None:
        return "needs ten minutes"
    return "steady" if abs(value) < 0.5 else f"{value:+.1f} MB/h"


def line(samples: list[list[float]]) -> str:
    """Return the points of a trend in a picture of 120 × 28, empty for fewer than two."""
    if len(samples) < 2:
        return ""
    began, ended = samples[0][0], samples[-1][0]
    low = min(s[1] for s in samples)
    high = max([low + 1, *(s[1] for s in samples)])
    return " ".join(
        f"{(at - began) / (ended - began) * _WIDTH:.1f},"
        f"{(_HEIGHT - 2) - (value - low) / (high - low) * (_HEIGHT - 4):.1f}"
        for at, value in samples
    )
