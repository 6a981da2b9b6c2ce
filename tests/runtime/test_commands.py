"""Commands: acknowledged by every worker, executed once, at once where there is one process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flask_knitperf import KnitPerfError
from flask_knitperf.storage.commands import outcome

from .applications import counts, run_of, without_thread


@pytest.fixture
def pair(make_app: Callable[..., Any]) -> tuple[Any, Any]:
    """Return two workers of one application, without threads."""
    one, two = without_thread(make_app()), without_thread(make_app())
    one.get("/"), two.get("/"), two.get("/")
    return one, two


def execute(pair: tuple[Any, Any], name: str) -> Any:
    """Submit a command to two workers; return its outcome."""
    command = pair[0].session.commands.submit(name)
    for mill in pair:
        mill.session.commands.process()
    return outcome(run_of(pair[0]), command)


@pytest.mark.parametrize("name", ["clear", "collect"])
def test_a_command_is_acknowledged_by_every_worker(pair: tuple[Any, Any], name: str) -> None:
    result = execute(pair, name)
    assert set(result.done) == {mill.session.recorder.worker.name for mill in pair}
    assert not result.failed


def test_clear_resets_all_windows_in_every_worker(pair: tuple[Any, Any]) -> None:
    execute(pair, "clear")
    pair[1].get("/")
    assert [counts(mill, name) for mill in pair for name in ("5m", "run")] == [{"index": 1}] * 4


def test_collect_is_reported_for_every_worker(pair: tuple[Any, Any]) -> None:
    execute(pair, "collect")
    steps = pair[0].session.documents.memory()["housekeeper"]
    assert {row["worker"] for row in steps} == {m.session.recorder.worker.name for m in pair}
    assert {row["why"].partition(";")[0] for row in steps} == {"requested"}


def test_a_command_is_executed_once(pair: tuple[Any, Any]) -> None:
    execute(pair, "collect")
    for mill in pair:
        mill.session.commands.process()
    assert len(pair[0].session.documents.memory()["housekeeper"]) == 2


def test_a_worker_that_fails_reports_the_error(
    pair: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(why: str) -> None:
        raise RuntimeError("no memory left")

    monkeypatch.setattr(pair[1].session.memory_jobs.collector, "collect", fail)
    result = execute(pair, "collect")
    assert len(result.done) == 1 and list(result.failed.values()) == ["no memory left"]


def test_a_new_worker_ignores_earlier_commands(
    make_app: Callable[..., Any], pair: tuple[Any, Any]
) -> None:
    command = pair[0].session.commands.submit("collect")
    late = without_thread(make_app())
    late.get("/")
    late.session.commands.process(), late.session.commands.process()
    assert outcome(run_of(late), command).done == ()


def test_malformed_commands_are_skipped(pair: tuple[Any, Any]) -> None:
    with (run_of(pair[0]) / "commands.log").open("ab") as file:
        file.write(b'\xff\xfe\n[]\n{"do": "fail", "id": "x"}\n{"do": ["clear"]}\n{"half": \n')
    assert len(execute(pair, "collect").done) == 2


def test_an_unknown_command_is_an_error(quiet: Any) -> None:
    with pytest.raises(KnitPerfError, match="there are collect, clear"):
        quiet.session.commands.submit("fail")


@pytest.mark.parametrize("name", ["clear", "collect"])
def test_in_memory_a_command_is_executed_at_once(quiet: Any, name: str) -> None:
    quiet.get("/")
    assert quiet.session.commands.submit(name) is None
    assert counts(quiet) == ({} if name == "clear" else {"index": 1})
