"""The memory report in a terminal: pressure, suspects and clean-ups."""

from __future__ import annotations

from typing import Any

from flask_knitperf.render import terminal_memory

REPORT: dict[str, Any] = {
    "level": "warning", "threshold_mb": 500.0,
    "reasons": [{"level": "warning", "text": "Worker w-1 uses 430 MB of 500 MB"}],
    "recommendations": ["Load fewer or smaller DataFrames in each worker."],
    "workers": [{"worker": "w-1-0123456789ab", "rss_mb": 430.0, "pss_mb": None, "peak_mb": 512.0,
                 "slope_mb_per_hour": 12.0}],
    "total_rss_mb": 430.0, "total_pss_mb": None, "available_mb": 5_000.0, "percent": 63.2,
    "cgroup_limit_mb": None, "growth": [],
    "suspects": [{"method": "GET", "endpoint": "notes", "kb_per_request": 2.0, "grown_mb": 3.5}],
    "housekeeper": [{"at": "2026-11-24T03:12:05+00:00", "worker": "w-1-0123456789ab",
                     "freed_mb": 81.3, "pause_ms": 120.0, "why": "above the threshold"}],
}  # fmt: skip


def test_pressure_suspects_and_clean_ups_are_shown_in_eighty_columns() -> None:
    text = terminal_memory.memory(REPORT)  # type: ignore[arg-type]
    lines = text.splitlines()
    assert lines[0] == "Memory: Warning"
    assert "Warning: Worker w-1 uses 430 MB of 500 MB." in lines
    assert "Load fewer or smaller DataFrames in each worker." in lines
    assert "w-1-0123456789ab    430 MB    –  512 MB  +12.0 MB/h" in lines
    assert "63 % of its memory is in use" in " ".join(text.split())
    assert "  Suspected leak: GET notes retains 2.0 KB per request, 3.5 MB so far" in lines
    assert "24 Nov 03:12:05 UTC, w-1-0123456789ab: freed 81.3 MB in 120 ms: above the" in lines
    assert max(map(len, lines)) <= 80


def test_memory_with_a_suspected_leak_is_not_called_fine() -> None:
    calm: Any = {**REPORT, "level": "fine", "reasons": [], "recommendations": []}
    assert terminal_memory.memory(calm).startswith("Memory: Leak suspected\n")
    assert terminal_memory.memory({**calm, "suspects": []}).startswith("Memory: Fine\n")
