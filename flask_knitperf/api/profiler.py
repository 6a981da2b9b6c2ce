"""``PerformanceProfiler``: sections, functions and services by name, and the report of an application.

Without an application its sections and functions run as they are; there is nothing to report to.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

from ..collectors.requests import sections
from ..core.errors import KnitPerfError
from ..recording.recorder import Recorder
from ..runtime.session import Session

F = TypeVar("F", bound=Callable[..., Any])


class PerformanceProfiler:
    """Profiles what the application names, and reports on all of it.

    Args:
        resolve: returns the session of the application that runs, ``None`` where there is none.
    """

    def __init__(self, resolve: Callable[[], Session | None] = lambda: None) -> None:
        self._resolve = resolve

    def _recorder(self) -> Recorder | None:
        found = self._resolve()
        return None if found is None else found.recorder

    def _session(self) -> Session:
        found = self._resolve()
        if found is None:
            raise KnitPerfError(
                "there is nothing to report: no application is current; push an application context"
            )
        return found

    def section(self, name: str) -> AbstractContextManager[None]:
        """Time a stretch of code as a part of the request that runs here."""
        return sections.section(self._recorder(), name)

    def profile_endpoint(self, function: F | str | None = None) -> Any:
        """Time a function under its own, or a given, name. A decorator with or without arguments.

        Every endpoint is profiled anyway; this adds a part of its own, e.g. for a function that
        several endpoints call.
        """
        if callable(function):
            return sections.profiled(function, self._recorder)
        return lambda given: sections.profiled(given, self._recorder, function)

    def instrument(self, service: Any) -> Any:
        """Time every public method of an object or a class; return it."""
        return sections.instrument(service, self._recorder)

    def identify_bottlenecks(self, window: str = "1h") -> list[dict[str, Any]]:
        """Return the findings of a window, the worst first; see ``bottlenecks`` in the report."""
        found: list[dict[str, Any]] = self._session().documents.report(window)["bottlenecks"]
        return found

    def generate_performance_report(self, window: str = "1h") -> dict[str, Any]:
        """Return the dict behind ``/perf/report``.

        Args:
            window: ``5m``, ``1h``, ``run`` or ``previous``.

        Raises:
            ConfigurationError: there is no such window.
            StateError: there is no previous run.
        """
        return self._session().documents.report(window)

    def save_report(self, path: str | Path, window: str = "1h") -> Path:
        """Write the report as JSON; return where.

        Raises:
            OSError: it cannot be written.
        """
        target = Path(path)
        text = json.dumps(self._session().documents.report(window), indent=2, ensure_ascii=False)
        target.write_text(text + "\n", encoding="utf-8")
        return target

    def run_load_test(self, *_: Any, **__: Any) -> None:
        """Say that load tests are not part of this version.

        Raises:
            KnitPerfError: always.
        """
        raise KnitPerfError(
            "load tests are not part of this version; they come with the load-testing part"
        )
