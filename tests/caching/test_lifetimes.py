"""Lifetimes of cached functions: tuned ones, and advice on fixed ones."""

from __future__ import annotations

import random
from typing import Any

import pandas as pd
import pytest

from flask_knitperf import CacheOptimizer
from flask_knitperf.caching.lifetimes import MAX_DIGEST_SHARE
from flask_knitperf.caching.ttl_tuning import FIRST_TTL_S
from flask_knitperf.core.errors import KnitPerfError


def _calls(cache: Any, cached: Any, seconds: float, every: float = 0.5) -> int:
    """Call a function for some seconds; return the number of its loads."""
    before, end = len(cache.loads), cache.now + seconds
    while cache.now < end:
        cache.now += every
        cached()
    return len(cache.loads) - before


def test_a_value_that_never_changes_is_loaded_ever_more_rarely(cache: Any) -> None:
    cached = cache.counted(lambda: 1, auto_ttl=True)
    loads = [_calls(cache, cached, 1000) for _ in range(4)]
    assert loads[0] > 1.5 * loads[3] and sum(loads) < 60


def test_a_value_that_changes_all_the_time_is_loaded_often(cache: Any) -> None:
    cached = cache.counted(lambda: cache.now, auto_ttl=True)
    assert _calls(cache, cached, 200) > 200 / FIRST_TTL_S


@pytest.mark.parametrize(
    "create",
    [
        lambda: pd.DataFrame({"kg": [0.1, 0.2]}),
        lambda: {"rows": [1, 2, {"a": None}]},
        lambda: [sum(random.sample([0.1, 0.2, 0.3], 3))],
        lambda: dict(random.sample([("a", 1), ("b", 2), ("c", 3)], 3)),
    ],
)
def test_equal_values_in_another_form_are_no_change(cache: Any, create: Any) -> None:
    cached = cache.counted(create, auto_ttl=True)
    cached.cache.lifetimes._load_s = 1000.0  # so that digests may take some time
    _calls(cache, cached, 300)
    assert cached.cache.lifetimes.advice()["changes"] == 0
    assert cached.cache.lifetimes.advice()["checks"] > 3


def test_an_invalidated_value_is_no_check_of_its_lifetime(cache: Any) -> None:
    state = [0]
    cached = cache.counted(lambda: state[0], auto_ttl=True)
    for _ in range(50):
        cache.now += 1.0
        cached()
        state[0] += 1
        cache.invalidation.namespace("n")
    assert cached.cache.lifetimes.advice()["checks"] == 0


def test_a_value_that_was_removed_after_its_expiry_is_compared_too(cache: Any) -> None:
    cached = cache.counted(lambda: 1, auto_ttl=True)
    for _ in range(5):
        cached()
        cache.now += 1000.0
        cache.store.expire()
    assert cached.cache.lifetimes.advice()["checks"] == 4


def test_values_without_a_digest_live_for_a_moment(cache: Any) -> None:
    cached = cache.counted(lambda: [1], auto_ttl=True)
    lifetimes: Any = cached.cache.lifetimes
    lifetimes._digest = lambda _: None
    assert _calls(cache, cached, 100) == pytest.approx(100 / FIRST_TTL_S, abs=3)


def test_digests_take_a_bounded_share_of_the_time_of_loading(cache: Any) -> None:
    cached = cache.counted(lambda: 1, auto_ttl=True)
    lifetimes: Any = cached.cache.lifetimes
    lifetimes._digest_s = 100.0
    _calls(cache, cached, 100)
    assert lifetimes.advice()["checks"] == 0
    lifetimes._load_s = 101.0 / MAX_DIGEST_SHARE
    _calls(cache, cached, 100)
    assert lifetimes.advice()["checks"] > 0


def test_an_outer_value_ends_with_a_tuned_inner_one(cache: Any) -> None:
    state = [0]
    inner = cache.cached(lambda: state[0], auto_ttl=True, namespace="inner")
    outer = cache.cached(lambda: inner(), namespace="outer")  # noqa: PLW0108 (a function of its kind)
    assert outer() == 0
    state[0] = 1
    cache.now += FIRST_TTL_S + 0.1
    assert outer() == 1


class TestAdvice:
    """`optimize_ttl` explains each function."""

    def test_a_tuned_function_has_its_changes_and_lifetimes(self, cache: Any) -> None:
        cached = cache.counted(lambda: int(cache.now / 100), auto_ttl=True)
        _calls(cache, cached, 5000)
        advice = cached.cache.lifetimes.advice()
        assert advice["ttl"] == "auto" and advice["checks"] > 20
        assert 10 < advice["changes_per_hour"] < 80
        assert advice["shortest_s"] == advice["median_s"] == advice["longest_s"]
        assert advice["hit_rate"] > 0.5 and advice["stale_share"] < 0.08
        assert "Lifetimes from" in advice["text"]

    def test_a_fixed_function_has_both_outcomes(self, cache: Any) -> None:
        cached = cache.counted(lambda: int(cache.now / 1000), ttl=10.0)
        _calls(cache, cached, 6000)
        advice = cached.cache.lifetimes.advice()
        assert advice["ttl"] == 10.0
        assert "With ttl=10: " in advice["text"] and 'With ttl="auto"' in advice["text"]

    def test_few_checks_are_too_few(self, cache: Any) -> None:
        cached = cache.counted(lambda: 1, ttl=10.0)
        _calls(cache, cached, 60)
        assert "too few" in cached.cache.lifetimes.advice()["text"]

    def test_a_function_without_a_ttl_has_none(self, cache: Any) -> None:
        cached = cache.counted(lambda: 1)
        _calls(cache, cached, 10)
        advice = cached.cache.lifetimes.advice()
        assert advice["ttl"] is None and "never expires" in advice["text"]

    def test_the_public_method_lists_each_function(self) -> None:
        optimizer = CacheOptimizer()

        @optimizer.cached(ttl="auto", namespace="b")
        def second() -> int:
            return 1

        @optimizer.cached(namespace="a")
        def first() -> int:
            return 1

        assert second() == first() == 1
        rows = optimizer.optimize_ttl()
        assert [(row["namespace"], row["ttl"]) for row in rows] == [("a", None), ("b", "auto")]

    @pytest.mark.parametrize("ttl", ["Auto", "60", "", True, 0, -1, [1]])
    def test_another_ttl_is_refused(self, ttl: Any) -> None:
        with pytest.raises(KnitPerfError, match="ttl must be a number"):
            CacheOptimizer().cached(ttl=ttl)(lambda: 1)


def test_a_failure_of_ours_costs_no_call(cache: Any, caplog: pytest.LogCaptureFixture) -> None:
    for options, ttl in (({"auto_ttl": True}, FIRST_TTL_S), ({"ttl": 60.0}, 60.0)):
        cached = cache.counted(lambda: 1, **options)
        cached.cache.lifetimes._tuner.loaded = None
        assert [cached(), cached()] == [1, 1]
        (entry,) = cached.cache.region.entries.values()
        assert entry.expires == cache.now + ttl
        cache.now += 100.0
        cached()
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
