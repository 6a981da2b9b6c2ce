"""Runs and the state directory: names, the server process, and which runs are kept."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil
import pytest

from flask_knitperf.core.clock import SYSTEM
from flask_knitperf.core.errors import StateError
from flask_knitperf.reports.offline import Offline
from flask_knitperf.storage import runs
from flask_knitperf.storage.atomic_files import Disk
from flask_knitperf.storage.writer import Worker
from tests.recording.recorders import join_run
from tests.runtime.applications import in_child

root_only = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can change owners"
)
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


def test_any_release_name_becomes_a_safe_and_unique_run_name() -> None:
    hostile = "../../etc/passwd ü"
    name = runs.run_name(hostile, 1, "2")
    assert "/" not in name
    assert name != runs.run_name(hostile + "x", 1, "2")
    assert runs.run_name(None, 1, "2").startswith("server-1-")
    assert runs.run_name(None, 1, "2") != runs.run_name(None, 1, "3")


def test_another_format_begins_another_run(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {runs.run_name("1.0", 1, "2"), runs.run_name(None, 1, "2")}
    monkeypatch.setattr(runs, "FORMAT", runs.FORMAT + 1)
    assert names.isdisjoint({runs.run_name("1.0", 1, "2"), runs.run_name(None, 1, "2")})


def test_a_run_of_another_version_is_refused_with_a_clear_message(tmp_path: Path) -> None:
    run = join_run(tmp_path, "1.0")
    assert runs.check_format(run) == run
    described = json.loads((run / "app.json").read_text())
    for version, text in ((3, "format 3"), (None, "format None")):
        (run / "app.json").write_text(json.dumps({**described, "format": version}))
        with pytest.raises(StateError, match=f"another version of flask_knitperf .{text}"):
            runs.check_format(run)
        with pytest.raises(StateError, match="another version"):
            Offline(tmp_path)


def test_the_start_time_of_a_process_does_not_depend_on_the_wall_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = psutil.Process()
    before = runs.start_of(own)
    monkeypatch.setattr(psutil.Process, "create_time", lambda _: 5.0)
    if sys.platform == "linux":
        assert runs.start_of(psutil.Process()) == before

    def hidden(_: Path) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", hidden)
    assert runs.start_of(own) == "5.0"


def test_a_process_without_a_server_parent_is_the_server() -> None:
    pid, started = runs.server()
    own = psutil.Process()
    parent = own.parent()
    same = parent is not None and parent.cmdline() == own.cmdline()
    assert (pid, started) == ((parent or own).pid if same else own.pid, started)


def test_a_parent_that_cannot_be_inspected_is_not_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def hidden(_: psutil.Process) -> None:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil.Process, "parent", hidden)
    assert runs.server()[0] == os.getpid()


@pytest.mark.parametrize(
    ("line", "program"),
    [(["gunicorn: master [mill]"], ("gunicorn: ",)), (["gunicorn: worker [mill]"], ("gunicorn: ",)),
     (["uWSGI master"], ("uWSGI ",)), (["mill uWSGI worker 12"], ("uWSGI ",)),
     (["python", "app.py"], ("python", "app.py")), ([], ())],
)  # fmt: skip
def test_a_server_and_its_workers_are_the_same_program(
    line: list[str], program: tuple[str, ...]
) -> None:
    class Process:
        def cmdline(self) -> list[str]:
            return line

    assert runs._program(Process()) == program  # type: ignore[arg-type]


def test_joining_a_run_again_keeps_its_start_time(tmp_path: Path) -> None:
    run = join_run(tmp_path, "1.0", 5.0)
    assert join_run(tmp_path, "1.0", 9.0) == run
    assert runs.describe(run)["began"] == 5.0


def test_runs_are_ordered_by_number_whatever_the_clock_was(tmp_path: Path) -> None:
    joined = [join_run(tmp_path, str(n), wall) for n, wall in enumerate((900.0, 90_000.0, 901.0))]
    assert runs.runs(tmp_path) == joined
    join_run(tmp_path, "1", 902.0)  # another worker of it
    assert runs.runs(tmp_path) == joined
    assert runs.describe(joined[1])["began"] == 902.0  # by a clock that is right
    assert runs.remove_old(tmp_path, 1, Disk()) == []
    assert runs.runs(tmp_path) == joined[2:]


def test_runs_of_earlier_versions_come_before_those_with_a_number(tmp_path: Path) -> None:
    numbered = join_run(tmp_path, "new", 5.0)
    for name, number in (("old", "{}"), ("odd", '{"number": "7", "began": 9.0}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "app.json").write_text(number)
    assert [path.name for path in runs.runs(tmp_path)] == ["old", "odd", numbered.name]


def test_a_damaged_run_description_is_replaced(tmp_path: Path) -> None:
    run = join_run(tmp_path, "1.0")
    for text in ("{broken", "[1]"):
        (run / "app.json").write_text(text)
        assert runs.describe(run) == {}
    join_run(tmp_path, "1.0", 9.0)
    assert runs.describe(run)["began"] == 9.0


def test_only_the_last_runs_are_kept_but_a_run_with_a_live_worker_is_never_removed(
    tmp_path: Path,
) -> None:
    joined = [join_run(tmp_path, f"1.{n}", float(n)) for n in range(5)]
    (joined[1] / "points").mkdir()
    (joined[1] / "points" / "5.point").write_bytes(b"x")
    alive = Worker(joined[0], {"pid": 1}, clock=SYSTEM, disk=Disk(), log_bytes=65536)
    runs.remove_old(tmp_path, 2, Disk())
    assert runs.runs(tmp_path) == [joined[0], joined[3], joined[4]]
    alive.close()
    assert runs.runs(tmp_path / "nowhere") == []


def test_a_new_state_directory_is_private(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "state"
    runs.prepare(folder)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_state_directory_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(StateError, match="other users may write"):
        runs.prepare(tmp_path)


def test_a_file_instead_of_the_state_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StateError, match="cannot be used"):
        runs.prepare(tmp_path / "file")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with pytest.raises(StateError, match="cannot be used"):
        runs.prepare(tmp_path / "link")


def test_a_link_of_ones_own_to_a_directory_of_ones_own_is_used(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "state")
    run = join_run(tmp_path / "link", "1")
    assert runs.runs(tmp_path / "state")[0].name == run.name
    (tmp_path / "state").chmod(0o777)
    with pytest.raises(StateError, match="other users may write"):
        runs.prepare(tmp_path / "link")


@root_only
def test_a_link_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "state")
    os.lchown(tmp_path / "link", 65534, 65534)
    with pytest.raises(StateError, match="another user"):
        runs.prepare(tmp_path / "link")


class _Refusing(Disk):
    """A disk on which the files of one run cannot be removed."""

    def __init__(self, run: Path) -> None:
        self.run = run

    def unlink(self, path: Path) -> None:
        if self.run in path.parents:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        super().unlink(path)


def test_a_run_that_cannot_be_removed_keeps_no_other_from_being_removed(tmp_path: Path) -> None:
    joined = [join_run(tmp_path, f"1.{n}", float(n)) for n in range(5)]
    (sentence,) = runs.remove_old(tmp_path, 2, _Refusing(joined[1]))
    assert str(joined[1]) in sentence and "cannot be removed" in sentence
    assert runs.runs(tmp_path) == [joined[1], *joined[3:]]
    assert runs.remove_old(tmp_path, 2, Disk()) == []
    assert runs.runs(tmp_path) == joined[3:]


def test_a_run_that_another_worker_removes_at_the_same_time_is_no_failure(tmp_path: Path) -> None:
    class Racing(Disk):
        def unlink(self, path: Path) -> None:
            path.unlink()
            path.unlink()

    joined = [join_run(tmp_path, f"1.{n}", float(n)) for n in range(3)]
    assert runs.remove_old(tmp_path, 2, Racing()) == []
    assert joined[0] not in runs.runs(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [("getuid", lambda: 12345, "another user"), ("access", lambda *_: False, "not writable")],
)
def test_a_state_directory_of_another_user_or_without_write_access_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: Callable[..., Any],
    message: str,
) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setattr(os, name, value, raising=False)
    with pytest.raises(StateError, match=message):
        runs.prepare(tmp_path)


def test_a_parent_that_runs_the_same_program_is_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    family = (os.getpid(), os.getppid())
    monkeypatch.setattr(runs, "_is_fork", lambda *_: False)  # the parent may be a forked shell
    monkeypatch.setattr(runs, "_program", lambda p: ("gunicorn",) if p.pid in family else ("init",))
    assert runs.server()[0] == os.getppid()


def test_a_process_that_multiprocessing_spawned_belongs_to_its_parent() -> None:
    own = runs.server()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(runs.server).result(30) == own


def test_a_daemon_process_of_mod_wsgi_belongs_to_its_parent() -> None:
    class Process:
        pid = 0

        def cmdline(self) -> list[str]:
            return ["(wsgi:mill)", "-k", "start"]

    assert runs._belongs_to(Process(), psutil.Process())  # type: ignore[arg-type]


@linux_only
def test_a_fork_belongs_to_its_parent_whatever_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "_program", lambda process: (str(process.pid),))
    own = runs.server()
    assert in_child(runs.server) == list(own)
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert not runs._belongs_to(psutil.Process(other.pid), psutil.Process())
    finally:
        other.communicate(b"\n")
    assert not runs._is_fork(os.getpid(), 1 << 30)


@linux_only
@root_only
def test_a_worker_that_gave_up_root_belongs_to_its_parent_whatever_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runs, "_program", lambda process: (str(process.pid),))
    own = runs.server()

    def as_another_user() -> Any:
        os.setuid(65534)
        return runs.server()

    assert in_child(as_another_user) == list(own)


@linux_only
def test_where_memory_is_hidden_a_fork_counts_that_kept_name_and_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def hidden(_: int) -> bytes:
        raise PermissionError

    monkeypatch.setattr(runs, "_program", lambda process: (str(process.pid),))
    monkeypatch.setattr(runs, "_auxv", hidden)
    own, pid = runs.server(), os.getpid()

    def in_another_session() -> int:
        os.setsid()
        return runs.server()[0]

    def renamed() -> int:
        Path("/proc/self/comm").write_text("another")
        return runs.server()[0]

    assert in_child(runs.server) == list(own)
    assert in_child(in_another_session) != pid
    assert in_child(renamed) != pid
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert not runs._is_fork(other.pid, pid)
    finally:
        other.communicate(b"\n")
    assert not runs._is_fork(other.pid, pid)


@pytest.mark.parametrize(
    "title", ["uWSGI worker 1", "mill-uWSGI master", "gunicorn: worker [mill]"]
)
@linux_only
def test_the_title_of_a_process_is_read_as_it_is(title: str) -> None:
    process = subprocess.Popen([title], executable=sys.executable, stdin=subprocess.PIPE)
    try:
        started = psutil.Process(process.pid)
        while not started.cmdline():  # empty for a moment while the kernel starts the program
            assert process.poll() is None
        assert runs._program(started) in {("uWSGI ",), ("gunicorn: ",)}
    finally:
        process.communicate(b"")


def test_a_master_that_is_replaced_is_another_server(monkeypatch: pytest.MonkeyPatch) -> None:
    family = (os.getpid(), os.getppid())
    monkeypatch.setattr(runs, "_program", lambda p: ("gunicorn",) if p.pid in family else ("init",))
    monkeypatch.setenv("GUNICORN_PID", str(os.getppid()))
    assert runs.server()[0] == os.getpid()


def test_a_folder_that_is_not_a_run_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "something").mkdir()
    run = join_run(tmp_path, "1")
    assert runs.runs(tmp_path) == [run]


def test_a_state_directory_is_used_on_systems_without_file_owners(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "getuid", raising=False)
    runs.prepare(tmp_path / "state")
    assert (tmp_path / "state").is_dir()
