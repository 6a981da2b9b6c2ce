"""Who holds what grows: named by its module, class, cache, closure, thread or context."""

from __future__ import annotations

import collections
import contextvars
import functools
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import cachetools
import pytest

from flask_knitperf.experiments.leakhunt.retainers import (
    Containers,
    bound_of,
    chain,
    count_types,
    describe,
    growing_types,
    type_name,
)


class Cone:
    """Something that is kept."""

    shelf: ClassVar[list[Any]] = []

    def __init__(self) -> None:
        self.beside: Any = None


KEPT: list[Any] = []
NAMED: dict[str, Any] = {}
LOCAL = threading.local()
VARIABLE: contextvars.ContextVar[Any] = contextvars.ContextVar("trail")


def remembered(cone: Cone) -> Callable[[], Cone]:
    return lambda: cone


@functools.cache
def cached(cone: Cone) -> int:
    return id(cone)


def pages(cone: Cone) -> Iterator[Cone]:
    yield cone
    yield cone


def kept_in_a_list(cone: Cone) -> None:
    KEPT.append(cone)


def kept_in_a_closure(cone: Cone) -> None:
    KEPT.append(remembered(cone))


def kept_in_an_attribute(cone: Cone) -> None:
    holder = Cone()
    holder.beside = [cone]
    NAMED["first"] = holder


def kept_in_a_class(cone: Cone) -> None:
    Cone.shelf.append(cone)


def kept_in_a_cache(cone: Cone) -> None:
    cached(cone)


def kept_in_a_generator(cone: Cone) -> None:
    begun = pages(cone)
    next(begun)
    KEPT.append(begun)


def kept_in_a_thread(cone: Cone) -> None:
    LOCAL.cones = [cone]


def kept_in_a_context(cone: Cone) -> None:
    VARIABLE.set((cone,))


def kept_by_a_method(cone: Cone) -> None:
    KEPT.append(cone.__init__)  # type: ignore[misc]


HERE = __name__
WAYS = {
    kept_in_a_list: f"KEPT of module {HERE} → list of 1 → Cone",
    kept_in_a_closure: "list of 1 → function remembered.<locals>.<lambda> → its closure → Cone",
    kept_in_an_attribute: f"NAMED of module {HERE} → dict of 1 → Cone.beside → list of 1 → Cone",
    kept_in_a_class: f"class {HERE}.Cone.shelf → list of 1 → Cone",
    kept_in_a_cache: "lru_cache of cached",
    kept_in_a_generator: f"KEPT of module {HERE} → list of 1 → generator pages",
    kept_in_a_thread: f"LOCAL of module {HERE} → _local",
    kept_in_a_context: "context variable trail → tuple of 1 → Cone",
    kept_by_a_method: "method Cone.__init__",
}


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    yield
    KEPT.clear()
    NAMED.clear()
    Cone.shelf.clear()
    cached.cache_clear()
    vars(LOCAL).clear()


def way_to(keep: Callable[[Cone], None]) -> str:
    made = Cone()
    keep(made)
    samples = [made]
    del made
    return describe(chain(samples))


@pytest.mark.parametrize("keep", WAYS, ids=lambda keep: keep.__name__)
def test_the_way_to_what_is_kept_begins_at_a_name(keep: Callable[[Cone], None]) -> None:
    assert WAYS[keep] in contextvars.copy_context().run(way_to, keep)


def test_what_nobody_with_a_name_holds_has_no_way() -> None:
    first, second = Cone(), Cone()
    first.beside, second.beside = second, first
    samples = [first]
    ignore = {id(samples)}
    del first, second
    assert describe(chain(samples, ignore)) == ""


def test_the_way_may_begin_at_the_application_that_is_served() -> None:
    class Application:
        def __init__(self) -> None:
            self.kept = [Cone()]

    def replayed() -> Callable[[], object]:
        application = Application()
        return lambda: application

    serve = replayed()
    samples = list(serve().kept)  # type: ignore[attr-defined]
    way = chain(samples, root=serve)
    assert describe(way, serve) == (
        "application → its closure → Application.kept → list of 1 → Cone"
    )


def test_the_way_is_found_among_many_that_refer_back() -> None:
    shared = Cone()
    for _ in range(200):
        made = Cone()
        made.beside = shared
        KEPT.append(made)
    Cone.shelf.append(shared)
    samples = [shared]
    del shared, made
    assert describe(chain(samples))


def test_a_way_that_is_looked_for_too_long_is_given_up() -> None:
    Cone.shelf.append(Cone())
    assert chain(Cone.shelf[-1:])
    assert chain(Cone.shelf[-1:], patience=-1.0) == []


def test_a_container_that_gets_longer_with_each_request_is_found() -> None:
    NAMED.update({str(number): number for number in range(5)})
    containers = Containers()
    for at in (0, 10, 20):
        containers.look(at)
        KEPT.extend(Cone() for _ in range(20))
        NAMED.update({f"{at} {number}": number for number in range(10)})
    containers.look(30)
    found = containers.growing()
    assert [(each is KEPT, rate) for each, rate in found if each is KEPT] == [(True, 2.0)]
    assert [rate for each, rate in found if each is NAMED] == [1.0]  # of plain values, untracked


def test_a_container_that_got_longer_once_is_not_found() -> None:
    containers = Containers()
    containers.look(0)
    KEPT.extend(Cone() for _ in range(100))
    containers.look(10)
    containers.look(20)
    assert not any(each is KEPT for each, _ in containers.growing())


def test_nothing_grows_between_one_look() -> None:
    containers = Containers()
    containers.look(0)
    assert containers.growing() == []


def test_what_holds_strongly_comes_before_what_only_refers_weakly() -> None:
    weakly: set[Any] = set()
    NAMED["weakly"] = weakly
    containers = Containers()
    for at in (0, 10, 20):
        containers.look(at)
        KEPT.extend(Cone() for _ in range(10))
        weakly.update(map(weakref.ref, KEPT))
    containers.look(30)
    found = [each for each, _ in containers.growing() if each is KEPT or each is weakly]
    assert found[0] is KEPT and found[1] is weakly


BOUNDS = [
    (functools.lru_cache(maxsize=70)(id), 70),
    (functools.cache(id), None),
    (collections.deque(maxlen=9), 9),
    (collections.deque(), None),
    (cachetools.LRUCache(30), 30),
    (cachetools.LRUCache(float("inf")), None),
    ([], None),
]


@pytest.mark.parametrize(("thing", "bound"), BOUNDS)
def test_the_bound_of_a_container_is_known(thing: Any, bound: int | None) -> None:
    assert bound_of(thing) == bound


def test_objects_are_counted_by_type_with_what_they_alone_refer_to() -> None:
    gc.collect()
    before = count_types()
    KEPT.extend([Cone(), 10**20 + number] for number in range(7))
    after = count_types()
    assert after[type_name(Cone)] - before[type_name(Cone)] == 7
    assert (
        after["int"] - before["int"] >= 7 or not before["int"]
    )  # too many references: not counted


def test_types_that_grow_are_told_with_objects_per_request() -> None:
    counts = [(at, {"dict": 100 + 2 * at, "list": 50, "set": at // 40}) for at in range(0, 120, 10)]
    assert growing_types(counts) == {"dict": 2.0}


def test_no_counts_no_types() -> None:
    assert growing_types([]) == {}


def test_types_are_named_as_people_write_them() -> None:
    assert type_name(dict) == "dict"
    assert type_name(weakref.WeakSet) == "_weakrefset.WeakSet"
