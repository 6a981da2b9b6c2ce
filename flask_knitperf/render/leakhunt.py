"""Result of a leak hunt as text and as JSON: one sentence to act on, then its evidence."""

from __future__ import annotations

import linecache
import math
import os
from typing import TYPE_CHECKING

from ..core.units import count, number, percent, size
from ..experiments.in_process import FIRST_ERROR_STATUS, Request
from ..experiments.leakhunt.growth import Growth
from ..experiments.leakhunt.runner import function_at
from ..experiments.leakhunt.verdict import (
    FILLED_REQUESTS,
    UNPRUNED_ITEMS,
    AllocationRecord,
    Hunt,
    may_be_filling,
    may_be_pruned,
)
from .layout import Section, cut, wrap
from .layout import document as joined

if TYPE_CHECKING:
    from ..reports.documents.leakhunt import AllocationRow, LeakhuntReport

_MAX_LINES = 6
_MAX_TYPES = 10
_FROM_REDIRECTS = 300
_INDENT = "    "
_LEAKS = ("leak", "native leak")


def shown(file: str) -> str:
    """Return the path of a file relative to the working directory; an empty one means a library."""
    if not file:
        return "no line of the application"
    return file.removeprefix(os.getcwd() + os.sep)


def place(line: AllocationRecord) -> str:
    """Return file, line number and function of a line."""
    if not line.file:
        return shown("")
    function = function_at(line.file, line.line)
    return f"{shown(line.file)}:{line.line}" + (f" in `{function}`" if function else "")


def headline(request: Request, hunt: Hunt) -> str:
    """Return the verdict as a sentence for readers without experience in memory leaks."""
    name = f"{request.method} {request.url}"
    retained = size(hunt.bytes_per_request)
    if hunt.leaks:
        where = f": {place(hunt.lines[0])}" if hunt.lines else ""
        native = " outside of Python" if hunt.kind == "native leak" else ""
        return f"{name} retains {retained} per request{native}{where}."
    if hunt.kind == "filling":
        bound = number(hunt.python.retainers[0].bound)
        return (f"{name} retains {retained} per request, but only until a cache with a limit of "
                f"{bound} is full. This is not a leak.")  # fmt: skip
    if hunt.kind == "cycles":
        return (f"{name} retains nothing. {size(hunt.python.garbage_bytes)} per request are reference "
                "cycles that wait for the garbage collector.")  # fmt: skip
    if hunt.kind == "fragmentation":
        return (f"{name} retains nothing. The allocator held {size(hunt.native.returned_bytes)} of free "
                "memory until it was made to return it: fragmentation, not a leak.")  # fmt: skip
    if _of_references(hunt):
        return (f"{name} adds {retained} of weak references to freed objects per request. Their owner "
                "may remove them once there are more, so whether it leaks is unknown.")  # fmt: skip
    if _of_little(hunt):
        return (f"{name} retains {retained} per request, in total too little to exclude that a store of "
                "a library is filling, so whether it leaks is unknown.")  # fmt: skip
    if hunt.kind == "unproved":
        return (f"{name} responded with errors only ({_statuses(hunt)}), so whether it leaks is "
                "unknown.")  # fmt: skip
    return f"{name} retains nothing: no leak."


def sureness(hunt: Hunt) -> str:
    """Return the evidence for the verdict."""
    growth = decisive(hunt)
    requests = count(hunt.python.requests + hunt.native.requests, "request")
    if _of_references(hunt):
        references = count(hunt.python.retainers[0].items or 0, "reference")
        return (f"{requests} in two processes, and then {references}. Repeat it with --requests "
                f"{_requests_to_prove(hunt)}: {number(UNPRUNED_ITEMS)} prove a leak.")  # fmt: skip
    if _of_little(hunt):
        return (f"{requests} in two processes, and no container that grows was found. Repeat it with "
                f"--requests {FILLED_REQUESTS}: such stores are full by then.")  # fmt: skip
    if hunt.kind not in (*_LEAKS, "filling"):
        calm = f"{requests} in two processes, and memory did not keep growing."
        return f"{calm} Is it the right request?" if hunt.kind == "unproved" else f"Sure: {calm}"
    low, high = size(growth.low), size(growth.high)
    grown = low if low == high else f"{low} to {high}"
    return (f"Sure: {growth.grown_blocks} of {growth.blocks} blocks grew, by {grown} per request; "
            f"{requests} in two processes.")  # fmt: skip


def _of_references(hunt: Hunt) -> bool:
    """Return whether the verdict is unproved because dead weak references may be removed later."""
    return hunt.kind == "unproved" and hunt.python.growth.steady and may_be_pruned(hunt.python)


def _of_little(hunt: Hunt) -> bool:
    """Return whether the verdict is unproved because a bounded store may be filling."""
    return hunt.kind == "unproved" and hunt.python.growth.steady and may_be_filling(hunt.python)


def _requests_to_prove(hunt: Hunt) -> int:
    """Return the number of requests, in hundreds, after which the references are enough for a leak."""
    retainer = hunt.python.retainers[0]
    missing = UNPRUNED_ITEMS - (retainer.items or 0)
    requests = hunt.python.requests + 1.2 * missing / (retainer.items_per_request or 1.0)
    return 100 * math.ceil(requests / 100)


def decisive(hunt: Hunt) -> Growth:
    """Return the growth on which the verdict rests."""
    return hunt.native.growth if hunt.kind == "native leak" else hunt.python.growth


def statuses(hunt: Hunt) -> dict[int, int]:
    """Return the number of responses by status, in both processes."""
    both = hunt.python.statuses, hunt.native.statuses
    return {
        status: sum(counts.get(status, 0) for counts in both)
        for status in sorted({*both[0], *both[1]})
    }


def _statuses(hunt: Hunt) -> str:
    return ", ".join(f"{number(n)} × {status}" for status, n in statuses(hunt).items())


def remarks(hunt: Hunt) -> list[str]:
    """Return warnings about the replay: errors, redirects, varying responses, missing figures."""
    sentences = []
    counts, listed = statuses(hunt), _statuses(hunt)
    if len(counts) > 1:
        sentences.append(f"The response was not always the same: {listed}.")
    elif hunt.kind == "unproved":
        pass  # the headline has it
    elif any(status >= FIRST_ERROR_STATUS for status in counts):
        sentences.append(f"Every response was an error ({listed}): is it the right request?")
    elif any(status >= _FROM_REDIRECTS for status in counts):
        sentences.append(f"Every response was a redirect ({listed}), so the view itself may not have "
                         "run. To be signed in, send a cookie: --header 'Cookie: …'.")  # fmt: skip
    if hunt.python.growth.steady and not hunt.native.grows:
        sentences.append("It grew only while allocations were traced, so it is not called a leak.")
    if hunt.native.source == "resident":
        sentences.append("No allocator reports its allocated bytes here, so memory outside of Python "
                         "was judged by resident memory alone, without lines.")  # fmt: skip
    return sentences


def text(request: Request, hunt: Hunt, width: int = 80) -> str:
    """Return the result as text within a width."""
    head = [*wrap(headline(request, hunt), width, then=""), *wrap(sureness(hunt), width, then="")]
    sections = [Section("", head)]
    sections += [Section("", wrap(remark, width, then="")) for remark in remarks(hunt)]
    if hunt.kind in (*_LEAKS, "filling") or _of_references(hunt):
        sections.append(Section("ALLOCATED AT", _lines(hunt, width)))
        sections.append(Section("HELD BY", _retainers(hunt, width)))
        sections.append(Section("RETAINED PER REQUEST", _types(hunt, width)))
    elif hunt.kind == "cycles":
        lines = [text for line in hunt.python.garbage_lines for text in _line(line, None, width)]
        sections.append(Section("ALLOCATED AT", lines))
    sections.append(Section("ALSO MEASURED", _also_measured(hunt, width)))
    return joined(sections)


def _lines(hunt: Hunt, width: int) -> list[str]:
    lines: list[str] = []
    total = _total(hunt)
    for line in hunt.lines[:_MAX_LINES]:
        lines += _line(line, total, width)
    more = len(hunt.lines) - _MAX_LINES
    if more > 0:
        lines.append(f"and {count(more, 'more line', 'more lines')} that retain less")
    return lines


def _total(hunt: Hunt) -> float:
    """Return the total that lines are shares of: a slope and sums of jumps differ by some bytes."""
    return max(
        hunt.bytes_per_request, sum(line.bytes_per_request for line in hunt.lines if line.steady)
    )


def _line(line: AllocationRecord, total: float | None, width: int) -> list[str]:
    share = f" ({percent(line.bytes_per_request / total)})" if total else ""
    if line.native_bytes and not line.steady:
        share = " (more than is retained: another line frees it)"
    lines = wrap(f"{size(line.bytes_per_request)}{share}  {place(line)}", width, then=_INDENT)
    source = linecache.getline(line.file, line.line).strip() if line.file else ""
    if source:
        lines.append(cut(f"{_INDENT}{source}", width))
    if line.library:
        lines += wrap(f"through {_library(line.library)}", width, _INDENT, _INDENT)
    for frame in line.stack[1:]:
        lines.append(f"{_INDENT}from {cut(_library(frame), width - len(_INDENT) - 5)}")
    return lines


def _library(frame: str) -> str:
    """Return the location of a library's frame without the folder of all libraries."""
    for folder in ("site-packages", "dist-packages"):
        _, separator, rest = frame.partition(f"{os.sep}{folder}{os.sep}")
        if separator:
            return rest
    return "/".join(frame.split(os.sep)[-2:])


def _retainers(hunt: Hunt, width: int) -> list[str]:
    lines = []
    for retainer in hunt.python.retainers:
        growth = retainer.items_per_request
        more = f" (+{number(growth)} per request)" if growth else ""
        lines += wrap(retainer.path + more, width, then=_INDENT)
    return lines


def _types(hunt: Hunt, width: int) -> list[str]:
    types = [f"{number(round(n))} {name}" for name, n in hunt.python.types.items() if n >= 0.5]
    return wrap(", ".join(types[:_MAX_TYPES]), width)


def _also_measured(hunt: Hunt, width: int) -> list[str]:
    resident, returned = size(hunt.native.resident_bytes), size(hunt.native.returned_bytes)
    sentences = (
        f"{size(hunt.python.garbage_bytes)} per request wait for the garbage collector",
        f"{returned} of {resident} resident memory were returned to the system on request",
    )
    return [line for sentence in sentences for line in wrap(sentence, width, then=_INDENT)]


def document(request: Request, hunt: Hunt) -> LeakhuntReport:
    """Return the result as JSON values."""
    growth = decisive(hunt)
    return {
        "request": {"method": request.method, "url": request.url},
        "verdict": hunt.kind, "leaks": hunt.leaks, "text": headline(request, hunt),
        "sure": sureness(hunt), "remarks": remarks(hunt),
        "bytes_per_request": round(hunt.bytes_per_request, 1),
        "interval_bytes": [round(growth.low, 1), round(growth.high, 1)],
        "blocks": growth.blocks, "blocks_grew": growth.grown_blocks,
        "lines": [_line_document(line, _total(hunt)) for line in hunt.lines],
        "holders": [
            {"path": retainer.path, "items": retainer.items,
             "items_per_request": retainer.items_per_request, "bound": retainer.bound,
             "dead_references": retainer.dead_references}
            for retainer in hunt.python.retainers
        ],
        "types_per_request": hunt.python.types,
        "waiting_bytes": round(hunt.python.garbage_bytes, 1),
        "waiting_lines": [_line_document(line, 0.0) for line in hunt.python.garbage_lines],
        "resident_bytes": hunt.native.resident_bytes, "returned_bytes": hunt.native.returned_bytes,
        "native_by": hunt.native.source,
        "requests": hunt.python.requests + hunt.native.requests,
        "status": {str(status): n for status, n in statuses(hunt).items()},
    }  # fmt: skip


def _line_document(line: AllocationRecord, total: float) -> AllocationRow:
    return {
        "file": line.file, "line": line.line,
        "function": function_at(line.file, line.line) if line.file else "",
        "bytes_per_request": round(line.bytes_per_request, 1),
        "native_bytes": round(line.native_bytes, 1),
        "share": round(line.bytes_per_request / total, 3) if total else None,
        "library": line.library, "stack": list(line.stack), "every_third_grew": line.steady,
    }  # fmt: skip
