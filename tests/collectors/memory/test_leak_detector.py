"""Leak detection on synthetic readings, for which the truth is known."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from flask_knitperf.collectors.memory import leak_detector
from flask_knitperf.collectors.memory.allocators import AllocatedBytes
from flask_knitperf.collectors.memory.heap_growth import (
    MAX_INTERVAL_S,
    MAX_READINGS,
    Reading,
    Series,
    Trend,
    trend,
)
from flask_knitperf.collectors.memory.leak_detector import (
    REQUESTS_PER_READING,
    LeakDetector,
    suspects,
)
from flask_knitperf.collectors.memory.retained_bytes import RetainedBytesMeter
from flask_knitperf.collectors.memory.retention_estimate import Retained
from flask_knitperf.metrics.catalogue import GROWTH, LEAK
from flask_knitperf.metrics.instruments import Meter
from flask_knitperf.recording.recorder import Recorder

MB = 1 << 20
NAMES = tuple((f"endpoint_{n}", "GET") for n in range(20))


def soak(
    size: Callable[[int, dict[Any, int]], float],
    intervals: int = 60,
    per_interval: int = 120,
    seed: int = 3,
) -> list[Reading]:
    """Return readings of a worker that serves a random mix of requests.

    Args:
        size: returns the allocated bytes, from the number of requests and their counts by endpoint.
        intervals: number of readings.
        per_interval: number of requests between two readings.
        seed: of the mix.
    """
    rng, counts = random.Random(seed), dict.fromkeys(NAMES, 0)
    readings = []
    for number in range(intervals):
        for _ in range(per_interval):
            counts[rng.choice(NAMES)] += 1
        used = 40 * MB + size(number * per_interval, counts) + rng.uniform(0, 60_000)
        readings.append(Reading(number * 1.0, sum(counts.values()), round(used), dict(counts)))
    return readings


def leak(_: int, counts: dict[Any, int]) -> float:
    return 2_048.0 * counts[NAMES[7]]


def test_a_leak_among_twenty_endpoints_is_growth() -> None:
    growth = trend(soak(leak))
    assert growth is not None
    assert growth.certain
    assert growth.grown == pytest.approx(2_048 * growth.requests / 20, rel=0.2)


@pytest.mark.parametrize("seed", range(20))
def test_a_steady_worker_does_not_grow(seed: int) -> None:
    growth = trend(soak(lambda *_: 0.0, seed=seed))
    assert growth is not None
    assert not growth.certain


def test_a_cache_that_has_filled_up_is_not_growth() -> None:
    growth = trend(soak(lambda served, _: min(served, 3_000) * 500.0))
    assert growth is not None
    assert not growth.certain


def test_garbage_that_comes_and_goes_is_not_growth() -> None:
    growth = trend(soak(lambda served, _: served % 1_700 * 900.0))
    assert growth is not None
    assert not growth.certain


@pytest.mark.parametrize("intervals", [0, 1, 5])
def test_very_few_readings_have_no_trend(intervals: int) -> None:
    assert trend(soak(leak, intervals, 400)) is None


def test_a_few_readings_are_enough_for_suspicion_and_not_for_growth() -> None:
    growth = trend(soak(lambda *_: 400.0 * _[0], 11))
    assert growth is not None
    assert growth.suspicious
    assert not (growth.sufficient or growth.certain)


def test_few_requests_have_no_trend() -> None:
    assert trend(soak(leak, 30, 5)) is None


def test_an_endpoint_that_retains_the_growth_is_suspected() -> None:
    readings = soak(leak)
    growth = trend(readings)
    assert growth is not None
    retained, pairs = {NAMES[7]: 2_048.0, NAMES[2]: 0.0}, {NAMES[7]: 90, NAMES[2]: 90}
    named = suspects(growth, readings, retained, pairs, 0.2)
    assert [(suspect.key, suspect.pairs) for suspect in named] == [(NAMES[7], 90)]
    assert named[0].grown == pytest.approx(growth.grown, rel=0.3)


def test_an_endpoint_that_retains_far_more_than_the_growth_is_not_suspected() -> None:
    readings = soak(leak)
    growth = trend(readings)
    assert growth is not None
    assert suspects(growth, readings, {NAMES[2]: 50_000.0}, {NAMES[2]: 90}, 0.2) == []


def test_an_endpoint_that_retains_a_small_part_of_it_is_not_suspected() -> None:
    readings = soak(leak)
    growth = trend(readings)
    assert growth is not None
    assert suspects(growth, readings, {NAMES[2]: 150.0}, {NAMES[2]: 90}, 0.2) == []


def test_without_measured_requests_their_counts_may_name_the_endpoint() -> None:
    rng, counts, readings = random.Random(1), dict.fromkeys(NAMES[:4], 0), []
    for number in range(80):
        for name in NAMES[:4]:
            counts[name] += rng.choice((0, 0, 200))
        used = 40 * MB + 2_048 * counts[NAMES[2]] + rng.uniform(0, 20_000)
        readings.append(Reading(float(number), sum(counts.values()), round(used), dict(counts)))
    growth = trend(readings)
    assert growth is not None
    named = suspects(growth, readings, None, {}, 0.2)
    assert [suspect.key for suspect in named] == [NAMES[2]]
    assert named[0].bytes_per_request == pytest.approx(2_048, rel=0.1)
    assert named[0].pairs == 0


def test_endpoints_that_are_always_requested_together_cannot_be_separated() -> None:
    rng, readings, served = random.Random(1), [], 0
    for number in range(80):
        served += rng.choice((100, 200))
        counts = {NAMES[0]: served, NAMES[1]: served, NAMES[2]: served}
        used = 40 * MB + 2_048 * served + rng.uniform(0, 200_000)
        readings.append(Reading(float(number), 3 * served, round(used), counts))
    growth = trend(readings)
    assert growth is not None
    assert growth.certain
    named = suspects(growth, readings, None, {}, 0.2)
    assert len({round(suspect.bytes_per_request) for suspect in named}) <= 1  # all alike, or none


def test_growth_without_requests_names_no_endpoint() -> None:
    rng, readings, served = random.Random(2), [], 0
    for number in range(80):
        served += rng.choice((10, 400))
        readings.append(
            Reading(number * 1.0, served, 40 * MB + number * 30_000, {NAMES[0]: served})
        )
    growth = trend(readings)
    assert growth is not None
    assert suspects(growth, readings, None, {}, 0.2) == []


# -- the series ------------------------------------------------------------------------------------


def reading(seconds: float, used: int, requests: int = 0) -> Reading:
    return Reading(seconds, requests or round(seconds * 100), used, {})


def test_an_interval_keeps_its_low_water_mark() -> None:
    series = Series()
    series.interval = 1.0
    for seconds, used in ((0.0, 5), (0.3, 3), (0.6, 9), (1.0, 7)):
        series.add(reading(seconds, used))
    assert [row.used for row in series.readings] == [3]


def test_a_full_series_is_thinned_to_the_lowest_of_two() -> None:
    series = Series()
    for number in range(400):
        series.add(reading(number * 0.25, number))
    assert series.interval > 0.25
    assert len(series.readings) < MAX_READINGS
    used = [row.used for row in series.readings]
    assert used == sorted(used)


def test_the_series_spans_hours_and_stays_small() -> None:
    series = Series()
    for number in range(20_000):
        series.add(reading(number * 1.0, number))
    assert len(series.readings) <= MAX_READINGS
    assert series.interval <= MAX_INTERVAL_S
    assert series.readings[-1].seconds - series.readings[0].seconds > 3_600


def test_an_idle_worker_adds_no_readings() -> None:
    series = Series()
    for number in range(100):
        series.add(reading(number * 0.5, 7, 42))
    assert len(series.readings) <= 2


# -- the detector -------------------------------------------------------------------------------------


class Host:
    """A worker whose memory, time and requests are set by the test."""

    def __init__(self, recorder: Recorder, time: Any) -> None:
        self.time = time
        self.used, self.counts = AllocatedBytes(40 * MB, 20 * MB), dict.fromkeys(NAMES, 0)
        self.reads = 0
        self.meter = RetainedBytesMeter(lambda _: NAMES[0], lambda: None, read=lambda: self.used)
        self.detector = LeakDetector(
            recorder,
            self.meter,
            lambda: sum(self.counts.values()),
            lambda: self.counts,
            self._read,
        )

    def _read(self) -> AllocatedBytes:
        self.reads += 1
        return self.used

    def run(self, seconds: int, leak: int = 0, per_second: int = 100) -> None:
        rng = random.Random(seconds)
        for _ in range(seconds):
            for _ in range(per_second):
                name = rng.choice(NAMES)
                self.counts[name] += 1
                if name == NAMES[7]:
                    self.used = AllocatedBytes(self.used.large + leak, self.used.small)
            self.counts = dict(self.counts)
            self.time.pass_(1.0)
            self.detector.tick()


@pytest.fixture
def host(recorder: Recorder, time: Any) -> Host:
    return Host(recorder, time)


def gauges(recorder: Recorder, meter: Meter) -> dict[tuple[str, ...], float]:
    totals = recorder.snapshot().totals
    return {
        labels: next(iter(totals.gauges([((), row)]).values()))
        for labels, row in totals.rows(meter.name)
    }


def test_growth_has_requests_measured(host: Host) -> None:
    host.run(120, leak=2_048)
    assert host.meter.due == 0


def test_a_steady_worker_has_nothing_measured(host: Host) -> None:
    host.run(120)
    assert host.meter.due == RetainedBytesMeter(lambda _: NAMES[0], lambda: None).due


@pytest.mark.slow
def test_measuring_ends_when_growth_has_ended_for_a_while(host: Host) -> None:
    host.run(120, leak=2_048)
    host.run(2_000)
    assert host.meter.due != 0


def test_growth_is_published(host: Host, recorder: Recorder) -> None:
    host.run(200, leak=2_048)
    figures = gauges(recorder, GROWTH)
    expected = 2_048 * figures["requests",] / 20
    assert figures["grown_bytes",] == pytest.approx(expected, rel=0.2)
    assert figures["p_value",] < 0.01


def test_a_suspect_is_published_and_withdrawn(
    host: Host, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    retained = {NAMES[7]: Retained(2_048.0, 0.0, 90)}
    monkeypatch.setattr(host.meter, "review", lambda: retained)
    monkeypatch.setattr(RetainedBytesMeter, "has_measured", True)
    host.run(200, leak=2_048)
    assert gauges(recorder, LEAK)[*NAMES[7], "bytes_per_request"] == 2_048
    total = 2_048 * host.counts[NAMES[7]]
    assert gauges(recorder, LEAK)[*NAMES[7], "grown_bytes"] == pytest.approx(total, rel=0.05)
    host.run(4_000)
    assert gauges(recorder, LEAK)[*NAMES[7], "grown_bytes"] == 0


def test_request_counts_are_used_only_after_measuring_failed(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    inferred_at: list[int] = []

    def inferred(*_: Any) -> list[leak_detector.Suspect]:
        inferred_at.append(sum(host.counts.values()))
        return []

    monkeypatch.setattr(leak_detector, "_inferred_from_counts", inferred)
    started_at: list[int] = []
    monkeypatch.setattr(host.meter, "start", lambda: started_at.append(sum(host.counts.values())))
    host.run(200, leak=8_192, per_second=50)
    assert inferred_at and started_at
    assert inferred_at[0] - started_at[0] >= leak_detector.MEASURING_TRIAL_REQUESTS


@pytest.mark.slow
def test_a_suspect_without_further_requests_is_not_cleared(
    host: Host, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host.meter, "review", lambda: {NAMES[7]: Retained(2_048.0, 0.0, 190)})
    monkeypatch.setattr(RetainedBytesMeter, "has_measured", True)
    host.run(200, leak=2_048)
    grown = gauges(recorder, LEAK)[*NAMES[7], "grown_bytes"]
    host.run(4_000, per_second=0)  # no requests
    assert gauges(recorder, LEAK)[*NAMES[7], "grown_bytes"] == pytest.approx(grown, rel=0.05) != 0
    unchanged = host.counts[NAMES[7]]
    for _ in range(2_000):  # requests to other endpoints only
        host.run(1)
        host.counts[NAMES[7]] = unchanged
    assert gauges(recorder, LEAK)[*NAMES[7], "grown_bytes"] == pytest.approx(grown, rel=0.05)


def test_a_reading_waits_for_a_second_or_for_a_few_hundred_requests(host: Host) -> None:
    host.run(1)
    for _ in range(10):
        host.time.pass_(0.01)
        host.detector.tick()
    assert host.reads == 1
    host.counts = {NAMES[0]: 100 + REQUESTS_PER_READING}
    host.detector.tick()
    assert host.reads == 2


def test_another_process_starts_over(host: Host, recorder: Recorder) -> None:
    host.run(120, leak=2_048)
    recorder.close()
    assert not host.detector._heaps["large"].readings
    assert not host.meter.has_measured


def test_without_allocated_bytes_rss_is_read(
    recorder: Recorder, time: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leak_detector, "rss", lambda: 77)
    counts = {NAMES[0]: 300}
    meter = RetainedBytesMeter(lambda _: NAMES[0], lambda: None)
    detector = LeakDetector(recorder, meter, lambda: 300, lambda: counts, lambda: None)
    for _ in range(3):
        time.pass_(1.0)
        detector.tick()
    assert {row.used for row in detector._heaps["large"].readings} == {77}


def test_suspects_of_both_heaps_are_merged() -> None:
    large = leak_detector.Suspect(NAMES[0], 100.0, 1_000.0, 80)
    small = leak_detector.Suspect(NAMES[0], 50.0, 500.0, 90)
    assert leak_detector._merged_heaps([large, small]) == [
        leak_detector.Suspect(NAMES[0], 150.0, 1_500.0, 90)
    ]


def test_a_trend_that_ended_is_neither_suspicious_nor_certain() -> None:
    ended = Trend(9e6, 8e6, 1e7, 5_000, 60.0, 1e-9, lasting=False)
    assert not (ended.suspicious or ended.certain)
