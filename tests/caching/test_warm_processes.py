"""Processes begin with the values of those before them, and load one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .fork_server import ForkServer, Process

pytestmark = pytest.mark.slow
BEGIN = "client.get('/')\nwait_until(lambda: statistics()['warmed'] >= {})"


class Host:
    """Processes with one state directory."""

    def __init__(self, server: ForkServer, folder: Path) -> None:
        self._server, self._folder = server, folder
        self.log = folder / "log"
        self.log.touch()

    def start(self, *statements: str) -> Process:
        environment = {"STATE": str(self._folder / "state"), "LOG": str(self.log)}
        return self._server.start(statements, environment, self._folder)

    def run(self, *statements: str) -> str:
        """Return the output of a process that runs some statements."""
        process = self.start(*statements)
        output = process.communicate()
        assert process.returncode == 0, output
        return output

    def loads(self) -> list[str]:
        """Return the styles that were loaded since the last call, in order."""
        lines = self.log.read_text().split("\n")
        self.log.write_text("")
        return [line.removeprefix("begin ") for line in lines if line.startswith("begin")]


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    server = ForkServer(Path(__file__).with_name("warming_app.py"))
    yield server
    server.close()


@pytest.fixture
def host(server: ForkServer, tmp_path: Path) -> Host:
    return Host(server, tmp_path)


def test_a_restarted_process_answers_from_the_cache(host: Host) -> None:
    host.run("use('/total/a', '/total/b')")
    assert sorted(host.loads()) == ["a", "b"]
    check = "use('/total/a', '/total/b')\nprint(statistics()['misses'], statistics()['hits'])"
    assert host.run(BEGIN.format(2), check) == "0 6"
    assert sorted(host.loads()) == ["a", "b"]


def test_the_record_of_a_process_that_was_killed_is_used(host: Host) -> None:
    process = host.start("use('/total/a')\nsession.warming.save()\nnote('saved')\ntime.sleep(60)")
    while "saved" not in host.log.read_text():
        pass
    process.kill()
    host.loads()
    host.run(BEGIN.format(1))
    assert host.loads() == ["a"]


def test_a_value_for_all_processes_is_loaded_by_one_of_them(host: Host) -> None:
    host.run("use('/frame/a')\nsession.warming.save()\nperf.cache.clear()")
    host.loads()
    processes = [host.start(BEGIN.format(1) + "\nprint(len(frame('a')))") for _ in range(3)]
    assert [process.communicate() for process in processes] == ["1000"] * 3
    assert host.loads() == ["a"]


def test_one_process_loads_at_a_time(host: Host) -> None:
    paths = ", ".join(f"'/total/{style}'" for style in "abcdef")
    host.run(f"use({paths})")
    host.log.write_text("")
    processes = [host.start(BEGIN.format(6)) for _ in range(3)]
    assert [process.communicate() for process in processes] == [""] * 3
    lines = host.log.read_text().split("\n")[:-1]
    assert len(lines) == 36
    assert all(one.startswith("begin") and two == one.replace("begin", "end")
               for one, two in zip(lines[::2], lines[1::2], strict=True))  # fmt: skip
