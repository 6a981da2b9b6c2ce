"""The recorder: the interface between collectors and storage.

It lives as long as the application object and survives forks: the objects of one process (its
:class:`~..storage.writer.Worker`, its jobs) are created at the first observation in that process and
dropped in a child, so nothing starts at import or in a preloading parent.

A process serves requests from its first one on (:meth:`Recorder.serve`). Until then it may record jobs,
as an attached process: in the run of a live server, else in memory. It never starts a run.

Only this module decides how a failure of ours is handled: it is logged once with its traceback and
counted, and the request goes on.
"""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

from ..core.clock import SYSTEM, Clock
from ..core.errors import KnitPerfError, StateError, Stopped
from ..core.host_exceptions import raise_if_of_host
from ..core.locks import create_reentrant_lock
from ..metrics.instruments import D, Evidence, K, Meter
from ..metrics.log_format import NOTE, Observation, pack, pack_json
from ..storage.atomic_files import Disk
from ..storage.state_dir import Snapshot, read
from ..storage.versions import Versions
from ..storage.writer import Worker
from .after_response import AfterResponse
from .collector import BackgroundThread, CallWatches, Collector
from .housekeeper import Housekeeper, Job, WrapJob, in_housekeeper
from .span import Span, current

log = logging.getLogger("flask_knitperf")

_PACK_LIMIT = 60
_JOB_WAIT_S = 0.5  # for which a job waits for a thread that begins or closes
_RETRY_NS = 1_000_000_000  # after a failure to begin
_MAX_KEY_PART = 250  # characters of each text in the key of a note


def pack_note(kind: Evidence[K, D], key: K, weight: float, detail: D, count: int = 1) -> bytes:
    """Return a piece of evidence (:meth:`Recorder.note`) as bytes that a worker writes.

    Where the same is recorded many times, it needs to be packed only once.
    """
    parts = [part[:_MAX_KEY_PART] if isinstance(part, str) else part for part in key]
    return pack_json(
        NOTE,
        1,
        {"kind": kind.name, "key": parts, "count": count, "weight": weight, "detail": detail},
    )


Located = tuple[Path | None, dict[str, Any]]
"""The directory of a run, ``None`` to keep all in memory, and this process's identity."""
Locate = Callable[[], Located]


class _ScheduledJob(NamedTuple):
    """A job of the housekeeper, and whether processes that serve no request run it too."""

    seconds: float
    run: Callable[[], object]
    attached: bool
    prompt: bool

    def as_job(self) -> Job:
        """Return the job of one process."""
        return Job(self.seconds, self.run, self.prompt)


class QueryTracking(IntEnum):
    """Detail in which the queries of requests are recorded."""

    OFF = 0
    COUNT = 1
    COUNT_WITH_CALL_SITE = 2


class Recorder:
    """Records observations of one application in one process after another.

    Attributes:
        spans: requests in flight, in the order in which they began.
        conversations: those of them that are known to be websockets or long polls; they are in
            ``spans`` only until that is known.
        span_holders: functions that return whether a collector keeps a request while it is in flight.
        failures: number of failures by component.
        on_change: called when this process's writer is gone, by a fork or by closing.
        query_tracking: how queries are recorded.
        explain_above_ns: a statement that took longer, in nanoseconds, is explained at its next
            execution; 0 for none.
        versions: version numbers by name, shared by all processes.
        state_dir: returns the state directory, ``None`` without one.
        collectors: registered collectors, which are notified of each finished request.
        call_watches: watches of profiled functions, ``None`` to watch none.
        background_threads: threads that start and stop with this process's writer.
        after_response: jobs for the thread of a request, after its response was sent.
        wrap_job: runs each job of the housekeeper, ``None`` to call it directly.
        is_idle: returns whether this process is idle (:mod:`.housekeeper`).

    Args:
        locate: called once per process that serves requests; returns the run's directory
            (``None``: keep all in memory) and this process's identity, and may raise ``OSError`` or
            ``KnitPerfError``.
        clock: clocks and process id.
        disk: file operations.
        log_bytes: size of one log, in bytes.
        threaded: returns whether a housekeeper thread may run.
        shared: returns the directory that all processes share, ``None`` if there is none.
        attach: like ``locate``, for a process that serves no request; ``None`` makes no difference
            between processes.
        started: called when this process begins to record.
        ended: called when this process ends to record, once for each call of ``started``.
    """

    def __init__(
        self,
        locate: Locate,
        *,
        clock: Clock = SYSTEM,
        disk: Disk | None = None,
        log_bytes: int = 1 << 20,
        threaded: Callable[[], bool] = lambda: True,
        shared: Callable[[], Path | None] = lambda: None,
        attach: Locate | None = None,
        started: Callable[[], None] = lambda: None,
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        self.clock = clock
        self.disk = disk or Disk()
        self.spans: dict[Span, None] = {}
        self.conversations: dict[Span, None] = {}
        self.span_holders: list[Callable[[Span], bool]] = []
        self.failures: dict[str, int] = {}
        self.on_change: list[Callable[[], None]] = []
        self.collectors: list[Collector] = []
        self.call_watches: CallWatches | None = None
        self.background_threads: list[BackgroundThread] = []
        self.after_response = AfterResponse(self.spans, clock.monotonic_ns, self.failed)
        self.wrap_job: WrapJob | None = None
        self.is_idle: Callable[[], bool] = lambda: False
        self.query_tracking = QueryTracking.COUNT_WITH_CALL_SITE
        self.explain_above_ns = 0
        self.state_dir = shared
        self.versions = Versions(shared, self.disk, clock)
        self._locate, self._attach = locate, attach
        self._started, self._ended = started, ended
        self._server_pid = 0  # of the process that is known to serve requests
        self._log_bytes = log_bytes
        self._threaded = threaded
        # a signal handler may close while this thread begins
        self._starting = create_reentrant_lock()
        self._closing = create_reentrant_lock()  # close returns once all is closed
        self._worker: Worker | None = None
        self._jobs: list[_ScheduledJob] = []
        self._housekeeper: Housekeeper | None = None
        self._unstarted: list[Housekeeper | BackgroundThread] = []  # the system refused them
        self._retry_at = 0  # monotonic nanoseconds
        _ALL.add(self)

    # -- for collectors --------------------------------------------------------------------------

    def series(self, meter: Meter, *labels: str) -> int:
        """Return the id of a series in this process."""
        return self.worker.series(meter, labels)

    def record(self, *observations: tuple[int, float]) -> None:
        """Record values of series, as one group."""
        self.emit([(series, 1, value) for series, value in observations])

    def emit(self, observations: list[Observation], worker: Worker | None = None) -> None:
        """Record weighted observations; more than 60 are written as several groups.

        Args:
            observations: series, weight and value of each.
            worker: the writer that issued the series, by default the current one.
        """
        worker = worker or self.worker
        for start in range(0, len(observations), _PACK_LIMIT):
            worker.write(pack(observations[start : start + _PACK_LIMIT]))

    def note(self, kind: Evidence[K, D], key: K, weight: float, detail: D, count: int = 1) -> None:
        """Keep a piece of evidence; equal keys add up, the heaviest of a kind stay.

        Args:
            kind: declared in :mod:`..metrics.catalogue`, or by a collector of the application.
            key: its identity within the kind; long texts are cut.
            weight: its importance, in the unit that the kind declares.
            detail: JSON values; those of the first note with this key are kept.
            count: number of times that it occurred.
        """
        self.worker.write(pack_note(kind, key, weight, detail, count))

    def span(self) -> Span | None:
        """Return the current request, if it is one of this recorder's."""
        span = current()
        return span if span is not None and span.owner is self else None

    def register(self, collector: Collector) -> None:
        """Notify a collector of each request that finishes from now on, and schedule its jobs."""
        self.collectors.append(collector)
        for seconds, job in collector.jobs(self):
            self.every(seconds, job, prompt=True)
        self._changed()  # the next request must not take the fast path

    def request_finished(self, span: Span) -> None:
        """Notify the registered collectors of a request that has just finished."""
        for collector in self.collectors:
            try:
                collector.request_finished(self, span)
            except Exception as error:
                self.failed(collector.name, error)

    def every(
        self,
        seconds: float,
        job: Callable[[], object],
        *,
        attached: bool = False,
        prompt: bool = False,
    ) -> None:
        """Have the housekeeper of each process that serves requests run a job.

        Args:
            seconds: the interval.
            job: the job.
            attached: whether processes that serve no request run it too.
            prompt: whether an idle process runs it once a second, if not less often.
        """
        scheduled = _ScheduledJob(seconds, job, attached, prompt)
        self._jobs.append(scheduled)
        if self._housekeeper is not None and (attached or self.serving):
            self._housekeeper.add(scheduled.as_job())

    def reschedule(self, seconds: float, job: Callable[[], object]) -> None:
        """Change the interval of a job that was passed to :meth:`every`, in seconds."""
        self._jobs = [
            scheduled._replace(seconds=seconds) if scheduled.run == job else scheduled
            for scheduled in self._jobs
        ]
        if self._housekeeper is not None:
            self._housekeeper.reschedule(seconds, job)

    # -- life ------------------------------------------------------------------------------------

    @property
    def worker(self) -> Worker:
        """This process's writer, created at first use: of a server, or attached to one."""
        worker = self._worker
        if worker is None or worker.pid != self.clock.pid():
            return self._begin()
        return worker

    @property
    def has_worker(self) -> bool:
        """Whether this process has a writer."""
        return self._worker is not None and self._worker.pid == self.clock.pid()

    @property
    def serving(self) -> bool:
        """Whether this process has received a request, or needs none to be a server."""
        return self._attach is None or self._server_pid == self.clock.pid()

    @property
    def idle(self) -> bool:
        """Whether this process was idle a second ago; ``False`` without a housekeeper."""
        housekeeper = self._housekeeper
        return housekeeper is not None and housekeeper.idle

    def serve(self) -> None:
        """Have this process's writer be that of a server from now on. Never raises."""
        if self.serving:
            return
        try:
            with self._starting:
                if self.has_worker and not self.serving:
                    self._promote()
                self._server_pid = self.clock.pid()
        except Exception as error:
            self.failed("state", error)

    def _promote(self) -> None:
        """Move the writer of an attached process to the run of its server."""
        worker = self._worker
        assert worker is not None
        run, identity = self._located(self._locate)
        if worker.run is not None:
            worker.close()
            self._worker = self._new_worker(run, identity)
        else:
            self._degrade(worker, identity.pop("degraded", None))
            if run is not None:
                worker.join(run, identity)
        self._changed()
        if self._housekeeper is not None:
            for job in self._jobs:
                if not job.attached:
                    self._housekeeper.add(job.as_job())
            self._unstarted += self.background_threads
            self._start_threads()

    def _begin(self) -> Worker:
        if self._worker is None and in_housekeeper():  # what closes may wait for this job
            raise Stopped("this process has stopped recording")
        with self._starting:
            worker = self._worker
            if worker is not None and worker.pid == self.clock.pid():
                return worker
            if in_housekeeper():  # a job that outlived its writer
                raise Stopped("this process has stopped recording")
            if self.clock.monotonic_ns() < self._retry_at:
                raise StateError("this process could not begin to record, and will try again")
            serving = self.serving
            located = self._located(self._locate if serving else self._attach or self._locate)
            try:
                worker = self._worker = self._new_worker(*located)
            except OSError:
                self._retry_at = self.clock.monotonic_ns() + _RETRY_NS
                raise
            self._started()
            if self._threaded():
                jobs = [job.as_job() for job in self._jobs if serving or job.attached]
                self._housekeeper = Housekeeper(
                    jobs, on_error=self.failed, wrap_job=self.wrap_job, is_idle=self.is_idle
                )
                self._unstarted = [self._housekeeper]
                if serving:
                    self._unstarted += self.background_threads
                self._start_threads()
            return worker

    def _start_threads(self) -> None:
        """Start the threads of this process, as far as the system allows."""
        degraded = {} if self._worker is None else self._worker.degraded
        unstarted = self._unstarted
        while unstarted:
            try:
                unstarted[0].start()
            except RuntimeError as error:
                raise_if_of_host(error)
                reason = (
                    f"a thread of this worker could not be started ({error}); it is tried again"
                )
                degraded["threads"] = reason
                return
            thread = unstarted.pop(0)
            if self._unstarted is not unstarted:  # closed by a signal handler
                thread.stop()
                return
        degraded.pop("threads", None)

    def start_missing_threads(self) -> None:
        """Start threads that the system refused when this process began to record."""
        if self._unstarted:
            self._unless_busy(self._start_threads, 0.0)  # a request does not wait for that

    def _new_worker(self, run: Path | None, identity: dict[str, Any]) -> Worker:
        reason = identity.pop("degraded", None)
        worker = Worker(run, identity, clock=self.clock, disk=self.disk, log_bytes=self._log_bytes)
        self._degrade(worker, reason)
        return worker

    def _degrade(self, worker: Worker, reason: str | None) -> None:
        if reason:
            worker.degraded["state"] = reason
            log.warning("flask_knitperf: %s", reason)

    def join(self, worker: Worker, run: Path, identity: dict[str, Any]) -> None:
        """Move the writer of an attached process from memory to a run, unless it is a server by now."""

        def join() -> None:
            if worker is self._worker and not self.serving:
                worker.join(run, identity)

        self._unless_busy(join)

    def rejoin(self) -> None:
        """Move the writer of a server from memory to its run, once that can be used.

        All observations so far count there. Until then ``degraded`` states the reason.
        """
        self._unless_busy(self._rejoin)

    def _rejoin(self) -> None:
        worker = self._worker
        if worker is None or worker.run is not None or not self.serving:
            return
        try:
            run, identity = self._locate()
        except (KnitPerfError, OSError) as error:
            raise_if_of_host(error)
            log.debug("flask_knitperf: still in memory only: %s", error)
            return
        if run is not None:
            worker.join(run, identity)
        if worker.run is not None:
            worker.degraded.pop("state", None)
            worker.publish()

    def _unless_busy(self, action: Callable[[], None], wait_s: float = _JOB_WAIT_S) -> None:
        """Act, unless another thread begins or closes for long: it may wait for this one to end."""
        if self._starting.acquire(timeout=wait_s):
            try:
                action()
            finally:
                self._starting.release()

    def _located(self, locate: Locate) -> Located:
        try:
            return locate()
        except Exception as error:
            self.failed("state", error)
            reason = f"measurements of this worker are kept in its memory only: {error}"
            return None, {"pid": self.clock.pid(), "degraded": reason}

    def after_fork(self) -> None:
        """Forget the parent's writer; called in a forked child."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.release()
        self._housekeeper = None
        self._unstarted, self._retry_at = [], 0
        for thread in self.background_threads:
            thread.forget()
        self.spans.clear()
        self.after_response.clear()
        self.conversations.clear()
        self._changed()

    def close(self) -> None:
        """Stop the thread, fold and save. Safe to call twice; a later request starts a new worker."""
        wait_s = 0.0 if in_housekeeper() else -1.0  # a thread that closes waits for its end
        if self._closing.acquire(timeout=wait_s):
            try:
                self._close()
            finally:
                self._closing.release()

    def _close(self) -> None:
        with self._starting:  # what begins meanwhile is begun, then closed
            housekeeper, self._housekeeper = self._housekeeper, None
            self._unstarted = []
            if housekeeper is not None:
                housekeeper.stop()
                for thread in self.background_threads:
                    thread.stop()
            worker, self._worker = self._worker, None
            own = worker is not None and worker.pid == self.clock.pid()
            if own:
                self._ended()
        self.after_response.clear()
        self._changed()
        if worker is not None and own:
            worker.close()

    def end_housekeeper(self, then: Callable[[], object]) -> bool:
        """Have the housekeeper stop and call a function, soon; return ``False`` if there is none."""
        housekeeper = self._housekeeper
        if housekeeper is not None:
            housekeeper.end(then)
        return housekeeper is not None

    def _changed(self) -> None:
        for callback in self.on_change:
            callback()

    # -- reading -----------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """Return the current state of all workers of this run."""
        worker = self.worker
        if worker.run is None:
            identity = {**worker.identity, "alive": True, "dropped": dict(worker.dropped)}
            return worker.snapshot([identity])
        try:
            snapshot = read(worker.run, worker.totals() if worker.detached() else None)
        except OSError as error:
            raise_if_of_host(error)
            worker.degraded["run"] = (
                f"the state directory cannot be read ({error.strerror}); this worker alone is shown"
            )
            return worker.snapshot([{**worker.identity, "alive": True}])
        published = {reason.removeprefix(f"{worker.name}: ") for reason in snapshot.degraded}
        snapshot.degraded += [
            reason for reason in list(worker.degraded.values()) if reason not in published
        ]
        return snapshot

    # -- failure -------------------------------------------------------------------------------------

    def failed(self, part: str, error: BaseException) -> None:
        """Log the first failure of a component with its traceback; count each of them.

        Raises:
            Exception: ``error``, if it is the host's (:mod:`flask_knitperf.core.host_exceptions`).
        """
        raise_if_of_host(error)
        if isinstance(error, Stopped):
            return  # a thread of this recorder has outlived the writer
        self.failures[part] = self.failures.get(part, 0) + 1
        if self.failures[part] == 1:
            log.error("flask_knitperf: %s failed; the request goes on", part, exc_info=error)


_ALL: weakref.WeakSet[Recorder] = weakref.WeakSet()


def _in_child() -> None:
    for recorder in list(_ALL):
        recorder.after_fork()


if hasattr(os, "register_at_fork"):  # pragma: no branch (Windows)
    os.register_at_fork(after_in_child=_in_child)
