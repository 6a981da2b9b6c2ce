"""Commands: executed once by every live worker, and acknowledged."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flask_knitperf.core.errors import KnitPerfError, StateError
from flask_knitperf.storage import commands
from flask_knitperf.storage.commands import Command, Inbox, size


def inbox(run: Path, worker: str, done: list[str]) -> Inbox:
    do = {"collect": lambda c: done.append(f"{worker} {c.name} {c.at:g}")}
    return Inbox(run, worker, do, size(run))


def test_every_worker_executes_a_command_once(tmp_path: Path) -> None:
    done: list[str] = []
    boxes = [inbox(tmp_path, name, done) for name in ("w-1", "w-2")]
    command = commands.send(tmp_path, "collect", 5.0)
    for box in boxes:
        assert box.turn() == 1
        assert box.turn() == 0
    assert done == ["w-1 collect 5", "w-2 collect 5"]
    assert commands.outcome(tmp_path, command).done == ("w-1", "w-2")


def test_a_worker_that_begins_later_leaves_old_commands_alone(tmp_path: Path) -> None:
    commands.send(tmp_path, "collect", 5.0)
    assert inbox(tmp_path, "w-1", []).turn() == 0


def test_a_failing_worker_reports_its_error(tmp_path: Path) -> None:
    def fail(_: Command) -> None:
        raise OSError("no room")

    box = Inbox(tmp_path, "w-1", {"collect": fail}, 0)
    command = commands.send(tmp_path, "collect", 5.0)
    box.turn()
    assert commands.outcome(tmp_path, command).failed == {"w-1": "no room"}


def test_an_error_without_words_is_named_by_its_type(tmp_path: Path) -> None:
    def fail(_: Command) -> None:
        raise ZeroDivisionError

    box = Inbox(tmp_path, "w-1", {"collect": fail}, 0)
    command = commands.send(tmp_path, "collect", 5.0)
    box.turn()
    assert commands.outcome(tmp_path, command).failed == {"w-1": "ZeroDivisionError"}


@pytest.mark.parametrize(
    "line", [b"garbage\n", b"[1]\n", b'{"do": "format-disk"}\n', b"\xff\xfe\n"]
)
def test_what_cannot_be_read_is_passed_over(tmp_path: Path, line: bytes) -> None:
    done: list[str] = []
    box = inbox(tmp_path, "w-1", done)
    with open(tmp_path / "commands.log", "ab") as file:
        file.write(line)
    commands.send(tmp_path, "collect", 1.0)
    assert box.turn() == 1
    assert done


def test_half_a_line_waits_for_its_rest(tmp_path: Path) -> None:
    done: list[str] = []
    box = inbox(tmp_path, "w-1", done)
    path = tmp_path / "commands.log"
    path.write_bytes(b'{"do": "coll')
    assert box.turn() == 0
    with open(path, "ab") as file:
        file.write(b'ect", "id": "1"}\n')
    assert box.turn() == 1


def test_an_unknown_command_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(KnitPerfError, match="collect, clear"):
        commands.send(tmp_path, "explode", 0)


def test_too_many_commands_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "_MAX_BYTES", 10)
    commands.send(tmp_path, "collect", 0)
    with pytest.raises(StateError, match="too many"):
        commands.send(tmp_path, "collect", 0)


def test_sending_to_a_removed_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="cannot be written"):
        commands.send(tmp_path / "gone", "collect", 0)
    assert inbox(tmp_path / "gone", "w-1", []).turn() == 0


def test_an_outcome_knows_only_its_own_command(tmp_path: Path) -> None:
    box = inbox(tmp_path, "w-1", [])
    first = commands.send(tmp_path, "collect", 0)
    box.turn()
    second = commands.send(tmp_path, "collect", 0)
    assert commands.outcome(tmp_path, first).done == ("w-1",)
    assert commands.outcome(tmp_path, second).done == ()
    assert os.path.exists(tmp_path / "commands.log")


def test_another_file_in_the_place_of_a_removed_one_is_read_from_its_start(tmp_path: Path) -> None:
    done: list[str] = []
    box = inbox(tmp_path, "w-1", done)
    for at in (5.0, 6.0):
        commands.send(tmp_path, "collect", at)
    assert (box.turn(), box.turn()) == (2, 0)
    (file,) = tmp_path.iterdir()
    file.unlink()
    assert box.turn() == 0
    commands.send(tmp_path, "collect", 7.0)
    assert (box.turn(), done[-1]) == (1, "w-1 collect 7")
