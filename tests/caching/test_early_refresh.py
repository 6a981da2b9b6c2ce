"""Early refresh: one call loads a value again shortly before it expires, the others are served it."""

from __future__ import annotations

import asyncio
import math
import random
import statistics
import threading
from typing import Any

import pytest

from flask_knitperf.caching.early_refresh import refresh_time

MIDDLE = 1 - math.exp(-1)
"""Draw whose lead time is the mean one."""


def slow(cache: Any, seconds: float = 2.0, **options: Any) -> Any:
    """Return a cached function whose loads take seconds."""

    def load() -> int:
        cache.now += seconds
        return len(cache.loads)

    return cache.counted(load, **{"ttl": 100.0, "early": 1.0} | options)


def test_lead_times_are_exponential_with_the_load_time_as_mean() -> None:
    draw = random.Random(7).random
    leads = [1000.0 - refresh_time(0.0, 1000.0, 3.0, 2.0, draw()) for _ in range(20_000)]
    assert statistics.mean(leads) == pytest.approx(6.0, rel=0.02)
    assert statistics.pstdev(leads) == pytest.approx(6.0, rel=0.03)
    assert sum(lead > 6.0 * math.log(2) for lead in leads) == pytest.approx(10_000, rel=0.03)


def test_the_time_is_the_first_at_which_the_rule_of_the_paper_holds() -> None:
    draw = random.Random(8).random
    for _ in range(1000):
        u, expiry, cost, beta = draw(), 500 + 1000 * draw(), 3 * draw(), 2 * draw()
        time = refresh_time(0.0, expiry, cost, beta, u)
        for now in (time - 1e-6, time + 1e-6):
            assert (now - cost * beta * math.log(1 - u) >= expiry) is (now > time)


@pytest.mark.parametrize("draw", [0.0, 0.5, MIDDLE, 1 - 2**-53])
@pytest.mark.parametrize("cost", [0.0, 1.0, 1e300])
@pytest.mark.parametrize("beta", [0.0, 1.0, 1e300])
def test_the_time_is_in_the_second_half_of_the_life(draw: float, cost: float, beta: float) -> None:
    assert 15.0 <= refresh_time(10.0, 20.0, cost, beta, draw) <= 20.0
    assert refresh_time(10.0, math.inf, cost, beta, draw) == math.inf


def test_one_call_loads_early_and_is_answered_with_the_new_value(cache: Any) -> None:
    cache.draw = lambda: MIDDLE
    cached = slow(cache)
    assert cached() == 1  # loaded at 1002, expires at 1102, due at 1100
    cache.now = 1099.9
    assert cached() == 1
    cache.now = 1100.1
    assert (cached(), cached(), len(cache.loads)) == (2, 2, 2)
    counts = cache.counts(cached)
    assert (counts["early"], counts["expired"], counts["misses"], counts["hits"]) == (1, 0, 2, 2)
    assert cached.cache._misses.reason(()) == "expires soon"


def test_it_is_off_by_default(cache: Any) -> None:
    cache.draw = lambda: 1 - 2**-53
    cached = slow(cache, early=0.0)
    cached()
    cache.now = 1101.9
    assert (cached(), len(cache.loads)) == (1, 1)


def test_values_without_expiry_are_never_due(cache: Any) -> None:
    cached = slow(cache, ttl=math.inf)
    cached()
    cache.now = 1e12
    assert (cached(), len(cache.loads)) == (1, 1)


@pytest.mark.parametrize("seed", range(5))
def test_a_steady_stream_of_calls_never_meets_an_expired_value(cache: Any, seed: int) -> None:
    cache.draw = random.Random(seed).random
    cached = slow(cache, seconds=0.5, ttl=10.0, early=3.0)
    for _ in range(5000):
        cache.now += 0.01
        cached()
    counts = cache.counts(cached)
    assert counts["early"] > 3 * counts["expired"] and counts["early"] > 2


def test_others_are_served_the_old_value_while_one_loads(cache: Any) -> None:
    loading, go_on = threading.Event(), threading.Event()

    def load() -> int:
        cache.now += 2.0
        if len(cache.loads) > 1:
            loading.set()
            assert go_on.wait(30)
        return len(cache.loads)

    cache.draw = lambda: MIDDLE
    cached = cache.counted(load, ttl=100.0, early=1.0)
    cached()
    cache.now = 1100.0
    answers: list[int] = []
    thread = threading.Thread(target=lambda: answers.append(cached()))
    thread.start()
    assert loading.wait(30)
    cache.now = 1101.0  # not yet expired
    assert [cached() for _ in range(10)] == [1] * 10
    go_on.set()
    thread.join()
    assert (answers, cached(), len(cache.loads)) == ([2], 2, 2)


def test_of_many_threads_one_claims_the_load(cache: Any) -> None:
    cache.draw = lambda: MIDDLE
    cached = slow(cache)
    for _ in range(20):
        before = len(cache.loads)
        cached()
        (entry,) = cached.cache.region.entries.values()
        cache.now = entry.refresh
        barrier, claims = threading.Barrier(8), []

        def claim(entry: Any = entry, barrier: Any = barrier, claims: Any = claims) -> None:
            barrier.wait()
            claims.append(entry.claim_refresh(cache.now))

        threads = [threading.Thread(target=claim) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(claims) == [False] * 7 + [True] and len(cache.loads) - before <= 1
        cached.cache._store.clear()


def test_a_load_that_fails_early_leaves_the_old_value(cache: Any) -> None:
    def load() -> int:
        cache.now += 2.0 if len(cache.loads) == 1 else 0.5
        if len(cache.loads) == 2:
            raise LookupError("busy")
        return len(cache.loads)

    cache.draw = lambda: MIDDLE
    cached = cache.counted(load, ttl=100.0, early=1.0)
    cached()
    cache.now = 1100.0
    assert (cached(), cached(), len(cache.loads)) == (1, 1, 2)
    assert cache.counts(cached)["stale"] == 0
    cache.now = 1102.0
    assert (cached(), len(cache.loads)) == (3, 3)


def test_an_invalidated_value_is_not_served_while_one_loads_early(cache: Any) -> None:
    cache.draw = lambda: MIDDLE
    cached = slow(cache)
    cached()
    cache.now = 1100.0
    cache.invalidation.namespace("n")
    assert cached() == 2
    counts = cache.counts(cached)
    assert (counts["early"], counts["invalidated"]) == (0, 1)


def test_a_stale_value_is_served_while_one_loads_after_the_expiry(cache: Any) -> None:
    answers: list[int] = []

    def load() -> int:
        cache.now += 2.0
        if len(cache.loads) == 2:
            thread = threading.Thread(target=lambda: answers.append(cached()))
            thread.start()
            thread.join()
        return len(cache.loads)

    cache.draw = lambda: MIDDLE
    cached = cache.counted(load, ttl=100.0, early=1.0, stale=50.0)
    cached()
    cache.now = 1102.5  # no call came between 1100 and 1102
    assert (cached(), answers, len(cache.loads)) == (2, [1], 2)


def test_a_cached_error_is_loaded_early_too(cache: Any) -> None:
    def load() -> None:
        cache.now += 2.0
        raise LookupError(len(cache.loads))

    cache.draw = lambda: MIDDLE
    cached = cache.counted(load, ttl=100.0, early=1.0, errors=(LookupError,))
    for now, expected in ((1000.0, 1), (1099.0, 1), (1100.0, 2), (1101.0, 2)):
        cache.now = now
        with pytest.raises(LookupError) as error:
            cached()
        assert error.value.args == (expected,)


def test_a_recursive_call_is_served_the_old_value(cache: Any) -> None:
    def load() -> int:
        cache.now += 2.0 if len(cache.loads) == 1 else 0.5
        return 1 if len(cache.loads) == 1 else 10 + int(cached())

    cache.draw = lambda: MIDDLE
    cached = cache.counted(load, ttl=100.0, early=1.0)
    cached()
    cache.now = 1100.0
    assert (cached(), len(cache.loads)) == (11, 2)


def test_one_task_loads_early_while_others_are_served(cache: Any) -> None:
    async def load() -> int:
        cache.loads.append(1)
        cache.now += 2.0 if len(cache.loads) == 1 else 0.5
        loads = len(cache.loads)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return loads

    cache.draw = lambda: MIDDLE
    cached = cache.cached(load, ttl=100.0, early=1.0)

    async def run() -> list[int]:
        await cached()
        cache.now = 1100.0
        return list(await asyncio.gather(*(cached() for _ in range(4))))

    assert sorted(asyncio.run(run())) == [1, 1, 1, 2] and len(cache.loads) == 2
