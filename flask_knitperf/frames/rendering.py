"""Formatting of a plan: text for a terminal, a table for a notebook, and code to paste."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from html import escape

from ..core import units
from ..core.printable import printable, printable_lines
from .plan_data import ColumnPlan, PlanData

MAX_UNCHANGED = 12
"""Unchanged columns that are listed, the largest first."""
MIN_RATIO = 1.005
"""Ratio of bytes below which the summary reports no saving."""
MAX_NAME_LENGTH = 40
"""Characters of a column's name in a line."""


def text(plan: PlanData, width: int = 80) -> str:
    """Return a plan as lines of at most ``width`` characters."""
    # plain after wrapping, since a line must not break between number and unit
    lines = [*map(units.plain, textwrap.wrap(_summary(plan), width)), ""]
    changed, unchanged = _sorted(plan)
    for column in changed:
        sizes = f"{_size(column.before.true)} → {_size(column.after.true)}"
        lines.append(_cut(f"{_name(column)}  {column.source} → {column.to}  {sizes}", width))
        lines += _wrapped(column.reason, width, "    ")
    risks = _columns_by_risk(changed)
    if risks:
        lines += ["", "Behaviour changes"]
    for risk, columns in risks.items():
        lines += textwrap.wrap(f"{risk}: {', '.join(map(printable, columns))}", width,
                               initial_indent="  ", subsequent_indent="    ")  # fmt: skip
    if unchanged:
        lines += ["", units.plain(units.count(len(unchanged), "unchanged column"))]
        for column in unchanged[:MAX_UNCHANGED]:
            lines += _wrapped(f"{_name(column)}  {column.source}: {column.reason}", width)
        if len(unchanged) > MAX_UNCHANGED:
            lines.append(f"and {len(unchanged) - MAX_UNCHANGED:,} more")
    return "\n".join(lines)


def _size(n_bytes: int) -> str:
    return units.plain(units.size(n_bytes))


def _wrapped(sentence: str, width: int, first_indent: str = "") -> list[str]:
    return textwrap.wrap(printable(sentence), width, initial_indent=first_indent,
                         subsequent_indent="    ", break_on_hyphens=False)  # fmt: skip


def _columns_by_risk(columns: list[ColumnPlan]) -> dict[str, list[str]]:
    """Return the names of the columns that have each risk."""
    names: dict[str, list[str]] = {}
    for column in columns:
        for risk in column.risks:
            names.setdefault(risk, []).append(str(column.name))
    return names


def code(plan: PlanData, path: str, options: Mapping[str, str] | None = None) -> str:
    """Return Python code that loads a CSV file as planned.

    Args:
        plan: of the file.
        path: of the file.
        options: with which ``pandas.read_csv`` has read it.
    """
    arguments = "".join(f", {name}={value!r}" for name, value in (options or {}).items())
    lines = [
        "from flask_knitperf.frames import read_csv",
        f"df = read_csv({path!r}, level={plan.level!r}{arguments})",
    ]
    dtypes = plan.read_options().get("dtype", {})
    if dtypes:
        lines += [
            "",
            "# or, for exactly this file and without flask_knitperf:",
            "import pandas as pd",
        ]
        lines += [f"df = pd.read_csv({path!r}{arguments}, dtype={{"]
        lines += [f"    {name!r}: {dtype!r}," for name, dtype in dtypes.items()]
        lines += ["})"]
    return "\n".join(lines)


def html(plan: PlanData) -> str:
    """Return a plan as an HTML table."""
    changed, unchanged = _sorted(plan)
    rows = "".join(
        f"<tr><td>{column.position}</td><td>{escape(str(column.name))}</td>"
        f"<td>{escape(column.source)}</td><td>{escape(column.to if column.changes else '')}</td>"
        f"<td style='text-align:right'>{units.size(column.before.true)}</td>"
        f"<td style='text-align:right'>{units.size(column.after.true)}</td>"
        f"<td style='text-align:left'>{escape('; '.join([column.reason, *column.risks]))}</td></tr>"
        for column in (*changed, *unchanged[:MAX_UNCHANGED])
    )
    heads = "".join(
        f"<th>{head}</th>"
        for head in ("", "column", "from", "to", "size now", "size planned", "reason")
    )
    unlisted = len(unchanged) - MAX_UNCHANGED
    footer = f"<p>and {units.count(unlisted, 'more unchanged column')}</p>" if unlisted > 0 else ""
    return printable_lines(
        f"<p>{escape(_summary(plan))}</p><table><thead><tr>{heads}</tr></thead>"
        f"<tbody>{rows}</tbody></table>{footer}"
    )


def _summary(plan: PlanData) -> str:
    shape = f"{units.count(plan.rows, 'row')} × {units.count(len(plan.columns), 'column')}"
    before, after = units.size(plan.before.true), units.size(plan.after.true)
    if plan.ratio < MIN_RATIO:
        return f"{shape}, {plan.level}: {before}, of which almost nothing can be saved"
    summary = f"{shape}, {plan.level}: {before} → {after}, {plan.ratio:.2f} times smaller"
    if plan.before.deep != plan.before.true:
        deep = f"{units.size(plan.before.deep)} → {units.size(plan.after.deep)}"
        summary += f" (pandas counts {deep})"
    return summary


def _sorted(plan: PlanData) -> tuple[list[ColumnPlan], list[ColumnPlan]]:
    """Return the changed columns, the largest saving first, and the unchanged, the largest first."""
    changed = [column for column in plan.columns if column.changes]
    unchanged = [column for column in plan.columns if not column.changes]
    return (
        sorted(
            changed, key=lambda column: (column.after.true - column.before.true, column.position)
        ),
        sorted(unchanged, key=lambda column: (-column.before.true, column.position)),
    )


def _name(column: ColumnPlan) -> str:
    return f"{column.position}: {_cut(str(column.name), MAX_NAME_LENGTH)}"


def _cut(line: str, width: int) -> str:
    line = printable(line)
    return line if len(line) <= width else line[: width - 1] + "…"
