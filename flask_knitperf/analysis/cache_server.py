"""Use of the server by which hosts share cached values."""

from __future__ import annotations

from typing import NamedTuple

from ..core.clock import NS_PER_S
from ..metrics.catalogue import ServerEvent
from ..metrics.readings import Readings
from ..metrics.totals import Tally


class ServerUse(NamedTuple):
    """Round trips to the server by all workers.

    Attributes:
        counts: by outcome.
        waited_s: total time of all of them, in seconds.
    """

    counts: dict[ServerEvent, int]
    waited_s: float

    @property
    def lookups(self) -> int:
        """Number of look-ups that were answered."""
        answered = (ServerEvent.HIT, ServerEvent.MISS, ServerEvent.REJECTED)
        return sum(self.counts[event] for event in answered)


def server_use(readings: Readings) -> ServerUse | None:
    """Return the use of the server, ``None`` if there was none."""
    events: dict[str, Tally] = readings.cache_server
    if not any(tally.count for tally in events.values()):
        return None
    return ServerUse(
        {event: events[event].count if event in events else 0 for event in ServerEvent},
        sum(tally.total for tally in events.values()) / NS_PER_S,
    )
