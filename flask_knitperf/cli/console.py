"""Parts that all commands share: errors without a traceback, width of the terminal, text or JSON.

JSON is alone on the standard output: what the application prints there while it is imported, and later,
goes to the standard error (:func:`reserve_stdout`).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO, TypeVar

import click
from flask import current_app
from flask.cli import AppGroup

from ..core.errors import KnitPerfError
from ..core.printable import printable, printable_lines
from ..core.units import plain
from ..runtime.session import Session

_Command = TypeVar("_Command", bound=Callable[..., Any])

MIN_WIDTH = 60
MAX_WIDTH = 120
_ASCII = {"–": "-", "—": "-", "…": "...", "→": "->", "×": "x", "µ": "u", "·": "-", "›": ">",
          "’": "'"}  # fmt: skip
"""Replacements for characters of our texts that a stream's encoding may lack."""

_PROGRAMS = ("flask", "python -m flask", "python -m flask_knitperf")
"""Names of the programs that run one command and end."""
_STDOUT = f"{__name__}.stdout"
"""Key of the reserved standard output in the context of a command."""
_OUTPUT = f"{__name__}.output"
"""Key of the path to which the context of a command writes JSON."""


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


class StatusLine:
    """Line on the standard error that is replaced by the next one; on a terminal only."""

    def __init__(self) -> None:
        self._on_terminal = sys.stderr is not None and sys.stderr.isatty()

    def show(self, text: str) -> None:
        """Replace the line."""
        if self._on_terminal:
            line = printable(plain(text))[: width() - 1]
            click.echo(f"\r\x1b[K{encodable(line, _encoding(sys.stderr))}", nl=False, err=True)

    def clear(self) -> None:
        """Remove the line, so that other output may follow."""
        if self._on_terminal:
            click.echo("\r\x1b[K", nl=False, err=True)


def reserve_stdout(ctx: click.Context) -> TextIO:
    """Return the standard output for a document alone; all other output goes to the standard error.

    That holds for prints of the application, its extension modules and its child processes. In a program
    that runs nothing but the command it lasts until the process ends, since the application may print
    then, too; any other process that calls the command gets its standard output back.
    """
    reserved: TextIO | None = ctx.meta.get(_STDOUT)
    if reserved is None:
        is_program = ctx.find_root().info_name in _PROGRAMS
        reserved = ctx.with_resource(_reserved_stdout(restore=not is_program))
        ctx.meta[_STDOUT] = reserved
    return reserved


@contextlib.contextmanager
def _reserved_stdout(*, restore: bool) -> Iterator[TextIO]:
    stream = sys.stdout
    if stream is not sys.__stdout__ or stream is None or stream.fileno() != 1:
        with contextlib.redirect_stdout(sys.stderr):  # nothing but Python code writes to this one
            yield stream
        return
    stream.flush()
    original = os.dup(1)
    _redirect(1)
    try:
        with open(
            original, "w", encoding=stream.encoding, errors=stream.errors, closefd=False
        ) as own:
            yield own
    finally:
        stream.flush()
        if restore:
            os.dup2(original, 1)
        os.close(original)


def _redirect(descriptor: int) -> None:
    """Redirect a descriptor to the standard error, or to nowhere if that is closed."""
    if sys.stderr is not None:
        os.dup2(2, descriptor)
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def output_path(ctx: click.Context) -> Path | None:
    """Return the path of ``--output``, ``None`` without one."""
    path: Path | None = ctx.meta.get(_OUTPUT)
    return path


def _reserve_for_json(ctx: click.Context, _: click.Parameter, as_json: bool) -> bool:
    if as_json and not ctx.resilient_parsing:
        reserve_stdout(ctx)
    return as_json


def _remember_output(ctx: click.Context, _: click.Parameter, path: Path | None) -> None:
    if path is not None and not ctx.resilient_parsing:
        if not path.parent.is_dir():
            raise click.BadParameter(f"the folder {str(path.parent)!r} does not exist")
        ctx.meta[_OUTPUT] = path


json_flag = click.option(
    "--json",
    "as_json",
    is_flag=True,
    callback=_reserve_for_json,
    help="Print JSON instead of text.",
)


def output_option(default: str | None = None) -> Callable[[_Command], _Command]:
    """Return the option ``--output`` of a command, a file for its JSON."""
    return click.option(
        "-o", "--output", type=click.Path(dir_okay=False, writable=True, path_type=Path),
        callback=_remember_output, expose_value=False, default=default,
        show_default=default is not None, help="File to write the JSON to.",
    )  # fmt: skip


def json_option(command: _Command) -> _Command:
    """Add the options for JSON to a command: ``--json`` and ``--output``."""
    return json_flag(output_option()(command))


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
    """Print a document as JSON, or its text; write it to the file of ``--output`` as well.

    Raises:
        ClickException: the file cannot be written.
    """
    context = click.get_current_context()
    path = output_path(context)
    shown = printable(document) if as_json or path is not None else None
    if path is not None:
        try:
            path.write_text(json.dumps(shown, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise click.ClickException(f"{path} cannot be written: {error.strerror}") from error
    if not as_json:
        print_text(text)
    else:
        stream = reserve_stdout(context)
        lines = json.dumps(shown, indent=2, ensure_ascii=False)
        complete = encodable(lines, _encoding(stream)) == lines
        click.echo(lines if complete else json.dumps(shown, indent=2), file=stream)
    if path is not None:
        print_text(f"saved to {path}", err=True)


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
