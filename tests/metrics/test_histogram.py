"""Quantiles and bucket midpoints of one histogram."""

from __future__ import annotations

import pytest


def test_quantiles_beyond_the_known_buckets_are_the_last_bucket() -> None:
    from flask_knitperf.metrics.histogram import Histogram

    assert Histogram(count=9, buckets={64: 2}).quantile(0.9) == pytest.approx(2.01, rel=0.01)
    assert Histogram().quantiles((0.5, 0.9)) == [None, None]
    assert Histogram().deviation is None


def test_the_cache_of_bucket_midpoints_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from flask_knitperf.metrics import histogram

    monkeypatch.setattr(histogram, "_midpoints", {})
    monkeypatch.setattr(histogram, "_MAX_MIDPOINTS", 1)
    assert histogram.midpoint(1) == pytest.approx(histogram.midpoint(1))
    assert histogram.midpoint(2) > 0
    assert len(histogram._midpoints) == 1
