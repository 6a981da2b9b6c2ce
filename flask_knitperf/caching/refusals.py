"""Results that were not cached, and why: counted until the housekeeper publishes them."""

from __future__ import annotations

from typing import NamedTuple

MAX_REASONS = 20
"""Number of reasons of one region that are distinguished between two publications."""
MAX_UNKEYED_READS = 50
"""Number of reads of one region that are distinguished between two publications."""
OTHER_REASONS = "other reasons"
TOO_LARGE = "a value takes more bytes than the whole cache may"


class UnkeyedRead(NamedTuple):
    """Read of request data that the key of a cached function lacks.

    Attributes:
        endpoint: of the request, empty outside of one.
        method: of the request, empty outside of one.
        function: module and name of the cached function.
        source: of the read, such as ``session``.
        name: that was read from it, empty for all of it.
        where: ``file:line``, empty where unknown.
    """

    endpoint: str
    method: str
    function: str
    source: str
    name: str
    where: str


class Refusals:
    """Results of one region that were not cached.

    Attributes:
        reasons: their number by reason.
        unkeyed: by read of request data, the number of results and the seconds that their loads took.
    """

    __slots__ = ("reasons", "unkeyed")

    def __init__(self) -> None:
        self.reasons: dict[str, int] = {}
        self.unkeyed: dict[UnkeyedRead, tuple[int, float]] = {}

    def add(self, reason: str) -> None:
        """Count a result."""
        if reason not in self.reasons and len(self.reasons) >= MAX_REASONS:
            reason = OTHER_REASONS
        self.reasons[reason] = self.reasons.get(reason, 0) + 1

    def add_unkeyed(self, read: UnkeyedRead, seconds: float) -> None:
        """Count a result whose load took some seconds and read request data that its key lacks."""
        if read not in self.unkeyed and len(self.unkeyed) >= MAX_UNKEYED_READS:
            return
        count, total = self.unkeyed.get(read, (0, 0.0))
        self.unkeyed[read] = count + 1, total + seconds
