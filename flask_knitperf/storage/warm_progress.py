"""Progress of a command that warms the cache: one small file of each worker, replaced as it goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from ..core.host_exceptions import raise_if_of_host
from .atomic_files import Disk

_SUFFIX = "warming.json"  # after the worker's name, so it is removed with the worker


class Progress(NamedTuple):
    """Progress of one worker.

    Attributes:
        command: id of the command.
        ended: whether the worker is done.
        done: number of calls that are done.
        total: number of all calls.
        warmed: of them, values that were loaded.
        fresh: values that were cached already.
        failed: loads that raised.
        refused: results that could not be cached.
        left: calls for which there was no time or no room.
        seconds: total time of the loads.
        skipped: reason by function, of those that are not warmed.
    """

    command: str
    ended: bool = False
    done: int = 0
    total: int = 0
    warmed: int = 0
    fresh: int = 0
    failed: int = 0
    refused: int = 0
    left: int = 0
    seconds: float = 0.0
    skipped: Mapping[str, str] = MappingProxyType({})


def write_progress(run: Path, worker: str, progress: Progress, disk: Disk) -> None:
    """Replace the progress of a worker.

    Raises:
        OSError: it cannot be written.
    """
    document = progress._replace(skipped=dict(progress.skipped))._asdict()
    disk.save(run / f"{worker}.{_SUFFIX}", json.dumps(document).encode())


def read_progress(run: Path, worker: str, command: str) -> Progress | None:
    """Return the progress of a worker on a command, ``None`` before it has begun."""
    try:
        progress = Progress(**json.loads((run / f"{worker}.{_SUFFIX}").read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise_if_of_host(error)
        return None
    return progress if progress.command == command else None
