"""Delivers messages from the outbox: at least once, with a key, after longer and longer pauses.

The outbox is in the database, so messages survive a restart, and the process that evaluates next goes
on with them. One process delivers, the holder of a lease; a message is marked as sent after its channel
has taken it. If a process dies between the two, the next one sends it again, with the same key.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable

from ..core.errors import HistoryError
from ..core.host_exceptions import raise_if_of_host
from ..core.printable import printable
from ..history.databases import Connection, Database
from ..history.lease import drop, take
from ..history.resolutions import DAY, HOUR
from ..history.store import connected
from .alert_store import AlertStore, DeliveryState, Message
from .channels import MAX_REASON, DeliveryError, Receiver

log = logging.getLogger("flask_knitperf.alerts")

LEASE = "delivery of alerts"
_LEASE_S = 120.0  # longer than a channel takes
_FIRST_PAUSE_S, _MAX_PAUSE_S = 10.0, float(HOUR)
GIVE_UP_S = 3 * DAY
"""Age of a message at which it is given up: older news is none."""
_BATCH = 20


def pause_s(tries: int) -> float:
    """Return the seconds between a number of failed tries and the next one."""
    return float(min(_MAX_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(tries - 1, 20)))


class Delivery:
    """Delivers messages in a thread that ends once none is due.

    Args:
        database: opens another connection.
        holder: identity of this process.
        receivers: where messages are sent to.
        now: the present, in seconds since the epoch.
    """

    def __init__(
        self, database: Database, holder: str, receivers: Iterable[Receiver],
        now: Callable[[], float],
    ) -> None:  # fmt: skip
        self._database, self._holder, self._now = database, holder, now
        self._channels = {name: channel for name, channel, _ in receivers}
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    def start(self) -> None:
        """Start the thread, unless it runs. Never raises."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._stopping.clear()
        thread = threading.Thread(target=self._run, name="flask_knitperf alerts", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the system has no thread left; the next tick tries again
            raise_if_of_host(error)
            return
        self._thread = thread

    def stop(self, seconds: float = 1.0) -> None:
        """Stop the thread after the message that it sends, and wait for it at most ``seconds``."""
        self._stopping.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(seconds)

    def _run(self) -> None:
        try:
            with connected(self._database) as connection:
                self.deliver(connection)
        except HistoryError as error:
            log.debug("messages of alerts wait for the database: %s", error)

    def deliver(self, connection: Connection) -> int:
        """Deliver all messages that are due; return the number of tries.

        Raises:
            HistoryError: the database cannot be used.
        """
        store, tries = AlertStore(connection), 0
        failed: set[str] = set()  # channels; the others do not wait for more of their timeouts
        lease = take(connection, LEASE, self._holder, _LEASE_S)
        while lease is not None and not self._stopping.is_set():
            messages = store.due(self._now(), _BATCH, failed)
            if not messages:
                break
            for one in messages:
                if one.channel in failed:
                    continue
                before, lease = lease, take(connection, LEASE, self._holder, _LEASE_S)
                if lease != before or self._stopping.is_set():
                    break  # another process may have delivered the rest
                if not self._try(store, one):
                    failed.add(one.channel)
                tries += 1
        if lease is not None:
            drop(connection, lease)
        return tries

    def _try(self, store: AlertStore, message: Message) -> bool:
        """Send a message, and store the result; return whether it was received."""
        channel, error = self._channels.get(message.channel), None
        try:
            if channel is None:  # a process with other settings may have it
                raise DeliveryError("there is no channel of this name")
            store.connection.pause()  # a channel may take long, and the process may fork meanwhile
            channel.send(message.body)  # type: ignore[arg-type]
        except DeliveryError as failure:
            error = printable(str(failure))[:MAX_REASON]
        except Exception as failure:  # its text may have a part of a secret
            raise_if_of_host(failure)
            log.exception("a channel of alerts failed")
            error = type(failure).__name__
        now = self._now()
        if error is None:
            store.tried(message, DeliveryState.SENT, "", now, now)
        elif now - message.created > GIVE_UP_S:
            store.tried(message, DeliveryState.FAILED, error, now, now)
        else:
            due = now + pause_s(message.tries + 1)
            store.tried(message, DeliveryState.QUEUED, error, due, now)
        return error is None
