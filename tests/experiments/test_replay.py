"""A replay reads its gauges right after collections, and estimates its duration."""

from __future__ import annotations

import gc
import random
from itertools import pairwise

import pytest

from flask_knitperf.experiments.replay import WARM_UP_REQUESTS, Replay, uneven_steps


@pytest.fixture(autouse=True)
def nothing_old_is_collected() -> None:
    """Exclude the objects of the whole suite from the collections."""
    gc.collect()
    gc.freeze()


class Endpoint:
    """A request that counts its calls and creates cyclic garbage."""

    def __init__(self) -> None:
        self.count = 0
        self.progress: list[tuple[int, int, float]] = []

    def __call__(self) -> int:
        self.count += 1
        cycle: list[object] = []
        cycle.append(cycle)
        return 500 if self.count % 10 == 0 else 200

    def on_progress(self, *state: float) -> None:
        self.progress.append(state)  # type: ignore[arg-type]


def new_replay(endpoint: Endpoint, requests: int | None = 100) -> Replay:
    return Replay(
        endpoint, {"count": lambda: float(endpoint.count)}, endpoint.on_progress, requests
    )


def test_a_gauge_is_read_with_the_number_of_requests() -> None:
    endpoint = Endpoint()
    replay = new_replay(endpoint)
    replay.warm_up()
    series = replay.run(50)["count"]
    assert series[0] == (WARM_UP_REQUESTS, float(WARM_UP_REQUESTS))
    assert series[-1] == (WARM_UP_REQUESTS + 50, float(WARM_UP_REQUESTS + 50))
    assert all(requests == count for requests, count in series)


def test_there_is_no_garbage_when_a_gauge_is_read() -> None:
    endpoint = Endpoint()
    garbage: list[int] = []

    def read() -> float:
        garbage.append(gc.collect())
        return 0.0

    replay = Replay(endpoint, {"garbage": read}, endpoint.on_progress, 60)
    replay.run(30)
    assert garbage and set(garbage) == {0}


def test_inspections_take_place_at_uneven_distances() -> None:
    endpoint = Endpoint()
    replay = new_replay(endpoint)
    inspected: list[int] = []
    replay.run(200, 8, lambda: inspected.append(replay.served))
    assert len(inspected) == 8
    assert (inspected[0], inspected[-1]) == (0, 200)
    assert len({later - earlier for earlier, later in pairwise(inspected)}) > 3


def test_statuses_are_counted() -> None:
    endpoint = Endpoint()
    replay = new_replay(endpoint)
    replay.run(100)
    assert replay.statuses == {200: 90, 500: 10}


def test_progress_includes_the_duration_once_it_is_known() -> None:
    endpoint = Endpoint()
    replay = new_replay(endpoint)
    replay.warm_up()
    replay.serve_once()
    assert endpoint.progress[0] == (1, WARM_UP_REQUESTS + 100, 0.0)
    assert (
        endpoint.progress[-1][:2] == (WARM_UP_REQUESTS + 1, WARM_UP_REQUESTS + 100)
        and endpoint.progress[-1][2] > 0
    )


def test_by_default_as_many_requests_as_fit_are_measured() -> None:
    endpoint = Endpoint()
    replay = new_replay(endpoint, None)
    replay.warm_up()
    assert replay.requests == 600


@pytest.mark.parametrize("steps", [0, 1])
def test_fewer_than_two_steps_are_none(steps: int) -> None:
    assert uneven_steps(100, steps, random.Random(1)) == []
