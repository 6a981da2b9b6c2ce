"""``PerformanceProfiler``: sections and functions by name, requests on purpose, and the reports."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from ..collectors.jobs.jobs import run
from ..collectors.requests import sections
from ..core.errors import KnitPerfError
from ..core.notices import warn_once
from ..core.settings import read
from ..recording.recorder import Recorder
from . import renamed

if TYPE_CHECKING:
    from ..experiments.client_profile import ClientProfile
    from ..experiments.in_process import Application, Request
    from ..reports.documents import Report
    from ..reports.documents.report import FindingRow
    from ..reports.documents.summary import PerformanceReport, Summary
    from ..runtime.session import Session

F = TypeVar("F", bound=Callable[..., Any])
_KEY = "knitperf"
_SAMPLES = 10  # requests to an endpoint by default
_NO_APPLICATION = (
    "no application is current; use perf.profiler in an application context, "
    "or pass base_url= or app="
)


class PerformanceProfiler:
    """Profiles what the application names, sends requests to its endpoints, and reports on them.

    ``perf.profiler`` is one for an application: every request is measured anyway, and reports cover all
    workers. ``PerformanceProfiler(base_url="http://localhost:5005")`` measures a server from outside,
    ``PerformanceProfiler(app=app)`` an application in this process, without a server. Without either,
    sections and functions run as they are, and there is nothing to report.

    Args:
        base_url: of a server, ``http`` or ``https``.
        app: an application (WSGI).
        resolve: returns the session of the current application, ``None`` without one.

    Raises:
        KnitPerfError: ``base_url`` is not an HTTP URL, or both ``base_url`` and ``app`` are given.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        app: Application | None = None,
        resolve: Callable[[], Session | None] = lambda: None,
    ) -> None:
        if base_url is not None and app is not None:
            raise KnitPerfError("pass base_url or app, not both")
        if base_url is not None and not isinstance(base_url, str):
            raise KnitPerfError(
                f"base_url must be a URL, not {base_url!r}; pass an application as app="
            )
        self.base_url = base_url
        self._app = app
        self._resolve_current = resolve
        self._server: ClientProfile | None = None
        self._applications: weakref.WeakKeyDictionary[Any, ClientProfile] = (
            weakref.WeakKeyDictionary()
        )
        if base_url is not None:
            from ..experiments.http_client import HttpClient

            self._server = self._new_client(HttpClient(base_url).send)

    # -- code by name --------------------------------------------------------------------------------

    def section(self, name: str) -> AbstractContextManager[None]:
        """Time a block of code as a part of the current request."""
        return sections.section(name)

    def instrument(self, service: Any) -> Any:
        """Time every public method of an object or a class; return it."""
        return sections.instrument(service, self._recorder, outside=run)

    @overload
    def profile_endpoint(self, target: F) -> F: ...

    @overload
    def profile_endpoint(
        self,
        target: str | None = None,
        method: str = "GET",
        samples: int = _SAMPLES,
        payload: Any = None,
    ) -> Any: ...

    def profile_endpoint(
        self, target: Any = None, method: str = "GET", samples: int = _SAMPLES, payload: Any = None
    ) -> Any:
        """Send requests to an endpoint and return its figures; or time a function, as a decorator.

        ``profile_endpoint("/orders", samples=3)`` sends three requests, one after another.
        ``@profile_endpoint`` and ``@profile_endpoint("name")`` time a function that endpoints call as a
        part of its requests; a name does not start with a slash.

        Args:
            target: a path, a function, or the name of a section.
            method: of the requests.
            samples: number of requests. They are requests like others: the application records them,
                and does what it does for a user.
            payload: JSON body of the requests.

        Returns:
            The endpoint's row of the report (``endpoints[]``), or the decorated function.

        Raises:
            KnitPerfError: there is neither a server nor an application, or no response, or an argument
                is wrong.
        """
        if not isinstance(method, str):
            raise KnitPerfError(
                f"method must be a string, not {method!r}; write samples={method!r}"
            )
        if callable(target):
            return sections.profiled(target, self._recorder, outside=run)
        if target is None or not target.startswith("/"):
            if (method, samples, payload) != (
                "GET",
                _SAMPLES,
                None,
            ):  # of requests, not of a section
                raise KnitPerfError(f"the path must start with /, not {target!r}")
            return lambda function: sections.profiled(function, self._recorder, target, run)
        return self._measure(target, method, samples, payload)

    def _measure(self, path: str, method: str, samples: int, payload: Any) -> renamed.Renamed:
        row = self._client().measure(path, method.upper(), samples, payload)
        return renamed.Renamed(row, renamed.ENDPOINT)

    def profile_all_endpoints(
        self, endpoints: Iterable[str | tuple[str, str]] | None = None, samples: int = 5
    ) -> dict[str, renamed.Renamed]:
        """Send requests to several endpoints; return their rows of the report, by ``GET_/path``.

        Args:
            endpoints: paths, or ``(path, method)``. By default every ``GET`` of the application that
                needs no parameter; of a server the list must be given.
            samples: number of requests to each.

        Warns:
            MigrationWarning: once, where a server is profiled without a list: then there are none.

        Raises:
            KnitPerfError: as :meth:`profile_endpoint`; or the list is missing, and the application is
                not one of Flask.
        """
        if endpoints is None:
            endpoints = self._paths()
        rows = {}
        for entry in endpoints:
            path, method = (entry, "GET") if isinstance(entry, str) else entry
            rows[f"{method.upper()}_{path}"] = self._measure(path, method, samples, None)
        return rows

    def _paths(self) -> list[str]:
        session = self._session_or_none()
        if session is not None:
            return session.paths_without_parameters()
        if self.base_url is not None:
            warn_once(
                "profile_all_endpoints cannot list the endpoints of a server: pass a list of paths"
            )
            return []
        if self._app is not None:
            return _paths_of(self._app)
        raise KnitPerfError(f"there are no endpoints to profile: {_NO_APPLICATION}")

    # -- reports -------------------------------------------------------------------------------------

    def identify_bottlenecks(self, window: str = "1h") -> list[FindingRow]:
        """Return the findings of a window, most severe first; see ``bottlenecks`` in the report."""
        return self._report(window)["bottlenecks"]

    def generate_performance_report(self, window: str = "1h") -> PerformanceReport:
        """Return the report of the application, or on the requests that were sent to a server.

        Args:
            window: ``5m``, ``1h``, ``run`` or ``previous``; of an application only.

        Returns:
            The document behind ``/perf/report``, with ``endpoints_profiled`` (number of endpoints with
            requests) and ``summary`` (:class:`..reports.documents.summary.Summary`).

        Raises:
            ConfigurationError: there is no such window.
            StateError: there is no previous run.
        """
        from ..reports.summary import measured, summarise

        report = self._report(window)
        summary = renamed.Renamed(summarise(report), renamed.SUMMARY)
        return {
            **report, "endpoints_profiled": len(measured(report)),
            "summary": cast("Summary", summary),
        }  # fmt: skip

    def save_report(self, path: str | Path | None = None, window: str = "1h") -> Path:
        """Write the report as JSON; return its path.

        Args:
            path: of the file; by default a new ``performance_report_<date>_<time>.json`` in the
                current directory, with ``_2`` and so on where that exists.
            window: see :meth:`generate_performance_report`.

        Raises:
            OSError: the file cannot be written.
        """
        report = self.generate_performance_report(window)
        text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
        if path is None:
            return _write_new(
                f"performance_report_{datetime.now().astimezone():%Y%m%d_%H%M%S}", text
            )
        target = Path(path)
        target.write_text(text, encoding="utf-8")
        return target

    def _report(self, window: str) -> Report:
        session = self._session_or_none()
        if session is not None:
            return session.documents.report(window)
        if self._server is None and self._app is None:
            raise KnitPerfError(f"there is nothing to report: {_NO_APPLICATION}")
        return self._client().report()

    # -- what is profiled ----------------------------------------------------------------------------

    def _session_or_none(self) -> Session | None:
        if self.base_url is not None:
            return None
        session: Session | None = getattr(self._app, "extensions", {}).get(_KEY)
        return session or self._resolve_current()

    def _recorder(self) -> Recorder | None:
        session = self._session_or_none()
        return None if session is None else session.recorder

    def _client(self) -> ClientProfile:
        """Return the client of the server, or one that serves requests in this process."""
        if self._server is not None:
            return self._server
        session = self._session_or_none()
        application = self._app if session is None else session.application()
        if application is None:
            raise KnitPerfError(f"there is no endpoint to profile: {_NO_APPLICATION}")
        client = self._applications.get(application)
        if client is None:
            from ..experiments.in_process import send

            reference = weakref.ref(application)
            client = self._new_client(lambda request: send(_alive(reference), request))
            self._applications[application] = client
        return client

    def _new_client(self, send: Callable[[Request], int]) -> ClientProfile:
        from ..experiments.client_profile import ClientProfile

        session = self._session_or_none()
        return ClientProfile(send, read({}) if session is None else session.settings)


def _paths_of(application: Any) -> list[str]:
    """Return the rules of a Flask application without KnitPerf that need no parameter, in order."""
    url_map = getattr(application, "url_map", None)
    if url_map is None:
        raise KnitPerfError("the endpoints of this application are unknown: pass a list of paths")
    return sorted({
        rule.rule for rule in url_map.iter_rules()
        if "GET" in (rule.methods or ()) and "<" not in rule.rule
    })  # fmt: skip


def _write_new(stem: str, text: str) -> Path:
    """Write a JSON file that did not exist before; return its path."""
    path, number = Path(f"{stem}.json"), 1
    while True:
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
            return path
        except FileExistsError:
            number += 1
            path = Path(f"{stem}_{number}.json")


def _alive(reference: weakref.ref[Application]) -> Application:
    application = reference()
    assert application is not None  # its client is deleted with it
    return application
