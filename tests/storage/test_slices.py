"""Slices: read back, merged once they are old, and never counted twice."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from flask_knitperf.storage import slices
from flask_knitperf.storage.atomic_files import Disk

NOW = 1_800_000_000.0
DISK = Disk()


def add(documents: Iterable[dict[str, Any]]) -> dict[str, Any]:
    return {"seen": sorted(name for document in documents for name in document.get("seen", []))}


def save(run: Path, worker: str, at: float, *seen: str) -> None:
    slices.save(run, worker, slices.begins(at), {"seen": list(seen)}, DISK)


def seen(run: Path, begin: float = 0.0, end: float = NOW) -> list[str]:
    seen: list[str] = add(slices.read(run, begin, end))["seen"]
    return seen


def test_slices_of_all_workers_are_read(tmp_path: Path) -> None:
    save(tmp_path, "w-1-a", NOW, "a")
    save(tmp_path, "w-2-b", NOW, "b")
    assert seen(tmp_path) == ["a", "b"]


def test_a_slice_is_written_anew_not_added_to(tmp_path: Path) -> None:
    save(tmp_path, "w-1-a", NOW, "a")
    save(tmp_path, "w-1-a", NOW, "a", "later")
    assert seen(tmp_path) == ["a", "later"]


def test_only_slices_that_overlap_are_read(tmp_path: Path) -> None:
    for age in (0, 400, 3000):
        save(tmp_path, "w-1-a", NOW - age, str(age))
    assert seen(tmp_path, NOW - 420, NOW) == ["0", "400"]
    assert seen(tmp_path, NOW - 4000, NOW - 1000) == ["3000"]


def test_nothing_is_read_where_nothing_was_kept(tmp_path: Path) -> None:
    assert slices.read(tmp_path, 0.0, NOW) == []
    assert slices.merge_old(tmp_path, NOW, add, DISK) == 0


def test_a_slice_from_the_future_is_merged_with_the_older_ones(tmp_path: Path) -> None:
    save(tmp_path, "w-1-a", NOW + 90_000, "ahead")
    assert seen(tmp_path) == []
    assert slices.merge_old(tmp_path, NOW, add, DISK) == 1
    assert seen(tmp_path) == ["ahead"] and seen(tmp_path, NOW - 3600) == []


def test_older_slices_that_were_merged_by_a_clock_ahead_are_in_no_later_window(
    tmp_path: Path,
) -> None:
    save(tmp_path, "w-1-a", NOW, "a")
    slices.merge_old(tmp_path, NOW + 90_000, add, DISK)
    assert seen(tmp_path, NOW - 300, NOW + 10) == []
    assert seen(tmp_path, 0.0, NOW + 10) == ["a"]


def test_a_worker_writes_no_slice_over_one_of_a_clock_that_was_set_back(tmp_path: Path) -> None:
    begin = slices.begins(NOW)
    assert slices.free(tmp_path, "w-1-a", begin) == begin
    save(tmp_path, "w-1-a", NOW, "a")
    assert slices.free(tmp_path, "w-1-a", begin) == begin + 1
    assert slices.free(tmp_path, "w-1-b", begin) == begin


def test_a_damaged_slice_is_named_unless_it_is_in_the_file_of_older_ones(tmp_path: Path) -> None:
    for age in (0, 5000):
        save(tmp_path, "w-1-a", NOW - age, str(age))
    [later, *_], [older, *_] = [
        sorted((tmp_path / "details").glob(f"*.{slices.begins(NOW - age)}.slice"))
        for age in (0, 5000)
    ]
    kept = older.read_bytes()
    slices.merge_old(tmp_path, NOW, add, DISK)
    older.write_bytes(kept[:-5])  # as if it had come back
    later.write_bytes(b"x")
    damaged: list[str] = []
    slices.read(tmp_path, 0.0, NOW, damaged)
    assert damaged == [later.name]


def test_old_slices_are_put_together_and_count_once(tmp_path: Path) -> None:
    for age in (0, 5000, 9000):
        save(tmp_path, "w-1-a", NOW - age, str(age))
    assert slices.merge_old(tmp_path, NOW, add, DISK) == 2
    assert seen(tmp_path) == ["0", "5000", "9000"]
    assert len(list((tmp_path / "details").glob("*.slice"))) == 1
    assert seen(tmp_path, NOW - 600, NOW) == ["0"]


def test_what_was_put_together_grows(tmp_path: Path) -> None:
    save(tmp_path, "w-1-a", NOW - 9000, "old")
    slices.merge_old(tmp_path, NOW, add, DISK)
    save(tmp_path, "w-1-a", NOW - 8000, "newer")
    slices.merge_old(tmp_path, NOW, add, DISK)
    assert seen(tmp_path) == ["newer", "old"]


class Killed(BaseException):
    """Stands for a kill."""


@pytest.mark.parametrize("step", ["save", "unlink"])
def test_a_kill_while_they_are_put_together_counts_nothing_twice(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for age in (8000, 9000):
        save(tmp_path, "w-1-a", NOW - age, str(age))

    def kill(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Disk, step, kill)
        with pytest.raises(Killed):
            slices.merge_old(tmp_path, NOW, add, Disk())
    assert seen(tmp_path) == ["8000", "9000"]
    slices.merge_old(tmp_path, NOW, add, DISK)
    assert seen(tmp_path) == ["8000", "9000"]
    slices.merge_old(tmp_path, NOW, add, DISK)
    assert seen(tmp_path) == ["8000", "9000"]


def test_only_one_process_merges(tmp_path: Path) -> None:
    from flask_knitperf.storage.state_dir import exclusively

    save(tmp_path, "w-1-a", NOW - 9000, "old")
    with exclusively(tmp_path / "details" / "tidy.lock"):
        assert slices.merge_old(tmp_path, NOW, add, DISK) == 0


@pytest.mark.parametrize("damage", [b"", b"garbage", b"x\x9c\x03\x00"])
def test_a_damaged_slice_is_left_out(tmp_path: Path, damage: bytes) -> None:
    save(tmp_path, "w-1-a", NOW, "a")
    save(tmp_path, "w-2-b", NOW, "b")
    next((tmp_path / "details").glob("w-2*")).write_bytes(damage)
    assert seen(tmp_path) == ["a"]
    assert slices.merge_old(tmp_path, NOW + 9000, add, DISK) == 2


def test_a_slice_that_holds_no_document_is_left_out(tmp_path: Path) -> None:
    slices.save(tmp_path, "w-1-a", slices.begins(NOW), [1, 2], DISK)  # type: ignore[arg-type]
    assert seen(tmp_path) == []
