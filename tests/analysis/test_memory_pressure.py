"""Memory pressure: the nearest limit decides."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_knitperf.analysis.memory_pressure import LEVELS, memory_pressure, slope

MB = 1024 * 1024


def level(**numbers: Any) -> str | None:
    rss = numbers.pop("rss", {"w1": 100 * MB})
    return memory_pressure(rss, threshold_mb=500, **numbers).level


def test_small_workers_are_fine() -> None:
    assert level() == "fine"


def test_nothing_measured_is_not_fine() -> None:
    assert level(rss={}) is None


def test_a_worker_above_the_threshold_warns() -> None:
    assert level(rss={"w1": 100 * MB, "w2": 600 * MB}) == "warning"


def test_a_worker_at_the_threshold_is_fine() -> None:
    assert level(rss={"w1": 500 * MB}) == "fine"


def test_a_worker_far_above_the_threshold_is_critical() -> None:
    assert level(rss={"w1": 1200 * MB}) == "critical"


def test_a_machine_without_memory_is_critical() -> None:
    assert level(total_bytes=8000 * MB, available_bytes=200 * MB) == "critical"


def test_workers_near_the_containers_limit_warn() -> None:
    assert level(rss={"a": 430 * MB, "b": 430 * MB}, cgroup_limit_bytes=1000 * MB) == "warning"


def test_shared_memory_is_not_counted_twice_against_the_container() -> None:
    rss, pss = {"a": 430 * MB, "b": 430 * MB}, {"a": 250 * MB, "b": 250 * MB}
    assert level(rss=rss, pss_bytes=pss, cgroup_limit_bytes=1000 * MB) == "fine"


def test_pressure_includes_a_remedy() -> None:
    pressure = memory_pressure({"w1": 600 * MB}, threshold_mb=500)
    assert pressure.advice
    assert "Worker w1 uses 600 MB, 120 % of" in pressure.reasons[0].text


def test_fine_needs_no_advice() -> None:
    assert memory_pressure({"w1": MB}, threshold_mb=500).advice == []


def test_workers_without_a_proportional_size_have_no_total_of_it() -> None:
    pressure = memory_pressure({"w1": MB, "w2": 2 * MB}, threshold_mb=500)
    assert (pressure.rss, pressure.pss) == (3 * MB, None)


@given(st.floats(0, 1e10), st.floats(0, 1e10))
def test_more_memory_is_never_less_pressure(one: float, other: float) -> None:
    small, large = sorted((one, other))
    levels = [level(rss={"w": size}) or "" for size in (small, large)]
    assert LEVELS.index(levels[0]) <= LEVELS.index(levels[1])


def test_a_flat_curve_with_noise_has_no_slope() -> None:
    noise = [3, -2, 1, 4, -3, 0, 2, -1, -4, 1, 3, -2]
    assert slope([[60 * n, 300 + mb] for n, mb in enumerate(noise)]) == 0


def test_a_rising_curve_has_its_slope() -> None:
    assert slope([[60 * n, 300 + n] for n in range(12)]) == pytest.approx(60)
