"""Lists of the DataFrames alive in each worker: one small file per worker, merged by the reader.

A worker scans its objects only on command (a scan stalls its other threads), and writes the list beside
its table. A list carries the time of its scan and stays until the next command.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from ...core.host_exceptions import raise_if_of_host
from ...storage.atomic_files import Disk

# Planning competes with requests for the GIL, so it is bounded in three ways.
_MAX_PLANNED_FRAMES = 20
_MAX_PLANNED_BYTES = 64 << 20
"""Largest frame that is planned."""
_PLANNING_BUDGET_S = 5.0


class FrameList(TypedDict):
    """DataFrames that were alive in one process.

    Attributes:
        at: seconds since the epoch.
        frames: rows of :meth:`...frames.live_frames.LiveFrame.as_dict`; the other keys are totals, see
            :class:`...frames.live_frames.Scan`.
    """

    at: float
    count: int
    mb: float
    duplicated_mb: float
    pinned_mb: float
    stalled_ms: float
    frozen: int
    frames: list[Any]


class WorkerFrames(FrameList):
    """DataFrames that were alive in one worker."""

    worker: str
    pid: int | None


class DecoratorSaving(NamedTuple):
    """Savings of ``memory_efficient`` at one function.

    Attributes:
        function: its qualified name.
        frames: number of frames that it returned.
        before: bytes of those frames.
        after: bytes of the smaller ones.
    """

    function: str
    frames: int
    before: int
    after: int


def list_frames(now: float) -> FrameList:
    """Return the DataFrames that are alive in this process, as JSON values.

    Args:
        now: seconds since the epoch.
    """
    if "pandas" not in sys.modules:
        return {"at": now, "count": 0, "mb": 0.0, "duplicated_mb": 0.0, "pinned_mb": 0.0,
                "stalled_ms": 0.0, "frozen": 0, "frames": []}  # fmt: skip
    from ...frames.live_frames import scan

    frames: FrameList = {"at": now, **scan(_SavingsEstimator()).as_dict()}  # type: ignore[typeddict-item]
    return frames


def decorator_savings() -> list[DecoratorSaving]:
    """Return the savings of ``memory_efficient`` in this process, by function, the largest first."""
    decorators = sys.modules.get("flask_knitperf.frames.decorators")
    if decorators is None:
        return []
    rows = [
        DecoratorSaving(name, saved.frames, saved.before, saved.after)
        for name, saved in decorators.DECORATED.copy().items() if saved.frames
    ]  # fmt: skip
    return sorted(rows, key=lambda row: row.after - row.before)


class _SavingsEstimator:
    """Bytes that smaller dtypes would save in a frame, ``None`` once the budget is spent."""

    def __init__(self) -> None:
        self._frames_left = _MAX_PLANNED_FRAMES
        self._deadline = time.monotonic() + _PLANNING_BUDGET_S

    def __call__(self, frame: Any, size: int) -> int | None:
        exhausted = not self._frames_left or time.monotonic() > self._deadline
        if exhausted or size > _MAX_PLANNED_BYTES:
            return None
        from ...frames import plan_dataframe

        self._frames_left -= 1
        plan = plan_dataframe(frame)
        return max(0, plan.before.true - plan.after.true)


def write(run: Path, worker: str, frames: FrameList, disk: Disk) -> None:
    """Save the list of one worker.

    Args:
        run: the run's directory.
        worker: name of the worker.
        frames: the value of :func:`list_frames`.
        disk: writes the file.
    """
    disk.save(run / f"{worker}.frames", json.dumps(frames).encode())


def read(
    run: Path, workers: Iterable[Mapping[str, Any]], disk: Disk | None = None
) -> list[WorkerFrames]:
    """Return the latest list of each live worker; workers without one are left out.

    Args:
        run: the run's directory.
        workers: of a snapshot.
        disk: removes the files of dead workers, if given.
    """
    lists: list[WorkerFrames] = []
    live_names: set[str] = set()
    for worker in workers:
        if not worker.get("alive"):
            continue
        live_names.add(f"{worker['worker']}.frames")
        try:
            frames: FrameList = json.loads((run / f"{worker['worker']}.frames").read_bytes())
        except (OSError, ValueError) as error:
            raise_if_of_host(error)
            continue  # no scan was commanded yet
        lists.append({"worker": worker["worker"], "pid": worker.get("pid"), **frames})
    if disk is not None:
        for path in run.glob("*.frames"):
            if path.name not in live_names:
                disk.unlink(path)
    return lists
