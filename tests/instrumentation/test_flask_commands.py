"""The application's commands as jobs."""

from __future__ import annotations

import gc
import sys
import weakref
from typing import Any

import click
import pytest
from flask import Flask
from flask.cli import AppGroup

from flask_knitperf import KnitPerf


def jobs(mill: Any) -> dict[str, tuple[int, dict[str, int]]]:
    """Return runs and failures of jobs, by name."""
    return {row["name"]: (row["runs"], row["failures"]) for row in mill.report()["jobs"]}


def test_a_command_is_a_job_with_its_parts(quiet: Any) -> None:
    @quiet.app.cli.command("nightly")
    @click.argument("name")
    def nightly(name: str) -> None:
        with quiet.perf.section("load"):
            click.echo(f"loaded {name}")

    result = quiet.app.test_cli_runner().invoke(args=["nightly", "yarn"])
    assert (result.exit_code, result.output) == (0, "loaded yarn\n")
    (row,) = quiet.report()["jobs"]
    assert (row["name"], row["runs"], row["parts"][0]["name"]) == ("nightly", 1, "section:load")


def test_commands_of_groups_carry_the_names_of_both(quiet: Any) -> None:
    group = AppGroup("stock")
    quiet.app.cli.add_command(group)
    group.command("count")(lambda: None)
    quiet.app.test_cli_runner().invoke(args=["stock", "count"])
    assert quiet.app.test_cli_runner().invoke(args=["stock", "nowhere"]).exit_code == 2
    assert jobs(quiet) == {"stock count": (1, {})}


@pytest.mark.parametrize(
    ("error", "failures"),
    [(ValueError("x"), {"ValueError": 1}), (click.ClickException("x"), {"ClickException": 1}),
     (SystemExit(1), {"SystemExit": 1}), (SystemExit(0), {}), (click.exceptions.Exit(0), {}),
     (click.Abort(), {"Abort": 1})],
    ids=repr,
)  # fmt: skip
def test_a_command_fails_as_its_exit_code_states(
    quiet: Any, error: BaseException, failures: dict[str, int]
) -> None:
    @quiet.app.cli.command("nightly")
    def nightly() -> None:
        raise error

    quiet.app.test_cli_runner().invoke(args=["nightly"])
    assert jobs(quiet) == {"nightly": (1, failures)}


def test_help_usage_errors_and_unknown_commands_are_no_runs(quiet: Any) -> None:
    quiet.app.cli.command("nightly")(lambda: None)
    runner = quiet.app.test_cli_runner()
    codes = [runner.invoke(args=args).exit_code
             for args in (["nightly", "--help"], ["nightly", "--nonsense"], ["weekly"])]  # fmt: skip
    assert (codes, jobs(quiet)) == ([0, 2, 2], {})


def test_the_commands_of_the_application_are_not_changed(quiet: Any) -> None:
    command = quiet.app.cli.command("nightly")(lambda: None)
    assert quiet.app.cli.commands["nightly"] is command
    quiet.app.test_cli_runner().invoke(args=["nightly"])
    assert not {"invoke", "get_command"} & vars(command).keys()


def test_an_application_and_its_commands_go_with_their_last_reference() -> None:
    gc.disable()
    try:
        app = Flask("mill")
        app.config["TESTING"] = True
        KnitPerf(app)
        cli = weakref.ref(app.cli)
        lookup = app.cli.get_command
        app.cli = AppGroup()
        assert cli() is None
        assert lookup(click.Context(click.Command("x")), "nightly") is None
    finally:
        gc.enable()


@pytest.mark.slow
def test_nothing_is_imported_for_task_queues_that_are_not_used() -> None:
    from tests.runtime.applications import run_python

    code = (
        "import sys; from flask import Flask; from flask_knitperf import KnitPerf;"
        "KnitPerf(Flask('x')); print({'celery', 'rq', 'huey', 'apscheduler'} & sys.modules.keys())"
    )
    assert run_python([code]).stdout.strip() == "set()", sys.version
