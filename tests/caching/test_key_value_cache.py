"""Values under chosen keys."""

from __future__ import annotations

import math
from typing import Any

import pytest

from flask_knitperf.caching.key_value_cache import KeyValueCache
from flask_knitperf.caching.region import counts
from flask_knitperf.core.errors import CacheKeyError, KnitPerfError


@pytest.fixture
def values(cache: Any) -> KeyValueCache:
    return KeyValueCache(cache.store, cache.invalidation, cache.clock)


def put(values: KeyValueCache, key: Any, value: Any, **more: Any) -> None:
    options = {"ttl": math.inf, "namespace": "n", "tags": ()} | more
    values.put(key, value, **options)


@pytest.mark.parametrize("key", ["a", 1, None, b"a", 1.5, True, ("a", 1), {"style": [1]}], ids=repr)
def test_a_value_is_found_by_its_key(values: KeyValueCache, key: Any) -> None:
    put(values, key, [1])
    values.get(key, None, "n").append(2)
    assert values.get(key, None, "n") == [1]
    assert values.get(key, "default", "other") == "default"


def test_keys_of_other_types_are_other_keys(values: KeyValueCache) -> None:
    for key in (1, True, 1.0, "1"):
        put(values, key, repr(key))
    assert [values.get(key, None, "n") for key in (1, True, 1.0, "1")] == [
        "1",
        "True",
        "1.0",
        "'1'",
    ]


def test_values_expire_and_are_invalidated(values: KeyValueCache, cache: Any) -> None:
    put(values, "a", 1, ttl=10), put(values, "b", 2, tags=("yarn",)), put(values, "c", 3)
    put(values, (1.5,), 4)
    cache.now += 10
    cache.invalidation.tags(["yarn"])
    values.invalidate((1.5,), "n")
    assert [values.get(key, None, "n") for key in ("a", "b", "c", (1.5,))] == [None, None, 3, None]
    row = counts(values.regions.values())
    assert (row["hits"], row["expired"], row["invalidated"], row["cold"]) == (1, 1, 2, 0)
    put(values, (1.5,), 5)
    assert values.get((1.5,), None, "n") == 5


def test_a_value_that_cannot_be_cached_is_an_error(values: KeyValueCache, cache: Any) -> None:
    with pytest.raises(KnitPerfError, match=r"'a' cannot be cached.*return a list"):
        put(values, "a", iter([1]))
    with pytest.raises(CacheKeyError):
        put(values, object(), 1)
    put(values, "large", "x" * 20_000_000)
    assert values.get("large", None, "n") is None
    assert counts(values.regions.values())["refused"] == 2
