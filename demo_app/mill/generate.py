"""Writing the mill: all files of one seed and scale, or none.

The files are written into a folder beside the target, which is renamed into place when the
manifest is in it; what a killed run leaves, a run half an hour later removes. A folder whose
manifest names the same seed, scale, sizes and version is reused.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from demo_app.mill import database, orders, tables
from demo_app.mill.draw import Draw
from demo_app.settings import DemoError
from demo_app.sizes import Sizes, sizes

VERSION = 1
MANIFEST = "manifest.json"
WORKBOOK_TABLES = ("yarn_inventory", "knit_orders")
_BLOCK = 1 << 20
_LEFT_S = 1800.0


def generate(folder: Path, scale: float = 1.0, seed: int = 0) -> Path:
    """Writes the mill's tables, or keeps those that are there.

    Args:
        folder: where; tables if missing. An existing folder is only replaced if it is empty or
            holds an older manifest of ours.
        scale: multiplies the rows, 1 = the sizes of the specification.
        seed: draws the values and, as `DEMO_SEED`, the plants' files and sizes.

    Returns:
        The folder.

    Raises:
        DemoError: the folder holds something else, cannot be written, or openpyxl is missing.
    """
    wanted = _manifest(scale, seed)
    if _same(folder, wanted):
        return folder
    if folder.exists() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise DemoError(
            f"{folder} is not empty and holds no demo data; give DEMO_DATA an empty folder."
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise DemoError(f"The demo data cannot be written to {folder}: {error}.") from error
    try:
        _write_all(fresh, Draw(np.random.default_rng(seed), scale), sizes(seed), wanted)
        _swap(fresh, folder, wanted)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def frames(draw: Draw) -> dict[str, pd.DataFrame]:
    """Every table of the specification as a frame, by name, as it is written."""
    styles = tables.bom_styles(draw)
    return {
        "yarn_inventory": tables.yarn_inventory(draw),
        "bom": tables.bom(draw, styles),
        "knit_orders": orders.knit_orders(draw, styles),
        "sales_orders": orders.sales_orders(draw, styles),
        "sales_activity": orders.sales_activity(draw, styles),
        "finished_inventory": tables.finished_inventory(draw, styles),
        "styles": tables.style_list(draw, styles),
        "yarn_demand_by_week": orders.yarn_demand(draw),
        "adjustments": orders.adjustments(draw),
        "returns": orders.returns(),
    }


def _write_all(folder: Path, draw: Draw, moved: Sizes, wanted: dict[str, Any]) -> None:
    tables = frames(draw)
    for name, frame in tables.items():
        if name in WORKBOOK_TABLES:
            write_workbook(folder / f"{name}.xlsx", frame)
        else:
            frame.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
    for name in moved.workbooks:
        book = orders.planning_book(draw, moved.workbook_rows)
        write_workbook(folder / f"{name}.xlsx", book)
    history = orders.planning_book(draw, moved.reread_rows)
    write_workbook(folder / f"{moved.reread_book}.xlsx", history)
    (folder / "fabric_list.csv").write_text(orders.fabric_list(draw) + "\n", encoding="utf-8")
    (folder / "tenant.json").write_text('{"tenant": "mill one", "units": "lbs"}', encoding="utf-8")
    database.write(folder, draw, moved, tables)
    _write_report(folder / "report.csv", moved.download_mb, draw.scale)
    (folder / MANIFEST).write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")


def write_workbook(path: Path, frame: pd.DataFrame) -> None:
    """Writes a frame as the only sheet of an xlsx file, row by row (missing cells stay empty).

    Raises:
        DemoError: openpyxl is not installed.
    """
    try:
        from openpyxl import Workbook
    except ImportError:
        raise DemoError("The workbooks need openpyxl: pip install openpyxl.") from None
    book = Workbook(write_only=True)
    sheet = book.create_sheet("Sheet1")
    sheet.append([str(name) for name in frame.columns])
    for row in _cells(frame):
        sheet.append(row)
    book.save(path)


def _cells(frame: pd.DataFrame) -> Iterable[tuple[Any, ...]]:
    columns = []
    for position in range(frame.shape[1]):
        column = frame.iloc[:, position]
        values = column.astype(object).where(column.notna(), None)
        columns.append([v.item() if isinstance(v, np.generic) else v for v in values.tolist()])
    return zip(*columns, strict=True)


def _write_report(path: Path, megabytes: int, scale: float) -> None:
    line = b"2025-01-31;Customer 07;Jersey 0042;1,234.56;lbs;shipped\n"
    block = (line * (_BLOCK // len(line) + 1))[:_BLOCK]
    with path.open("wb") as file:
        for _ in range(max(1, round(megabytes * min(1.0, scale)))):
            file.write(block)


def _manifest(scale: float, seed: int) -> dict[str, Any]:
    """The expected manifest of the folder, as read back from JSON."""
    files = json.loads(json.dumps(dataclasses.asdict(sizes(seed))))
    return {"version": VERSION, "seed": seed, "scale": scale, "sizes": files}


def _same(folder: Path, wanted: dict[str, Any]) -> bool:
    try:
        return bool(json.loads((folder / MANIFEST).read_text(encoding="utf-8")) == wanted)
    except (OSError, ValueError):
        return False


def _sweep(folder: Path) -> None:
    """Removes what killed runs left beside the folder; a young one may still be written."""
    for left in folder.parent.glob(f".{folder.name}-*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _LEFT_S:
                shutil.rmtree(left, ignore_errors=True)


def _swap(fresh: Path, folder: Path, wanted: dict[str, Any]) -> None:
    """Puts the finished folder in place; another process may have been quicker."""
    old = fresh.with_name(f"{fresh.name}.old")
    try:
        if folder.exists():
            os.replace(folder, old)
        os.replace(fresh, folder)
    except OSError as error:
        if not _same(folder, wanted):
            raise DemoError(
                f"{folder} is in use and cannot be replaced: {error}; stop what serves from it."
            ) from error
    finally:
        shutil.rmtree(old, ignore_errors=True)
