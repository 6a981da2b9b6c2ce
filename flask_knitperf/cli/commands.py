"""``flask knitperf …``: commands that load the application.

No command records a measurement in the state directory: most only read it, ``reset`` sends a command to
the running workers, and ``baseline`` and ``leakhunt`` keep their measurements in memory.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
from flask import Flask, current_app
from flask.cli import with_appcontext

from ..experiments.baseline import Baseline
from ..instrumentation.install import create_credentials
from ..render import terminal, terminal_memory
from ..reports.offline import Offline
from ..storage import commands
from ..web.sign_in import sign_in_link
from .console import WithApplication, json_option, print_document, print_text, session, width
from .experiments import gc_, leakhunt
from .offline import offline
from .reading import (
    endpoint_argument,
    method_option,
    other_window_option,
    previous_option,
    print_memory,
    print_queries,
    print_report,
    print_why,
    window_option,
)

if TYPE_CHECKING:
    from ..reports.documents.baseline import BaselineReport

__all__ = ["knitperf", "offline"]

_RESET_TIMEOUT_S = 3.0
_LISTING_TIMEOUT_S = 15.0
_POLL_S = 0.1


@click.group("knitperf", cls=WithApplication)
def knitperf() -> None:
    """Show what is slow, why, and what to do about it."""


@knitperf.command("open")
@click.option("--url", default="http://127.0.0.1:5000", show_default=True,
              help="Address of the running application.")  # fmt: skip
@with_appcontext
def open_(url: str) -> None:
    """Print a sign-in address that works once, for five minutes."""
    opened = session()
    credentials = create_credentials(opened, opened.settings)
    if credentials.secret() is None:
        raise click.ClickException(
            "KNITPERF_ACCESS_TOKEN is not set, so sign-in is off; set it to a long random secret "
            "(python -c 'import secrets; print(secrets.token_urlsafe(32))'). For a server in debug mode "
            "run: flask --debug knitperf open"
        )
    link = sign_in_link(credentials.key(), opened.settings.url_prefix, time.time())
    click.echo(url.rstrip("/") + link)


@knitperf.command("report")
@window_option
@previous_option
@json_option
@with_appcontext
def report(window: str, against: str | None, as_json: bool) -> None:
    """Show what to fix first, the scorecard, and all endpoints."""
    print_report(_state(), window, against, as_json)


@knitperf.command("why")
@endpoint_argument
@method_option
@window_option
@other_window_option
@json_option
@with_appcontext
def why(endpoint: str, method: str | None, window: str, against: str | None, as_json: bool) -> None:
    """Show why one endpoint is slow: its lines, parts, file reads and slowest requests."""
    print_why(_state(), endpoint, method, window, against, as_json)


@knitperf.command("queries")
@window_option
@json_option
@with_appcontext
def queries(window: str, as_json: bool) -> None:
    """Show SQL statements by total time, and N+1 repeats."""
    print_queries(_state(), window, as_json)


@knitperf.command("memory")
@json_option
@with_appcontext
def memory(as_json: bool) -> None:
    """Show the memory of the workers, its growth, and suspected leaks."""
    print_memory(_state(), as_json)


@knitperf.command("frames")
@click.option("--live", is_flag=True, required=True, help="List those in the workers' memory.")
@json_option
@with_appcontext
def frames(live: bool, as_json: bool) -> None:  # noqa: ARG001
    """List the DataFrames that are alive in every worker."""
    state = _state()
    outcome, alive = _send_to_all(state, "frames", _LISTING_TIMEOUT_S)
    document = state.memory()["live_frames"]
    print_document(document, as_json, terminal_memory.live_frames(document, width()))
    print_text(terminal.commands_done(outcome.done, dict(outcome.failed), alive), err=True)


@knitperf.command("reset")
@with_appcontext
def reset() -> None:
    """Reset the statistics of every worker; no file is deleted."""
    outcome, alive = _send_to_all(_state(), "clear", _RESET_TIMEOUT_S)
    print_text(terminal.commands_done(outcome.done, dict(outcome.failed), alive))


def _state() -> Offline:
    return Offline(session().settings.state_dir)


def _send_to_all(state: Offline, name: str, timeout_s: float) -> tuple[commands.Outcome, list[str]]:
    """Send a command to all workers and wait; return its outcome and the running workers.

    Raises:
        ClickException: no worker is running.
    """
    alive = state.alive()
    if not alive:
        raise click.ClickException(f"no running worker found in {session().settings.state_dir}")
    command = commands.send(state.run, name, time.time())
    ends = time.monotonic() + timeout_s
    while True:
        outcome = commands.outcome(state.run, command)
        if {*outcome.done, *outcome.failed} >= set(alive) or time.monotonic() > ends:
            return outcome, alive
        time.sleep(_POLL_S)


@knitperf.command("baseline")
@click.option("--times", type=click.IntRange(1, 10_000), default=20, show_default=True,
              help="Requests to each endpoint.")  # fmt: skip
@click.option("--output", type=click.Path(dir_okay=False), default="knitperf-baseline.json",
              show_default=True, help="File to write the report to.")  # fmt: skip
@json_option
@with_appcontext
def baseline(times: int, output: str, as_json: bool) -> None:
    """Call every GET that needs no parameter in this process, and save the report."""
    loaded = session()
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    measured = Baseline(loaded, app.wsgi_app).run(times)
    document: BaselineReport = {**measured.report, "needs_parameters": measured.skipped}
    try:
        Path(output).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"{output} cannot be written: {error.strerror}") from error
    text = terminal.report(measured.report, width())
    if measured.skipped:
        names = "\n".join(measured.skipped)
        text += f"\nNOT CALLED, AS THEY NEED PARAMETERS\n\n{names}\n"
    print_document(document, as_json, text)
    print_text(f"saved to {output}", err=True)


knitperf.add_command(leakhunt)
knitperf.add_command(gc_)
