"""Sampled stacks as tries: what was on the stack, for how long, running or waiting.

A **place** is a function of a library, or a line of the application's own code. A stack is a path
of places from the view inwards; stacks with a common beginning share it, so a trie of a few hundred
nodes holds thousands of samples. A node holds the time of the samples that end in it, not of those
that go on.

Samples miss some of what computes: to look at all takes the interpreter's lock, and whoever holds that
gives it away where it begins to wait. So a trie also knows what threads' own clocks said of the same
requests, and :meth:`Trie.agreed` returns it with its times made to agree with them: the clocks tell how
much ran, the samples tell where, as far as they saw it.

Everything is bounded: where a trie is full, a stack ends at the deepest place that is already
there, and ``cut`` counts it. Merging is addition, as for histograms.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

NODES = 2000
GIVEN = 2
"""Computing in bursts of 10 ms is missed as often as it is seen, in bursts of 7.5 twice as often."""
ENOUGH = 10
"""Running and waiting samples of measured requests, so many of each, from which on stacks are scaled."""
NORMAL, SLOW = "normal", "slow"
"""Kinds of requests whose stacks are kept apart."""


class Place(NamedTuple):
    """Where code is.

    Attributes:
        file: as it is shown.
        line: 0 for a library.
        function: its qualified name.
        own: whether it is the application's own.
        loop: whether a loop of its function runs there (of own code only).
    """

    file: str
    line: int
    function: str
    own: bool
    loop: bool = False

    def shown(self) -> str:
        """Return it as ``file:line``, or as the function of a library."""
        if not self.file:
            return self.function
        return f"{self.file}:{self.line}" if self.own else f"{self.function} ({self.file})"


UNSEEN = Place("", 0, "computing that no look saw", False)
"""Where time goes of which it is only known that it was spent computing."""
Path = tuple[Place, ...]


class Sampled(NamedTuple):
    """The samples of one request.

    Attributes:
        stacks: nanoseconds running, waiting, samples, and nanoseconds holding (see :class:`Node`).
        missed: nanoseconds of samples of what computed, and was seen too late.
        wanted: nanoseconds for which its thread wanted a core, -1 where that is not known.
    """

    stacks: Mapping[Path, Sequence[int]]
    missed: int = 0
    wanted: int = -1


class Node:
    """One place in one context, and what is called from it.

    Attributes:
        children: what is called, by place.
        running: nanoseconds of the samples that end here and were on a core.
        waiting: of those that were not.
        holding: of those that were, and held the interpreter's lock when they were to be taken.
        count: how many end here.
    """

    __slots__ = ("children", "count", "holding", "running", "waiting")

    def __init__(self) -> None:
        self.children: dict[Place, Node] = {}
        self.running = self.waiting = self.holding = 0
        self.count = 0


@dataclass(slots=True)
class Trie:
    """Stacks of one kind of requests.

    Attributes:
        root: its places are those that were called first.
        size: nodes below the root.
        cut: samples whose inner end found no room.
        missed: nanoseconds of samples of what computed, and was seen too late.
        measured: samples of requests whose threads' clocks were read.
        known: nanoseconds of those, and of what was missed of these requests.
        seen: of those nanoseconds, how many ran or were missed.
        ran: how many ran by the clocks.
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
        self, path: Sequence[Place], running: int, waiting: int, count: int = 1, room: int = NODES,
        holding: int = 0,
    ) -> None:  # fmt: skip
        """Count samples of one stack.

        Args:
            path: its places, the outermost first.
            running: nanoseconds on a core.
            waiting: nanoseconds not on one.
            count: samples.
            room: most nodes that the trie may have.
            holding: nanoseconds of the running ones, see :class:`Node`.
        """
        node = self.root
        for place in path:
            below = node.children.get(place)
            if below is None:
                if self.size >= room:
                    self.cut += count
                    break
                below = node.children[place] = Node()
                self.size += 1
            node = below
        node.running += running
        node.waiting += waiting
        node.holding += holding
        node.count += count

    def take(self, request: Sampled, wall: int, room: int = NODES) -> None:
        """Count the samples of one request.

        Args:
            request: they.
            wall: nanoseconds that it took.
            room: most nodes that the trie may have.
        """
        ran, waited, samples = request.missed, 0, 0
        for path, (running, waiting, count, holding) in request.stacks.items():
            self.add(path, running, waiting, count, room, holding)
            ran, waited, samples = ran + running, waited + waiting, samples + count
        self.missed += request.missed
        if request.wanted >= 0 < wall:
            self.measured += samples
            self.known += ran + waited
            self.seen += ran
            self.ran += (ran + waited) * min(request.wanted, wall) // wall

    def stacks(self) -> Iterator[tuple[Path, Node]]:
        """Give every path in which samples end, with its node."""
        waiting: list[tuple[Path, Node]] = [((), self.root)]
        while waiting:
            path, node = waiting.pop()
            if node.count:
                yield path, node
            waiting += [((*path, place), below) for place, below in node.children.items()]

    def include(self, other: Trie, room: int = NODES) -> None:
        """Add all samples of another trie to this one."""
        self.cut += other.cut
        self.missed += other.missed
        self.measured += other.measured
        self.known += other.known
        self.seen += other.seen
        self.ran += other.ran
        for path, node in other.stacks():
            self.add(path, node.running, node.waiting, node.count, room, node.holding)

    def agreed(self, most: int | None = None) -> Trie:
        """Return these stacks with times that agree with what the threads' clocks said.

        What was missed counts for the stacks that held the interpreter's lock, for only what holds it
        is missed, though for no more than :data:`GIVEN` times what they were seen to hold it; what is
        left, for those that ran, though for no more than half of that: the rest was too short to be
        ever seen, and is shown as :data:`UNSEEN`. Then running and waiting times are each scaled by the
        factor that makes those of the measured requests what the clocks say, and both so that their sum
        stays: post-stratification (Holt and Smith, "Post Stratification", J. R. Statist. Soc. A 142,
        1979). With few samples of either kind nothing is scaled.

        Args:
            most: nanoseconds that all of them may be at most; beyond that they are scaled to it.
        """
        nodes = [node for _, node in self.stacks()]
        ran, waited = sum(node.running for node in nodes), sum(node.waiting for node in nodes)
        held = sum(node.holding for node in nodes)
        given = min(self.missed, GIVEN * held)
        spread = min(self.missed - given, ran // 2)
        longer, shorter = self._factors(ran + self.missed, waited)
        total = ran + self.missed + waited
        if most is not None and total > most:
            longer, shorter = longer * most / total, shorter * most / total
        made = Trie(cut=self.cut)
        for path, node in self.stacks():
            more = given * node.holding / max(1, held) + spread * node.running / max(1, ran)
            running, waiting = (node.running + more) * longer, node.waiting * shorter
            made.add(path, round(running), round(waiting), node.count)
        unseen = self.missed - given - spread
        if unseen:
            made.add((UNSEEN,), round(unseen * longer), 0)
        return made

    def _factors(self, ran: int, waited: int) -> tuple[float, float]:
        """Return by what running and waiting times are scaled."""
        rarer = min(self.seen, self.known - self.seen)  # of few samples a factor is mostly chance
        if not rarer or self.measured * rarer < ENOUGH * self.known:
            return 1.0, 1.0
        longer = self.ran / self.seen
        shorter = (self.known - self.ran) / (self.known - self.seen)
        scaled = ran * longer + waited * shorter
        whole = (ran + waited) / scaled if scaled else 1.0
        return longer * whole, shorter * whole

    @property
    def total(self) -> int:
        """Nanoseconds of all samples."""
        return sum(node.running + node.waiting for _, node in self.stacks())


def merge(tries: Iterable[Trie], room: int = NODES) -> Trie:
    """Return the sum of tries; those given stay as they are."""
    made = Trie()
    for trie in tries:
        made.include(trie, room)
    return made


def encode(trie: Trie, places: dict[Place, int]) -> list[Any]:
    """Return a trie as JSON values.

    Args:
        trie: stays as it is.
        places: the number of each place; new ones are added.

    Returns:
        ``[[cut, measured, missed, known, seen, ran], row, row, …]``, a row being the number of the row
        above (-1 for the root's), the place's number, microseconds running and waiting, samples, and
        microseconds holding; the last four of the sums are microseconds too.
    """
    sums = (trie.missed, trie.known, trie.seen, trie.ran)
    rows: list[Any] = [[trie.cut, trie.measured, *(value // 1000 for value in sums)]]
    waiting = [(-1, trie.root)]
    while waiting:
        above, node = waiting.pop()
        for place, below in node.children.items():
            number = places.setdefault(place, len(places))
            rows.append([above, number, below.running // 1000, below.waiting // 1000, below.count,
                         below.holding // 1000])  # fmt: skip
            waiting.append((len(rows) - 2, below))
    return rows


def decode(rows: Sequence[Any], places: Sequence[Place]) -> Trie:
    """Return the trie that :func:`encode` was given, its times cut to microseconds.

    Raises:
        ValueError, TypeError, IndexError: that is none.
    """
    cut, *more = rows[0] if isinstance(rows[0], list) else [rows[0]]  # as it was before 0018
    measured, *sums = [int(value) for value in more] or [0] * 5
    missed, known, seen, ran = (value * 1000 for value in sums)
    if min(missed, known - seen, known - ran, seen, ran) < 0:
        raise ValueError("sums that contradict each other")
    trie = Trie(cut=int(cut), size=len(rows) - 1, missed=missed, measured=measured, known=known,
                seen=seen, ran=ran)  # fmt: skip
    made: list[Node] = []
    for above, number, running, waiting, count, *holding in rows[1:]:
        node = Node()
        node.running, node.waiting, node.count = running * 1000, waiting * 1000, count
        node.holding = holding[0] * 1000 if holding else 0
        (trie.root if above < 0 else made[above]).children[places[number]] = node
        made.append(node)
    return trie


Tries = dict[tuple[str, str], dict[str, Trie]]
"""Tries by endpoint and method, then by kind of requests."""


def pack(tries: Tries) -> dict[str, Any]:
    """Return tries as a JSON document, places written once."""
    places: dict[Place, int] = {}
    rows = [
        [*pair, kind, encode(trie, places)]
        for pair, kinds in tries.items() for kind, trie in kinds.items()
    ]  # fmt: skip
    return {"places": [list(place) for place in places], "stacks": rows}


def as_places(rows: Iterable[Sequence[Any]]) -> list[Place]:
    """Return places that were written as lists.

    Raises:
        ValueError, TypeError, IndexError: they are none.
    """
    return [
        Place(str(file), int(line), str(function), bool(own), bool(loop and loop[0]))
        for file, line, function, own, *loop in rows
    ]


def unpack(documents: Iterable[dict[str, Any]], damaged: list[str] | None = None) -> Tries:
    """Return the sum of documents of :func:`pack`; one that is not sound is left out whole.

    Args:
        documents: what was packed.
        damaged: what is wrong with each that was left out is added here.
    """
    made: Tries = {}
    for document in documents:
        try:
            places = as_places(document["places"])
            found = [(str(endpoint), str(method), str(kind), decode(rows, places))
                     for endpoint, method, kind, rows in document["stacks"]]  # fmt: skip
        except (KeyError, ValueError, TypeError, IndexError) as error:
            if damaged is not None:
                damaged.append(repr(error))
            continue
        for endpoint, method, kind, trie in found:
            made.setdefault((endpoint, method), {}).setdefault(kind, Trie()).include(trie)
    return made


def together(documents: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return documents of :func:`pack` as one."""
    return pack(unpack(documents))
