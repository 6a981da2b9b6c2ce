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
from typing import Any

from ...core.units import MB
from ...storage.atomic_files import Disk

# Planning runs in a thread beside requests, so it is bounded in three ways.
_MAX_PLANNED_FRAMES = 20
_MAX_PLANNED_BYTES = 64 << 20
"""Largest frame that is planned."""
_PLANNING_BUDGET_S = 5.0


def list_frames(now: float) -> dict[str, Any]:
    """Return the DataFrames that are alive in this process, as JSON values.

    Args:
        now: seconds since the epoch.
    """
    if "pandas" not in sys.modules:
        return {"at": now, "count": 0, "mb": 0.0, "duplicated_mb": 0.0, "pinned_mb": 0.0,
                "stalled_ms": 0.0, "frozen": 0, "frames": []}  # fmt: skip
    from ...frames.live_frames import scan

    return {"at": now, **scan(_SavingsEstimator()).as_dict()}


def decorator_savings() -> list[dict[str, Any]]:
    """Return the savings of ``memory_efficient`` in this process, by function, the largest first."""
    decorators = sys.modules.get("flask_knitperf.frames.decorators")
    if decorators is None:
        return []
    rows = [
        {"function": name, "frames": saved.frames, "before_mb": round(saved.before / MB, 3),
         "after_mb": round(saved.after / MB, 3)}
        for name, saved in list(decorators.DECORATED.items()) if saved.frames
    ]  # fmt: skip
    return sorted(rows, key=lambda row: row["after_mb"] - row["before_mb"])


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


def write(run: Path, worker: str, frames: Mapping[str, Any], disk: Disk) -> None:
    """Save the list of one worker.

    Args:
        run: the run's directory.
        worker: name of the worker.
        frames: the value of :func:`list_frames`.
        disk: writes the file.
    """
    disk.save(run / f"{worker}.frames", json.dumps(frames).encode())


def read(run: Path, workers: Iterable[Mapping[str, Any]], disk: Disk | None = None) -> list[Any]:
    """Return the latest list of each live worker; workers without one are left out.

    Args:
        run: the run's directory.
        workers: of a snapshot.
        disk: removes the files of dead workers, if given.
    """
    lists, live_names = [], set()
    for worker in workers:
        if not worker.get("alive"):
            continue
        live_names.add(f"{worker['worker']}.frames")
        try:
            frames = json.loads((run / f"{worker['worker']}.frames").read_bytes())
        except (OSError, ValueError):
            continue  # no scan was commanded yet
        lists.append({"worker": worker["worker"], "pid": worker.get("pid"), **frames})
    if disk is not None:
        for path in run.glob("*.frames"):
            if path.name not in live_names:
                disk.unlink(path)
    return lists
