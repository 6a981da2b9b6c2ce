"""One application's measurements: its recorder, its settings, and the reports read from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..analysis import memory as memory_of
from ..analysis import report as report_of
from ..core.gcwatch import WATCH
from ..core.meters import Key
from ..core.recorder import HEARTBEAT, Recorder
from ..core.runs import join
from ..core.settings import Settings
from ..core.state import Snapshot, forget, mark, points, retire
from ..core.windows import Window, check, window
from ..memory.process import Collector, machine
from ..profiling.caches import Caches
from ..profiling.requests import RequestProfile

Route = tuple[str, str, tuple[str, ...]]
_POINT_SECONDS = 10.0


class Session:
    """Everything that belongs to one application object.

    Args:
        settings: the application's settings.
        about: what offline readers need to know, asked for when a process begins to record.
        routes: the application's ``(endpoint, rule, methods)``.
        testing: keep everything in memory and start no thread.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        about: Callable[[], dict[str, Any]],
        routes: Callable[[], Iterable[Route]],
        testing: bool = False,
    ) -> None:
        self.settings = settings
        self._about = about
        self._routes = routes
        self._testing = testing
        self.recorder = Recorder(
            self._locate, log_bytes=settings.log_bytes, threaded=not testing
        )
        self.profile = RequestProfile(
            self.recorder, round(settings.moderate_ms * 1e6), settings.cpu_sample
        )
        self.caches = Caches()
        self.collector = Collector(
            self.recorder, round(settings.gc_threshold_mb * 1e6), settings.gc_min_interval_s
        )
        self._keep_house()

    def _locate(self) -> tuple[Path | None, dict[str, Any]]:
        WATCH.hold()
        recorder = self.recorder
        if self._testing:
            return None, {"host": "", "pid": recorder.clock.pid(), "started": recorder.clock.wall()}
        state, release = Path(self.settings.state_dir), self.settings.release
        return join(state, release, self._about(), recorder.clock, recorder.disk)

    def _keep_house(self) -> None:
        every = self.recorder.every
        every(0.5, self.profile.watch)
        every(1.0, self.beat)
        every(1.0, self.collector.tend)
        every(self.settings.fold_interval_s, self.fold)
        every(5.0, self.collector.gauges)
        every(self.settings.cleanup_interval_s, self.caches.expire)

    # -- jobs --------------------------------------------------------------------------------------

    def beat(self) -> None:
        """Say that this worker lives, have the next log ready, take in dead workers."""
        recorder, worker = self.recorder, self.recorder.worker
        recorder.record((recorder.series(HEARTBEAT), recorder.clock.wall()))
        worker.prepare_spare()
        worker.publish()
        if worker.run is not None:
            retire(worker.run, recorder.disk)

    def fold(self) -> None:
        """Fold this worker's logs; keep a snapshot for windows when it is time."""
        recorder, worker = self.recorder, self.recorder.worker
        worker.fold()
        run = worker.run
        if run is None:
            return
        kept = points(run)
        now = recorder.clock.wall()
        if not kept or now - kept[-1][0] >= _POINT_SECONDS or kept[-1][0] > now + 1:
            mark(run, recorder.snapshot().table, now, recorder.disk)
            forget(run.parent, self.settings.runs_kept, recorder.disk)

    # -- reading -------------------------------------------------------------------------------------

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
            return Window(name, 0.0, now, "memory", self.settings.release, snapshot)
        return window(run, name, now, snapshot)

    def report(self, name: str = "1h") -> dict[str, Any]:
        """Return the report of a window; see ``/perf/report``."""
        return render(self.window(name), self.settings, list(self._routes()),
                      self.recorder.clock.wall(), self.recorder.failures)  # fmt: skip

    def memory(self) -> dict[str, Any]:
        """Return what is behind ``/perf/memory``."""
        found = self.window("run")
        return render_memory(
            found, self.settings, self.recorder.clock.wall(), self.caches.statistics()
        )

    def close(self) -> None:
        """Stop recording in this process."""
        if self.recorder.begun:
            WATCH.let_go()
        self.recorder.close()


def render(
    found: Window,
    settings: Settings,
    routes: list[Route],
    now: float,
    failures: dict[str, int] | None = None,
) -> dict[str, Any]:
    """Return the report of a window that was read."""
    snapshot = found.snapshot
    degraded = list(snapshot.degraded)
    degraded += [f"{part} failed {count} times" for part, count in (failures or {}).items()]
    dropped: dict[str, int] = {}
    for worker in snapshot.workers:
        for what, count in worker.get("dropped", {}).items():
            dropped[what] = dropped.get(what, 0) + count
    if snapshot.table.torn:
        dropped["torn"] = snapshot.table.torn
    return report_of.report(
        snapshot.table, settings, routes=routes, workers=_workers(snapshot),
        window={"from": found.begins, "to": found.ends, "run": found.run, "release": found.release},
        now=now, self_={"us_per_request": None, "dropped": dropped, "degraded": degraded},
    )  # fmt: skip


def _workers(snapshot: Snapshot) -> list[dict[str, Any]]:
    names = ("host", "pid", "started", "alive")
    return [
        {**{name: worker.get(name) for name in names}, "busy_share": None}
        for worker in snapshot.workers
    ]


def gauge(snapshot: Snapshot, meter: str, worker: str) -> float | None:
    """Return one worker's last value of a gauge without labels."""
    series = snapshot.table.series.get(Key(meter, ()))
    return None if series is None else series.gauge.get(worker)


def render_memory(
    found: Window, settings: Settings, now: float, caches: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return the memory report of a window that was read."""
    snapshot = found.snapshot
    alive = [worker for worker in snapshot.workers if worker.get("alive")]
    sizes = {
        meter: {
            worker["worker"]: value
            for worker in alive
            if (value := gauge(snapshot, meter, worker["worker"])) is not None
        }
        for meter in ("rss_bytes", "pss_bytes", "peak_bytes")
    }
    had = machine()
    document = memory_of.memory(
        sizes["rss_bytes"],
        threshold_mb=settings.gc_threshold_mb,
        pss_bytes=sizes["pss_bytes"],
        total_bytes=had["total"],
        available_bytes=had["available"],
        cgroup_limit_bytes=had["cgroup_limit"],
    )
    for row in document["workers"]:
        size = sizes["peak_bytes"].get(row["worker"])
        row["peak_mb"] = None if size is None else round(size / 1e6, 1)
    notes = [n for n in snapshot.table.evidence.values() if n["kind"] == "collection"]
    return {
        "schema": "flask-knitperf/memory/1",
        "generated_at": datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"),
        **document,
        "percent": had["percent"],
        "gc": [
            {"generation": int(key.labels[0]), "collections": series.data.count,
             "pause_ms": round(series.data.total / 1e6, 3)}
            for key, series in sorted(snapshot.table.series.items())
            if key.meter == "gc_pause"
        ],
        "housekeeper": [_collection(n) for n in sorted(notes, key=lambda n: -n["weight"])],
        "caches": caches,
        "degraded": list(snapshot.degraded),
    }  # fmt: skip


def _collection(note: dict[str, Any]) -> dict[str, Any]:
    detail = note["detail"]
    return {
        "at": datetime.fromtimestamp(note["weight"], UTC).isoformat(timespec="seconds"),
        "worker": note["key"].split(" ")[0],
        "before_mb": round(detail["before"] / 1e6, 1),
        "after_mb": round(detail["after"] / 1e6, 1),
        "objects": detail["objects"],
        "pause_ms": round(detail["pause_ns"] / 1e6, 3),
        "next_in_seconds": detail["next_in_seconds"],
        "why": detail["why"],
    }
