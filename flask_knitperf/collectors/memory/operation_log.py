"""Resident memory before and after named operations of this process.

The difference belongs to an operation only where nothing else runs meanwhile: under concurrent requests
it is that of the whole process.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TypedDict

from ...core.clock import SYSTEM, Clock
from ...core.units import MB
from .process import rss

log = logging.getLogger("flask_knitperf")

MAX_OPERATIONS = 100  # the newest are kept
_LARGE_INCREASE_MB = 100.0  # an increase above this is logged as a warning


class Operation(TypedDict, total=False):
    """Resident memory around one operation; the keys exist once it has ended. MB are of 1024² bytes."""

    operation: str
    start_memory_mb: float
    end_memory_mb: float
    memory_delta_mb: float
    duration_seconds: float
    timestamp: str


class OperationLog:
    """The last operations that were tracked.

    Attributes:
        operations: oldest first.

    Args:
        clock: time.
    """

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self.operations: list[Operation] = []
        self._clock = clock

    @contextmanager
    def track(self, name: str) -> Iterator[Operation]:
        """Measure resident memory before and after the block, without collecting garbage.

        Args:
            name: the operation's name.

        Yields:
            The operation, which is complete after the block.
        """
        started, before = self._clock.monotonic_ns(), rss() / MB
        operation: Operation = {"operation": name, "start_memory_mb": round(before, 2)}
        try:
            yield operation
        finally:
            after = rss() / MB
            now = datetime.fromtimestamp(self._clock.wall(), UTC)
            operation["end_memory_mb"] = round(after, 2)
            operation["memory_delta_mb"] = round(after - before, 2)
            operation["duration_seconds"] = round((self._clock.monotonic_ns() - started) / 1e9, 6)
            operation["timestamp"] = now.isoformat(timespec="seconds")
            self.operations.append(operation)
            del self.operations[:-MAX_OPERATIONS]
            level = logging.WARNING if after - before > _LARGE_INCREASE_MB else logging.INFO
            log.log(
                level,
                "flask_knitperf: %s changed resident memory by %+.1f MB",
                name,
                after - before,
            )
