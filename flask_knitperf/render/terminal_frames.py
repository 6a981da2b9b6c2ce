"""Plans of several files as terminal text: a line for each, and their total."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..core.printable import printable
from ..core.units import count, percent, plain, ratio, size
from .layout import cut, wrap

if TYPE_CHECKING:
    from ..reports.documents.frames import PlannedFile

_SIZE_WIDTH = 10
_RATIO_WIDTH = 7


def line(at: str, plan: PlannedFile, width: int = 80) -> str:
    """Return the plan of one file as a line: ``3/127  orders.csv   41 MB →  13 MB  3.15×``.

    Args:
        at: number of the file, and of all files.
        plan: of the file.
        width: columns of the terminal.
    """
    before, after = size(plan["bytes_before"]), size(plan["bytes_after"])
    figures = f"{before:>{_SIZE_WIDTH}} → {after:>{_SIZE_WIDTH}}"
    figures += f"  {ratio(plan['ratio']):>{_RATIO_WIDTH}}"
    room = width - len(figures) - len(_numbered(at)) - 2
    return plain(f"{_numbered(at)}{cut(printable(plan['file']), room):<{room}}  {figures}")


def failure(at: str, message: str, width: int = 80) -> str:
    """Return the reason why one file has no plan."""
    return "\n".join(wrap(message, width, _numbered(at), " " * len(_numbered(at))))


def total(plans: Sequence[PlannedFile], failures: int, width: int = 80) -> str:
    """Return the sizes of all files in a sentence.

    Args:
        plans: of the files.
        failures: number of files without a plan.
        width: columns of the terminal.
    """
    before = sum(plan["bytes_before"] for plan in plans)
    after = sum(plan["bytes_after"] for plan in plans)
    files = count(len(plans) + failures, "file")
    but = f", {failures:,} of them without a plan" if failures else ""
    saved = f" ({percent(1 - after / before)} less)" if before else ""
    text = f"Total of {files}{but}: {size(before)} → {size(after)}{saved}"
    return plain(
        "\n".join(
            ["", *wrap(text, width), *wrap("For the whole plan of a file, name it alone.", width)]
        )
    )


def _numbered(at: str) -> str:
    """Return the number of a file, as wide as that of the last one."""
    number, _, files = at.partition("/")
    return f"{number:>{len(files)}}/{files}  "
