"""Header ``Server-Timing``: the parts of a request so far, for the network panel of a browser.

The header is written when the response starts, so it covers what has ended by then. See
https://www.w3.org/TR/server-timing/.
"""

from __future__ import annotations

import re
from threading import get_ident

from ...recording.span import Span

MAX_METRICS = 15
"""Number of parts in the header, the largest ones."""
_NOT_PRINTABLE = re.compile(r'[^ -~]|["\\\\]')


def server_timing(span: Span) -> str:
    """Return the value of the header; durations are milliseconds.

    Args:
        span: a request that runs in this thread.
    """
    clock = span.owner.clock
    metrics = [_metric("total", None, clock.monotonic_ns() - span.began)]
    if span.cpu_began is not None and span.thread == get_ident():
        metrics.append(_metric("cpu", None, clock.thread_ns() - span.cpu_began))
    span.settle()
    parts = sorted((span.parts or {}).items(), key=lambda item: -item[1][1])
    for number, (name, (count, wall, _)) in enumerate(parts[:MAX_METRICS]):
        description = name if count == 1 else f"{name}, {count} times"
        metrics.append(_metric(f"p{number}", description, wall))
    return ", ".join(metrics)


def _metric(token: str, description: str | None, ns: int) -> str:
    parameter = "" if description is None else f';desc="{_NOT_PRINTABLE.sub("?", description)}"'
    return f"{token}{parameter};dur={ns / 1e6:.2f}"
