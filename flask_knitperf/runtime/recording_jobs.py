"""Housekeeping of the measurements themselves: heartbeat, folding of logs, windows, details.

One object per application; the housekeeper of each process runs its methods on schedule.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..collectors import sql
from ..collectors.files.pandas_hook import PANDAS_HOOK
from ..collectors.requests.exemplar_reservoir import ExemplarReservoir
from ..collectors.requests.requests import RequestProfile
from ..collectors.waits.hooks import WAIT_HOOKS
from ..core.errors import StateError
from ..core.server_limits import server_limits
from ..core.settings import Settings
from ..metrics.catalogue import HEARTBEAT
from ..recording.recorder import Locate, Recorder
from ..reports.details import Details
from ..storage import exemplars
from ..storage.runs import has_server, remove_old
from ..storage.snapshots import points, store
from ..storage.state_dir import is_due, retire
from .memory_jobs import Schedule

if TYPE_CHECKING:
    from ..collectors.sampler.sampler import Sampler

SNAPSHOT_INTERVAL_S = 10.0  # between two snapshots that windows begin at
TIDY_INTERVAL_S = 30.0
FOLLOW_INTERVAL_S = 5.0  # in which a process that serves no request looks for a live server


class RecordingJobs:
    """Keeps the measurements of one application's workers in order.

    Args:
        recorder: the recorder of the application.
        settings: intervals and switches.
        profile: requests; checks for long ones and accounts for its own cost.
        details: sampled stacks.
        close: called when the files of this worker were removed.
        attach: returns the newest run with a live server, and the identity of an attached process.
        reservoir: single requests, ``None`` where they are not kept.
        sampler: ``None`` where it is switched off.
    """

    def __init__(
        self,
        recorder: Recorder,
        settings: Settings,
        profile: RequestProfile,
        details: Details,
        *,
        close: Callable[[], None],
        attach: Locate,
        reservoir: ExemplarReservoir | None,
        sampler: Sampler | None,
    ) -> None:
        self._recorder = recorder
        self._settings = settings
        self._profile = profile
        self._details = details
        self._close = close
        self._attach = attach
        self._reservoir = reservoir
        self._sampler = sampler

    def schedule_attached(self) -> Schedule:
        """Return the jobs with their intervals that every process that records has to run."""
        jobs: Schedule = [
            (1.0, self.publish_heartbeat), (1.0, PANDAS_HOOK.install_if_imported),
            (1.0, WAIT_HOOKS.install_imported),
            (self._settings.fold_interval_s, self.fold), (FOLLOW_INTERVAL_S, self.follow_server),
        ]  # fmt: skip
        if self._settings.queries:
            jobs.append((1.0, self.enable_table_tracking))
        return jobs

    def schedule(self) -> Schedule:
        """Return the jobs of processes that serve requests, with their intervals in seconds."""
        jobs: Schedule = [
            (0.5, self._profile.in_flight.tick), (5.0, self._profile.record_load),
        ]  # fmt: skip
        if self._settings.queries:
            jobs.append((5.0, self.record_pools))
        if self._reservoir is not None:
            jobs += [(1.0, self._reservoir.tick), (TIDY_INTERVAL_S, self.merge_details)]
        if self._sampler is not None:
            jobs.append((1.0, self._details.turn))
        return jobs

    def publish_heartbeat(self) -> None:
        """Publish that this worker is alive, prepare its next log, take over dead workers' tables."""
        recorder, worker = self._recorder, self._recorder.worker
        if self._files_removed():
            return
        recorder.record((recorder.series(HEARTBEAT), recorder.clock.monotonic_ns() / 1e9))
        if self._sampler is not None and self._sampler.degraded:
            worker.degraded["sampler"] = self._sampler.degraded
        worker.degraded.update(server_limits())
        worker.prepare_spare()
        worker.publish()
        if worker.run is not None and is_due(worker.run, recorder.clock.wall()):
            retire(worker.run, recorder.disk)

    def _files_removed(self) -> bool:
        """Return whether this worker's files were removed; the next request then starts over."""
        worker = self._recorder.worker
        if not worker.lost():
            return False
        reason = f"the files in {worker.run} were removed; starting over"
        self._recorder.failed("state directory", StateError(reason))
        self._close()
        return True

    def fold(self) -> None:
        """Fold the logs of this worker if it is worth it; of a server, store snapshots too."""
        recorder, worker = self._recorder, self._recorder.worker
        if worker.due():
            worker.fold()
        if worker.run is not None and recorder.serving:
            self._store_snapshot(worker.run)

    def follow_server(self) -> None:
        """Attach a process that serves no request to the newest live run, once its own has ended.

        What it has recorded in memory, because there was no server, counts in the run that it joins. A
        server that is in memory because its directory could not be used joins its own run.
        """
        recorder, worker = self._recorder, self._recorder.worker
        if recorder.serving:
            recorder.rejoin()
            return
        if worker.run is not None and has_server(worker.run):
            return
        run, identity = self._attach()
        if run is None or run == worker.run:
            return
        if worker.run is None:
            recorder.join(worker, run, identity)
        else:
            self._close()  # the next observation attaches it again

    def _store_snapshot(self, run: Path) -> None:
        """Take the next snapshot that windows begin at, if it is due, and remove old runs."""
        recorder = self._recorder
        snapshots = points(run)
        now = recorder.clock.wall()
        # a snapshot from the future was taken before the clock was set back
        if (
            not snapshots
            or now - snapshots[-1][0] >= SNAPSHOT_INTERVAL_S
            or snapshots[-1][0] > now + 1
        ):
            store(run, recorder.snapshot(), now, recorder.disk)
            failures = remove_old(run.parent, self._settings.runs_kept, recorder.disk)
            if failures:
                recorder.worker.degraded["old runs"] = failures[0]
            else:
                recorder.worker.degraded.pop("old runs", None)

    def merge_details(self) -> None:
        """Merge the single requests that dead workers kept."""
        run = self._recorder.worker.run
        if run is not None:
            exemplars.merge_ended(run, self._recorder.clock.wall(), self._recorder.disk)

    def record_pools(self) -> None:
        """Record the state of the connection pools of this worker's engines."""
        if sql.watches_engines():
            from ..collectors.sql import sqlalchemy

            sqlalchemy.record_pools(self._recorder)

    def enable_table_tracking(self) -> None:
        """Publish written tables as soon as a process subscribes (:mod:`..storage.versions`)."""
        versions = self._recorder.versions
        if (
            versions.subscribed
        ):  # also where no engine is watched yet: the first one may write at once
            sql.track_tables(versions)
