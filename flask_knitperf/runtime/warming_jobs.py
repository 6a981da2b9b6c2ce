"""Warming in a server: when it begins, how it makes way for requests, and the record for the next run.

A thread loads, not the housekeeper, whose jobs must not wait for a database. It starts when there is
something to load and ends with the last value.

Only one process of a host loads at a time. A load is followed by a rest of its time, so the database has
half of the time for others. While requests are served it is :data:`BUSY_REST` times the time in which
the load had a core or waited for one, if that is longer: a request beside it that computes, too, takes
twice as long or more, since both need the interpreter's lock. So the share of loads in the time bounds
how much slower requests are, and a host without a free core is left alone for longer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..caching import warm_record
from ..caching.host_locks import HostLocks
from ..caching.warm_schedule import WarmSchedule
from ..caching.warming import Due, Pace, WarmCounts, Warmer
from ..core.clock import NS_PER_S
from ..recording.housekeeper import RecorderThread
from ..recording.pacer import Pacer
from ..recording.recorder import Recorder
from ..storage.warm_progress import Progress, write_progress

if TYPE_CHECKING:
    from ..storage.commands import Command

SAVE_INTERVAL_S = 60.0
"""Seconds between two records of the most valuable calls."""
TICK_S = 1.0
"""Seconds between two looks for values that are due."""
BUSY_REST = 19.0
"""Rest after a load while requests are served, in its times on a core and in the run queue."""
IDLE_REST = 1.0
"""Rest after a load in any case, in times of the load."""
MAX_REST_S = 30.0
"""Longest rest, in seconds."""
PATIENCE_S = 2.0
"""Seconds for which a load waits for a moment without a request in flight."""
QUEUED_SHARE = 0.1
"""Share of the time of a load in the run queue from which the host is busy without requests."""
MAX_SECONDS = 3600.0
"""Longest time of loading for which a command may last."""
_POLL_S = 0.01
_LOCK = b"warming "  # the key of the one lock


class _ServerPace(Pace):
    """Makes way for requests, and for other processes of the host.

    Args:
        recorder: of the application.
        request_count: returns the number of requests that this process has started.
        lock: of the host, ``None`` without a state directory.
        stopping: set when the thread is to end.
    """

    def __init__(
        self, recorder: Recorder, request_count: Callable[[], int], lock: HostLocks | None,
        stopping: threading.Event,
    ) -> None:  # fmt: skip
        self._recorder, self._request_count = recorder, request_count
        self._lock, self._stopping = lock, stopping
        self._count = self._queued_ns = self._cpu_ns = 0

    def wait(self) -> bool:
        """Return ``True`` once this process may load, ``False`` if it is to end."""
        recorder = self._recorder
        patient_until = recorder.clock.monotonic_ns() + PATIENCE_S * NS_PER_S
        while not self._stopping.is_set():
            is_due = not recorder.spans or recorder.clock.monotonic_ns() >= patient_until
            if is_due and (self._lock is None or self._lock.try_acquire(_LOCK) is not False):
                self._count = self._request_count()
                self._queued_ns, self._cpu_ns = (
                    recorder.clock.run_queue_ns(),
                    recorder.clock.thread_ns(),
                )
                return True
            self._stopping.wait(_POLL_S)
        return False

    def rest(self, seconds: float) -> None:
        """Let other processes load, and pause."""
        if self._lock is not None:
            self._lock.release(_LOCK)
        recorder = self._recorder
        queued_s = (recorder.clock.run_queue_ns() - self._queued_ns) / NS_PER_S
        busy = (
            recorder.spans
            or self._request_count() != self._count
            or queued_s > QUEUED_SHARE * seconds
        )
        runnable_s = (recorder.clock.thread_ns() - self._cpu_ns) / NS_PER_S + queued_s
        rest_s = max(seconds * IDLE_REST, runnable_s * BUSY_REST if busy else 0.0)
        self._stopping.wait(min(MAX_REST_S, rest_s))


class WarmingJobs:
    """Warms the cache of each server process of an application.

    Args:
        recorder: of the application.
        warmer: loads values.
        seconds: of loading in one round.
        request_count: returns the number of requests that this process has started.
    """

    def __init__(
        self, recorder: Recorder, warmer: Warmer, seconds: float, request_count: Callable[[], int]
    ) -> None:  # fmt: skip
        self._recorder, self.warmer, self._seconds = recorder, warmer, seconds
        self._request_count = request_count
        self._schedule = WarmSchedule()
        self._lock: HostLocks | None = None
        self._command: tuple[Command, list[str], float] | None = None
        self._looks = Pacer(recorder)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._has_begun = self._is_saving = False

    # -- jobs of the housekeeper -----------------------------------------------------------------------

    def schedule(self) -> list[tuple[float, Callable[[], object]]]:
        """Return the jobs with their intervals in seconds."""
        return [(TICK_S, self.tick), (SAVE_INTERVAL_S, self.save_later)]

    def tick(self) -> None:
        """Start a round, if any value is due and none runs."""
        if self._thread is not None and self._thread.is_alive():
            return
        if self._command is not None:
            self._begin(lambda _: None)
        else:
            self._looks.run(self._begin_due)

    def _begin_due(self) -> None:
        caches = self.warmer.functions()
        if caches and not self._has_begun:
            self._has_begun = True
            self._begin(self._run_start)
        elif caches:
            due = self._schedule.due(caches)
            if due:
                self._begin(lambda stopping: self._run(due, self._seconds, stopping))

    def save_later(self) -> None:
        """Record the most valuable calls, except at the start, when none has proved its value."""
        if self._is_saving:
            self.save()
        self._is_saving = True

    def save(self) -> None:
        """Record the most valuable calls of this process."""
        folder = self._folder()
        if folder is None or not self.warmer.functions():
            return
        bounds, now = self.warmer.bounds(max(self._seconds, 1.0)), self._recorder.clock.wall()
        warm_record.save(
            folder, self.warmer.recorded(now), lambda row: warm_record.rank(row, bounds), now,
            self._recorder.disk,
        )  # fmt: skip

    def request(self, command: Command) -> None:
        """Start a round for a command, as soon as the one that runs has ended.

        Raises:
            KnitPerfError: a namespace has no function that is warmed.
        """
        names = [str(name) for name in command.arguments.get("namespaces", ())]
        self.warmer.functions(names)
        seconds = min(float(command.arguments.get("seconds") or self._seconds), MAX_SECONDS)
        self._command = command, names, seconds
        self._report(Progress(command.id))
        self.tick()  # an idle process does so rarely

    # -- the thread ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Do nothing: the thread starts when a value is due."""

    def stop(self, seconds: float = 1.0) -> None:
        """End the thread after the load that runs, and wait for it at most ``seconds``."""
        self._stopping.set()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join(seconds)
        self.forget()

    def forget(self) -> None:
        """Drop the thread, which does not exist in a forked child, and begin from the start."""
        self._stopping, self._thread = threading.Event(), None
        self._has_begun = self._is_saving = False
        self._command = self._lock = None  # the file of the lock is closed with its last user
        self._looks.reset()

    def _begin(self, round_: Callable[[threading.Event], object]) -> None:
        stopping = self._stopping

        def run() -> None:
            try:
                round_(stopping)
                while self._command is not None and not stopping.is_set():
                    self._run_command(stopping)
            except Exception as error:
                self._recorder.failed("cache warming", error)

        self._thread = RecorderThread(target=run, name="flask_knitperf-warm", daemon=True)
        self._thread.start()

    def _run_start(self, stopping: threading.Event) -> None:
        self._run(self._at_start([], self._seconds), self._seconds, stopping)

    def _run_command(self, stopping: threading.Event) -> None:
        command, self._command = self._command, None
        if command is None:
            return
        sent, names, seconds = command
        progress = Progress(sent.id)
        try:
            due = self._at_start(names, seconds)
            self._report(progress._replace(total=len(due)))
            counts = self._run(
                due, seconds, stopping,
                lambda done, total: self._report(progress._replace(done=done, total=total)),
            )  # fmt: skip
            progress = Progress(sent.id, done=len(due), **counts)
        finally:
            self._report(progress._replace(ended=True))

    def _run(
        self, due: list[Due], seconds: float, stopping: threading.Event,
        progress: Callable[[int, int], object] = lambda *_: None,
    ) -> WarmCounts:  # fmt: skip
        pace = _ServerPace(self._recorder, self._request_count, self._host_lock(), stopping)
        return self.warmer.run(due, self.warmer.bounds(seconds), pace, progress)

    def _at_start(self, namespaces: list[str], seconds: float) -> list[Due]:
        """Return the calls to begin with, of some namespaces or of all."""
        folder = self._folder()
        record = [] if folder is None else warm_record.read(folder)
        caches = self.warmer.functions(namespaces)
        return self.warmer.at_start(record, self.warmer.bounds(seconds), caches)

    def _report(self, progress: Progress) -> None:
        """Write the progress of a command, for the process that has sent it."""
        if self._recorder.has_worker:
            worker = self._recorder.worker
            if worker.run is not None:
                write_progress(worker.run, worker.name, progress, self._recorder.disk)

    def _folder(self) -> Path | None:
        return self._recorder.state_dir()

    def _host_lock(self) -> HostLocks | None:
        """Return the lock that lets one process of the host load at a time."""
        folder = self._folder()
        if folder is None:
            return None
        path = folder / "warming.lock"
        if self._lock is None or self._lock.path != path:
            self._lock = HostLocks(path)
        return self._lock
