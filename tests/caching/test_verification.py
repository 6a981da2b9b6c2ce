"""A share of the hits is loaded again behind the answer, and compared."""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from flask_knitperf.caching.call_keys import KeyOptions
from flask_knitperf.caching.dependencies import Table, declared
from flask_knitperf.caching.function_cache import FunctionCache
from flask_knitperf.caching.invalidation import Invalidation
from flask_knitperf.caching.load_reads import NoObserver
from flask_knitperf.caching.options import Options
from flask_knitperf.caching.region import Difference, counts
from flask_knitperf.caching.store import Store
from flask_knitperf.caching.verification import (
    MAX_LOAD_S,
    MAX_PENDING,
    MAX_SHARE,
    Verification,
)
from flask_knitperf.metrics.catalogue import DifferenceKind


class Requests(NoObserver):
    """Requests without an application: each can be copied."""

    is_running = True

    def copy_request(self) -> Any:
        return self if self.is_running else None

    @staticmethod
    def run(function: Callable[[], object]) -> None:
        function()

    def endpoint(self) -> tuple[str, str]:
        return "stock", "GET"


class Site:
    """A cache whose time, draws and ends of responses are set by the test."""

    def __init__(self, every: int = 1) -> None:
        self.every, self.now, self.jobs = every, 1000.0, list[Callable[[], None]]()
        self.requests, self.draw = Requests(), random.Random(1).random
        self.store, self.invalidation = Store(10_000_000, clock=self.clock, seed=1), Invalidation()
        self.verification = Verification(
            lambda: self.every, self.schedule, self.requests, lambda: None, self.clock,
            time.time, self.draw,
        )  # fmt: skip
        self.now += 1000  # so that it may take some time

    def clock(self) -> float:
        return self.now

    def schedule(self, job: Callable[[], None]) -> bool:
        if job not in self.jobs:
            self.jobs.append(job)
        return True

    def cached(self, function: Callable[..., Any], **options: Any) -> Any:
        depends = declared(options.pop("depends", "auto"))
        keys = KeyOptions(options.pop("key", None))
        self.cache = FunctionCache(
            function, Options("n", keys=keys, depends=depends, **options), self.store,
            self.invalidation, [], lambda: False, self.clock, verification=self.verification,
        )  # fmt: skip
        return self.cache.wrapper

    def end(self) -> None:
        """End a response."""
        while self.jobs:
            self.jobs.pop()()

    @property
    def verified(self) -> tuple[int, int]:
        row = counts([self.cache.region])
        return row["verified"], row["differed"]

    @property
    def differences(self) -> list[tuple[DifferenceKind, str]]:
        return [(one.kind, one.source) for one in self.cache.region.differences]


@pytest.fixture
def site() -> Site:
    return Site()


class TestWhichHits:
    """Each hit of a request has the same chance."""

    def test_a_hit_is_verified_after_its_response(self, site: Site) -> None:
        calls: list[int] = []
        f = site.cached(lambda: calls.append(1) or len(calls) * 0)
        f(), f()
        assert (len(calls), site.verified) == (1, (0, 0))
        site.end()
        assert (len(calls), site.verified) == (2, (1, 0))

    def test_one_in_every_so_many_hits_is_verified(self) -> None:
        site = Site(every=20)
        f = site.cached(lambda key: key)
        for number in range(8000):
            f(number % 7)
            site.end()
        assert 340 < site.verified[0] < 460

    def test_values_that_live_for_few_hits_are_verified_as_often(self) -> None:
        site = Site(every=20)
        f = site.cached(lambda: 1, ttl=1.0)
        for number in range(8000):
            site.now += 0.5 if number % 3 else 0.6
            f()
            site.end()
        hits = counts([site.cache.region])["hits"]
        assert hits / 20 * 0.75 < site.verified[0] < hits / 20 * 1.25

    @pytest.mark.parametrize("every", [0])
    def test_none_is_verified_where_that_is_off(self, every: int) -> None:
        site = Site(every)
        f = site.cached(lambda: 1)
        for _ in range(100):
            f()
        assert not site.jobs

    def test_a_hit_outside_of_a_request_is_not_verified(self, site: Site) -> None:
        site.requests.is_running = False
        f = site.cached(lambda: 1)
        f(), f()
        assert not site.jobs

    def test_hits_that_wait_are_bounded(self, site: Site) -> None:
        calls: list[int] = []
        f = site.cached(calls.append)
        for key in range(100):
            f(key), f(key)
        calls.clear()
        site.end()
        assert len(calls) == MAX_PENDING

    def test_verification_takes_a_bounded_share_of_the_time(self, site: Site) -> None:
        def slow() -> int:
            site.now += 3.0
            return 1

        f = site.cached(slow)
        began = site.now
        for _ in range(500):
            f()
            site.end()
            site.now += 10.0
        spent = counts([site.cache.region])["verify_seconds"]
        assert 0 < spent <= MAX_SHARE * (site.now - began + 1000)

    def test_a_value_that_takes_long_to_load_is_not_verified(self, site: Site) -> None:
        def slow() -> int:
            site.now += MAX_LOAD_S + 1.0
            return 1

        site.now += 1e9
        f = site.cached(slow)
        f(), f()
        assert not site.jobs

    def test_hits_that_wait_are_verified_while_there_is_time(self, site: Site) -> None:
        calls: list[int] = []

        def load(key: int) -> int:
            site.now += 2.0
            calls.append(key)
            return key

        f = site.cached(load)
        for key in range(5):
            f(key), f(key)
        calls.clear()
        site.end()
        assert 0 < len(calls) < 5 and site.now < 2100

    def test_an_argument_that_was_changed_since_is_not_verified(self, site: Site) -> None:
        rows = [1, 2]
        f = site.cached(sum)
        f(rows), f(rows)
        rows.append(3)
        site.end()
        assert site.verified == (0, 0)

    def test_a_value_that_is_invalidated_meanwhile_is_not_compared(self, site: Site) -> None:
        state = [1]
        f = site.cached(lambda: state[0])
        f(), f()
        state[0] = 2
        site.invalidation.namespace("n")
        site.end()
        assert site.verified == (0, 0)

    def test_a_value_that_is_invalidated_by_the_new_load_is_not_compared(self, site: Site) -> None:
        state: list[Any] = [1]

        def load() -> Any:
            if state[0] > 1:
                site.invalidation.namespace("n")
            return state[0]

        f = site.cached(load)
        f(), f()
        state[0] = 2
        site.end()
        assert site.verified == (0, 0)

    def test_hits_of_a_child_are_those_of_the_child(self, site: Site) -> None:
        f = site.cached(lambda: 1)
        f(), f()
        pid = os.fork()
        if not pid:
            site.end()
            os._exit(site.verified != (0, 0))
        assert os.waitpid(pid, 0)[1] == 0
        site.end()
        assert site.verified == (1, 0)


class TestDifferences:
    """A value that differs is removed, and its cause is named."""

    def test_the_next_call_gets_the_new_value(self, site: Site) -> None:
        state = [1]
        f = site.cached(lambda: state[0])
        f(), f()
        state[0] = 2
        assert f() == 1
        site.end()
        assert f() == 2 and site.verified == (1, 1)
        assert counts([site.cache.region])["invalidated"] == 1

    def test_an_undetected_source_of_a_value_for_ever_is_unexplained(self, site: Site) -> None:
        state = [1]
        f = site.cached(lambda: state[0])
        f(), f()
        state[0] = 2
        site.end()
        assert list(site.cache.region.differences) == [
            Difference(
                "stock", "GET", f"{__name__}.{f.__qualname__}", DifferenceKind.UNEXPLAINED, ""
            )
        ]

    def test_within_its_ttl_a_value_has_aged(self, site: Site) -> None:
        state = [1]
        f = site.cached(lambda: state[0], ttl=60.0)
        f(), f()
        state[0] = 2
        site.end()
        assert site.differences == [(DifferenceKind.AGED, "")]

    @pytest.mark.parametrize("ttl", [None, 3600.0])
    def test_a_file_that_depends_lacks_is_named(
        self, site: Site, tmp_path: Path, ttl: float | None
    ) -> None:
        prices, rates = tmp_path / "prices", tmp_path / "rates"
        prices.write_text("1"), rates.write_text("1")
        time.sleep(0.02)  # longer than the grain of the file system's clock
        options = {} if ttl is None else {"ttl": ttl}
        f = site.cached(
            lambda: prices.read_text() + rates.read_text(), depends=Table("yarn"), **options
        )
        site.cache._tracks_tables = lambda: True
        f(), f()
        began = time.monotonic()
        time.sleep(0.02)
        rates.write_text("2")
        site.now += time.monotonic() - began
        site.end()
        assert site.differences == [(DifferenceKind.UNDECLARED, f"file {rates}")]

    def test_two_results_at_one_moment_cannot_be_cached_for_ever(self, site: Site) -> None:
        f = site.cached(random.random)
        f(), f()
        site.end()
        assert site.differences == [(DifferenceKind.UNREPEATABLE, "")] and site.verified == (1, 1)

    def test_the_time_in_a_value_with_a_ttl_is_no_difference(self, site: Site) -> None:
        f = site.cached(random.random, ttl=60.0)
        f(), f()
        site.end()
        assert site.differences == [] and site.verified == (0, 0)

    def test_last_digits_are_no_difference(self, site: Site) -> None:
        parts = [0.1, 0.2, 0.3]
        f = site.cached(lambda: pd.DataFrame({"kg": [sum(parts)]}))
        f(), f()
        parts.reverse()
        site.end()
        assert site.verified == (1, 0)

    def test_a_result_that_cannot_be_cached_any_longer_differs(self, site: Site) -> None:
        state: list[Any] = [[1]]
        f = site.cached(lambda: state[0])
        f(), f()
        state[0] = iter([1])
        site.end()
        assert site.verified == (1, 1)

    def test_a_load_that_raises_counts_as_nothing(
        self, site: Site, caplog: pytest.LogCaptureFixture
    ) -> None:
        state = [1]

        def load() -> int:
            if not state:
                raise OSError("the database is down")
            return state[0]

        f = site.cached(load)
        with caplog.at_level(logging.INFO, "flask_knitperf"):
            f(), f()
            state.clear()
            site.end()
            assert f() == 1
            site.end()
        assert site.verified == (0, 0)
        assert [record.levelname for record in caplog.records] == ["INFO"]

    def test_values_that_raise_when_they_are_compared_harm_nothing(self, site: Site) -> None:
        class Odd:
            __slots__ = ()

            def __eq__(self, other: object) -> bool:
                raise RuntimeError("compared")

            __hash__ = None  # type: ignore[assignment]

        f = site.cached(lambda: [Odd()])
        f(), f()
        site.end()
        assert isinstance(f()[0], Odd) and site.verified == (0, 0)
