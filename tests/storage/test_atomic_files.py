"""Atomic file operations: placing, saving, locking, allocating logs."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from flask_knitperf.storage import atomic_files
from flask_knitperf.storage.atomic_files import Disk, is_locked


def test_only_the_first_writer_places_a_file(tmp_path: Path) -> None:
    disk = Disk()
    assert disk.create_once(tmp_path / "x", b"1")
    assert not disk.create_once(tmp_path / "x", b"2")
    assert (tmp_path / "x").read_bytes() == b"1"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_missing_file_is_not_locked(tmp_path: Path) -> None:
    assert not is_locked(tmp_path / "nothing")


def test_a_log_that_cannot_be_allocated_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(OSError, match="No space"):
        Disk().create_log(tmp_path / "log", 4096)
    assert not list(tmp_path.iterdir())


def test_a_log_is_created_on_systems_without_posix_fallocate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    log = Disk().create_log(tmp_path / "log", 4096)
    assert log[:] == bytes(4096)
    log.close()


def test_saving_keeps_the_old_content_when_the_disk_is_full(tmp_path: Path) -> None:
    class Full(Disk):
        def replace(self, source: Path, target: Path) -> None:
            raise OSError(28, "No space left on device")

    (tmp_path / "x").write_bytes(b"old")
    with pytest.raises(OSError, match="No space"):
        Full().save(tmp_path / "x", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_bytes() == b"old"


def test_threads_that_save_the_same_file_do_not_collide(tmp_path: Path) -> None:
    """A reader and the housekeeper may both save what is fresh."""
    failed: list[OSError] = []

    def save(text: bytes) -> None:
        try:
            for _ in range(200):
                Disk().save(tmp_path / "one", text)
        except OSError as error:
            failed.append(error)

    threads = [threading.Thread(target=save, args=(bytes([n]) * 50,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == [] and [path.name for path in tmp_path.iterdir()] == ["one"]


def test_parts_are_written_one_after_the_other_and_never_over_a_file(tmp_path: Path) -> None:
    path = tmp_path / "value"
    Disk().write_parts(path, [b"head", bytearray(b""), memoryview(b"body")])
    with pytest.raises(FileExistsError):
        Disk().write_parts(path, [b"other"])
    assert path.read_bytes() == b"headbody"


def test_parts_that_cannot_be_written_leave_no_file(tmp_path: Path) -> None:
    path = tmp_path / "value"
    with pytest.raises(TypeError):
        Disk().write_parts(path, [b"head", None])
    assert not path.exists()


def test_a_locked_byte_is_not_free_for_another_process_until_it_is_unlocked(tmp_path: Path) -> None:
    path = tmp_path / "locks"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    code = f"import os; from flask_knitperf.storage.atomic_files import try_lock_byte; \
print(try_lock_byte(os.open({str(path)!r}, os.O_RDWR), 7))"

    def other() -> str:
        command = [sys.executable, "-c", code]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert atomic_files.try_lock_byte(descriptor, 7) is True
    assert other() == "False"
    atomic_files.unlock_byte(descriptor, 7)
    assert other() == "True"
    os.close(descriptor)
    assert atomic_files.try_lock_byte(descriptor, 7) is None  # it cannot be locked at all


def test_a_byte_that_another_process_has_locked_is_not_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "locked")

    descriptor = os.open(tmp_path / "locks", os.O_RDWR | os.O_CREAT)
    monkeypatch.setattr(atomic_files._fcntl, "lockf", refuse)
    assert atomic_files.try_lock_byte(descriptor, 7) is False
    os.close(descriptor)


def test_without_record_locks_a_byte_is_neither_free_nor_locked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(atomic_files, "_fcntl", None)
    assert atomic_files.try_lock_byte(0, 7) is None
    atomic_files.unlock_byte(0, 7)
