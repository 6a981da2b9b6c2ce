"""The calls that an ERP makes of its built-in optimisers, with the keys that its code reads.

Only the import line changes. Each call works as it stands, or warns once and does the safe thing.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from flask_knitperf import (
    KnitPerfError,
    MemoryOptimizer,
    MigrationWarning,
    PerformanceProfiler,
    QueryOptimizer,
    limit_dataframe_size,
    memory_efficient,
)
from flask_knitperf.frames import FrameTooLargeError

ORDERS = pd.DataFrame({
    "style": ["CT1001", "CT1001", "CT2002"] * 1000, "pounds": [5, 5, 7] * 1000,
    "price": [19.99, 19.99, 0.1] * 1000,
})  # fmt: skip
LARGE = pd.DataFrame({"n": range(100_001)})


@pytest.fixture(params=["process", "application"])
def optimizer(request: pytest.FixtureRequest) -> Any:
    """Return a memory optimizer without an application, and the one of an application."""
    if request.param == "process":
        return MemoryOptimizer()
    mill = request.getfixturevalue("quiet")
    mill.session.memory_jobs.collector.record_gauges()
    return mill.perf.memory


def silently(call: Callable[[], Any]) -> Any:
    """Return the result of a call that must not warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return call()


# -- memory --------------------------------------------------------------------------------------------

MEMORY_CALLS: dict[str, tuple[Callable[[Any], dict[str, Any]], set[str]]] = {
    "collect_garbage()": (
        lambda optimizer: optimizer.collect_garbage(),
        {"memory_freed_mb", "objects_collected"},
    ),
    "collect_garbage(force=True)": (
        lambda optimizer: optimizer.collect_garbage(force=True),
        {"memory_freed_mb", "objects_collected"},
    ),
    "get_memory_stats()": (
        lambda optimizer: optimizer.get_memory_stats(),
        {"rss_mb", "vms_mb", "percent", "available_mb", "gc_stats", "gc_count", "tracked_objects",
         "cache_size"},
    ),
    "get_memory_report()": (
        lambda optimizer: optimizer.get_memory_report(),
        {"rss_mb", "initial_memory_mb", "memory_growth_mb", "percent", "recommendations"},
    ),
    "cleanup_memory()": (lambda optimizer: optimizer.cleanup_memory(), {"memory_freed_mb"}),
    "cleanup_memory(aggressive=True)": (
        lambda optimizer: optimizer.cleanup_memory(aggressive=True),
        {"memory_freed_mb"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MEMORY_CALLS)
def test_a_memory_call_returns_the_keys_that_callers_read(optimizer: Any, name: str) -> None:
    call, keys = MEMORY_CALLS[name]
    result = silently(lambda: call(optimizer))
    assert keys <= set(result)
    assert [key for key in keys if result[key] is None] == []


def test_memory_usage_is_resident_megabytes(optimizer: Any) -> None:
    usage = silently(optimizer.get_memory_usage)
    assert isinstance(usage, float) and 5 < usage < 50_000


def test_growth_is_usage_minus_the_initial_memory(optimizer: Any) -> None:
    report = optimizer.get_memory_report()
    growth = report["rss_mb"] - report["initial_memory_mb"]
    assert report["memory_growth_mb"] == pytest.approx(growth, abs=0.02)
    assert isinstance(report["recommendations"], list)


def test_automatic_cleanup_is_set_up_and_shut_down(optimizer: Any) -> None:
    for _ in range(2):
        silently(lambda: optimizer.setup_automatic_cleanup(interval_minutes=10))
    for _ in range(2):
        silently(optimizer.shutdown)


def test_a_script_ends_while_its_cleanup_runs() -> None:
    script = (
        "from flask_knitperf import MemoryOptimizer\n"
        "MemoryOptimizer().setup_automatic_cleanup(interval_minutes=0.0001)\n"
    )
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", script]
    completed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (completed.returncode, completed.stderr) == (0, "")


def test_an_application_is_not_an_argument_of_a_memory_optimizer(quiet: Any) -> None:
    with pytest.raises(TypeError, match="positional argument"):
        MemoryOptimizer(quiet.app)  # type: ignore[misc]


def test_a_check_of_memory_returns_none_while_memory_is_fine(optimizer: Any) -> None:
    assert silently(optimizer.monitor_memory_usage) is None


def test_a_function_is_monitored_as_a_decorator(optimizer: Any) -> None:
    @optimizer.monitor_memory_usage
    def plan(style: str) -> str:
        return style

    @optimizer.monitor_memory_usage("forecast")
    def forecast() -> int:
        return 7

    assert (plan("CT1001"), forecast(), plan.__name__) == ("CT1001", 7, "plan")
    names = [operation["operation"] for operation in optimizer.memory_stats]
    assert names[0].endswith("plan") and names[1] == "forecast"


def test_an_operation_is_tracked(optimizer: Any) -> None:
    with optimizer.memory_tracker("test_operation") as operation:
        pass
    assert optimizer.memory_stats == [operation]
    assert operation["operation"] == "test_operation"
    assert {"start_memory_mb", "end_memory_mb", "memory_delta_mb", "duration_seconds"} <= set(
        operation
    )


def test_no_leak_is_detected_in_a_process_that_does_nothing(optimizer: Any) -> None:
    assert silently(optimizer.detect_memory_leaks) == []


def test_growth_over_operations_is_detected_as_a_leak(optimizer: Any) -> None:
    for number in range(15):
        optimizer.memory_stats.append({"end_memory_mb": 100 + 10 * number, "operation": "op"})
    [leak] = optimizer.detect_memory_leaks()
    assert {"type", "severity", "description", "recommendation"} <= set(leak)
    assert leak["type"] == "LEAK_SUSPECTED" and "140" in leak["description"]


def test_a_small_cache_is_returned_as_it_is(optimizer: Any) -> None:
    cache = {"bom": ORDERS}
    assert silently(lambda: optimizer.limit_cache_size(cache)) is cache
    assert optimizer.limit_cache_size({}) == {}


def test_a_large_cache_keeps_all_entries_and_warns_once(optimizer: Any) -> None:
    cache = dict.fromkeys(range(3), ORDERS)
    with pytest.warns(MigrationWarning, match="removes no entry; evict=True"):
        assert optimizer.limit_cache_size(cache, max_mb=0.01) is cache
    assert silently(lambda: optimizer.limit_cache_size(cache, max_mb=0.01)) is cache
    assert list(cache) == [0, 1, 2]


def test_eviction_on_request_returns_the_newest_entries_in_a_new_dict(optimizer: Any) -> None:
    cache = {number: bytes(1 << 20) for number in range(3)}
    assert list(optimizer.limit_cache_size(cache, max_mb=2.5, evict=True)) == [1, 2]
    assert list(cache) == [0, 1, 2]


# -- DataFrames ----------------------------------------------------------------------------------------


def test_a_frame_is_optimized_with_a_label(optimizer: Any) -> None:
    before = ORDERS.copy(deep=True)
    smaller = silently(lambda: optimizer.optimize_dataframe(ORDERS, "inventory_data"))
    assert smaller.memory_usage(deep=True).sum() < 0.7 * ORDERS.memory_usage(deep=True).sum()
    pd.testing.assert_frame_equal(ORDERS, before)
    assert len(smaller) == len(ORDERS) and list(smaller.columns) == list(ORDERS.columns)


@pytest.mark.parametrize("labels", [(), ("inventory_data",)], ids=["df", "df, label"])
def test_a_frame_is_optimized_by_the_class(labels: tuple[str, ...]) -> None:
    smaller = silently(lambda: MemoryOptimizer.optimize_dataframe(ORDERS, *labels))
    assert smaller["price"].tolist() == ORDERS["price"].tolist() and len(smaller) == len(ORDERS)
    assert MemoryOptimizer.optimize_dataframe(None, *labels) is None


def test_aggressive_optimization_is_lossless_and_warns_once(optimizer: Any) -> None:
    with pytest.warns(MigrationWarning, match="lossless"):
        smaller = optimizer.optimize_dataframe(ORDERS, aggressive=True)
    assert smaller["price"].tolist() == ORDERS["price"].tolist()
    silently(lambda: optimizer.optimize_dataframe(ORDERS, aggressive=True))


def test_no_row_is_truncated_or_dropped(optimizer: Any) -> None:
    frame = pd.concat([LARGE, LARGE])
    assert len(optimizer.optimize_dataframe(frame, "sales_history")) == len(frame)


@pytest.mark.parametrize("frame", [None, pd.DataFrame()], ids=["None", "empty"])
def test_nothing_to_optimize_is_no_error(optimizer: Any, frame: Any) -> None:
    result = silently(lambda: optimizer.optimize_dataframe(frame, "inventory_data"))
    assert (result is None) if frame is None else result.empty


def test_a_service_decorated_by_both_decorators_works() -> None:
    class Service:
        @memory_efficient
        @limit_dataframe_size(max_rows=50_000)
        def analysis(self, orders: pd.DataFrame | None = None) -> dict[str, Any]:
            return {"orders": orders, "timestamp": "now"}

        @memory_efficient
        def initialize(self) -> None:
            return None

    service = Service()
    assert silently(service.initialize) is None
    assert len(silently(lambda: service.analysis(ORDERS))["orders"]) == len(ORDERS)


LIMITS: dict[str, Callable[[Callable[[], Any]], Any]] = {
    "@limit_dataframe_size()": lambda function: limit_dataframe_size()(function)(),
    "@limit_dataframe_size(max_rows=5000)": lambda f: limit_dataframe_size(max_rows=5000)(f)(),
    "frame in a dict": lambda function: limit_dataframe_size()(lambda: {"stock": function()})(),
    "limit_dataframe_size(df)": lambda function: limit_dataframe_size(function()),
    "limit_dataframe_size(df, max_rows=...)": lambda f: limit_dataframe_size(f(), max_rows=100_000),
    "limit_dataframe_size(df, ...)": lambda f: limit_dataframe_size(f(), 100_000),
    "@MemoryOptimizer.limit_dataframe_size()": lambda f: MemoryOptimizer.limit_dataframe_size()(
        f
    )(),
    "@optimizer.limit_dataframe_size(5000)": lambda f: MemoryOptimizer().limit_dataframe_size(5000)(
        f
    )(),
}


@pytest.mark.parametrize("form", LIMITS)
def test_a_frame_beyond_the_limit_is_an_error_that_names_the_option(form: str) -> None:
    with pytest.raises(FrameTooLargeError, match='on_exceed="truncate"'):
        LIMITS[form](lambda: LARGE)


@pytest.mark.parametrize("form", LIMITS)
def test_a_frame_within_the_limit_passes(form: str) -> None:
    result = silently(lambda: LIMITS[form](lambda: ORDERS))
    assert (result["stock"] if isinstance(result, dict) else result) is ORDERS


# -- profiler ------------------------------------------------------------------------------------------


@pytest.fixture(params=["perf.profiler", "app=", "base_url="])
def profiler(request: pytest.FixtureRequest, quiet: Any) -> PerformanceProfiler:
    """Return a profiler of one application in each of the ways to reach it."""
    if request.param == "perf.profiler":
        return quiet.perf.profiler  # type: ignore[no-any-return]
    if request.param == "app=":
        return PerformanceProfiler(app=quiet.app)
    return PerformanceProfiler(base_url=request.getfixturevalue("server_url"))


def test_an_endpoint_is_profiled_by_its_path(profiler: PerformanceProfiler) -> None:
    profile = silently(lambda: profiler.profile_endpoint("/", samples=3))
    assert (profile["endpoint"], profile["method"], profile["count"]) == ("/", "GET", 3)
    assert profile["success_rate"] == 1.0
    assert 0 < profile["min_ms"] <= profile["p50_ms"] <= profile["p95_ms"] <= profile["max_ms"]


def test_a_post_with_a_payload_is_profiled(profiler: PerformanceProfiler, quiet: Any) -> None:
    bodies = []

    @quiet.app.post("/order")
    def order() -> str:
        from flask import request

        bodies.append(request.get_json())
        return "ok"

    profile = profiler.profile_endpoint(
        "/order", method="post", samples=2, payload={"style": "CT1"}
    )
    assert (profile["method"], profile["success_rate"], bodies) == (
        "POST",
        1.0,
        [{"style": "CT1"}] * 2,
    )


def test_the_attributes_of_a_profile_warn_once_each(profiler: PerformanceProfiler) -> None:
    profile = profiler.profile_endpoint("/", samples=3)
    with pytest.warns(MigrationWarning, match="avg_response_time as \\['mean_ms'\\]"):
        assert profile.avg_response_time == profile["mean_ms"]
    with pytest.warns(MigrationWarning, match="share from 0 to 1 instead of percent"):
        assert profile.success_rate == 100
    silently(lambda: (profile.avg_response_time, profile.endpoint))
    with pytest.raises(AttributeError, match="nonsense"):
        _ = profile.nonsense


def test_several_endpoints_are_profiled(profiler: PerformanceProfiler) -> None:
    profiles = profiler.profile_all_endpoints(["/", ("/", "head")], samples=2)
    assert list(profiles) == ["GET_/", "HEAD_/"] and profiles["HEAD_/"]["count"] == 2


def test_all_endpoints_are_profiled_that_need_no_parameter(
    profiler: PerformanceProfiler, quiet: Any
) -> None:
    quiet.app.get("/order/<number>", endpoint="order")(lambda number: number)
    quiet.app.post("/reload", endpoint="reload")(lambda: "x")
    if profiler.base_url is None:
        assert list(silently(profiler.profile_all_endpoints)) == ["GET_/"]
        return
    with pytest.warns(MigrationWarning, match="pass a list of paths"):
        assert profiler.profile_all_endpoints() == {}


def test_the_report_has_the_keys_that_callers_read(profiler: PerformanceProfiler) -> None:
    profiler.profile_endpoint("/", samples=3)
    report = silently(profiler.generate_performance_report)
    assert report["endpoints_profiled"] == 1 and report["bottlenecks"] == []
    assert report["summary"].get("rating", "N/A") == "GOOD"
    assert report["summary"]["success_rate"] == 1.0
    with pytest.warns(MigrationWarning, match="avg_response_time"):
        assert report["summary"]["avg_response_time"] == report["summary"]["mean_ms"]
    assert report["schema"] == "flask-knitperf/report/1" and report["recommendations"] == []
    assert silently(profiler.identify_bottlenecks) == []


def test_failures_are_a_bottleneck(profiler: PerformanceProfiler, quiet: Any) -> None:
    quiet.app.get("/broken")(lambda: 1 / 0)
    profile = profiler.profile_endpoint("/broken", samples=20)
    assert profile["success_rate"] == 0
    [bottleneck] = profiler.identify_bottlenecks()
    assert bottleneck["type"] == "LOW_SUCCESS_RATE" and bottleneck["severity"] == "CRITICAL"
    assert {"endpoint", "recommendation"} <= set(bottleneck)
    assert profiler.generate_performance_report()["summary"]["rating"] == "NEEDS_IMPROVEMENT"


def test_a_report_is_saved_without_a_name(
    profiler: PerformanceProfiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    profiler.profile_endpoint("/", samples=1)
    name = silently(profiler.save_report)
    assert os.path.exists(name) and Path(name).name.startswith("performance_report_")
    assert json.loads(Path(name).read_text())["endpoints_profiled"] == 1


def test_a_server_that_does_not_respond_is_an_error_that_names_it() -> None:
    profiler = PerformanceProfiler(base_url="http://127.0.0.1:9")
    with pytest.raises(KnitPerfError, match=r"no response from http://127\.0\.0\.1:9: "):
        profiler.profile_endpoint("/api/health", samples=3)
    assert profiler.generate_performance_report()["endpoints_profiled"] == 0


# -- queries -------------------------------------------------------------------------------------------


def test_clearing_the_cache_of_queries_works_without_an_application() -> None:
    silently(QueryOptimizer().clear_cache)


def test_clearing_the_cache_of_queries_invalidates_results_in_an_application(quiet: Any) -> None:
    versions = quiet.session.recorder.versions
    before = versions.of(["yarn"])
    silently(quiet.perf.queries.clear_cache)
    assert versions.of(["yarn"]) != before


def test_missing_indexes_without_an_application_are_none_with_one_warning() -> None:
    with pytest.warns(MigrationWarning, match="no advice without an application"):
        assert QueryOptimizer().create_missing_indexes() == []


@pytest.fixture
def slow_statement(
    make_app: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """Return an application that reads a table whole, its engine, and the path of its database."""
    sqlalchemy = pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed")
    pytest.importorskip("sqlglot", reason="sqlglot is not installed")
    monkeypatch.setattr("flask_knitperf.collectors.sql.explain.EXPLAIN_QUEUE._explained_at", {})
    path = tmp_path / "mill.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE payments (id INTEGER PRIMARY KEY, invoice_no TEXT)")
        connection.executemany(
            "INSERT INTO payments (invoice_no) VALUES (?)", [(f"I{n}",) for n in range(5000)]
        )
    connection.close()
    mill = make_app(TESTING=True, KNITPERF_EXPLAIN=True, KNITPERF_SLOW_QUERY_MS=0.001)
    engine = mill.perf.queries.create_engine(f"sqlite:///{path}")
    select = sqlalchemy.text("SELECT id FROM payments WHERE invoice_no = :number")

    @mill.app.get("/payments")
    def payments() -> str:
        with engine.connect() as connection:
            return str(connection.execute(select, {"number": "I7"}).all())

    for _ in range(3):
        assert mill.get("/payments").code == 200
    yield mill, engine, path
    mill.perf.queries.uninstrument(engine)
    engine.dispose()


def indexes(path: Path) -> list[str]:
    """Return the names of the indexes of a SQLite database."""
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'index'").fetchall()
    connection.close()
    return [name for (name,) in rows]


def test_missing_indexes_are_returned_as_sql_and_not_created(slow_statement: Any) -> None:
    mill, _, path = slow_statement
    with pytest.warns(MigrationWarning, match="runs none of it; apply=True"):
        statements = mill.perf.queries.create_missing_indexes()
    assert statements == ["CREATE INDEX ix_payments_invoice_no ON payments (invoice_no)"]
    assert indexes(path) == []


def test_missing_indexes_are_created_on_request(slow_statement: Any) -> None:
    mill, engine, path = slow_statement
    for arguments in ({}, {"engine": engine}):  # the second time it exists
        statements = silently(
            lambda arguments=arguments: mill.perf.queries.create_missing_indexes(
                apply=True, **arguments
            )
        )
        assert len(statements) == 1 and indexes(path) == ["ix_payments_invoice_no"]
