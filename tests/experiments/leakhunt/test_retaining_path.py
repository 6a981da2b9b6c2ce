"""A retaining path starts at a name: of a module, class, cache, closure, thread or context."""

from __future__ import annotations

import contextvars
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest

from flask_knitperf.experiments.leakhunt.retaining_path import describe_path, retaining_path


class Cone:
    """An object that is retained."""

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


def keep_in_a_list(cone: Cone) -> None:
    KEPT.append(cone)


def keep_in_a_closure(cone: Cone) -> None:
    KEPT.append(remembered(cone))


def keep_in_an_attribute(cone: Cone) -> None:
    owner = Cone()
    owner.beside = [cone]
    NAMED["first"] = owner


def keep_in_a_class(cone: Cone) -> None:
    Cone.shelf.append(cone)


def keep_in_a_cache(cone: Cone) -> None:
    cached(cone)


def keep_in_a_generator(cone: Cone) -> None:
    started = pages(cone)
    next(started)
    KEPT.append(started)


def keep_in_a_thread(cone: Cone) -> None:
    LOCAL.cones = [cone]


def keep_in_a_context(cone: Cone) -> None:
    VARIABLE.set((cone,))


def keep_by_a_method(cone: Cone) -> None:
    KEPT.append(cone.__init__)  # type: ignore[misc]


HERE = __name__
PATHS = {
    keep_in_a_list: f"KEPT of module {HERE} → list of 1 → Cone",
    keep_in_a_closure: "list of 1 → function remembered.<locals>.<lambda> → its closure → Cone",
    keep_in_an_attribute: f"NAMED of module {HERE} → dict of 1 → Cone.beside → list of 1 → Cone",
    keep_in_a_class: f"class {HERE}.Cone.shelf → list of 1 → Cone",
    keep_in_a_cache: "lru_cache of cached",
    keep_in_a_generator: f"KEPT of module {HERE} → list of 1 → generator pages",
    keep_in_a_thread: f"LOCAL of module {HERE} → _local",
    keep_in_a_context: "context variable trail → tuple of 1 → Cone",
    keep_by_a_method: "method Cone.__init__",
}


@pytest.fixture(autouse=True)
def nothing_kept(all_thawed: None) -> Iterator[None]:
    yield
    KEPT.clear()
    NAMED.clear()
    Cone.shelf.clear()
    cached.cache_clear()
    vars(LOCAL).clear()


def path_to(keep: Callable[[Cone], None]) -> str:
    cone = Cone()
    keep(cone)
    samples = [cone]
    del cone
    return describe_path(retaining_path(samples))


@pytest.mark.slow
@pytest.mark.parametrize("keep", PATHS, ids=lambda keep: keep.__name__)
def test_a_retaining_path_starts_at_a_name(keep: Callable[[Cone], None]) -> None:
    assert PATHS[keep] in contextvars.copy_context().run(path_to, keep)


def test_an_object_that_no_root_refers_to_has_no_path() -> None:
    first, second = Cone(), Cone()
    first.beside, second.beside = second, first
    samples = [first]
    ignored = {id(samples)}
    del first, second
    assert describe_path(retaining_path(samples, ignored)) == ""


def test_a_path_may_start_at_the_application_that_is_served() -> None:
    class Application:
        def __init__(self) -> None:
            self.kept = [Cone()]

    def load() -> Callable[[], object]:
        application = Application()
        return lambda: application

    serve = load()
    samples = list(serve().kept)  # type: ignore[attr-defined]
    path = retaining_path(samples, root=serve)
    assert describe_path(path, serve) == (
        "application → its closure → Application.kept → list of 1 → Cone"
    )


def test_a_path_is_found_among_many_referrers() -> None:
    shared = Cone()
    for _ in range(200):
        cone = Cone()
        cone.beside = shared
        KEPT.append(cone)
    Cone.shelf.append(shared)
    samples = [shared]
    del shared, cone
    assert describe_path(retaining_path(samples))


def test_a_search_that_takes_too_long_is_abandoned() -> None:
    Cone.shelf.append(Cone())
    assert retaining_path(Cone.shelf[-1:])
    assert retaining_path(Cone.shelf[-1:], max_search_s=-1.0) == []
