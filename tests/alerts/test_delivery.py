"""Delivery: at least once and with one key, whatever happens to channels, processes and databases."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_knitperf.alerts import channels, delivery
from flask_knitperf.alerts.alert_store import AlertStore, DeliveryState, Message, identity
from flask_knitperf.alerts.channels import (
    Channel,
    DeliveryError,
    LogChannel,
    Receiver,
    WebhookChannel,
)
from flask_knitperf.alerts.delivery import GIVE_UP_S, LEASE, Delivery, pause_s
from flask_knitperf.history.databases import Connection, Database, PostgreSQL, SQLite
from flask_knitperf.history.lease import take
from flask_knitperf.history.resolutions import DAY
from flask_knitperf.reports.documents.alerts import AlertMessage
from tests.waiting import wait_for

from .receivers import AT, HOSTILE, Answer, Web, hanging, raw, sample, status

HOOK = "hook"


class Box(Channel):
    """Calls a function with each message."""

    def __init__(self, receive: Callable[[AlertMessage], object]) -> None:
        self.receive = receive

    def send(self, message: AlertMessage) -> None:
        self.receive(message)


def hook(web: Web, name: str = HOOK) -> Receiver:
    return Receiver(name, WebhookChannel(web.url), None)


def box(receive: Callable[[AlertMessage], object], name: str = HOOK) -> Receiver:
    return Receiver(name, Box(receive), None)


@pytest.fixture
def store(connection: Connection) -> AlertStore:
    return AlertStore(connection)


def queue(store: AlertStore, number: int = 1, channel: str = HOOK, due: float = AT) -> list[str]:
    """Add messages to the outbox; return their keys."""
    bodies = [sample(f"{channel} {place}") for place in range(number)]
    for one in bodies:
        store.queue(identity(one["key"], channel), channel, one, AT, due)
    return [one["key"] for one in bodies]


def deliverer(
    database: Database, *receivers: Receiver, now: float = AT, holder: str = "first"
) -> Delivery:
    return Delivery(database, holder, receivers, lambda: now)


@pytest.fixture
def deliver(database: Database, connection: Connection) -> Callable[..., int]:
    """Return a function that delivers what is due to some receivers."""
    return lambda *receivers, **values: deliverer(database, *receivers, **values).deliver(
        connection
    )


def states(store: AlertStore) -> list[DeliveryState]:
    """Return the states of all messages, oldest first."""
    return [one.state for one in reversed(store.messages(10_000))]


def only(store: AlertStore) -> Message:
    """Return the message of a store that has one."""
    [message] = store.messages(10)
    return message


def expire(connection: Connection) -> None:
    """Have all leases expire."""
    connection.execute("UPDATE knitperf_leases SET expires = 0")


# -- one message -----------------------------------------------------------------------------------


def test_a_message_that_is_due_is_received_and_marked_as_sent(
    store: AlertStore, web: Web, deliver: Callable[..., int]
) -> None:
    keys = queue(store)
    assert deliver(hook(web), now=AT + 1) == 1
    message = only(store)
    assert web.keys == keys
    assert message.state is DeliveryState.SENT
    assert (message.tries, message.error, message.ended) == (1, "", AT + 1)


def test_a_message_that_was_sent_is_not_sent_again(
    store: AlertStore, web: Web, deliver: Callable[..., int]
) -> None:
    queue(store)
    deliver(hook(web))
    assert deliver(hook(web), now=AT + DAY) == 0
    assert len(web.received) == 1


def test_a_message_waits_until_it_is_due(
    store: AlertStore, web: Web, deliver: Callable[..., int]
) -> None:
    queue(store, due=AT + 100)
    assert deliver(hook(web), now=AT + 99) == 0
    assert deliver(hook(web), now=AT + 100) == 1


def test_messages_are_sent_in_order_of_time(
    store: AlertStore, web: Web, deliver: Callable[..., int]
) -> None:
    keys = queue(store, 50)
    assert deliver(hook(web)) == 50
    assert web.keys == keys


def test_a_change_that_is_queued_twice_is_one_message(
    store: AlertStore, web: Web, deliver: Callable[..., int]
) -> None:
    assert queue(store) == queue(store)
    deliver(hook(web))
    assert queue(store) and deliver(hook(web), now=AT + 1) == 0
    assert len(web.received) == 1


def test_each_channel_receives_its_messages(
    store: AlertStore, web: Web, deliver: Callable[..., int]
) -> None:
    other: list[str] = []
    queue(store, 2)
    keys = queue(store, 3, "other")
    deliver(hook(web), box(lambda one: other.append(one["key"]), "other"))
    assert len(web.received) == 2 and other == keys


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_a_channel_may_have_any_name(
    store: AlertStore, web: Web, deliver: Callable[..., int], name: str
) -> None:
    queue(store, 2, name)
    web.answer = status(500)
    assert deliver(hook(web, name)) == 1  # and it leaves out the other one by its name
    web.answer = status(200)
    assert deliver(hook(web, name), now=AT + DAY) == 2


# -- pauses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tries", "seconds"), [(1, 10), (2, 20), (3, 40), (9, 2560), (10, 3600), (10_000, 3600)]
)
def test_pauses_double_up_to_an_hour(tries: int, seconds: float) -> None:
    assert pause_s(tries) == seconds


@given(st.integers(1, 10**6))
def test_a_pause_is_never_shorter_than_the_one_before(tries: int) -> None:
    assert 10 <= pause_s(tries) <= pause_s(tries + 1) <= 3600


def test_a_failure_is_tried_again_after_longer_and_longer_pauses_with_the_same_key(
    store: AlertStore, web: Web, deliver: Callable[..., int]
) -> None:
    [key] = queue(store)
    web.answer = status(503)
    now = AT
    for tries in range(1, 6):
        assert deliver(hook(web), now=now) == 1
        message = only(store)
        assert message.due == now + pause_s(tries)
        assert (message.tries, message.error) == (tries, "it answered 503")
        assert deliver(hook(web), now=message.due - 1) == 0
        now = message.due
    web.answer = status(200)
    deliver(hook(web), now=now)
    assert web.keys == [key] * 6
    assert only(store).state is DeliveryState.SENT


def test_a_pause_begins_after_the_try(database: Database, store: AlertStore, web: Web) -> None:
    times = iter((AT, AT + 5, AT + 6))
    queue(store)
    web.answer = status(500)
    Delivery(database, "first", [hook(web)], lambda: next(times)).deliver(store.connection)
    assert only(store).due == AT + 5 + pause_s(1)


def test_a_message_fails_for_good_after_three_days_and_not_before(
    store: AlertStore, web: Web, deliver: Callable[..., int]
) -> None:
    queue(store)
    web.answer = status(500)
    deliver(hook(web), now=AT + GIVE_UP_S)
    assert only(store).state is DeliveryState.QUEUED
    deliver(hook(web), now=AT + GIVE_UP_S + DAY)
    message = only(store)
    assert message.state is DeliveryState.FAILED
    assert (message.error, message.ended) == ("it answered 500", AT + GIVE_UP_S + DAY)
    assert deliver(hook(web), now=AT + 9 * DAY) == 0


def test_an_old_message_is_tried_once_more_before_it_fails_for_good(
    store: AlertStore, web: Web, deliver: Callable[..., int]
) -> None:
    queue(store)
    deliver(hook(web), now=AT + GIVE_UP_S + DAY)
    assert only(store).state is DeliveryState.SENT


# -- failures --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        status(301, Location="/other"),
        status(500),
        raw(b""),
        raw(b"\0\xff\x1b garbage\r\n"),
        hanging,
    ],
    ids=["redirects", "fails", "closes", "answers garbage", "hangs"],
)
def test_a_message_that_was_not_received_stays_queued_with_the_reason(
    store: AlertStore, web: Web, deliver: Callable[..., int], answer: Answer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(channels, "TIMEOUT_S", 0.2)
    queue(store)
    web.answer = answer
    deliver(hook(web))
    message = only(store)
    assert message.state is DeliveryState.QUEUED and message.error and message.ended is None


@pytest.mark.parametrize("text", ["", *HOSTILE.values()], ids=["empty", *HOSTILE])
def test_the_reason_of_a_failure_may_have_any_text(
    store: AlertStore, deliver: Callable[..., int], text: str
) -> None:
    def fail(_: AlertMessage) -> None:
        raise DeliveryError(text)

    queue(store)
    deliver(box(fail))
    message = only(store)
    assert message.state is DeliveryState.QUEUED and message.tries == 1
    assert len(message.error) <= channels.MAX_REASON


def test_an_unexpected_error_is_tried_again_and_its_text_is_not_shown(
    store: AlertStore, deliver: Callable[..., int], caplog: pytest.LogCaptureFixture
) -> None:
    queue(store)
    deliver(box(lambda _: "hunter2\udcff".encode()))
    message = only(store)
    assert (message.state, message.error) == (DeliveryState.QUEUED, "UnicodeEncodeError")
    assert "a channel of alerts failed" in caplog.text


def test_a_failed_channel_is_tried_once_and_does_not_delay_the_others(
    store: AlertStore, web: Web, deliver: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "TIMEOUT_S", 0.2)
    web.answer = hanging
    other: list[str] = []
    queue(store, 50)
    keys = queue(store, 50, "other")
    began = time.monotonic()
    deliver(hook(web), box(lambda one: other.append(one["key"]), "other"))
    assert time.monotonic() - began < 5
    assert other == keys and len(web.received) == 1


def test_one_message_that_a_channel_refuses_does_not_stop_the_later_ones(
    store: AlertStore, web: Web, deliver: Callable[..., int]
) -> None:
    refused, *others = queue(store, 3)
    web.answer = lambda handler: status(
        400 if handler.headers["Idempotency-Key"] == refused else 200
    )(handler)
    for number in range(3):
        deliver(hook(web), now=AT + number)
    assert states(store) == [DeliveryState.QUEUED, DeliveryState.SENT, DeliveryState.SENT]
    assert web.keys == [refused, *others]


def test_a_message_waits_for_a_process_that_has_its_channel(
    store: AlertStore, web: Web, deliver: Callable[..., int]
) -> None:
    queue(store)
    deliver(Receiver("log", LogChannel(), None))
    message = only(store)
    assert message.state is DeliveryState.QUEUED
    assert message.error == "there is no channel of this name"
    deliver(hook(web), now=message.due)
    assert only(store).state is DeliveryState.SENT


def test_a_message_to_a_channel_that_was_removed_fails_for_good_in_the_end(
    store: AlertStore, deliver: Callable[..., int]
) -> None:
    queue(store)
    deliver(now=AT + GIVE_UP_S + 1)
    assert only(store).state is DeliveryState.FAILED


# -- processes -------------------------------------------------------------------------------------


def test_another_process_sends_nothing_while_one_holds_the_lease(
    store: AlertStore, web: Web, deliver: Callable[..., int]
) -> None:
    queue(store)
    take(store.connection, LEASE, "other", 60)
    assert deliver(hook(web)) == 0 and web.received == []
    expire(store.connection)
    assert deliver(hook(web)) == 1


def test_another_process_may_deliver_as_soon_as_one_has_ended(
    store: AlertStore, web: Web, deliver: Callable[..., int]
) -> None:
    queue(store)
    deliver(hook(web), holder="first")
    queue(store, 2)
    assert deliver(hook(web), holder="second") == 1


def test_messages_survive_a_restart(
    store: AlertStore, web: Web, another: Callable[[], Database]
) -> None:
    keys = queue(store, 3)
    store.connection.close()
    database = another()
    deliverer(database, hook(web)).deliver(database.connection())
    assert web.keys == keys


CHILD = """
import sys
from flask_knitperf.alerts.channels import Receiver, WebhookChannel
from flask_knitperf.alerts.delivery import Delivery
from flask_knitperf.history.databases import database

_, url, hook, now = sys.argv
opened = database(url)
receiver = Receiver("hook", WebhookChannel(hook), None)
Delivery(opened, "child", [receiver], lambda: float(now)).deliver(opened.connection())
"""


def address(database: Database) -> str:
    assert isinstance(database, SQLite | PostgreSQL)
    return str(database.path) if isinstance(database, SQLite) else database.url


@pytest.mark.slow
def test_a_message_that_a_killed_process_sent_arrives_again_with_the_same_key(
    database: Database, store: AlertStore, web: Web, deliver: Callable[..., int]
) -> None:
    keys = queue(store, 3)

    def answer(handler: Any) -> None:
        (hanging if len(web.received) == 2 else status(200))(handler)

    web.answer = answer
    child = subprocess.Popen([sys.executable, "-c", CHILD, address(database), web.url, str(AT)])
    web.wait(2)
    child.kill()
    child.wait()
    assert states(store) == [DeliveryState.SENT, DeliveryState.QUEUED, DeliveryState.QUEUED]
    assert deliver(hook(web), holder="second") == 0  # its lease lasts
    expire(store.connection)
    deliver(hook(web), holder="second")
    assert states(store) == [DeliveryState.SENT] * 3
    assert web.keys == [keys[0], keys[1], keys[1], keys[2]]


def test_a_process_that_was_suspended_leaves_the_rest_to_its_successor(
    store: AlertStore, database: Database, another: Callable[[], Database]
) -> None:
    received: list[tuple[str, str]] = []

    def suspend(one: AlertMessage) -> None:
        received.append(("first", one["key"]))
        expire(store.connection)
        successor = another()
        deliverer(
            successor, box(lambda one: received.append(("second", one["key"]))), holder="second"
        ).deliver(successor.connection())

    keys = queue(store, 3)
    deliverer(database, box(suspend)).deliver(store.connection)
    assert received == [("first", keys[0]), *(("second", key) for key in keys)]
    assert states(store) == [DeliveryState.SENT] * 3


def test_a_failure_of_a_process_that_was_suspended_does_not_undo_a_delivery(
    store: AlertStore, database: Database, another: Callable[[], Database]
) -> None:
    def suspend(_: AlertMessage) -> None:
        expire(store.connection)
        successor = another()
        deliverer(successor, box(lambda _: None), holder="second").deliver(successor.connection())
        raise DeliveryError("too late")

    queue(store)
    deliverer(database, box(suspend)).deliver(store.connection)
    message = only(store)
    assert (message.state, message.error, message.tries) == (DeliveryState.SENT, "", 1)


@pytest.mark.slow
@pytest.mark.parametrize("lease_s", [0.001, 0.05, 120.0])
def test_deliverers_at_once_lose_no_message_and_mark_none_that_was_not_received(
    store: AlertStore, web: Web, another: Callable[[], Database], lease_s: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(delivery, "_LEASE_S", lease_s)
    monkeypatch.setattr(delivery, "GIVE_UP_S", float("inf"))
    keys = queue(store, 60)
    chance, lock, taken = random.Random(5), threading.Lock(), Counter[str]()

    def answer(handler: Any) -> None:
        with lock:
            code = 200 if chance.random() < 0.8 else 500
            time.sleep(0.002)
        status(code)(handler)
        if code == 200:
            taken[handler.headers["Idempotency-Key"]] += 1

    web.answer = answer
    stop, errors = threading.Event(), []

    def run(holder: str) -> None:
        database, now = another(), AT
        own = database.connection()
        try:
            while not stop.is_set():
                now += 4000
                deliverer(database, hook(web), now=now, holder=holder).deliver(own)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(holder,)) for holder in ("first", "second")]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: set(states(store)) == {DeliveryState.SENT} or bool(errors), 60)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not errors
    assert taken.keys() == set(keys)
    if lease_s > 100:  # and none twice, while no lease ends
        assert set(taken.values()) == {1}


# -- the thread ------------------------------------------------------------------------------------


def wait_for_end(started: Delivery) -> None:
    """Wait for the end of a thread that delivers.

    ``threading.enumerate`` drops a thread before ``is_alive`` is false.
    """
    thread = started._thread
    assert thread is not None
    thread.join(30)
    assert not thread.is_alive()


def test_the_thread_delivers_and_ends(database: Database, store: AlertStore, web: Web) -> None:
    queue(store, 3)
    started = deliverer(database, hook(web))
    started.start()
    wait_for(lambda: states(store) == [DeliveryState.SENT] * 3)
    wait_for_end(started)
    queue(store, 4)
    started.start()
    wait_for(lambda: states(store) == [DeliveryState.SENT] * 4)
    started.stop()


def test_the_thread_prepares_a_new_database(database: Database) -> None:
    started = deliverer(database)
    started.start()
    wait_for_end(started)
    assert AlertStore(database.connection()).messages(10) == []
    started.stop()


def test_neither_evaluation_nor_the_database_waits_for_a_channel(
    database: Database, store: AlertStore, web: Web
) -> None:
    queue(store)
    web.answer = hanging
    started = deliverer(database, hook(web))
    began = time.monotonic()
    started.start()
    web.wait(1)
    started.start()  # it runs
    with store.connection.transaction():
        queue(store, 2)
    started.stop(0.01)
    assert time.monotonic() - began < 3
    assert [one.name for one in threading.enumerate()].count("flask_knitperf alerts") == 1
    web.released.set()
    wait_for_end(started)


def test_a_stop_ends_after_the_message_that_is_sent(
    database: Database, store: AlertStore, web: Web
) -> None:
    queue(store, 5)

    def answer(handler: Any) -> None:
        threading.Thread(target=lambda: started.stop(20)).start()
        wait_for(started._stopping.is_set)
        status(200)(handler)

    web.answer = answer
    started = deliverer(database, hook(web))
    started.start()
    wait_for_end(started)
    assert len(web.received) == 1
    assert states(store) == [DeliveryState.SENT] + [DeliveryState.QUEUED] * 4
    web.answer = status(200)
    started.start()  # again
    wait_for(lambda: states(store) == [DeliveryState.SENT] * 5)
    started.stop()


def test_a_database_that_cannot_be_used_ends_the_thread_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    started = deliverer(SQLite(tmp_path / "file" / "history.sqlite"))
    started.start()
    wait_for_end(started)
    started.stop()
    assert not caplog.records


def test_a_start_without_a_thread_left_is_tried_again(
    database: Database, store: AlertStore, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    queue(store)
    started = deliverer(database, hook(web))
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        started.start()
    assert states(store) == [DeliveryState.QUEUED]
    started.start()
    wait_for(lambda: states(store) == [DeliveryState.SENT])
    started.stop()


def test_each_thread_closes_its_connection(database: Database, store: AlertStore, web: Web) -> None:
    opened: list[Connection] = []
    open_ = database.open

    def remember() -> Connection:
        opened.append(open_())
        return opened[-1]

    database.open = remember  # type: ignore[method-assign]
    queue(store)
    started = deliverer(database, hook(web))
    started.start()
    wait_for_end(started)
    started.stop()
    [connection] = opened
    with closing(connection), pytest.raises(Exception, match="closed"):
        connection.execute("SELECT 1")
