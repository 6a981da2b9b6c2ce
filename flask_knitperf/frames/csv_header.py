"""Number of columns in the first lines of a CSV file, counted before pandas reads the file.

pandas takes any number of columns from the first line, and from the row below it: fields that the first
line has no name for are levels of an index. Lines further down cannot be wider.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import lzma
import os
import re
from collections.abc import Callable
from typing import Any

from ..core import units
from .errors import FrameError

MAX_COLUMNS = 5_000
"""Columns above which a file is not taken for a table."""
FIRST_READ_BYTES = 64 << 10
MAX_LINE_BYTES = 16 << 20
"""Part of the first lines in which columns are counted, if they are longer than the first read."""
_COUNTED_LINES = 2
_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


def check_width(path: Any, options: dict[str, Any], max_columns: int) -> None:
    """Refuse a file whose first line, or the row below it, has too many columns.

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
        widths = _first_widths(start, separator, options, len(start) < FIRST_READ_BYTES)
        if widths is None:
            start += file.read(MAX_LINE_BYTES)
            widths = _first_widths(start, separator, options, is_complete=True)
    if not widths:
        return
    if widths[0] > max_columns:
        raise too_many_columns(widths[0], max_columns)
    if widths[-1] - widths[0] > max_columns:
        raise FrameError(
            f"its first row has {_columns(widths[-1])}, and its first line {widths[0]:,}; more than "
            f"{max_columns:,} levels of an index are refused, since it may not be a table"
        )


def field_separator(options: dict[str, Any]) -> Any:
    """Return the field separator in options of ``pandas.read_csv``."""
    return options.get("sep", options.get("delimiter", ","))


def too_many_columns(columns: int, max_columns: int) -> FrameError:
    """Return the error for a file with too many columns."""
    return FrameError(
        f"its first line has {_columns(columns)}, and more than {max_columns:,} are refused, since it "
        "may not be a table; max_columns raises the limit"
    )


def _columns(number: int) -> str:
    return units.plain(units.count(number, "column"))


def _first_widths(
    start: bytes, separator: str, options: dict[str, Any], is_complete: bool
) -> list[int] | None:
    """Return the number of columns in each of the first lines that are not empty.

    Fields are split as pandas does: a quote opens a quoted field at its start only, and inside quotes
    separators and line ends are text.

    Args:
        start: of the file.
        separator: of fields.
        options: of ``pandas.read_csv``.
        is_complete: whether a line that ends with ``start`` counts; otherwise ``None`` is returned.
    """
    try:
        text = start.decode(options.get("encoding") or "utf-8", "replace").removeprefix("\ufeff")
    except LookupError:  # pandas raises for an unknown encoding
        return []
    field = _field(separator, options)
    widths: list[int] = []
    position = columns = 0
    while (match := field.match(text, position)) is not None:
        line_is_empty = not columns and match.end("value") == position
        position, columns = match.end(), columns + 1
        if match["end"] == separator:
            continue
        if not match["end"] and not is_complete:
            return None
        widths += [] if line_is_empty else [columns]
        columns = 0
        if not match["end"] or len(widths) == _COUNTED_LINES:
            return widths
    return None


def _field(separator: str, options: dict[str, Any]) -> re.Pattern[str]:
    """Return a pattern of one field, with the groups ``value`` and ``end``."""
    line_end = re.escape(options.get("lineterminator") or "\r\n")
    delimiter, quote = re.escape(separator), re.escape(options.get("quotechar", '"') or "")
    quoted = ""
    if quote and options.get("quoting", 0) != csv.QUOTE_NONE:
        quoted = f"(?:{quote}[^{quote}]*(?:{quote}|\\Z))*"
        if options.get("skipinitialspace"):
            quoted = " *" + quoted
    value = f"(?P<value>{quoted}[^{delimiter}{line_end}]*)"
    return re.compile(f"{value}(?P<end>[{delimiter}{line_end}]|\\Z)")
