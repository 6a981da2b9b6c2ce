"""Quiet hours: alerts are evaluated, and their messages delivered afterwards."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import NamedTuple, Self

_DAY_MINUTES = 24 * 60


class QuietHours(NamedTuple):
    """Daily hours in the time zone of the server.

    Attributes:
        begins: minutes after midnight.
        ends: minutes after midnight; before ``begins``: on the next day; equal to it: there are none.
    """

    begins: int
    ends: int

    @classmethod
    def of(cls, text: str) -> Self:
        """Return the hours of a text such as ``22:00-06:30``.

        Raises:
            ValueError: it is none.
        """
        match = re.fullmatch(r"(\d\d):(\d\d)\s*-\s*(\d\d):(\d\d)", text)
        if match is None:
            raise ValueError
        first, second, third, fourth = map(int, match.groups())
        if first > 23 or third > 23 or second > 59 or fourth > 59:
            raise ValueError
        return cls(first * 60 + second, third * 60 + fourth)

    def end_after(self, now: float) -> float:
        """Return the end of the quiet hours that a time lies in, else the time.

        Args:
            now: in seconds since the epoch.
        """
        end = now
        while self._covers(_local(end)):
            end = self._next_end(end)
        return end

    def _covers(self, local: datetime) -> bool:
        length = (self.ends - self.begins) % _DAY_MINUTES
        return (_minute(local) - self.begins) % _DAY_MINUTES < length

    def _next_end(self, at: float) -> float:
        """Return the next time at which clocks show the end; days have 23 to 25 hours."""
        local = _local(at)
        remaining = (self.ends - _minute(local)) % _DAY_MINUTES
        end = local.replace(second=0, microsecond=0) + timedelta(minutes=remaining)
        ends = (end.replace(fold=fold).timestamp() for fold in (0, 1))  # one of them may be past
        return min((one for one in ends if one > at), default=at + 60.0)


def _local(at: float) -> datetime:
    """Return a time as the clocks of the server show it."""
    return datetime.fromtimestamp(at).astimezone().replace(tzinfo=None)


def _minute(local: datetime) -> int:
    return local.hour * 60 + local.minute
