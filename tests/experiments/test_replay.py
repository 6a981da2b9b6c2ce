"""A request served again and again, its figures read when nothing waits for the collector."""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator
from itertools import pairwise

import pytest

from flask_knitperf.experiments.replay import WARM, Replay, uneven


@pytest.fixture(autouse=True)
def nothing_old_is_collected() -> Iterator[None]:
    """Spare each collection the objects of the whole suite."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


class Served:
    """A request that keeps a level, and garbage in cycles."""

    def __init__(self) -> None:
        self.count = 0
        self.told: list[tuple[int, int, float]] = []

    def __call__(self) -> int:
        self.count += 1
        cycle: list[object] = []
        cycle.append(cycle)
        return 500 if self.count % 10 == 0 else 200

    def tell(self, *said: float) -> None:
        self.told.append(said)  # type: ignore[arg-type]


def replay(served: Served, requests: int | None = 100) -> Replay:
    return Replay(served, {"count": lambda: float(served.count)}, served.tell, requests)


def test_a_figure_is_read_after_requests_and_told_with_their_number() -> None:
    served = Served()
    made = replay(served)
    made.warm()
    found = made.run(50)["count"]
    assert found[0] == (WARM, float(WARM))
    assert found[-1] == (WARM + 50, float(WARM + 50))
    assert all(at == level for at, level in found)


def test_nothing_waits_for_the_collector_when_a_figure_is_read() -> None:
    served = Served()
    waiting: list[int] = []

    def read() -> float:
        waiting.append(gc.collect())
        return 0.0

    made = Replay(served, {"waiting": read}, served.tell, 60)
    made.run(30)
    assert waiting and set(waiting) == {0}


def test_who_looks_closer_does_so_as_often_as_asked_and_at_uneven_distances() -> None:
    served = Served()
    made = replay(served)
    seen: list[int] = []
    made.run(200, 8, lambda: seen.append(made.at))
    assert len(seen) == 8
    assert (seen[0], seen[-1]) == (0, 200)
    assert len({later - sooner for sooner, later in pairwise(seen)}) > 3


def test_statuses_are_counted() -> None:
    served = Served()
    made = replay(served)
    made.run(100)
    assert made.statuses == {200: 90, 500: 10}


def test_it_is_told_how_far_it_is_and_how_long_it_takes_once_that_is_known() -> None:
    served = Served()
    made = replay(served)
    made.warm()
    made.once()
    assert served.told[0] == (1, WARM + 100, 0.0)
    assert served.told[-1][:2] == (WARM + 1, WARM + 100) and served.told[-1][2] > 0


def test_without_a_number_as_many_are_measured_as_fit() -> None:
    served = Served()
    made = replay(served, None)
    made.warm()
    assert made.requests == 600


@pytest.mark.parametrize("looks", [0, 1])
def test_nobody_looks_closer_at_fewer_than_two_moments(looks: int) -> None:
    assert uneven(100, looks, random.Random(1)) == []
