"""What others build on: names, what importing them loads, and the classes without an application."""

from __future__ import annotations

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
from flask_knitperf import ConfigurationError, KnitPerf, KnitPerfError
from flask_knitperf.api.memory import MemoryOptimizer
from flask_knitperf.api.profiler import PerformanceProfiler
from flask_knitperf.core.errors import StateError

ROOT = Path(__file__).parents[1]


def modules(package: str) -> list[str]:
    """Return the modules of a package of ours, itself included."""
    found = importlib.import_module(package)
    return [package, *(m.name for m in pkgutil.walk_packages(found.__path__, package + "."))]


def loaded(*names: str) -> set[str]:
    """Return the top-level packages in a new interpreter that imported some modules."""
    code = "import sys\n" + "".join(f"import {name}\n" for name in names)
    code += "print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60,
        check=True,
    )  # fmt: skip
    return set(done.stdout.split())


# -- names -----------------------------------------------------------------------------------------


def test_the_public_names_are_these() -> None:
    names = ["ConfigurationError", "KnitPerf", "KnitPerfError", "NPlusOneError", "WeakCache"]
    assert sorted(flask_knitperf.__all__) == names


@pytest.mark.parametrize("name", flask_knitperf.__all__)
def test_every_public_name_is_there_and_explained(name: str) -> None:
    assert inspect.getdoc(getattr(flask_knitperf, name))


def test_a_star_import_gives_the_public_names() -> None:
    got: dict[str, Any] = {}
    exec("from flask_knitperf import *", got)
    assert set(flask_knitperf.__all__) <= set(got)


def test_the_public_names_are_listed_before_they_are_used() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import flask_knitperf; print(*dir(flask_knitperf))"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert set(flask_knitperf.__all__) <= set(done.stdout.split())


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Knitperf'"):
        _ = flask_knitperf.Knitperf


@pytest.mark.parametrize("kind", [ConfigurationError, StateError])
def test_every_error_of_ours_can_be_caught_as_one(kind: type[Exception]) -> None:
    assert issubclass(kind, KnitPerfError)


SURFACE = {
    KnitPerf: ("budget", "init_app", "instrument", "profile", "register_cache", "report", "section"),
    PerformanceProfiler: (
        "generate_performance_report", "identify_bottlenecks", "instrument", "profile_endpoint",
        "run_load_test", "save_report", "section",
    ),
    MemoryOptimizer: ("collect_garbage", "get_memory_report", "get_memory_stats"),
}  # fmt: skip


@pytest.mark.parametrize("kind", SURFACE, ids=lambda kind: kind.__name__)
def test_a_class_has_the_methods_that_are_promised_and_explains_each(kind: type) -> None:
    assert [name for name in SURFACE[kind] if not inspect.getdoc(getattr(kind, name, None))] == []


def test_the_extension_carries_the_classes() -> None:
    perf = KnitPerf()
    assert (type(perf.profiler), type(perf.memory)) == (PerformanceProfiler, MemoryOptimizer)


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(flask_knitperf.__file__).parent / "py.typed").is_file()


# -- what importing loads --------------------------------------------------------------------------


def test_importing_the_package_loads_nothing_else() -> None:
    assert not loaded("flask_knitperf") & {"flask", "werkzeug", "pandas", "numpy", "psutil"}


def test_the_core_knows_neither_flask_nor_pandas() -> None:
    assert not loaded(*modules("flask_knitperf.core")) & {"flask", "werkzeug", "pandas"}


@pytest.mark.parametrize(
    "package", ["api", "analysis", "collectors", "experiments", "render", "reports", "runtime"]
)
def test_everything_below_the_extension_works_without_flask(package: str) -> None:
    found = loaded(*modules(f"flask_knitperf.{package}"))
    assert not found & {"flask", "jinja2", "click"}


def test_memory_in_a_notebook_loads_no_flask() -> None:
    assert not loaded("flask_knitperf.api.memory") & {"flask", "werkzeug"}


@pytest.mark.parametrize(
    "optional", ["pyarrow", "sqlalchemy", "flask_sqlalchemy", "flask_caching", "flask_wtf", "gunicorn",
                 "prometheus_client", "opentelemetry", "waitress"],
)  # fmt: skip
def test_the_extension_loads_no_optional_dependency(optional: str) -> None:
    assert optional not in _with_extension()


def _with_extension(known: list[set[str]] = []) -> set[str]:  # noqa: B006 (asked once)
    if not known:
        known.append(loaded("flask_knitperf.extension"))
    return known[0]


def test_the_extension_loads_no_pandas() -> None:
    assert "pandas" not in _with_extension()


def test_importing_everything_starts_no_thread_and_no_watch() -> None:
    names = [n for n in modules("flask_knitperf") if not n.endswith("__main__")]
    code = f"""
import gc, importlib, threading
for name in {names!r}:
    importlib.import_module(name)
print(threading.active_count(), [c for c in gc.callbacks if "knitperf" in repr(c)])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60,
        check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "1 []"


# -- without an application ------------------------------------------------------------------------


def test_memory_is_told_without_an_application() -> None:
    stats = MemoryOptimizer().get_memory_stats()
    assert set(stats) == {
        "rss_mb", "pss_mb", "peak_mb", "available_mb", "percent", "tracked_objects"
    }  # fmt: skip
    assert stats["rss_mb"] and 5 < stats["rss_mb"] < 50_000
    assert stats["percent"] is not None and 0 < stats["percent"] <= 100


def test_garbage_is_collected_without_an_application() -> None:
    found = MemoryOptimizer().collect_garbage()
    assert set(found) == {"before_mb", "after_mb", "freed_mb", "objects", "pause_ms"}
    assert found["freed_mb"] == pytest.approx(found["before_mb"] - found["after_mb"], abs=0.02)


def test_a_profiler_without_an_application_lets_code_run_as_it_is() -> None:
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
    "ask",
    [
        lambda: MemoryOptimizer().get_memory_report(),
        lambda: PerformanceProfiler().generate_performance_report(),
        lambda: PerformanceProfiler().identify_bottlenecks(),
        lambda: PerformanceProfiler().save_report("nowhere/report.json"),
    ],
    ids=["memory report", "report", "bottlenecks", "save"],
)  # fmt: skip
def test_what_needs_an_application_says_so_without_one(ask: Any) -> None:
    with pytest.raises(KnitPerfError, match="application"):
        ask()


def test_load_tests_are_said_to_come_later() -> None:
    with pytest.raises(KnitPerfError, match="not part of this version"):
        PerformanceProfiler().run_load_test("/", users=5)


# -- with an application ---------------------------------------------------------------------------


def test_the_profiler_reports_what_the_page_shows(timed: Any) -> None:
    timed.get("/")
    reports = (
        timed.perf.profiler.generate_performance_report("run"), timed.perf.report("run"),
        timed.session.documents.report("run"),
    )  # fmt: skip
    assert reports[0] == reports[1] == reports[2]


def test_bottlenecks_are_those_of_the_report(timed: Any, time: Any) -> None:
    timed.app.get("/slow", endpoint="slow")(lambda: time.pass_(1) or "x")
    for _ in range(20):
        timed.get("/slow")
    found = timed.perf.profiler.identify_bottlenecks("run")
    assert found == timed.report()["bottlenecks"] and found[0]["endpoint"] == "slow"


def test_a_saved_report_reads_back_as_it_was(timed: Any, tmp_path: Path) -> None:
    timed.app.get("/grün", endpoint="grün")(lambda: "x")
    timed.get("/")
    path = timed.perf.profiler.save_report(tmp_path / "report.json", "run")
    assert json.loads(path.read_text(encoding="utf-8")) == timed.report()


def test_a_report_that_cannot_be_saved_is_an_error(quiet: Any, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no-folder"):
        quiet.perf.profiler.save_report(tmp_path / "no-folder" / "report.json", "run")


@pytest.mark.parametrize("window", ["", "2h", None, 5])
def test_a_window_that_does_not_exist_is_an_error_that_names_those_that_do(
    quiet: Any, window: Any
) -> None:
    with pytest.raises(ConfigurationError, match="5m, 1h, run, previous"):
        quiet.perf.report(window)


def test_the_memory_report_is_that_of_the_page(timed: Any) -> None:
    timed.session.memory_jobs.collector.record_gauges()
    mine, pages = timed.perf.memory.get_memory_report(), timed.session.documents.memory()
    assert mine["workers"] == pages["workers"] and mine["schema"] == "flask-knitperf/memory/1"


def test_collecting_in_an_application_is_reported(timed: Any) -> None:
    timed.perf.memory.collect_garbage()
    (did,) = timed.session.documents.memory()["housekeeper"]
    assert did["why"].startswith("requested")


@pytest.mark.parametrize("name", ["report", "memory"])
def test_a_report_is_plain_json(timed: Any, time: Any, name: str) -> None:
    timed.app.get("/slow", endpoint="slow")(lambda: time.pass_(1) or "x")
    for _ in range(20):
        timed.get("/slow")
    timed.session.memory_jobs.collector.record_gauges()
    found = getattr(timed.session.documents, name)()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
