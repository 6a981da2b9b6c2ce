"""``flask knitperf history …``: figures on the history, its rows, and their removal."""

from __future__ import annotations

import json
import re
import time

import click
from flask.cli import with_appcontext

from ..history import maintenance
from ..history.databases import database
from ..history.resolutions import RESOLUTIONS
from ..history.store import opened
from ..render import history_text
from .console import WithApplication, json_option, print_document, print_text, session

_AGE = re.compile(r"(\d+)([mhd])")
_SECONDS = {"m": 60, "h": 3600, "d": 86_400}
_BY_NAME = {"10s": RESOLUTIONS[0], "1m": RESOLUTIONS[1], "1h": RESOLUTIONS[2]}


def _moment(_: click.Context, __: click.Parameter, value: str) -> float:
    """Return the time that is an age (``30d``, ``12h``, ``5m``) before now, as seconds of the epoch."""
    match = _AGE.fullmatch(value)
    if match is None:
        raise click.BadParameter(f"{value!r} is not an age such as 30d, 12h or 5m")
    return time.time() - int(match[1]) * _SECONDS[match[2]]


@click.group("history", cls=WithApplication)
def history() -> None:
    """Show, export or prune what was measured in the past."""


def _url() -> str:
    settings = session().settings
    if not settings.history:
        raise click.ClickException("this application keeps no history: KNITPERF_HISTORY is False")
    return settings.history_url


@history.command("stats")
@json_option
@with_appcontext
def stats(as_json: bool) -> None:
    """Show where the history is, how large it is, and how far back it goes."""
    chosen = database(_url())
    with opened(chosen) as store:
        document = maintenance.stats(store.connection, chosen.name)
    print_document(document, as_json, history_text.stats(document))


@history.command("export")
@click.option("--since", callback=_moment, default="1h", show_default=True,
              help="Such as 30d, 12h, 5m.")  # fmt: skip
@click.option("--slots", type=click.Choice(list(_BY_NAME)), default="1m", show_default=True)
@with_appcontext
def export(since: float, slots: str) -> None:
    """Print rows as JSON, one per line."""
    with opened(database(_url())) as store:
        for row in maintenance.export(store, since, time.time(), _BY_NAME[slots]):
            click.echo(json.dumps(row))


@history.command("prune")
@click.option("--before", callback=_moment, required=True, help="Such as 30d, 12h, 5m.")
@click.confirmation_option(prompt="Delete these rows?")
@with_appcontext
def prune(before: float) -> None:
    """Delete all rows that are older than an age."""
    with opened(database(_url())) as store:
        deleted = maintenance.prune(store.connection, before)
    print_text(f"{deleted:,} rows deleted")
