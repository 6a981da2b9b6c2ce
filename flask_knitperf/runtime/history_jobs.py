"""Housekeeping of the history: writes it, reads windows of it, and reports why it cannot be used.

Nothing of it is imported before the first slot has ended: many processes end before that.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import weakref
from collections.abc import Container, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.clock import NS_PER_S
from ..core.errors import HistoryError
from ..core.locks import create_lock
from ..core.settings import Settings
from ..core.units import MB
from ..recording.recorder import Recorder
from ..storage.state_dir import Snapshot
from ..storage.windows import Span, Window, WindowName
from .alert_jobs import AlertJobs
from .memory_jobs import Schedule

if TYPE_CHECKING:
    from ..history.charts import ChartParts
    from ..history.reader import Only
    from ..history.store import Store
    from ..history.writer import HistoryWriter
    from ..reports.documents.endpoint import Timeline

log = logging.getLogger("flask_knitperf")

_INTERVAL_S = 2.0  # between two looks whether a slot has ended
_SLOT_S = (
    10  # length of the first slot, as that of ..history.resolutions, which is not imported yet
)
_MAX_PAUSE_S = 60.0  # between two tries to reach a database that fails
_CLOSE_S = 1.0  # for which the end of a session waits for a write
_DEGRADED = "history"


_GATE = "flask_knitperf.history.fork_gate"
_OPEN: weakref.WeakSet[HistoryJobs] = weakref.WeakSet()
"""Those whose connection may be open."""


class HistoryJobs:
    """Keeps the history of one application.

    Args:
        recorder: the recorder of the application.
        settings: where the history is kept, and how much of it.
        alerts: rules over the history, ``None`` where there are none.
    """

    def __init__(
        self, recorder: Recorder, settings: Settings, alerts: AlertJobs | None = None
    ) -> None:
        self._recorder, self._settings, self._alerts = recorder, settings, alerts
        self._lock = create_lock()  # of the writer, whose connection is for one thread at a time
        self._writer: HistoryWriter | None = None
        self._pid = 0
        self._slot: int | None = None
        self._failed, self._retry_at = 0, 0.0
        self._forking = 0  # the thread that has the lock for a fork

    def _before_fork(self) -> None:
        """Close the connection, and keep it closed until after the fork, where that is soon possible.

        SQLite keeps the locks that a process has in its memory. A child would have them too, but not
        those of the system.
        """
        if not self._lock.acquire(timeout=_CLOSE_S):  # or another thread forks
            log.warning("a process was forked while the history was written")
            return
        self._forking = threading.get_ident()
        if self._writer is not None:
            self._writer.disconnect()

    def _after_fork(self) -> None:
        if self._forking == threading.get_ident():
            self._forking = 0
            self._lock.release()

    def _in_child(self) -> None:
        self._forking = 0  # the lock is free

    def schedule(self) -> Schedule:
        """Return the jobs of the housekeeper with their intervals in seconds."""
        return [(_INTERVAL_S, self.tick)]

    def tick(self) -> None:
        """Write the slots that have ended. An error is a sentence in reports, and logged once."""
        slot = int(self._recorder.clock.wall() // _SLOT_S)
        if self._slot is None or self._recorder.worker.run is None:
            self._slot = slot
        now = self._recorder.clock.monotonic_ns() / NS_PER_S
        if slot == self._slot or now < self._retry_at or not self._lock.acquire(blocking=False):
            return
        try:
            self._write(slot)
        finally:
            self._lock.release()

    def _write(self, slot: int) -> None:
        degraded = self._recorder.worker.degraded
        try:
            writer = self._opened()
            writer.tick()
        except HistoryError as error:
            sentence = str(error)
            if degraded.get(_DEGRADED) != sentence:
                log.warning("%s", sentence)
            degraded[_DEGRADED] = sentence
            pause = min(_MAX_PAUSE_S, _SLOT_S * 2.0**self._failed)
            self._retry_at = self._recorder.clock.monotonic_ns() / NS_PER_S + pause
            self._failed += 1
        else:
            degraded.pop(_DEGRADED, None)
            self._slot, self._failed, self._retry_at = slot, 0, 0.0
            self._evaluate(writer)

    def _evaluate(self, writer: HistoryWriter) -> None:
        """Evaluate alerts, if this process wrote; their errors do not delay the next write."""
        degraded, connection = self._recorder.worker.degraded, writer.connection
        if self._alerts is None or connection is None or not writer.leads:
            return
        try:
            self._alerts.tick(connection, self._holder(), self._recorder.clock.wall())
        except HistoryError as error:
            degraded["alerts"] = f"alerts were not evaluated: {error}"
        except Exception as error:
            self._recorder.failed("alerts", error)
            degraded["alerts"] = f"alerts were not evaluated: {error!r}"
        else:
            degraded.pop("alerts", None)

    def _opened(self) -> HistoryWriter:
        if self._writer is None or self._pid != os.getpid():
            from ..history.databases import database
            from ..history.windows import source_of
            from ..history.writer import HistoryWriter

            recorder, settings, self._pid = self._recorder, self._settings, os.getpid()
            _OPEN.add(self)
            source = source_of(settings.state_dir)
            self._writer = HistoryWriter(
                database(settings.history_url), Path(settings.state_dir), source,
                self._holder(), self._own, recorder.clock,
                round(settings.history_max_mb * MB),
            )  # fmt: skip
        return self._writer

    def _holder(self) -> str:
        """Return the identity of this process."""
        from ..history.windows import source_of

        return f"{source_of(self._settings.state_dir)} {self._pid} {self._recorder.worker.name}"

    def _own(self) -> tuple[Path, Snapshot] | None:
        run = self._recorder.worker.run
        return None if run is None else (run, self._recorder.snapshot())

    def window(self, name: WindowName, now: float, current: Window) -> Window:
        """Read a window of the history; see :func:`..history.windows.past_window`.

        Raises:
            HistoryError: the database cannot be used.
        """
        from ..history.databases import database
        from ..history.windows import past_window, source_of

        opened = database(self._settings.history_url)
        return past_window(opened, source_of(self._settings.state_dir), name, now, current)

    def parts(self, parts: Sequence[Span], now: float, current: Window) -> Window:
        """Read any window of the history, or parts of one; see :func:`..history.windows.parts_window`.

        Raises:
            HistoryError: the database cannot be used.
        """
        return self._parts(parts, now, current)

    def parts_of_meters(
        self, parts: Sequence[Span], now: float, current: Window, meters: Container[str]
    ) -> Window:
        """Read some meters; see :meth:`parts`."""
        from ..history.windows import of_meters

        return self._parts(parts, now, current, of_meters(meters))

    def parts_of_endpoint(
        self, parts: Sequence[Span], now: float, current: Window, endpoint: str, method: str
    ) -> Window:
        """Read one endpoint; see :meth:`parts`."""
        from ..history.windows import of_endpoint

        return self._parts(parts, now, current, of_endpoint(endpoint, method))

    def _parts(
        self, parts: Sequence[Span], now: float, current: Window, only: Only | None = None
    ) -> Window:
        from ..history.databases import database
        from ..history.windows import parts_window, source_of

        opened, source = database(self._settings.history_url), source_of(self._settings.state_dir)
        return parts_window(opened, source, parts, now, current, only)

    def release(self, name: str, now: float) -> Span:
        """Return the time in which a release served; see :func:`..history.windows.release_span`.

        Raises:
            StateError: the history does not have that release.
            HistoryError: the database cannot be used.
        """
        from ..history.databases import database
        from ..history.windows import release_span

        return release_span(database(self._settings.history_url), name, now)

    def releases(self, now: float) -> list[str]:
        """Return the releases that the history has, the latest first.

        Raises:
            HistoryError: the database cannot be used.
        """
        from ..history.databases import database
        from ..history.windows import releases

        return releases(database(self._settings.history_url), now)

    def timeline(
        self, endpoint: str, method: str, span: Span, now: float, *, of_all: bool
    ) -> Timeline:
        """Return an endpoint over time; see :func:`..history.timelines.endpoint_timeline`.

        Args:
            endpoint: its name.
            method: of its requests.
            span: bounds of the window.
            now: the present.
            of_all: whether to read what all hosts have written, as long windows do.

        Raises:
            HistoryError: the database cannot be used.
        """
        from ..history.databases import database
        from ..history.store import opened
        from ..history.timelines import endpoint_timeline

        with opened(database(self._settings.history_url)) as store:
            source = None if of_all else self._source(store)
            return endpoint_timeline(store, endpoint, method, span.since, span.until, now, source)

    def _source(self, store: Store) -> int:
        """Return the number of this state directory among those that have written; none is -1."""
        from ..history.windows import source_of

        number = store.known_source(source_of(self._settings.state_dir))
        return -1 if number is None else number

    def charts(
        self, span: Span, now: float, pairs: Sequence[tuple[str, str]], *, of_all: bool
    ) -> ChartParts:
        """Return the application over time; see :func:`..history.charts.read_charts`.

        Args:
            span: bounds of the window.
            now: the present.
            pairs: endpoints whose trend is read.
            of_all: whether to read what all hosts have written, as long windows do.

        Raises:
            HistoryError: the database cannot be used.
        """
        from ..history.charts import read_charts
        from ..history.databases import database
        from ..history.store import opened

        with opened(database(self._settings.history_url)) as store:
            source = None if of_all else self._source(store)
            return read_charts(store, span.since, span.until, now, pairs, source)

    def close(self) -> None:
        """Let another process write at once, unless this one is writing for a while. Never raises."""
        if self._pid != os.getpid() or not self._lock.acquire(timeout=_CLOSE_S):
            return
        try:
            writer, self._writer = self._writer, None
            if writer is not None:
                try:
                    if self._alerts is not None:
                        self._alerts.close(writer.connection)
                finally:
                    writer.close()
        except HistoryError as error:
            log.debug("%s", error)
        finally:
            self._lock.release()


def _before_fork() -> None:
    for jobs in list(_OPEN):
        jobs._before_fork()
    if _GATE in sys.modules and not sys.modules[_GATE].FORK_GATE.shut(_CLOSE_S):
        log.warning("a process was forked while the history was read")


def _in_child() -> None:
    for jobs in list(_OPEN):
        jobs._in_child()


def _after_fork() -> None:
    if _GATE in sys.modules:
        sys.modules[_GATE].FORK_GATE.reopen()
    for jobs in list(_OPEN):
        jobs._after_fork()


if hasattr(os, "register_at_fork"):  # pragma: no branch (Windows)
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)
