"""Reading a state directory without the application: never imports it, never writes a measurement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..analysis import endpoints
from ..analysis.regression import compare
from ..collectors.memory import live_frames
from ..core.clock import SYSTEM, Clock
from ..core.errors import StateError
from ..core.settings import Settings, read
from ..metrics.stack_trie import Tries
from ..storage.runs import check_format, describe, runs
from ..storage.state_dir import read as read_run
from ..storage.windows import Window, check, window
from .build import render, render_queries
from .details import read as read_details
from .details import read_requests
from .endpoint import against, why
from .memory import render_memory


class Offline:
    """The newest run in a state directory.

    Args:
        state: the state directory.
        clock: seconds since the epoch.

    Raises:
        StateError: there is nothing to read there, or another version wrote it.
    """

    def __init__(self, state: str | Path, clock: Clock = SYSTEM) -> None:
        found = runs(Path(state))
        if not found:
            raise StateError(
                f"there are no measurements in {state}: the application has not served a request "
                "yet, or KNITPERF_STATE_DIR names another directory"
            )
        self.run = check_format(found[-1])
        self._clock = clock
        self._about = describe(self.run)

    @property
    def settings(self) -> Settings:
        """The thresholds that the application had."""
        return read(self._about.get("settings", {}))

    @property
    def routes(self) -> list[tuple[str, str, tuple[str, ...]]]:
        """The application's ``(endpoint, rule, methods)``."""
        return [(name, rule, tuple(methods)) for name, rule, methods in self._about["routes"]]

    def window(self, name: str) -> Window:
        """Read one window.

        Raises:
            ConfigurationError: there is no such window.
            StateError: there is no previous run.
        """
        return window(self.run, check(name), self._clock.wall())

    def report(self, name: str = "1h") -> dict[str, Any]:
        """Return the report of a window."""
        found = self.window(name)
        return self._rendered(found, self._tries(found))

    def _rendered(self, found: Window, tries: Tries | None) -> dict[str, Any]:
        return render(found, self.settings, self.routes, self._clock.wall(), tries=tries)

    def _tries(self, found: Window) -> Tries | None:
        """Return the stacks that were sampled in a window, ``None`` where there are none."""
        run, degraded = self.run.parent / found.run, found.snapshot.degraded
        return read_details(run, found.begins, found.ends, degraded) or None

    def why(
        self, endpoint: str, method: str | None = None, name: str = "1h", other: str | None = None
    ) -> dict[str, Any]:
        """Return all that is known of one endpoint; see :meth:`..runtime.documents.Documents.why`.

        Raises:
            KnitPerfError: nothing was measured of it.
        """
        found = self.window(name)
        tries, now = self._tries(found), self._clock.wall()
        kept = read_requests(self.run.parent / found.run, found, now, endpoint)
        opened = why(self._rendered(found, tries), tries, kept, endpoint, method)
        if other is None:
            return opened.document
        before = self.window(other)
        tries = self._tries(before)
        return against(opened, self._rendered(before, tries), tries).document

    def queries(self, name: str = "1h") -> dict[str, Any]:
        """Return what databases were asked in a window."""
        return render_queries(self.window(name), self.settings, self.routes, self._clock.wall())

    def memory(self) -> dict[str, Any]:
        """Return the memory report; this machine's figures are those of whoever reads."""
        from ..collectors.memory.process import machine

        found = self.window("run")
        frames = live_frames.read(self.run, found.snapshot.workers)
        here: dict[str, list[dict[str, Any]]] = {"caches": [], "decorated": []}
        return render_memory(found, self.settings, self._clock.wall(), machine(), frames, here)

    def against(self, name: str, other: str) -> list[dict[str, Any]]:
        """Compare a window with another one; see :func:`..analysis.regression.compare`."""
        rows = [
            endpoints.endpoints(self.window(each).snapshot.totals, self.settings, self.routes)
            for each in (name, other)
        ]
        return compare(rows[0], rows[1])

    def alive(self) -> list[str]:
        """Return the names of the workers that live."""
        return [w["worker"] for w in read_run(self.run).workers if w.get("alive")]
