"""One application's measurements: its recorder, its settings, and the reports read from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import CodeType
from typing import Any

from ..analysis.single_requests import request
from ..caching.registry import Caches
from ..collectors.files.open_hook import OPEN_HOOK
from ..collectors.files.pandas_hook import PANDAS_HOOK
from ..collectors.requests.exemplar_reservoir import ExemplarReservoir
from ..collectors.requests.requests import RequestProfile, is_green
from ..collectors.sampler.sample_buffer import Samples
from ..collectors.sampler.sampler import Sampler
from ..collectors.sql import sqlalchemy
from ..collectors.sql.written_tables import TABLES
from ..core.errors import KnitPerfError, StateError
from ..core.settings import Settings
from ..metrics.catalogue import HEARTBEAT
from ..metrics.stack_trie import Trie, Tries
from ..recording.gc_pauses import WATCH
from ..recording.recorder import NO, PLAIN, Recorder
from ..reports.build import Route, render, render_queries
from ..reports.details import Details, read_requests
from ..reports.endpoint import Opened, against, why
from ..storage import exemplars
from ..storage.commands import Command, Inbox, send
from ..storage.commands import check as check_command
from ..storage.exemplars import Exemplar
from ..storage.runs import join, remove_old
from ..storage.snapshots import clear, difference, points, store
from ..storage.state_dir import Part, retire
from ..storage.windows import Window, check, window
from .memory_jobs import MemoryKeeping

_POINT_SECONDS = 10.0
_TIDY_SECONDS = 30.0


class Session:
    """Everything that belongs to one application object.

    Args:
        settings: the application's settings.
        about: what offline readers need to know, asked for when a process begins to record.
        routes: the application's ``(endpoint, rule, methods)``.
        budgets: thresholds that the code itself gives to endpoints.
        testing: whether to keep everything in memory and start no thread.
        caches: registered caches, where they were registered before there was an application.
        root_frames: code below which a stack is the server's.
        is_async: whether an endpoint's view runs in another thread.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        about: Callable[[], dict[str, Any]],
        routes: Callable[[], Iterable[Route]],
        budgets: Callable[[], Mapping[str, Mapping[str, float]]] = dict,
        testing: Callable[[], bool] = lambda: False,
        caches: Caches | None = None,
        root_frames: Iterable[CodeType] = (),
        is_async: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._settings = settings
        self._about = about
        self._routes = routes
        self._budgets = budgets
        self._testing = self._private = testing
        self.recorder = Recorder(
            self._locate, log_bytes=settings.log_bytes, threaded=lambda: not self._testing(),
            shared=lambda: None if self._private() else Path(settings.state_dir),
        )  # fmt: skip
        if not (settings.queries and settings.query_sites):
            self.recorder.asks = PLAIN if settings.queries else NO
        if settings.explain:
            self.recorder.explained_ns = round(settings.slow_query_ms * 1e6)
        self.profile = RequestProfile(
            self.recorder, round(settings.moderate_ms * 1e6), settings.cpu_sample,
            round(settings.cost_budget_us * 1e3),
        )  # fmt: skip
        self.reservoir: ExemplarReservoir | None = None
        if settings.request_details:
            self.reservoir = self.profile.reservoir = ExemplarReservoir(self.recorder)
        self.caches = Caches() if caches is None else caches
        self.keeping = MemoryKeeping(self.recorder, self.profile, self.caches, settings)
        self.samples = Samples(lambda endpoint: self.settings.budget(endpoint).moderate_ms * 1e6)
        self.details = Details(self.recorder, self.samples)
        self.sampler: Sampler | None = None
        if settings.sampler:
            self.sampler = Sampler(
                self.recorder, self.samples, root_frames=root_frames, is_async=is_async
            )
            self.recorder.background_threads.append(self.sampler)
        self.listeners: list[Any] = []
        self._inbox: Inbox | None = None
        self._origin: tuple[float, Part | None] = (0.0, None)
        self._keep_house()

    @property
    def settings(self) -> Settings:
        """The settings, with the thresholds that decorators gave to endpoints."""
        return self._settings.with_budgets(self._budgets())

    def stay_in_memory(self) -> None:
        """Write no file and start no thread from now on (a command line is never a worker)."""
        self.close()
        self._testing = lambda: True

    def _locate(self) -> tuple[Path | None, dict[str, Any]]:
        WATCH.hold()
        if self._settings.file_reads:
            PANDAS_HOOK.acquire()
            OPEN_HOOK.acquire(self._settings.opened_files)
        self.profile.cpu_known = not is_green()
        if self.sampler is not None and is_green():
            self.sampler.degraded = (
                "stacks are not sampled: threads here are gevent's or eventlet's"
            )
        recorder = self.recorder
        if self._testing():
            return None, {"host": "", "pid": recorder.clock.pid(), "started": recorder.clock.wall()}
        state, release = Path(self._settings.state_dir), self._settings.release
        return join(state, release, self._about(), recorder.clock, recorder.disk)

    def _keep_house(self) -> None:
        every = self.recorder.every
        every(0.5, self.profile.watch)
        every(1.0, self.beat)
        every(0.5, self.process_commands)
        every(1.0, PANDAS_HOOK.install_if_imported)
        every(self._settings.fold_interval_s, self.fold)
        for seconds, job in self.keeping.jobs():
            every(seconds, job)
        every(5.0, self.profile.account)
        if self._settings.queries:
            every(5.0, self.pools)
            every(1.0, self.enable_table_tracking)
            self.enable_table_tracking()
        if self.reservoir is not None:
            every(1.0, self.reservoir.turn)
            every(_TIDY_SECONDS, self.tidy)
        if self.sampler is not None:
            every(1.0, self.details.turn)

    # -- jobs --------------------------------------------------------------------------------------

    def enable_table_tracking(self) -> None:
        """Publish written tables as soon as a process subscribes (:mod:`..storage.versions`)."""
        versions = self.recorder.versions
        if versions.subscribed and versions not in TABLES:
            TABLES.tell(versions)
            sqlalchemy.watch_tables()

    def pools(self) -> None:
        """Record how the pools of this worker's engines are."""
        sqlalchemy.look(self.recorder)

    def beat(self) -> None:
        """Say that this worker lives, have the next log ready, take in dead workers."""
        recorder, worker = self.recorder, self.recorder.worker
        if self._gone():
            return
        recorder.record((recorder.series(HEARTBEAT), recorder.clock.wall()))
        if self.sampler is not None and self.sampler.degraded:
            worker.degraded["sampler"] = self.sampler.degraded
        worker.prepare_spare()
        worker.publish()
        if worker.run is not None:
            retire(worker.run, recorder.disk)

    def tidy(self) -> None:
        """Put what workers that are gone kept of single requests together."""
        run = self.recorder.worker.run
        if run is not None:
            exemplars.merge_ended(run, self.recorder.clock.wall(), self.recorder.disk)

    def _gone(self) -> bool:
        """Return whether this worker's files were removed; then the next request begins anew."""
        worker = self.recorder.worker
        if not worker.lost():
            return False
        reason = f"what lay in {worker.run} was removed; beginning anew"
        self.recorder.failed("state directory", StateError(reason))
        self.close()
        return True

    def process_commands(self) -> None:
        """Do what people asked all workers to do."""
        worker = self.recorder.worker
        if worker.run is None:
            return
        if self._inbox is None or self._inbox.worker != worker.name:
            do = {
                "collect": self._collect, "clear": self._clear, "sample": self._sample,
                "frames": self._frames,
            }  # fmt: skip
            self._inbox = Inbox(worker.run, worker.name, do, worker.commands_from)
        self._inbox.turn()

    def _collect(self, _: Command) -> None:
        self.keeping.collector.collect("asked for")

    def _frames(self, _: Command) -> None:
        self.keeping.list_frames()

    def _sample(self, _: Command) -> None:
        if self.sampler is None:
            raise KnitPerfError("stacks are not sampled here; see KNITPERF_SAMPLER")
        self.sampler.faster()

    def _clear(self, command: Command) -> None:
        run = self.recorder.worker.run
        if run is not None:
            snapshot = self.recorder.snapshot()
            clear(run, command.id, snapshot, command.at, self.recorder.disk)

    def ask(self, name: str) -> Command | None:
        """Ask all workers to do something; without a state directory it is done here and now.

        Raises:
            KnitPerfError: there is no such command.
            StateError: it cannot be written down.
        """
        run = self.recorder.worker.run
        now = self.recorder.clock.wall()
        if run is not None:
            return send(run, name, now)
        command = check_command(name, now)
        here = {"collect": self._collect, "sample": self._sample, "frames": self._frames}
        if name in here:
            here[name](command)
        else:
            taken = self.recorder.snapshot()
            self._origin = now, (taken.about, taken.columns)
        return None

    def fold(self) -> None:
        """Fold this worker's logs if it is worth it; keep a snapshot for windows when it is time."""
        recorder, worker = self.recorder, self.recorder.worker
        if worker.due():
            worker.fold()
        run = worker.run
        if run is None:
            return
        kept = points(run)
        now = recorder.clock.wall()
        if not kept or now - kept[-1][0] >= _POINT_SECONDS or kept[-1][0] > now + 1:
            store(run, recorder.snapshot(), now, recorder.disk)
            remove_old(run.parent, self._settings.runs_kept, recorder.disk)

    # -- reading -------------------------------------------------------------------------------------

    @property
    def routes(self) -> list[Route]:
        """The application's ``(endpoint, rule, methods)``."""
        return list(self._routes())

    def window(self, name: str = "1h") -> Window:
        """Read one window of all workers.

        Raises:
            ConfigurationError: there is no such window.
            StateError: there is no previous run.
        """
        check(name)
        now = self.recorder.clock.wall()
        run = self.recorder.worker.run
        snapshot = self.recorder.snapshot()
        if run is None:
            if name == "previous":
                raise StateError("there is no previous run: this one is kept in memory only")
            began, before = self._origin
            kept = snapshot if before is None else difference(snapshot, before)
            began = began or float(snapshot.workers[0].get("started") or now)
            return Window(name, began, now, "memory", self._settings.release, kept)
        return window(run, name, now, snapshot)

    def report(self, name: str = "1h") -> dict[str, Any]:
        """Return the report of a window; see ``/perf/report``."""
        found = self.window(name)
        return self._rendered(found, self.tries(found))

    def _rendered(self, found: Window, tries: Tries | None) -> dict[str, Any]:
        return render(found, self.settings, list(self._routes()), self.recorder.clock.wall(),
                      dict(self.recorder.failures), tries)  # fmt: skip

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
        found = self.window(name)
        tries, requests = self.tries(found), self.requests(found, endpoint)
        opened = why(self._rendered(found, tries), tries, requests, endpoint, method)
        if other is None:
            return opened
        before = self.window(other)
        tries = self.tries(before)
        return against(opened, self._rendered(before, tries), tries)

    def requests(
        self, found: Window, endpoint: str | None = None, name: str | None = None
    ) -> list[Exemplar] | None:
        """Return single requests that were kept in a window, ``None`` where none are.

        Args:
            found: the window.
            endpoint: return those of one endpoint only.
            name: return that one only.
        """
        if self.reservoir is None:
            return None
        run = self.recorder.worker.run
        self.reservoir.turn(at_once=self._testing())
        if run is None:
            return exemplars.select(self.reservoir.held, found.begins, found.ends, endpoint, name)
        now = self.recorder.clock.wall()
        return read_requests(run.parent / found.run, found, now, endpoint, name)

    def request(self, name: str, window: str = "1h") -> tuple[dict[str, Any], Trie | None]:
        """Return the document of one request and its samples (:mod:`..analysis.single_requests`).

        Raises:
            KnitPerfError: it is not kept, or no more.
        """
        found = self.window(window)
        each = next(iter(self.requests(found, name=name) or ()), None)
        rows = [] if each is None else [
            row for row in self._rendered(found, None)["endpoints"]
            if (row["endpoint"], row["method"]) == (each.endpoint, each.method)
        ]  # fmt: skip
        if each is None or not rows:
            raise KnitPerfError(f"request {name!r} is not kept in this window")
        return request(each, rows[0])

    def tries(self, found: Window) -> Tries | None:
        """Return the stacks that were sampled in a window, ``None`` where nobody sampled."""
        if self.sampler is None:
            return None
        run = self.recorder.worker.run
        if run is not None:
            run = run.parent / found.run
        return self.details.read(run, found.begins, found.ends, found.snapshot.degraded)

    def queries(self, name: str = "1h") -> dict[str, Any]:
        """Return what databases were asked in a window; see ``/perf/queries``."""
        if self._testing():
            self.pools()
        now = self.recorder.clock.wall()
        return render_queries(self.window(name), self.settings, list(self._routes()), now)

    def memory(self) -> dict[str, Any]:
        """Return what is behind ``/perf/memory``."""
        return self.keeping.report(self.window("run"))

    def close(self) -> None:
        """Stop recording in this process."""
        self.details.close()
        if self.recorder.begun:
            if self.reservoir is not None:
                self.reservoir.turn(at_once=True)
            WATCH.let_go()
            if self._settings.file_reads:
                PANDAS_HOOK.release()
                OPEN_HOOK.release(self._settings.opened_files)
        self.recorder.close()
