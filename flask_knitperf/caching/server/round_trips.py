"""Counts of the round trips of one process, by outcome."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypedDict

from ...core.locks import create_lock
from ...metrics.catalogue import ServerEvent


class ServerCounts(TypedDict):
    """Use of the server by this process.

    Attributes:
        hits: values that were taken from it.
        misses: look-ups without a value.
        rejected: values that are not ours: unsigned, damaged, or in another format.
        stored: values that were written.
        refused: writes that it has refused, as a full server does.
        failures: round trips without an answer in time.
        invalidations: that were written.
        waited_seconds: total time of all round trips.
        lost: why it is not used at present, ``None`` while it is.
    """

    hits: int
    misses: int
    rejected: int
    stored: int
    refused: int
    failures: int
    invalidations: int
    waited_seconds: float
    lost: str | None


_NAMES = {
    ServerEvent.HIT: "hits", ServerEvent.MISS: "misses", ServerEvent.REJECTED: "rejected",
    ServerEvent.STORED: "stored", ServerEvent.REFUSED: "refused", ServerEvent.FAILURE: "failures",
    ServerEvent.INVALIDATION: "invalidations",
}  # fmt: skip


class RoundTrips:
    """Counts and total time of round trips; thread-safe.

    Args:
        clock: returns monotonic time in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._lock = clock, create_lock()
        self._counts: dict[ServerEvent, tuple[int, int]] = {}  # number and nanoseconds
        self._taken: dict[ServerEvent, tuple[int, int]] = {}

    def count(self, event: ServerEvent, began: float) -> None:
        """Count a round trip that ends now.

        Args:
            event: its outcome.
            began: monotonic time in seconds.
        """
        waited = round((self._clock() - began) * 1e9)
        with self._lock:
            number, ns = self._counts.get(event, (0, 0))
            self._counts[event] = number + 1, ns + waited

    def take(self) -> dict[ServerEvent, tuple[int, int]]:
        """Return numbers and nanoseconds of the events since the previous call."""
        with self._lock:
            before, self._taken = self._taken, dict(self._counts)
            counted = self._taken
        return {
            event: (number - before.get(event, (0, 0))[0], ns - before.get(event, (0, 0))[1])
            for event, (number, ns) in counted.items()
        }  # fmt: skip

    def counts(self, lost: str) -> ServerCounts:
        """Return all counts.

        Args:
            lost: reason why the server is not used, empty while it is.
        """
        with self._lock:
            counted = dict(self._counts)
        row: dict[str, Any] = {
            name: counted.get(event, (0, 0))[0] for event, name in _NAMES.items()
        }  # fmt: skip
        row["waited_seconds"] = sum(ns for _, ns in counted.values()) / 1e9
        row["lost"] = lost or None
        counts: ServerCounts = row  # type: ignore[assignment]
        return counts
