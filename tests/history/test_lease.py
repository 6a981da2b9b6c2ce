"""One process at a time holds a lease, and a former holder cannot write any more."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from flask_knitperf.history.databases import Connection, Database
from flask_knitperf.history.lease import Lease, LeaseLostError, drop, take


def expire(connection: Connection, seconds: float = -1.0) -> None:
    """Have all leases expire in some seconds from now."""
    now = connection.dialect.now
    connection.execute(f"UPDATE knitperf_leases SET expires = {now} + ?", (seconds,))


def test_the_first_process_gets_a_lease_and_others_do_not(connection: Connection) -> None:
    assert take(connection, "write", "a", 60) == Lease("write", "a", 1)
    assert take(connection, "write", "b", 60) is None
    assert take(connection, "evaluate", "b", 60) == Lease("evaluate", "b", 1)


def test_its_holder_prolongs_it_in_the_same_epoch(connection: Connection) -> None:
    take(connection, "write", "a", 60)
    expire(connection)
    assert take(connection, "write", "a", 60) == Lease("write", "a", 1)
    assert take(connection, "write", "b", 60) is None


def test_after_it_has_expired_another_process_gets_it_in_the_next_epoch(
    connection: Connection,
) -> None:
    take(connection, "write", "a", 60)
    expire(connection)
    assert take(connection, "write", "b", 60) == Lease("write", "b", 2)
    assert take(connection, "write", "a", 60) is None


def test_one_that_was_given_back_is_free_at_once(connection: Connection) -> None:
    lease = take(connection, "write", "a", 60)
    assert lease is not None
    drop(connection, lease)
    assert take(connection, "write", "b", 60) == Lease("write", "b", 2)
    drop(connection, lease)  # it is no longer that of the caller
    assert take(connection, "write", "c", 60) is None


def test_a_former_holder_is_refused_within_its_transaction(connection: Connection) -> None:
    lease = take(connection, "write", "a", 60)
    assert lease is not None
    with connection.transaction():
        lease.check(connection)
    expire(connection)
    take(connection, "write", "b", 60)
    with pytest.raises(LeaseLostError), connection.transaction():
        lease.check(connection)


def test_a_lease_from_before_the_clock_was_set_back_does_not_last(connection: Connection) -> None:
    take(connection, "write", "a", 60)
    expire(connection, 3600.0)
    assert take(connection, "write", "b", 60) == Lease("write", "b", 2)


@pytest.mark.slow
def test_of_eight_contenders_one_holds_each_epoch(
    another: Callable[[], Database], connection: Connection
) -> None:
    leases: list[tuple[int, str]] = []
    stop = time.monotonic() + 1.5

    def contend(holder: str) -> None:
        own = another().connection()
        while time.monotonic() < stop:
            lease = take(own, "write", holder, 0.05)
            if lease is not None:
                leases.append((lease.epoch, lease.holder))
                time.sleep(0.02 if len(leases) % 7 else 0.1)

    threads = [threading.Thread(target=contend, args=(f"p{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(leases)) == len(dict(leases)) > 3  # no epoch had two holders
