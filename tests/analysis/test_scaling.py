"""Scaling with rows: the exponent within its interval, no law without evidence."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

import pytest

from flask_knitperf.analysis.endpoints import MAX_SCALING_LAWS, endpoints
from flask_knitperf.analysis.regression import compare
from flask_knitperf.analysis.scaling import ScalingLaw, scaling_law
from flask_knitperf.metrics.histogram import Histogram
from flask_knitperf.metrics.readings.rows import SizeReading
from tests.reports.building import report_of

from .tables import LIMITS, Mill

CLASSES = [2 ** (half / 2) for half in range(14, 34, 2)]  # 128 to 65,536 rows


def drawn(
    time: Callable[[float], float], seed: int, rows: Iterable[float] = CLASSES, count: int = 12
) -> dict[float, list[float]]:
    """Return times in ms by rows: a fifth of scatter, one in twenty ten times as slow."""
    chance = random.Random(seed)
    return {
        number * chance.uniform(0.9, 1.1): [
            time(number) * chance.lognormvariate(0, 0.2) * (10 if chance.random() < 0.05 else 1)
            for _ in range(count)
        ]
        for number in rows
    }


def law_of(times: dict[float, list[float]]) -> ScalingLaw | None:
    return scaling_law([
        SizeReading("", n, Histogram.of(t * 1e6 for t in those)) for n, those in times.items()
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("k", "time"),
    [
        (0.5, lambda n: n**0.5),
        (1.0, lambda n: 0.01 * n),
        (1.0, lambda n: 5 + 0.005 * n),
        (2.0, lambda n: 2 + 1e-6 * n * n),
    ],
)
def test_the_exponent_lies_within_its_interval(k: float, time: Callable[[float], float]) -> None:
    laws = [law for seed in range(40) if (law := law_of(drawn(time, seed))) is not None]
    assert len(laws) >= 25
    assert sum(law.low <= k <= law.high for law in laws) >= 0.9 * len(laws)
    assert all(abs(law.k - k) <= 0.5 for law in laws)


def test_time_that_does_not_grow_follows_no_law() -> None:
    assert [law_of(drawn(lambda _: 20.0, seed)) for seed in range(40)] == [None] * 40


def test_growth_without_an_order_is_no_law() -> None:
    steps = iter([5, 900, 3, 700, 2, 800, 4, 650, 1, 999])
    assert law_of({n: [float(next(steps))] * 12 for n in CLASSES}) is None


@pytest.mark.parametrize(
    "rows", [CLASSES[:3], [100, 200, 300, 400, 500], [0, 0, 0, 0, 0], []]
)  # fmt: skip
def test_few_sizes_and_a_narrow_range_show_no_law(rows: list[float]) -> None:
    assert law_of(drawn(lambda n: 1 + n, 1, rows)) is None


def test_classes_of_one_or_two_requests_do_not_count() -> None:
    assert law_of(drawn(lambda n: 1 + n, 1, count=2)) is None


def test_requests_that_take_no_time_show_no_law() -> None:
    assert law_of({n: [0.0] * 12 for n in CLASSES}) is None


LINEAR = ScalingLaw(1.0, 0.9, 1.1, 10.0, 0.01, 100, 10_000, 80)


def test_a_law_gives_the_rows_at_which_a_duration_is_reached() -> None:
    assert LINEAR.ms(10_000) == 110
    assert LINEAR.rows_at(510) == pytest.approx(50_000)
    crossing = LINEAR.next_crossing(200)
    assert crossing is not None and (crossing.ms, round(crossing.rows)) == (200, 19_000)


@pytest.mark.parametrize("ms", [5, 50, 1e9])
def test_unreachable_past_or_too_distant_durations_give_nothing(ms: float) -> None:
    assert LINEAR.rows_at(ms) is None


def test_above_its_threshold_an_endpoint_includes_the_rows_of_a_server_timeout() -> None:
    slow = ScalingLaw(1.0, 0.9, 1.1, 10.0, 1.0, 100, 10_000, 80)
    crossing = slow.next_crossing(200)
    assert crossing is not None and (crossing.ms, round(crossing.rows)) == (30_000, 29_990)
    flat = ScalingLaw(1.0, 0.9, 1.1, 10.0, 1e-9, 100, 10_000, 80)
    assert flat.next_crossing(200) is None


# -- in the report ---------------------------------------------------------------------------------


def mill(time: Callable[[float], float], seed: int = 0, rows: Iterable[float] = CLASSES) -> Mill:
    mill_ = Mill()
    for number, times in drawn(time, seed, rows).items():
        mill_.sized("plan", number, times)
    return mill_


def test_the_finding_of_a_slow_endpoint_includes_its_scaling() -> None:
    document = report_of(mill(lambda n: 0.05 * n))
    [row] = document["endpoints"]
    size_law = row["size_law"]
    assert size_law is not None and size_law["k"] == pytest.approx(1.0, abs=0.1)
    finding = document["bottlenecks"][0]
    assert "Its time grows with rows^1.0 (" in finding["text"]
    assert "rows it passes 30.0 s." in finding["text"]


def test_of_many_endpoints_those_that_take_most_time_are_looked_at() -> None:
    mill_ = Mill()
    for number in range(MAX_SCALING_LAWS + 3):
        for rows, times in drawn(lambda n, f=number + 1: 0.01 * n * f, number).items():  # type: ignore[misc]
            mill_.sized(f"e{number}", rows, times)
    rows = endpoints(mill_.readings, LIMITS)
    assert sum(row.scaling_law is not None for row in rows) <= MAX_SCALING_LAWS
    assert {row.endpoint for row in rows if not row.scaling_law} >= {"e0", "e1", "e2"}


# -- what is slower by its rows alone --------------------------------------------------------------


def changed(now: Mill, before: Mill) -> str:
    [row] = compare(endpoints(now.readings, LIMITS), endpoints(before.readings, LIMITS))
    return row.change


def test_a_month_s_end_is_no_regression() -> None:
    before = mill(lambda n: 0.01 * n, 1, CLASSES[:7])
    assert changed(mill(lambda n: 0.01 * n, 2, CLASSES[5:]), before) == "more rows"
    beyond = [4 * n for n in CLASSES[5:]]  # sizes that were never seen: by the law
    assert changed(mill(lambda n: 0.01 * n, 3, beyond), before) == "more rows"


def test_more_rows_excuse_no_slowdown_at_the_same_rows() -> None:
    before = mill(lambda n: 0.01 * n, 1, CLASSES[:7])
    assert changed(mill(lambda n: 0.02 * n, 2, CLASSES[5:]), before) == "slower"
    assert changed(mill(lambda n: 0.02 * n, 3), before) == "slower"


def test_requests_of_unknown_size_are_excused_by_nothing() -> None:
    before = mill(lambda n: 0.01 * n, 1, CLASSES[:7])
    now = mill(lambda n: 0.01 * n, 2, CLASSES[5:]).requests("plan", [2000.0] * 60)
    assert changed(now, before) == "slower"
