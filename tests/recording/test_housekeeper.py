"""The housekeeper thread: schedules, failures and stopping."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from flask_knitperf.recording.housekeeper import Housekeeper, Job


def make_housekeeper(*jobs: Job, errors: list[str] | None = None) -> Housekeeper:
    messages = [] if errors is None else errors
    return Housekeeper(
        list(jobs), lambda name, error: messages.append(f"{name}: {error}"), lambda: 0.0
    )


def test_a_job_runs_when_it_is_due() -> None:
    ran: list[int] = []
    housekeeper = make_housekeeper(Job(10, lambda: ran.append(1)))
    assert housekeeper.tick(100) == 10
    housekeeper.tick(105)
    housekeeper.tick(110)
    assert len(ran) == 2


def test_a_failing_job_is_retried_less_and_less_often_and_stops_no_other_job() -> None:
    errors: list[str] = []
    ran: list[int] = []

    def fail() -> None:
        raise ValueError("broken")

    housekeeper = make_housekeeper(
        Job(1, fail, name="bad"), Job(1, lambda: ran.append(1)), errors=errors
    )
    now = 0.0
    for _ in range(64):
        housekeeper.tick(now)
        now += 1
    assert len(ran) == 64
    assert errors[0] == "bad: broken"
    assert len(errors) == 6


def test_a_job_that_succeeds_again_returns_to_its_schedule() -> None:
    broken = [True]
    ran: list[float] = []

    def sometimes() -> None:
        if broken[0]:
            raise ValueError
        ran.append(1)

    housekeeper = make_housekeeper(Job(1, sometimes))
    housekeeper.tick(0)
    broken[0] = False
    housekeeper.tick(2)
    housekeeper.tick(3)
    assert len(ran) == 2


def test_without_jobs_the_housekeeper_waits_one_second() -> None:
    assert make_housekeeper().tick(5) == 1.0


def test_wrap_job_runs_each_job() -> None:
    seen: list[str] = []

    def wrap_job(run: Callable[[], object]) -> object:
        seen.append("before")
        run()
        seen.append("after")
        return None

    housekeeper = Housekeeper(
        [Job(1, lambda: seen.append("job"))], lambda *_: None, wrap_job=wrap_job
    )
    housekeeper.tick(0)
    assert seen == ["before", "job", "after"]


def test_stop_is_harmless_before_start_and_from_within_a_job() -> None:
    stopped = threading.Event()
    housekeeper = Housekeeper([], lambda *_: None)
    housekeeper.stop()
    own = Housekeeper([], lambda *_: None)

    def stop() -> None:
        own.stop()
        stopped.set()

    own.add(Job(0.01, stop))
    own.start()
    assert stopped.wait(5)
    own.stop()


def test_a_rescheduled_job_has_the_new_interval_after_its_next_run() -> None:
    ran: list[int] = []
    other: list[int] = []
    job, other_job = (lambda: ran.append(1)), (lambda: other.append(1))
    housekeeper = make_housekeeper(Job(10, job), Job(10, other_job))
    housekeeper.tick(100)
    housekeeper.reschedule(50, job)
    for now in (110, 120, 159, 160):
        housekeeper.tick(now)
    assert (len(ran), len(other)) == (3, 4)


@pytest.mark.slow
def test_a_housekeeper_that_is_to_end_stops_and_calls_a_function_from_its_thread() -> None:
    threads: list[str] = []
    housekeeper = make_housekeeper()
    housekeeper.start()
    housekeeper.end(lambda: threads.append(threading.current_thread().name))
    _wait_for_end()
    assert threads == ["flask_knitperf"]


def test_an_error_at_its_end_is_reported() -> None:
    errors: list[str] = []
    housekeeper = make_housekeeper(errors=errors)
    housekeeper.end(lambda: 1 / 0)
    housekeeper.start()
    _wait_for_end()
    assert errors == ["end of the housekeeper: division by zero"]


def _wait_for_end() -> None:
    for thread in threading.enumerate():
        if thread.name == "flask_knitperf":
            thread.join(5)
            assert not thread.is_alive()


def test_an_idle_process_runs_a_job_each_half_minute_and_a_prompt_one_each_second() -> None:
    ran: list[str] = []
    jobs = [Job(0.5, lambda: ran.append("job")), Job(0.5, lambda: ran.append("prompt"), True)]
    housekeeper = Housekeeper(jobs, lambda *_: None, is_idle=lambda: True)
    for second in range(61):
        housekeeper.tick(second)
    assert (ran.count("job"), ran.count("prompt"), housekeeper.idle) == (3, 61, True)


def test_jobs_keep_their_interval_again_once_a_process_is_busy() -> None:
    ran: list[float] = []
    idle = [True]
    now = 0.0
    housekeeper = Housekeeper(
        [Job(2, lambda: ran.append(now))], lambda *_: None, is_idle=lambda: idle[0]
    )
    for now in (0.0, 5.0, 6.0, 8.0, 10.0):
        idle[0] = now < 6
        housekeeper.tick(now)
    assert (ran, housekeeper.idle) == ([0, 8, 10], False)
