"""Reading a file whose frame is to be planned: CSV, workbooks and Parquet, saying how far it is."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from .errors import FrameError

Told = Callable[[int], None]
_PLAIN = (".csv", ".tsv", ".txt")


class _Counted(io.RawIOBase):
    """A file that tells how many bytes of it were read."""

    def __init__(self, file: io.RawIOBase, told: Told) -> None:
        self._file, self._told = file, told

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read as many bytes as there is room for."""
        count = self._file.readinto(buffer) or 0
        self._told(count)
        return count


def read_file(
    path: Path, told: Told = lambda _: None, options: Mapping[str, str] | None = None,
    sheet: str | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Return the table in a file, as pandas reads it by default; of a workbook the first sheet.

    Args:
        path: ``.csv``, ``.tsv`` or ``.txt`` (also compressed), ``.xlsx``, ``.xls`` or ``.parquet``.
        told: called with bytes that were read, in sum about the file's size.
        options: for text, as ``pandas.read_csv`` takes them.
        sheet: of a workbook.

    Raises:
        FrameError: the file is of another kind, or what reads it is not installed.
        Exception: whatever pandas raises for the file.
    """
    ends = [each.lower() for each in path.suffixes[-2:]]
    last = ends[-1] if ends else ""
    plain = {"sep": "\t" if ".tsv" in ends else ",", **(options or {})}
    try:
        if last in _PLAIN:
            with open(path, "rb", buffering=0) as file:
                text: Any = io.BufferedReader(_Counted(file, told), 1 << 20)
                return pd.read_csv(text, low_memory=False, **plain)  # type: ignore[call-overload,no-any-return]
        if ends and ends[0] in _PLAIN:
            return _whole(path, told, pd.read_csv, **plain)
        if last in (".xlsx", ".xls", ".xlsm"):
            return _workbook(path, told, 0 if sheet is None else sheet)
        if last == ".parquet":
            return _whole(path, told, pd.read_parquet)
    except ImportError as error:
        raise FrameError(f"{path.name} cannot be read: {error}") from error
    raise FrameError(f"{path.name} is no CSV, XLSX or Parquet file by its name")


def _whole(path: Path, told: Told, read: Callable[..., Any], **options: Any) -> pd.DataFrame:
    found: pd.DataFrame = read(path, **options)
    told(path.stat().st_size)
    return found


def _workbook(path: Path, told: Told, sheet: str | int) -> pd.DataFrame:
    try:
        return _whole(path, told, pd.read_excel, sheet_name=sheet)
    except ValueError as error:
        if "format cannot be determined" in str(error):  # and that an engine must be named
            raise FrameError("it is no workbook") from error
        raise


def separator(frame: pd.DataFrame) -> str:
    """Return what may separate the columns of text that was read as one column, or nothing."""
    if frame.shape[1] != 1:
        return ""
    name = str(frame.columns[0])
    return next((each for each in (";", "\t", "|") if each in name), "")
