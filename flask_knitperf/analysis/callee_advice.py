"""Advice for the calls that take the time at an application line, from sampled stacks.

A callee is recognised by a library function that the line runs, directly or below. Its time at the line
is that of all samples with this function on the stack; the line is the innermost application line that
led there. A line has one advice: that of the callee with the most time. Where no callee of a line is in
the table, or all of them are a small part of its time, there is no advice for it.

Callees of C functions come from :mod:`..collectors.sampler.c_calls`. Only :mod:`.callee_table` contains
names of library internals; a name that a version lacks never matches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..metrics.stack_trie import StackFrame, Trie
from .callee_table import TEMPLATE, Callee, candidates

SECOND = 1e9
MIN_SHARE = 0.1  # of an endpoint's samples, below which a callee is not reported
MIN_S = 0.1  # seconds, below which a callee is not reported
MIN_LINE_SHARE = 0.4  # of the time of its line, below which a callee is not its cause


@dataclass(slots=True)
class Use:
    """A callee at one line: nanoseconds and samples."""

    callee: Callee
    where: str
    total: int = 0
    samples: int = 0


@dataclass(slots=True)
class _Line:
    """Time of a line in nanoseconds, and its callees by name."""

    total: int = 0
    uses: dict[str, Use] = field(default_factory=dict)


def uses(trie: Trie) -> list[Use]:
    """Return the callee with the most time of each line, the most expensive first.

    Callees below :data:`MIN_SHARE` and :data:`MIN_S`, and below :data:`MIN_LINE_SHARE` of the time of
    their line, are left out.
    """
    lines: dict[str, _Line] = {}
    for path, node in trie.stacks():
        where, callee = recognise(path)
        if where is None:
            continue
        line, total = lines.setdefault(where, _Line()), node.running + node.waiting
        line.total += total
        if callee is not None:
            use = line.uses.setdefault(callee.name, Use(callee, where))
            use.total += total
            use.samples += node.count
    largest = [_largest(line.uses) for line in lines.values() if line.uses]
    minimum = max(MIN_SHARE * trie.total, MIN_S * SECOND)
    reported = [
        use for use in largest
        if use.total >= max(minimum, MIN_LINE_SHARE * lines[use.where].total)
    ]  # fmt: skip
    return sorted(reported, key=lambda use: (-use.total, use.where))


def _largest(by_name: dict[str, Use]) -> Use:
    """Return the callee of a line with the most time, which includes that of its steps."""
    for use in by_name.values():
        for step in use.callee.steps:
            if step in by_name:
                use.total += by_name[step].total
                use.samples += by_name[step].samples
                by_name[step].total = 0
    return max(by_name.values(), key=lambda use: (use.total, use.callee.name))


def recognise(path: Sequence[StackFrame]) -> tuple[str | None, Callee | None]:
    """Return the line of a stack (``file:line``), and its callee if that is in the table.

    The line is that of the innermost application frame, unless a callee covers the functions that it
    calls back: time in a function that ``apply`` runs for each row belongs to ``apply``.

    Returns:
        ``None`` and ``None`` for a stack without application code.
    """
    own = [number for number, frame in enumerate(path) if frame.own]
    if not own:
        return None, None
    where, callee = path[own[-1]].shown(), None
    for start, end in zip(reversed(own), (len(path), *reversed(own)), strict=False):
        looped = any(path[number].loop for number in own if number <= start)
        match = _match(path[start + 1 : end], looped)
        innermost = end == len(path)
        if innermost and match is None and not path[start].file.endswith(".py"):
            match = TEMPLATE
        if match is not None and (innermost or match.covers_callback(callee)):
            where, callee = path[start].shown(), match
    return where, callee


def _match(frames: Sequence[StackFrame], looped: bool) -> Callee | None:
    """Return the callee of the outermost frame that is in the table, or the one within it."""
    match: Callee | None = None
    for frame in frames:
        for callee in candidates(frame):
            if callee.looped and not looped:
                continue
            if match is None or callee.within == match.name:
                match = callee
                break
    return match
