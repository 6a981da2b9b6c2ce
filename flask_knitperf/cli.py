"""The terminal: ``flask knitperf …`` with the application, ``python -m flask_knitperf …`` without it.

Nothing here records a measurement into the application's state: reading is reading, ``reset`` asks
the running workers, and ``baseline`` and ``leakhunt`` keep what they measure in their own memory.
"""

from __future__ import annotations

import io
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any, Self

import click
from flask import Flask, current_app
from flask.cli import AppGroup, ScriptInfo, with_appcontext

from .api import text
from .api.baseline import Baseline
from .api.offline import Offline
from .api.serving import Request
from .api.session import Session
from .core import commands
from .core.errors import KnitPerfError
from .core.windows import NAMES
from .web.guard import sign_in_link

_WINDOW = click.Choice(NAMES)
_PATIENCE, _PATIENT = 3.0, 15.0
_LOOKING = 15
"""Seconds for starting two processes and looking at what lives there."""


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


def _width() -> int:
    return min(120, max(60, shutil.get_terminal_size((80, 24)).columns))


def _session() -> Session:
    found: Session | None = current_app.extensions.get("knitperf")
    if found is None:
        raise click.ClickException(
            "this application has no KnitPerf; call KnitPerf(app) or perf.init_app(app)"
        )
    return found


def _echo(document: Any, as_json: bool, words: str) -> None:
    click.echo(json.dumps(document, indent=2, ensure_ascii=False) if as_json else words, nl=as_json)


def _report(read: Offline, window: str, against: str | None, as_json: bool) -> None:
    if against:
        rows = read.against(window, against)
        _echo(rows, as_json, text.comparison(rows, _width()))
        return
    document = read.report(window)
    _echo(document, as_json, text.report(document, _width()))


def _queries(read: Offline, window: str, as_json: bool) -> None:
    document = read.queries(window)
    _echo(document, as_json, text.queries(document, _width()))


def _memory(read: Offline, as_json: bool) -> None:
    document = read.memory()
    _echo(document, as_json, text.memory(document, _width()))


def _why(
    read: Offline,
    endpoint: str,
    method: str | None,
    window: str,
    against: str | None,
    as_json: bool,
) -> None:
    document = read.why(endpoint, method, window, against)
    _echo(document, as_json, text.why(document, _width()))


_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_window = click.option("--window", type=_WINDOW, default="1h", show_default=True)
_against = click.option(
    "--against", type=click.Choice(["previous"]), help="Compare with the previous run."
)
_other = click.option("--against", type=_WINDOW, help="Compare its lines with another window.")
_endpoint = click.argument("endpoint")
_method = click.option("--method", help="One method of it; by default the one that took most time.")
_state = click.option(
    "--state", type=click.Path(file_okay=False), required=True, help="The state directory."
)


# -- with the application ----------------------------------------------------------------------------


@click.group("knitperf", cls=WithApplication)
def knitperf() -> None:
    """What is slow, why, and what to do about it."""


@knitperf.command("open")
@click.option("--url", default="http://127.0.0.1:5000", show_default=True,
              help="Where the application answers.")  # fmt: skip
@with_appcontext
def open_(url: str) -> None:
    """Print a sign-in address that works once, for five minutes."""
    settings = _session().settings
    if settings.access_token is None:
        raise click.ClickException(
            "KNITPERF_ACCESS_TOKEN is not set, so nobody can sign in; set it to a long random "
            "secret (python -c 'import secrets; print(secrets.token_urlsafe(32))')"
        )
    link = sign_in_link(settings.access_token, settings.url_prefix, time.time())
    click.echo(url.rstrip("/") + link)


@knitperf.command("report")
@_window
@_against
@_json
@with_appcontext
def report(window: str, against: str | None, as_json: bool) -> None:
    """Show what the workers measured."""
    _report(Offline(_session().settings.state_dir), window, against, as_json)


@knitperf.command("why")
@_endpoint
@_method
@_window
@_other
@_json
@with_appcontext
def why(endpoint: str, method: str | None, window: str, against: str | None, as_json: bool) -> None:
    """Show why one endpoint is slow: its lines, parts, file reads and slowest requests."""
    _why(Offline(_session().settings.state_dir), endpoint, method, window, against, as_json)


@knitperf.command("queries")
@_window
@_json
@with_appcontext
def queries(window: str, as_json: bool) -> None:
    """Show what databases are asked: statements by the time they take, and what repeats."""
    _queries(Offline(_session().settings.state_dir), window, as_json)


@knitperf.command("memory")
@_json
@with_appcontext
def memory(as_json: bool) -> None:
    """Show the workers' memory."""
    _memory(Offline(_session().settings.state_dir), as_json)


@knitperf.command("frames")
@click.option("--live", is_flag=True, required=True, help="Those in the memory of the workers.")
@_json
@with_appcontext
def frames(live: bool, as_json: bool) -> None:  # noqa: ARG001
    """List the DataFrames that are alive in every worker."""
    read = Offline(_session().settings.state_dir)
    result, alive = _ask_all(read, "frames", _PATIENT)
    document = read.memory()["live_frames"]
    _echo(document, as_json, text.live_frames(document, _width()))
    click.echo(text.commands_done(result.done, dict(result.failed), alive), err=True)


@knitperf.command("reset")
@with_appcontext
def reset() -> None:
    """Begin counting anew in every worker; nothing is deleted."""
    result, alive = _ask_all(Offline(_session().settings.state_dir), "clear", _PATIENCE)
    click.echo(text.commands_done(result.done, dict(result.failed), alive))


def _ask_all(read: Offline, name: str, patience: float) -> tuple[commands.Outcome, list[str]]:
    """Ask all workers to do something and wait for them; return who did it, and who lives.

    Raises:
        ClickException: no worker is running.
    """
    alive = read.alive()
    if not alive:
        raise click.ClickException("no worker is running; there is nobody to ask")
    command = commands.ask(read.run, name, time.time())
    ends = time.monotonic() + patience
    while True:
        result = commands.outcome(read.run, command)
        answered = {*result.done, *result.failed}
        if answered >= set(alive) or time.monotonic() > ends:
            return result, alive
        time.sleep(0.1)


@knitperf.command("baseline")
@click.option("--times", type=click.IntRange(1, 10_000), default=20, show_default=True,
              help="How often each endpoint is called.")  # fmt: skip
@click.option("--output", type=click.Path(dir_okay=False), default="knitperf-baseline.json",
              show_default=True, help="Where the report goes.")  # fmt: skip
@_json
@with_appcontext
def baseline(times: int, output: str, as_json: bool) -> None:
    """Call every GET that needs no parameter, here and now, and save the report."""
    session = _session()
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    found = Baseline(session, app.wsgi_app).run(times)
    document = {**found.report, "needs_parameters": found.left_out}
    try:
        Path(output).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"{output} cannot be written: {error.strerror}") from error
    words = text.report(found.report, _width())
    if found.left_out:
        words += "\nNOT CALLED, THEY NEED PARAMETERS\n\n" + "\n".join(found.left_out) + "\n"
    _echo(document, as_json, words)
    click.echo(f"saved to {output}", err=True)


class Unproved(click.ClickException):
    """A hunt that could not be done: neither a leak nor none."""

    exit_code = 2


@knitperf.command("leakhunt", with_appcontext=False)
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
@_json
@click.pass_context
def leakhunt(
    ctx: click.Context, url: str, requests: int | None, method: str, data: str | None,
    headers: tuple[str, ...], allow_writes: bool, as_json: bool,
) -> None:  # fmt: skip
    """Replay a request in processes of its own: does it leak, which line, and who holds it?

    URL is a path, or a whole address whose host is sent. Ends with 1 when there is a leak, with 0 when
    there is none, with 2 when it could not be told.
    """
    from .api import hunt_text, hunting

    asked = _asked(url, method.upper(), data, headers)
    if asked.method not in hunting.SAFE and not allow_writes:
        raise click.UsageError(
            f"{asked.method} may change something, and it would be sent hundreds of times; "
            "if that is meant, add --allow-writes"
        )
    if hunting.phase() is not None:
        hunting.serve_phase(ctx.ensure_object(ScriptInfo).load_app, asked, requests)
    try:
        with _Progress() as progress:
            found = hunting.hunt(hunting.command_line(), progress)
    except KnitPerfError as error:
        raise Unproved(str(error)) from error
    _echo(hunt_text.document(asked, found), as_json, hunt_text.text(asked, found, _width()))
    ctx.exit(1 if found.leaks else 0)


@knitperf.command("gc", with_appcontext=False)
@click.argument("url")
@click.option("--requests", type=click.IntRange(5, 10_000), default=100, show_default=True,
              help="How many are served in each of 28 blocks.")  # fmt: skip
@click.option("--header", "headers", multiple=True, metavar="NAME: VALUE",
              help="A header to send; may be given again.")  # fmt: skip
@_json
@click.pass_context
def gc_(
    ctx: click.Context, url: str, requests: int, headers: tuple[str, ...], as_json: bool
) -> None:
    """Serve a GET here and now under other settings of the garbage collector: what do they spare?

    KnitPerf is off in this process, and the collector of the running workers stays as it is.
    """
    from .api import collecting

    asked = _asked(url, "GET", None, headers)
    collecting.switch_off()
    application = ctx.ensure_object(ScriptInfo).load_app()
    stream = io.StringIO() if as_json else sys.stderr
    with click.progressbar(length=100, label="serving", file=stream) as bar:
        found = collecting.tried(application, asked, requests, lambda done: bar.update(round(done)))
    _echo(collecting.document(asked, found), as_json, collecting.text(asked, found, _width()))


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
                f"up to {message['of']:,} requests in each of two processes; this takes "
                f"{_LOOKING + 2 * message['takes']:,.0f} s at most, less where nothing grows", err=True,
            )  # fmt: skip
        if self._shows:
            part = message["done"] / max(1, message["of"])
            click.echo(f"\r\x1b[K{phase}: {part:.0%}", nl=False, err=True)


# -- without it --------------------------------------------------------------------------------------


@click.group("flask_knitperf", cls=Sentences)
def offline() -> None:
    """Read what an application's workers measured, without importing it."""


@offline.command("report")
@_state
@_window
@_against
@_json
def offline_report(state: str, window: str, against: str | None, as_json: bool) -> None:
    """Show what the workers measured."""
    _report(Offline(state), window, against, as_json)


@offline.command("why")
@_endpoint
@_state
@_method
@_window
@_other
@_json
def offline_why(
    endpoint: str, state: str, method: str | None, window: str, against: str | None, as_json: bool
) -> None:
    """Show why one endpoint is slow: its lines, parts, file reads and slowest requests."""
    _why(Offline(state), endpoint, method, window, against, as_json)


@offline.command("queries")
@_state
@_window
@_json
def offline_queries(state: str, window: str, as_json: bool) -> None:
    """Show what databases are asked: statements by the time they take, and what repeats."""
    _queries(Offline(state), window, as_json)


@offline.command("memory")
@_state
@_json
def offline_memory(state: str, as_json: bool) -> None:
    """Show the workers' memory."""
    _memory(Offline(state), as_json)


@offline.command("frames")
@click.argument("files", nargs=-1, required=True,
                type=click.Path(exists=True, dir_okay=False, path_type=Path))  # fmt: skip
@click.option("--level", type=click.Choice(["safe", "balanced", "compact", "pack"]), default="balanced",
              show_default=True, help="How far to go.")  # fmt: skip
@click.option(
    "--keep", multiple=True, metavar="COLUMN", help="A column to leave alone; may be given again."
)
@click.option("--tolerance", type=click.FloatRange(0, 1, max_open=True), default=0.0,
              help="The relative error that floating-point numbers may get.")  # fmt: skip
@_json
def offline_frames(
    files: tuple[Path, ...], level: str, keep: tuple[str, ...], tolerance: float, as_json: bool
) -> None:
    """Plan how tables in CSV, XLSX and Parquet files fit in fewer bytes, without a changed value."""
    from .frames import plan_dataframe, show
    from .frames.files import read_file

    plans = []
    size = sum(path.stat().st_size for path in files)
    stream = io.StringIO() if as_json else sys.stderr
    with click.progressbar(length=size, label="reading", file=stream) as bar:
        for path in files:
            try:
                frame = read_file(path, bar.update)
            except (ValueError, OSError) as error:
                raise click.ClickException(f"{path.name} cannot be read: {error}") from error
            plans.append((path, plan_dataframe(frame, level, keep, tolerance)))  # type: ignore[arg-type]
            del frame
    if as_json:
        _echo([{"file": str(path), **plan.as_dict()} for path, plan in plans], as_json, "")
        return
    for path, plan in plans:
        click.echo(f"\n{click.format_filename(path)}\n")
        click.echo(show.text(plan, _width()))
        if path.suffix.lower() == ".csv":
            click.echo(f"\n{show.code(plan, str(path))}")
