"""Whether memory grows, and who is suspected: on made readings, so that the truth is known."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from flask_knitperf.collectors.memory import leak_detector
from flask_knitperf.collectors.memory.allocators import Used
from flask_knitperf.collectors.memory.leak_detector import (
    BUSY,
    KEPT,
    LONGEST_S,
    GrowthWatch,
    Reading,
    Series,
    Trend,
    suspects,
    trend,
)
from flask_knitperf.collectors.memory.retained_bytes import Left, RetainedBytesMeter
from flask_knitperf.recording.recorder import Recorder

MB = 1 << 20
NAMES = tuple((f"endpoint_{n}", "GET") for n in range(20))


def soak(
    size: Callable[[int, dict[Any, int]], float],
    intervals: int = 60,
    each: int = 120,
    seed: int = 3,
) -> list[Reading]:
    """Return readings of a worker that serves a random mix; ``size`` says what it has allocated."""
    rng, counts = random.Random(seed), dict.fromkeys(NAMES, 0)
    made = []
    for number in range(intervals):
        for _ in range(each):
            counts[rng.choice(NAMES)] += 1
        used = 40 * MB + size(number * each, counts) + rng.uniform(0, 60_000)
        made.append(Reading(number * 1.0, sum(counts.values()), round(used), dict(counts)))
    return made


def leak(_: int, counts: dict[Any, int]) -> float:
    return 2_048.0 * counts[NAMES[7]]


def test_a_leak_among_twenty_endpoints_is_growth() -> None:
    found = trend(soak(leak))
    assert found is not None
    assert found.certain
    assert found.grown == pytest.approx(2_048 * found.requests / 20, rel=0.2)


@pytest.mark.parametrize("seed", range(20))
def test_a_steady_worker_does_not_grow(seed: int) -> None:
    found = trend(soak(lambda *_: 0.0, seed=seed))
    assert found is not None
    assert not found.certain


def test_a_cache_that_has_filled_up_is_no_growth() -> None:
    found = trend(soak(lambda served, _: min(served, 3_000) * 500.0))
    assert found is not None
    assert not found.certain


def test_garbage_that_comes_and_goes_is_no_growth() -> None:
    found = trend(soak(lambda served, _: served % 1_700 * 900.0))
    assert found is not None
    assert not found.certain


@pytest.mark.parametrize("intervals", [0, 1, 5])
def test_very_few_readings_say_nothing(intervals: int) -> None:
    assert trend(soak(leak, intervals, 400)) is None


def test_a_few_readings_are_enough_for_suspicion_and_not_for_growth() -> None:
    found = trend(soak(lambda *_: 400.0 * _[0], 11))
    assert found is not None
    assert found.suspicious
    assert not (found.known or found.certain)


def test_few_requests_say_nothing() -> None:
    assert trend(soak(leak, 30, 5)) is None


def test_who_leaves_what_memory_grew_is_suspected() -> None:
    readings = soak(leak)
    found = trend(readings)
    assert found is not None
    left, pairs = {NAMES[7]: 2_048.0, NAMES[2]: 0.0}, {NAMES[7]: 90, NAMES[2]: 90}
    named = suspects(found, readings, left, pairs, 0.2)
    assert [(one.name, one.pairs) for one in named] == [(NAMES[7], 90)]
    assert named[0].grown == pytest.approx(found.grown, rel=0.3)


def test_who_leaves_far_more_than_memory_grew_is_not_suspected() -> None:
    readings = soak(leak)
    found = trend(readings)
    assert found is not None
    assert suspects(found, readings, {NAMES[2]: 50_000.0}, {NAMES[2]: 90}, 0.2) == []


def test_who_leaves_a_small_part_of_it_is_not_suspected() -> None:
    readings = soak(leak)
    found = trend(readings)
    assert found is not None
    assert suspects(found, readings, {NAMES[2]: 150.0}, {NAMES[2]: 90}, 0.2) == []


def test_where_nothing_could_be_weighed_numbers_of_requests_may_tell() -> None:
    rng, counts, readings = random.Random(1), dict.fromkeys(NAMES[:4], 0), []
    for number in range(80):
        for name in NAMES[:4]:
            counts[name] += rng.choice((0, 0, 200))
        used = 40 * MB + 2_048 * counts[NAMES[2]] + rng.uniform(0, 20_000)
        readings.append(Reading(float(number), sum(counts.values()), round(used), dict(counts)))
    found = trend(readings)
    assert found is not None
    named = suspects(found, readings, None, {}, 0.2)
    assert [one.name for one in named] == [NAMES[2]]
    assert named[0].each == pytest.approx(2_048, rel=0.1)
    assert named[0].pairs == 0


def test_endpoints_that_are_always_asked_together_accuse_nobody() -> None:
    rng, readings, served = random.Random(1), [], 0
    for number in range(80):
        served += rng.choice((100, 200))
        counts = {NAMES[0]: served, NAMES[1]: served, NAMES[2]: served}
        used = 40 * MB + 2_048 * served + rng.uniform(0, 200_000)
        readings.append(Reading(float(number), 3 * served, round(used), counts))
    found = trend(readings)
    assert found is not None
    assert found.certain
    named = suspects(found, readings, None, {}, 0.2)
    assert len({round(one.each) for one in named}) <= 1  # all alike, or nobody


def test_what_grows_by_itself_accuses_no_endpoint() -> None:
    rng, readings, served = random.Random(2), [], 0
    for number in range(80):
        served += rng.choice((10, 400))
        readings.append(
            Reading(number * 1.0, served, 40 * MB + number * 30_000, {NAMES[0]: served})
        )
    found = trend(readings)
    assert found is not None
    assert suspects(found, readings, None, {}, 0.2) == []


# -- the series ------------------------------------------------------------------------------------


def reading(seconds: float, used: int, requests: int = 0) -> Reading:
    return Reading(seconds, requests or round(seconds * 100), used, {})


def test_of_an_interval_the_lowest_reading_stays() -> None:
    series = Series()
    series.interval = 1.0
    for seconds, used in ((0.0, 5), (0.3, 3), (0.6, 9), (1.0, 7)):
        series.add(reading(seconds, used))
    assert [one.used for one in series.readings] == [3]


def test_a_full_series_is_thinned_to_the_lowest_of_two() -> None:
    series = Series()
    for number in range(400):
        series.add(reading(number * 0.25, number))
    assert series.interval > 0.25
    assert len(series.readings) < KEPT
    used = [one.used for one in series.readings]
    assert used == sorted(used)


def test_the_series_spans_hours_and_stays_small() -> None:
    series = Series()
    for number in range(20_000):
        series.add(reading(number * 1.0, number))
    assert len(series.readings) <= KEPT
    assert series.interval <= LONGEST_S
    assert series.readings[-1].seconds - series.readings[0].seconds > 3_600


def test_an_idle_worker_is_not_read_again_and_again() -> None:
    series = Series()
    for number in range(100):
        series.add(reading(number * 0.5, 7, 42))
    assert len(series.readings) <= 2


# -- the watch -------------------------------------------------------------------------------------


class Host:
    """A worker whose memory, time and requests a test moves by hand."""

    def __init__(self, recorder: Recorder, time: Any) -> None:
        self.time = time
        self.used, self.counts = Used(40 * MB, 20 * MB), dict.fromkeys(NAMES, 0)
        self.read = 0
        self.weigher = RetainedBytesMeter(lambda _: NAMES[0], lambda: None, read=lambda: self.used)
        self.watch = GrowthWatch(
            recorder,
            self.weigher,
            lambda: sum(self.counts.values()),
            lambda: self.counts,
            self._read,
        )

    def _read(self) -> Used:
        self.read += 1
        return self.used

    def run(self, seconds: int, leak: int = 0, per_second: int = 100) -> None:
        rng = random.Random(seconds)
        for _ in range(seconds):
            for _ in range(per_second):
                name = rng.choice(NAMES)
                self.counts[name] += 1
                if name == NAMES[7]:
                    self.used = Used(self.used.large + leak, self.used.small)
            self.counts = dict(self.counts)
            self.time.pass_(1.0)
            self.watch.turn()


@pytest.fixture
def host(recorder: Recorder, time: Any) -> Host:
    return Host(recorder, time)


def gauges(recorder: Recorder, meter: str) -> dict[tuple[str, ...], float]:
    totals = recorder.snapshot().totals
    return {
        labels: next(iter(totals.gauges([((), row)]).values()))
        for labels, row in totals.rows(meter)
    }


def test_growth_has_requests_weighed(host: Host) -> None:
    host.run(120, leak=2_048)
    assert host.weigher.due == 0


def test_a_steady_worker_has_nothing_weighed(host: Host) -> None:
    host.run(120)
    assert (
        host.weigher.due == leak_detector.RetainedBytesMeter(lambda _: NAMES[0], lambda: None).due
    )


def test_weighing_ends_when_growth_has_ended_for_a_while(host: Host) -> None:
    host.run(120, leak=2_048)
    host.run(2_000)
    assert host.weigher.due != 0


def test_what_grew_is_published(host: Host, recorder: Recorder) -> None:
    host.run(200, leak=2_048)
    told = gauges(recorder, "growth")
    assert told["grown_bytes",] == pytest.approx(2_048 * told["requests",] / 20, rel=0.2)
    assert told["chance",] < 0.01


def test_a_suspect_is_published_and_taken_back(
    host: Host, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = {NAMES[7]: Left(2_048.0, 0.0, 90)}
    monkeypatch.setattr(host.weigher, "left", lambda: left)
    monkeypatch.setattr(RetainedBytesMeter, "weighs", True)
    host.run(200, leak=2_048)
    assert gauges(recorder, "leak")[*NAMES[7], "each"] == 2_048
    all_ = 2_048 * host.counts[NAMES[7]]
    assert gauges(recorder, "leak")[*NAMES[7], "grown"] == pytest.approx(all_, rel=0.05)
    host.run(4_000)
    assert gauges(recorder, "leak")[*NAMES[7], "grown"] == 0


def test_numbers_of_requests_are_asked_once_weighing_had_its_chance(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def inferred(*_: Any) -> list[leak_detector.Suspect]:
        asked.append(sum(host.counts.values()))
        return []

    monkeypatch.setattr(leak_detector, "_inferred", inferred)
    began: list[int] = []
    monkeypatch.setattr(host.weigher, "start", lambda: began.append(sum(host.counts.values())))
    host.run(200, leak=8_192, per_second=50)
    assert asked and began
    assert asked[0] - began[0] >= leak_detector.IN_VAIN


def test_who_is_asked_no_more_is_not_cleared_by_that(
    host: Host, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host.weigher, "left", lambda: {NAMES[7]: Left(2_048.0, 0.0, 190)})
    monkeypatch.setattr(RetainedBytesMeter, "weighs", True)
    host.run(200, leak=2_048)
    kept = gauges(recorder, "leak")[*NAMES[7], "grown"]
    host.run(4_000, per_second=0)  # nobody asks anything
    assert gauges(recorder, "leak")[*NAMES[7], "grown"] == pytest.approx(kept, rel=0.05) != 0
    asked = host.counts[NAMES[7]]
    for _ in range(2_000):  # only others are asked
        host.run(1)
        host.counts[NAMES[7]] = asked
    assert gauges(recorder, "leak")[*NAMES[7], "grown"] == pytest.approx(kept, rel=0.05)


def test_a_reading_waits_for_a_second_or_for_some_hundred_requests(host: Host) -> None:
    host.run(1)
    for _ in range(10):
        host.time.pass_(0.01)
        host.watch.turn()
    assert host.read == 1
    host.counts = {NAMES[0]: 100 + BUSY}
    host.watch.turn()
    assert host.read == 2


def test_another_process_begins_anew(host: Host, recorder: Recorder) -> None:
    host.run(120, leak=2_048)
    recorder.close()
    assert not host.watch._heaps["large"].readings
    assert not host.weigher.weighs


def test_where_nobody_tells_what_is_allocated_the_resident_size_is_read(
    recorder: Recorder, time: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leak_detector, "rss", lambda: 77)
    counts = {NAMES[0]: 300}
    weigher = RetainedBytesMeter(lambda _: NAMES[0], lambda: None)
    made = GrowthWatch(recorder, weigher, lambda: 300, lambda: counts, lambda: None)
    for _ in range(3):
        time.pass_(1.0)
        made.turn()
    assert {one.used for one in made._heaps["large"].readings} == {77}


def test_what_both_heaps_say_of_an_endpoint_is_put_together() -> None:
    one = leak_detector.Suspect(NAMES[0], 100.0, 1_000.0, 80)
    other = leak_detector.Suspect(NAMES[0], 50.0, 500.0, 90)
    assert leak_detector._together([one, other]) == [
        leak_detector.Suspect(NAMES[0], 150.0, 1_500.0, 90)
    ]


def test_a_trend_that_ended_is_neither_suspicious_nor_certain() -> None:
    ended = Trend(9e6, 8e6, 1e7, 5_000, 60.0, 1e-9, lasting=False)
    assert not (ended.suspicious or ended.certain)
