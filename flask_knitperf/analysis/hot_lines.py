"""Hot lines, flame graphs and differences, from sampled stacks.

Time in a library is attributed to the application line that called it: the time of a line is that of
all samples in which it is the innermost application frame. Shares are of all samples of the requests.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..metrics.stack_trie import NORMAL, SLOW, Node, StackFrame, Trie, merge

SECOND = 1e9
MIN_COMPARED_SAMPLES = 5  # of slow and of normal requests, below which they are not compared
MAX_NORMAL_RATIO = 3  # of sampled to recorded time; samples are kept in slices longer than a window
_SYMBOLS = {"__init__": "()", "__new__": "()", "__getitem__": "[…]", "__setitem__": "[…] ="}
# Special methods by their operation: the class that defines them is often an internal base class.
_OPERATIONS = {
    **dict.fromkeys(("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__"), "comparison"),
    **dict.fromkeys(("__add__", "__sub__", "__mul__", "__truediv__", "__floordiv__", "__mod__",
                     "__pow__", "__radd__", "__rsub__", "__rmul__", "__rtruediv__", "__neg__",
                     "__iadd__", "__isub__", "__imul__", "__abs__", "__invert__", "__and__",
                     "__or__", "__xor__", "__matmul__"), "arithmetic"),
    "__contains__": "in", "__iter__": "iteration", "__next__": "iteration", "__len__": "len",
}  # fmt: skip


@dataclass(slots=True)
class Line:
    """One application line, or a library function of stacks without application code.

    Attributes:
        where: ``file:line``.
        function: its function.
        running: nanoseconds running.
        waiting: nanoseconds waiting.
        samples: number of samples.
        inside: nanoseconds by the library function that it called, by its public name.
    """

    where: str
    function: str
    running: int = 0
    waiting: int = 0
    samples: int = 0
    inside: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Total time in nanoseconds."""
        return self.running + self.waiting

    @property
    def calls(self) -> str | None:
        """Library function in which most of its time is spent, ``None`` without one."""
        return max(self.inside, key=lambda name: self.inside[name], default=None)


def lines_within(trie: Trie, function: str) -> list[Line]:
    """Return the lines that a function of the application runs, directly or below.

    Args:
        trie: the stacks.
        function: its qualified name.
    """
    within = Trie()
    for path, node in trie.stacks():
        if any(frame.own and frame.function == function for frame in path):
            within.add(path, node.running, node.waiting, node.count)
    return top_lines(within)


def top_lines(trie: Trie) -> list[Line]:
    """Return the lines by total time, the largest first."""
    lines: dict[str, Line] = {}
    for path, node in trie.stacks():
        frame, called = innermost(path)
        if frame is None:
            continue
        line = lines.setdefault(frame.shown(), Line(frame.shown(), frame.function))
        line.running += node.running
        line.waiting += node.waiting
        line.samples += node.count
        if called is not None:
            total = node.running + node.waiting
            line.inside[called] = line.inside.get(called, 0) + total
    return sorted(lines.values(), key=lambda line: (-line.total, line.where))


def innermost(path: Sequence[StackFrame]) -> tuple[StackFrame | None, str | None]:
    """Return the innermost application frame of a stack, and the library call at it, if any.

    Internals of a library count for the first public function below the application's frame.
    """
    for number in range(len(path) - 1, -1, -1):
        if path[number].own:
            below = [frame.function for frame in path[number + 1 :]]
            return path[number], next(
                filter(None, map(public_name, below)), next(iter(below), None)
            )
    return (path[0] if path else None), None


@functools.lru_cache(maxsize=4096)
def public_name(function: str) -> str | None:
    """Return a function as its caller writes it, ``None`` for internals of a library.

    Args:
        function: its qualified name.
    """
    *scopes, name = function.split(".")
    if "<locals>" in scopes or name.startswith("<") or any(_is_private(scope) for scope in scopes):
        return None
    if not name.startswith("__"):
        return None if _is_private(name) else function
    symbol = _SYMBOLS.get(name)
    return ".".join(scopes) + symbol if symbol is not None and scopes else _OPERATIONS.get(name)


def _is_private(name: str) -> bool:
    return name.startswith("_")


def whole(kinds: dict[str, Trie]) -> Trie:
    """Return the merged stacks of slow and normal requests."""
    return merge(kinds.values())


@dataclass(slots=True)
class Frame:
    """One box of a flame graph.

    Attributes:
        place: its stack frame.
        begin: its left edge, 0 to 1 of the width.
        width: its share of the total time, 0 to 1.
        depth: 0 for the outermost.
        running: running share of its time.
        other: its share of the total time in the compared stacks, ``None`` without comparison.
    """

    place: StackFrame
    begin: float
    width: float
    depth: int
    running: float
    other: float | None = None


MIN_WIDTH = 0.004  # share of the total time below which a box is omitted
MAX_DEPTH = 48


def flame(trie: Trie, other: Trie | None = None) -> list[Frame]:
    """Return the boxes of a flame graph, outermost first; very narrow ones are omitted.

    Nested library frames are one box, that of the outermost: the function that the application called.

    Args:
        trie: the stacks to draw.
        other: the stacks to compare with, box by box.
    """
    folded = _folded(trie)
    against = None if other is None or not other.total else _folded(other)
    boxes: list[Frame] = []
    if folded.total:
        whole_ = folded.total, 1 if against is None else against.total
        below = None if against is None else against.root
        _lay(folded.root, below, 0.0, 0, whole_, against is not None, boxes)
    return sorted(boxes, key=lambda box: (box.depth, box.begin))


def _folded(trie: Trie) -> Trie:
    folded = Trie()
    for path, node in trie.stacks():
        short: list[StackFrame] = []
        for frame in path:
            if frame.own or not short or short[-1].own:
                short.append(frame)
        folded.add(short, node.running, node.waiting, node.count)
    return folded


def _sum(node: Node) -> tuple[int, int]:
    running, waiting = node.running, node.waiting
    for below in node.children.values():
        more = _sum(below)
        running, waiting = running + more[0], waiting + more[1]
    return running, waiting


def _lay(
    node: Node, other: Node | None, begin: float, depth: int, whole_: tuple[int, int], compared: bool,
    boxes: list[Frame],
) -> None:  # fmt: skip
    if depth >= MAX_DEPTH:
        return
    sized = [(place, below, *_sum(below)) for place, below in node.children.items()]
    for place, below, running, waiting in sorted(sized, key=lambda s: -(s[2] + s[3])):
        width = (running + waiting) / whole_[0]
        if width < MIN_WIDTH:
            continue
        same = None if other is None else other.children.get(place)
        share = (0 if same is None else sum(_sum(same))) / whole_[1] if compared else None
        computing = running / max(1, running + waiting)
        boxes.append(Frame(place, begin, width, depth, computing, share))
        _lay(below, same, begin, depth + 1, whole_, compared, boxes)
        begin += width


class ChangedLine(NamedTuple):
    """Time that a request spends in a line, in two windows.

    Attributes:
        where: ``file:line``.
        function: its function.
        ms: its share of the samples times the mean of the requests.
        before_ms: the same in the other window.
    """

    where: str
    function: str
    ms: float
    before_ms: float

    @property
    def change_ms(self) -> float:
        """Growth in milliseconds."""
        return self.ms - self.before_ms


def change(
    now: Trie, before: Trie, now_ms: float | None, before_ms: float | None
) -> list[ChangedLine]:
    """Return the lines on which requests of one window spend more or less time than those of another.

    A line's time per request is its share of the samples times the mean of the requests, so that an
    unchanged line is not blamed when another one became faster.

    Args:
        now: stacks of the window.
        before: stacks of the compared window.
        now_ms: mean of its requests, in milliseconds, ``None`` without requests.
        before_ms: mean of the other window's requests, in milliseconds.

    Returns:
        The lines, largest growth first; empty if either window has no samples.
    """
    if not now.total or not before.total or now_ms is None or before_ms is None:
        return []
    lines = [
        ChangedLine(where, function, share * now_ms, before_share * before_ms)
        for where, (function, share, before_share) in _shares(now, before).items()
    ]
    return sorted(lines, key=lambda line: (-line.change_ms, line.where))


class Difference(NamedTuple):
    """A line's share of the time of slow requests, and of normal ones.

    Attributes:
        where: ``file:line``.
        function: its function.
        slow_share: 0 to 1.
        normal_share: 0 to 1.
    """

    where: str
    function: str
    slow_share: float
    normal_share: float

    @property
    def change(self) -> float:
        """Slow requests' share minus normal ones'."""
        return self.slow_share - self.normal_share


def difference(kinds: dict[str, Trie], normal_ns: float | None = None) -> list[Difference]:
    """Return the lines on which slow requests spend a different share of their time than normal ones.

    Args:
        kinds: the stacks of an endpoint.
        normal_ns: upper bound of the nanoseconds that all its normal requests took, ``None`` where most
            of its requests are slow. Where the samples have far more, they are those of slow requests,
            and the normal ones were too fast to be sampled.

    Returns:
        The lines, largest growth first; empty where the samples of one class do not suffice.
    """
    slow, normal = kinds.get(SLOW), kinds.get(NORMAL)
    if slow is None or normal is None or min(slow.samples, normal.samples) < MIN_COMPARED_SAMPLES:
        return []
    if not slow.total or not normal.total:
        return []
    if normal_ns is not None and normal.total > MAX_NORMAL_RATIO * normal_ns:
        return []
    lines = [Difference(where, *shares) for where, shares in _shares(slow, normal).items()]
    return sorted(lines, key=lambda line: (-line.change, line.where))


def _shares(first: Trie, second: Trie) -> dict[str, tuple[str, float, float]]:
    """Return function, share of the first stacks and share of the second ones, by line."""
    shares: dict[str, tuple[str, float, float]] = {}
    total, second_total = first.total, second.total
    for line in top_lines(first):
        shares[line.where] = line.function, line.total / total, 0.0
    for line in top_lines(second):
        function, share, _ = shares.get(line.where, (line.function, 0.0, 0.0))
        shares[line.where] = function, share, line.total / second_total
    return shares
