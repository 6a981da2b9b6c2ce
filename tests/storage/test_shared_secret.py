"""Random bytes that all workers share."""

from __future__ import annotations

from pathlib import Path

import pytest

from flask_knitperf.core.errors import StateError
from flask_knitperf.storage.atomic_files import Disk
from flask_knitperf.storage.shared_secret import SharedSecret


def workers(folder: Path | None, number: int = 3, disk: Disk | None = None) -> list[SharedSecret]:
    return [SharedSecret(lambda: folder, disk or Disk()) for _ in range(number)]


def test_all_workers_have_one_secret(tmp_path: Path) -> None:
    read = {worker.read() for worker in workers(tmp_path) for _ in range(2)}
    assert len(read) == 1 and len(read.pop()) == 32


def test_two_state_directories_have_two_secrets(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    assert len({workers(folder)[0].read() for folder in folders}) == 2


@pytest.mark.parametrize("left", [b"", b"short"])
def test_workers_agree_again_where_a_crash_left_a_part_of_the_file(
    tmp_path: Path, left: bytes
) -> None:
    (tmp_path / "secret").write_bytes(left)
    assert len({worker.read() for worker in workers(tmp_path) for _ in range(2)}) == 1


def test_the_file_is_readable_by_its_user_only(tmp_path: Path) -> None:
    workers(tmp_path)[0].read()
    assert (tmp_path / "secret").stat().st_mode & 0o077 == 0


class FullDisk(Disk):
    def write(self, path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("existing", [None, b""])
def test_on_a_full_disk_a_worker_has_a_secret_of_its_own(
    tmp_path: Path, existing: bytes | None
) -> None:
    if existing is not None:
        (tmp_path / "secret").write_bytes(existing)
    one, two = workers(tmp_path, 2, FullDisk())
    assert one.read() == one.read() != two.read()


def test_in_memory_a_secret_lasts_as_long_as_the_process() -> None:
    one, two = workers(None, 2)
    assert one.read() == one.read() != two.read()


def test_a_folder_in_place_of_the_file_is_as_a_full_disk(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    one, two = workers(tmp_path, 2)
    assert one.read() == one.read() != two.read()


def test_a_worker_writes_a_lost_secret_as_it_was(tmp_path: Path) -> None:
    one, two, three = workers(tmp_path)
    before = {one.read(), two.read()}
    (tmp_path / "secret").unlink()
    assert {two.read(), three.read(), one.read()} == before


def test_workers_go_on_with_their_secret_while_the_state_directory_cannot_be_used(
    tmp_path: Path,
) -> None:
    usable = True

    def folder() -> Path:
        if not usable:
            raise StateError("not writable")
        return tmp_path

    one, two = (SharedSecret(folder, Disk()) for _ in range(2))
    shared = one.read()
    two.read()
    usable = False
    assert one.read() == two.read() == shared
