"""Rests between the runs of a job of the housekeeper: the longer, the longer a run took."""

from __future__ import annotations

from collections.abc import Callable

from .recorder import Recorder

MAX_SHARE = 1 / 500
"""Share of a core that a job may take, unless another one is given."""


class Pacer:
    """Runs a job, unless its latest run took so long that it has to rest.

    Args:
        recorder: has the clock.
        max_share: share of a core that the job may take.
    """

    def __init__(self, recorder: Recorder, max_share: float = MAX_SHARE) -> None:
        self._recorder, self._max_share = recorder, max_share
        self._next_ns = 0

    def run(self, job: Callable[[], object]) -> None:
        """Run the job if it is due."""
        began = self._recorder.clock.monotonic_ns()
        if began >= self._next_ns:
            job()
            took = self._recorder.clock.monotonic_ns() - began
            self._next_ns = began + round(took / self._max_share)

    def reset(self) -> None:
        """Have the next call run the job."""
        self._next_ns = 0
