"""Jobs that run in the thread of a request, after its response was sent.

A garbage collection runs finalizers of the host's objects, and some objects belong to a thread: the pool
of SQLAlchemy's in-memory SQLite closes the only connection if a session is finalized in another thread
than the one that opened it. A host that serves requests in one thread has no other, so the housekeeper
may not collect. It adds the collection here, and the next request carries it: its server closes the body
once the response is sent, in a thread that the host works in anyway.

Without requests a job waits. The host does nothing then, so no new garbage arises.
"""

from __future__ import annotations

from collections.abc import Callable, Sized

Run = Callable[[], object]


class AfterResponse:
    """Jobs that wait for the end of a response. True while there are any.

    Attributes:
        wake: called for each added job; has the next request carry it.

    Args:
        in_flight: requests in flight.
        monotonic_ns: clock for the patience of jobs.
        failed: called with the name of a job that raised, and the error.
    """

    def __init__(
        self, in_flight: Sized, monotonic_ns: Callable[[], int],
        failed: Callable[[str, BaseException], None],
    ) -> None:  # fmt: skip
        self.wake: Callable[[], None] = lambda: None
        self._in_flight, self._monotonic_ns, self._failed = in_flight, monotonic_ns, failed
        self._patient_until: dict[Run, int] = {}
        self._only_sent: set[Run] = set()

    def __bool__(self) -> bool:
        return bool(self._patient_until)

    def add(self, job: Run, patience_s: float, *, only_sent: bool = False) -> None:
        """Add a job; nothing happens if it waits already.

        Args:
            job: runs once.
            patience_s: seconds for which it waits for a moment without another request in flight.
            only_sent: whether it waits for a response whose end is seen, since it may take long.
        """
        if only_sent:
            self._only_sent.add(job)
        self._patient_until.setdefault(job, self._monotonic_ns() + round(patience_s * 1e9))
        self.wake()

    def discard(self, job: Run) -> None:
        """Remove a job, if it waits."""
        self._patient_until.pop(job, None)
        self._only_sent.discard(job)

    def clear(self) -> None:
        """Remove all jobs."""
        self._patient_until.clear()
        self._only_sent.clear()

    def run(self, *, sent: bool = True) -> None:
        """Run the jobs that are ready. Called in the thread of a request that has ended.

        Args:
            sent: whether its response was sent.
        """
        for job, until in self._patient_until.copy().items():
            if not sent and job in self._only_sent:
                continue
            if self._in_flight and self._monotonic_ns() < until:
                continue
            if self._patient_until.pop(job, None) is None:
                continue  # another thread came first
            self._only_sent.discard(job)
            try:
                job()
            except Exception as error:
                self._failed(getattr(job, "__qualname__", repr(job)), error)
