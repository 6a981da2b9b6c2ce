"""A plan for people: lines of a terminal, and a table for a notebook."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from html import escape

from ..core.units import amount
from .plan_data import ColumnPlan, PlanData

_LEFT = 12
"""Columns that stay, of which the reason is told."""
_WORTH = 1.005
"""What makes a frame fewer times smaller than this is not worth a figure."""
_NAME = 40
"""Characters of a column's name in a line."""


def text(plan: PlanData, width: int = 80) -> str:
    """Return a plan as lines of text."""
    lines = [*textwrap.wrap(_summary(plan), width), ""]
    changing, staying = _sorted(plan)
    for column in changing:
        figures = f"{amount(column.before.true)} → {amount(column.after.true)}"
        lines.append(_cut(f"{_name(column)}  {column.source} → {column.to}  {figures}", width))
        lines += _wrapped(column.reason, width, "    ")
    risks = _risks(changing)
    if risks:
        lines += ["", "What behaves in another way then"]
    for risk, columns in risks.items():
        lines += textwrap.wrap(f"{risk}: {', '.join(map(_plain, columns))}", width,
                               initial_indent="  ", subsequent_indent="    ")  # fmt: skip
    if staying:
        lines += ["", f"{len(staying):,} {'column stays' if len(staying) == 1 else 'columns stay'}"]
        for column in staying[:_LEFT]:
            lines += _wrapped(f"{_name(column)}  {column.source}: {column.reason}", width)
        if len(staying) > _LEFT:
            lines.append(f"and {len(staying) - _LEFT:,} more")
    return "\n".join(lines)


def _wrapped(said: str, width: int, first: str = "") -> list[str]:
    return textwrap.wrap(_plain(said), width, initial_indent=first, subsequent_indent="    ",
                         break_on_hyphens=False)  # fmt: skip


def _risks(columns: list[ColumnPlan]) -> dict[str, list[str]]:
    """Return the names of the columns that have each risk."""
    found: dict[str, list[str]] = {}
    for column in columns:
        for risk in column.risks:
            found.setdefault(risk, []).append(str(column.name))
    return found


def code(plan: PlanData, path: str, given: Mapping[str, str] | None = None) -> str:
    """Return Python with which a CSV file loads as planned, to be pasted.

    Args:
        plan: for the file.
        path: of it.
        given: options with which it was read.
    """
    more = "".join(f", {name}={value!r}" for name, value in (given or {}).items())
    lines = [
        "from flask_knitperf.frames import read_csv",
        f"df = read_csv({path!r}, level={plan.level!r}{more})",
    ]
    options = plan.read_options().get("dtype", {})
    if options:
        lines += [
            "",
            "# or, for exactly this file and without flask_knitperf:",
            "import pandas as pd",
        ]
        lines += [f"df = pd.read_csv({path!r}{more}, dtype={{"]
        lines += [f"    {name!r}: {to!r}," for name, to in options.items()]
        lines += ["})"]
    return "\n".join(lines)


def html(plan: PlanData) -> str:
    """Return a plan as a table."""
    changing, staying = _sorted(plan)
    rows = "".join(
        f"<tr><td>{column.position}</td><td>{escape(str(column.name))}</td>"
        f"<td>{escape(column.source)}</td><td>{escape(column.to if column.changes else '')}</td>"
        f"<td style='text-align:right'>{amount(column.before.true)}</td>"
        f"<td style='text-align:right'>{amount(column.after.true)}</td>"
        f"<td style='text-align:left'>{escape('; '.join([column.reason, *column.risks]))}</td></tr>"
        for column in (*changing, *staying[:_LEFT])
    )
    heads = "".join(
        f"<th>{head}</th>" for head in ("", "column", "from", "to", "bytes", "then", "why")
    )
    more = f"<p>and {len(staying) - _LEFT:,} columns that stay</p>" if len(staying) > _LEFT else ""
    return (
        f"<p>{escape(_summary(plan))}</p><table><thead><tr>{heads}</tr></thead>"
        f"<tbody>{rows}</tbody></table>{more}"
    )


def _summary(plan: PlanData) -> str:
    count = len(plan.columns)
    said = (
        f"{plan.rows:,} {'row' if plan.rows == 1 else 'rows'} × {count:,} "
        f"{'column' if count == 1 else 'columns'}, {plan.level}: "
    )
    if plan.ratio < _WORTH:
        return f"{said}{amount(plan.before.true)}, of which next to nothing can be spared"
    said += (
        f"{amount(plan.before.true)} → {amount(plan.after.true)}, {plan.ratio:.2f} times smaller"
    )
    if plan.before.deep != plan.before.true:
        said += f" (pandas counts {amount(plan.before.deep)} → {amount(plan.after.deep)})"
    return said


def _sorted(plan: PlanData) -> tuple[list[ColumnPlan], list[ColumnPlan]]:
    """Return the columns that change, the largest saving first, and those that stay."""
    changing = [column for column in plan.columns if column.changes]
    staying = [column for column in plan.columns if not column.changes]
    return sorted(changing, key=_saved), sorted(staying, key=_largest)


def _saved(column: ColumnPlan) -> tuple[int, int]:
    return column.after.true - column.before.true, column.position


def _largest(column: ColumnPlan) -> tuple[int, int]:
    return -column.before.true, column.position


def _name(column: ColumnPlan) -> str:
    return f"{column.position}: {_cut(str(column.name), _NAME)}"


def _cut(line: str, width: int) -> str:
    line = _plain(line)
    return line if len(line) <= width else line[: width - 1] + "…"


def _plain(line: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in line)
