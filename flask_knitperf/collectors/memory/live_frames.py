"""Live frames of all workers: each writes down what it found when it is asked, readers put it together.

A list is a small file beside the worker's table. It is as old as it says; nothing is looked for until
somebody asks again.
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

_PLANNED = 20
_PLANNED_BYTES = 64 << 20
_PLANNING_S = 5.0
"""Frames that are planned for, how large, and for how long: it is work for a thread beside requests."""


def found_here(now: float) -> dict[str, Any]:
    """Return the frames that are alive in this process.

    Args:
        now: seconds since the epoch.
    """
    if "pandas" not in sys.modules:
        return {"at": now, "count": 0, "mb": 0.0, "duplicated_mb": 0.0, "pinned_mb": 0.0,
                "stalled_ms": 0.0, "frozen": 0, "frames": []}  # fmt: skip
    from ...frames.live_frames import alive

    return {"at": now, **alive(_Savings()).as_dict()}


def decorated_here() -> list[dict[str, Any]]:
    """Return what ``memory_efficient`` saved in this process, by function, the most first."""
    limits = sys.modules.get("flask_knitperf.frames.decorators")
    if limits is None:
        return []
    found = [
        {"function": name, "frames": saved.frames, "before_mb": round(saved.before / MB, 3),
         "after_mb": round(saved.after / MB, 3)}
        for name, saved in list(limits.DECORATED.items()) if saved.frames
    ]  # fmt: skip
    return sorted(found, key=lambda row: row["after_mb"] - row["before_mb"])


class _Savings:
    """Says what plans would save, for some frames and for some time."""

    def __init__(self) -> None:
        self._left, self._ends = _PLANNED, time.monotonic() + _PLANNING_S

    def __call__(self, frame: Any, size: int) -> int | None:
        if not self._left or size > _PLANNED_BYTES or time.monotonic() > self._ends:
            return None
        from ...frames import plan_dataframe

        self._left -= 1
        plan = plan_dataframe(frame)
        return max(0, plan.before.true - plan.after.true)


def write(run: Path, worker: str, found: Mapping[str, Any], disk: Disk) -> None:
    """Write down what one worker found."""
    disk.save(run / f"{worker}.frames", json.dumps(found).encode())


def read(run: Path, workers: Iterable[Mapping[str, Any]], disk: Disk | None = None) -> list[Any]:
    """Return what living workers found when they were asked last; those never asked are left out.

    Args:
        run: the run's directory.
        workers: of a snapshot.
        disk: removes what dead workers left, if given.
    """
    made, living = [], set()
    for worker in workers:
        if not worker.get("alive"):
            continue
        living.add(f"{worker['worker']}.frames")
        try:
            told = json.loads((run / f"{worker['worker']}.frames").read_bytes())
        except (OSError, ValueError):
            continue  # it was never asked
        made.append({"worker": worker["worker"], "pid": worker.get("pid"), **told})
    if disk is not None:
        for path in run.glob("*.frames"):
            if path.name not in living:
                disk.unlink(path)
    return made
