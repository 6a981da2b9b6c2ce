"""What a benchmark hands back: rows to be judged, tables to be read, details for machines.

A row is one figure of the specification with its target. It says itself whether it passed, so the
runner only prints and writes.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """One figure.

    Attributes:
        id: short and stable, e.g. ``overhead.everything``.
        what: what was measured.
        target: what it has to be.
        measured: what it was, with its unit.
        ok: whether it passed; ``None`` where there is no target or it could not be measured.
    """

    id: str
    what: str
    target: str
    measured: str
    ok: bool | None


@dataclass(frozen=True, slots=True)
class Grid:
    """A table to be read: title, column heads, lines."""

    title: str
    heads: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


@dataclass(slots=True)
class Outcome:
    """All that one benchmark found out.

    Attributes:
        rows: the judged figures.
        grids: tables beside them.
        notes: sentences on how it was measured, and on what went wrong.
        details: everything else, JSON-serialisable.
    """

    rows: list[Row] = field(default_factory=list)
    grids: list[Grid] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)

    def judge(self, name: str, what: str, target: str, measured: str, ok: bool | None) -> None:
        """Add a row."""
        self.rows.append(Row(name, what, target, measured, ok))

    def document(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        keys = ("id", "what", "target", "measured", "ok")
        return {
            "rows": [{key: getattr(row, key) for key in keys} for row in self.rows],
            "tables": [
                {"title": grid.title, "heads": list(grid.heads), "lines": list(grid.lines)}
                for grid in self.grids
            ],
            "notes": self.notes,
            "details": self.details,
        }


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and quartiles of some values, and how many there were."""

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

    def document(self) -> dict[str, float]:
        """Return it as JSON values."""
        return {"q1": round(self.low, 4), "median": round(self.median, 4),
                "q3": round(self.high, 4), "n": self.count}  # fmt: skip


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
