"""Commands that replay a request in processes of their own: ``leakhunt`` and ``gc``.

The application is loaded with KnitPerf off, so nothing is recorded anywhere.
"""

from __future__ import annotations

import io
import sys
from typing import Any, Self

import click
from flask.cli import ScriptInfo

from ..core.errors import KnitPerfError
from ..experiments.in_process import Request
from ..experiments.leakhunt import runner
from ..render import gc_trial
from ..render import leakhunt as hunt_text
from .console import as_json_too, echo, width

_LOOKING = 15
"""Seconds for starting two processes and looking at what lives there."""


class Unproved(click.ClickException):
    """A hunt that could not be done: neither a leak nor none."""

    exit_code = 2


@click.command("leakhunt")
@click.argument("url")
@click.option("--requests", type=click.IntRange(40, 100_000),
              help="How many are measured in each of two processes; by default up to 600, as many as "
                   "take less than a minute.")  # fmt: skip
@click.option("--method", default="GET", show_default=True, help="What to send.")
@click.option("--data", help="The body, as JSON or as a form.")
@click.option("--header", "headers", multiple=True, metavar="NAME: VALUE",
              help="A header to send; may be given again.")  # fmt: skip
@click.option("--allow-writes", is_flag=True,
              help="Also methods that change something: each is sent hundreds of times.")  # fmt: skip
@as_json_too
@click.pass_context
def leakhunt(
    ctx: click.Context, url: str, requests: int | None, method: str, data: str | None,
    headers: tuple[str, ...], allow_writes: bool, as_json: bool,
) -> None:  # fmt: skip
    """Replay a request in processes of its own: does it leak, which line, and who holds it?

    URL is a path, or a whole address whose host is sent. Ends with 1 when there is a leak, with 0 when
    there is none, with 2 when it could not be told.
    """
    asked = _asked(url, method.upper(), data, headers)
    if asked.method not in runner.SAFE and not allow_writes:
        raise click.UsageError(
            f"{asked.method} may change something, and it would be sent hundreds of times; "
            "if that is meant, add --allow-writes"
        )
    if runner.phase() is not None:
        runner.serve_phase(ctx.ensure_object(ScriptInfo).load_app, asked, requests)
    try:
        with _Progress() as progress:
            found = runner.hunt(runner.command_line(), progress)
    except KnitPerfError as error:
        raise Unproved(str(error)) from error
    echo(hunt_text.document(asked, found), as_json, hunt_text.text(asked, found, width()))
    ctx.exit(1 if found.leaks else 2 if found.kind == "unproved" else 0)


@click.command("gc")
@click.argument("url")
@click.option("--requests", type=click.IntRange(5, 10_000), default=100, show_default=True,
              help="How many are served in each of 28 blocks.")  # fmt: skip
@click.option("--header", "headers", multiple=True, metavar="NAME: VALUE",
              help="A header to send; may be given again.")  # fmt: skip
@as_json_too
@click.pass_context
def gc_(
    ctx: click.Context, url: str, requests: int, headers: tuple[str, ...], as_json: bool
) -> None:
    """Serve a GET here and now under other settings of the garbage collector: what do they spare?

    KnitPerf is off in this process, and the collector of the running workers stays as it is.
    """
    asked = _asked(url, "GET", None, headers)
    gc_trial.switch_off()
    application = ctx.ensure_object(ScriptInfo).load_app()
    stream = io.StringIO() if as_json else sys.stderr
    with click.progressbar(length=100, label="serving", file=stream) as bar:
        found = gc_trial.tried(application, asked, requests, lambda done: bar.update(round(done)))
    echo(gc_trial.document(asked, found), as_json, gc_trial.text(asked, found, width()))


def _asked(url: str, method: str, data: str | None, headers: tuple[str, ...]) -> Request:
    """Return the request that the words mean."""
    if not url.startswith(("/", "http://", "https://")):
        raise click.UsageError(f"{url!r} is neither a path such as /orders?page=2 nor an address")
    pairs = []
    for header in headers:
        name, colon, value = header.partition(":")
        if not colon or not name.strip():
            raise click.UsageError(f"{header!r} is no header such as 'Accept: text/html'")
        pairs.append((name.strip(), value.strip()))
    return Request(url, method, tuple(pairs), data)


class _Progress:
    """Says how long a hunt takes, and on a terminal how far it is."""

    def __init__(self) -> None:
        self._shows = sys.stderr.isatty()
        self._told = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shows:
            click.echo("\r\x1b[K", nl=False, err=True)

    def __call__(self, phase: str, message: dict[str, Any]) -> None:
        """Take note of a message of a phase."""
        if message["takes"] and not self._told:
            self._told = True
            click.echo(
                f"up to {message['of']:,} requests in each of two processes: at most "
                f"{_LOOKING + 2 * message['takes']:,.0f} s", err=True,
            )  # fmt: skip
        if self._shows:
            part = message["done"] / max(1, message["of"])
            click.echo(f"\r\x1b[K{phase}: {part:.0%}", nl=False, err=True)
