"""``flask knitperf …``: commands that load the application.

No command records a measurement in the state directory: most only read it, ``reset`` sends a command to
the running workers, and ``baseline`` and ``leakhunt`` keep their measurements in memory.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click
from flask import Flask, current_app
from flask.cli import with_appcontext

from ..experiments.baseline import Baseline
from ..instrumentation.install import create_credentials
from ..render import terminal
from ..reports.offline import Offline
from ..web.sign_in import sign_in_link
from .alerts import alerts
from .console import (
    WithApplication,
    json_flag,
    json_option,
    output_option,
    print_document,
    print_text,
    session,
    width,
)
from .experiments import gc_, leakhunt
from .frames import frames
from .history import history
from .offline import offline
from .reading import (
    all_option,
    endpoint_argument,
    method_option,
    other_window_option,
    previous_option,
    print_cache,
    print_memory,
    print_queries,
    print_report,
    print_why,
    window_option,
)
from .workers import send_to_all, warm_all

if TYPE_CHECKING:
    from ..reports.documents.baseline import BaselineReport

__all__ = ["knitperf", "offline"]

_RESET_TIMEOUT_S = 3.0


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
    secret = create_credentials(opened, opened.settings).read()
    if secret.text is None:
        raise click.ClickException(
            "KNITPERF_ACCESS_TOKEN is not set, so sign-in is off; set it to a long random secret "
            "(python -c 'import secrets; print(secrets.token_urlsafe(32))'). For a server in debug mode "
            "run: flask --debug knitperf open"
        )
    prefix, origin = opened.settings.url_prefix, opened.revocations.origin()
    link = sign_in_link(secret.key, prefix, time.time(), origin)
    click.echo(url.rstrip("/") + link)


@knitperf.command("report")
@window_option
@previous_option
@json_option
@all_option
@with_appcontext
def report(window: str, against: str | None, as_json: bool, everything: bool) -> None:
    """Show what to fix first, the scorecard, and all endpoints."""
    print_report(_state(), window, against, as_json, everything=everything)


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


@knitperf.group("cache", invoke_without_command=True)
@window_option
@json_option
@click.pass_context
@with_appcontext
def cache(context: click.Context, window: str, as_json: bool) -> None:
    """Show what the cache saves, why look-ups missed, and what is not cached."""
    if context.invoked_subcommand is None:
        print_cache(_state(), window, as_json)


@cache.command("warm")
@click.option("--seconds", type=click.FloatRange(0, 3600, min_open=True),
              help="Time of loading by worker; by default KNITPERF_CACHE_WARM_SECONDS.")  # fmt: skip
@click.argument("namespaces", nargs=-1, metavar="[NAMESPACE]...")
@click.pass_context
@with_appcontext
def warm(context: click.Context, seconds: float | None, namespaces: tuple[str, ...]) -> None:
    """Have every worker load the most valuable values of functions with warm=True.

    The exit code is 1 if a worker did not end, a load raised, or there was nothing to load.
    """
    if not warm_all(_state(), namespaces, seconds):
        context.exit(1)


@knitperf.command("memory")
@json_option
@with_appcontext
def memory(as_json: bool) -> None:
    """Show the memory of the workers, its growth, and suspected leaks."""
    print_memory(_state(), as_json)


@knitperf.command("reset")
@with_appcontext
def reset() -> None:
    """Reset the statistics of every worker; no file is deleted."""
    print_text(send_to_all(_state(), "clear", _RESET_TIMEOUT_S))


def _state() -> Offline:
    loaded = session()
    return Offline(loaded.settings.state_dir, past=loaded.history)


@knitperf.command("baseline")
@click.option("--times", type=click.IntRange(1, 10_000), default=20, show_default=True,
              help="Requests to each endpoint.")  # fmt: skip
@output_option("knitperf-baseline.json")
@json_flag
@with_appcontext
def baseline(times: int, as_json: bool) -> None:
    """Call every GET that needs no parameter in this process, and save the report."""
    loaded = session()
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    measured = Baseline(loaded, app.wsgi_app).run(times)
    document: BaselineReport = {**measured.report, "needs_parameters": measured.skipped}
    text = terminal.report(measured.report, width())
    if measured.skipped:
        names = "\n".join(measured.skipped)
        text += f"\nNOT CALLED, AS THEY NEED PARAMETERS\n\n{names}\n"
    print_document(document, as_json, text)


knitperf.add_command(frames)
knitperf.add_command(alerts)
knitperf.add_command(history)
knitperf.add_command(leakhunt)
knitperf.add_command(gc_)
