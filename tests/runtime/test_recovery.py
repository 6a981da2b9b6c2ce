"""A system that refuses something: the application answers, `degraded` states it, and it recovers."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flask_knitperf.core.clock import SYSTEM
from flask_knitperf.storage import atomic_files, commands, writer
from tests.conftest import FakeTime
from tests.waiting import wait_for


def refuse(code: int) -> Callable[..., Any]:
    def call(*_: Any, **__: Any) -> Any:
        raise OSError(code, os.strerror(code))

    return call


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


linux = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts descriptors in /proc")


def test_threads_that_the_system_refuses_are_started_later(
    mill: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = mill.session.recorder
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", _no_thread)
        assert [mill.get("/").code for _ in range(3)] == [200] * 3
        assert "a thread of this worker could not be started" in mill.degraded()
    mill.session.profile.prepare_next()
    assert mill.get("/").code == 200
    assert recorder._housekeeper._thread.is_alive() and not mill.degraded()
    assert mill.row("index")["count"] == 4


def test_a_worker_whose_threads_were_refused_can_be_closed(
    mill: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", _no_thread)
        mill.get("/")
        mill.session.close()


def _wait_without_locks(state: Path) -> None:
    """Wait until there is no file of a lock: the housekeeper may be at an attempt."""
    wait_for(lambda: not list(state.glob("*/*.lock")))


def _no_thread(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


@linux
def test_a_process_without_memory_for_a_log_leaves_nothing_behind_and_recovers(
    mill: Any, monkeypatch: pytest.MonkeyPatch, time: FakeTime
) -> None:
    recorder = mill.session.recorder
    recorder.clock = time.clock()
    with monkeypatch.context() as patched:
        patched.setattr(writer.mmap, "mmap", refuse(errno.ENOMEM))
        assert mill.get("/").code == 200
        before = descriptors()
        for _ in range(10):
            time.pass_(2)
            assert mill.get("/").code == 200
        assert descriptors() == before
        _wait_without_locks(Path(mill.app.config["KNITPERF_STATE_DIR"]))
        patched.setattr(recorder, "_locate", refuse(errno.EIO))  # not called within a second
        assert mill.get("/").code == 200
    time.pass_(2)
    assert mill.get("/").code == 200
    assert mill.row("index")["count"] == 1 and "failed" in mill.degraded()


@linux
def test_a_worker_without_locks_records_in_memory_and_joins_its_run_once_there_are_some(
    mill: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = Path(mill.app.config["KNITPERF_STATE_DIR"])
    with monkeypatch.context() as patched:
        patched.setattr(atomic_files._fcntl, "flock", refuse(errno.ENOLCK))
        mill.get("/")
        worker = mill.session.recorder.worker
        assert worker.run is None and "cannot be locked" in mill.degraded()
        _wait_without_locks(state)
        mill.session.jobs.follow_server()
        assert worker.run is None
        (state / "held").write_bytes(b"")
        assert atomic_files.is_locked(state / "held")  # unknown: never taken for dead
    mill.session.jobs.follow_server()
    assert worker.run is not None and not mill.degraded()
    assert mill.row("index")["count"] == 1
    mill.session.jobs.follow_server()  # nothing more to do


def test_a_server_joins_its_run_once_its_directory_can_be_used(mill: Any, tmp_path: Path) -> None:
    state = Path(mill.app.config["KNITPERF_STATE_DIR"])
    state.mkdir(parents=True)
    state.chmod(0o777)
    mill.get("/")
    mill.session.jobs.follow_server()
    assert "other users may write" in mill.degraded()
    state.chmod(0o700)
    mill.session.jobs.follow_server()
    assert "other users" not in mill.degraded()
    assert mill.row("index")["count"] == 1 and mill.session.recorder.worker.run is not None


def test_an_old_run_that_cannot_be_removed_is_reported_and_stops_nothing(
    mill: Any, monkeypatch: pytest.MonkeyPatch, time: FakeTime
) -> None:
    mill.session.recorder.clock = time.clock()
    mill.get("/")
    run, disk = mill.session.recorder.worker.run, mill.session.recorder.disk
    unlink, refuse_it = disk.unlink, refuse(errno.EACCES)
    with monkeypatch.context() as patched:  # the housekeeper runs beside, from the first one on
        patched.setattr(disk, "unlink", lambda path: (
            refuse_it(path) if path.name == "app.json" else unlink(path)
        ))  # fmt: skip
        for number in range(6):
            old = run.parent / f"old-{number}"
            old.mkdir()
            (old / "app.json").write_text(f'{{"began": {number}}}')
        time.pass_(20)
        mill.session.jobs.fold()
        assert "cannot be removed: Permission denied" in mill.degraded()
        assert mill.row("index")["count"] == 1
    time.pass_(20)
    mill.session.jobs.fold()
    mill.session.recorder.worker.publish()
    assert "cannot be removed" not in mill.degraded()


@pytest.mark.parametrize("user", [0, 1000])
def test_root_creates_the_log_of_commands_as_a_file_of_the_owner_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: int
) -> None:
    owners: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "geteuid", lambda: user, raising=False)
    monkeypatch.setattr(os, "fchown", lambda _, *owner: owners.append(owner), raising=False)
    commands.send(tmp_path, "clear", 1.0)
    commands.send(tmp_path, "clear", 2.0)
    info = tmp_path.stat()
    assert owners == ([(info.st_uid, info.st_gid)] if user == 0 else [])
    assert len((tmp_path / "commands.log").read_text().splitlines()) == 2
    assert not list(tmp_path.glob(".commands*"))


def test_commands_that_a_worker_may_not_read_are_removed_and_later_ones_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executed: list[str] = []
    commands.send(tmp_path, "clear", 1.0)
    workers = [
        commands.Inbox(tmp_path, f"w-{n}", {"collect": lambda c: executed.append(c.name)}, 1000)
        for n in range(2)
    ]
    read = commands._lines
    with monkeypatch.context() as patched:
        patched.setattr(commands, "_lines", refuse_permission)
        workers[0]._run = tmp_path
        assert workers[0].turn() == 0
    assert commands._lines is read and not (tmp_path / "commands.log").exists()
    commands.send(tmp_path, "collect", 2.0)
    assert [worker.turn() for worker in workers] == [1, 1] and executed == ["collect"] * 2


def refuse_permission(*_: Any, **__: Any) -> Any:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def test_commands_that_can_neither_be_read_nor_removed_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = commands.Inbox(tmp_path, "w-1", {}, 0)
    monkeypatch.setattr(commands, "_lines", refuse_permission)
    monkeypatch.setattr(Path, "unlink", refuse_permission)
    with pytest.raises(commands.StateError, match="belongs to another user"):
        inbox.turn()


def test_a_server_that_records_in_memory_on_purpose_joins_no_run(quiet: Any) -> None:
    quiet.get("/")
    quiet.session.jobs.follow_server()
    assert quiet.session.recorder.worker.run is None


def test_a_writer_in_memory_without_memory_for_a_log_is_not_created(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writer.mmap, "mmap", refuse(errno.ENOMEM))
    with pytest.raises(OSError, match="allocate"):
        writer.Worker(None, {}, clock=SYSTEM, disk=atomic_files.Disk())
