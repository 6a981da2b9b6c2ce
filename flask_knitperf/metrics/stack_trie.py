"""Sampled stacks as prefix tries, with running and waiting time per stack.

A **frame** is a function of a library, or a line of application code. A stack is a path of frames from
the view inwards; stacks with a common prefix share it, so a trie of a few hundred nodes holds thousands
of samples. A node holds the time of the samples that end in it (self time).

Samples are biased: taking one requires the GIL, which a computing thread releases mostly when it starts
to wait. So a trie also holds the CPU times of the same requests by their threads' clocks, and
:meth:`Trie.calibrated` scales its times to match them: the clocks determine how much time was spent
running, the samples where, as far as they saw it.

Everything is bounded: in a full trie a stack is truncated at its deepest existing frame, which ``cut``
counts. Merging is addition, as for histograms.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..core.printable import printable

MAX_TRIE_NODES = 2000
# Largest ratio of missed to seen GIL-holding time that is attributed: computing in bursts of 10 ms is
# missed as often as it is seen, in bursts of 7.5 ms twice as often.
MAX_MISSED_RATIO = 2
MIN_SAMPLES = 10  # running, and waiting, of measured requests, below which times are not scaled
# Classes of requests with separate stacks.
NORMAL = "normal"
SLOW = "slow"


class StackFrame(NamedTuple):
    """One frame of a sampled stack.

    Attributes:
        file: its file, as reports show it.
        line: its line; 0 for a library.
        function: its qualified name.
        own: whether it is application code.
        loops: bytecode offsets of the heads of the loops of its function that it is in, the outermost
            first (application code only).
    """

    file: str
    line: int
    function: str
    own: bool
    loops: tuple[int, ...] = ()

    def shown(self) -> str:
        """Return ``file:line``, or the function of a library."""
        if not self.file:
            return self.function
        return f"{self.file}:{self.line}" if self.own else f"{self.function} ({self.file})"


# Frame of running time that the clocks measured and no sample saw.
UNSEEN = StackFrame("", 0, "computing that no sample saw", False)
Path = tuple[StackFrame, ...]


class Sampled(NamedTuple):
    """Samples of one request.

    Attributes:
        stacks: nanoseconds running and waiting, number of samples, and nanoseconds holding the GIL
            (:class:`Node`), by stack.
        missed: nanoseconds of samples of running code that came too late.
        runnable_ns: CPU time plus run-queue wait of its thread in nanoseconds, -1 where unknown.
    """

    stacks: Mapping[Path, Sequence[int]]
    missed: int = 0
    runnable_ns: int = -1


class Node:
    """One frame in one context, with its callees.

    Attributes:
        children: callees, by frame.
        running: nanoseconds of the samples that end here and were running.
        waiting: nanoseconds of the samples that end here and were not.
        holding: nanoseconds of the running ones that held the GIL when the sample was due.
        count: number of samples that end here.
    """

    __slots__ = ("children", "count", "holding", "running", "waiting")

    def __init__(self) -> None:
        self.children: dict[StackFrame, Node] = {}
        self.running = self.waiting = self.holding = 0
        self.count = 0


@dataclass(slots=True, eq=False, repr=False)
class Trie:
    """Stacks of one class of requests.

    Attributes:
        root: parent of the outermost frames.
        size: number of nodes below the root.
        cut: number of truncated samples.
        missed: nanoseconds of samples of running code that came too late.
        measured: number of samples of requests whose thread clocks were read.
        known: nanoseconds of these samples, and of the missed ones of these requests.
        seen: nanoseconds of ``known`` that were running or missed.
        ran: nanoseconds of ``known`` that were running by the clocks.
    """

    root: Node = field(default_factory=Node)
    size: int = 0
    cut: int = 0
    missed: int = 0
    measured: int = 0
    known: int = 0
    seen: int = 0
    ran: int = 0

    def add(
        self, path: Sequence[StackFrame], running: int, waiting: int, count: int = 1,
        room: int = MAX_TRIE_NODES, holding: int = 0,
    ) -> None:  # fmt: skip
        """Add samples of one stack.

        Args:
            path: its frames, the outermost first.
            running: nanoseconds running.
            waiting: nanoseconds waiting.
            count: number of samples.
            room: maximum number of nodes of the trie.
            holding: nanoseconds of the running ones, see :class:`Node`.
        """
        node = self.root
        for frame in path:
            below = node.children.get(frame)
            if below is None:
                if self.size >= room:
                    self.cut += count
                    break
                below = node.children[frame] = Node()
                self.size += 1
            node = below
        node.running += running
        node.waiting += waiting
        node.holding += holding
        node.count += count

    def add_request(self, request: Sampled, wall: int, room: int = MAX_TRIE_NODES) -> None:
        """Add the samples of one request.

        Args:
            request: its samples.
            wall: its duration in nanoseconds.
            room: maximum number of nodes of the trie.
        """
        ran, waited, samples = request.missed, 0, 0
        for path, (running, waiting, count, holding) in request.stacks.items():
            self.add(path, running, waiting, count, room, holding)
            ran, waited, samples = ran + running, waited + waiting, samples + count
        self.missed += request.missed
        if request.runnable_ns >= 0 < wall:
            self.measured += samples
            self.known += ran + waited
            self.seen += ran
            self.ran += (ran + waited) * min(request.runnable_ns, wall) // wall

    def stacks(self) -> Iterator[tuple[Path, Node]]:
        """Yield every path in which samples end, with its node."""
        waiting: list[tuple[Path, Node]] = [((), self.root)]
        while waiting:
            path, node = waiting.pop()
            if node.count:
                yield path, node
            waiting += [((*path, frame), below) for frame, below in node.children.items()]

    def include(self, other: Trie, room: int = MAX_TRIE_NODES) -> None:
        """Add all samples of another trie to this one."""
        self.cut += other.cut
        self.missed += other.missed
        self.measured += other.measured
        self.known += other.known
        self.seen += other.seen
        self.ran += other.ran
        for path, node in other.stacks():
            self.add(path, node.running, node.waiting, node.count, room, node.holding)

    def calibrated(self, most: int | None = None) -> Trie:
        """Return these stacks with times that match the threads' clocks.

        Missed time is attributed to the stacks that held the GIL, since only running code that holds it
        is missed, up to :data:`MAX_MISSED_RATIO` times their seen time; the remainder to the running
        stacks, up to half of their time; the rest ran in bursts too short to be seen and is shown as
        :data:`UNSEEN`. Then running and waiting times are each scaled by the factor that makes those of
        the measured requests match the clocks, and both such that their sum is unchanged:
        post-stratification (Holt and Smith, "Post Stratification", J. R. Statist. Soc. A 142, 1979).
        With few samples of either kind nothing is scaled.

        Args:
            most: maximum of the total in nanoseconds; a larger total is scaled to it.
        """
        nodes = [node for _, node in self.stacks()]
        ran, waited = sum(node.running for node in nodes), sum(node.waiting for node in nodes)
        holding = sum(node.holding for node in nodes)
        to_holders = min(self.missed, MAX_MISSED_RATIO * holding)
        to_running = min(self.missed - to_holders, ran // 2)
        longer, shorter = self._factors(ran + self.missed, waited)
        total = ran + self.missed + waited
        if most is not None and total > most:
            longer, shorter = longer * most / total, shorter * most / total
        trie = Trie(cut=self.cut)
        for path, node in self.stacks():
            more = to_holders * node.holding / max(1, holding)
            more += to_running * node.running / max(1, ran)
            running, waiting = (node.running + more) * longer, node.waiting * shorter
            trie.add(path, round(running), round(waiting), node.count)
        unseen = self.missed - to_holders - to_running
        if unseen:
            trie.add((UNSEEN,), round(unseen * longer), 0)
        return trie

    def _factors(self, ran: int, waited: int) -> tuple[float, float]:
        """Return the scale factors of running and waiting times."""
        rarer = min(self.seen, self.known - self.seen)  # with few samples a factor is mostly noise
        if not rarer or self.measured * rarer < MIN_SAMPLES * self.known:
            return 1.0, 1.0
        longer = self.ran / self.seen
        shorter = (self.known - self.ran) / (self.known - self.seen)
        scaled = ran * longer + waited * shorter
        whole = (ran + waited) / scaled if scaled else 1.0
        return longer * whole, shorter * whole

    @property
    def samples(self) -> int:
        """Number of samples."""
        return sum(node.count for _, node in self.stacks())

    @property
    def total(self) -> int:
        """Nanoseconds of all samples."""
        return sum(node.running + node.waiting for _, node in self.stacks())


def merge(tries: Iterable[Trie], room: int = MAX_TRIE_NODES) -> Trie:
    """Return the sum of tries, which are not mutated."""
    total = Trie()
    for trie in tries:
        total.include(trie, room)
    return total


def encode(trie: Trie, places: dict[StackFrame, int]) -> list[Any]:
    """Return a trie as JSON values.

    Args:
        trie: not mutated.
        places: index of each frame; new ones are added.

    Returns:
        ``[[cut, measured, missed, known, seen, ran], row, row, …]``; a row is the index of the parent
        row (-1 for the root), the index of the frame, microseconds running and waiting, number of
        samples, and microseconds holding. The last four of the sums are microseconds too.
    """
    sums = (trie.missed, trie.known, trie.seen, trie.ran)
    rows: list[Any] = [[trie.cut, trie.measured, *(value // 1000 for value in sums)]]
    waiting = [(-1, trie.root)]
    while waiting:
        above, node = waiting.pop()
        for frame, below in node.children.items():
            number = places.setdefault(frame, len(places))
            rows.append([above, number, below.running // 1000, below.waiting // 1000, below.count,
                         below.holding // 1000])  # fmt: skip
            waiting.append((len(rows) - 2, below))
    return rows


def decode(rows: Sequence[Any], places: Sequence[StackFrame]) -> Trie:
    """Return the trie encoded by :func:`encode`, its times truncated to microseconds.

    Raises:
        ValueError, TypeError, IndexError: the rows are invalid.
    """
    cut, measured, *sums = map(int, rows[0])
    missed, known, seen, ran = (value * 1000 for value in sums)
    if min(missed, known - seen, known - ran, seen, ran) < 0:
        raise ValueError("sums that contradict each other")
    trie = Trie(cut=cut, size=len(rows) - 1, missed=missed, measured=measured, known=known,
                seen=seen, ran=ran)  # fmt: skip
    nodes: list[Node] = []
    for above, number, running, waiting, count, holding in rows[1:]:
        node = Node()
        node.running, node.waiting, node.count = running * 1000, waiting * 1000, count
        node.holding = holding * 1000
        (trie.root if above < 0 else nodes[above]).children[places[number]] = node
        nodes.append(node)
    return trie


Tries = dict[tuple[str, str], dict[str, Trie]]
"""Tries by endpoint and method, then by class of requests."""


def pack(tries: Tries) -> dict[str, Any]:
    """Return tries as a JSON document in which each frame is written once."""
    places: dict[StackFrame, int] = {}
    rows = [
        [*pair, kind, encode(trie, places)]
        for pair, kinds in tries.items() for kind, trie in kinds.items()
    ]  # fmt: skip
    return {"places": [list(frame) for frame in places], "stacks": rows}


def as_places(rows: Iterable[Sequence[Any]]) -> list[StackFrame]:
    """Return the frames of a JSON document, with names that every output can show.

    Raises:
        ValueError, TypeError, IndexError: the rows are invalid.
    """
    return [
        StackFrame(
            printable(str(file)),
            int(line),
            printable(str(function)),
            bool(own),
            tuple(map(int, loops)),
        )
        for file, line, function, own, loops in rows
    ]


def unpack(documents: Iterable[dict[str, Any]], damaged: list[str] | None = None) -> Tries:
    """Return the sum of documents of :func:`pack`; an invalid document is skipped as a whole.

    Args:
        documents: results of :func:`pack`.
        damaged: the error of each skipped document is appended to this list.
    """
    total: Tries = {}
    for document in documents:
        try:
            places = as_places(document["places"])
            stacks = [(str(endpoint), str(method), str(kind), decode(rows, places))
                     for endpoint, method, kind, rows in document["stacks"]]  # fmt: skip
        except (KeyError, ValueError, TypeError, IndexError) as error:
            if damaged is not None:
                damaged.append(repr(error))
            continue
        for endpoint, method, kind, trie in stacks:
            total.setdefault((endpoint, method), {}).setdefault(kind, Trie()).include(trie)
    return total


def merge_documents(documents: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the sum of documents of :func:`pack` as one document."""
    return pack(unpack(documents))
