"""The terminal: ``flask knitperf …`` with the application, ``python -m flask_knitperf …`` without it.

Nothing here records a measurement into the application's state: reading is reading, ``reset`` asks
the running workers, and ``baseline`` and ``leakhunt`` keep what they measure in their own memory.
"""

from __future__ import annotations

import io
import json
import sys
import time
from pathlib import Path

import click
from flask import Flask, current_app
from flask.cli import with_appcontext

from ..experiments.baseline import Baseline
from ..render import terminal
from ..reports.offline import Offline
from ..storage import commands
from ..storage.windows import NAMES
from ..web.sign_in import sign_in_link
from .console import Sentences, WithApplication, as_json_too, echo, session, width
from .experiments import gc_, leakhunt

_WINDOW = click.Choice(NAMES)
_PATIENCE, _PATIENT = 3.0, 15.0


def _report(read: Offline, window: str, against: str | None, as_json: bool) -> None:
    if against:
        rows = read.against(window, against)
        echo(rows, as_json, terminal.comparison(rows, width()))
        return
    document = read.report(window)
    echo(document, as_json, terminal.report(document, width()))


def _queries(read: Offline, window: str, as_json: bool) -> None:
    document = read.queries(window)
    echo(document, as_json, terminal.queries(document, width()))


def _memory(read: Offline, as_json: bool) -> None:
    document = read.memory()
    echo(document, as_json, terminal.memory(document, width()))


def _why(
    read: Offline,
    endpoint: str,
    method: str | None,
    window: str,
    against: str | None,
    as_json: bool,
) -> None:
    document = read.why(endpoint, method, window, against)
    echo(document, as_json, terminal.why(document, width()))


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
    settings = session().settings
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
@as_json_too
@with_appcontext
def report(window: str, against: str | None, as_json: bool) -> None:
    """Show what the workers measured."""
    _report(Offline(session().settings.state_dir), window, against, as_json)


@knitperf.command("why")
@_endpoint
@_method
@_window
@_other
@as_json_too
@with_appcontext
def why(endpoint: str, method: str | None, window: str, against: str | None, as_json: bool) -> None:
    """Show why one endpoint is slow: its lines, parts, file reads and slowest requests."""
    _why(Offline(session().settings.state_dir), endpoint, method, window, against, as_json)


@knitperf.command("queries")
@_window
@as_json_too
@with_appcontext
def queries(window: str, as_json: bool) -> None:
    """Show what databases are asked: statements by the time they take, and what repeats."""
    _queries(Offline(session().settings.state_dir), window, as_json)


@knitperf.command("memory")
@as_json_too
@with_appcontext
def memory(as_json: bool) -> None:
    """Show the workers' memory."""
    _memory(Offline(session().settings.state_dir), as_json)


@knitperf.command("frames")
@click.option("--live", is_flag=True, required=True, help="Those in the memory of the workers.")
@as_json_too
@with_appcontext
def frames(live: bool, as_json: bool) -> None:  # noqa: ARG001
    """List the DataFrames that are alive in every worker."""
    read = Offline(session().settings.state_dir)
    result, alive = _ask_all(read, "frames", _PATIENT)
    document = read.memory()["live_frames"]
    echo(document, as_json, terminal.live_frames(document, width()))
    click.echo(terminal.commands_done(result.done, dict(result.failed), alive), err=True)


@knitperf.command("reset")
@with_appcontext
def reset() -> None:
    """Begin counting anew in every worker; nothing is deleted."""
    result, alive = _ask_all(Offline(session().settings.state_dir), "clear", _PATIENCE)
    click.echo(terminal.commands_done(result.done, dict(result.failed), alive))


def _ask_all(read: Offline, name: str, patience: float) -> tuple[commands.Outcome, list[str]]:
    """Ask all workers to do something and wait for them; return who did it, and who lives.

    Raises:
        ClickException: no worker is running.
    """
    alive = read.alive()
    if not alive:
        raise click.ClickException("no worker is running; there is nobody to ask")
    command = commands.send(read.run, name, time.time())
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
@as_json_too
@with_appcontext
def baseline(times: int, output: str, as_json: bool) -> None:
    """Call every GET that needs no parameter, here and now, and save the report."""
    mine = session()
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    found = Baseline(mine, app.wsgi_app).run(times)
    document = {**found.report, "needs_parameters": found.left_out}
    try:
        Path(output).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"{output} cannot be written: {error.strerror}") from error
    words = terminal.report(found.report, width())
    if found.left_out:
        words += "\nNOT CALLED, THEY NEED PARAMETERS\n\n" + "\n".join(found.left_out) + "\n"
    echo(document, as_json, words)
    click.echo(f"saved to {output}", err=True)


knitperf.add_command(leakhunt)
knitperf.add_command(gc_)


# -- without it --------------------------------------------------------------------------------------


@click.group("flask_knitperf", cls=Sentences)
def offline() -> None:
    """Read what an application's workers measured, without importing it."""


@offline.command("report")
@_state
@_window
@_against
@as_json_too
def offline_report(state: str, window: str, against: str | None, as_json: bool) -> None:
    """Show what the workers measured."""
    _report(Offline(state), window, against, as_json)


@offline.command("why")
@_endpoint
@_state
@_method
@_window
@_other
@as_json_too
def offline_why(
    endpoint: str, state: str, method: str | None, window: str, against: str | None, as_json: bool
) -> None:
    """Show why one endpoint is slow: its lines, parts, file reads and slowest requests."""
    _why(Offline(state), endpoint, method, window, against, as_json)


@offline.command("queries")
@_state
@_window
@as_json_too
def offline_queries(state: str, window: str, as_json: bool) -> None:
    """Show what databases are asked: statements by the time they take, and what repeats."""
    _queries(Offline(state), window, as_json)


@offline.command("memory")
@_state
@as_json_too
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
@click.option("--sep", help="What separates columns of text files, if not a comma (.tsv: a tab).")
@click.option("--decimal", help="The decimal point of text files.")
@click.option("--encoding", help="The encoding of text files, if not UTF-8.")
@click.option("--sheet", help="A workbook's sheet, if not the first.")
@as_json_too
def offline_frames(
    files: tuple[Path, ...], level: str, keep: tuple[str, ...], tolerance: float, sheet: str | None,
    as_json: bool, **options: str | None,
) -> None:  # fmt: skip
    """Plan how tables in CSV, XLSX and Parquet files fit in fewer bytes, without a changed value.

    The values are those that pandas reads: of 007 in a CSV file it makes the number 7.
    """
    from ..frames import FrameError, plan_dataframe, rendering
    from ..frames.read_any import read_file, separator

    given = {name: value for name, value in options.items() if value is not None}
    plans, wrong, unknown = [], [], set(keep)
    size = sum(path.stat().st_size for path in files)
    stream = io.StringIO() if as_json else sys.stderr
    with click.progressbar(length=size, label="reading", file=stream) as bar:
        for path in files:
            try:
                frame = read_file(path, bar.update, given, sheet)
                there = [label for label in keep if label in frame.columns]
                unknown.difference_update(there)
                plan = plan_dataframe(frame, level, there, tolerance)  # type: ignore[arg-type]
            except FrameError as error:
                wrong.append(f"{path.name}: {error}")
                continue
            except (ValueError, OSError, LookupError) as error:
                wrong.append(f"{path.name} cannot be read: {error}")
                continue
            plans.append((path, plan, separator(frame)))
            del frame
    if unknown and not wrong:  # a file that was not read may have it
        said = ", ".join(sorted(map(repr, unknown)))
        wrong.append(f"--keep names what is a column of no file: {said}")
    if as_json:
        echo([{"file": str(path), **plan.as_dict()} for path, plan, _ in plans], as_json, "")
    for path, plan, between in () if as_json else plans:
        click.echo(f"\n{click.format_filename(path)}\n")
        click.echo(rendering.text(plan, width()))
        if between:
            click.echo(f"\nIt was read as one column: is it separated by {between!r}? Say --sep.")
        elif path.suffix.lower() == ".csv":
            click.echo(f"\n{rendering.code(plan, str(path), given)}")
    if wrong:
        raise click.ClickException("\n".join(wrong))
