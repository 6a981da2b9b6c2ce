"""The application's own commands (``app.cli``) as jobs.

Commands of ``flask`` itself and of other packages are found elsewhere and stay as they are. A command is
copied when it is looked up, so the application's object is not changed.
"""

from __future__ import annotations

import copy
import functools
import weakref

import click
from flask import Flask

from ..collectors.jobs.jobs import run
from ..recording.recorder import Recorder

_OURS = f"{__package__.partition('.')[0]}."  # our commands read: none of them is a job


def record_commands(app: Flask, recorder: Recorder) -> None:
    """Record each command that is found through ``app.cli`` as a job.

    Args:
        app: the application.
        recorder: of the application.
    """
    group = weakref.ref(app.cli)  # weak: no cycle, so both go with their last reference
    lookup = type(app.cli).get_command

    def get_command(context: click.Context, name: str) -> click.Command | None:
        cli = group()
        command = None if cli is None else lookup(cli, context, name)
        if command is None or type(command).__module__.startswith(_OURS):
            return command
        return _recorded(command, recorder, (name,))

    vars(app.cli)["get_command"] = get_command


def _recorded(command: click.Command, recorder: Recorder, names: tuple[str, ...]) -> click.Command:
    """Return a copy of a command that records its runs; of a group, one whose commands do."""
    recorded = copy.copy(command)
    if isinstance(command, click.Group):
        get_command = command.get_command

        def inner(context: click.Context, name: str) -> click.Command | None:
            subcommand = get_command(context, name)
            return subcommand and _recorded(subcommand, recorder, (*names, name))

        vars(recorded)["get_command"] = inner
        return recorded
    invoke, job = command.invoke, " ".join(names)

    @functools.wraps(invoke)
    def invoked(context: click.Context) -> object:
        with run(recorder, job):
            return invoke(context)

    vars(recorded)["invoke"] = invoked
    return recorded
