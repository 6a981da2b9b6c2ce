"""Containers and types that grow between requests."""

from __future__ import annotations

import collections
import functools
import gc
import weakref
from typing import Any

import cachetools
import pytest

from flask_knitperf.experiments.leakhunt.retainers import (
    ContainerLengths,
    bound_of,
    count_types,
    growing_types,
    type_name,
)


class Cone:
    """An object that is retained."""


class Shelf:
    """Containers of one test: a hunt does not see those of the module, which the session froze."""

    def __init__(self) -> None:
        self.kept: list[Any] = []
        self.named: dict[str, Any] = {}


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def test_a_container_that_grows_with_each_request_is_reported(shelf: Shelf) -> None:
    shelf.named.update({str(number): number for number in range(5)})
    containers = ContainerLengths()
    for requests in (0, 10, 20):
        containers.record(requests)
        shelf.kept.extend(Cone() for _ in range(20))
        shelf.named.update({f"{requests} {number}": number for number in range(10)})
    containers.record(30)
    growing = containers.growing()
    assert [rate for container, rate in growing if container is shelf.kept] == [2.0]
    # of plain values, so the collector does not track it
    assert [rate for container, rate in growing if container is shelf.named] == [1.0]


def test_a_container_that_grew_once_is_not_reported(shelf: Shelf) -> None:
    containers = ContainerLengths()
    containers.record(0)
    shelf.kept.extend(Cone() for _ in range(100))
    containers.record(10)
    containers.record(20)
    assert not any(container is shelf.kept for container, _ in containers.growing())


def test_growth_needs_two_records() -> None:
    containers = ContainerLengths()
    containers.record(0)
    assert containers.growing() == []


def test_strong_references_come_before_weak_ones(shelf: Shelf) -> None:
    weak: set[Any] = set()
    shelf.named["weak"] = weak
    containers = ContainerLengths()
    for requests in (0, 10, 20):
        containers.record(requests)
        shelf.kept.extend(Cone() for _ in range(10))
        weak.update(map(weakref.ref, shelf.kept))
    containers.record(30)
    growing = [c for c, _ in containers.growing() if c is shelf.kept or c is weak]
    assert growing[0] is shelf.kept and growing[1] is weak


BOUNDS = [
    (functools.lru_cache(maxsize=70)(id), 70),
    (functools.cache(id), None),
    (collections.deque(maxlen=9), 9),
    (collections.deque(), None),
    (cachetools.LRUCache(30), 30),
    (cachetools.LRUCache(float("inf")), None),
    ([], None),
]


@pytest.mark.parametrize(("container", "bound"), BOUNDS)
def test_a_bounded_container_has_its_bound(container: Any, bound: int | None) -> None:
    assert bound_of(container) == bound


def test_objects_are_counted_by_type_with_the_untracked_ones_they_refer_to(shelf: Shelf) -> None:
    gc.collect()
    before = count_types()
    shelf.kept.extend([Cone(), 10**20 + number] for number in range(7))
    after = count_types()
    assert after[type_name(Cone)] - before[type_name(Cone)] == 7
    # or there are too many references to count
    assert after["int"] - before["int"] >= 7 or not before["int"]


def test_types_that_grow_have_their_objects_per_request() -> None:
    counts = [(at, {"dict": 100 + 2 * at, "list": 50, "set": at // 40}) for at in range(0, 120, 10)]
    assert growing_types(counts) == {"dict": 2.0}


def test_without_counts_there_are_no_types() -> None:
    assert growing_types([]) == {}


def test_a_type_name_has_its_module_unless_it_is_built_in() -> None:
    assert type_name(dict) == "dict"
    assert type_name(weakref.WeakSet) == "_weakrefset.WeakSet"
