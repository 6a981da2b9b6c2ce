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
        ends: minutes after midnight; at or before ``begins``: on the next day.
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
        local = datetime.fromtimestamp(now).astimezone()
        minute = local.hour * 60 + local.minute
        length = (self.ends - self.begins) % _DAY_MINUTES
        if (minute - self.begins) % _DAY_MINUTES >= length:
            return now
        remaining = (self.ends - minute) % _DAY_MINUTES
        end = local.replace(second=0, microsecond=0) + timedelta(minutes=remaining)
        return end.timestamp()
