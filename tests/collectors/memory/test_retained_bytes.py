"""Bytes retained by single requests, measured from one request to the next but one."""

from __future__ import annotations

import gc
import random
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from flask_knitperf.collectors.memory import retained_bytes
from flask_knitperf.collectors.memory.allocators import AllocatedBytes
from flask_knitperf.collectors.memory.retained_bytes import (
    NEVER,
    SPARSE_GAP_NS,
    SPARSE_STRIDE,
    SURVEY_PAIRS,
    SURVEY_STRIDE,
    RetainedBytesMeter,
)
from flask_knitperf.collectors.memory.retention_estimate import MIN_PAIRS, Pair
from flask_knitperf.recording.gc_pauses import WATCH
from flask_knitperf.recording.span import Span


class Mill:
    """Serves requests to a meter; each endpoint retains the bytes that a function returns.

    Attributes:
        used: allocated bytes.
        wakes: number of calls of ``wake``.
        looks: number of calls of ``before_request``.
        retains: by endpoint, a function from the number of a request to the bytes it retains.
        now_ns: time; each request takes ``request_ns``.
    """

    def __init__(self) -> None:
        self.used = AllocatedBytes(1_000_000, 500_000)
        self.wakes = self.number = self.looks = 0
        self.now_ns, self.request_ns = 0, 1_000_000_000
        self.meter = RetainedBytesMeter(
            self._key, self._wake, self._idle_number, lambda: self.used, lambda: self.now_ns
        )
        self.retains: dict[str, Callable[[int], AllocatedBytes]] = {}
        self.solo = True
        self.in_flight = False

    def _key(self, span: Any) -> tuple[str, str]:
        return span.environ["PATH_INFO"].strip("/").partition("/")[0], "GET"

    def _wake(self) -> None:
        self.wakes += 1

    def _idle_number(self) -> int | None:
        return None if self.in_flight else self.number

    def retain(self, large: int, small: int = 0) -> None:
        self.used = AllocatedBytes(self.used.large + large, self.used.small + small)

    def only_pair(self) -> AllocatedBytes:
        """Return the retained bytes of the only pair."""
        [[pair]] = self.meter._pairs.values()
        return pair.retained

    def serve(self, name: str, *, ends: bool = True) -> None:
        self.number += 1
        self.now_ns += self.request_ns
        span = Span(None, {"PATH_INFO": f"/{name}"}, 0)
        if self.number >= self.meter.due:
            self.looks += 1
            self.meter.before_request(span, self.number, solo=self.solo)
        retains = self.retains.get(name.partition("/")[0])
        if retains is not None:
            self.retain(*retains(self.number))
        span.ended = ends
        if self.number % 50 == 0:
            self.meter.review()

    def retained(self) -> dict[str, tuple[float, float]]:
        return {name: (row.large, row.small) for (name, _), row in self.meter.review().items()}


@pytest.fixture(autouse=True)
def no_collections() -> Any:
    """Keep automatic collections from disturbing the readings."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def mill() -> Mill:
    mill = Mill()
    mill.meter.start()
    return mill


def test_no_request_is_looked_at_before_the_start() -> None:
    idle = Mill()
    for _ in range(200):
        idle.serve("stock")
    assert (idle.looks, idle.meter.due) == (0, NEVER)


def test_starting_twice_wakes_the_profile_once(mill: Mill) -> None:
    mill.meter.start()
    assert mill.wakes == 1


def test_the_survey_measures_about_one_request_in_six(mill: Mill) -> None:
    for _ in range(800):
        mill.serve("stock")
    assert mill.meter._pairs_taken == pytest.approx(800 / SURVEY_STRIDE, rel=0.2)


def after_survey(mill: Mill, *names: str) -> None:
    """Serve until the survey is done, then start to count the looks."""
    while mill.meter._pairs_taken < SURVEY_PAIRS:
        mill.serve(names[mill.number % len(names)])
    mill.looks = 0


def test_where_nothing_is_retained_few_requests_are_looked_at_after_the_survey(mill: Mill) -> None:
    after_survey(mill, "stock", "tags")
    for number in range(SPARSE_STRIDE * 100):
        mill.serve(("stock", "tags")[number % 2])
    assert mill.looks == pytest.approx(3 * 100, rel=0.3)


def test_where_nothing_is_retained_a_busy_worker_measures_a_few_requests_a_second(
    mill: Mill,
) -> None:
    after_survey(mill, "stock")
    mill.request_ns = 100_000
    for _ in range(20_000):  # two seconds
        mill.serve("stock")
    assert mill.meter._pairs_taken - SURVEY_PAIRS == pytest.approx(2e9 / SPARSE_GAP_NS, rel=0.2)


def test_while_a_job_runs_few_requests_are_looked_at(mill: Mill) -> None:
    after_survey(mill, "stock")

    def job() -> None:
        for _ in range(SPARSE_STRIDE * 20):
            mill.serve("stock")

    mill.meter.wrap_job(job)
    assert mill.looks < 40


@pytest.mark.slow
def test_an_endpoint_that_retains_later_comes_into_focus(mill: Mill) -> None:
    after_survey(mill, "stock", "tags")
    mill.retains = {"tags": lambda _: AllocatedBytes(4_096, 0)}
    order = random.Random(3)
    for _ in range(SPARSE_STRIDE * 400):
        mill.serve(order.choice(("stock", "tags")))
    assert mill.retained()["tags"] == (pytest.approx(4_096, rel=0.05), 0)


def test_retained_bytes_are_estimated_by_heap_and_endpoint(mill: Mill) -> None:
    mill.retains = {
        "notes": lambda _: AllocatedBytes(2_048, 0),
        "tags": lambda _: AllocatedBytes(0, 300),
    }
    for number in range(4 * SURVEY_PAIRS * SURVEY_STRIDE):
        mill.serve(("notes", "stock", "tags")[number % 3])
    notes, tags = mill.retained()["notes"], mill.retained()["tags"]
    assert notes == (pytest.approx(2_048, rel=0.02), 0)
    assert tags == (0, pytest.approx(300, rel=0.05))


def test_the_focus_measures_every_request_of_an_endpoint_that_retains_memory(mill: Mill) -> None:
    mill.retains = {"notes": lambda _: AllocatedBytes(2_048, 0)}
    while mill.meter._pairs_taken < SURVEY_PAIRS:
        mill.serve("notes/17" if mill.number % 5 == 0 else "stock")
    mill.serve("stock"), mill.serve("stock")
    mill.meter.review()
    before = len(mill.meter._pairs["notes", "GET"])
    for _ in range(11):
        mill.serve("notes/4"), mill.serve("stock"), mill.serve("stock")
    # a pair of the survey may be under way
    assert len(mill.meter._pairs["notes", "GET"]) >= before + 9


def test_an_endpoint_too_rare_for_the_survey_is_measured_in_the_focus(mill: Mill) -> None:
    mill.retains = {"rare": lambda _: AllocatedBytes(2_048, 0)}
    while len(mill.meter._pairs.get(("rare", "GET"), ())) < 1:
        mill.serve("rare/7"), mill.serve("stock"), mill.serve("stock")
    while mill.meter._pairs_taken < SURVEY_PAIRS:
        mill.serve("stock")
    for _ in range(2 * MIN_PAIRS):
        mill.serve("rare/8"), mill.serve("stock"), mill.serve("stock")
    assert mill.retained()["rare"][0] == pytest.approx(2_048)


def test_a_concurrent_request_is_not_measured(mill: Mill) -> None:
    mill.solo = False
    for _ in range(500):
        mill.serve("notes")
    assert not mill.meter.has_measured


@pytest.mark.parametrize("after", [1, 2])
def test_a_pair_with_another_request_in_between_is_discarded(mill: Mill, after: int) -> None:
    for number in range(3):
        mill.serve("notes")
        mill.number += number + 1 == after  # one that was not looked at
    assert not mill.meter.has_measured


def test_a_request_that_has_not_ended_is_not_measured(mill: Mill) -> None:
    mill.serve("notes", ends=False)
    mill.serve("stock")
    mill.serve("stock")
    assert not mill.meter.has_measured


def test_a_pair_with_promoted_objects_is_discarded(mill: Mill) -> None:
    WATCH.hold()
    try:
        mill.serve("notes")
        gc.collect(1)
        mill.serve("stock")
        mill.serve("stock")
    finally:
        WATCH.let_go()
    assert not mill.meter.has_measured


def test_an_endpoint_with_few_pairs_has_no_estimate(mill: Mill) -> None:
    mill.retains = {"notes": lambda _: AllocatedBytes(2_048, 0)}
    for _ in range(SURVEY_STRIDE * (MIN_PAIRS - 1)):
        mill.serve("notes")
    assert mill.retained() == {}


def test_a_buffer_that_is_emptied_at_times_retains_nothing(mill: Mill) -> None:
    calls = [0]

    def batch(_: int) -> AllocatedBytes:
        calls[0] += 1
        if calls[0] % 40 == 0:
            return AllocatedBytes(-39 * 3_000, 0)
        return AllocatedBytes(3_000, 0)

    mill.retains = {"outbox": batch}
    for _ in range(SURVEY_PAIRS * SURVEY_STRIDE + 400):
        mill.serve("outbox")
    assert mill.retained()["outbox"] == (0, 0)


def test_a_cache_that_is_filled_by_some_requests_retains_nothing(mill: Mill) -> None:
    mill.retains = {"cached": lambda number: AllocatedBytes(5_000 if number % 3 == 0 else 0, 0)}
    for _ in range(4 * SURVEY_PAIRS * SURVEY_STRIDE):
        mill.serve("cached")
    assert mill.retained()["cached"] == (0, 0)


def test_noise_does_not_hide_a_leak(mill: Mill) -> None:
    def noisy(number: int) -> AllocatedBytes:
        noise = (9_000 if number % 29 == 0 else 0) - (9_000 if number % 31 == 0 else 0)
        return AllocatedBytes(2_048 + noise, 0)

    mill.retains = {"notes": noisy}
    for _ in range(SURVEY_PAIRS * SURVEY_STRIDE + 1_000):
        mill.serve("notes")
    assert mill.retained()["notes"][0] == pytest.approx(2_048)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 4, 5, 6])
def test_a_batch_that_is_emptied_by_requests_in_between_does_not_hide_a_leak(
    mill: Mill, seed: int
) -> None:
    calls = [0]

    def batch(_: int) -> AllocatedBytes:
        calls[0] += 1
        return AllocatedBytes(3_000 if calls[0] % 40 else -39 * 3_000, 0)

    mill.retains = {"notes": lambda _: AllocatedBytes(2_048, 0), "outbox": batch}
    rng = random.Random(seed)
    for _ in range(9_000):
        mill.serve(rng.choice(("notes", "outbox", "stock", "tags", "orders")))
    assert mill.retained()["notes"] == (pytest.approx(2_048, rel=0.03), 0)
    assert mill.retained()["outbox"] == (0, 0)


def add_pairs(mill: Mill, name: str, *retained: int, between: str) -> None:
    pairs = mill.meter._pairs.setdefault((name, "GET"), deque())
    pairs.extend(Pair(AllocatedBytes(size, 0), (between, "GET")) for size in retained)


def test_a_batch_that_is_only_emptied_in_between_retains_nothing(mill: Mill) -> None:
    add_pairs(mill, "outbox", *[3_000] * MIN_PAIRS, between="stock")
    add_pairs(mill, "stock", *[0] * 50, between="tags")
    add_pairs(mill, "stock", *[3_000] * 30, between="outbox")
    assert mill.retained()["outbox"][0] == pytest.approx(3_000, rel=0.05)
    add_pairs(mill, "stock", *[-117_000] * 4, between="outbox")
    assert mill.retained()["outbox"] == (0, 0)


def test_where_all_requests_in_between_are_erratic_all_pairs_count(mill: Mill) -> None:
    add_pairs(mill, "notes", *[2_048] * MIN_PAIRS, between="jumps")
    add_pairs(mill, "jumps", *[40_000, -40_000] * 50, between="stock")
    assert mill.retained()["notes"][0] == pytest.approx(2_048, rel=0.05)
    add_pairs(mill, "notes", *[-90_000] * 8, between="jumps")
    assert mill.retained()["notes"] == (0, 0)


# -- jobs and other requests --------------------------------------------------------------------------


def test_bytes_retained_by_a_job_of_ours_are_subtracted(mill: Mill) -> None:
    mill.retains = {"notes": lambda _: AllocatedBytes(2_048, 100)}
    mill.serve("notes")
    assert mill.meter.wrap_job(lambda: mill.retain(98_000, 500)) is None
    mill.serve("stock")
    mill.meter.wrap_job(lambda: mill.retain(-20_000))
    mill.serve("stock")
    assert mill.only_pair() == AllocatedBytes(2_048, 100)


def test_a_pair_with_a_request_concurrent_to_a_job_is_discarded(mill: Mill) -> None:
    def job() -> None:
        mill.serve("stock")

    mill.serve("notes")
    mill.meter.wrap_job(job)
    mill.serve("stock")
    assert not mill.meter.has_measured


def test_a_job_that_started_during_a_request_discards_its_pair(mill: Mill) -> None:
    mill.serve("notes")
    mill.in_flight = True
    mill.meter.wrap_job(lambda: None)
    mill.in_flight = False
    mill.serve("stock"), mill.serve("stock")
    assert not mill.meter.has_measured


def test_no_pair_starts_or_ends_within_a_job(mill: Mill) -> None:
    mill.meter.wrap_job(lambda: mill.serve("notes"))
    assert mill.meter.measured is None
    mill.serve("notes"), mill.serve("stock")
    mill.meter.wrap_job(lambda: mill.serve("stock"))
    assert not mill.meter.has_measured


def test_a_pair_goes_on_after_a_job_that_fails(mill: Mill) -> None:
    mill.serve("notes")
    with pytest.raises(ZeroDivisionError):
        mill.meter.wrap_job(lambda: 1 // 0)
    mill.serve("stock"), mill.serve("stock")
    assert mill.only_pair() == AllocatedBytes(0, 0)


def test_a_job_runs_without_readings_while_nothing_is_measured(mill: Mill) -> None:
    mill.meter.stop()
    mill.used = None  # type: ignore[assignment]
    assert mill.meter.wrap_job(lambda: 7) == 7


def test_an_invalidated_pair_is_discarded(mill: Mill) -> None:
    mill.serve("notes")
    mill.meter.invalidate()
    mill.serve("stock"), mill.serve("stock")
    assert not mill.meter.has_measured
    while not mill.meter.has_measured:  # the next one does
        mill.serve("notes")


# --------------------------------------------------------------------------------------------------


def test_bytes_that_requests_of_all_endpoints_retain_belong_to_no_endpoint(mill: Mill) -> None:
    names = ("notes", "stock", "tags", "orders", "styles")
    mill.retains = {name: lambda _: AllocatedBytes(0, 200) for name in names}
    mill.retains["notes"] = lambda _: AllocatedBytes(2_048, 200)
    for number in range(8 * SURVEY_PAIRS * SURVEY_STRIDE):
        mill.serve(names[number % 5])
    assert mill.retained()["notes"] == (pytest.approx(2_048, rel=0.02), 0)
    assert "stock" not in mill.retained()  # the focus was on the notes alone


@pytest.mark.slow
@pytest.mark.parametrize("common", [0, 200])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.5, 0.7, 0.95])
def test_a_leak_has_its_size_at_any_share_of_the_requests(
    mill: Mill, share: float, common: int
) -> None:
    names, rng = ("notes", "ping", "stock", "orders", "styles", "tags"), random.Random(2)
    mill.retains = {name: lambda _: AllocatedBytes(common, 0) for name in names}
    mill.retains["notes"] = lambda _: AllocatedBytes(2_048 + common, 0)
    weights = [share, *[(1 - share) / 5] * 5]
    for _ in range(12_000):
        mill.serve(rng.choices(names, weights)[0])
    retained = mill.retained()
    assert retained.pop("notes") == (pytest.approx(2_048, rel=0.02), 0)
    assert set(retained.values()) <= {(0, 0)}


@pytest.mark.slow
def test_two_leaks_have_their_sizes(mill: Mill) -> None:
    names, rng = ("notes", "drafts", "stock", "orders", "styles", "tags"), random.Random(2)
    mill.retains = {
        "notes": lambda _: AllocatedBytes(2_048, 0),
        "drafts": lambda _: AllocatedBytes(600, 0),
    }
    for _ in range(10_000):
        mill.serve(rng.choices(names, [3, 3, 1, 1, 1, 1])[0])
    retained = mill.retained()
    assert retained.pop("notes") == (pytest.approx(2_048, rel=0.02), 0)
    assert retained.pop("drafts") == (pytest.approx(600, rel=0.05), 0)
    assert set(retained.values()) <= {(0, 0)}


def test_two_endpoints_that_always_follow_each_other_share_what_they_retain(mill: Mill) -> None:
    mill.retains = {"page": lambda _: AllocatedBytes(2_048, 0)}
    for number in range(4 * SURVEY_PAIRS * SURVEY_STRIDE):
        mill.serve(("page", "poll")[number % 2])
    assert sum(row[0] for row in mill.retained().values()) == pytest.approx(2_048, rel=0.02)


def test_with_few_endpoints_no_bytes_count_as_common(mill: Mill) -> None:
    mill.retains = {"notes": lambda _: AllocatedBytes(2_048, 0)}
    for _ in range(4 * SURVEY_PAIRS * SURVEY_STRIDE):
        mill.serve("notes")
    assert mill.retained()["notes"] == (2_048, 0)


def test_bytes_kept_of_the_latest_request_only_are_not_retained(mill: Mill) -> None:
    last = {"large": 800, "stock": 0, "notes": 100}
    rng, latest = random.Random(3), 0
    for _ in range(5_000):
        name = rng.choice(list(last))
        mill.used = AllocatedBytes(mill.used.large - latest, 0)
        latest = last[name]
        mill.retains = {name: lambda _: AllocatedBytes(latest + (500 if name == "notes" else 0), 0)}  # noqa: B023
        mill.serve(name)
    assert mill.retained().get("large", (0, 0)) == (0, 0)
    assert mill.retained()["notes"][0] == pytest.approx(500, abs=60)


def test_two_requests_of_one_endpoint_in_a_row_share_the_difference(mill: Mill) -> None:
    mill.retains = {"notes": lambda _: AllocatedBytes(2_048, 64)}
    for _ in range(4 * SURVEY_PAIRS * SURVEY_STRIDE):
        mill.serve("notes")
    assert {pair.retained.large for pair in mill.meter._pairs["notes", "GET"]} == {2_048}


def test_stopping_forgets_the_pairs(mill: Mill) -> None:
    for _ in range(100):
        mill.serve("notes")
    mill.meter.stop()
    assert (mill.meter.due, mill.meter.has_measured) == (NEVER, False)


def test_without_allocated_bytes_measuring_ends_at_once() -> None:
    mill = Mill()
    mill.used = None  # type: ignore[assignment]
    mill.meter.start()
    mill.serve("notes")
    assert mill.meter.due == NEVER


def test_the_number_of_endpoints_is_bounded(mill: Mill, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retained_bytes, "_MAX_ENDPOINTS", 3)
    for number in range(200):
        mill.serve(f"endpoint-{'abcdefghij'[number // SURVEY_STRIDE % 10]}")
    assert len(mill.meter._pairs) == 3


def test_judging_pairs_while_other_threads_append_raises_nothing() -> None:
    meter, key = Mill().meter, ("orders", "GET")
    pairs = deque([Pair(AllocatedBytes(0, 0), None)] * 12, maxlen=12)
    meter._pairs[key] = pairs
    meter._pairs_taken = SURVEY_PAIRS
    stop = threading.Event()

    def append() -> None:
        while not stop.is_set():
            pairs.append(pairs[0])

    thread, interval = threading.Thread(target=append), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread.start()
    try:
        assert not any(meter.review() for _ in range(2_000))
        assert not meter._in_focus(key)
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(interval)
