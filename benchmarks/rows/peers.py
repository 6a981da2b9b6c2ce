"""CPU time that other tools add to the same request, side by side with the extension.

Peers start threads and change libraries, so each has a process to itself. There a bare application,
ours and the peer's take turns in blocks; the figure is the time that the peer adds to bare, and its
multiple of the time that the extension adds. Peers come from PyPI by the extra ``peers``; a note names
those that are not installed. They serve other purposes: the figures are an operator's costs, not a
ranking.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from ..harness.apps import small
from ..harness.blocks import BARE, differences, measure
from ..harness.outcome import Grid, Outcome, Spread
from ..harness.wsgi import Get

FULL = "knitperf, everything on"
_REFERENCES: list[object] = []
"""Objects to which a peer holds only weak references."""


def _exporter(app: Any, folder: Path) -> None:
    from prometheus_client import CollectorRegistry
    from prometheus_flask_exporter import PrometheusMetrics

    PrometheusMetrics(app, registry=CollectorRegistry())


def _exporter_of_many(app: Any, folder: Path) -> None:
    import os

    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)  # before prometheus_client is imported
    from prometheus_client import CollectorRegistry
    from prometheus_flask_exporter.multiprocess import GunicornInternalPrometheusMetrics

    GunicornInternalPrometheusMetrics(app, registry=CollectorRegistry())


def _toolbar(app: Any, folder: Path) -> None:
    from flask_debugtoolbar import DebugToolbarExtension

    app.config.update(SECRET_KEY="benchmark", DEBUG_TB_ENABLED=True)
    DebugToolbarExtension(app)


def _pyinstrument(app: Any, folder: Path) -> None:
    from flask import g
    from pyinstrument import Profiler

    def begin() -> None:
        g.profiler = Profiler()
        g.profiler.start()

    def end(response: Any) -> Any:
        g.profiler.stop()
        return response

    app.before_request(begin)
    app.after_request(end)


def _elastic(app: Any, folder: Path) -> None:
    from elasticapm.contrib.flask import ElasticAPM

    app.config["ELASTIC_APM"] = {
        "SERVICE_NAME": "benchmark", "DISABLE_SEND": True,
        "METRICS_INTERVAL": "0s", "CENTRAL_CONFIG": False, "CLOUD_PROVIDER": "none",
    }  # fmt: skip
    _REFERENCES.append(ElasticAPM(app))


def _telemetry(app: Any, folder: Path) -> None:
    _instrument(app, traces=False)


def _telemetry_with_traces(app: Any, folder: Path) -> None:
    _instrument(app, traces=True)


def _instrument(app: Any, *, traces: bool) -> None:
    from opentelemetry.instrumentation.flask import FlaskInstrumentor
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import NoOpTracerProvider

    meters = MeterProvider([InMemoryMetricReader()])
    tracers = TracerProvider() if traces else NoOpTracerProvider()
    FlaskInstrumentor().instrument_app(app, meter_provider=meters, tracer_provider=tracers)


def _flask_profiler(app: Any, folder: Path) -> None:
    import flask_profiler

    app.config["flask_profiler"] = {
        "enabled": True, "storage": {"engine": "sqlite", "FILE": str(folder / "profiler.sqlite")},
        "basicAuth": {"enabled": False},
    }  # fmt: skip
    flask_profiler.init_app(app)


def _dashboard(app: Any, folder: Path) -> None:
    import flask_monitoringdashboard as dashboard

    dashboard.config.database_name = f"sqlite:///{folder / 'dashboard.sqlite'}"
    dashboard.config.monitor_level = 0
    app.config["SECRET_KEY"] = "benchmark"
    dashboard.bind(app)


PEERS: dict[str, tuple[str, Callable[[Any, Path], None]]] = {
    "prometheus_flask_exporter": ("prometheus-flask-exporter", _exporter),
    "the same, for several processes": ("prometheus-flask-exporter", _exporter_of_many),
    "pyinstrument, each request": ("pyinstrument", _pyinstrument),
    "flask-debugtoolbar": ("flask-debugtoolbar", _toolbar),
    "Flask-MonitoringDashboard, level 0": ("Flask-MonitoringDashboard", _dashboard),
    "OpenTelemetry, metrics only": ("opentelemetry-instrumentation-flask", _telemetry),
    "OpenTelemetry, metrics and traces": (
        "opentelemetry-instrumentation-flask", _telemetry_with_traces,
    ),
    "elastic-apm, nothing sent": ("elastic-apm", _elastic),
    "flask-profiler, SQLite": ("flask-profiler", _flask_profiler),
}  # fmt: skip


class Measurement(NamedTuple):
    """The measurement of one process.

    Attributes:
        version: of the peer.
        blocks: CPU microseconds per request of bare, ours and the peer's.
    """

    version: str
    blocks: dict[str, list[float]]


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    processes, rounds, requests = (1, 2, 20) if quick else (3, 20, 200)
    lines: list[tuple[str, ...]] = []
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for name in PEERS:
            attempts = pool.starmap(
                _in_process, [(name, rounds, requests, n) for n in range(processes)], 1
            )
            measured = [one for one in attempts if isinstance(one, Measurement)]
            if len(measured) < len(attempts):
                reason = next(one for one in attempts if isinstance(one, str))
                outcome.notes.append(f"{name}: not measured: {reason}")
                continue
            blocks = {key: [v for one in measured for v in one.blocks[key]]
                      for key in measured[0].blocks}  # fmt: skip
            added = differences(blocks)
            lines.append(_line(name, measured[0].version, Spread.of(blocks[BARE]), added))
            outcome.figures[name] = {
                "added_us": round(added[name].median, 1),
                "times_ours": round(added[name].median / added[FULL].median, 1),
            }
    lines.sort(key=lambda line: float(line[2].split()[0]))
    heads = ("peer", "version", "adds µs (quartiles)", "of bare", "ours adds there", "times ours")
    outcome.grids.append(Grid("CPU time that others add to the same request", heads, tuple(lines)))
    outcome.judge("peers.measured", "peers measured side by side", f"{len(PEERS)}",
                  f"{len(lines)}", len(lines) == len(PEERS))  # fmt: skip
    outcome.notes.append(
        f"{processes} processes for each peer, {rounds} rounds of one block of {requests} requests per "
        "variant"
    )
    return outcome


def _line(name: str, version: str, bare: Spread, added: dict[str, Spread]) -> tuple[str, ...]:
    ours, theirs = added[FULL].median, added[name].median
    return (
        name, version, added[name].text(1), f"{theirs / bare.median:.0%}", f"{ours:.1f}",
        f"{theirs / ours:.1f}",
    )  # fmt: skip


def _in_process(name: str, rounds: int, requests: int, seed: int) -> Measurement | str:
    """Measure one peer in the current process; return the reason if it cannot be measured."""
    package, fit = PEERS[name]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        theirs = small(None)
        try:
            fit(theirs, Path(folder))
            peer_version = version(package)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        ours = small({"KNITPERF_STATE_DIR": str(Path(folder) / "state")})
        gets = {BARE: Get(small(None)), FULL: Get(ours), name: Get(theirs)}
        try:
            blocks = measure(gets, rounds, requests, seed)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        finally:
            ours.extensions["knitperf"].close()
        sys.stdout.flush()
        return Measurement(peer_version, blocks)
