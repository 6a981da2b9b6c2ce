"""Commands to the running workers of an application."""

from __future__ import annotations

import time

import click

from ..render import terminal
from ..reports.offline import Offline
from ..storage import commands

_POLL_S = 0.1


def send_to_all(state: Offline, name: str, timeout_s: float) -> str:
    """Send a command to all workers and wait; return the number of those that executed it as text.

    Raises:
        ClickException: no worker is running.
    """
    alive = state.alive()
    if not alive:
        raise click.ClickException(f"no running worker found in {state.run.parent}")
    command = commands.send(state.run, name, time.time())
    ends = time.monotonic() + timeout_s
    while True:
        outcome = commands.outcome(state.run, command)
        if {*outcome.done, *outcome.failed} >= set(alive) or time.monotonic() > ends:
            return terminal.commands_done(outcome.done, dict(outcome.failed), alive)
        time.sleep(_POLL_S)
