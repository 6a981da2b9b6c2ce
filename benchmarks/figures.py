"""The figures that README and docs print, written from ``docs/benchmarks/*.json`` between markers.

A block is ``<!-- figures: NAME -->`` … ``<!-- end -->``, in a line or over several; :data:`BLOCKS` has
the function that writes it. ``python -m benchmarks`` rewrites all blocks after each measurement.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from . import results
from .harness.machine import ROOT
from .harness.outcome import markdown

BLOCK = re.compile(r"(<!-- figures: ([\w.]+) -->)(.*?)(<!-- end -->)", re.DOTALL)
MISSING = "not measured"

Figures = dict[str, Any]


def pages() -> list[Path]:
    """Return the pages that may hold blocks: the README and the pages directly below ``docs``."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def write() -> None:
    """Rewrite the blocks of all pages."""
    for page in pages():
        text = page.read_text(encoding="utf-8")
        if (current := render(text)) != text:
            page.write_text(current, encoding="utf-8")


def render(text: str) -> str:
    """Return the text of a page with its blocks as the published results give them.

    Raises:
        KeyError: a block has a name that :data:`BLOCKS` lacks.
    """

    def block(match: re.Match[str]) -> str:
        start, name, before, end = match.groups()
        body = _body(name)
        if "\n" in before:  # markers on lines by themselves keep the indentation of the end marker
            indent = before.rpartition("\n")[2]
            body = "\n" + "".join(f"{indent}{line}".rstrip() + "\n" for line in body.split("\n"))
            body += indent
        return start + body + end

    return BLOCK.sub(block, text)


def _body(name: str) -> str:
    write_block = BLOCKS[name]
    try:
        return write_block(_published)
    except (KeyError, TypeError):
        return MISSING


def _published(name: str) -> Figures:
    document = results.load(name)
    if document is None:
        raise KeyError(name)
    figures: Figures = document["outcome"]["figures"]
    return figures


# -- blocks ----------------------------------------------------------------------------------------

Published = Callable[[str], Figures]


def _overhead(published: Published) -> str:
    """CPU time that variants and peers add to a request."""
    overhead, peers = published("overhead"), published("peers")
    added = overhead["added_us"]

    def row(name: str, *keys: str) -> tuple[str, str, str]:
        times = "; ".join(f"{added[key] / added['full']:.1f}" for key in keys)
        return name, "; ".join(_us(added[key]) for key in keys), times

    rows = [
        ("switched off", _us(max(0.0, added["off"])), "0"),
        row("one empty `after_request` function; four of them", "hook", "hooks"),
        row("**flask-knitperf**: wall time, count, status, bytes", "plain"),
        row("**flask-knitperf**: everything", "full"),
        row("prometheus_flask_exporter", "peer"),
        *((name, _us(peers[name]["added_us"]), f"{peers[name]['times_ours']:.1f}")
          for name in _PEERS),
    ]  # fmt: skip
    title = (
        f"CPU time added to one request of a small endpoint ({overhead['bare_us']:.0f} µs bare), and "
        "its multiple of\n*everything* in the same run, on a shared two-core machine; "
        "read the multiples:"
    )
    return f"{title}\n\n{markdown(('', 'µs added', '× everything'), rows)}"


_PEERS = ("pyinstrument, each request", "OpenTelemetry, metrics only")


def _python(published: Published) -> str:
    """CPU time that the classes in Python add to a request."""
    added = published("overhead")["added_us_in_python"]
    return f"{_us(added['plain'])} to {_us(added['full'])} µs"


def _us(value: float) -> str:
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"


def _frames(published: Published) -> str:
    """Ratios by which frames shrink over real tables, with pandas 3."""
    means = published("frames")["3"]["means"]
    return (
        f"{means['balanced']['ratio']:.2f} times smaller by default over "
        f"{means['balanced']['tables']} real tables (pandas 3),\n"
        f"{means['compact']['ratio']:.2f} with `compact` and {means['pack']['ratio']:.2f} with `pack`"
    )


def _founding(published: Published) -> str:
    """Bytes of the founding claim's frame, by pandas and by way of counting."""
    figures = published("frames")
    rows = []
    for pandas in sorted(key for key in figures if key.isdigit()):
        frame = figures[pandas]["founding"]
        for key, way in (("deep", "as pandas counts (`deep`)"), ("true", "each text once")):
            before = frame["before"][key]
            rows.append((frame["pandas"], way, f"{before / 1e6:.2f} MB", *(
                f"{frame[kind][key] / 1e6:.2f} MB, {100 * (1 - frame[kind][key] / before):.1f} % less"
                for kind in ("lossless", "rounded")
            )))  # fmt: skip
    heads = ("pandas", "bytes", "before", "`compact`", "with prices rounded to 10⁻⁶")
    return f"\n{markdown(heads, rows)}"


def _live_frames(published: Published) -> str:
    """Duration of a walk of the collector."""
    figures = published("live_frames")
    return f"{figures['walk_ms']:.0f} ms for {figures['objects'] / 1e6:.1f} million objects"


def _outside(published: Published) -> str:
    """The added CPU time of everything as a share of the exporter's, by an outside harness."""
    return f"1/{1 / published('outside')['share']:.1f}"


def _overhead_paths(published: Published) -> str:
    """CPU time added to requests with hooks, and to those that leave the fast path."""
    rows = [
        (what, _us(ours), _us(peer)) for what, ours, peer in published("overhead_paths")["added_us"]
    ]
    return f"\n{markdown(('a request with', 'µs added', 'by prometheus_flask_exporter'), rows)}"


def _servers(published: Published) -> str:
    """Counts under each server."""
    heads = ("server", "version", "processes", "requests", "killed", "reports", "wrong", "runs")
    lines = [tuple(row[head] for head in heads) for row in published("servers")["servers"]]
    return f"\n{markdown(heads, lines)}"


BLOCKS: dict[str, Callable[[Published], str]] = {
    "overhead": _overhead,
    "overhead.python": _python,
    "outside": _outside,
    "overhead_paths": _overhead_paths,
    "servers": _servers,
    "frames": _frames,
    "founding": _founding,
    "live_frames": _live_frames,
}


def names(texts: Iterable[str]) -> set[str]:
    """Return the names of the blocks in some texts."""
    return {match[2] for text in texts for match in BLOCK.finditer(text)}
