"""Writing the data: the same seed gives the same files, and no user's files are lost."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from demo_app.mill import generate
from demo_app.plants import plan
from demo_app.settings import DemoError

SMALL = 0.02


def _csvs(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.glob("*.csv")}


@pytest.mark.slow
def test_the_same_seed_and_scale_write_the_same_tables(tmp_path: Path) -> None:
    first, second = generate(tmp_path / "a", SMALL, 3), generate(tmp_path / "b", SMALL, 3)
    assert _csvs(first) == _csvs(second)


@pytest.mark.slow
def test_another_seed_writes_other_tables(tmp_path: Path) -> None:
    first, second = generate(tmp_path / "a", SMALL, 3), generate(tmp_path / "b", SMALL, 4)
    assert _csvs(first)["bom.csv"] != _csvs(second)["bom.csv"]


def test_data_that_matches_the_manifest_is_kept(tmp_path: Path) -> None:
    folder = generate(tmp_path / "mill", SMALL, 0)
    (folder / "mark").write_text("kept", encoding="utf-8")
    generate(folder, SMALL, 0)
    assert (folder / "mark").exists()


@pytest.mark.slow
def test_data_of_another_seed_is_replaced_as_a_whole(tmp_path: Path) -> None:
    folder = generate(tmp_path / "mill", SMALL, 0)
    (folder / "mark").write_text("gone", encoding="utf-8")
    generate(folder, SMALL, 1)
    assert not (folder / "mark").exists()
    assert json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["seed"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mill"]


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(DemoError, match="not empty"):
        generate(tmp_path, SMALL, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_run_killed_halfway_leaves_no_data_that_looks_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("demo_app.mill.database.write", die)
    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / "mill", SMALL, 0)
    assert not (tmp_path / "mill").exists()


def test_what_a_killed_run_left_is_removed_once_it_is_old(tmp_path: Path) -> None:
    for name, age in ((".mill-old", 3600), (".mill-young", 0)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    generate(tmp_path / "mill", SMALL, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mill-young", "mill"]


@pytest.mark.slow
def test_only_the_migrated_database_has_the_ledgers_index(tmp_path: Path) -> None:
    folder = generate(tmp_path / "mill", SMALL, 5)
    table, column = plan(5).sizes.ledger
    for name, indexes in (("mill.sqlite3", 0), ("mill_indexed.sqlite3", 1)):
        with closing(sqlite3.connect(folder / name)) as connection:
            query = "SELECT COUNT(*) FROM sqlite_master WHERE type = 'index' AND name = ?"
            row = connection.execute(query, (f"{table}_{column}",)).fetchone()
        assert row == (indexes,)


def test_every_workbook_of_the_plan_is_written(tmp_path: Path) -> None:
    folder = generate(tmp_path / "mill", SMALL, 7)
    figures = plan(7).sizes
    for name in (*figures.workbooks, figures.reread_book):
        assert (folder / f"{name}.xlsx").is_file()
