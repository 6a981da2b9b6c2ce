"""Queue time of a request, from the header that a load balancer or proxy sets.

The header ``X-Request-Start`` carries the time at which the proxy accepted the request: seconds,
milliseconds or microseconds since the epoch, with or without ``t=``. It is read only where the setting
``KNITPERF_TRUST_QUEUE_HEADER`` is on, since clients could send it as well.
"""

from __future__ import annotations

from typing import Any

from ...core.host_exceptions import raise_if_of_host
from ...metrics.catalogue import QUEUE
from ...recording.recorder import Recorder

MAX_QUEUE_S = 3600
"""Queue time above which the header is not plausible."""
_UNITS_PER_SECOND = (1.0, 1e3, 1e6)


def queue_seconds(environ: dict[str, Any], now: float) -> float | None:
    """Return the seconds since the proxy accepted the request.

    Args:
        environ: the request's WSGI environment.
        now: seconds since the epoch.

    Returns:
        ``None`` where the header is missing, unreadable or not plausible.
    """
    text = environ.get("HTTP_X_REQUEST_START", "").removeprefix("t=")
    try:
        accepted = float(text)
    except ValueError as error:
        raise_if_of_host(error)
        return None
    for units in _UNITS_PER_SECOND:
        seconds = now - accepted / units
        if 0 <= seconds < MAX_QUEUE_S:
            return seconds
    return None


def record_queue_time(recorder: Recorder, environ: dict[str, Any]) -> None:
    """Record the queue time of a request, if its header carries one."""
    seconds = queue_seconds(environ, recorder.clock.wall())
    if seconds is not None:
        recorder.record((recorder.series(QUEUE), round(seconds * 1e9)))
