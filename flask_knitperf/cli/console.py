"""Parts that all commands share: errors without a traceback, width of the terminal, text or JSON."""

from __future__ import annotations

import json
import shutil
import sys
from typing import Any, TextIO

import click
from flask import current_app
from flask.cli import AppGroup

from ..core.errors import KnitPerfError
from ..core.printable import printable, printable_lines
from ..runtime.session import Session

MIN_WIDTH = 60
MAX_WIDTH = 120
_ASCII = {"–": "-", "—": "-", "…": "...", "→": "->", "×": "x", "µ": "u", "·": "-", "›": ">",
          "’": "'"}  # fmt: skip
"""Replacements for characters of our texts that a stream's encoding may lack."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class ErrorMessages(click.Group):
    """Group of commands whose errors are printed as one sentence instead of a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except KnitPerfError as error:
            raise click.ClickException(printable_lines(str(error))) from error
        except click.ClickException as error:
            error.message = printable_lines(error.message)  # type: ignore[misc] # keeps its type
            raise


class WithApplication(AppGroup, ErrorMessages):
    """Group of commands that load the application."""


def width() -> int:
    """Return the width of texts in columns: the terminal's, within bounds."""
    return min(MAX_WIDTH, max(MIN_WIDTH, shutil.get_terminal_size((80, 24)).columns))


def session() -> Session:
    """Return the session of the application that a command loaded.

    Raises:
        ClickException: the application has no KnitPerf.
    """
    loaded: Session | None = current_app.extensions.get("knitperf")
    if loaded is None:
        raise click.ClickException(
            "this application has no KnitPerf; call KnitPerf(app) or perf.init_app(app)"
        )
    return loaded


def print_text(text: str, *, err: bool = False) -> None:
    """Print a text without control characters, with characters that the encoding of the output has."""
    shown = encodable(printable_lines(text), _encoding(sys.stderr if err else sys.stdout))
    click.echo(shown, nl=not text.endswith("\n"), err=err)


def print_document(document: Any, as_json: bool, text: str) -> None:
    """Print a document as JSON, or its text."""
    if not as_json:
        print_text(text)
        return
    shown = printable(document)
    lines = json.dumps(shown, indent=2, ensure_ascii=False)
    complete = encodable(lines, _encoding(sys.stdout)) == lines
    click.echo(lines if complete else json.dumps(shown, indent=2))


def encodable(text: str, encoding: str) -> str:
    """Return a text in which characters that an encoding lacks are replaced by similar ones."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return "".join(_encodable_character(character, encoding) for character in text)
    return text


def _encodable_character(character: str, encoding: str) -> str:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return _ASCII.get(character, "?")
    return character


def _encoding(stream: TextIO) -> str:
    return getattr(stream, "encoding", None) or "utf-8"
