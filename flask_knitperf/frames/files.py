"""Reading a file whose frame is to be planned: CSV, workbooks and Parquet, saying how far it is."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from .plan import FrameError

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


def read_file(path: Path, told: Told = lambda _: None) -> pd.DataFrame:
    """Return the table in a file, as pandas reads it by default; of a workbook the first sheet.

    Args:
        path: ``.csv``, ``.tsv`` or ``.txt`` (also compressed), ``.xlsx``, ``.xls`` or ``.parquet``.
        told: called with bytes that were read, in sum about the file's size.

    Raises:
        FrameError: the file is of another kind, or what reads it is not installed.
        Exception: whatever pandas raises for the file.
    """
    ends = [each.lower() for each in path.suffixes[-2:]]
    last = ends[-1] if ends else ""
    try:
        if last in _PLAIN:
            with open(path, "rb", buffering=0) as file:
                text: Any = io.BufferedReader(_Counted(file, told), 1 << 20)
                return pd.read_csv(text, low_memory=False, sep="\t" if last == ".tsv" else ",")
        if ends and ends[0] in _PLAIN:
            return _whole(path, told, pd.read_csv, sep="\t" if ends[0] == ".tsv" else ",")
        if last in (".xlsx", ".xls", ".xlsm"):
            return _whole(path, told, pd.read_excel)
        if last == ".parquet":
            return _whole(path, told, pd.read_parquet)
    except ImportError as error:
        raise FrameError(f"{path.name} cannot be read: {error}") from error
    raise FrameError(f"{path.name} is no CSV, XLSX or Parquet file by its name")


def _whole(path: Path, told: Told, read: Callable[..., Any], **options: Any) -> pd.DataFrame:
    found: pd.DataFrame = read(path, **options)
    told(path.stat().st_size)
    return found
