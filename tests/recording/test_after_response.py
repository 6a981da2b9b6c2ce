"""Jobs that wait for the end of a response."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flask_knitperf.recording.after_response import AfterResponse


class Jobs:
    """Jobs with a clock and requests in flight that the test sets."""

    def __init__(self) -> None:
        self.now, self.in_flight, self.woken = 0, [], 0  # type: ignore[var-annotated]
        self.ran: list[str] = []
        self.errors: list[str] = []
        self.jobs = AfterResponse(self.in_flight, lambda: self.now, self._failed)
        self.jobs.wake = self._wake

    def _failed(self, name: str, error: BaseException) -> None:
        self.errors.append(f"{name.rpartition('.')[2]}: {error}")

    def _wake(self) -> None:
        self.woken += 1

    def job(self) -> None:
        self.ran.append("job")

    def fail(self) -> None:
        raise ValueError("broken")


@pytest.fixture
def waiting() -> Jobs:
    waiting = Jobs()
    waiting.jobs.add(waiting.job, 5)
    return waiting


def test_a_job_runs_once(waiting: Jobs) -> None:
    waiting.jobs.add(waiting.job, 5)
    waiting.jobs.run(), waiting.jobs.run()
    assert (waiting.ran, bool(waiting.jobs), waiting.woken) == (["job"], False, 2)


@pytest.mark.parametrize(("seconds", "ran"), [(0, []), (4.9, []), (5, ["job"])])
def test_a_job_waits_for_a_moment_without_requests_but_not_forever(
    waiting: Jobs, seconds: float, ran: list[str]
) -> None:
    waiting.in_flight.append(1)
    waiting.now = round(seconds * 1e9)
    waiting.jobs.add(waiting.job, 5)  # does not extend its patience
    waiting.jobs.run()
    assert waiting.ran == ran


@pytest.mark.parametrize(
    "remove", [lambda waiting: waiting.jobs.discard(waiting.job), lambda waiting: waiting.jobs.clear()]
)  # fmt: skip
def test_a_job_that_was_removed_does_not_run(waiting: Jobs, remove: Callable[[Jobs], None]) -> None:
    remove(waiting)
    waiting.jobs.run()
    assert (waiting.ran, bool(waiting.jobs)) == ([], False)


def test_a_job_that_fails_is_reported_and_stops_no_other(waiting: Jobs) -> None:
    waiting.jobs.clear()
    waiting.jobs.add(waiting.fail, 5)
    waiting.jobs.add(waiting.job, 5)
    waiting.jobs.run()
    assert (waiting.ran, waiting.errors) == (["job"], ["fail: broken"])


def test_a_job_that_another_thread_has_started_does_not_run_again(waiting: Jobs) -> None:
    def first() -> None:
        waiting.jobs.run()  # as another thread would, before this one comes to the second job

    waiting.jobs.clear()
    waiting.jobs.add(first, 5)
    waiting.jobs.add(waiting.job, 5)
    waiting.jobs.run()
    assert waiting.ran == ["job"]


def test_a_recorder_forgets_them_when_it_closes(make_app: Any) -> None:
    mill = make_app()
    jobs = mill.session.recorder.after_response
    jobs.add(lambda: None, 5)
    mill.session.close()
    assert not jobs
