"""Values of a folder that all processes of a host use, whatever else lies in it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flask_knitperf.caching.host_values import HostValues
from flask_knitperf.caching.value_files import pickled
from flask_knitperf.storage.atomic_files import Disk

KEY = b"k" * 16


class Folder:
    """The folder of the values, and an object for each process that uses it."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self.path = state / "values-1"
        self.of_key = self.path / KEY.hex()

    def process(self, limit: float = 1e9, disk: Disk | None = None) -> HostValues:
        return HostValues(lambda: self._state, lambda: limit, disk)

    @property
    def values(self) -> list[Path]:
        return [path for path in self.path.glob("*/*") if path.name.isdigit()]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "state")


def number_of(values: HostValues, key: bytes = KEY) -> Any:
    """Return the number in the facts of a value."""
    match = values.find(key)
    return None if match is None else match[1]["number"]


def test_nothing_is_written_or_removed_behind_a_symbolic_link(
    folder: Folder, tmp_path: Path
) -> None:
    process, outside = folder.process(), tmp_path / "outside"
    outside.mkdir()
    (outside / "00000000000000000001").write_text("a file of another program")
    process.store(b"other" * 4, {}, pickled(1))
    folder.of_key.symlink_to(outside)
    assert process.store(KEY, {}, pickled(1)) is None
    process.remove(KEY)
    folder.process(limit=0).store(b"third" * 4, {}, pickled(1))
    assert [path.name for path in outside.iterdir()] == ["00000000000000000001"]


def test_files_and_folders_of_others_are_left_alone(folder: Folder) -> None:
    process = folder.process(limit=3000)
    process.store(KEY, {"number": 0}, pickled(1))
    others = [folder.path / "backup" / "prices.csv", folder.of_key / "notes.txt"]
    for path in others:
        path.parent.mkdir(exist_ok=True)
        path.write_text("x" * 5000)
    (folder.path / "empty").mkdir()
    for number in range(9):
        process.store(bytes([number]) * 16, {}, pickled(bytes(900)))
    assert all(path.exists() for path in (*others, folder.path / "empty"))
    assert 0 < len(folder.values) <= 3


@pytest.mark.parametrize("name", ["9" * 20, "9" * 25, "\u00b2\u00b3", "x", "1.tmp"])
def test_a_file_with_a_name_of_another_form_is_not_taken_for_a_value(
    name: str, folder: Folder
) -> None:
    process = folder.process()
    process.store(KEY, {"number": 1}, pickled(1))
    (folder.of_key / name).write_bytes(b"x")
    assert number_of(process) == 1
    process.store(KEY, {"number": 2}, pickled(1))
    assert number_of(process) == 2


def test_two_processes_that_write_at_the_same_time_do_not_disturb_one_another(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1)
    paths: list[Any] = []

    def store(disk: Disk | None = None) -> None:
        paths.append(folder.process(disk=disk).store(KEY, {"number": 1}, pickled(1)))

    class Overtaken(Disk):
        def write_parts(self, path: Path, parts: Any) -> None:
            super().write_parts(path, parts)
            other = threading.Thread(target=store)
            other.start()
            other.join()

    store(Overtaken())
    assert None not in paths
    assert number_of(folder.process()) == 1


def test_a_folder_that_is_removed_while_it_is_empty_is_created_again(folder: Folder) -> None:
    class Removing(Disk):
        removed = False

        def write_parts(self, path: Path, parts: Any) -> None:
            if not self.removed:
                self.removed = True
                path.parent.rmdir()
            super().write_parts(path, parts)

    assert folder.process(disk=Removing()).store(KEY, {"number": 1}, pickled(1)) is not None
    assert number_of(folder.process()) == 1


def test_a_value_that_is_replaced_during_a_look_is_found(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = folder.process()
    process.store(KEY, {"number": 1}, pickled(1))
    from flask_knitperf.caching import host_values

    latest = host_values._latest
    replacing: Iterator[bool] = iter([True])

    def overtaken(path: Path) -> Path | None:
        name = latest(path)
        if next(replacing, False):
            folder.process().store(KEY, {"number": 2}, pickled(1))
        return name

    monkeypatch.setattr(host_values, "_latest", overtaken)
    assert number_of(process) == 2


@pytest.mark.slow
def test_most_values_are_written_without_a_look_at_all_others(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flask_knitperf.caching import host_values

    looks: list[Path] = []
    files = host_values._files
    monkeypatch.setattr(host_values, "_files", lambda path: looks.append(path) or files(path))
    process = folder.process(limit=1_000_000)
    for number in range(1200):
        process.store(number.to_bytes(16, "big"), {}, pickled(bytes(1000)))
    assert sum(path.stat().st_size for path in folder.values) <= 1_000_000
    assert len(looks) < 600


@pytest.mark.slow
def test_several_processes_stay_within_the_limit_together(folder: Folder) -> None:
    processes = [folder.process(limit=100_000) for _ in range(8)]
    for number in range(200):
        processes[number % 8].store(number.to_bytes(16, "big"), {}, pickled(bytes(1000)))
        assert sum(path.stat().st_size for path in folder.values) <= 100_000


def test_a_lead_outlives_a_file_that_another_process_has_removed(folder: Folder) -> None:
    process = folder.process()
    process.store(KEY, {"number": 1}, pickled(1))
    locks = process._locks
    assert process.try_lead(KEY)
    value = folder.values[0]
    value.unlink()
    process.load(value)
    assert number_of(process) is None
    assert process._locks is locks
    process.end_lead(KEY)
