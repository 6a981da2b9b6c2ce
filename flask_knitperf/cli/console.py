"""What commands in a terminal share: errors as sentences, how wide a line is, JSON or words."""

from __future__ import annotations

import json
import shutil
from typing import Any

import click
from flask import current_app
from flask.cli import AppGroup

from ..core.errors import KnitPerfError
from ..runtime.session import Session

as_json_too = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class Sentences(click.Group):
    """Shows errors of ours as one sentence instead of a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except KnitPerfError as error:
            raise click.ClickException(str(error)) from error


class WithApplication(AppGroup, Sentences):
    """Commands that load the application."""


def width() -> int:
    """Return how many columns a text may have: the terminal's, from 60 to 120."""
    return min(120, max(60, shutil.get_terminal_size((80, 24)).columns))


def session() -> Session:
    """Return the session of the application that a command loaded.

    Raises:
        ClickException: it has no KnitPerf.
    """
    found: Session | None = current_app.extensions.get("knitperf")
    if found is None:
        raise click.ClickException(
            "this application has no KnitPerf; call KnitPerf(app) or perf.init_app(app)"
        )
    return found


def echo(document: Any, as_json: bool, words: str) -> None:
    """Print a document as JSON, or what says it in words."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False) if as_json else words, nl=as_json)
