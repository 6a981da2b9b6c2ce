"""``MemoryOptimizer`` beyond the calls of an ERP: its housekeeper, pressure, leaks and arguments."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
from cachetools import TTLCache

from flask_knitperf import KnitPerfError, MemoryOptimizer
from flask_knitperf.collectors.memory.process import MachineMemory
from flask_knitperf.runtime import process_memory

from ..runtime.applications import in_child, needs_fork, our_threads


@pytest.fixture
def optimizer() -> Any:
    """Return an optimizer without an application, which is shut down afterwards."""
    optimizer = MemoryOptimizer()
    yield optimizer
    optimizer.shutdown()


def test_nothing_starts_before_cleanup_is_set_up(optimizer: MemoryOptimizer) -> None:
    optimizer.get_memory_stats(), optimizer.collect_garbage(), optimizer.get_memory_report()
    assert our_threads() == []


def test_automatic_cleanup_is_one_daemon_thread_until_shutdown(optimizer: MemoryOptimizer) -> None:
    for _ in range(2):
        optimizer.setup_automatic_cleanup(interval_minutes=10)
    [thread] = [t for t in threading.enumerate() if t.name == "flask_knitperf"]
    assert thread.daemon
    optimizer.shutdown()
    optimizer.shutdown()
    assert our_threads() == []


def test_automatic_cleanup_expires_caches_and_relieves_pressure_at_its_interval(
    optimizer: MemoryOptimizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    expired, relieved = threading.Event(), threading.Event()
    monkeypatch.setattr(optimizer._process.caches, "expire", expired.set)
    again = MemoryOptimizer(caches=optimizer._process.caches)
    monkeypatch.setattr(again._process._pressure, "tick", relieved.set)
    again.setup_automatic_cleanup(interval_minutes=0.001)
    ran = expired.wait(10) and relieved.wait(10)
    again.shutdown()
    assert ran


CHILD_CALLS: dict[str, Callable[[MemoryOptimizer], Any]] = {
    "get_memory_usage": lambda optimizer: optimizer.get_memory_usage(),
    "memory_tracker": lambda optimizer: optimizer.memory_tracker("plan").__enter__(),
    "detect_memory_leaks": lambda optimizer: optimizer.detect_memory_leaks(),
    "cleanup_memory": lambda optimizer: optimizer.cleanup_memory(),
}


@needs_fork
@pytest.mark.parametrize("call", CHILD_CALLS)
def test_a_forked_child_starts_its_housekeeper_at_the_next_call(
    optimizer: MemoryOptimizer, call: str
) -> None:
    optimizer.setup_automatic_cleanup(interval_minutes=10)

    def work() -> list[Any]:
        before = our_threads()
        CHILD_CALLS[call](optimizer)
        during = our_threads()
        optimizer.shutdown()
        return [before, during, our_threads()]

    assert in_child(work) == [[], ["flask_knitperf"], []]
    assert our_threads() == ["flask_knitperf"]


@needs_fork
def test_growth_in_a_forked_child_starts_at_zero(optimizer: MemoryOptimizer) -> None:
    report = in_child(lambda: optimizer.get_memory_report()["memory_growth_mb"])
    assert report == 0


@pytest.mark.parametrize("interval", [0, -1, float("nan"), "10", None])
def test_an_interval_must_be_above_zero(optimizer: MemoryOptimizer, interval: Any) -> None:
    with pytest.raises(KnitPerfError, match="interval_minutes must be above 0"):
        optimizer.setup_automatic_cleanup(interval)


@pytest.mark.slow
def test_in_an_application_cleanup_sets_the_interval_of_the_housekeeper(mill: Any) -> None:
    mill.get("/")
    threads = our_threads()
    mill.perf.memory.setup_automatic_cleanup(interval_minutes=10)
    mill.perf.memory.shutdown()
    jobs = {job.run: job.seconds for job in mill.session.recorder._housekeeper._jobs}
    assert jobs[mill.session.caches.expire] == 600
    assert our_threads() == threads
    mill.session.close()
    mill.get("/")
    jobs = {job.run: job.seconds for job in mill.session.recorder._housekeeper._jobs}
    assert jobs[mill.session.caches.expire] == 600


@pytest.fixture
def pressed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a machine of 1000 MB report 960 MB in use."""
    machine = MachineMemory(1000 << 20, 40 << 20, 96.0, cgroup_limit=None, cgroup_used=None)
    monkeypatch.setattr(process_memory, "machine", lambda: machine)
    monkeypatch.setattr("flask_knitperf.collectors.memory.pressure_relief.machine", lambda: machine)


def test_under_pressure_a_check_warns_and_shrinks_caches(
    optimizer: MemoryOptimizer, pressed: None
) -> None:
    cache = optimizer.weak_cache("frames")
    cache["a"] = optimizer
    warning = optimizer.monitor_memory_usage()
    assert warning["level"] == "CRITICAL" and "machine" in warning["message"]
    assert warning["memory_mb"] > 5 and warning["memory_percent"] > 0
    assert warning["recommendations"]
    assert cache.statistics()["strong"] == 0


def test_under_pressure_an_applications_housekeeper_takes_the_steps(
    quiet: Any, pressed: None
) -> None:
    cache = quiet.perf.memory.weak_cache("frames")
    cache["a"] = quiet.app
    assert quiet.perf.memory.monitor_memory_usage()["level"] == "CRITICAL"
    assert cache.statistics()["strong"] == 1
    cache.clear()


def test_cleanup_drops_expired_entries_and_aggressive_cleanup_all(
    optimizer: MemoryOptimizer,
) -> None:
    moment = [0.0]
    cache = TTLCache(10, ttl=5, timer=lambda: moment[0])
    optimizer._process.caches.register(cache, threading.Lock())
    cache["old"] = 1
    moment[0] = 20.0
    assert optimizer.cleanup_memory()["cache_entries_dropped"] == 1
    cache["new"] = 1
    assert optimizer.get_memory_stats()["cache_size"] == 1
    assert optimizer.cleanup_memory(aggressive=True)["cache_entries_dropped"] == 1


def test_the_last_hundred_operations_are_kept_also_of_failed_ones(
    optimizer: MemoryOptimizer,
) -> None:
    for number in range(120):
        with optimizer.memory_tracker(f"op {number}"):
            pass
    with pytest.raises(ZeroDivisionError), optimizer.memory_tracker("failed"):
        _ = 1 / 0
    names = [operation["operation"] for operation in optimizer.memory_stats]
    assert names == [*(f"op {number}" for number in range(21, 120)), "failed"]


def test_a_large_increase_is_logged_as_a_warning(
    optimizer: MemoryOptimizer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = iter([100 << 20, 250 << 20])
    monkeypatch.setattr("flask_knitperf.collectors.memory.operation_log.rss", lambda: next(sizes))
    with optimizer.memory_tracker("load"):
        pass
    [record] = caplog.records
    assert record.levelname == "WARNING" and "+150.0 MB" in record.getMessage()


@pytest.mark.parametrize(
    "sizes",
    [
        [100.0 + n for n in range(9)],
        [100.0] * 15,
        [100.0] * 7 + [101.0] * 8,
        [100.0, 101.0] * 10,
        [115.0 - n for n in range(15)],
    ],
    ids=["too few", "constant", "one step", "noise", "falling"],
)
def test_operations_without_growth_beyond_chance_are_no_leak(
    optimizer: MemoryOptimizer, sizes: list[float]
) -> None:
    optimizer.memory_stats += [{"end_memory_mb": size} for size in sizes]
    assert optimizer.detect_memory_leaks() == []


def test_a_suspected_endpoint_is_detected_as_a_leak(
    quiet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    finding = {
        "type": "LEAK_SUSPECTED", "severity": "WARNING", "text": "Notes: grows.",
        "recommendation": "Run leakhunt.", "endpoint": "notes", "method": "POST",
    }  # fmt: skip
    report = {"bottlenecks": [finding, {**finding, "type": "SLOW_RESPONSE"}]}
    monkeypatch.setattr(quiet.session.documents, "report", lambda window: report)
    [leak] = quiet.perf.memory.detect_memory_leaks()
    assert leak == {
        "type": "LEAK_SUSPECTED", "severity": "WARNING", "description": "Notes: grows.",
        "recommendation": "Run leakhunt.", "endpoint": "notes", "method": "POST",
    }  # fmt: skip


def test_the_report_of_a_process_names_its_caches(optimizer: MemoryOptimizer) -> None:
    cache = optimizer.weak_cache("frames")
    report = optimizer.get_memory_report()
    assert [row["name"] for row in report["caches"]] == [cache.name]
    assert report["workers"][0]["worker"] == str(os.getpid())


def test_an_optimizer_that_was_deleted_leaves_no_thread(make_app: Callable[..., Any]) -> None:
    optimizer = MemoryOptimizer()
    optimizer.setup_automatic_cleanup(interval_minutes=10)
    optimizer.shutdown()
    del optimizer
    assert our_threads() == []
