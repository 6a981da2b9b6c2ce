"""Versions: every change bumps a version, and nothing is published without a subscriber."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from flask_knitperf.core.clock import Clock
from flask_knitperf.storage.atomic_files import Disk
from flask_knitperf.storage.versions import (
    ABANDONED_S,
    EPOCH,
    EVERY_KEY,
    FILE,
    SLOTS,
    Versions,
    is_being_written,
    slot,
)


def shared(folder: Path | None, **more: Any) -> Versions:
    return Versions(lambda: folder, **more)


def test_a_version_stays_until_its_thing_is_changed(tmp_path: Path) -> None:
    versions = shared(tmp_path)
    before = versions.of(["yarn", "style"])
    assert versions.of(["yarn", "style"]) == before
    versions.changed(["yarn"])
    after = versions.of(["yarn", "style"])
    assert after[1] != before[1] and (after[0], after[2]) == (before[0], before[2])


def test_where_it_is_not_known_what_changed_everything_did(tmp_path: Path) -> None:
    versions = shared(tmp_path)
    before = versions.of([])
    versions.all_changed()
    assert versions.of([]) != before


@pytest.mark.parametrize("name", ["", "Garn Nº 5", "\udcff", "毛糸", "a" * 10_000])
def test_any_text_is_a_name(tmp_path: Path, name: str) -> None:
    versions, other = shared(tmp_path), shared(tmp_path)
    before = versions.of([name])
    other.changed([name])
    assert versions.of([name]) != before


def test_every_change_moves_the_epoch(tmp_path: Path) -> None:
    versions, other = shared(tmp_path), shared(tmp_path)
    epochs = [versions.words[EPOCH]]
    other.changed(["yarn"])
    epochs.append(versions.words[EPOCH])
    other.all_changed()
    epochs.append(versions.words[EPOCH])
    other.bump(["style", "colour"])
    epochs.append(versions.words[EPOCH])
    assert len(set(epochs)) == 4


def test_a_bump_needs_no_subscriber(tmp_path: Path) -> None:
    everything, yarn = shared(tmp_path).of(["yarn"])
    shared(tmp_path).bump(["yarn"])
    after = shared(tmp_path).of(["yarn"])
    assert after[0] == everything and after[1] != yarn
    shared(tmp_path).bump_all()
    assert shared(tmp_path).of([]) != (everything,)


def test_processes_share_versions_where_they_share_a_directory(tmp_path: Path) -> None:
    versions = shared(tmp_path / "state")
    before = versions.of(["yarn"])
    child = os.fork()
    if not child:
        shared(tmp_path / "state").changed(["yarn"])
        os._exit(0)
    os.waitpid(child, 0)
    assert versions.of(["yarn"]) != before and versions.shared


def test_a_forked_child_goes_on_with_its_parent_s_versions(tmp_path: Path) -> None:
    versions = shared(tmp_path)
    before = versions.of(["yarn"])
    child = os.fork()
    if not child:
        versions.changed(["yarn"])
        os._exit(0)
    os.waitpid(child, 0)
    assert versions.of(["yarn"]) != before


def test_no_change_is_lost_among_many_processes(tmp_path: Path) -> None:
    versions, names = shared(tmp_path), [f"t{n}" for n in range(200)]
    before = dict(zip(names, versions.of(names)[1:], strict=True))
    children = []
    for part in range(4):
        child = os.fork()
        if not child:
            for _ in range(50):
                shared(tmp_path).changed(names[part::4])
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    after = dict(zip(names, versions.of(names)[1:], strict=True))
    assert not [name for name in names if before[name] == after[name]]


def test_without_a_directory_they_are_this_process_s_own() -> None:
    versions = shared(None)
    before = versions.of(["yarn"])
    versions.changed(["yarn"])
    assert versions.of(["yarn"]) != before and not versions.shared and versions.hold


def test_without_a_subscriber_nothing_is_written(tmp_path: Path) -> None:
    versions = shared(tmp_path)
    versions.changed(["yarn"])
    versions.all_changed()
    assert not versions.subscribed and list(tmp_path.iterdir()) == []
    shared(tmp_path).of([])
    assert versions.subscribed and [path.name for path in tmp_path.iterdir()] == [FILE]


class Time:
    """A clock that is set."""

    def __init__(self) -> None:
        self.wall = 1_000.0
        self.passed = 50.0

    def clock(self) -> Clock:
        return Clock(wall=lambda: self.wall, monotonic_ns=lambda: int(self.passed * 1e9))


def test_they_hold_once_every_process_has_noticed(tmp_path: Path) -> None:
    time = Time()
    first = shared(tmp_path, clock=time.clock())
    assert not first.hold
    time.wall += 2
    time.passed += 2
    second = shared(tmp_path, clock=time.clock())
    assert not first.hold and not second.hold
    time.wall += 2
    time.passed += 2
    assert first.hold and second.hold and shared(tmp_path, clock=time.clock()).hold


def test_a_clock_that_was_set_back_delays_them_by_seconds_only(tmp_path: Path) -> None:
    time = Time()
    shared(tmp_path, clock=time.clock()).of([])
    time.wall -= 500
    versions = shared(tmp_path, clock=time.clock())
    assert not versions.hold
    time.passed += 3.01
    assert versions.hold


class Full(Disk):
    """A disk without room."""

    def write(self, path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")


def test_on_a_full_disk_they_are_this_process_s_own(tmp_path: Path) -> None:
    versions = shared(tmp_path, disk=Full())
    before = versions.of(["yarn"])
    versions.changed(["yarn"])
    assert versions.of(["yarn"]) != before and not versions.shared


@pytest.mark.parametrize("data", [b"", b"short", bytes(SLOTS * 8)])
def test_a_damaged_file_is_left_alone(tmp_path: Path, data: bytes) -> None:
    (tmp_path / FILE).write_bytes(data)
    versions = shared(tmp_path)
    versions.changed(["yarn"])
    assert not versions.shared and (tmp_path / FILE).read_bytes() == data


def test_no_version_of_a_file_that_was_lost_is_valid_again(tmp_path: Path) -> None:
    before = shared(tmp_path).of(["yarn"])
    (tmp_path / FILE).unlink()
    after = shared(tmp_path).of(["yarn"])
    assert not set(before) & set(after)


def test_no_version_of_a_process_without_a_file_is_that_of_another_one(tmp_path: Path) -> None:
    first, second = shared(None).of(["yarn"]), shared(tmp_path, disk=Full()).of(["yarn"])
    assert not set(first) & set(second)


def test_a_directory_that_others_may_write_to_is_not_used(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    assert not shared(tmp_path).shared and list(tmp_path.iterdir()) == []


def test_who_comes_second_takes_the_file_of_the_first(tmp_path: Path) -> None:
    class Slow(Disk):
        def place(self, path: Path, data: bytes) -> bool:
            other.of([])
            return super().place(path, data)

    other = shared(tmp_path)
    versions = shared(tmp_path, disk=Slow())
    before = versions.of(["yarn"])
    other.changed(["yarn"])
    assert versions.of(["yarn"]) != before and versions.shared and other.shared


def test_of_two_threads_that_come_at_once_one_opens_the_file(tmp_path: Path) -> None:
    versions = shared(tmp_path)
    turn = versions._opening

    class Turn:
        """The other thread was quicker."""

        def __enter__(self) -> None:
            versions._opening = turn
            self.opened = versions._open()

        def __exit__(self, *_: object) -> None:
            pass

    second = Turn()
    versions._opening = second  # type: ignore[assignment]
    assert versions._open() is second.opened


# -- changes that take a while --------------------------------------------------------------------------


def test_a_version_is_odd_while_its_thing_is_changed_and_another_one_afterwards(
    tmp_path: Path,
) -> None:
    writer, reader = shared(tmp_path), shared(tmp_path)
    seen = [reader.of(["yarn"])[1]]
    writer.begin_writing(["yarn"])
    seen.append(reader.of(["yarn"])[1])
    writer.end_writing(["yarn"])
    seen.append(reader.of(["yarn"])[1])
    assert [is_being_written(version) for version in seen] == [False, True, False]
    assert len(set(seen)) == 3


def test_the_first_versions_are_not_being_written(tmp_path: Path) -> None:
    assert not any(map(is_being_written, shared(tmp_path).words[:SLOTS]))
    assert not any(map(is_being_written, shared(None).words[:SLOTS]))


def test_a_version_stays_odd_until_the_last_thread_has_ended(tmp_path: Path) -> None:
    versions = shared(tmp_path)
    versions.of([])
    versions.begin_writing(["yarn"])
    versions.begin_writing(["yarn", "style"])
    versions.end_writing(["yarn"])
    assert is_being_written(versions.of(["yarn"])[1])
    versions.changed(["yarn"])  # by a third one
    assert is_being_written(versions.of(["yarn"])[1])
    versions.end_writing(["yarn", "style"])
    assert not any(map(is_being_written, versions.of(["yarn", "style"])))


def test_an_end_without_a_start_changes_the_version_alone(tmp_path: Path) -> None:
    versions = shared(tmp_path)
    before = versions.of(["yarn"])
    versions.end_writing(["yarn"])
    versions.begin_writing(["yarn"])
    versions.end_writing(["yarn"])
    assert versions.of(["yarn"]) != before and not is_being_written(versions.of(["yarn"])[1])


def test_all_keys_can_be_written_at_once(tmp_path: Path) -> None:
    versions = shared(tmp_path)
    before = versions.of(["yarn"])
    versions.begin_writing([EVERY_KEY])
    assert is_being_written(versions.of([])[0])
    versions.end_writing([EVERY_KEY])
    assert versions.of(["yarn"])[0] != before[0] and versions.of(["yarn"])[1] == before[1]


def test_a_change_of_a_killed_writer_ends_after_half_a_minute(tmp_path: Path) -> None:
    time = Time()
    child = os.fork()
    if not child:
        writer = shared(tmp_path)
        writer.of([])
        writer.begin_writing(["yarn"])
        os._exit(0)
    os.waitpid(child, 0)
    reader, place = shared(tmp_path, clock=time.clock()), slot("yarn")
    reader.settle_abandoned([place])
    killed = reader.words[place]
    time.passed += ABANDONED_S - 0.1
    reader.settle_abandoned([place])
    assert reader.words[place] == killed and is_being_written(killed)
    time.passed += 0.2
    reader.settle_abandoned([place])
    assert not is_being_written(reader.words[place])


def test_changes_that_follow_one_another_are_not_taken_for_an_abandoned_one(
    tmp_path: Path,
) -> None:
    time = Time()
    reader, writer, place = shared(tmp_path, clock=time.clock()), shared(tmp_path), slot("yarn")
    reader.of([])
    for _ in range(5):
        writer.begin_writing(["yarn"])
        reader.settle_abandoned([place])
        time.passed += ABANDONED_S * 0.6
        reader.settle_abandoned([place])
        assert is_being_written(reader.words[place])
        writer.end_writing(["yarn"])


def test_a_forked_child_does_not_go_on_with_the_changes_of_its_parent(tmp_path: Path) -> None:
    versions = shared(tmp_path)
    versions.of([])
    versions.begin_writing(["yarn"])
    child = os.fork()
    if not child:
        versions.begin_writing(["yarn"])
        versions.end_writing(["yarn"])
        os._exit(0 if not is_being_written(versions.of(["yarn"])[1]) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_without_a_subscriber_no_change_is_marked(tmp_path: Path) -> None:
    shared(tmp_path).begin_writing(["yarn"])
    shared(tmp_path).end_writing(["yarn"])
    assert list(tmp_path.iterdir()) == []


class _Others:
    """Other hosts, to which changes are published."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def announce(self, slots: tuple[int, ...]) -> dict[int, int]:
        self.calls.append(("announce", set(slots)))
        return dict.fromkeys(slots, 1)

    def publish(self, marks: dict[int, int]) -> None:
        self.calls.append(("publish", set(marks)))


def test_a_change_with_a_beginning_is_announced_at_it_and_published_at_its_end() -> None:
    versions = Versions(lambda: None)
    versions.other_hosts = others = _Others()
    slots = {slot("yarn"), slot("orders")}
    versions.begin_writing(["yarn", "orders"])
    assert others.calls == [("announce", slots)]
    assert is_being_written(versions.of(["yarn"])[-1])
    versions.end_writing(["yarn", "orders"])
    assert others.calls[1:] == [("announce", slots), ("publish", slots)]
    assert not is_being_written(versions.of(["yarn"])[-1])
