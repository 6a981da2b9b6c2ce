"""What a hunt for a leak found, in words: one sentence to act on, then what it rests on."""

from __future__ import annotations

import linecache
import os
import textwrap
from typing import Any

from ..core.units import amount
from ..experiments.in_process import Request
from ..experiments.leakhunt.growth import Growth
from ..experiments.leakhunt.runner import function_at
from ..experiments.leakhunt.verdict import FROM_ERRORS, Hunt, Where

_LINES = 6
_TYPES = 10
_FROM_REDIRECTS = 300


def shown(file: str) -> str:
    """Return a file as it is found from here."""
    if not file:
        return "no line of the application"
    folder = os.getcwd() + os.sep
    return file.removeprefix(folder)


def place(line: Where) -> str:
    """Return where a line is, with its function."""
    if not line.file:
        return shown("")
    function = function_at(line.file, line.line)
    return f"{shown(line.file)}:{line.line}" + (f" in `{function}`" if function else "")


def headline(request: Request, found: Hunt) -> str:
    """Return the sentence that a person who is no expert understands."""
    what = f"{request.method} {request.url}"
    if found.leaks:
        where = f": {place(found.lines[0])}" if found.lines else ""
        of = " outside of Python" if found.kind == "native leak" else ""
        return f"{what} keeps {amount(found.per_request)} per request{of}{where}."
    if found.kind == "filling":
        bound = found.traced.holders[0].bound
        return (f"{what} keeps {amount(found.per_request)} per request, but only until a cache that may "
                f"hold {bound:,} is full. It is no leak.")  # fmt: skip
    if found.kind == "cycles":
        return (f"{what} keeps nothing for good. {amount(found.traced.waiting)} of each request are "
                "cycles that wait for the garbage collector.")  # fmt: skip
    if found.kind == "fragmentation":
        return (f"{what} keeps nothing. {amount(found.untraced.returned)} of free memory stayed with "
                "the allocator until it was asked to give it back: fragmentation, no leak.")  # fmt: skip
    if found.kind == "unproved":
        return f"{what} was answered with errors only ({_listed(found)}): whether it leaks is not known."
    return f"{what} keeps nothing: no leak."


def sureness(found: Hunt) -> str:
    """Return what the verdict rests on."""
    growth = decisive(found)
    requests = found.traced.requests + found.untraced.requests
    if found.kind not in ("leak", "native leak", "filling"):
        calm = f"{requests:,} requests in two processes, and memory did not keep growing."
        return f"{calm} Is it the right request?" if found.kind == "unproved" else f"Sure: {calm}"
    return (f"Sure: {growth.grew} of {growth.blocks} blocks grew, by {amount(growth.low)} to "
            f"{amount(growth.high)} per request; {requests:,} requests in two processes.")  # fmt: skip


def decisive(found: Hunt) -> Growth:
    """Return the growth on which a verdict rests."""
    return found.untraced.growth if found.kind == "native leak" else found.traced.growth


def statuses(found: Hunt) -> dict[int, int]:
    """Return how often each status was answered in both processes."""
    both = found.traced.statuses, found.untraced.statuses
    return {
        status: sum(each.get(status, 0) for each in both) for status in sorted({*both[0], *both[1]})
    }


def _listed(found: Hunt) -> str:
    return ", ".join(f"{count:,} × {status}" for status, count in statuses(found).items())


def remarks(found: Hunt) -> list[str]:
    """Return what should be said aloud: errors that were answered, answers that changed, oddities."""
    said = []
    counts, listed = statuses(found), _listed(found)
    if len(counts) > 1:
        said.append(f"The answer was not always the same: {listed}.")
    elif found.kind == "unproved":
        pass  # the first sentence says so
    elif any(status >= FROM_ERRORS for status in counts):
        said.append(f"Every answer was an error ({listed}): is it the right request?")
    elif any(status >= _FROM_REDIRECTS for status in counts):
        said.append(f"Every answer led elsewhere ({listed}), so the view itself may not have run. To be "
                    "signed in, send a cookie: --header 'Cookie: …'.")  # fmt: skip
    if found.traced.growth.steady and not found.untraced.grows:
        said.append("It grew only while allocations were traced, so it is not called a leak.")
    if found.untraced.by == "resident":
        said.append("No allocator tells here what it has given out, so memory outside of Python was "
                    "only looked at by resident memory, without lines.")  # fmt: skip
    return said


def _wrap(text: str, width: int, first: str = "", then: str = "") -> list[str]:
    return textwrap.wrap(text, width, initial_indent=first, subsequent_indent=then,
                         break_on_hyphens=False)  # fmt: skip


def text(request: Request, found: Hunt, width: int = 80) -> str:
    """Return all that was found as text no wider than asked for."""
    parts = [[*_wrap(headline(request, found), width), *_wrap(sureness(found), width)]]
    parts += [_wrap(each, width) for each in remarks(found)]
    if found.kind in ("leak", "native leak", "filling"):
        parts.append(["WHERE IT IS ALLOCATED", "", *_lines(found, width)])
        parts.append(_titled("WHO HOLDS IT", _held(found, width)))
        parts.append(_titled("WHAT STAYS OF A REQUEST", _types(found, width)))
    elif found.kind == "cycles":
        parts.append(_titled("WHERE IT IS ALLOCATED", [
            told for line in found.traced.waiting_lines for told in _line(line, None, width)
        ]))  # fmt: skip
    parts.append(_titled("ALSO MEASURED", _also(found, width)))
    return "\n\n".join("\n".join(lines) for lines in parts if lines) + "\n"


def _titled(title: str, lines: list[str]) -> list[str]:
    return [title, "", *lines] if lines else []


def _lines(found: Hunt, width: int) -> list[str]:
    told: list[str] = []
    whole = _whole(found)
    for line in found.lines[:_LINES]:
        told += _line(line, whole, width)
    if len(found.lines) > _LINES:
        told.append(f"and {len(found.lines) - _LINES} more lines that keep less")
    return told


def _whole(found: Hunt) -> float:
    """Return what lines are shares of: a slope and sums of jumps are not the same to the byte."""
    return max(found.per_request, sum(line.per_request for line in found.lines if line.steady))


def _line(line: Where, whole: float | None, width: int) -> list[str]:
    share = f" ({line.per_request / whole:.0%})" if whole else ""
    if line.native and not line.steady:
        share = " (more than is kept: another line gives it back)"
    told = _wrap(f"{amount(line.per_request)}{share}  {place(line)}", width, "", "    ")
    source = linecache.getline(line.file, line.line).strip() if line.file else ""
    if source:
        told.append(_cut(f"    {source}", width))
    if line.library:
        told += _wrap(f"through {_library(line.library)}", width, "    ", "    ")
    for frame in line.stack[1:]:
        told.append(_cut(f"    from {_library(frame)}", width))
    return told


def _library(frame: str) -> str:
    """Return a library's place without where libraries are."""
    for folder in ("site-packages", "dist-packages"):
        _, found, rest = frame.partition(f"{os.sep}{folder}{os.sep}")
        if found:
            return rest
    return "/".join(frame.split(os.sep)[-2:])


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else line[: width - 1] + "…"


def _held(found: Hunt, width: int) -> list[str]:
    told = []
    for holder in found.traced.holders:
        more = f" (+{holder.per_request:,.0f} per request)" if holder.per_request else ""
        told += _wrap(holder.path + more, width, "", "    ")
    return told


def _types(found: Hunt, width: int) -> list[str]:
    listed = [f"{count:,.0f} {name}" for name, count in found.traced.types.items() if count >= 0.5]
    return _wrap(", ".join(listed[:_TYPES]), width)


def _also(found: Hunt, width: int) -> list[str]:
    whole, back = amount(found.untraced.resident), amount(found.untraced.returned)
    said = (
        f"{amount(found.traced.waiting)} of each request wait for the garbage collector",
        f"{back} of {whole} resident memory went back to the system when it was asked for",
    )
    return [line for each in said for line in _wrap(each, width, "", "    ")]


def document(request: Request, found: Hunt) -> dict[str, Any]:
    """Return all that was found as JSON values."""
    growth = decisive(found)
    return {
        "request": {"method": request.method, "url": request.url},
        "verdict": found.kind, "leaks": found.leaks, "text": headline(request, found),
        "sure": sureness(found), "remarks": remarks(found),
        "bytes_per_request": round(found.per_request, 1),
        "interval_bytes": [round(growth.low, 1), round(growth.high, 1)],
        "blocks": growth.blocks, "blocks_grew": growth.grew,
        "lines": [_line_document(line, _whole(found)) for line in found.lines],
        "holders": [
            {"path": each.path, "items": each.items, "items_per_request": each.per_request,
             "bound": each.bound} for each in found.traced.holders
        ],
        "types_per_request": found.traced.types,
        "waiting_bytes": round(found.traced.waiting, 1),
        "waiting_lines": [_line_document(line, 0.0) for line in found.traced.waiting_lines],
        "resident_bytes": found.untraced.resident, "returned_bytes": found.untraced.returned,
        "native_by": found.untraced.by,
        "requests": found.traced.requests + found.untraced.requests,
        "status": {str(status): count for status, count in statuses(found).items()},
    }  # fmt: skip


def _line_document(line: Where, whole: float) -> dict[str, Any]:
    return {
        "file": line.file, "line": line.line,
        "function": function_at(line.file, line.line) if line.file else "",
        "bytes_per_request": round(line.per_request, 1), "native_bytes": round(line.native, 1),
        "share": round(line.per_request / whole, 3) if whole else None,
        "library": line.library, "stack": list(line.stack), "every_third_grew": line.steady,
    }  # fmt: skip
