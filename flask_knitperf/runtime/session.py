"""One application's measurements: its recorder, its collectors, and the jobs that keep them in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any

from ..caching.registry import Caches
from ..collectors import sql
from ..collectors.files.open_hook import OPEN_HOOK
from ..collectors.files.pandas_hook import PANDAS_HOOK
from ..collectors.requests.exemplar_reservoir import ExemplarReservoir
from ..collectors.requests.green_threads import is_green
from ..collectors.requests.load import IdleDetector
from ..collectors.requests.requests import RequestProfile
from ..collectors.sampler.sample_buffer import SampleBuffer
from ..collectors.waits.hooks import WAIT_HOOKS
from ..core.settings import PREFIX, Settings
from ..recording.gc_pauses import WATCH
from ..recording.recorder import Located, QueryTracking, Recorder
from ..reports.details import Details
from ..storage.revocations import Revocations
from ..storage.runs import attach, join, prepare
from ..storage.shared_secret import SharedSecret
from .alert_jobs import AlertJobs
from .commands import WorkerCommands
from .history_jobs import HistoryJobs
from .live_jobs import LiveJobs
from .memory_jobs import MemoryJobs
from .recording_jobs import RecordingJobs
from .what_if_jobs import WhatIfJobs

if TYPE_CHECKING:
    from ..caching.load_reads import ReadObserver
    from ..caching.observed import ObservedCache, PolledCache
    from ..caching.publication import CachePublisher
    from ..caching.read_cache import ReadCache
    from ..caching.region import Region
    from ..caching.server.level import ServerLevel
    from ..caching.size_simulation import SizeSimulation
    from ..caching.store import Store
    from ..caching.warming import Warmer
    from ..collectors.sampler.sampler import Sampler
    from ..reports.build import Route
    from .documents import Documents
    from .warming_jobs import WarmingJobs

# what offline reports need, which are made without the application
_OFFLINE_SETTINGS = (
    "slow_ms", "moderate_ms", "min_success_rate", "variance_ratio", "target_p95_ms",
    "target_memory_mb", "gc_threshold_mb", "large_response_kb", "slow_query_ms",
    "sampler", "reuse_reads", "cache_stale_budget",
)  # fmt: skip


PUBLISH_INTERVAL_S = 1.0
"""Seconds between two publications of the counts of the cache."""


class Session:
    """Everything that belongs to one application object.

    Attributes:
        recorder: where all collectors write.
        profile: the requests.
        reservoir: single requests, ``None`` where they are not kept.
        caches: registered caches.
        samples: sampled stacks of this process.
        details: stores sampled stacks for all workers.
        sampler: ``None`` where it is switched off.
        memory_jobs: housekeeping of memory.
        jobs: housekeeping of the measurements.
        commands: commands to all workers.
        alerts: rules over the history, ``None`` where they are switched off.
        history: housekeeping of the history, ``None`` where that is switched off.
        live: figures of the last seconds, for pages that are open.
        application: returns the WSGI application, ``None`` once it was deleted.
        secret: random bytes that all workers share.
        revocations: links that were used, and sessions that signed out.
        read_cache: cache of what pandas reads, ``None`` unless the application reuses reads.
        cache_publisher: publishes the counts of the cache, ``None`` where none is used.
        cache_server: the server by which hosts share cached values, ``None`` without one.
        what_if: watches profiled functions as if they were cached, ``None`` where none are.
        warming: warms the cache, ``None`` where none is used or that is switched off.
        listeners: signal receivers, which live as long as the session (signals hold them weakly).

    Args:
        settings: the application's settings.
        name: the application's name.
        routes: returns the application's ``(endpoint, rule, methods)``.
        application: returns the WSGI application while it exists.
        budgets: returns the thresholds that the code itself gives to endpoints.
        testing: returns whether to keep everything in memory and start no thread.
        caches: registered caches, where they were registered before there was an application.
        root_frames: code below which a stack is the server's.
        is_async: returns whether the view of an endpoint runs in another thread.
        is_websocket: returns whether an endpoint has a rule with ``websocket=True``.
        secret_key: returns the key with which the application signs, empty without one.
        observer: creates an observer of the reads of request data, for functions that are watched as if
            they were cached; ``None`` to watch none.

    Raises:
        ConfigurationError: ``KNITPERF_CACHE_URL`` is set, and its client is not installed.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        name: str,
        routes: Callable[[], Iterable[Route]],
        application: Callable[[], Any] = lambda: None,
        budgets: Callable[[], Mapping[str, Mapping[str, float]]] = dict,
        testing: Callable[[], bool] = lambda: False,
        caches: Caches | None = None,
        root_frames: Iterable[CodeType] = (),
        is_async: Callable[[str], bool] = lambda _: False,
        is_websocket: Callable[[str], bool] = lambda _: False,
        secret_key: Callable[[], bytes] = bytes,
        observer: Callable[[], ReadObserver] | None = None,
    ) -> None:
        self._settings = settings
        self.name = name
        self.application = application
        self._routes = routes
        self._budgets = budgets
        self._testing = self._is_private = testing
        self.recorder = self._new_recorder()
        self.profile = RequestProfile(
            self.recorder, round(settings.moderate_ms * 1e6), settings.cpu_sample,
            round(settings.cost_budget_us * 1e3), is_websocket, settings.long_polls,
        )  # fmt: skip
        self.reservoir = ExemplarReservoir(self.recorder) if settings.request_details else None
        self.profile.reservoir = self.reservoir
        self.caches = Caches() if caches is None else caches
        self.memory_jobs = MemoryJobs(self.recorder, self.profile, self.caches, settings)
        self.samples = SampleBuffer(
            lambda endpoint: self.settings.budget(endpoint).moderate_ms * 1e6
        )
        self.details = Details(self.recorder, self.samples)
        self.sampler = self._new_sampler(root_frames, is_async) if settings.sampler else None
        self.jobs = RecordingJobs(
            self.recorder, settings, self.profile, self.details,
            close=self.close, attach=self._attach, reservoir=self.reservoir, sampler=self.sampler,
        )  # fmt: skip
        self.commands = WorkerCommands(
            self.recorder, self.memory_jobs, self._start_over, self.sampler, lambda: self.warming
        )
        self.alerts = self._new_alerts() if settings.history and settings.alerts else None
        self.history = (
            HistoryJobs(self.recorder, settings, self.alerts) if settings.history else None
        )
        self.live = LiveJobs(self.recorder, self._firing, settings.release)
        self.secret = SharedSecret(self.private_folder, self.recorder.disk)
        self.revocations = Revocations(self.private_folder, self.recorder.disk)
        self.listeners: list[Any] = []
        self.read_cache: ReadCache | None = None
        self.cache_publisher: CachePublisher | None = None
        self.cache_server: ServerLevel | None = None
        if settings.enabled and settings.cache_url is not None:
            self.cache_server = self._new_cache_server(settings.cache_url, secret_key)
        self.what_if: WhatIfJobs | None = None
        if observer is not None and settings.cache_whatif:
            self.what_if = WhatIfJobs(self.recorder, settings.cache_whatif_share, observer)
            self.recorder.call_watches = self.what_if
        self.warming: WarmingJobs | None = None
        self._schedule_jobs()

    def _new_recorder(self) -> Recorder:
        settings = self._settings
        recorder = Recorder(
            self._locate, log_bytes=settings.log_bytes, threaded=lambda: not self.in_memory(),
            shared=lambda: None if self._is_private() else Path(settings.state_dir),
            attach=self._attach, started=self._start_hooks, ended=self._stop_hooks,
        )  # fmt: skip
        if not (settings.queries and settings.query_sites):
            recorder.query_tracking = QueryTracking.COUNT if settings.queries else QueryTracking.OFF
        if settings.explain:
            recorder.explain_above_ns = round(settings.slow_query_ms * 1e6)
        return recorder

    def _new_sampler(
        self, root_frames: Iterable[CodeType], is_async: Callable[[str], bool]
    ) -> Sampler:
        from ..collectors.sampler.sampler import Sampler  # on Python 3.11 it is off

        sampler = Sampler(self.recorder, self.samples, root_frames=root_frames, is_async=is_async)
        self.recorder.background_threads.append(sampler)
        return sampler

    def _new_cache_server(self, url: str, secret_key: Callable[[], bytes]) -> ServerLevel:
        from ..caching.server.connection import load_client
        from ..caching.server.level import Budget, ServerLevel

        load_client()
        settings, versions = self._settings, self.recorder.versions
        own = (settings.cache_secret or "").encode()
        server = ServerLevel(
            url, Budget(
                settings.cache_timeout_ms / 1000, settings.cache_stale_seconds,
                round(settings.cache_server_max_kb * 1024),
            ),
            secret=lambda: own or secret_key(), versions=versions, is_off=self._is_private,
            state_dir=self.recorder.state_dir, disk=self.recorder.disk, failed=self.recorder.failed,
        )  # fmt: skip
        versions.other_hosts = server
        sql.track_tables(versions)  # from the first statement on: other hosts cache already
        return server

    def _new_alerts(self) -> AlertJobs:
        return AlertJobs(
            self.name, lambda: self.settings, self._worst_finding, self.recorder.failed,
            self.recorder.clock,
        )  # fmt: skip

    def _worst_finding(self, subject: str) -> str | None:
        return self.documents.worst_finding(subject)

    def _firing(self) -> int | None:
        return self.documents.firing()

    def _schedule_jobs(self) -> None:
        jobs = [
            *self.jobs.schedule(), (0.5, self.commands.process), *self.memory_jobs.schedule()
        ]  # fmt: skip
        if self.history is not None:
            jobs += self.history.schedule()
        jobs += self.live.schedule()
        # what other processes request, and the interval that the application chose
        prompt = (
            self.commands.process, self.jobs.enable_table_tracking, self.caches.expire, self.live.tick,
        )  # fmt: skip
        for seconds, job in jobs:
            self.recorder.every(seconds, job, prompt=job in prompt)
        for seconds, job in self.jobs.schedule_attached():
            self.recorder.every(seconds, job, attached=True, prompt=job in prompt)
        self.recorder.is_idle = IdleDetector(self.recorder, lambda: self.profile.requests_started)
        if self._settings.queries:
            self.jobs.enable_table_tracking()

    @property
    def settings(self) -> Settings:
        """The settings, with the thresholds that decorators gave to endpoints."""
        return self._settings.with_budgets(self._budgets())

    @property
    def routes(self) -> list[Route]:
        """The application's ``(endpoint, rule, methods)``."""
        return list(self._routes())

    def paths_without_parameters(self) -> list[str]:
        """Return the rules that a ``GET`` without parameters reaches, in order."""
        return sorted({rule for _, rule, methods in self._routes()
                       if "GET" in methods and "<" not in rule})  # fmt: skip

    def stay_in_memory(self) -> None:
        """Write no file and start no thread from now on (a command line is never a worker)."""
        self.close()
        self._testing = lambda: True

    def in_memory(self) -> bool:
        """Return whether this process writes no file and starts no thread."""
        return self._testing()

    def private_folder(self) -> Path | None:
        """Return the state directory, created if it is missing; ``None`` to keep all in memory.

        Raises:
            StateError: it cannot be used.
        """
        if self._is_private():
            return None
        folder = Path(self._settings.state_dir)
        prepare(folder)
        return folder

    def publish_cache(
        self, regions: Callable[[], Iterable[Region]], store: Store,
        observed: Callable[[], Iterable[ObservedCache | PolledCache]],
        sizes: SizeSimulation | None = None,
    ) -> None:  # fmt: skip
        """Publish the counts of a cache from now on. There is one cache for an application.

        Args:
            regions: returns the regions of the cache.
            store: keeps their entries.
            observed: returns the observed caches of the application itself.
            sizes: simulates smaller and larger caches.
        """
        if self.cache_publisher is None:
            from ..caching.publication import CachePublisher

            self.cache_publisher = CachePublisher(
                self.recorder, regions, store, observed, sizes, self.cache_server
            )
            self.recorder.every(PUBLISH_INTERVAL_S, self.cache_publisher.tick, attached=True)

    def warm_cache(self, warmer: Warmer) -> None:
        """Warm a cache from now on, unless that is switched off.

        Args:
            warmer: of the cache.
        """
        seconds = self._settings.cache_warm_seconds
        if self.warming is None and seconds:
            from .warming_jobs import WarmingJobs

            self.warming = WarmingJobs(
                self.recorder, warmer, seconds, lambda: self.profile.requests_started
            )
            self.recorder.background_threads.append(self.warming)
            for interval, job in self.warming.schedule():
                self.recorder.every(interval, job)

    def close(self) -> None:
        """Stop recording in this process. A later request begins to record again."""
        self.details.close()
        if self.recorder.has_worker:
            self._publish_rest()
            if self.reservoir is not None:
                self.reservoir.tick(at_once=True)
        if self.warming is not None:
            self.warming.stop()
        self.recorder.close()
        if self.cache_server is not None:
            self.cache_server.close()
        if self.history is not None:
            self.history.close()

    def _publish_rest(self) -> None:
        """Publish what caches, and functions as if they were cached, have counted since then."""
        try:
            self._publish_counts()
        except Exception as error:
            self.recorder.failed("counts of the cache", error)
        if self.warming is not None and self.recorder.serving:
            try:
                self.warming.save()
            except Exception as error:
                self.recorder.failed("record of the cache", error)

    def _publish_counts(self) -> None:
        for publisher in (self.cache_publisher, self.what_if):
            if publisher is not None:
                publisher.publish()

    def abandon(self) -> bool:
        """Have the housekeeper close this session soon; return ``False`` if there is none.

        Called while garbage is collected, at any place of any thread: it takes no lock.
        """
        return self.recorder.end_housekeeper(self.close)

    def _start_over(self) -> None:
        self.documents.start_over()

    @cached_property
    def documents(self) -> Documents:
        """The reports of all workers; a worker that shows none does not import what builds them."""
        from .documents import Documents

        return Documents(
            self.recorder, self.memory_jobs, self.details if self.sampler else None, self.reservoir,
            settings=lambda: self.settings, routes=self._routes, in_memory=self.in_memory,
            publish=self._publish_counts, history=self.history, alerts=self.alerts,
        )  # fmt: skip

    def _start_hooks(self) -> None:
        """Start the hooks of this process: it begins to record."""
        WATCH.hold()
        WAIT_HOOKS.acquire()
        if self.read_cache is not None:
            PANDAS_HOOK.reuse(self.read_cache)
        if self._settings.file_reads:
            PANDAS_HOOK.acquire()
            OPEN_HOOK.acquire(self._settings.opened_files)
        self.profile.cpu_known = not is_green()
        if self.sampler is not None and is_green():
            self.sampler.degraded = (
                "stacks are not sampled: threads here are gevent's or eventlet's"
            )

    def _stop_hooks(self) -> None:
        """Undo one :meth:`_start_hooks`."""
        WATCH.let_go()
        WAIT_HOOKS.release()
        if self.read_cache is not None:
            PANDAS_HOOK.release_reuse(self.read_cache)
        if self._settings.file_reads:
            PANDAS_HOOK.release()
            OPEN_HOOK.release(self._settings.opened_files)

    def _locate(self) -> Located:
        """Return the run's directory and this worker's identity."""
        recorder = self.recorder
        if self._testing():
            return self._in_memory_identity()
        state, release = Path(self._settings.state_dir), self._settings.release
        return join(state, release, self._description(), recorder.clock, recorder.disk)

    def _attach(self) -> Located:
        """Return the newest run with a live server, and the identity of an attached process."""
        if self._testing():
            return self._in_memory_identity()
        return attach(Path(self._settings.state_dir), self.recorder.clock)

    def _in_memory_identity(self) -> Located:
        clock = self.recorder.clock
        return None, {"host": "", "pid": clock.pid(), "started": clock.wall()}

    def _description(self) -> dict[str, Any]:
        """Return the description of the application that offline readers find beside its data."""
        settings = self.settings
        values = {f"{PREFIX}{name.upper()}": getattr(settings, name) for name in _OFFLINE_SETTINGS}
        endpoints = {name: dict(budget) for name, budget in settings.endpoints.items()}
        values[f"{PREFIX}ENDPOINTS"] = endpoints
        return {"app": self.name, "routes": self.routes, "settings": values}
