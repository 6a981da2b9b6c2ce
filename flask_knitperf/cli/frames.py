"""``frames``: plan smaller dtypes for the tables in files, or list the DataFrames of running workers.

One command of both programs. Files need no application, so neither program imports one for them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

import click
from flask.cli import ScriptInfo, with_appcontext

from ..core.units import count, percent
from ..render import terminal_frames, terminal_memory
from ..reports.offline import Offline
from .console import (
    StatusLine,
    json_option,
    output_path,
    print_document,
    print_text,
    session,
    width,
)
from .workers import send_to_all

if TYPE_CHECKING:
    from ..frames.plan import LevelName, Plan
    from ..reports.documents.frames import PlannedFile

_LISTING_TIMEOUT_S = 15.0


@click.command("frames")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option("--live", is_flag=True, help="List the DataFrames in the memory of running workers.")
@click.option("--state", type=click.Path(file_okay=False),
              help="The state directory, for --live; by default the application's.")  # fmt: skip
@click.option("--level", type=click.Choice(["safe", "balanced", "compact", "pack"]), default="balanced",
              show_default=True, help="From the fewest risks to the fewest bytes.")  # fmt: skip
@click.option(
    "--keep", multiple=True, metavar="COLUMN", help="Column to leave unchanged; may be repeated."
)
@click.option("--tolerance", type=click.FloatRange(0, 1, max_open=True), default=0.0,
              help="Relative error allowed for floating-point numbers.")  # fmt: skip
@click.option("--sep", help="Separator of text files; by default a comma (.tsv: a tab).")
@click.option("--decimal", help="Decimal point of text files.")
@click.option("--encoding", help="Encoding of text files; by default UTF-8.")
@click.option("--sheet", help="Sheet of a workbook; by default the first.")
@click.option("--max-columns", type=click.IntRange(1), default=5_000, show_default=True,
              help="Refuse text files with more columns, before they are read.")  # fmt: skip
@json_option
@click.pass_context
def frames(
    ctx: click.Context, /, files: tuple[Path, ...], live: bool, state: str | None, level: LevelName,
    keep: tuple[str, ...], tolerance: float, sheet: str | None, max_columns: int, as_json: bool,
    **options: str | None,
) -> None:  # fmt: skip
    """Plan smaller dtypes for tables in CSV, XLSX and Parquet files, or list those of workers.

    No value changes. Of one file the whole plan is printed, of several a line for each, with the total.
    The values are those that pandas reads: 007 in a CSV file is the number 7.
    """
    if live and files:
        raise click.UsageError("--live lists DataFrames in memory: give either files or --live")
    if live:
        _list_live(_state(ctx, state), as_json)
        return
    if not files:
        raise click.UsageError(
            "name files to plan, or list the DataFrames of running workers by --live"
        )
    output = output_path(ctx)
    if output is not None and any(_is_same_file(output, path) for path in files):
        raise click.UsageError(f"--output would overwrite {output}, which is to be planned")
    read_options = {name: value for name, value in options.items() if value is not None}
    planner = _Planner(level, keep, tolerance, sheet, max_columns, read_options)
    _plan_files(files, planner, as_json)


def _is_same_file(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)


def _state(ctx: click.Context, state: str | None) -> Offline:
    """Return the state directory to read: the one named, else that of the application."""
    if state is not None:
        return Offline(state)
    if ctx.find_object(ScriptInfo) is None:
        raise click.UsageError(
            "--live needs --state DIR, or the application: flask knitperf frames"
        )
    return Offline(with_appcontext(session)().settings.state_dir)


def _list_live(state: Offline, as_json: bool) -> None:
    done = send_to_all(state, "frames", _LISTING_TIMEOUT_S)
    document = state.memory()["live_frames"]
    print_document(document, as_json, terminal_memory.live_frames(document, width()))
    print_text(done, err=True)


class _Plan(NamedTuple):
    """Plan of one file.

    Attributes:
        path: of the file.
        plan: for its table.
        separator: that the file seems to have, if it was read as one column.
        kept: labels of columns to leave unchanged that the table has.
    """

    path: Path
    plan: Plan
    separator: str
    kept: set[str]

    @property
    def document(self) -> PlannedFile:
        """The plan as JSON values."""
        return cast("PlannedFile", {"file": str(self.path), **self.plan.as_dict()})


class _Planner(NamedTuple):
    """Options of plans.

    Attributes:
        level: see :func:`..frames.plan_dataframe`, as for the next two.
        keep: labels of columns to leave unchanged.
        tolerance: largest allowed relative error.
        sheet: name of the sheet of workbooks.
        max_columns: of text files.
        read_options: of ``pandas.read_csv``.
    """

    level: LevelName
    keep: tuple[str, ...]
    tolerance: float
    sheet: str | None
    max_columns: int
    read_options: dict[str, str]

    def plan(self, path: Path, show: Callable[[str], None]) -> _Plan:
        """Return the plan of one file.

        Args:
            path: of the file.
            show: receives the current step, in words.

        Raises:
            FrameError: the file is not a table that can be planned.
            Exception: raised by pandas for the content of the file.
        """
        from ..frames import plan_dataframe
        from ..frames.read_any import read_file, separator

        size, read = path.stat().st_size, 0

        def on_read(n_bytes: int) -> None:
            nonlocal read
            read += n_bytes
            show(f"reading, {percent(min(read, size) / max(1, size))}")

        show("reading")
        frame = read_file(path, on_read, self.read_options, self.sheet, self.max_columns)
        show(f"planning {count(len(frame), 'row')}")
        kept = {label for label in self.keep if label in frame.columns}
        plan = plan_dataframe(frame, self.level, kept, self.tolerance)
        return _Plan(path, plan, separator(frame), kept)


def _plan_files(files: tuple[Path, ...], planner: _Planner, as_json: bool) -> None:
    """Plan files one after another, with a line for each when it is done, and a total.

    Raises:
        ClickException: files cannot be read, or no file has a column to keep.
    """
    documents: list[PlannedFile] = []
    errors: list[str] = []
    unknown = set(planner.keep)
    text = ""
    for number, path in enumerate(files, 1):
        at = f"{number}/{len(files)}"
        try:
            planned = _plan_file(path, planner, at)
        except _NotPlannedError as error:
            errors.append(str(error))
            if len(files) > 1:
                print_text(terminal_frames.failure(at, str(error), width()), err=True)
            continue
        documents.append(planned.document)
        unknown -= planned.kept
        if len(files) > 1:
            print_text(terminal_frames.line(at, documents[-1], width()), err=as_json)
        else:
            text = _whole_plan(planned, planner.read_options)
    if len(files) > 1:
        total = terminal_frames.total(documents, len(errors), width())
        text = total
        if as_json:
            print_text(total, err=True)
    if documents or as_json:
        print_document(documents, as_json, text)
    if errors and len(files) > 1:
        errors = [f"{len(errors):,} of {len(files):,} files cannot be planned"]
    elif unknown and not errors:  # a file that was not read may have it
        names = ", ".join(sorted(map(repr, unknown)))
        errors = [f"--keep names a column that no file has: {names}"]
    if errors:
        raise click.ClickException(errors[0])


class _NotPlannedError(Exception):
    """A file has no plan, for the reason in the message."""


def _plan_file(path: Path, planner: _Planner, at: str) -> _Plan:
    """Return the plan of a file, showing progress.

    Raises:
        _NotPlannedError: the file cannot be read or planned.
    """
    from ..frames import FrameError

    if path.is_dir() or not path.exists():
        raise _NotPlannedError(f"{path} {'is a directory' if path.is_dir() else 'does not exist'}")
    status = StatusLine()
    try:
        return planner.plan(path, lambda now: status.show(f"{at} {now}: {path.name}"))
    except FrameError as error:
        raise _NotPlannedError(f"{path}: {error}") from error
    except UnicodeDecodeError as error:
        raise _NotPlannedError(
            f"{path} is not in {error.encoding}: {error.reason} at byte {error.start}; "
            "--encoding names another one, such as cp1252"
        ) from error
    except Exception as error:  # whatever a damaged file makes of the many readers of pandas
        reason = str(error).strip() or type(error).__name__
        raise _NotPlannedError(f"{path} cannot be read: {reason}") from error
    finally:
        status.clear()


def _whole_plan(planned: _Plan, read_options: dict[str, str]) -> str:
    from ..frames import rendering

    path, plan, separator, _ = planned
    text = f"{path}\n\n{rendering.text(plan, width())}\n"
    if separator:
        hint = f"The file was read as one column. Is {separator!r} its separator? Use --sep."
        return f"{text}\n{hint}\n"
    if path.suffix.lower() == ".csv":
        return f"{text}\n{rendering.code(plan, str(path), read_options)}\n"
    return text
