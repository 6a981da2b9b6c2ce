"""The public surface: its names, the imports that they cause, and classes without an application."""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import flask_knitperf
from flask_knitperf import (
    ConfigurationError,
    KnitPerf,
    KnitPerfError,
    MemoryOptimizer,
    PerformanceProfiler,
    QueryOptimizer,
)
from flask_knitperf.core.errors import StateError
from tests.conftest import MEASURED

ROOT = Path(__file__).parents[1]


def modules(package: str) -> list[str]:
    """Return the modules of a package of ours, itself included."""
    module = importlib.import_module(package)
    return [package, *(m.name for m in pkgutil.walk_packages(module.__path__, package + "."))]


def loaded(*names: str) -> set[str]:
    """Return the top-level packages in a new interpreter that imported some modules."""
    code = "import sys\n" + "".join(f"import {name}\n" for name in names)
    code += "print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60,
        check=True,
    )  # fmt: skip
    return set(done.stdout.split())


@pytest.mark.slow
def test_an_application_that_caches_nothing_loads_no_cache() -> None:
    code = (
        "import sys, flask\nfrom flask_knitperf import KnitPerf\n"
        "app = flask.Flask('mill')\napp.config['TESTING'] = True\nKnitPerf(app)\n"
        "app.get('/')(lambda: 'ok')\nassert app.test_client().get('/').data == b'ok'\n"
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60,
        check=True,
    )  # fmt: skip
    names = set(done.stdout.split())
    assert "flask_knitperf.extension" in names
    assert not names & {f"flask_knitperf.caching.{name}" for name in ("store", "region", "load")}


# -- names -----------------------------------------------------------------------------------------


def test_the_public_names_are_these() -> None:
    assert sorted(flask_knitperf.__all__) == [
        "CacheKeyError", "CacheOptimizer", "ConfigurationError", "File", "Folder", "KnitPerf",
        "KnitPerfError", "MemoryOptimizer", "MigrationWarning", "NPlusOneError",
        "PerformanceProfiler", "QueryOptimizer", "Table", "Tag", "WeakCache", "limit_dataframe_size",
        "memory_efficient",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "name"),
    [("flask_knitperf.api.memory", "MemoryOptimizer"), ("flask_knitperf.caching", "WeakCache"),
     ("flask_knitperf.api.profiler", "PerformanceProfiler"),
     ("flask_knitperf.api.queries", "QueryOptimizer"), ("flask_knitperf.extension", "KnitPerf"),
     ("flask_knitperf.frames", "limit_dataframe_size"), ("flask_knitperf.frames", "memory_efficient")],
)  # fmt: skip
def test_a_public_name_is_the_same_object_as_at_its_former_path(path: str, name: str) -> None:
    assert getattr(importlib.import_module(path), name) is getattr(flask_knitperf, name)


@pytest.mark.parametrize("name", flask_knitperf.__all__)
def test_every_public_name_exists_and_has_a_docstring(name: str) -> None:
    assert inspect.getdoc(getattr(flask_knitperf, name))


def test_a_star_import_binds_the_public_names() -> None:
    namespace: dict[str, Any] = {}
    exec("from flask_knitperf import *", namespace)
    assert set(flask_knitperf.__all__) <= set(namespace)


def test_dir_lists_the_public_names_before_their_first_use() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import flask_knitperf; print(*dir(flask_knitperf))"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert set(flask_knitperf.__all__) <= set(done.stdout.split())


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Knitperf'"):
        _ = flask_knitperf.Knitperf


@pytest.mark.parametrize("kind", [ConfigurationError, StateError])
def test_every_error_of_ours_has_one_base_class(kind: type[Exception]) -> None:
    assert issubclass(kind, KnitPerfError)


SURFACE = {
    KnitPerf: ("budget", "init_app", "instrument", "profile", "register_cache", "report", "section"),
    PerformanceProfiler: (
        "generate_performance_report", "identify_bottlenecks", "instrument", "profile_all_endpoints",
        "profile_endpoint", "save_report", "section",
    ),
    MemoryOptimizer: (
        "cleanup_memory", "collect_garbage", "detect_memory_leaks", "get_memory_report",
        "get_memory_stats", "get_memory_usage", "limit_cache_size", "limit_dataframe_size",
        "memory_efficient", "memory_tracker", "monitor_memory_usage", "optimize_dataframe",
        "plan_dataframe", "read_csv", "setup_automatic_cleanup", "shutdown", "weak_cache",
    ),
    QueryOptimizer: (
        "allow_n_plus_one", "analyze_slow_queries", "cached", "clear_cache", "create_engine",
        "create_missing_indexes", "explain_cached", "instrument", "pool_advice", "raise_on_n_plus_one",
        "table_versions", "uninstrument", "wrap_connect",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", SURFACE, ids=lambda kind: kind.__name__)
def test_a_class_has_its_public_methods_with_docstrings(kind: type) -> None:
    assert [name for name in SURFACE[kind] if not inspect.getdoc(getattr(kind, name, None))] == []


def test_the_extension_has_one_of_each_class() -> None:
    perf = KnitPerf()
    kinds = (type(perf.profiler), type(perf.memory), type(perf.queries))
    assert kinds == (PerformanceProfiler, MemoryOptimizer, QueryOptimizer)


def test_the_package_is_marked_as_typed() -> None:
    assert (Path(flask_knitperf.__file__).parent / "py.typed").is_file()


# -- imports ---------------------------------------------------------------------------------------


def test_importing_the_package_imports_none_of_its_dependencies() -> None:
    assert not loaded("flask_knitperf") & {"flask", "werkzeug", "pandas", "numpy", "psutil"}


def test_the_core_imports_neither_flask_nor_pandas() -> None:
    assert not loaded(*modules("flask_knitperf.core")) & {"flask", "werkzeug", "pandas"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "package", ["api", "analysis", "collectors", "experiments", "render", "reports", "runtime"]
)
def test_packages_below_the_extension_import_no_flask(package: str) -> None:
    assert not loaded(*modules(f"flask_knitperf.{package}")) & {"flask", "jinja2", "click"}


@pytest.mark.parametrize("module", ["memory", "profiler", "queries"])
def test_a_class_in_a_notebook_imports_neither_flask_nor_pandas(module: str) -> None:
    assert not loaded(f"flask_knitperf.api.{module}") & {"flask", "werkzeug", "pandas"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "optional", ["pyarrow", "sqlalchemy", "flask_sqlalchemy", "flask_caching", "flask_wtf", "gunicorn",
                 "prometheus_client", "opentelemetry", "waitress"],
)  # fmt: skip
def test_the_extension_imports_no_optional_dependency(optional: str) -> None:
    assert optional not in _with_extension()


@functools.cache
def _with_extension() -> set[str]:
    return loaded("flask_knitperf.extension")


def test_the_extension_imports_no_pandas() -> None:
    assert "pandas" not in _with_extension()


@pytest.mark.slow
def test_importing_everything_starts_no_thread_and_no_gc_callback() -> None:
    names = [n for n in modules("flask_knitperf") if not n.endswith("__main__")]
    code = f"""
import gc, importlib, threading
for name in {names!r}:
    importlib.import_module(name)
print(threading.active_count(), [c for c in gc.callbacks if "knitperf" in repr(c)])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=MEASURED, capture_output=True, text=True,
        timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "1 []"


# -- without an application ------------------------------------------------------------------------


def test_memory_is_read_without_an_application() -> None:
    stats = MemoryOptimizer().get_memory_stats()
    assert set(stats) == {
        "rss_mb", "vms_mb", "pss_mb", "peak_mb", "available_mb", "percent", "tracked_objects",
        "gc_stats", "gc_count", "cache_size",
    }  # fmt: skip
    assert 5 < stats["rss_mb"] < 50_000
    assert 0 < stats["percent"] <= 100


def test_garbage_is_collected_without_an_application() -> None:
    result = MemoryOptimizer().collect_garbage()
    assert set(result) == {
        "before_mb", "after_mb", "freed_mb", "memory_freed_mb", "objects", "objects_collected",
        "pause_ms",
    }  # fmt: skip
    assert result["freed_mb"] == pytest.approx(result["before_mb"] - result["after_mb"], abs=0.02)


def test_without_an_application_profiled_code_runs_unchanged() -> None:
    profiler = PerformanceProfiler()

    @profiler.profile_endpoint
    def plan(a: int) -> int:
        with profiler.section("s"):
            return a + 1

    @profiler.profile_endpoint("named")
    def again(a: int) -> int:
        return a + 2

    class Service:
        def plan(self) -> str:
            return "planned"

    assert (plan(1), again(1), profiler.instrument(Service()).plan()) == (2, 3, "planned")


@pytest.mark.parametrize(
    "call",
    [
        lambda: PerformanceProfiler().generate_performance_report(),
        lambda: PerformanceProfiler().identify_bottlenecks(),
        lambda: PerformanceProfiler().save_report("nowhere/report.json"),
    ],
    ids=["report", "bottlenecks", "save"],
)  # fmt: skip
def test_reports_without_an_application_are_an_error_that_names_it(call: Any) -> None:
    with pytest.raises(KnitPerfError, match="application"):
        call()


# -- with an application ---------------------------------------------------------------------------


def test_the_profiler_reports_the_document_of_the_page(timed: Any) -> None:
    timed.get("/")
    report = timed.perf.profiler.generate_performance_report("run")
    extra = {report.pop("endpoints_profiled"), report.pop("summary")["slowest_endpoint"]}
    assert report == timed.perf.report("run") == timed.session.documents.report("run")
    assert extra == {1, "index"}


def test_bottlenecks_are_those_of_the_report(timed: Any, time: Any) -> None:
    timed.app.get("/slow", endpoint="slow")(lambda: time.pass_(1) or "x")
    for _ in range(20):
        timed.get("/slow")
    bottlenecks = timed.perf.profiler.identify_bottlenecks("run")
    assert bottlenecks == timed.report()["bottlenecks"] and bottlenecks[0]["endpoint"] == "slow"


def test_a_saved_report_reads_back_unchanged(timed: Any, tmp_path: Path) -> None:
    timed.app.get("/grün", endpoint="grün")(lambda: "x")
    timed.get("/")
    path = timed.perf.profiler.save_report(tmp_path / "report.json", "run")
    saved = json.loads(path.read_text(encoding="utf-8"))
    assert saved == timed.perf.profiler.generate_performance_report("run")
    assert saved | timed.report() == saved


def test_a_report_that_cannot_be_saved_is_an_error(quiet: Any, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no-folder"):
        quiet.perf.profiler.save_report(tmp_path / "no-folder" / "report.json", "run")


@pytest.mark.parametrize("window", ["", "2h", None, 5])
def test_an_unknown_window_is_an_error_that_names_the_known_ones(quiet: Any, window: Any) -> None:
    with pytest.raises(ConfigurationError, match="5m, 1h, 6h, 24h, 7d, 30d, run, previous"):
        quiet.perf.report(window)


def test_the_memory_report_is_the_document_of_the_page(timed: Any) -> None:
    timed.session.memory_jobs.collector.record_gauges()
    report, page = timed.perf.memory.get_memory_report(), timed.session.documents.memory()
    assert report["workers"] == page["workers"] and report["schema"] == "flask-knitperf/memory/1"


def test_a_collection_in_an_application_is_reported(timed: Any) -> None:
    timed.perf.memory.collect_garbage()
    (step,) = timed.session.documents.memory()["housekeeper"]
    assert step["why"].startswith("requested")


@pytest.mark.parametrize("name", ["report", "memory"])
def test_a_report_is_plain_json(timed: Any, time: Any, name: str) -> None:
    timed.app.get("/slow", endpoint="slow")(lambda: time.pass_(1) or "x")
    for _ in range(20):
        timed.get("/slow")
    timed.session.memory_jobs.collector.record_gauges()
    document = getattr(timed.session.documents, name)()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
