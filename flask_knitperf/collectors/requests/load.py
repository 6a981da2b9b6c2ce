"""Load of a worker: share of time with a request in flight, GIL pressure, and our own cost."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ...metrics.catalogue import BUSY_SHARE, COST, GIL_PRESSURE
from ...recording.recorder import Recorder

_MAX_POINTS = 13
"""Number of points in a window: a minute at one point in five seconds."""
_SHED_AFTER = 3
"""Number of consecutive means above the budget at which detail is shed."""
_RESTORE_SHARE = 0.2
"""Share of the budget below which detail is recorded again."""
_MAX_COST_SHARE = 0.01
"""Share of the time of requests up to which our own cost is not too much, however long they take."""


IDLE_AFTER_NS = 10_000_000_000
"""Time without a request after which a worker is idle: by then its jobs have recorded the last one."""


class IdleDetector:
    """Whether a worker is idle. Called by its housekeeper.

    Args:
        recorder: of the application.
        request_count: returns the number of requests that this process has started.
    """

    def __init__(self, recorder: Recorder, request_count: Callable[[], int]) -> None:
        self._recorder, self._request_count = recorder, request_count
        self._latest_count, self._busy_at_ns = -1, 0

    def __call__(self) -> bool:
        """Return whether no request was served recently, and none is in flight."""
        recorder, count = self._recorder, self._request_count()
        now = recorder.clock.monotonic_ns()
        in_flight = recorder.spans or recorder.conversations
        if in_flight or not recorder.serving or count != self._latest_count:
            self._latest_count, self._busy_at_ns = count, now
        return now - self._busy_at_ns >= IDLE_AFTER_NS


class _MovingShare:
    """Growth of one sum relative to the growth of another, over a moving window."""

    def __init__(self) -> None:
        self._points: deque[tuple[int, int]] = deque(maxlen=_MAX_POINTS)

    def add(self, whole: int, part: int) -> float | None:
        """Add the present sums; return the share of the part, 0 to 1, ``None`` without growth."""
        self._points.append((whole, part))
        first_whole, first_part = self._points[0]
        if whole <= first_whole:
            return None
        return min(1.0, max(0.0, (part - first_part) / (whole - first_whole)))


class Load:
    """Load of one worker in the last minute.

    Args:
        recorder: receives the gauges.
        cost_budget_ns: own cost per request above which detail is shed, if it is a notable share of the
            time of the requests too.

    Attributes:
        waited: wall time in which a request waited while other threads computed, in nanoseconds, of
            the requests whose CPU time was sampled, weighted.
        shed: whether detail is left out at present.
    """

    def __init__(self, recorder: Recorder, cost_budget_ns: int) -> None:
        self._recorder = recorder
        self._budget_ns = cost_budget_ns
        self._busy_share, self._gil_pressure = _MovingShare(), _MovingShare()
        self._cost_ns = self._timed_requests = self._means_above_budget = 0
        self._busy_ns = self._requests = 0  # at the previous record
        self.waited = 0
        self.shed = False

    def add_cost(self, took_ns: int) -> None:
        """Add our own cost of one request; a sample of the requests is timed."""
        self._cost_ns += took_ns
        self._timed_requests += 1

    def record(self, now: int, busy: int, sampled: int, started: int) -> None:
        """Record the gauges, and our own cost since the previous call.

        Args:
            now: nanoseconds on the recorder's clock.
            busy: nanoseconds so far with a request in flight.
            sampled: wall time so far of requests whose CPU was sampled, weighted, in nanoseconds.
            started: number of requests so far.
        """
        recorder = self._recorder
        for meter, share in (
            (BUSY_SHARE, self._busy_share.add(now, busy)),
            (GIL_PRESSURE, self._gil_pressure.add(sampled, self.waited)),
        ):
            if share is not None:
                recorder.record((recorder.series(meter), share))
        cost, requests = self._cost_ns, self._timed_requests
        self._cost_ns = self._timed_requests = 0
        if requests:
            mean = cost / requests
            recorder.emit([(recorder.series(COST), requests, float(round(mean)))])
            served, busy_for = started - self._requests, busy - self._busy_ns
            share = mean * served / busy_for if busy_for > 0 else 1.0
            self._shed_or_restore(mean, share)
        self._busy_ns, self._requests = busy, started

    def _shed_or_restore(self, mean: float, share: float) -> None:
        """Shed detail after three means above the budget; restore it below a fifth of the budget.

        Args:
            mean: own cost per request in nanoseconds.
            share: of the time of requests, 0 to 1.
        """
        degraded = self._recorder.worker.degraded
        used = min(mean / self._budget_ns, share / _MAX_COST_SHARE)
        self._means_above_budget = self._means_above_budget + 1 if used > 1 else 0
        if self._means_above_budget >= _SHED_AFTER and not self.shed:
            self.shed = True
            degraded["cost"] = (
                f"measuring cost {mean / 1000:.0f} µs per request, so CPU time and neighbours are "
                "not recorded"
            )
        elif self.shed and used < _RESTORE_SHARE:
            self.shed = False
            degraded.pop("cost", None)
