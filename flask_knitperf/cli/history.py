"""``flask knitperf history …``: figures on the history, its rows, and their removal."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any, TypeVar

import click
from flask.cli import with_appcontext

from ..history import maintenance
from ..history.databases import database
from ..history.resolutions import RESOLUTIONS
from ..history.store import opened
from ..render import history_text
from .console import WithApplication, json_option, print_document, print_text, session

_F = TypeVar("_F", bound=Callable[..., Any])
_AGE = re.compile(r"(\d+)([mhd])")
_SECONDS = {"m": 60, "h": 3600, "d": 86_400}
_BY_NAME = dict(zip(("10s", "1m", "10m", "1h"), RESOLUTIONS, strict=True))


def _seconds(_: click.Context, __: click.Parameter, value: str) -> float:
    """Return a length of time such as ``30d``, ``12h`` or ``5m`` in seconds."""
    match = _AGE.fullmatch(value)
    if match is None:
        raise click.BadParameter(f"{value!r} is not a length of time such as 30d, 12h or 5m")
    return int(match[1]) * _SECONDS[match[2]]


def _moment(context: click.Context, parameter: click.Parameter, value: str) -> float:
    """Return the time that is an age before now, in seconds since the epoch."""
    return time.time() - _seconds(context, parameter, value)


def age_option(*names: str, default: str | None, is_length: bool = False) -> Callable[[_F], _F]:
    """Return an option that takes an age, and passes the time before now that it leads to.

    Args:
        names: of the option.
        default: the age without it; ``None`` requires it.
        is_length: whether to pass the age itself, in seconds.
    """
    return click.option(
        *names, callback=_seconds if is_length else _moment, default=default,
        show_default=default is not None, required=default is None, help="Such as 30d, 12h, 5m.",
    )  # fmt: skip


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
@age_option("--since", default="1h")
@click.option("--slots", type=click.Choice(list(_BY_NAME)), default="1m", show_default=True)
@with_appcontext
def export(since: float, slots: str) -> None:
    """Print rows as JSON, one per line."""
    with opened(database(_url())) as store:
        for row in maintenance.export(store, since, time.time(), _BY_NAME[slots]):
            click.echo(json.dumps(row))


@history.command("prune")
@age_option("--before", default=None)
@click.confirmation_option(prompt="Delete these rows?")
@with_appcontext
def prune(before: float) -> None:
    """Delete all rows that are older than an age."""
    with opened(database(_url())) as store:
        deleted = maintenance.prune(store.connection, before)
    print_text(f"{deleted:,} rows deleted")
