"""Reading and retiring workers' files, damaged and vanishing ones included."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from flask_knitperf.core.errors import StateError
from flask_knitperf.storage import state_dir
from flask_knitperf.storage.atomic_files import Disk
from tests.recording.recorders import make_recorder, observe, request_count


def test_a_worker_with_a_damaged_lock_file_is_still_counted(tmp_path: Path) -> None:
    r = make_recorder(tmp_path)
    observe(r, 2)
    (tmp_path / f"{r.worker.name}.lock").write_bytes(b"\xff{")
    snapshot = state_dir.read(tmp_path)
    assert request_count(snapshot) == 2
    assert snapshot.workers[0]["worker"] == r.worker.name
    (tmp_path / f"{r.worker.name}.lock").unlink()
    assert state_dir.read(tmp_path).workers == []
    r.close()


def test_a_damaged_retired_table_is_reported_and_live_workers_are_still_read(
    tmp_path: Path,
) -> None:
    r = make_recorder(tmp_path)
    observe(r, 2)
    (tmp_path / state_dir.RETIRED).write_bytes(b"damaged")
    snapshot = state_dir.read(tmp_path)
    assert request_count(snapshot) == 2
    assert "totals of ended workers" in snapshot.degraded[0]
    r.close()


def test_a_reader_starts_over_when_names_were_pruned_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    r = make_recorder(tmp_path)
    observe(r, 2)
    from flask_knitperf.metrics.columns import of
    from flask_knitperf.metrics.table import Table

    answers = [Table(generation=n, pruned=n) for n in (1, 2, 3, 3)]
    monkeypatch.setattr(state_dir, "_retired", lambda *_: (answers.pop(0), of((), {})))
    assert request_count(state_dir.read(tmp_path)) == 2
    assert not answers
    generations = itertools.count()

    def newer(*_: object) -> state_dir.Part:
        number = next(generations)
        return Table(generation=number, pruned=number), of((), {})

    monkeypatch.setattr(state_dir, "_retired", newer)
    with pytest.raises(StateError, match="changed too often"):
        state_dir.read(tmp_path)
    r.close()


def test_two_housekeepers_do_not_retire_at_the_same_time(tmp_path: Path) -> None:
    with state_dir.exclusively(tmp_path / "retire.lock") as locked:
        assert locked
        assert state_dir.retire(tmp_path, Disk()) == 0


def test_temporary_files_of_a_killed_retirement_are_removed(tmp_path: Path) -> None:
    (tmp_path / f"{state_dir.RETIRED}.99.tmp").write_bytes(b"half")
    state_dir.retire(tmp_path, Disk())
    assert [p.name for p in tmp_path.iterdir()] == ["retire.lock"]


def test_a_dead_worker_with_a_damaged_table_is_retired_and_counted_as_incomplete(
    tmp_path: Path,
) -> None:
    r = make_recorder(tmp_path)
    observe(r, 2)
    name = r.worker.name
    (tmp_path / f"{name}.table").write_bytes(b"damaged")
    r.worker.release()
    assert state_dir.retire(tmp_path, Disk()) == 1
    assert state_dir.read(tmp_path).totals.incomplete == 1


def test_a_log_whose_predecessor_existed_only_in_memory_is_read_from_its_start(
    tmp_path: Path,
) -> None:
    r = make_recorder(tmp_path)
    observe(r, 3)
    name = r.worker.name
    os.rename(tmp_path / f"{name}.0.log", tmp_path / f"{name}.4.log")
    assert request_count(state_dir.read(tmp_path)) == 3
    r.worker.release()


def test_a_log_that_vanishes_between_listing_and_reading_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    r = make_recorder(tmp_path)
    observe(r, 3)
    r.worker.fold()
    name = r.worker.name
    monkeypatch.setattr(state_dir, "logs", lambda *_: [(0, tmp_path / f"{name}.0.gone")])
    assert request_count(state_dir.read(tmp_path)) == 3
    r.close()


def test_a_damaged_retired_table_is_set_aside_and_retirement_continues(tmp_path: Path) -> None:
    r = make_recorder(tmp_path)
    observe(r, 2)
    r.worker.release()
    (tmp_path / state_dir.RETIRED).write_bytes(b"damaged")
    assert state_dir.retire(tmp_path, Disk()) == 1
    snapshot = state_dir.read(tmp_path)
    assert request_count(snapshot) == 2
    assert state_dir.DAMAGED in snapshot.degraded


def test_retirement_without_new_tables_only_removes_files(tmp_path: Path) -> None:
    class Keeping(Disk):
        def unlink(self, path: Path) -> None:
            raise OSError(5, "Input/output error")

    r = make_recorder(tmp_path)
    observe(r, 2)
    r.worker.release()
    with pytest.raises(OSError, match="Input"):
        state_dir.retire(tmp_path, Keeping())
    assert request_count(state_dir.read(tmp_path)) == 2
    assert state_dir.retire(tmp_path, Disk()) == 0
    assert request_count(state_dir.read(tmp_path)) == 2
    assert not state_dir.workers(tmp_path)


def test_one_worker_in_a_second_looks_for_dead_ones(tmp_path: Path) -> None:
    times = (1_000.0, 1_000.5, 1_000.8, 1_001.0, 1_001.2, 1_002.0)
    due = [state_dir.is_due(tmp_path, now) for now in times]
    assert due == [True, False, False, True, False, True]


def test_a_clock_that_was_set_back_keeps_no_worker_from_looking(tmp_path: Path) -> None:
    assert [state_dir.is_due(tmp_path, now) for now in (9_000.0, 500.0, 500.5)] == [
        True, True, False,
    ]  # fmt: skip
