"""How busy a worker is: with requests, with waiting for one another, and with measuring them."""

from __future__ import annotations

from collections import deque

from ...metrics.catalogue import BUSY_SHARE, COST, GIL_PRESSURE
from ...recording.recorder import Recorder

_MARKS = 13
"""At one in five seconds: a minute."""
_DEAR, _CHEAP = 3, 5


class _Marks:
    """The growth of one sum per growth of another, over the latest marks."""

    def __init__(self) -> None:
        self._marks: deque[tuple[int, int]] = deque(maxlen=_MARKS)

    def share(self, whole: int, part: int) -> float | None:
        """Mark where both are; return which share of the whole's growth the part's was."""
        self._marks.append((whole, part))
        first, before = self._marks[0]
        return min(1.0, max(0.0, (part - before) / (whole - first))) if whole > first else None


class Load:
    """What one worker was busy with lately.

    Args:
        recorder: where that goes.
        cost_budget_ns: own cost per request above which detail is left out.

    Attributes:
        sampled: nanoseconds of requests whose CPU was sampled, weighted.
        waited: in how many of them other threads computed while the request waited.
        shed: whether detail is left out.
    """

    def __init__(self, recorder: Recorder, cost_budget_ns: int) -> None:
        self._recorder = recorder
        self._budget = cost_budget_ns
        self._busy, self._pressure = _Marks(), _Marks()
        self._cost = self._timed = self._dear = 0
        self.sampled = self.waited = 0
        self.shed = False

    def spent(self, took_ns: int) -> None:
        """Take note of what one request cost us (a sample of them is timed)."""
        self._cost += took_ns
        self._timed += 1

    def account(self, now: int, busy: int) -> None:
        """Record the share of the last minute that this worker was busy, and our own cost.

        Args:
            now: nanoseconds on the recorder's clock.
            busy: nanoseconds so far in which it had a request in flight.
        """
        recorder = self._recorder
        for meter, share in (
            (BUSY_SHARE, self._busy.share(now, busy)),
            (GIL_PRESSURE, self._pressure.share(self.sampled, self.waited)),
        ):
            if share is not None:
                recorder.record((recorder.series(meter), share))
        cost, timed = self._cost, self._timed
        self._cost = self._timed = 0
        if timed:
            recorder.emit([(recorder.series(COST), timed, float(round(cost / timed)))])
            self._decide(cost / timed)

    def _decide(self, mean: float) -> None:
        """Leave detail out above the budget three times running; a fifth of it brings it back."""
        degraded = self._recorder.worker.degraded
        self._dear = self._dear + 1 if mean > self._budget else 0
        if self._dear >= _DEAR and not self.shed:
            self.shed = True
            degraded["cost"] = (
                f"measuring cost {mean / 1000:.0f} µs per request, so CPU time and neighbours are "
                "not recorded"
            )
        elif self.shed and mean < self._budget / _CHEAP:
            self.shed = False
            degraded.pop("cost", None)
