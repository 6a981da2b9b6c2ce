"""Number of columns in the first line of a CSV file, counted before pandas reads the file."""

from __future__ import annotations

import bz2
import csv
import gzip
import lzma
import os
import re
from collections.abc import Callable
from typing import Any

from .errors import FrameError

FIRST_READ_BYTES = 64 << 10
MAX_LINE_BYTES = 16 << 20
"""Part of the first line in which columns are counted, if it is longer than the first read."""
_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


def check_width(path: Any, options: dict[str, Any], max_columns: int) -> None:
    """Refuse a file whose first line has too many columns.

    Args:
        path: of the file; anything else than an existing file is not checked.
        options: of ``pandas.read_csv``.
        max_columns: largest allowed number.

    Raises:
        FrameError: there are more columns.
    """
    separator = field_separator(options)
    if (
        not isinstance(path, str | os.PathLike)
        or not isinstance(separator, str)
        or len(separator) != 1
    ):
        return
    name = os.fspath(path)
    if not os.path.isfile(name):
        return
    opener = _OPENERS.get(os.path.splitext(name)[1].lower(), open)
    with opener(name, "rb") as file:
        start = file.read(FIRST_READ_BYTES)
        columns = _count_columns(start, separator, options)
        if columns is None:
            start += file.read(MAX_LINE_BYTES)
            columns = _count_columns(start, separator, options, is_complete=True)
    if columns is not None and columns > max_columns:
        raise too_many_columns(columns, max_columns)


def field_separator(options: dict[str, Any]) -> Any:
    """Return the field separator in options of ``pandas.read_csv``."""
    return options.get("sep", options.get("delimiter", ","))


def too_many_columns(columns: int, max_columns: int) -> FrameError:
    """Return the error for a file with too many columns."""
    return FrameError(
        f"its first line has {columns:,} columns, and more than {max_columns:,} are refused, since it "
        "may not be a table; max_columns raises the limit"
    )


def _count_columns(
    start: bytes, separator: str, options: dict[str, Any], is_complete: bool = False
) -> int | None:
    """Return the number of columns in the first line, ``None`` where the line may be longer.

    Fields are split as pandas does: a quote opens a quoted field at its start only, and inside quotes
    separators and line ends are text.
    """
    try:
        text = start.decode(options.get("encoding") or "utf-8", "replace").removeprefix("\ufeff")
    except LookupError:  # pandas raises for an unknown encoding
        return None
    line_end = re.escape(options.get("lineterminator") or "\r\n")
    delimiter, quote = re.escape(separator), re.escape(options.get("quotechar", '"') or "")
    quoted = ""
    if quote and options.get("quoting", 0) != csv.QUOTE_NONE:
        quoted = f"(?:{quote}[^{quote}]*(?:{quote}|\\Z))*"
        if options.get("skipinitialspace"):
            quoted = " *" + quoted
    field = re.compile(f"{quoted}[^{delimiter}{line_end}]*(?P<end>[{delimiter}{line_end}]|\\Z)")
    position = columns = 0
    while (match := field.match(text, position)) is not None:
        position, columns = match.end(), columns + 1
        if match["end"] != separator:
            has_line_end = match["end"] or len(start) < FIRST_READ_BYTES
            return columns if is_complete or has_line_end else None
    return None
