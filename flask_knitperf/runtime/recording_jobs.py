"""Housekeeping of the measurements themselves: heartbeat, folding of logs, windows, details.

One object per application; the housekeeper of each process runs its methods on schedule.
"""

from __future__ import annotations

from collections.abc import Callable

from ..collectors import sql
from ..collectors.files.pandas_hook import PANDAS_HOOK
from ..collectors.requests.exemplar_reservoir import ExemplarReservoir
from ..collectors.requests.requests import RequestProfile
from ..collectors.sampler.sampler import Sampler
from ..core.errors import StateError
from ..core.settings import Settings
from ..metrics.catalogue import HEARTBEAT
from ..recording.recorder import Recorder
from ..reports.details import Details
from ..storage import exemplars
from ..storage.runs import remove_old
from ..storage.snapshots import points, store
from ..storage.state_dir import is_due, retire
from .memory_jobs import Schedule

SNAPSHOT_INTERVAL_S = 10.0  # between two snapshots that windows begin at
TIDY_INTERVAL_S = 30.0


class RecordingJobs:
    """Keeps the measurements of one application's workers in order.

    Args:
        recorder: the recorder of the application.
        settings: intervals and switches.
        profile: requests; checks for long ones and accounts for its own cost.
        details: sampled stacks.
        close: called when the files of this worker were removed.
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
        reservoir: ExemplarReservoir | None,
        sampler: Sampler | None,
    ) -> None:
        self._recorder = recorder
        self._settings = settings
        self._profile = profile
        self._details = details
        self._close = close
        self._reservoir = reservoir
        self._sampler = sampler

    def schedule(self) -> Schedule:
        """Return the jobs of the housekeeper with their intervals in seconds."""
        jobs: Schedule = [
            (0.5, self._profile.in_flight.tick), (1.0, self.publish_heartbeat),
            (1.0, PANDAS_HOOK.install_if_imported),
            (self._settings.fold_interval_s, self.fold), (5.0, self._profile.record_load),
        ]  # fmt: skip
        if self._settings.queries:
            jobs += [(5.0, self.record_pools), (1.0, self.enable_table_tracking)]
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
        recorder.record((recorder.series(HEARTBEAT), recorder.clock.wall()))
        if self._sampler is not None and self._sampler.degraded:
            worker.degraded["sampler"] = self._sampler.degraded
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
        """Fold the logs of this worker if it is worth it, and take the snapshots of windows."""
        recorder, worker = self._recorder, self._recorder.worker
        if worker.due():
            worker.fold()
        run = worker.run
        if run is None:
            return
        snapshots = points(run)
        now = recorder.clock.wall()
        # a snapshot from the future was taken before the clock was set back
        if (
            not snapshots
            or now - snapshots[-1][0] >= SNAPSHOT_INTERVAL_S
            or snapshots[-1][0] > now + 1
        ):
            store(run, recorder.snapshot(), now, recorder.disk)
            remove_old(run.parent, self._settings.runs_kept, recorder.disk)

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
        if not versions.subscribed or not sql.watches_engines():
            return
        from ..collectors.sql import sqlalchemy
        from ..collectors.sql.written_tables import WRITTEN_TABLES

        if versions not in WRITTEN_TABLES:
            WRITTEN_TABLES.subscribe(versions)
            sqlalchemy.track_tables()
