"""A cache whose time is set by the test."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from flask_knitperf.caching.call_keys import KeyOptions
from flask_knitperf.caching.function_cache import FunctionCache
from flask_knitperf.caching.invalidation import Invalidation
from flask_knitperf.caching.options import Options
from flask_knitperf.caching.region import CacheCounts, counts
from flask_knitperf.caching.store import Store

_KEYS = ("key", "ignore", "vary")


class Cache:
    """A store, its versions, a clock that the test moves, and the calls of cached functions."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.store = Store(10_000_000, clock=self.clock, seed=1)
        self.invalidation = Invalidation()
        self.bypasses: list[Any] = []
        self.loads: list[Any] = []
        self.draw = random.Random(1).random

    def clock(self) -> float:
        return self.now

    def cached(self, function: Callable[..., Any], **options: Any) -> Any:
        """Return the cached function."""
        keys = {name: options.pop(name) for name in _KEYS if name in options}
        namespace = options.pop("namespace", "n")
        tracks_tables = options.pop("tracks_tables", lambda: False)
        cache = FunctionCache(
            function, Options(namespace, keys=KeyOptions(**keys), **options), self.store,
            self.invalidation, self.bypasses, lambda: 1 in self.bypasses, self.clock,
            draw=self.draw, tracks_tables=tracks_tables,
        )  # fmt: skip
        cache.wrapper.cache = cache  # type: ignore[attr-defined]
        return cache.wrapper

    def counted(self, function: Callable[..., Any] | None = None, **options: Any) -> Any:
        """Return a cached function whose loads are noted in :attr:`loads`."""

        def load(*args: Any, **kwargs: Any) -> Any:
            self.loads.append((args, kwargs) if kwargs else args)
            return len(self.loads) if function is None else function(*args, **kwargs)

        return self.cached(load, **options)

    def counts(self, function: Any) -> CacheCounts:
        """Return the counts of a cached function."""
        return counts([function.cache.region])


@pytest.fixture
def cache() -> Cache:
    return Cache()
