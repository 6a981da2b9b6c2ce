"""Many histograms at once: the same answers as one after another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_knitperf.metrics.histogram import Histogram
from flask_knitperf.metrics.histogram_batch import Batch

durations = st.one_of(st.just(0), st.integers(1, 10**13))
many = st.lists(st.lists(durations, max_size=30), max_size=6)
QUANTILES = (0.0, 0.3, 0.5, 0.95, 0.99, 1.0)


def histograms(values: list[list[int]], bounded: bool) -> list[Histogram]:
    """Return histograms, as they are or as of a window whose extremes are unknown."""
    batched = [Histogram.of(item) for item in values]
    if not bounded:
        for one in batched:
            one.low = one.high = None
    return batched


@given(many, st.booleans())
def test_quantiles_are_those_of_each(values: list[list[int]], bounded: bool) -> None:
    batched, alone = histograms(values, bounded), histograms(values, bounded)
    Batch(batched).quantiles(QUANTILES)
    for one, other in zip(batched, alone, strict=True):
        for mine, its in zip(one.quantiles(QUANTILES), other.quantiles(QUANTILES), strict=True):
            assert mine == its or mine == pytest.approx(its, rel=1e-12)


@given(many)
def test_deviations_are_those_of_each(values: list[list[int]]) -> None:
    batched, alone = histograms(values, True), histograms(values, True)
    Batch(batched).deviations()
    for one, other in zip(batched, alone, strict=True):
        mine, its = one.deviation, other.deviation
        assert mine == its or mine == pytest.approx(its, rel=1e-9, abs=1e-3)


@pytest.mark.slow
@given(many, durations, st.booleans())
def test_what_exceeds_a_limit_is_that_of_each(
    values: list[list[int]], limit: int, bounded: bool
) -> None:
    batched, alone = histograms(values, bounded), histograms(values, bounded)
    batch = Batch(batched)
    limits = [float(limit + place) for place in range(len(batch.histograms))]
    batch.above(limits)
    batch.excess(limits)
    filled = [one for one in alone if one.count]
    for one, other, item in zip(batch.histograms, filled, limits, strict=True):
        assert one.precomputed["above", item] == one.above(item) == other.above(item)
        assert one.excess(item) == pytest.approx(other.excess(item), rel=1e-9, abs=1e-3)


@pytest.mark.slow
@given(many)
def test_bars_hold_every_observation_between_the_smallest_and_the_largest(
    values: list[list[int]],
) -> None:
    filled = [item for item in values if item]
    for item, (uppers, counts) in zip(filled, Batch(histograms(values, True)).bars(8), strict=True):
        assert sum(counts) == len(item)
        assert 1 <= len(uppers) == len(counts) <= 8 and uppers == sorted(uppers)
        assert max(item) <= uppers[-1] * (1 + 1e-12)


def test_what_was_worked_out_is_forgotten_when_something_is_added() -> None:
    one = Histogram.of([1, 2, 3])
    Batch([one]).quantiles((0.5,))
    one.add(100)
    one.add(100)
    one.add(100)
    assert one.precomputed == {}
    assert one.quantile(0.5) == pytest.approx(3, rel=0.006)
