"""Reading a CSV, Excel or Parquet file whose frame is to be planned, with progress."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from .csv_header import MAX_COLUMNS, check_width
from .errors import FrameError

OnRead = Callable[[int], None]
"""Callback with a number of bytes that were read."""
SEPARATORS = (";", "\t", "|")
"""Field separators beside the comma that :func:`separator` detects."""
_TEXT_SUFFIXES = (".csv", ".tsv", ".txt")
_BUFFER_BYTES = 1 << 20


class _CountingFile(io.RawIOBase):
    """File that reports the bytes read from it."""

    def __init__(self, file: io.RawIOBase, on_read: OnRead) -> None:
        self._file, self._on_read = file, on_read

    def readable(self) -> bool:
        """Return ``True``."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read up to as many bytes as the buffer holds."""
        count = self._file.readinto(buffer) or 0
        self._on_read(count)
        return count


def read_file(
    path: Path, on_read: OnRead = lambda _: None, options: Mapping[str, str] | None = None,
    sheet: str | None = None, max_columns: int = MAX_COLUMNS,
) -> pd.DataFrame:  # fmt: skip
    """Return the table in a file as pandas reads it by default; the first sheet of a workbook.

    Args:
        path: ``.csv``, ``.tsv`` or ``.txt`` (also compressed), ``.xlsx``, ``.xls`` or ``.parquet``.
        on_read: receives numbers of bytes that sum to about the file's size.
        options: of ``pandas.read_csv``, for text files.
        sheet: name of the sheet of a workbook.
        max_columns: a text file with more columns is refused before it is read.

    Raises:
        FrameError: the file has too many columns, its type is not supported, or a library to read it
            is not installed.
        Exception: raised by pandas for the content of the file.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    last = suffixes[-1] if suffixes else ""
    csv_options = {"sep": "\t" if ".tsv" in suffixes else ",", **(options or {})}
    is_text = last in _TEXT_SUFFIXES or (bool(suffixes) and suffixes[0] in _TEXT_SUFFIXES)
    try:
        if is_text:
            check_width(path, csv_options, max_columns)
        if last in _TEXT_SUFFIXES:
            with open(path, "rb", buffering=0) as file:
                text: Any = io.BufferedReader(_CountingFile(file, on_read), _BUFFER_BYTES)
                return pd.read_csv(text, low_memory=False, **csv_options)  # type: ignore[call-overload,no-any-return]
        if is_text:
            return _read_at_once(path, on_read, pd.read_csv, **csv_options)
        if last in (".xlsx", ".xls", ".xlsm"):
            return _read_workbook(path, on_read, 0 if sheet is None else sheet)
        if last == ".parquet":
            return _read_at_once(path, on_read, pd.read_parquet)
    except ImportError as error:
        raise FrameError(f"it cannot be read: {error}") from error
    raise FrameError("it does not have the suffix of a CSV, Excel or Parquet file")


def _read_at_once(
    path: Path, on_read: OnRead, read: Callable[..., Any], **options: Any
) -> pd.DataFrame:
    frame: pd.DataFrame = read(path, **options)
    on_read(path.stat().st_size)
    return frame


def _read_workbook(path: Path, on_read: OnRead, sheet: str | int) -> pd.DataFrame:
    try:
        return _read_at_once(path, on_read, pd.read_excel, sheet_name=sheet)
    except ValueError as error:
        if "format cannot be determined" in str(error):  # pandas suggests to name an engine
            raise FrameError("it is not a workbook") from error
        raise


def separator(frame: pd.DataFrame) -> str:
    """Return the likely separator of text that was read as a single column, or ``""``."""
    if frame.shape[1] != 1:
        return ""
    name = str(frame.columns[0])
    return next((character for character in SEPARATORS if character in name), "")
