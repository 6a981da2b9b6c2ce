"""Commands to the running workers of an application: reset, and warming of the cache."""

from __future__ import annotations

import time
from collections.abc import Collection

import click

from ..core.units import count, percent
from ..render import terminal, warming_text
from ..reports.offline import Offline
from ..storage import commands
from ..storage.warm_progress import Progress, read_progress
from .console import StatusLine, print_text, width

_POLL_S = 0.1
_ANSWER_S = 5.0
"""Seconds within which a worker begins to execute a command."""
_SILENT_S = 120.0
"""Seconds without progress after which a worker is given up."""


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


def warm_all(state: Offline, namespaces: Collection[str], seconds: float | None) -> bool:
    """Have all workers warm their caches, and show the progress; return whether all of it succeeded.

    Raises:
        ClickException: no worker is running.
    """
    alive = state.alive()
    if not alive:
        raise click.ClickException(f"no running worker found in {state.run.parent}")
    arguments = {"namespaces": list(namespaces), "seconds": seconds}
    command = commands.send(state.run, "warm", time.time(), arguments)
    progress = _follow(state, command, alive)
    failed = commands.outcome(state.run, command).failed
    print_text(warming_text.outcome(progress, dict(failed), alive, width()))
    ended = [one for one in progress.values() if one.ended]
    is_complete = len(ended) == len(alive) and not failed
    return is_complete and all(one.total and not one.failed for one in ended)


def _follow(state: Offline, command: commands.Command, alive: list[str]) -> dict[str, Progress]:
    """Show the progress of a command until every worker has ended; return it by worker."""
    line, began, shown = _ProgressLine(), time.monotonic(), None
    latest: dict[str, Progress] = {}
    moved_at = began
    while True:
        now, before = time.monotonic(), dict(latest)
        for worker in alive:
            progress = read_progress(state.run, worker, command.id)
            if progress is not None:
                latest[worker] = progress
        if latest != before:
            moved_at = now
        failed = commands.outcome(state.run, command).failed
        waiting = [
            worker for worker in alive
            if worker not in failed and not (worker in latest and latest[worker].ended)
            and (worker in latest or now - began < _ANSWER_S)
        ]  # fmt: skip
        text = warming_text.bar(latest.values(), width())
        if text != shown:
            line.show(text, latest.values())
            shown = text
        if not waiting or now - moved_at > _SILENT_S or not {*waiting} & {*state.alive()}:
            line.clear()
            return latest
        time.sleep(_POLL_S)


class _ProgressLine(StatusLine):
    """A bar on a terminal; elsewhere a line for each quarter of the way."""

    def __init__(self) -> None:
        super().__init__()
        self._quarters = 0

    def show(self, text: str, progress: Collection[Progress] = ()) -> None:
        """Show the progress."""
        super().show(text)
        done, total = sum(one.done for one in progress), sum(one.total for one in progress)
        quarters = 4 * done // total if total else 0
        if quarters > self._quarters and not self._on_terminal:
            self._quarters = quarters
            print_text(f"{percent(done / total)} of {count(total, 'value')}", err=True)
