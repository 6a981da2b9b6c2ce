"""Removes rows that are older than their resolution is kept, a few at each write.

Each step looks at some series, one after another, and deletes at most :data:`MAX_ROWS` rows, so that no
step takes long. Where the history is larger than it may be, rows are kept for a shorter time until it
fits.
"""

from __future__ import annotations

from .databases import Connection
from .resolutions import DAY, HOUR, RESOLUTIONS, Resolution

MAX_ROWS = 1000
"""Rows that one step deletes at most."""
_SERIES = 300  # that one step looks at
_STEPS = 20  # of one write, at most
_TIGHTER, _LOOSER, _ROOMY = 0.9, 1.02, 0.9


_ANY = "SELECT 1 FROM knitperf_rows WHERE resolution = ? AND series = ? LIMIT 1"
_FIRST = "(SELECT min(slot) FROM knitperf_rows WHERE resolution = ? AND series = id)"
_FIRSTS = (
    f"SELECT id, {', '.join([_FIRST] * len(RESOLUTIONS))} FROM knitperf_series"  # noqa: S608
    " WHERE id > ? ORDER BY id LIMIT ?"
)
"""The first slot of each resolution of some series: most steps delete nothing, by one statement."""


class Retention:
    """Deletes old rows step by step.

    After a jump of the clock, ahead by more than an hour, nothing is deleted for a day: a wrong clock
    would make every row an old one.

    Args:
        max_bytes: size that the history is kept below.

    Attributes:
        share: share of the times in :data:`.resolutions.RESOLUTIONS` for which rows are kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.share = 1.0
        self._after = 0  # the series that was looked at last
        self._latest: float | None = None
        self._waits_until = 0.0

    def started(self, latest: float, now: float) -> None:
        """Note the time of the latest write of any process, and the present."""
        self._latest = latest
        self._has_steady_clock(now)

    def _has_steady_clock(self, now: float) -> bool:
        """Return whether the clock has not jumped ahead within a day."""
        latest, self._latest = self._latest, now
        if latest is not None and now < latest:
            self._waits_until = 0.0  # it was set back, to where it was right before
        elif latest is not None and now - latest > HOUR:
            self._waits_until = now + DAY
        return now >= self._waits_until

    def run(self, connection: Connection, now: float) -> int:
        """Delete rows, about as fast as they are written; return their number.

        Args:
            connection: to the database.
            now: the present, in seconds since the epoch.
        """
        deleted = 0
        if self._has_steady_clock(now):
            for _ in range(_STEPS):
                some = self.step(connection, now)
                deleted += some
                if some < MAX_ROWS * 0.9:
                    break
        return deleted

    def step(self, connection: Connection, now: float) -> int:
        """Delete some rows; return their number.

        Args:
            connection: to the database.
            now: the present, in seconds since the epoch.
        """
        seconds = [one.seconds for one in RESOLUTIONS]
        some = connection.execute(_FIRSTS, (*seconds, self._after, _SERIES))
        limits = [self._limit(one, now) for one in RESOLUTIONS]
        old = [
            number for number, *firsts in some
            if all(first is None for first in firsts)
            or any(first is not None and first < limit
                   for first, limit in zip(firsts, limits, strict=True))
        ]  # fmt: skip
        deleted = self._delete_of(connection, old, now) if old else 0
        if some and deleted < MAX_ROWS:
            self._after = some[-1][0]
        if deleted < MAX_ROWS and len(some) < _SERIES:
            self._after = 0
            self._adapt(connection.size_bytes())
        if deleted:
            connection.give_back()
        return deleted

    def _delete_of(self, connection: Connection, numbers: list[int], now: float) -> int:
        """Delete the oldest rows of some series, and those that have none; return the number of rows."""
        deleted = 0
        with connection.transaction():
            for number in numbers:
                deleted += self._delete(connection, number, now, MAX_ROWS - deleted)
                if not any(connection.execute(_ANY, (one.seconds, number)) for one in RESOLUTIONS):
                    connection.execute("DELETE FROM knitperf_series WHERE id = ?", (number,))
                if deleted >= MAX_ROWS:
                    break
                self._after = number
        return deleted

    def _delete(self, connection: Connection, number: int, now: float, most: int) -> int:
        """Delete the oldest rows of a series; return their number."""
        deleted = 0
        for resolution in RESOLUTIONS:
            before = self._limit(resolution, now)
            deleted += delete_oldest(connection, resolution, number, before, most - deleted)
        return deleted

    def _limit(self, resolution: Resolution, now: float) -> int:
        """Return the slot up to which rows are deleted."""
        return resolution.slot(now - resolution.kept_s * self.share)

    def _adapt(self, size: int) -> None:
        """Keep rows for a shorter time while the history is too large, and for longer again."""
        if size > self._max_bytes:
            self.share = max(0.01, self.share * _TIGHTER)
        elif size < self._max_bytes * _ROOMY:
            self.share = min(1.0, self.share * _LOOSER)


def delete_oldest(
    connection: Connection, resolution: Resolution, number: int, before: float, most: int
) -> int:
    """Delete the oldest rows of one series and resolution; return their number.

    Args:
        connection: to the database.
        resolution: of the rows.
        number: of the series.
        before: start of the first slot that stays, in seconds since the epoch.
        most: number of slots that are deleted at most.
    """
    slots = connection.execute(
        "SELECT slot FROM knitperf_rows WHERE resolution = ? AND series = ? AND slot < ?"
        " ORDER BY slot LIMIT ?",
        (resolution.seconds, number, before, most),
    )
    if not slots:
        return 0
    return connection.change(
        "DELETE FROM knitperf_rows WHERE resolution = ? AND series = ? AND slot <= ?",
        (resolution.seconds, number, slots[-1][0]),
    )
