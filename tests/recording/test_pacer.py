"""A job that rests in proportion to the time that it takes."""

from __future__ import annotations

from typing import Any

import pytest

from flask_knitperf.recording.pacer import Pacer

from .recorders import make_recorder


class Job:
    """A job that takes some seconds, with the pacer that runs it."""

    def __init__(self, time: Any) -> None:
        self._time, self.runs, self.seconds = time, 0, 0.5
        recorder = make_recorder(None)
        recorder.clock = time.clock()
        self.pacer = Pacer(recorder, max_share=0.1)

    def __call__(self) -> None:
        self.runs += 1
        self._time.pass_(self.seconds)

    def tick(self) -> None:
        self.pacer.run(self)


@pytest.fixture
def job(time: Any) -> Job:
    return Job(time)


@pytest.mark.parametrize(("rest", "runs"), [(0, 1), (4.49, 1), (4.5, 2)])
def test_a_job_rests_until_it_took_its_share(job: Job, time: Any, rest: float, runs: int) -> None:
    job.tick()
    time.pass_(rest)
    job.tick()
    assert job.runs == runs


def test_a_job_that_takes_no_time_runs_each_time(job: Job) -> None:
    job.seconds = 0
    job.tick(), job.tick()
    assert job.runs == 2


def test_after_a_reset_a_job_runs_at_once(job: Job) -> None:
    job.tick()
    job.pacer.reset()
    job.tick()
    assert job.runs == 2
