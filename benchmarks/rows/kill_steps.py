"""A kill at every single change to a file, and kills at random instants of a busy writer.

A forked child does the work of a worker (record, rotate logs, fold, retire dead workers) on a disk that
kills it at the n-th step: before it, half-way through a write, or after it. Then the parent reads,
retires the rest, and reads again: both reads must be exact. Every step of every scenario is hit, and in
a last round the process that cleans up is killed too, at each of its steps.
"""

from __future__ import annotations

import mmap
import os
import random
import signal
import struct
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from flask_knitperf.core.clock import SYSTEM
from flask_knitperf.metrics import columns
from flask_knitperf.metrics.instruments import Kind, Meter
from flask_knitperf.metrics.log_format import pack
from flask_knitperf.storage import state_dir
from flask_knitperf.storage.atomic_files import Disk
from flask_knitperf.storage.writer import Worker

from ..harness.outcome import Outcome

_REQUEST = Meter("request", Kind.HISTOGRAM, "ns", ("endpoint",))
_COUNT = struct.Struct("<q")
BEFORE, HALF, AFTER = "before", "half-way", "after"


class Fatal(Disk):
    """Disk that kills this process at its n-th change to a file, or counts the changes.

    Args:
        left: changes before the deadly one; negative to count only.
        when: ``BEFORE``, ``HALF`` or ``AFTER`` the change.
    """

    def __init__(self, left: int, when: str) -> None:
        self.left, self.when, self.steps = left, when, 0

    def _step(self, when: str) -> None:
        if when != self.when:
            return
        self.steps += 1
        if self.steps == self.left + 1:
            os.kill(os.getpid(), signal.SIGKILL)

    def create_log(self, path: Path, size: int) -> mmap.mmap:
        """Create a log."""
        self._step(BEFORE)
        log = super().create_log(path, size)
        self._step(AFTER)
        return log

    def write(self, path: Path, data: bytes) -> None:
        """Write a file, first half of it."""
        self._step(BEFORE)
        if self.when == HALF:
            path.write_bytes(data[: len(data) // 2])
            self._step(HALF)
        super().write(path, data)
        self._step(AFTER)

    def replace(self, source: Path, target: Path) -> None:
        """Rename."""
        self._step(BEFORE)
        super().replace(source, target)
        self._step(AFTER)

    def unlink(self, path: Path) -> None:
        """Remove."""
        self._step(BEFORE)
        super().unlink(path)
        self._step(AFTER)


class Scenario(NamedTuple):
    """Files before, and the work of the child.

    Attributes:
        name: of the scenario.
        dead: number of dead workers whose files are there.
        records: requests that the child records.
        folds: times that it folds.
        names_kept: names of retired workers that a table keeps.
    """

    name: str
    dead: int
    records: int
    folds: int
    names_kept: int = state_dir.MAX_NAMES


SCENARIOS = (
    Scenario("one log", 0, 50, 1),
    Scenario("many logs", 0, 900, 3),
    Scenario("dead workers", 3, 300, 1),
    Scenario("many dead workers, names pruned", 6, 300, 2, 1),
)


class Tally:
    """Counters in shared memory, which survive the process that counts."""

    def __init__(self, counters: int = 1) -> None:
        self._map = mmap.mmap(-1, 8 * counters)

    def set(self, value: int, counter: int = 0) -> None:
        """Store a value."""
        # one copy: never half a number
        self._map[8 * counter : 8 * counter + 8] = _COUNT.pack(value)

    def get(self, counter: int = 0) -> int:
        """Return the last stored value."""
        return int(_COUNT.unpack_from(self._map, 8 * counter)[0])


def _worker(run: Path, disk: Disk, log_bytes: int = 4096) -> Worker:
    return Worker(run, {"pid": os.getpid()}, clock=SYSTEM, disk=disk, log_bytes=log_bytes)


def _record(worker: Worker, number: int) -> None:
    series = worker.series(_REQUEST, (f"e{number % 3}",))
    worker.write(pack([(series, 1, 1000.0 + number), (series, 1, 5.0)]))


def observations(run: Path) -> int:
    """Return the number of observations that a reader sees.

    Raises:
        ValueError: a read was degraded, or returned a value that was not recorded.
    """
    snapshot = state_dir.read(run)
    if snapshot.degraded:
        raise ValueError(f"degraded: {snapshot.degraded}")
    histograms = [series.data for key, series in columns.series(snapshot.columns).items()
                  if key.meter == "request"]  # fmt: skip
    for data in histograms:
        if data.count != sum(data.buckets.values()):
            raise ValueError("count and buckets differ")
        if data.count and not 5.0 <= (data.low or 0) <= (data.high or 0) < 1e7:
            raise ValueError(f"impossible value {data.low} {data.high}")
    return sum(data.count for data in histograms)


def _child(work: Callable[[], None]) -> bool:
    """Run something in a forked child; return whether it was killed."""
    child = os.fork()
    if not child:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    if os.WEXITSTATUS(status):
        raise RuntimeError("the child failed")
    return False


def _live(run: Path, scenario: Scenario, disk: Fatal, tally: Tally) -> None:
    """Do the work of the child: record and fold in turns, then retire dead workers."""
    worker = _worker(run, disk)
    share = scenario.records // scenario.folds
    for number in range(scenario.records):
        _record(worker, number)
        tally.set(number + 1)
        if number % share == share - 1:
            worker.prepare_spare()
            worker.fold()
            state_dir.retire(run, disk)
    worker.fold()


def _prepared(run: Path, scenario: Scenario) -> int:
    """Create the files of dead workers, some folded; return the number of their observations."""
    for number in range(scenario.dead):
        worker = _worker(run, Disk())
        _record(worker, number)
        if number % 2:
            worker.fold()
        worker.release()
        if scenario.names_kept == 1 and number < scenario.dead // 2:
            state_dir.retire(run, Disk())
    return scenario.dead * 2


def _steps(scenario: Scenario, when: str) -> int:
    """Return the number of steps of a scenario without a kill."""
    with tempfile.TemporaryDirectory() as folder:
        run, disk, steps = Path(folder), Fatal(-1, when), Tally()
        _prepared(run, scenario)

        def work() -> None:
            _live(run, scenario, disk, Tally())
            steps.set(disk.steps)

        _child(work)
        return steps.get()


def _one(scenario: Scenario, when: str, step: int, cleaner: int | None) -> str | None:
    """Kill at one step; return the error, ``None`` if the run is exact.

    Args:
        scenario: the work.
        when: the moment of the kill within the step.
        step: its number.
        cleaner: the step at which the process that cleans up is killed as well, if any.
    """
    with tempfile.TemporaryDirectory() as folder:
        run, tally = Path(folder), Tally()
        dead = _prepared(run, scenario)
        _child(lambda: _live(run, scenario, Fatal(step, when), tally))
        if cleaner is not None:
            _child(lambda: (state_dir.retire(run, Fatal(cleaner, when)), None)[1])
        for moment in ("at once", "retired"):
            try:
                count = observations(run)
            except Exception as error:
                return f"{scenario.name}, {when} step {step}, {moment}: {error}"
            expected = dead + 2 * tally.get()
            if not expected <= count <= expected + 2:
                return f"{scenario.name}, {when} step {step}, {moment}: {count}, not {expected}"
            state_dir.retire(run, Disk())
        rest = state_dir.workers(run)
        return f"{scenario.name}, {when} step {step}: files of {rest} stay" if rest else None


def _every_step(quick: bool) -> tuple[int, list[str]]:
    kills, wrong = 0, []
    names_kept = state_dir.MAX_NAMES
    try:
        for scenario in SCENARIOS:
            state_dir.MAX_NAMES = scenario.names_kept
            for when in (BEFORE, HALF, AFTER):
                steps = _steps(scenario, when)
                for step in range(0, steps, 5 if quick else 1):
                    cleaners = [None] if quick else [None, *range(12)]
                    for cleaner in cleaners if step % 3 == 0 or quick else [None]:
                        kills += 1
                        error = _one(scenario, when, step, cleaner)
                        wrong += [error] if error else []
    finally:
        state_dir.MAX_NAMES = names_kept
    return kills, wrong


def _busy(run: Path, tally: Tally, threads: int) -> None:
    """Record as fast as possible in several threads while one folds."""
    worker = _worker(run, Disk(), 65536)

    def record(thread: int) -> None:
        number = 0
        while True:
            _record(worker, number)
            number += 1
            tally.set(number, thread)

    for thread in range(threads):
        threading.Thread(target=record, args=(thread,), daemon=True).start()
    while True:
        worker.prepare_spare()
        worker.fold()
        state_dir.retire(run, worker._disk)


def _random_kills(quick: bool) -> tuple[int, int, list[str]]:
    """Kill a busy writer at random instants; return kills, observations and errors.

    All writers share one run, with the files of the dead ones before them; every fifth time a survivor
    cleans up, as the other workers of a server do.
    """
    kills, threads, wrong, rng = (10 if quick else 400), 3, [], random.Random(11)
    before = 0
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        for turn in range(kills):
            tally = Tally(threads)
            child = os.fork()
            if not child:
                try:
                    _busy(run, tally, threads)
                finally:
                    os._exit(1)
            time.sleep(rng.uniform(0.005, 0.12))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            expected = 2 * sum(tally.get(thread) for thread in range(threads))
            try:
                count = observations(run) - before
            except Exception as error:
                wrong.append(f"random kill {turn}: {error}")
                continue
            before += count
            if turn % 5 == 4:
                state_dir.retire(run, Disk())
            if not expected <= count <= expected + 2 * threads:
                wrong.append(
                    f"random kill {turn}: {count} is not {expected} (+ at most {2 * threads})"
                )
    return kills, before, wrong


def run(outcome: Outcome, quick: bool) -> None:
    """Judge both kinds of kills."""
    kills, wrong = _every_step(quick)
    outcome.judge("kill.steps", "kills before, half-way through and after every create, write, rename "
                  "and unlink of fold and retire", "exact", f"{kills:,} kills, {len(wrong)} wrong",
                  not wrong)  # fmt: skip
    random_kills, recorded, errors = _random_kills(quick)
    outcome.judge("kill.random", f"{random_kills} kills of a busy writer of 3 threads", "none lost",
                  f"{recorded:,} observations, {len(errors)} wrong", not errors)  # fmt: skip
    outcome.notes += [*wrong[:8], *errors[:8]]
