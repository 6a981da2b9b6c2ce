"""Advice for the calls that take the time at an application line, from sampled stacks.

A callee is recognised by a library function that the line runs, directly or below. Its time at the line
is that of all samples with this function on the stack; the line is the innermost application line that
led there. The body of a loop over rows belongs to the call that yields them, unless it is mostly other
work. A line has one advice: that of the callee with the most time. Where no callee of a line is in the
table, or all of them are a small part of its time, there is no advice for it.

Callees of C functions come from :mod:`..collectors.sampler.c_calls`. Only :mod:`.callee_table` contains
names of library internals; a name that a version lacks never matches.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..metrics.stack_trie import StackFrame, Trie
from .callee_table import TEMPLATE, UNWATCHED, Callee, candidates

SECOND = 1e9
MIN_SHARE = 0.1  # of an endpoint's samples, below which a callee is not reported
MIN_S = 0.1  # seconds, below which a callee is not reported
MIN_LINE_SHARE = 0.4  # of the time of its line, below which a callee is not its cause
MIN_LIBRARY_SHARE = 0.5  # of the time of a loop over rows, below which its body is other work

_LoopKey = tuple[str, str, int]
"""File and function of a loop, and the bytecode offset of its head."""


@dataclass(slots=True)
class Use:
    """A callee at one line.

    Attributes:
        callee: its row in the table.
        where: the line.
        total: nanoseconds of the callee at the line, or in the loop that it begins.
        samples: number of samples.
        avoidable: nanoseconds that following the advice concerns: those of the callee at all lines of
            the function.
    """

    callee: Callee
    where: str
    total: int = 0
    samples: int = 0
    avoidable: int = 0


class _Sample(NamedTuple):
    """Samples of one stack in nanoseconds, with the frame that they are attributed to and its callee."""

    path: Sequence[StackFrame]
    time: int
    number: int
    frame: StackFrame
    callee: Callee | None


@dataclass(slots=True)
class _Loop:
    """A loop over the rows that a callee yields: its time, and that of the callee's library."""

    frame: StackFrame
    callee: Callee
    total: int = 0
    library: int = 0


@dataclass(slots=True)
class _Line:
    """Time of a line in nanoseconds, and its callees by name."""

    frame: StackFrame
    total: int = 0
    uses: dict[str, Use] = field(default_factory=dict)


def uses(trie: Trie, *, watched: bool = False) -> list[Use]:
    """Return the callee with the most time of each line, the most expensive first.

    Callees below :data:`MIN_SHARE` and :data:`MIN_S`, and below :data:`MIN_LINE_SHARE` of the time of
    their line, are left out.

    Args:
        trie: sampled stacks of an endpoint.
        watched: whether its statements are watched.
    """
    lines: dict[str, _Line] = {}
    for sample in _attributed(trie, watched):
        where = sample.frame.shown()
        line = lines.setdefault(where, _Line(sample.frame))
        line.total += sample.time
        if sample.callee is not None:
            use = line.uses.setdefault(sample.callee.name, Use(sample.callee, where))
            use.total += sample.time
            use.samples += sample.number
    largest = [(line, _largest(line.uses)) for line in lines.values() if line.uses]
    sums: dict[tuple[str, str, str], int] = {}
    for line, use in largest:
        key = line.frame.file, line.frame.function, use.callee.name
        sums[key] = sums.get(key, 0) + use.total
    for line, use in largest:
        use.avoidable = sums[line.frame.file, line.frame.function, use.callee.name]
    minimum = max(MIN_SHARE * trie.total, MIN_S * SECOND)
    reported = [
        use for line, use in largest if use.total >= max(minimum, MIN_LINE_SHARE * line.total)
    ]
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


def _attributed(trie: Trie, watched: bool) -> list[_Sample]:
    """Return the samples with application code; those in a loop over rows are attributed to its head."""
    samples: list[_Sample] = []
    for path, node in trie.stacks():
        frame, callee = recognise(path, watched=watched)
        if frame is not None:
            samples.append(_Sample(path, node.running + node.waiting, node.count, frame, callee))
    loops = _loops(samples)
    return [_in_loop(sample, loops) for sample in samples] if loops else samples


def _loops(samples: Iterable[_Sample]) -> dict[_LoopKey, _Loop]:
    """Return the loops over the rows that a callee yields, unless they mostly do other work."""
    known = list(samples)
    loops: dict[_LoopKey, _Loop] = {}
    for sample in known:
        if sample.callee is not None and sample.callee.iterated and sample.frame.loops:
            *_, key = _keys(sample.frame)
            loops.setdefault(key, _Loop(sample.frame, sample.callee))
    for sample in known:
        for loop in _around(sample, loops):
            loop.total += sample.time
            if sample.callee is not None:
                loop.library += sample.time
    return {
        key: loop for key, loop in loops.items() if loop.library >= MIN_LIBRARY_SHARE * loop.total
    }


def _in_loop(sample: _Sample, loops: Mapping[_LoopKey, _Loop]) -> _Sample:
    loop = next(iter(_around(sample, loops)), None)
    if loop is None:
        return sample
    return sample._replace(frame=loop.frame, callee=loop.callee)


def _around(sample: _Sample, loops: Mapping[_LoopKey, _Loop]) -> list[_Loop]:
    """Return the loops over rows that samples belong to, the outermost first."""
    around = [
        loops[key] for frame in sample.path if frame.own for key in _keys(frame) if key in loops
    ]
    return [loop for loop in around if _belongs(sample.callee, loop.callee)]


def _belongs(callee: Callee | None, looping: Callee) -> bool:
    return callee is None or callee.name == looping.name or callee.library == looping.library


def _keys(frame: StackFrame) -> list[_LoopKey]:
    return [(frame.file, frame.function, head) for head in frame.loops]


def recognise(
    path: Sequence[StackFrame], *, watched: bool = False
) -> tuple[StackFrame | None, Callee | None]:
    """Return the line that a stack is attributed to, and its callee if that is in the table.

    The line is that of the innermost application frame, unless a callee covers the functions that it
    calls back: time in a function that ``apply`` runs for each row belongs to ``apply``.

    Args:
        path: the stack, the outermost frame first.
        watched: whether the statements of the endpoint are watched.

    Returns:
        ``None`` and ``None`` for a stack without application code.
    """
    own = [number for number, frame in enumerate(path) if frame.own]
    if not own:
        return None, None
    at, callee = path[own[-1]], None
    for start, end in zip(reversed(own), (len(path), *reversed(own)), strict=False):
        looped = any(path[number].loops for number in own if number <= start)
        match = _match(path[start + 1 : end], looped, watched)
        innermost = end == len(path)
        if innermost and match is None and not path[start].file.endswith(".py"):
            match = TEMPLATE
        if match is not None and (innermost or match.covers_callback(callee)):
            at, callee = path[start], match
    return at, callee


def _match(frames: Sequence[StackFrame], looped: bool, watched: bool) -> Callee | None:
    """Return the callee of the outermost frame that is in the table, or the one within it."""
    match: Callee | None = None
    for frame in frames:
        for callee in candidates(frame):
            if (callee.looped and not looped) or (callee is UNWATCHED and watched):
                continue
            if match is None or callee.within == match.name:
                match = callee
                break
    return match
