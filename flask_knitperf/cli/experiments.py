"""Commands that replay a request in separate processes: ``leakhunt`` and ``gc``.

The application is loaded with KnitPerf off, so nothing is recorded anywhere.
"""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, Self

import click
from flask.cli import ScriptInfo

from ..core.errors import KnitPerfError
from ..core.units import count, duration, percent, plain
from ..experiments import gc_replay
from ..experiments.in_process import Request
from ..experiments.leakhunt import runner
from ..render import gc_trial
from ..render import leakhunt as leakhunt_text
from .console import StatusLine, json_option, print_document, reserve_stdout, width

if TYPE_CHECKING:
    from ..experiments.leakhunt.runner import PhaseProgress

_STARTUP_S = 15
"""Seconds to start two processes and to inspect the objects that live in them."""
_LEAK = 1
_UNPROVED = 2
_header_option = click.option(
    "--header",
    "headers",
    multiple=True,
    metavar="NAME: VALUE",
    help="Header to send; may be repeated.",
)


class Unproved(click.ClickException):
    """A hunt that failed: neither a leak nor none."""

    exit_code = _UNPROVED


@click.command("leakhunt")
@click.argument("url")
@click.option("--requests", type=click.IntRange(40, 100_000),
              help="Requests measured in each of two processes; by default up to 600, as many as take "
                   "less than a minute.")  # fmt: skip
@click.option("--method", default="GET", show_default=True, help="HTTP method.")
@click.option("--data", help="Body, as JSON or as a form.")
@_header_option
@click.option("--allow-writes", is_flag=True,
              help="Allow methods that change data; they are sent hundreds of times.")  # fmt: skip
@json_option
@click.pass_context
def leakhunt(
    ctx: click.Context, url: str, requests: int | None, method: str, data: str | None,
    headers: tuple[str, ...], allow_writes: bool, as_json: bool,
) -> None:  # fmt: skip
    """Replay a request in separate processes to find leaks: which line, and what holds the memory.

    URL is a path, or a whole address whose host is sent. The exit code is 1 for a leak, 0 for none, and
    2 if the replay proved neither.
    """
    request = _request(url, method.upper(), data, headers)
    if request.method not in runner.SAFE_METHODS and not allow_writes:
        raise click.UsageError(
            f"{request.method} may change data, and it would be sent hundreds of times; "
            "if that is intended, add --allow-writes"
        )
    if runner.phase() is not None:
        channel = reserve_stdout(ctx)
        runner.serve_phase(ctx.ensure_object(ScriptInfo).load_app, request, requests, channel)
    try:
        with _Progress() as progress:
            hunt = runner.hunt(runner.command_line(), progress)
    except KnitPerfError as error:
        raise Unproved(str(error)) from error
    document, text = (
        leakhunt_text.document(request, hunt),
        leakhunt_text.text(request, hunt, width()),
    )
    print_document(document, as_json, text)
    ctx.exit(_LEAK if hunt.leaks else _UNPROVED if hunt.kind == "unproved" else 0)


@click.command("gc")
@click.argument("url")
@click.option("--requests", type=click.IntRange(5, 10_000), default=100, show_default=True,
              help="Requests in each of 28 blocks.")  # fmt: skip
@_header_option
@json_option
@click.pass_context
def gc_(
    ctx: click.Context, url: str, requests: int, headers: tuple[str, ...], as_json: bool
) -> None:
    """Serve a GET under other settings of the garbage collector, and measure what they save.

    It is served in this process, with KnitPerf off; the running workers are not affected.
    """
    request = _request(url, "GET", None, headers)
    gc_replay.switch_off()
    application = ctx.ensure_object(ScriptInfo).load_app()
    stream = io.StringIO() if as_json else sys.stderr
    with click.progressbar(length=100, label="serving", file=stream) as bar:
        trial = gc_replay.replay(
            application, request, requests, lambda done: bar.update(round(done))
        )
    document, text = gc_trial.document(request, trial), gc_trial.text(request, trial, width())
    print_document(document, as_json, text)


def _request(url: str, method: str, data: str | None, headers: tuple[str, ...]) -> Request:
    """Return the request that the arguments describe.

    Raises:
        UsageError: the URL or a header is malformed.
    """
    if not url.startswith(("/", "http://", "https://")):
        raise click.UsageError(f"{url!r} is neither a path such as /orders?page=2 nor an address")
    pairs = []
    for header in headers:
        name, colon, value = header.partition(":")
        if not colon or not name.strip():
            raise click.UsageError(f"{header!r} is not a header such as 'Accept: text/html'")
        pairs.append((name.strip(), value.strip()))
    return Request(url, method, tuple(pairs), data)


class _Progress:
    """Prints the expected duration of a hunt, and on a terminal its progress."""

    def __init__(self) -> None:
        self._line = StatusLine()
        self._announced = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._line.clear()

    def __call__(self, phase: str, message: PhaseProgress) -> None:
        """Print the progress of a phase."""
        if message["takes"] and not self._announced:
            self._announced = True
            longest = duration(1000 * (_STARTUP_S + 2 * message["takes"]))
            requests = count(message["of"], "request")
            text = f"up to {requests} in each of two processes: at most {longest}"
            click.echo(plain(text), err=True)
        self._line.show(f"{phase}: {percent(message['done'] / max(1, message['of']))}")
