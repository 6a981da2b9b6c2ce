"""A hundred applications come and go in one process: threads, descriptors, files and memory stay.

Each has the sampler switched on and a state directory; it serves a request, then its last reference is
deleted. The same is done with plain applications, whose growth of memory is subtracted. Three times as
many before warm up. Levels are read beside one more application that lives. At last the collector of
garbage is switched off, and ten more must be freed by reference counting alone, as plain applications
are.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import tempfile
import threading
import time
import weakref
from pathlib import Path
from typing import NamedTuple

from flask import Flask
from werkzeug.test import Client

from flask_knitperf.storage import runs

from ..harness.outcome import Grid, Outcome

_WARM_UPS = 3
"""Rounds of as many applications before the measured ones."""
_UNCOLLECTED = 10
"""Applications that are dropped while the collector is switched off."""
_WAIT_S = 10.0
"""Time within which the threads of dropped applications have to end."""
MAX_GROWTH_MB = 1.0


class Level(NamedTuple):
    """Resources of this process at one time."""

    threads: int
    descriptors: int
    files: int  # of the run; details of single requests are merged twice a minute
    mb: float


class Measurement(NamedTuple):
    """Levels after the warm-up and at the end, and the number of applications freed at once."""

    before: Level
    after: Level
    freed: int


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    if not Path("/proc/self/status").exists():
        outcome.judge("dropped_applications", "applications dropped", "back", "needs Linux", None)
        return outcome
    count = 10 if quick else 100
    plain, ours = (_spawned(count, with_extension) for with_extension in (False, True))
    for field in ("threads", "descriptors", "files"):
        before, after = getattr(ours.before, field), getattr(ours.after, field)
        outcome.judge(
            f"dropped_applications.{field}", f"{field} after {count} dropped applications",
            f"≤ {before}, as before", str(after), after <= before,
        )  # fmt: skip
    grown, plainly = (one.after.mb - one.before.mb for one in (ours, plain))
    outcome.judge(
        "dropped_applications.memory", "memory grown; by plain Flask",
        f"≤ {MAX_GROWTH_MB:.0f} MB more", f"{grown:+.2f} MB; {plainly:+.2f} MB",
        grown - plainly <= MAX_GROWTH_MB,
    )  # fmt: skip
    outcome.judge(
        "dropped_applications.freed", "applications freed by reference counting alone; of plain Flask",
        f"{_UNCOLLECTED} of {_UNCOLLECTED}", f"{ours.freed}; {plain.freed}", ours.freed == plain.freed,
    )  # fmt: skip
    outcome.grids.append(Grid(
        "Resources", ("applications", "threads", "descriptors", "files", "MB"),
        tuple((f"{name}, {when}", *map(str, level[:3]), f"{level.mb:.1f}")
              for name, one in (("plain Flask", plain), ("with the extension", ours))
              for when, level in (("before", one.before), ("after", one.after))),
    ))  # fmt: skip
    return outcome


def _spawned(count: int, with_extension: bool) -> Measurement:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_in_process, (count, with_extension))


def _in_process(count: int, with_extension: bool) -> Measurement:
    """Make and drop applications in the current process."""
    # the last ones still write when the folder is removed
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        state = Path(folder) / "state"
        levels = []
        for _ in range(1 + _WARM_UPS):
            _drop(count, state, with_extension)
            levels.append(_settled(state, with_extension))
        gc.disable()
        freed = _drop(_UNCOLLECTED, state, with_extension)
        _settled(state, with_extension)
        return Measurement(*levels[-2:], freed)


def _drop(count: int, state: Path, with_extension: bool) -> int:
    """Make and drop applications; return the number of those that were freed at once."""
    freed = 0
    for _ in range(count):
        reference = weakref.ref(_served(state, with_extension))
        freed += reference() is None
    return freed


def _served(state: Path, with_extension: bool) -> Flask:
    """Return an application that has served one request."""
    app = Flask("tenant")
    app.add_url_rule("/", "index", lambda: "x")
    if with_extension:
        from flask_knitperf import KnitPerf

        app.config.update(KNITPERF_STATE_DIR=str(state), KNITPERF_SAMPLER=True)
        KnitPerf(app)
    if Client(app).get("/").status_code != 200:
        raise RuntimeError("the application failed")
    return app


def _settled(state: Path, with_extension: bool) -> Level:
    """Return the level beside one more application, once all others have ended, or time is up.

    The living one takes over the totals of the others, and removes their files.
    """
    gc.collect()
    living, ends = _served(state, with_extension), time.monotonic() + _WAIT_S
    while not _is_alone(state) and time.monotonic() < ends:
        time.sleep(0.05)
    level = Level(
        threading.active_count(), len(os.listdir("/proc/self/fd")),
        sum(len(os.listdir(run_)) for run_ in _runs(state)), _resident_mb(),
    )  # fmt: skip
    del living
    return level


def _runs(state: Path) -> list[Path]:
    return runs.runs(state) if state.exists() else []


def _is_alone(state: Path) -> bool:
    """Return whether one application at most has threads and files."""
    housekeepers = [one for one in threading.enumerate() if one.name == "flask_knitperf"]
    return len(housekeepers) <= 1 and len(list(state.glob("*/w-*.lock"))) <= 1


def _resident_mb() -> float:
    """Return the resident memory of this process without mapped files."""
    with open("/proc/self/status", encoding="ascii") as file:
        status = dict(line.split(":", 1) for line in file)
    return int(status["RssAnon"].split()[0]) / 1024
