"""CPU time of idle workers: 2, 16 and 48 of a gunicorn, each of which has served some requests.

The CPU time of all threads of all workers is read before and after some minutes without a request, from
``/proc/PID/schedstat`` of each thread, in nanoseconds. The same is done without the extension, because
gunicorn itself wakes its workers once a second; the figure is the whole, beside gunicorn's part of it.
"""

from __future__ import annotations

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from ..harness.client import report
from ..harness.outcome import Grid, Outcome
from ..harness.servers import WAIT_S, Gunicorn, ServerError

WORKERS = (2, 16, 48)
MAX_SHARE = 0.001
"""CPU time of a worker as a share of the time."""
_SETTLE_S = 35.0
"""Time after the last request in which a worker folds its log, and each job has run once."""


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    if not Path("/proc/self/task").exists():
        outcome.judge("idle", "CPU of an idle worker", "≤ 0.1 % of a core", "needs Linux", None)
        return outcome
    settle, seconds = (5.0, 10.0) if quick else (_SETTLE_S, 180.0)
    lines = []
    for workers in WORKERS:
        bare, ours = (_share(workers, settle, seconds, bare=bare) for bare in (True, False))
        outcome.judge(
            f"idle.{workers}", f"CPU of an idle worker, {workers} workers", "≤ 0.100 % of a core",
            f"{ours:.3%}; without the extension {bare:.3%}", ours <= MAX_SHARE,
        )  # fmt: skip
        lines.append((str(workers), f"{bare:.3%}", f"{ours:.3%}", f"{ours - bare:.3%}"))
    heads = ("workers", "gunicorn alone", "with the extension", "added")
    title = f"CPU of one idle worker, as a share of a core, over {seconds:.0f} s"
    outcome.grids.append(Grid(title, heads, tuple(lines)))
    return outcome


def _share(workers: int, settle_s: float, seconds: float, *, bare: bool) -> float:
    """Return the CPU time of an idle worker as a share of the time."""
    config = {"BENCH_BARE": True} if bare else {}
    options = (f"--workers={workers}", "--preload")
    with (
        tempfile.TemporaryDirectory() as folder,
        Gunicorn(Path(folder), *options, config=config) as server,
    ):
        _reach_all(server, workers)
        time.sleep(settle_s)
        began, before = time.monotonic(), _cpu_ns(server)
        time.sleep(seconds)
        used = _cpu_ns(server) - before
        return used / 1e9 / (time.monotonic() - began) / workers


def _reach_all(server: Gunicorn, workers: int) -> None:
    """Send requests until each worker has served one.

    Raises:
        ServerError: they did not in time.
    """
    deadline, seen = time.monotonic() + WAIT_S, set[str]()
    with ThreadPoolExecutor(workers) as pool:
        while len(seen) < workers:
            if time.monotonic() > deadline:
                raise ServerError(f"{len(seen)} of {workers} workers answered")
            paths = ["/busy"] * 2 * workers
            answers = pool.map(lambda path: report(server.port, path=path), paths)
            seen |= {answer.worker for answer in answers}


def _cpu_ns(server: Gunicorn) -> int:
    """Return the CPU time of all threads of all workers, in nanoseconds."""
    total = 0
    for pid in server.workers():
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(FileNotFoundError):  # the thread has ended
                total += int((task / "schedstat").read_text().split()[0])
    return total
