"""The result of a benchmark: judged rows, tables for readers, notes, figures for the documentation."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """One figure with its target.

    Attributes:
        id: short and stable, e.g. ``overhead.everything``.
        what: the quantity that was measured.
        target: the bound that it has to meet.
        measured: its value, with its unit.
        ok: whether it met the target; ``None`` where there is no target, or no measurement.
    """

    id: str
    what: str
    target: str
    measured: str
    ok: bool | None


@dataclass(frozen=True, slots=True)
class Grid:
    """A table for readers: title, column heads, lines."""

    title: str
    heads: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


@dataclass(slots=True)
class Outcome:
    """Everything that one benchmark publishes.

    Attributes:
        rows: the judged figures.
        grids: tables beside them.
        notes: sentences on the method, and on whatever failed.
        figures: numbers that README or docs print (see :mod:`benchmarks.figures`), JSON values.
    """

    rows: list[Row] = field(default_factory=list)
    grids: list[Grid] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    def judge(self, name: str, what: str, target: str, measured: str, ok: bool | None) -> None:
        """Add a row."""
        self.rows.append(Row(name, what, target, measured, ok))

    def document(self) -> dict[str, Any]:
        """Return the outcome as JSON values."""
        return {
            "rows": [asdict(row) for row in self.rows],
            "tables": [
                {"title": grid.title, "heads": list(grid.heads),
                 "lines": [list(line) for line in grid.lines]}
                for grid in self.grids
            ],
            "notes": self.notes,
            "figures": self.figures,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Spread:
    """Quartiles, median and number of some values."""

    low: float
    median: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Return the spread of at least one value."""
        ordered = sorted(values)
        if len(ordered) < 2:
            return cls(ordered[0], ordered[0], ordered[0], 1)
        low, median, high = statistics.quantiles(ordered, n=4, method="inclusive")
        return cls(low, median, high, len(ordered))

    def text(self, digits: int = 1) -> str:
        """Return ``median (low to high)``."""
        return f"{self.median:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"


def plain(heads: Sequence[str], lines: Sequence[Sequence[str]], gap: str = "  ") -> list[str]:
    """Return a table as lines of text, columns aligned."""
    widths = [max(len(line[i]) for line in [heads, *lines]) for i in range(len(heads))]
    rule = ["-" * width for width in widths]
    return [
        gap.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in [heads, rule, *lines]
    ]


def markdown(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    rows = [list(heads), ["---"] * len(heads), *[list(line) for line in lines]]
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in escaped) + "\n"
