"""The housekeeper: one thread that runs jobs on schedule and survives their errors.

It waits on an event, so stopping wakes it at once. A job that fails is reported and runs again at its
next turn; one that keeps failing runs ever more rarely, up to once an hour.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ..core.errors import Stopped

_RAREST = 3600.0

Run = Callable[[], object]
WrapJob = Callable[[Run], object]
"""What runs a job, and may look before and after it."""


def _run(job: Run) -> object:
    return job()


@dataclass(slots=True)
class Job:
    """Something to do every ``seconds``."""

    seconds: float
    run: Callable[[], object]
    due: float = 0.0
    failed: int = 0
    name: str = field(default="")

    def __post_init__(self) -> None:
        self.name = self.name or getattr(self.run, "__qualname__", repr(self.run))


class _Thread(threading.Thread):
    """A housekeeper's thread."""


def in_housekeeper() -> bool:
    """Return whether the caller is a job of a housekeeper."""
    return isinstance(threading.current_thread(), _Thread)


class Housekeeper:
    """Runs jobs in one daemon thread.

    Args:
        jobs: what to do.
        on_error: told the name of a job that raised, and what it raised.
        clock: seconds on a clock that never goes back.
        wrap_job: runs each job, if somebody wants to look before and after it.
    """

    def __init__(
        self,
        jobs: list[Job],
        on_error: Callable[[str, BaseException], None],
        clock: Callable[[], float] = time.monotonic,
        wrap_job: WrapJob | None = None,
    ) -> None:
        self._jobs = jobs
        self._on_error = on_error
        self._clock = clock
        self._wrap_job = wrap_job or _run
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, job: Job) -> None:
        """Take on one more job."""
        self._jobs.append(job)

    def reschedule(self, seconds: float, run: Run) -> None:
        """Change the interval of a job, in seconds; its next run is due as before."""
        for job in self._jobs:
            if job.run == run:
                job.seconds = seconds

    def tick(self, now: float) -> float:
        """Run what is due; return how many seconds until something is due again."""
        for job in list(self._jobs):
            if job.due > now:
                continue
            try:
                self._wrap_job(job.run)
                job.failed = 0
            except Stopped:
                self._stopping.set()
                return 0.0
            except Exception as error:
                job.failed += 1
                self._on_error(job.name, error)
            pause = max(job.seconds, min(_RAREST, job.seconds * 2 ** min(job.failed, 12)))
            job.due = now + (pause if job.failed else job.seconds)
        return max(0.0, min((job.due for job in self._jobs), default=now + 1.0) - now)

    def start(self) -> None:
        """Start the thread."""
        self._thread = _Thread(target=self._loop, name="flask_knitperf", daemon=True)
        self._thread.start()

    def stop(self, seconds: float = 1.0) -> None:
        """Have the thread end, and wait for it at most ``seconds``."""
        self._stopping.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(seconds)

    def _loop(self) -> None:
        while not self._stopping.is_set():
            pause = self.tick(self._clock())
            self._stopping.wait(min(1.0, max(0.05, pause)))
