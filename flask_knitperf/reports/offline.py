"""Reading a state directory without the application: never imports it, never writes a measurement.

Names of the application are escaped in all documents (:mod:`..core.printable`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..collectors.memory import live_frames
from ..core.clock import SYSTEM, Clock
from ..core.errors import StateError
from ..core.printable import printable
from ..core.settings import Settings, read
from ..metrics.stack_trie import Tries
from ..storage.runs import check_format, describe, runs
from ..storage.state_dir import read as read_run
from ..storage.windows import LONG_SPANS, Window, check, span_of, window
from .build import Route, build_report
from .cache import build_cache_report
from .comparison import compare_windows
from .details import read as read_details
from .details import read_requests
from .endpoint import build_endpoint_report, compare_endpoint, endpoint_row
from .memory import build_memory_report
from .queries import build_queries_report
from .references import Past, read_pair

if TYPE_CHECKING:
    from .documents import (
        CacheReport,
        ComparisonReport,
        EndpointReport,
        MemoryReport,
        QueriesReport,
        Report,
    )


class Offline:
    """The newest run in a state directory.

    Args:
        state: the state directory.
        clock: seconds since the epoch.
        past: the history, ``None`` without one.

    Raises:
        StateError: there is nothing to read there, or another version wrote it.
    """

    def __init__(self, state: str | Path, clock: Clock = SYSTEM, past: Past | None = None) -> None:
        stored = runs(Path(state))
        if not stored:
            raise StateError(
                f"there are no measurements in {state}: the application has not served a request "
                "yet, or KNITPERF_STATE_DIR names another directory"
            )
        self.run = check_format(stored[-1])
        self._clock, self._past = clock, past
        self._about = describe(self.run)

    @property
    def settings(self) -> Settings:
        """The thresholds that the application had."""
        return read(self._about.get("settings", {}))

    @property
    def routes(self) -> list[Route]:
        """The application's ``(endpoint, rule, methods)``."""
        return [(name, rule, tuple(methods)) for name, rule, methods in self._about["routes"]]

    def window(self, name: str) -> Window:
        """Read one window.

        Raises:
            ConfigurationError: there is no such window.
            StateError: there is no previous run, or the window needs a history.
            HistoryError: the history cannot be read.
        """
        span, now = span_of(name), self._clock.wall()
        if span is not None:
            if self._past is None:
                raise StateError(f"the window {name} needs the history (KNITPERF_HISTORY)")
            return self._past.parts([span], now, window(self.run, "run", now))
        window_name = check(name)
        if window_name in LONG_SPANS and self._past is not None:
            return self._past.window(window_name, now, window(self.run, "run", now))
        return window(self.run, window_name, now)

    def report(self, name: str = "1h") -> Report:
        """Return the report of a window."""
        read = self.window(name)
        return printable(self._report(read, self._tries(read)))

    def _report(self, read: Window, tries: Tries | None) -> Report:
        return build_report(read, self.settings, self.routes, self._clock.wall(), tries=tries)

    def _tries(self, read: Window) -> Tries | None:
        """Return the stacks that were sampled in a window, ``None`` where there are none."""
        run, degraded = self.run.parent / read.run, read.snapshot.degraded
        return read_details(run, read.since, read.until, degraded) or None

    def why(
        self, endpoint: str, method: str | None = None, name: str = "1h", other: str | None = None
    ) -> EndpointReport:
        """Return one endpoint in detail; see :meth:`..runtime.documents.Documents.why`.

        Raises:
            KnitPerfError: the endpoint has no data.
        """
        read = self.window(name)
        tries, now = self._tries(read), self._clock.wall()
        report = self._report(read, tries)
        row = endpoint_row(report, endpoint, method)
        exemplars = read_requests(self.run.parent / read.run, read, now, row["endpoint"])
        opened = build_endpoint_report(report, row, tries, exemplars)
        if other is not None:
            before = self.window(other)
            tries = self._tries(before)
            opened = compare_endpoint(opened, self._report(before, tries), tries)
        return printable(opened.document)

    def queries(self, name: str = "1h") -> QueriesReport:
        """Return the statements and connection pools of a window."""
        now = self._clock.wall()
        return printable(build_queries_report(self.window(name), self.settings, self.routes, now))

    def cache(self, name: str = "1h") -> CacheReport:
        """Return the use of the cache in a window."""
        now = self._clock.wall()
        return printable(build_cache_report(self.window(name), self.settings, now))

    def memory(self) -> MemoryReport:
        """Return the memory of all workers; the machine is the one that this process runs on."""
        from ..collectors.memory.process import machine

        read = self.window("run")
        frames = live_frames.read(self.run, read.snapshot.workers)
        now = self._clock.wall()
        return printable(build_memory_report(read, self.settings, now, machine(), frames))

    def against(self, name: str, other: str) -> ComparisonReport:
        """Return a window compared with another one or a release.

        Raises:
            ConfigurationError: there is no such window.
            StateError: there is no such release.
            HistoryError: the history cannot be read.
        """
        now = self._clock.wall()
        pair = read_pair(self.window(name), other, self.window, self._past, now)
        return printable(compare_windows(pair, self.settings, self.routes, at=now))

    def alive(self) -> list[str]:
        """Return the names of the live workers that serve requests."""
        return [worker["worker"] for worker in read_run(self.run).servers if worker.get("alive")]
