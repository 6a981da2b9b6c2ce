"""Invalidation between hosts by a real server, and what a host does while that is lost."""

from __future__ import annotations

import math
import os
import random
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.harness.valkey import Valkey
from flask_knitperf.caching.server import watcher
from flask_knitperf.caching.server.connection import Connections, ServerRefused, ServerUnavailable
from flask_knitperf.caching.server.host_view import EPOCHS, HostView
from flask_knitperf.caching.value_files import pickled
from flask_knitperf.storage.versions import SLOTS, Versions, slot

from ...waiting import wait_for
from .conftest import Host
from .test_connection import sockets

BOM = slot("tag:bom")
MakeHost = Callable[..., Host]


def stored(host: Host, value: Any = 1, slots: tuple[int, ...] = (0, BOM), **facts: Any) -> bytes:
    """Store a value under a name, under the generations that the host sees; return the name."""
    assert host.level.is_ready()
    name = host.level.name_of(b"key")
    about = {
        "cost": 1.0, "expires": None, "tables": (),
        "generations": [(index, host.generation(index)) for index in slots], **facts,
    }  # fmt: skip
    assert host.level.store(name, about, pickled(value), math.inf, None)
    return name


def moved(host: Host, change: Callable[[], Any], index: int = BOM) -> bool:
    """Return whether a change moves the version of a slot on a host, or that of everything."""
    before = host.versions.words[index], host.versions.words[0]
    change()
    host.level.sync()
    return bool((host.versions.words[index], host.versions.words[0]) != before)


# -- values ------------------------------------------------------------------------------------------


def test_a_value_is_visible_to_another_host(make_host: MakeHost) -> None:
    name = stored(make_host("a"))
    value = make_host("b").level.find(name, (0, BOM))
    assert value is not None and value.left_s == math.inf


def test_slots_that_the_reader_does_not_expect_are_compared_too(make_host: MakeHost) -> None:
    one, other = make_host("a"), make_host("b")
    name = stored(one)
    assert other.level.find(name, ()) is not None
    one.versions.bump(["tag:bom"])
    assert other.level.find(name, ()) is None


def test_a_value_of_many_slots_is_found_and_invalidated(make_host: MakeHost) -> None:
    one, other = make_host("a"), make_host("b")
    slots = tuple(range(100))
    name = stored(one, slots=slots)
    assert other.level.find(name, slots) is not None
    assert other.level.find(name, (0,)) is not None
    one.versions._bump((99,))
    assert other.level.find(name, slots) is None and other.level.find(name, (0,)) is None


def test_an_invalidated_value_is_a_miss_on_all_hosts(make_host: MakeHost) -> None:
    one, other = make_host("a"), make_host("b")
    name = stored(one)
    other.versions.bump(["tag:bom"])
    assert one.level.find(name, (0, BOM)) is None
    assert other.level.find(name, (0, BOM)) is None


def test_a_value_that_was_invalidated_while_it_loaded_is_a_miss(make_host: MakeHost) -> None:
    one, other = make_host("a"), make_host("b")
    assert one.level.is_ready() and other.level.is_ready()
    before = [(index, one.generation(index)) for index in (0, BOM)]
    other.versions.bump(["tag:bom"])
    name = stored(one, generations=before)
    assert one.level.find(name, (0, BOM)) is None


def test_an_invalidation_of_something_else_leaves_a_value(make_host: MakeHost) -> None:
    one = make_host("a")
    name = stored(one)
    make_host("b").versions.bump(["tag:other"])
    assert one.level.find(name, (0, BOM)) is not None


def test_clearing_reaches_all_values(make_host: MakeHost) -> None:
    one, other = make_host("a"), make_host("b")
    name = stored(one)
    other.versions.bump_all()
    assert one.level.find(name, (0, BOM)) is None


def test_many_slots_at_once_invalidate_everything(make_host: MakeHost) -> None:
    one, other = make_host("a"), make_host("b")
    name = stored(one)
    other.versions.bump([f"tag:{number}" for number in range(300)])
    assert one.level.find(name, (0, BOM)) is None


def test_a_value_expires_by_the_time_of_the_server_or_of_the_writer(make_host: MakeHost) -> None:
    host = make_host("a")
    name = stored(host, expires=host.level.wall() + 5)
    value = host.level.find(name, (0,))
    assert value is not None and 0 < value.left_s <= 5
    stored(host, expires=host.level.wall() - 1)
    assert host.level.find(name, (0,)) is None


@pytest.mark.parametrize("facts", [
    {"generations": 3}, {"generations": [["x", "y"]]}, {"expires": "soon"}, {"generations": [[1]]},
])  # fmt: skip
def test_signed_facts_of_another_version_are_rejected(
    make_host: MakeHost, facts: dict[str, Any]
) -> None:
    host = make_host("a")
    name = stored(host, **facts)
    assert host.level.find(name, (0,)) is None
    assert host.level.counts()["rejected"] == 1


@pytest.mark.parametrize(
    "content", [b"knit", b"\x80\x05N.", random.Random(1).randbytes(5000)],
    ids=["text", "pickle", "random bytes"],
)  # fmt: skip
def test_foreign_bytes_are_rejected_and_counted(
    make_host: MakeHost, shared_valkey: Valkey, content: bytes
) -> None:
    host = make_host("a")
    name = stored(host)
    shared_valkey.client.set(name, content)
    assert host.level.find(name, (0,)) is None
    assert host.level.counts()["rejected"] == 1


def test_a_value_of_another_type_under_our_name_is_a_failure(
    make_host: MakeHost, shared_valkey: Valkey
) -> None:
    host = make_host("a")
    name = host.level.name_of(b"key")
    assert host.level.is_ready()
    name = host.level.name_of(b"key")
    shared_valkey.client.rpush(name, "knit")
    assert host.level.find(name, (0,)) is None
    assert host.level.find(name, (0,)) is None
    assert host.level.counts()["failures"] == 2 and not host.level.lost


def test_generations_of_another_type_are_written_again(
    make_host: MakeHost, shared_valkey: Valkey
) -> None:
    host = make_host("a")
    name = stored(host)
    key = host.level._generations.key  # type: ignore[union-attr]
    with host.level._syncing:
        shared_valkey.client.delete(key)
        shared_valkey.client.rpush(key, "knit")
    assert host.level.sync() and host.level.find(name, (0, BOM)) is None


# -- invalidation ------------------------------------------------------------------------------------


def test_an_invalidation_moves_the_versions_of_other_hosts(make_host: MakeHost) -> None:
    one, other = make_host("a"), make_host("b")
    assert one.level.is_ready() and other.level.is_ready()
    assert moved(one, lambda: other.versions.bump(["tag:bom"]))
    assert not moved(one, lambda: other.versions.bump(["tag:other"]))


def test_a_reported_change_is_taken_over_without_a_poll(make_host: MakeHost) -> None:
    one, other = make_host("a"), make_host("b")
    assert one.level.is_ready() and other.level.is_ready()
    before, began = one.versions.words[BOM], time.monotonic()
    other.versions.bump(["tag:bom"])
    wait_for(lambda: one.versions.words[BOM] != before)
    assert time.monotonic() - began < 20  # a bound for broken tracking under load, no measurement


def test_an_invalidation_of_a_process_moves_versions_of_its_host_once(make_host: MakeHost) -> None:
    one, sibling = make_host("a"), make_host("a")
    assert one.level.is_ready() and sibling.level.is_ready()
    one.versions.bump(["tag:bom"])
    after = one.versions.words[BOM]
    assert one.level.sync() and sibling.level.sync()
    assert one.versions.words[BOM] == after


def test_an_invalidation_of_another_host_in_between_is_not_lost(make_host: MakeHost) -> None:
    one, other = make_host("a"), make_host("b")
    assert one.level.is_ready() and other.level.is_ready()
    with one.level._syncing:  # the watcher of the host learns nothing meanwhile
        other.versions.bump(["tag:bom"])
        one.versions.bump(["tag:bom"])  # overwrites the generation that it has not seen
        after = one.versions.words[BOM]
    assert one.level.sync()
    assert one.versions.words[BOM] != after


def test_a_host_that_was_off_takes_over_what_it_missed(make_host: MakeHost) -> None:
    one, other = make_host("a"), make_host("b")
    assert one.level.is_ready() and other.level.is_ready()
    one.level.close()
    before = one.versions.words[BOM], one.versions.words[0]
    other.versions.bump(["tag:bom"])
    again = make_host("a")
    assert again.level.is_ready()
    assert again.versions.words[BOM] != before[0] and again.versions.words[0] == before[1]


def test_a_host_that_is_new_invalidates_what_its_files_hold(
    make_host: MakeHost, tmp_path: Path
) -> None:
    versions = Versions(lambda: tmp_path / "a")
    before = versions.words[0]
    assert make_host("a").level.is_ready()
    assert versions.words[0] != before


def test_what_was_taken_while_an_invalidation_was_sent_is_invalid_when_it_returns(
    make_host: MakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, seen = make_host("a"), []
    assert host.level.is_ready()
    run = host.level._connections.run
    monkeypatch.setattr(
        host.level._connections, "run",
        lambda commands, **bounds: (
            seen.append(host.versions.words[BOM]) or run(commands, **bounds)
        ),
    )  # fmt: skip
    before = host.versions.words[BOM]
    host.versions.bump(["tag:bom"])
    assert before not in seen  # it does not wait for the server
    assert host.versions.words[BOM] not in seen


def test_nothing_is_left_open_when_a_level_is_closed(make_host: MakeHost) -> None:
    before = sockets()
    host = make_host("a")
    stored(host)
    host.level.close()
    host.level.close()
    assert sockets() == before
    stored(host)  # it starts again


def test_closing_sends_what_the_server_lacks(make_host: MakeHost) -> None:
    one, other = make_host("a"), make_host("b")
    name = stored(one)
    assert other.level.is_ready()
    other.level._view.note_unsent((BOM,))
    other.level.close()
    assert one.level.find(name, (0, BOM)) is None


def test_a_server_without_tracking_is_polled(
    make_host: MakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "POLL_S", 0.05)
    monkeypatch.setattr(
        Connections, "exchange", lambda *_: (_ for _ in ()).throw(ServerRefused("no TRACKING"))
    )
    one, other = make_host("a"), make_host("b")
    assert one.level.is_ready() and other.level.is_ready()
    assert one.level._watcher is not None and one.level._watcher._tracking is None
    before = one.versions.words[BOM]
    other.versions.bump(["tag:bom"])
    one.time.now = other.time.now = one.time.now + 1000
    wait_for(lambda: one.versions.words[BOM] != before)


def test_the_server_forgets_an_application_that_does_not_use_it_any_longer(
    make_host: MakeHost, shared_valkey: Valkey
) -> None:
    host = make_host("a")
    assert host.level.is_ready()
    key, client = host.level._generations.key, shared_valkey.client  # type: ignore[union-attr]
    assert client.ttl(key) > 0
    client.expire(key, 100)
    host.time.now += 7200
    assert host.level.sync() and client.ttl(key) > 1000
    name = stored(host)
    assert client.ttl(name) > 0


# -- a server that loses everything ------------------------------------------------------------------


def test_a_flushed_server_has_no_valid_value(make_host: MakeHost, valkey: Valkey) -> None:
    host = make_host("a", valkey.url)
    name = stored(host)
    message = valkey.client.get(name)
    valkey.client.flushall()
    valkey.client.set(name, message)
    assert host.level.find(name, (0, BOM)) is None
    assert host.level.sync() and host.level.find(name, (0, BOM)) is None


def test_an_invalidation_after_a_flush_reaches_other_hosts(
    make_host: MakeHost, valkey: Valkey
) -> None:
    one, other = make_host("a", valkey.url), make_host("b", valkey.url)
    assert one.level.is_ready() and other.level.is_ready()
    valkey.client.flushall()
    assert moved(one, lambda: other.versions.bump(["tag:bom"]))


def test_a_server_with_an_old_backup_has_no_valid_value(
    make_host: MakeHost, valkey: Valkey
) -> None:
    host = make_host("a", valkey.url)
    name = stored(host)
    valkey.client.save()
    host.versions.bump(["tag:bom"])
    with host.level._syncing:  # it has not noticed the restart
        valkey.kill()
        valkey.start()
        assert valkey.client.exists(name)
        assert host.level.find(name, (0, BOM)) is None and not host.level.lost
    assert host.level.sync() and host.level.find(name, (0, BOM)) is None


def test_a_full_server_invalidates_everything_instead(make_host: MakeHost, valkey: Valkey) -> None:
    one, other = make_host("a", valkey.url), make_host("b", valkey.url)
    name = stored(one)
    assert other.level.is_ready()
    valkey.client.config_set("maxmemory", 1)
    assert moved(one, lambda: None) is False
    one.versions.bump(["tag:bom"])
    assert not one.level._view.has_unsent
    assert other.level.find(name, (0, BOM)) is None
    before = other.versions.words[0]
    other.level.sync()
    assert "OOM" in other.level.lost  # generations cannot be written
    valkey.client.config_set("maxmemory", 0)
    assert other.level.sync() and other.versions.words[0] != before


def test_a_full_server_refuses_values_and_still_has_others(
    make_host: MakeHost, valkey: Valkey
) -> None:
    host = make_host("a", valkey.url)
    name = stored(host)
    valkey.client.config_set("maxmemory", 1)
    assert not host.level.store(b"{x}", {}, pickled(1), math.inf, None)
    assert "OOM" in host.level.lost and host.level.counts()["refused"] == 1
    assert not host.level.store(b"{x}", {}, pickled(1), math.inf, None)
    assert host.level.counts()["refused"] == 1  # not tried again at once
    assert host.level.find(name, (0, BOM)) is not None
    valkey.client.config_set("maxmemory", 0)
    host.time.now += 60
    assert host.level.store(b"{x}", {}, pickled(1), math.inf, None) and not host.level.lost


# -- a server that is lost ---------------------------------------------------------------------------


def test_a_lost_server_is_used_again_once_it_is_back(make_host: MakeHost, valkey: Valkey) -> None:
    host = make_host("a", valkey.url)
    stored(host)
    valkey.kill()
    assert host.level.find(b"{x}", (0,)) is None
    assert "not used since" in host.level.lost
    valkey.start()
    assert host.level.sync() and not host.level.lost
    stored(host)


def test_an_invalidation_that_the_server_misses_is_sent_once_it_is_back(
    make_host: MakeHost, valkey: Valkey
) -> None:
    one, other = make_host("a", valkey.url), make_host("b", valkey.url, timeout_s=0.05)
    name = stored(one)
    assert other.level.is_ready()
    valkey.freeze()
    other.versions.bump(["tag:bom"])
    assert other.level._view.has_unsent
    valkey.thaw()
    assert other.level.find(name, (0, BOM)) is None  # nothing is read before it is sent
    wait_for(lambda: other.level.sync() and not other.level._view.has_unsent)
    assert one.level.find(name, (0, BOM)) is None


def test_an_invalidation_of_a_process_that_died_is_sent_by_another(
    make_host: MakeHost, tmp_path: Path
) -> None:
    one, other = make_host("a"), make_host("b")
    name = stored(other)
    before = one.versions.words[BOM]
    one.level._prepared()
    view = HostView(lambda: tmp_path / "a", one.level._view._space)
    view.note_unsent((BOM,))  # it died before it moved the versions
    assert one.level.start() and one.level.sync()
    assert one.versions.words[BOM] != before
    assert other.level.find(name, (0, BOM)) is None


def test_an_invalidation_that_is_being_sent_is_not_sent_twice(make_host: MakeHost) -> None:
    host = make_host("a")
    assert host.level.is_ready()
    with host.level._syncing:  # the watcher does not run in between
        host.level._view.note_unsent((BOM,))
        generations, before = host.level._generations, host.generation(BOM)
        assert generations is not None
        generations.sync(sends_all=False)
        assert host.generation(BOM) == before
        generations.sync(sends_all=False)  # the process that made it has died
        assert host.generation(BOM) != before and not host.level._view.has_unsent


def test_nothing_is_read_while_a_process_of_the_host_has_an_invalidation_to_send(
    make_host: MakeHost, tmp_path: Path
) -> None:
    host = make_host("a")
    name = stored(host)
    with host.level._syncing:
        sibling = HostView(lambda: tmp_path / "a", host.level._view._space)
        marks = sibling.note_unsent((BOM,))
        assert host.level.find(name, (0, BOM)) is None
        sibling.note_sent(marks)
        assert host.level.find(name, (0, BOM)) is not None


def test_what_was_loaded_before_the_loss_expires_after_the_budget(
    make_host: MakeHost, valkey: Valkey
) -> None:
    host = make_host("a", valkey.url)
    stored(host)
    valkey.kill()
    host.time.now += 28.9
    assert not moved(host, lambda: None)
    host.time.now += 0.2
    assert moved(host, lambda: None)
    host.time.now += 100
    assert not moved(host, lambda: None)  # once for each time that it is lost


def test_what_is_loaded_while_it_is_lost_expires_after_the_budget(
    make_host: MakeHost, valkey: Valkey
) -> None:
    host = make_host("a", valkey.url)
    assert host.level.is_ready()
    assert host.level.known_until(host.time.now) == math.inf
    valkey.kill()
    host.time.now += 10
    assert host.level.known_until(host.time.now) == host.time.now + 30


def test_a_process_keeps_its_host_up_to_date(make_host: MakeHost, valkey: Valkey) -> None:
    one, sibling = make_host("a", valkey.url), make_host("a", valkey.url)
    assert one.level.is_ready() and sibling.level.is_ready()
    one.time.now = sibling.time.now = 5100.0
    assert one.level.sync()
    assert sibling.level.known_until(5100.0) == math.inf


def test_a_host_whose_server_never_answered_expires_what_its_files_hold(
    make_host: MakeHost, tmp_path: Path
) -> None:
    before = Versions(lambda: tmp_path / "a").words[0]
    host = make_host("a", "redis://127.0.0.1:1/0")
    assert not host.level.is_ready()
    wait_for(lambda: host.versions.words[0] != before)


def test_a_frozen_server_costs_one_timeout(make_host: MakeHost, valkey: Valkey) -> None:
    host = make_host("a", valkey.url, timeout_s=0.05)
    wait_for(host.level.is_ready)
    valkey.freeze()
    for _ in range(50):
        assert host.level.find(b"{x}", (0,)) is None
    assert host.level.counts()["failures"] <= 3  # its own, and those of the watcher


def test_the_server_may_close_idle_connections(make_host: MakeHost, valkey: Valkey) -> None:
    host = make_host("a", valkey.url)
    name = stored(host)
    valkey.client.client_kill_filter(_type="normal", skipme=True)
    assert host.level.find(name, (0, BOM)) is not None and not host.level.lost


def test_calls_on_a_lost_server_do_not_raise(make_host: MakeHost, valkey: Valkey) -> None:
    for call in (
        lambda level: level.store(b"{x}", {}, pickled(1), 1.0, b"{x}:lease") is False,
        lambda level: level.claim(b"{x}:lease", 1.0, b"{x}", (0,)) == (True, None),
        lambda level: level.remove(b"{x}:lease") is None,
        lambda level: level.find(b"{x}", (0,)) is None,
    ):  # fmt: skip
        host = make_host("a", valkey.url)
        assert host.level.is_ready()
        with host.level._syncing:
            valkey.kill()
            assert call(host.level) and host.level.lost
        valkey.start()


def test_a_defect_of_ours_does_not_reach_an_invalidation(
    make_host: MakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, defect = make_host("a"), RuntimeError("defect")

    def fail(*_: Any, **__: Any) -> Any:
        raise defect

    assert host.level.is_ready()
    before = host.versions.words[BOM]
    with monkeypatch.context() as patched:
        patched.setattr(host.level._generations, "push", fail)
        host.versions.bump(["tag:bom"])
        patched.setattr(host.level._view, "note_unsent", fail)
        host.versions.bump(["tag:bom"])
        patched.setattr(host.level._generations, "sync", fail)
        assert not host.level.sync()
    assert host.versions.words[BOM] != before
    assert set(host.errors) == {defect} and "cannot be read" in host.level.lost
    host.errors.clear()
    assert host.level.sync() and not host.level._view.has_unsent


def test_a_process_that_cannot_have_a_thread_does_without_the_server(
    make_host: MakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = make_host("a")

    def fail(_: Any) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(watcher.Watcher, "start", fail)
        assert not host.level.is_ready() and "thread" in host.level.lost
        assert host.level.known_until(5.0) == 35.0
        host.versions.bump(["tag:bom"])
    assert host.level.is_ready() and not host.level._view.has_unsent


# -- the host's view ---------------------------------------------------------------------------------


def test_two_processes_of_a_host_share_what_was_not_sent(tmp_path: Path) -> None:
    one, other = HostView(lambda: tmp_path, "s"), HostView(lambda: tmp_path, "s")
    marks = one.note_unsent((1, SLOTS - 1))
    assert other.has_unsent and other.unsent() == marks
    again = other.note_unsent((1,))
    one.note_sent(marks)
    assert other.unsent() == again
    other.note_sent(again)
    assert not one.has_unsent


def test_a_view_without_a_directory_belongs_to_the_process() -> None:
    view = HostView(lambda: None, "s")
    assert view.is_new and view.age(10.0) == math.inf and view.claim_expiry()
    view.words[EPOCHS] = 5
    assert not view.is_new


def test_processes_with_different_secrets_do_not_invalidate_each_other(
    make_host: MakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = make_host("a"), make_host("a")
    other.level._secret = lambda: b"another one of each process"
    assert one.level.is_ready() and other.level.is_ready()
    before = one.versions.words[0]
    for host in (one, other, one, other):
        assert host.level.sync()
    assert one.versions.words[0] == before


def test_the_state_of_a_name_space_that_is_not_used_any_more_is_removed(tmp_path: Path) -> None:
    for space in ("old", "new"):
        HostView(lambda: tmp_path, space).note_synced(1.0)
    old = next(tmp_path.glob("*-old"))
    os.utime(old, (1000, 1000))
    HostView(lambda: tmp_path, "next").note_synced(1.0)
    assert sorted(path.name.rpartition("-")[2] for path in tmp_path.iterdir()) == ["new", "next"]


def test_a_clock_that_was_set_back_makes_a_view_old(tmp_path: Path) -> None:
    view = HostView(lambda: tmp_path, "s")
    view.note_synced(1000.0)
    assert view.age(1001.0) == 1.0 and view.age(5.0) == math.inf


# -- connections -------------------------------------------------------------------------------------


def test_no_message_has_the_password(shared_valkey: Valkey) -> None:
    for url in (
        "redis://:knit-secret@127.0.0.1:1/0", "redis://u:knit-secret@nowhere.invalid/0",
        "redis://:knit-secret@[::bad/0", shared_valkey.url.replace("//", "//:knit-secret@"),
    ):  # fmt: skip
        with pytest.raises(ServerUnavailable) as caught:
            Connections(url, 2.0).run([("PING",)])
        assert "knit-secret" not in repr(caught.value)
        assert "knit-secret" not in "".join(traceback.format_exception(caught.value))


def test_the_schemes_of_valkey_are_those_of_redis(shared_valkey: Valkey) -> None:
    connections = Connections(shared_valkey.url.replace("redis", "valkey"), 2.0)
    assert connections.run([("PING",)])[1] == [b"PONG"]
    connections.close()
