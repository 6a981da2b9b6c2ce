"""``python -m flask_knitperf frames``: plan smaller dtypes for the tables in files."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from .console import json_option, print_document, print_text, width

if TYPE_CHECKING:
    from ..frames.plan import LevelName, Plan


class _Planned(NamedTuple):
    """Plan of one file.

    Attributes:
        path: of the file.
        plan: for its table.
        separator: that the file seems to have, if it was read as one column.
    """

    path: Path
    plan: Plan
    separator: str | None


@click.command("frames")
@click.argument("files", nargs=-1, required=True,
                type=click.Path(exists=True, dir_okay=False, path_type=Path))  # fmt: skip
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
@json_option
def plan_files(
    files: tuple[Path, ...], level: LevelName, keep: tuple[str, ...], tolerance: float,
    sheet: str | None, as_json: bool, **options: str | None,
) -> None:  # fmt: skip
    """Plan smaller dtypes for tables in CSV, XLSX and Parquet files; no value changes.

    The values are those that pandas reads: 007 in a CSV file is the number 7.
    """
    read_options = {name: value for name, value in options.items() if value is not None}
    plans, errors = _plans(files, level, keep, tolerance, sheet, read_options, as_json)
    if as_json:
        documents = [{"file": str(planned.path), **planned.plan.as_dict()} for planned in plans]
        print_document(documents, as_json, "")
    for planned in () if as_json else plans:
        _print(planned, read_options)
    if errors:
        raise click.ClickException("\n".join(errors))


def _plans(
    files: tuple[Path, ...], level: LevelName, keep: tuple[str, ...], tolerance: float,
    sheet: str | None, read_options: dict[str, str], as_json: bool,
) -> tuple[list[_Planned], list[str]]:  # fmt: skip
    """Return the plans of files, and messages about files that have none."""
    from ..frames import FrameError, plan_dataframe
    from ..frames.read_any import read_file, separator

    plans, errors, unknown = [], [], set(keep)
    total = sum(path.stat().st_size for path in files)
    stream = io.StringIO() if as_json else sys.stderr
    with click.progressbar(length=total, label="reading", file=stream) as bar:
        for path in files:
            try:
                frame = read_file(path, bar.update, read_options, sheet)
                present = [label for label in keep if label in frame.columns]
                unknown.difference_update(present)
                plan = plan_dataframe(frame, level, present, tolerance)
            except FrameError as error:
                errors.append(f"{path.name}: {error}")
                continue
            except (ValueError, OSError, LookupError) as error:
                errors.append(f"{path.name} cannot be read: {error}")
                continue
            plans.append(_Planned(path, plan, separator(frame)))
            del frame
    if unknown and not errors:  # a file that was not read may have it
        names = ", ".join(sorted(map(repr, unknown)))
        errors.append(f"--keep names a column that no file has: {names}")
    return plans, errors


def _print(planned: _Planned, read_options: dict[str, str]) -> None:
    from ..frames import rendering

    path, plan, separator = planned
    print_text(f"\n{path}\n")
    print_text(rendering.text(plan, width()))
    if separator:
        print_text(f"\nThe file was read as one column. Is {separator!r} its separator? Use --sep.")
    elif path.suffix.lower() == ".csv":
        print_text(f"\n{rendering.code(plan, str(path), read_options)}")
