"""The plan of a frame as data: each column's current and planned type, bytes, reason and risks.

Columns are identified by position, since labels may be duplicated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from .conversions import Categorize, DowncastFloat, DowncastInteger, Keep, Step, TrimCategories
from .memory_usage import Size, total_size


@dataclass(frozen=True)
class ColumnPlan:
    """Plan of one column.

    Attributes:
        position: of the column, from 0.
        name: its label.
        source: name of its current type.
        to: name of its planned type; equal to ``source`` where it is unchanged.
        step: the conversion.
        before: its current bytes.
        after: its planned bytes.
        reason: why, in words.
        risks: changes of behaviour, one sentence each.
        dtype: its current type, which :meth:`Plan.unpack` restores.
    """

    position: int
    name: Hashable
    source: str
    to: str
    step: Step
    before: Size
    after: Size
    reason: str
    risks: tuple[str, ...]
    dtype: Any = field(default=None, repr=False, compare=False)

    @property
    def changes(self) -> bool:
        """Whether the column is converted."""
        return not isinstance(self.step, Keep)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "position": self.position, "name": str(self.name), "from": self.source, "to": self.to,
            "bytes_before": self.before.true, "bytes_after": self.after.true,
            "deep_bytes_before": self.before.deep, "deep_bytes_after": self.after.deep,
            "reason": self.reason, "risks": list(self.risks),
        }  # fmt: skip


@dataclass(frozen=True)
class PlanData:
    """Plan of all columns of a frame, without the operations of :class:`.Plan`.

    Attributes:
        level: ``safe``, ``balanced``, ``compact`` or ``pack``.
        rows: of the frame that was planned.
        index: bytes of its row labels, which are unchanged.
        columns: the columns, in order.
        labels: the frame's column labels.
        float_tolerance: largest allowed relative error of a floating-point number.
    """

    level: str
    rows: int
    index: Size
    columns: tuple[ColumnPlan, ...]
    labels: pd.Index[Any] = field(repr=False, compare=False)
    float_tolerance: float = 0.0

    @property
    def before(self) -> Size:
        """Current bytes of the frame, row labels included."""
        return self.index + total_size(column.before for column in self.columns)

    @property
    def after(self) -> Size:
        """Planned bytes of the frame, row labels included."""
        return self.index + total_size(column.after for column in self.columns)

    @property
    def ratio(self) -> float:
        """Current bytes divided by planned bytes; 1.0 for an empty frame."""
        after = self.after.true
        return self.before.true / after if after else 1.0

    def read_options(self) -> dict[str, Any]:
        """Return arguments for ``pandas.read_csv`` that load the file of this frame with small types.

        They are valid for that file only: beyond a planned type pandas 3 raises and pandas 2 wraps
        numbers silently, and float32 is not checked. :func:`.read_csv` checks, and reads any file.

        Returns:
            ``{"dtype": {label: type}}`` of the columns that change, without duplicated labels and
            without types that ``pandas.read_csv`` cannot read (packed numbers, datetimes).
        """
        occurrences = Counter(map(str, self.labels))
        dtypes: dict[Hashable, str] = {
            column.name: column.to
            for column in self.columns
            if isinstance(
                column.step, DowncastInteger | DowncastFloat | Categorize | TrimCategories
            )
            and isinstance(column.name, str)
            and occurrences[column.name] == 1
        }
        return {"dtype": dtypes} if dtypes else {}

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as JSON values; ``deep`` bytes are those that pandas counts."""
        return {
            "level": self.level, "rows": self.rows, "float_tolerance": self.float_tolerance,
            "bytes_before": self.before.true, "bytes_after": self.after.true,
            "deep_bytes_before": self.before.deep, "deep_bytes_after": self.after.deep,
            "ratio": round(self.ratio, 3),
            "columns": [column.as_dict() for column in self.columns],
        }  # fmt: skip
