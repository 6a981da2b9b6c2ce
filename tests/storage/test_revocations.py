"""The record of revoked values."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from flask_knitperf.core.errors import StateError
from flask_knitperf.storage import revocations
from flask_knitperf.storage.atomic_files import Disk
from flask_knitperf.storage.revocations import Revocations


def workers(folder: Path | None, number: int = 2, disk: Disk | None = None) -> list[Revocations]:
    return [Revocations(lambda: folder, disk or Disk()) for _ in range(number)]


def record(folder: Path) -> list[str]:
    """Return the non-empty lines of a record."""
    return [line for line in (folder / "revoked").read_text().splitlines() if line]


@pytest.fixture(params=["memory", "file"])
def one(request: pytest.FixtureRequest, tmp_path: Path) -> Revocations:
    """Return a worker's record, in memory and in a file."""
    return workers(None if request.param == "memory" else tmp_path)[0]


def test_a_value_is_revoked_once(one: Revocations) -> None:
    origin = one.origin()
    assert one.allows(origin, "a")
    assert [one.revoke("a"), one.revoke("a"), one.revoke("b")] == [True, False, True]
    assert [one.allows(origin, nonce) for nonce in ("a", "b", "c")] == [False, False, True]


def test_what_one_worker_revokes_is_revoked_in_all(tmp_path: Path) -> None:
    one, two = workers(tmp_path)
    assert one.origin() == two.origin() != ""
    one.revoke("a"), two.revoke("b")
    for worker in (one, two, *workers(tmp_path, 1)):
        assert [worker.allows(one.origin(), nonce) for nonce in "abc"] == [False, False, True]
    assert not two.revoke("a")


def test_exactly_one_of_many_threads_and_workers_revokes_a_value(tmp_path: Path) -> None:
    start = threading.Barrier(8)
    done: list[str] = []

    def work(worker: Revocations) -> None:
        start.wait()
        done.extend(f"v{number}" for number in range(50) if worker.revoke(f"v{number}"))

    shared = workers(tmp_path, 4)
    threads = [threading.Thread(target=work, args=(worker,)) for worker in shared * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == sorted(f"v{number}" for number in range(50))


def test_a_check_reads_only_what_was_appended(tmp_path: Path) -> None:
    one, two = workers(tmp_path)
    for number in range(100):
        one.revoke(str(number))
    two.origin()
    assert two._offset == (tmp_path / "revoked").stat().st_size


def test_a_part_of_a_line_that_a_crash_left_revokes_nothing_and_harms_no_later_line(
    tmp_path: Path,
) -> None:
    one, two = workers(tmp_path)
    one.revoke("a")
    two.origin()
    with (tmp_path / "revoked").open("ab") as file:
        file.write(b"\nto")
    assert two.allows(two.origin(), "to")
    assert one.revoke("b")
    assert not two.allows(two.origin(), "b")


@pytest.mark.parametrize("left", [b"", b"short", b"\n\n", b"x" * 5000, b"\xff\xfe\n", b"0" * 16])
def test_a_damaged_record_is_replaced(tmp_path: Path, left: bytes) -> None:
    one, two = workers(tmp_path)
    before = one.origin()
    (tmp_path / "revoked").write_bytes(left)
    assert not two.allows("0" * 16, "a") or two._origin == ""
    assert one.revoke("a") and two.revoke("b")
    assert one.origin() == two.origin() != before
    assert not one.allows(before, "c") and not two.allows(before, "c")


@pytest.mark.parametrize("again", [False, True])
def test_without_its_record_a_worker_refuses_what_has_an_origin(
    tmp_path: Path, again: bool
) -> None:
    one, two = workers(tmp_path)
    origin = one.origin()
    one.revoke("a")
    (tmp_path / "revoked").unlink()
    if again:
        assert two.origin() != origin
    assert not one.allows(origin, "a") and not one.allows(origin, "b")
    assert one.allows("", "c")
    assert one.allows("f" * 16, "c") is again


def test_a_worker_that_never_had_a_record_takes_any_origin_for_another_hosts(
    tmp_path: Path,
) -> None:
    (one,) = workers(tmp_path / "missing", 1)
    assert one.allows("f" * 16, "a") and one.origin() == ""


def test_a_full_record_ends_all_sessions_of_this_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocations, "MAX_RECORD_BYTES", 600)
    one, two = workers(tmp_path)
    origins = [one.origin()]
    for number in range(200):
        assert one.revoke(f"v{number}")
        if one.origin() != origins[-1]:
            origins.append(one.origin())
    assert len(origins) > 5 and (tmp_path / "revoked").stat().st_size < 700
    for worker in (one, two):
        assert worker.allows(one.origin(), "x")
        assert not any(worker.allows(origin, "x") for origin in origins[-9:-1])


class FailingDisk(Disk):
    """A disk on which one operation fails."""

    def __init__(self, operation: str) -> None:
        def fail(*_: object) -> None:
            raise OSError(28, "No space left on device")

        setattr(self, operation, fail)


def test_on_a_full_disk_nothing_is_revoked_and_there_is_no_origin(tmp_path: Path) -> None:
    (one,) = workers(tmp_path, 1, FailingDisk("create_once"))
    assert (one.origin(), one.revoke("a"), one.allows("", "a")) == ("", False, True)
    assert one.failure == "[Errno 28] No space left on device"


def test_a_value_that_cannot_be_appended_is_not_revoked(tmp_path: Path) -> None:
    (one,) = workers(tmp_path, 1, FailingDisk("append"))
    origin = one.origin()
    assert (one.revoke("a"), one.allows(origin, "a"), one.failure) == (False, True, None)


def test_an_unusable_state_directory_is_named_until_it_can_be_used(tmp_path: Path) -> None:
    usable = False

    def folder() -> Path:
        if not usable:
            raise StateError("belongs to another user")
        return tmp_path

    one = Revocations(folder, Disk())
    assert (one.origin(), one.failure) == ("", "belongs to another user")
    assert one.allows("", "a") and not one.revoke("a")
    usable = True
    assert one.origin() and one.failure is None and one.revoke("a")


class RacingDisk(Disk):
    """A disk on which another worker acts between two operations."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.act = act

    def create_once(self, path: Path, data: bytes) -> bool:
        self.act()
        return super().create_once(path, data)


def test_a_record_that_another_worker_begins_at_the_same_time_is_kept(tmp_path: Path) -> None:
    (other,) = workers(tmp_path, 1)
    one = Revocations(lambda: tmp_path, RacingDisk(other.origin))
    assert one.origin() == other.origin()


def test_a_record_that_is_lost_while_it_is_written_is_no_revocation(tmp_path: Path) -> None:
    class LosingDisk(Disk):
        def append(self, path: Path, data: bytes) -> None:
            path.unlink()
            super().append(path, data)

    (one,) = workers(tmp_path, 1, LosingDisk())
    origin = one.origin()
    assert not one.revoke("a") and not one.allows(origin, "a")
    one._disk = Disk()
    assert one.revoke("a") and record(tmp_path)[0].split()[1] == origin


def test_the_record_is_readable_by_its_user_only(tmp_path: Path) -> None:
    workers(tmp_path, 1)[0].revoke("a")
    assert os.stat(tmp_path / "revoked").st_mode & 0o077 == 0
