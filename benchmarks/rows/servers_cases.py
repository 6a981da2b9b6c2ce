"""Servers that replace themselves, and processes that serve two applications."""

from __future__ import annotations

import json
import os
import signal
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

import psutil

from flask_knitperf.core.server_limits import INTERPRETER
from flask_knitperf.storage import runs

from ..harness.client import (
    START_REQUEST,
    Answer,
    Key,
    Ledger,
    Load,
    counts,
    every_worker,
    expected_counts,
    report,
    report_within_limits,
)
from ..harness.outcome import Outcome
from ..harness.recipes import DAEMON, MOD_WSGI, apache, gunicorn
from ..harness.servers import WAIT_S, Server, wait_for

_SCRIPT = """
import os

os.environ["BENCH_CONFIG"] = {config!r}
from benchmarks.harness.apps import served

application = served()
"""
_OVERLAP = "other servers of this application are running"
T = TypeVar("T")


def run(outcome: Outcome, total: int) -> None:
    """Judge the cases, each by that many requests."""
    _judge_replaced(outcome, total, None)
    _judge_replaced(outcome, total, "1.0")
    missing = MOD_WSGI.missing()
    if missing:
        outcome.judge("servers.mod_wsgi_two", "two applications in one process of mod_wsgi",
                      "exact", missing, None)  # fmt: skip
        return
    _judge_two_applications(outcome, total)
    _judge_two_interpreters(outcome, total)


# -- gunicorn replaces itself ----------------------------------------------------------------------


class Replacement(NamedTuple):
    """Observations of a gunicorn that was replaced by another one.

    Attributes:
        before: ledger of the first gunicorn.
        after: ledger of the second one.
        overlap: a report while both served.
        current: reports of all workers at the end.
        previous: a report of the previous run at the end.
        runs: number of runs in the state directory.
    """

    before: Ledger
    after: Ledger
    overlap: Answer
    current: list[Answer]
    previous: Answer
    runs: int


def _judge_replaced(outcome: Outcome, total: int, release: str | None) -> None:
    name = "a release" if release else "no release"
    with tempfile.TemporaryDirectory() as folder:
        seen = _replace(Path(folder), total, release)
    first = Counter(seen.before.committed)
    first[START_REQUEST] += 1
    expected = seen.after.committed
    if release:
        expected = expected + first
    exact = [answer for answer in seen.current if counts(answer.document) == expected]
    lost = sum((seen.before.uncertain + seen.after.uncertain).values())
    stated = any(_OVERLAP in sentence for sentence in seen.overlap.document["self"]["degraded"])
    ok = len(exact) == len(seen.current) and not lost and stated is (release is None)
    if release is None:
        ok = ok and seen.runs == 2 and _counts_of(seen.previous) == first
    else:
        ok = ok and seen.runs == 1
    outcome.judge(
        f"servers.gunicorn_USR2.{name.replace(' ', '_')}",
        f"{seen.before.sent + seen.after.sent:,} requests, gunicorn is replaced (USR2), {name}",
        "exact, one run" if release else "exact, one run of each, the overlap stated",
        f"exact in {len(exact)} of {len(seen.current)} reports, {seen.runs} "
        f"run{'s' * (seen.runs != 1)}, {'the overlap stated' if stated else 'no overlap'}", ok,
    )  # fmt: skip


def _counts_of(answer: Answer) -> Counter[Key]:
    return counts(answer.document) if answer.status == 200 else Counter()


def _replace(folder: Path, total: int, release: str | None) -> Replacement:
    """Send the load to a gunicorn, to its successor, and to that one with a new worker."""
    with Server(folder, gunicorn(), config={"KNITPERF_RELEASE": release}) as server:
        before = Load(server.port, total=total // 2, seed=1).start().wait()
        old = psutil.Process(server.pid)
        workers = set(server.workers())
        server.signal(signal.SIGUSR2)
        with _successor(old, workers) as master:
            overlap = _first(lambda: _while_both_serve(server.port, workers))
            old.terminate()
            old.wait(WAIT_S)
            after = Load(server.port, total=total // 4, seed=2).start().wait()
            os.kill(int(report(server.port).worker), signal.SIGKILL)
            _first(lambda: len(master.children()) == 2)
            after.add(Load(server.port, total=total // 4, seed=3).start().wait())
            time.sleep(0.5)
            current = every_worker(server.port, 2)
            previous = report_within_limits(server.port, "window=previous")
        return Replacement(before, after, overlap, current, previous, len(runs.runs(server.state)))


def _while_both_serve(port: int, workers: set[int]) -> Answer | None:
    """Return a report once old and new workers have answered, ``None`` if only one side has."""
    with ThreadPoolExecutor(4) as clients:  # at once, so that no worker can take them all
        answers = [a for a in clients.map(lambda _: report(port), range(4)) if a.status == 200]
    if len({int(answer.worker) in workers for answer in answers}) < 2:
        time.sleep(0.4)  # the rate limit of the pages
        return None
    return report_within_limits(port)


@contextmanager
def _successor(old: psutil.Process, workers: set[int]) -> Iterator[psutil.Process]:
    """Wait for the gunicorn that replaces another one; end it at last."""
    master = _first(lambda: next(
        (child for child in old.children() if child.pid not in workers and child.children()), None
    ))  # fmt: skip
    try:
        _first(lambda: len(master.children()) == 2)
        yield master
    finally:
        with suppress(psutil.NoSuchProcess):
            master.terminate()
            master.wait(WAIT_S)


def _first(condition: Callable[[], T | None]) -> T:
    """Return the first value of a condition that is true.

    Raises:
        TimeoutError: it has none in time.
    """
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.1)
    raise TimeoutError("a server did not reach the expected state")


# -- two applications in one process ---------------------------------------------------------------


class _TwoApplications(Server):
    """An Apache whose two daemon processes serve two applications, each on its own port."""

    def __init__(self, folder: Path, group: str) -> None:
        super().__init__(folder, lambda _, port: apache(folder, self._sites(port), DAEMON, group))
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.second_port: int = free.getsockname()[1]
        self.states = (folder / "state-1", folder / "state-2")

    def _sites(self, port: int) -> dict[int, Path]:
        sites = {}
        for number, one in enumerate((port, self.second_port), 1):
            config = self.folder / f"config-{number}.json"
            settings = json.loads(self._config.read_text(encoding="utf-8"))
            settings["KNITPERF_STATE_DIR"] = str(self.states[number - 1])
            config.write_text(json.dumps(settings), encoding="utf-8")
            sites[one] = self.folder / f"application_{number}.py"
            sites[one].write_text(_SCRIPT.format(config=str(config)), encoding="utf-8")
        return sites


def _judge_two_applications(outcome: Outcome, total: int) -> None:
    """Judge two applications in the main interpreter."""
    with tempfile.TemporaryDirectory() as folder, \
            _TwoApplications(Path(folder), "%{GLOBAL}") as server:  # fmt: skip
        assert server.process is not None
        ports = (server.port, server.second_port)
        wait_for(server.second_port, server.process, server.log)
        loads = [Load(port, total=total // 2, seed=port, keep_alive=False) for port in ports]
        ledgers = [load.wait() for load in [load.start() for load in loads]]
        time.sleep(0.5)
        exact, answers = 0, []
        for port, ledger in zip(ports, ledgers, strict=True):
            reports = every_worker(port, 2)
            answers += reports
            expected = expected_counts(ledger)
            exact += sum(counts(answer.document) == expected for answer in reports)
        number = sum(len(runs.runs(state)) for state in server.states)
        lost = sum(sum(ledger.uncertain.values()) for ledger in ledgers)
    outcome.judge(
        "servers.mod_wsgi_two", f"{total:,} requests to two applications in the same processes",
        "exact, one run each", f"exact in {exact} of {len(answers)} reports, {number} runs",
        exact == len(answers) and number == 2 and not lost,
    )  # fmt: skip


def _judge_two_interpreters(outcome: Outcome, total: int) -> None:
    """Judge two applications in sub-interpreters, Apache's default: NumPy refuses the second one."""
    with tempfile.TemporaryDirectory() as folder, \
            _TwoApplications(Path(folder), "") as server:  # fmt: skip
        ledger = Load(server.port, total=total // 2, keep_alive=False).start().wait()
        answers = every_worker(server.port, 2)
        refused = {report(server.second_port).status for _ in range(8)}
        ledger.add(Load(server.port, total=total // 2, keep_alive=False).start().wait())
        time.sleep(0.5)
        answers = every_worker(server.port, 2)
        explained = "WSGIApplicationGroup %{GLOBAL}, so that" in server.log.read_text("utf-8")
    expected = expected_counts(ledger)
    exact = [answer for answer in answers if counts(answer.document) == expected]
    stated = [answer for answer in answers if any(
        INTERPRETER in sentence for sentence in answer.document["self"]["degraded"])]  # fmt: skip
    outcome.judge(
        "servers.mod_wsgi_two.sub-interpreters",
        f"{ledger.sent:,} requests to the first of two applications, Apache's default",
        "exact, its report and the error of the second name the remedy",
        f"exact in {len(exact)}, named in {len(stated)} of {len(answers)} reports; second: status "
        f"{', '.join(map(str, sorted(refused)))}, {'named' if explained else 'not named'}",
        len(exact) == len(stated) == len(answers) and refused == {500} and explained,
    )  # fmt: skip
