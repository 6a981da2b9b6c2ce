"""Leases: which of several processes may do something, by one row of the database.

A process that updates the row while it is free or expired holds the lease until it expires; it prolongs
its own by updating it again. Each change of the holder counts up its epoch, and every transaction of a
holder first reads that it is still that of its lease (:meth:`Lease.check`). So a process that was
suspended for an hour cannot write beside its successor. Times are those of the database's clock.
"""

from __future__ import annotations

from typing import NamedTuple

from ..core.errors import HistoryError
from .databases import Connection

LEASE_OF_HISTORY = "history of "
"""Start of the names of the leases of writers, before the name of their source."""
_IS_FREE = "(knitperf_leases.expires < {now} OR knitperf_leases.expires > {now} + ? + 1)"
"""The second condition holds after the clock was set back: nothing is leased for that long."""
_IS_TAKEN = "SELECT 1 FROM knitperf_leases WHERE name = ? AND holder <> ? AND NOT {free}"
_TAKE = """
INSERT INTO knitperf_leases (name, holder, epoch, expires) VALUES (?, ?, 1, {now} + ?)
ON CONFLICT (name) DO UPDATE SET
    epoch = knitperf_leases.epoch
        + CASE WHEN knitperf_leases.holder = excluded.holder THEN 0 ELSE 1 END,
    holder = excluded.holder, expires = excluded.expires
WHERE knitperf_leases.holder = excluded.holder OR {free}
"""
_LONG_AGO = 1.0  # an expired lease
_READ = "SELECT holder, epoch FROM knitperf_leases WHERE name = ?"


class LeaseLostError(HistoryError):
    """Another process holds the lease by now."""


class Lease(NamedTuple):
    """A lease that was taken.

    Attributes:
        name: what it is for.
        holder: the process that holds it.
        epoch: number of holders so far.
    """

    name: str
    holder: str
    epoch: int

    def check(self, connection: Connection) -> None:
        """Check within a transaction that the lease is still held.

        Raises:
            LeaseLostError: it is not.
        """
        if connection.execute(_READ + connection.dialect.lock_row, (self.name,)) != [
            (self.holder, self.epoch)
        ]:
            raise LeaseLostError(f"another process holds the lease {self.name!r} by now")


def take(connection: Connection, name: str, holder: str, seconds: float) -> Lease | None:
    """Take or prolong a lease; return ``None`` while another process holds it.

    Args:
        connection: to the database.
        name: of the lease.
        holder: identity of this process, different for each.
        seconds: time for which it is held, unless it is prolonged.
    """
    now = connection.dialect.now
    free = _IS_FREE.format(now=now)
    if connection.execute(_IS_TAKEN.format(free=free), (name, holder, seconds)):
        return None  # without a write
    connection.execute(_TAKE.format(now=now, free=free), (name, holder, seconds, seconds))
    [(current, epoch)] = connection.execute(_READ, (name,))
    return Lease(name, holder, epoch) if current == holder else None


def drop(connection: Connection, lease: Lease, *, has_ended: bool = True) -> None:
    """Give a lease back, so that another process may take it at once.

    Args:
        connection: to the database.
        lease: the lease.
        has_ended: whether what it is for has ended regularly (:func:`was_dropped`).
    """
    connection.execute(
        "UPDATE knitperf_leases SET expires = ? WHERE name = ? AND holder = ? AND epoch = ?",
        (0.0 if has_ended else _LONG_AGO, lease.name, lease.holder, lease.epoch),
    )


def was_dropped(connection: Connection, name: str) -> bool:
    """Return whether the latest holder of a lease has ended regularly."""
    return bool(connection.execute(
        "SELECT 1 FROM knitperf_leases WHERE name = ? AND expires = 0", (name,)
    ))  # fmt: skip
