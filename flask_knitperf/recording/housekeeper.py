"""The housekeeper: one thread that runs jobs on schedule and survives their errors.

It waits on an event, so stopping wakes it at once. A job that fails is reported and runs again at its
next tick; one that keeps failing is delayed exponentially, up to one minute.

In an idle process nothing changes that a job could record, so jobs run less often there, and as before
within a second of the next request.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ..core.errors import Stopped

_MAX_DELAY_S = 60.0  # what made a job fail may end at any time
IDLE_INTERVAL_S = 30.0  # between two runs of a job in an idle process, at least
PROMPT_INTERVAL_S = 1.0  # the same of a prompt job

Run = Callable[[], object]
WrapJob = Callable[[Run], object]
"""Runs a job, and may act before and after it."""


def _run(job: Run) -> object:
    return job()


@dataclass(slots=True, eq=False, repr=False)
class Job:
    """A function to run every ``seconds``, in an idle process less often (``prompt``: each second)."""

    seconds: float
    run: Callable[[], object]
    prompt: bool = False
    due: float = 0.0
    failed: int = 0
    name: str = field(default="")

    def __post_init__(self) -> None:
        self.name = self.name or getattr(self.run, "__qualname__", repr(self.run))

    def interval(self, idle: bool) -> float:
        """Return the seconds until the next run.

        Args:
            idle: whether the process is idle.
        """
        shortest = 0.0 if not idle else PROMPT_INTERVAL_S if self.prompt else IDLE_INTERVAL_S
        seconds = max(self.seconds, shortest)
        if not self.failed:
            return seconds
        delay: float = self.seconds * 2 ** min(self.failed, 12)
        return max(seconds, min(_MAX_DELAY_S, delay))


class RecorderThread(threading.Thread):
    """A thread that works for a recorder: one that outlives the writer begins no other one."""


def in_housekeeper() -> bool:
    """Return whether the caller is a job of a housekeeper, or another thread of a recorder."""
    return isinstance(threading.current_thread(), RecorderThread)


class Housekeeper:
    """Runs jobs in one daemon thread.

    Attributes:
        idle: whether the process was idle at the latest tick.

    Args:
        jobs: the jobs.
        on_error: called with the name of a job that raised, and the error.
        clock: seconds on a monotonic clock.
        wrap_job: runs each job; by default it only calls the job.
        is_idle: returns whether this process is idle; called at least once a second.
    """

    def __init__(
        self,
        jobs: list[Job],
        on_error: Callable[[str, BaseException], None],
        clock: Callable[[], float] = time.monotonic,
        wrap_job: WrapJob | None = None,
        is_idle: Callable[[], bool] = lambda: False,
    ) -> None:
        self._jobs = jobs
        self._on_error = on_error
        self._clock = clock
        self._wrap_job = wrap_job or _run
        self._is_idle = is_idle
        self.idle = False
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._at_end: Run | None = None

    def add(self, job: Job) -> None:
        """Add a job."""
        self._jobs.append(job)

    def reschedule(self, seconds: float, run: Run) -> None:
        """Change the interval of a job, in seconds; its next run is due as before."""
        for job in self._jobs:
            if job.run == run:
                job.seconds = seconds

    def tick(self, now: float) -> float:
        """Run the jobs that are due; return the seconds until the next one is due."""
        idle = self._is_idle()
        if self.idle and not idle:
            for job in self._jobs:
                job.due = min(job.due, now + job.seconds)
        self.idle = idle
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
            job.due = now + job.interval(idle)
        return max(0.0, min((job.due for job in self._jobs), default=now + 1.0) - now)

    def start(self) -> None:
        """Start the thread.

        Raises:
            RuntimeError: the system has no thread left; it may be called again.
        """
        thread = RecorderThread(target=self._loop, name="flask_knitperf", daemon=True)
        thread.start()
        self._thread = thread

    def stop(self, seconds: float = 1.0) -> None:
        """Stop the thread, and wait for it at most ``seconds``."""
        self._stopping.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(seconds)

    def end(self, then: Run) -> None:
        """Have the thread stop within a second, and call a function at its end. Takes no lock."""
        self._at_end = then

    def _loop(self) -> None:
        while not self._stopping.is_set() and self._at_end is None:
            pause = self.tick(self._clock())
            self._stopping.wait(min(1.0, max(0.05, pause)))
        if self._at_end is not None:
            try:
                self._at_end()
            except Exception as error:
                self._on_error("end of the housekeeper", error)
