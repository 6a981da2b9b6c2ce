"""From windows to documents: reads what all workers recorded and builds the reports of it.

Every reader (pages, terminal, API classes) goes through here, so that all of them show the same figures.
Names of the application are escaped here, after the documents were built (:mod:`..core.printable`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from ..collectors.requests.exemplar_reservoir import ExemplarReservoir
from ..collectors.sql import sqlalchemy
from ..core.errors import ConfigurationError, HistoryError, KnitPerfError, StateError
from ..core.printable import printable
from ..core.settings import Settings
from ..metrics.stack_trie import Trie, Tries
from ..recording.recorder import Recorder
from ..reports.build import Route, build_report
from ..reports.cache import build_cache_report
from ..reports.comparison import METERS as COMPARED_METERS
from ..reports.comparison import compare_windows, release_change
from ..reports.details import Details, read_requests
from ..reports.endpoint import Opened, build_endpoint_report, compare_endpoint, endpoint_row
from ..reports.queries import build_queries_report
from ..reports.references import LAST_WEEK, Pair, read_pair, same_hours
from ..reports.request import build_request_report
from ..reports.values import moment, window_document
from ..storage import exemplars
from ..storage.exemplars import Exemplar
from ..storage.snapshots import difference
from ..storage.state_dir import Snapshot
from ..storage.windows import (
    LONG_SPANS,
    NAMES,
    Span,
    Window,
    WindowName,
    check,
    is_of_history,
    span_of,
    window,
)
from .alert_jobs import AlertJobs
from .history_jobs import HistoryJobs
from .memory_jobs import MemoryJobs

if TYPE_CHECKING:
    from ..reports.documents import (
        AlertsReport,
        CacheReport,
        Charts,
        ComparisonReport,
        MemoryReport,
        QueriesReport,
        Report,
        RequestReport,
        RulePreview,
    )
    from ..reports.documents.comparison import Hours
    from ..reports.documents.endpoint import ReleaseChange, Timeline
    from ..reports.documents.fields import Window as WindowDocument

log = logging.getLogger("flask_knitperf")


_WEEK_S = 7 * 86_400.0
_CHANGES_NS = 60_000_000_000  # for which a comparison of releases is kept
ALERT_WINDOWS: tuple[WindowName, ...] = ("24h", "7d", "30d")
"""Windows of the page of alerts."""
RULE_TESTS: tuple[WindowName, ...] = ("24h", "7d")
"""Windows in which a rule can be tested: rows by the minute are kept for a week."""
SILENCE_S = {"1h": 3600.0, "2h": 7200.0, "8h": 28_800.0, "1d": 86_400.0}
"""Lengths of silences in seconds, by the name in a form."""


class _Served(NamedTuple):
    """The present release and the one before it.

    Attributes:
        history: where their observations are.
        whole: the window of the whole present run.
        releases: name and parts of each, at the times of day that both have.
        hours: whether they have the same ones.
    """

    history: HistoryJobs
    whole: Window
    releases: list[tuple[str, list[Span]]]
    hours: Hours


class Documents:
    """Builds the documents of one application.

    Args:
        recorder: the recorder of the application.
        memory: the memory jobs, for the memory report.
        details: sampled stacks, ``None`` where the sampler is switched off.
        reservoir: single requests, ``None`` where they are not kept.
        settings: returns the settings, thresholds of decorators included.
        routes: returns the application's ``(endpoint, rule, methods)``.
        in_memory: returns whether there is no housekeeper; readers then do its work first.
        publish: publishes the counts of caches.
        history: reads longer windows, ``None`` where there is no history.
        alerts: rules over the history, ``None`` without any.
    """

    def __init__(
        self,
        recorder: Recorder,
        memory: MemoryJobs,
        details: Details | None,
        reservoir: ExemplarReservoir | None,
        *,
        settings: Callable[[], Settings],
        routes: Callable[[], Iterable[Route]],
        in_memory: Callable[[], bool],
        publish: Callable[[], None] = lambda: None,
        history: HistoryJobs | None = None,
        alerts: AlertJobs | None = None,
    ) -> None:
        self._recorder = recorder
        self._memory = memory
        self._details = details
        self._reservoir = reservoir
        self._settings = settings
        self._routes = routes
        self._in_memory = in_memory
        self._publish = publish
        self._history = history
        self._alerts = alerts
        self._origin: tuple[float, Any] = (0.0, None)
        self._changes: tuple[int, ComparisonReport | None] = (0, None)

    def start_over(self) -> None:
        """Begin all windows now; for a process without a state directory."""
        snapshot = self._recorder.snapshot()
        self._origin = self._recorder.clock.wall(), (snapshot.about, snapshot.columns)

    @property
    def windows(self) -> list[WindowName]:
        """The names of the windows that can be read."""
        return [name for name in NAMES if self.has_history or name not in LONG_SPANS]

    @property
    def has_history(self) -> bool:
        """Whether this process keeps a history."""
        return self._history is not None and not self._in_memory()

    def window(self, name: str = "1h") -> Window:
        """Read one window of all workers.

        Raises:
            ConfigurationError: there is no such window.
            StateError: there is no previous run, or the window needs a history.
            HistoryError: the history cannot be read.
        """
        span, now = span_of(name), self._recorder.clock.wall()
        window_name: WindowName = check(name) if span is None else "span"
        if self._in_memory():
            self._publish()
        run = self._recorder.worker.run
        snapshot = self._recorder.snapshot()
        if run is None:
            return self._memory_window(window_name, now, snapshot)
        if span is None and (window_name not in LONG_SPANS or self._history is None):
            return window(run, name, now, snapshot)
        if self._history is None:
            raise StateError(f"the window {name} needs the history (KNITPERF_HISTORY)")
        whole = window(run, "run", now, snapshot)
        if span is not None:
            return self._history.parts([span], now, whole)
        return self._history.window(window_name, now, whole)

    def _memory_window(self, name: WindowName, now: float, snapshot: Snapshot) -> Window:
        """Return a window of a process without a state directory."""
        if is_of_history(name):
            raise StateError(
                f"a window of {name} needs the history, and this run is in memory only"
            )
        if name == "previous":
            raise StateError("there is no previous run: this one is kept in memory only")
        begins, before = self._origin
        if before is not None:
            snapshot = difference(snapshot, before)
        begins = begins or float(snapshot.workers[0].get("started") or now)
        release, is_whole = self._settings().release, before is None
        return Window(name, min(begins, now), now, "memory", release, snapshot, is_whole)

    def report(self, name: str = "1h") -> Report:
        """Return the document behind ``/perf/report``."""
        read = self.window(name)
        return printable(self._report(read, self.tries(read)))

    def _report(self, read: Window, tries: Tries | None) -> Report:
        now, failures = self._recorder.clock.wall(), dict(self._recorder.failures)
        return build_report(read, self._settings(), list(self._routes()), now, failures, tries)

    def compare(self, name: str = "24h", against: str = LAST_WEEK) -> ComparisonReport:
        """Return the document behind ``/perf/compare``.

        Args:
            name: the window.
            against: another window, ``last-week``, or a release.

        Raises:
            ConfigurationError: there is no such window.
            StateError: there is no such release, or no history.
            HistoryError: the history cannot be read.
        """
        now = self._recorder.clock.wall()
        past = None if self._in_memory() else self._history
        pair = read_pair(self.window(name), against, self.window, past, now)
        releases = [] if past is None else past.releases(now)
        return printable(compare_windows(pair, self._settings(), self._routes(), releases, now))

    def release_changes(self) -> ComparisonReport | None:
        """Return the changes of the present release.

        ``None`` where there is no earlier one, or where the history has no requests of it any more. At
        most a week of each is compared. The result is kept for a minute.

        Raises:
            HistoryError: the history cannot be read.
        """
        ns = self._recorder.clock.monotonic_ns()  # of a clock that is set back it lasts for hours
        if ns < self._changes[0]:
            return self._changes[1]
        now = self._recorder.clock.wall()
        document, served = None, self._two_releases(now)
        if served is not None:
            history, whole = served.history, served.whole
            read = (
                history.parts_of_meters(parts, now, whole, COMPARED_METERS)._replace(
                    release=release
                )
                for release, parts in served.releases
            )
            pair = Pair(next(read), next(read), served.hours)
            document = compare_windows(pair, self._settings(), self._routes(), (), now)
            if not any(row["count_before"] for row in document["rows"]):
                document = None
        self._changes = ns + _CHANGES_NS, None if document is None else printable(document)
        return self._changes[1]

    def _release_change(self, pair: tuple[str, str]) -> ReleaseChange | None:
        """Return the figures of an endpoint in the last two releases, ``None`` without them."""
        now = self._recorder.clock.wall()
        try:
            served = self._two_releases(now)
            if served is None:
                return None
            history, whole = served.history, served.whole
            read = (
                history.parts_of_endpoint(parts, now, whole, *pair)._replace(release=release)
                for release, parts in served.releases
            )
            releases = Pair(next(read), next(read), served.hours)
            return release_change(releases, self._settings(), self._routes(), pair)
        except HistoryError as error:
            log.debug("%s", error)  # the writer reports it
            return None

    def _two_releases(self, now: float) -> _Served | None:
        """Return the last week of the present release and of the one before, ``None`` without them."""
        release, history = self._settings().release, self._history
        if history is None or release is None or not self.has_history:
            return None
        earlier = [name for name in history.releases(now) if name != release]
        if not earlier:
            return None
        try:
            spans = [history.release(name, now) for name in (release, earlier[0])]
        except StateError:
            return None  # the start of this release is not written yet
        pair = same_hours(*(Span(max(since, until - _WEEK_S), until) for since, until in spans))
        releases = [(release, pair.now), (earlier[0], pair.before)]
        return _Served(history, self.window("run"), releases, pair.hours)

    def alerts(self, name: str = "24h") -> AlertsReport:
        """Return the document behind ``/perf/alerts``.

        Raises:
            ConfigurationError: there is no such window.
            StateError: there are no alerts.
            HistoryError: the history cannot be read.
        """
        if name not in ALERT_WINDOWS:
            raise ConfigurationError("window", name, f"must be one of {', '.join(ALERT_WINDOWS)}")
        now = self._recorder.clock.wall()
        return self._alert_jobs().report(now - LONG_SPANS[name], now)

    def firing(self) -> int | None:
        """Return the number of alerts that fire, ``None`` where that is unknown."""
        return None if self._alerts is None or self._in_memory() else self._alerts.firing()

    def rule(
        self, form: Mapping[str, str], channels: Sequence[str], test: str | None
    ) -> RulePreview:
        """Return a rule that is being written, and when it would have fired.

        Args:
            form: texts of its form (:mod:`..alerts.rule_forms`); ``edit`` takes those of a rule.
            channels: names of the channels that are chosen.
            test: a window to test it in, one of :data:`RULE_TESTS`; ``None`` for no test.

        Raises:
            ConfigurationError: there is no such metric, rule, or window.
            StateError: there are no alerts.
            HistoryError: the history cannot be used.
        """
        from ..alerts.rule_forms import form_of, known_texts, metric_of, new_form, values_of
        from ..alerts.rules import rule_of, sentence

        jobs, now = self._alert_jobs(), self._recorder.clock.wall()
        if test is not None and test not in RULE_TESTS:
            raise ConfigurationError("test", test, f"must be one of {', '.join(RULE_TESTS)}")
        if "edit" in form:
            known = jobs.rule(form["edit"])
            form, channels = form_of(known), known.channels
        elif "name" not in form:
            form = new_form(metric_of(form))
        document: RulePreview = {
            "schema": "flask-knitperf/rule/1", "metric": metric_of(form).value,
            "form": known_texts(form), "chosen": list(channels),
            "channels": list(self._settings().alert_channels),
            "endpoints": sorted({endpoint for endpoint, _, _ in self._routes()}),
            "saved": form.get("name") in jobs.names(), "condition": None, "error": None,
            "window": None, "fired": None,
        }  # fmt: skip
        try:
            rule = rule_of("rule", values_of({"name": "rule", **form}, channels))
        except ConfigurationError as error:
            document["error"] = str(error)
            return printable(document)
        document["condition"] = sentence(rule)
        if test is not None:
            since = now - LONG_SPANS[test]
            document["window"] = {"from": moment(since), "to": moment(now)}
            document["fired"] = jobs.fired(rule, since, now)
        return printable(document)

    def act_on_alerts(
        self, action: str, values: Mapping[str, str], channels: Sequence[str] = ()
    ) -> str:
        """Silence alerts, end a silence, queue a test message, or change a rule; return the action.

        Args:
            action: ``silence``, ``end-silence``, ``test``, ``save-rule``, ``remove-rule`` or
                ``switch-off``.
            values: of a silence ``rule``, ``subject``, ``for`` and ``reason``; of its end ``number``;
                of a rule the texts of its form, or its ``name``.
            channels: names of the channels of a rule.

        Raises:
            ConfigurationError: there is no such action, or a value cannot be used.
            StateError: there are no alerts.
            HistoryError: the history cannot be used.
        """
        jobs = self._alert_jobs()
        if action == "silence":
            length = values.get("for", "2h")
            if length not in SILENCE_S:
                raise ConfigurationError("for", length, f"must be one of {', '.join(SILENCE_S)}")
            reason = values.get("reason", "")[:200]
            jobs.silence(
                values.get("rule", ""), values.get("subject", ""), SILENCE_S[length], reason
            )
        elif action == "end-silence":
            number = values.get("number", "")
            if not (number.isascii() and number.isdigit() and jobs.end_silence(int(number[:15]))):
                raise ConfigurationError("number", number, "there is no such silence")
        elif action == "test":
            jobs.queue_test()
        else:
            self._change_rule(jobs, action, values, channels)
        return action

    def _change_rule(
        self, jobs: AlertJobs, action: str, values: Mapping[str, str], channels: Sequence[str]
    ) -> None:
        from ..alerts.rule_forms import values_of

        name = values.get("name", "")
        if name != printable(name):
            raise ConfigurationError("name", printable(name), "has characters that cannot be shown")
        if action == "save-rule":
            jobs.save_rule(values_of(values, channels))
        elif action == "switch-off":
            jobs.rule(name)
            jobs.save_rule({"name": name, "enabled": False})
        elif action == "remove-rule":
            if not jobs.remove_rule(name):
                raise ConfigurationError("name", name, "the page has not changed such a rule")
        else:
            raise ConfigurationError(
                "action", action,
                "must be silence, end-silence, test, save-rule, remove-rule or switch-off",
            )  # fmt: skip

    def _alert_jobs(self) -> AlertJobs:
        if self._alerts is None or self._in_memory():
            raise StateError("there are no alerts: this process keeps no history")
        return self._alerts

    def worst_finding(self, subject: str) -> str | None:
        """Return the most severe finding of the last hour in words, ``None`` without one.

        Args:
            subject: method and name of an endpoint, empty for all endpoints.
        """
        subject = printable(subject)  # as the report has it
        for finding in self.report()["bottlenecks"]:
            if subject in ("", f"{finding['method']} {finding['endpoint']}"):
                return finding["text"]
        return None

    def why(
        self, endpoint: str, method: str | None = None, name: str = "1h", other: str | None = None
    ) -> Opened:
        """Return the document of one endpoint and its sampled stacks (:mod:`..reports.endpoint`).

        Args:
            endpoint: its name.
            method: one method of it, ``None`` for the one that took most time.
            name: the window.
            other: a window to compare it with.

        Raises:
            ConfigurationError: there is no such window.
            KnitPerfError: nothing was measured of it.
        """
        read = self.window(name)
        tries = self.tries(read)
        report = self._report(read, tries)
        row = endpoint_row(report, endpoint, method)
        requests = self.requests(read, row["endpoint"])
        opened = build_endpoint_report(report, row, tries, requests)
        pair = row["endpoint"], row["method"]
        opened.document["timeline"] = self._timeline(*pair, read)
        opened.document["release_change"] = self._release_change(pair)
        if other is not None:
            before = self.window(other)
            tries = self.tries(before)
            opened = compare_endpoint(opened, self._report(before, tries), tries)
        return opened._replace(document=printable(opened.document))

    def _timeline(self, endpoint: str, method: str, read: Window) -> Timeline | None:
        """Return an endpoint over time, ``None`` where the history does not have it."""
        if self._history is None or not self.has_history or read.name == "previous":
            return None
        span, now = Span(read.begins, read.ends), self._recorder.clock.wall()
        try:
            of_all = is_of_history(read.name)
            return self._history.timeline(endpoint, method, span, now, of_all=of_all)
        except HistoryError as error:
            log.debug("%s", error)  # the writer reports it
            return None

    def charts(self, name: str = "1h", pairs: Sequence[tuple[str, str]] = ()) -> Charts:
        """Return the document behind ``/perf/charts``.

        Args:
            name: the window.
            pairs: endpoints, each with a method, whose trend is read.

        Raises:
            ConfigurationError: there is no such window.
            StateError: there is no history.
            HistoryError: the history cannot be read.
        """
        return self.charts_of(window_document(self.window(name)), pairs)

    def charts_of(self, shown: WindowDocument, pairs: Sequence[tuple[str, str]] = ()) -> Charts:
        """Return the document behind ``/perf/charts`` for the window of another document.

        Raises:
            StateError: there is no history.
            HistoryError: the history cannot be read.
        """
        if self._history is None or not self.has_history:
            raise StateError("charts need the history, and this process keeps none")
        now = self._recorder.clock.wall()
        since, until = (
            datetime.fromisoformat(text).timestamp() for text in (shown["from"], shown["to"])
        )
        of_all = is_of_history(shown["name"])
        parts = self._history.charts(Span(since, until), now, pairs, of_all=of_all)
        document: Charts = {
            "schema": "flask-knitperf/charts/1", "generated_at": moment(now), "window": shown,
            "slot_s": parts.slot_s, "points": parts.points, "deploys": parts.deploys,
            "heat": parts.heat, "saturation": parts.saturation, "trend_slot_s": parts.trend_slot_s,
            "endpoints": parts.endpoints,
        }  # fmt: skip
        return printable(document)

    def requests(
        self, read: Window, endpoint: str | None = None, name: str | None = None
    ) -> list[Exemplar] | None:
        """Return single requests that were kept in a window, ``None`` where none are.

        Args:
            read: the window.
            endpoint: return those of one endpoint only.
            name: return that one only.
        """
        if self._reservoir is None:
            return None
        run = self._recorder.worker.run
        self._reservoir.tick(at_once=self._in_memory())
        if run is None:
            return exemplars.select(
                self._reservoir.exemplars, read.since, read.until, endpoint, name
            )
        now = self._recorder.clock.wall()
        return read_requests(run.parent / read.run, read, now, endpoint, name)

    def request(self, name: str, window: str = "1h") -> tuple[RequestReport, Trie | None]:
        """Return the document of one request and its samples (:mod:`..reports.request`).

        Raises:
            KnitPerfError: it is not kept in this window.
        """
        read = self.window(window)
        exemplar = next(iter(self.requests(read, name=name) or ()), None)
        rows = [] if exemplar is None else [
            row for row in self._report(read, None)["endpoints"]
            if (row["endpoint"], row["method"]) == (exemplar.endpoint, exemplar.method)
        ]  # fmt: skip
        if exemplar is None or not rows:
            raise KnitPerfError(f"request {name!r} is not kept in this window")
        document, stacks = build_request_report(exemplar, rows[0])
        return printable(document), stacks

    def tries(self, read: Window) -> Tries | None:
        """Return the stacks that were sampled in a window, ``None`` where the sampler is off."""
        if self._details is None:
            return None
        run = self._recorder.worker.run
        if run is not None:
            run = run.parent / read.run
        return self._details.read(run, read.since, read.until, read.snapshot.degraded)

    def queries(self, name: str = "1h") -> QueriesReport:
        """Return the document behind ``/perf/queries``."""
        if self._in_memory():
            sqlalchemy.record_pools(self._recorder)
        now, routes = self._recorder.clock.wall(), list(self._routes())
        document = build_queries_report(self.window(name), self._settings(), routes, now)
        return printable(document)

    def cache(self, name: str = "1h") -> CacheReport:
        """Return the document behind ``/perf/cache``."""
        now = self._recorder.clock.wall()
        return printable(build_cache_report(self.window(name), self._settings(), now))

    def memory(self) -> MemoryReport:
        """Return the document behind ``/perf/memory``."""
        return printable(self._memory.report(self.window("run")))
