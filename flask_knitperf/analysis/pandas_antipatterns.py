"""Ways of using pandas that cost, told from samples: at which line, for how long, and the rewrite.

A pattern is known by a function of pandas that only it runs, some of them only where own code on the
way there is in a loop. Its time is that of all samples with this function on the stack, whatever the
function calls, and its line is the own line that led there. The table is the only place that knows
pandas' inner names; a name that a version lacks is never seen, and no more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..metrics.stack_trie import StackFrame, Trie

SECOND = 1e9
LEAST_SHARE = 0.1
LEAST_S = 0.1
"""A pattern is told where it took this share of an endpoint's samples, and so many seconds."""


class Pattern(NamedTuple):
    """One row of the table.

    Attributes:
        function: of pandas, that gives it away.
        name: what people call it.
        rewrite: what to write instead.
        looped: whether it is one only within a loop.
        file: end of the name of the function's file, where the function's name alone is too common.
    """

    function: str
    name: str
    rewrite: str
    looped: bool = False
    file: str = ""


PATTERNS = (
    Pattern("DataFrame.iterrows", "iterrows",
            "Work on whole columns; where rows are needed one by one, take them from "
            "to_dict('records') once."),
    Pattern("DataFrame.itertuples", "itertuples",
            "Work on whole columns; zip only the columns that are needed."),
    Pattern("FrameApply.apply_series_generator", "apply(axis=1)",
            "Write what the function does with whole columns; each row becomes a Series otherwise."),
    Pattern("DataFrame._getitem_bool_array", "a filter of the whole table",
            "Filter it once, or group it once and look the parts up, instead of once for each key."),
    Pattern("DataFrame._get_value", "single cells by loc or at",
            "Take the column as an array before the loop."),
    Pattern("_iLocIndexer._setitem_with_indexer", "single cells set by loc",
            "Collect the values in a list and assign the column once."),
    Pattern("comp_method_OBJECT_ARRAY", "comparing a column of Python objects",
            "Give the column a string or category dtype when it is read."),
    Pattern("concat", "concat in a loop",
            "Collect the pieces in a list and concat them once, behind the loop.",
            looped=True, file="reshape/concat.py"),
    Pattern("merge", "merge in a loop",
            "Merge the whole tables once, before the loop, and look the parts up.",
            looped=True, file="reshape/merge.py"),
    Pattern("Grouping._codes_and_uniques", "grouping in a loop",
            "Group the table once, before the loop, and take the groups from that.", looped=True),
    Pattern("BaseExcelReader.parse", "reading a workbook",
            "Where its formulas are not needed, write Parquet or CSV beside the workbook once, and read "
            "that.", file="excel/_base.py"),
)  # fmt: skip
_BY_FUNCTION = {pattern.function: pattern for pattern in PATTERNS}


@dataclass(slots=True)
class Use:
    """A pattern at one line: nanoseconds and samples."""

    pattern: Pattern
    where: str
    total: int = 0
    samples: int = 0


def _pattern(place: StackFrame, looped: bool) -> Pattern | None:
    found = _BY_FUNCTION.get(place.function)
    if found is None or (found.looped and not looped) or not place.file.endswith(found.file):
        return None
    return found


def patterns(trie: Trie) -> list[Use]:
    """Return what of it is worth telling, the dearest first."""
    found: dict[tuple[str, str], Use] = {}
    for path, node in trie.stacks():
        own: StackFrame | None = None
        looped = False
        for place in path:
            if place.own:
                own, looped = place, looped or place.loop
            elif own is not None and (pattern := _pattern(place, looped)):
                use = found.setdefault((pattern.name, own.shown()), Use(pattern, own.shown()))
                use.total += node.running + node.waiting
                use.samples += node.count
                break  # one inside another is the outer one's
    whole = trie.total
    told = [
        use for use in found.values()
        if use.total >= LEAST_SHARE * whole and use.total >= LEAST_S * SECOND
    ]  # fmt: skip
    return sorted(told, key=lambda use: (-use.total, use.where))
