"""Processes of one host load a value once, hold it once, and see each invalidation.

Real processes with one state directory (`harness/sharing_mill.py`). All of them call a cold key at one
time; in a second round the process that loads is killed. One process changes and invalidates two numbers
while others read them: a read is stale if it is behind the number whose invalidation had returned before
it began. Memory is the sum of the proportional set sizes, after every process has read all cells.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..harness.outcome import Outcome

PROCESSES, THREADS, LOAD_S = 8, 5, 0.5
LATE_S = 0.3
ROUNDS = 5
ROWS, ROW_BYTES = 2_270_000, 48  # 109 MB
READS, CHANGES, PAUSE_S = 1_000_000, 3000, 0.003
MAX_PSS, MAX_CPU_MS = 1.5, 5.0


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    _judge_loads(outcome, 1 if quick else ROUNDS)
    _judge_invalidation(outcome, READS // 50 if quick else READS, 60 if quick else CHANGES)
    _judge_memory(outcome, ROWS // 10 if quick else ROWS)
    return outcome


class Process:
    """A process that answers commands."""

    def __init__(self, folder: Path) -> None:
        env = {
            **os.environ, "STATE": str(folder / "state"), "LOG": str(folder / "log"),
            "NUMBERS": str(folder / "numbers"),
        }  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.harness.sharing_mill"], env=env, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def send(self, *command: Any) -> None:
        """Send a command."""
        assert self._process.stdin is not None
        print(json.dumps(command), file=self._process.stdin, flush=True)

    def answer(self) -> Any:
        """Return the answer to the command that was sent."""
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def call(self, *command: Any) -> Any:
        """Send a command; return its answer."""
        self.send(*command)
        return self.answer()

    def kill(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


@contextmanager
def processes(number: int) -> Iterator[tuple[list[Process], Path]]:
    """Run some processes with one state directory."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "log").touch()
        (folder / "numbers").write_bytes(bytes(16))
        started = [Process(folder) for _ in range(number)]
        for process in started:
            process.call("pss")  # it is ready
        try:
            yield started, folder
        finally:
            for process in started:
                process.kill()


def _judge_loads(outcome: Outcome, rounds: int) -> None:
    loads, late, served, killed_loads, killed_late = [], [], [], [], []
    for _ in range(rounds):
        with processes(PROCESSES) as (started, folder):
            at = time.time() + 0.2
            for process in started:
                process.send("call_slow", [1], THREADS, LOAD_S, at)
            times = [taken for process in started for taken in process.answer()]
            served.append(len(times))
            late.append(max(times) - LOAD_S)
            loads.append(len((folder / "log").read_text().split()))
        with processes(PROCESSES) as (started, folder):
            first, *others = started
            first.send("call_slow", [1], THREADS, LOAD_S, 0.0)
            while not (folder / "log").read_text():
                time.sleep(0.001)
            at = time.time()
            for process in others:
                process.send("call_slow", [1], THREADS, LOAD_S, at)
            time.sleep(LOAD_S / 2)
            killed_at = time.time()
            first.kill()
            times = [taken for process in others for taken in process.answer()]
            served.append(len(times) + THREADS)
            killed_late.append(at + max(times) - killed_at - LOAD_S)
            killed_loads.append(len((folder / "log").read_text().split()))
    whole = PROCESSES * THREADS
    outcome.judge("cache_sharing.loads",
                  f"loads of a cold key, {PROCESSES} processes × {THREADS} threads",
                  "1", str(max(loads)), max(loads) == 1)  # fmt: skip
    outcome.judge("cache_sharing.killed", "loads if the process that loads is killed",
                  "2", str(max(killed_loads)), max(killed_loads) == 2)  # fmt: skip
    outcome.judge("cache_sharing.served", "calls that were served with the right value",
                  "all", "all" if set(served) == {whole} else str(min(served)),
                  set(served) == {whole})  # fmt: skip
    worst = max(*late, *killed_late)
    outcome.judge("cache_sharing.late", "latest answer after the load, after the kill and another load",
                  f"≤ {LATE_S:g} s", f"{worst:.2f} s", worst <= LATE_S)  # fmt: skip


def _judge_invalidation(outcome: Outcome, reads: int, changes: int) -> None:
    with processes(4) as ((writer, *readers), _):
        for reader in readers:
            reader.send("read_numbers", reads // len(readers))
        writer.send("change_numbers", changes, PAUSE_S)
        stale = sum(reader.answer() for reader in readers)
        writer.answer()
    outcome.judge("cache_sharing.stale",
                  f"stale answers, {reads:,} reads, {2 * changes:,} invalidations by another process",
                  "0", str(stale), stale == 0)  # fmt: skip


def _judge_memory(outcome: Outcome, rows: int) -> None:
    size = rows * ROW_BYTES
    with processes(4) as (started, _):
        for process in started:
            process.call("call_slow", [1], 1, 0.0, 0.0)  # the identity of the code is found once
        before = sum(process.call("pss") for process in started)
        spent = [process.call("hold", rows)[0] for process in started]
        added = sum(process.call("pss") for process in started) - before
    outcome.judge("cache_sharing.memory",
                  f"added PSS of 4 processes with one frame of {size / 1e6:.0f} MB",
                  f"≤ {MAX_PSS:g} × its size", f"{added / size:.2f} ×",
                  added <= MAX_PSS * size)  # fmt: skip
    worst = max(spent[1:]) * 1000
    outcome.judge("cache_sharing.first", "CPU time of the first use in another process",
                  f"≤ {MAX_CPU_MS:g} ms", f"{worst:.1f} ms", worst <= MAX_CPU_MS)  # fmt: skip
