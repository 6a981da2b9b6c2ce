"""Pandas anti-patterns in sampled stacks: their line, their time, and the rewrite.

A pattern is recognised by a pandas function that only it runs, some of them only if an application frame
on the stack is in a loop. Its time is that of all samples with this function on the stack, including its
callees, and its line is the application line that led there. Only this table contains internal names of
pandas; a name that a version lacks simply never matches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..metrics.stack_trie import StackFrame, Trie

SECOND = 1e9
MIN_SHARE = 0.1  # of an endpoint's samples, below which a pattern is not reported
MIN_S = 0.1  # seconds, below which a pattern is not reported


class Pattern(NamedTuple):
    """One row of the table.

    Attributes:
        function: the pandas function that identifies it.
        name: its common name.
        rewrite: the recommended rewrite.
        looped: whether it is an anti-pattern only inside a loop.
        file: suffix of the function's file, if the name of the function is ambiguous.
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


def _pattern(frame: StackFrame, looped: bool) -> Pattern | None:
    pattern = _BY_FUNCTION.get(frame.function)
    if pattern is None or (pattern.looped and not looped):
        return None
    return pattern if frame.file.endswith(pattern.file) else None


def patterns(trie: Trie) -> list[Use]:
    """Return the uses of anti-patterns above the minimum, the most expensive first."""
    uses: dict[tuple[str, str], Use] = {}
    for path, node in trie.stacks():
        own: StackFrame | None = None
        looped = False
        for frame in path:
            if frame.own:
                own, looped = frame, looped or frame.loop
            elif own is not None and (pattern := _pattern(frame, looped)):
                use = uses.setdefault((pattern.name, own.shown()), Use(pattern, own.shown()))
                use.total += node.running + node.waiting
                use.samples += node.count
                break  # a nested pattern is attributed to the outer one
    whole = trie.total
    reported = [
        use for use in uses.values()
        if use.total >= MIN_SHARE * whole and use.total >= MIN_S * SECOND
    ]  # fmt: skip
    return sorted(reported, key=lambda use: (-use.total, use.where))
