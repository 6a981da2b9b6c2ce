"""Sampled stacks as tries: what was on the stack, for how long, running or waiting.

A **place** is a function of a library, or a line of the application's own code. A stack is a path
of places from the view inwards; stacks with a common beginning share it, so a trie of a few hundred
nodes holds thousands of samples. A node holds the time of the samples that end in it, not of those
that go on.

Everything is bounded: where a trie is full, a stack ends at the deepest place that is already
there, and ``cut`` counts it. Merging is addition, as for histograms.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

NODES = 2000
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
        return f"{self.file}:{self.line}" if self.own else f"{self.function} ({self.file})"


class Node:
    """One place in one context: nanoseconds of the samples that end here, and what is called from it."""

    __slots__ = ("children", "count", "running", "waiting")

    def __init__(self) -> None:
        self.children: dict[Place, Node] = {}
        self.running = 0
        self.waiting = 0
        self.count = 0


@dataclass(slots=True)
class Trie:
    """Stacks of one kind of requests.

    Attributes:
        root: its places are those that were called first.
        size: nodes below the root.
        cut: samples whose inner end found no room.
    """

    root: Node = field(default_factory=Node)
    size: int = 0
    cut: int = 0

    def add(
        self, path: Sequence[Place], running: int, waiting: int, count: int = 1, room: int = NODES
    ) -> None:
        """Count samples of one stack.

        Args:
            path: its places, the outermost first.
            running: nanoseconds on a core.
            waiting: nanoseconds not on one.
            count: samples.
            room: most nodes that the trie may have.
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
        node.count += count

    def stacks(self) -> Iterator[tuple[tuple[Place, ...], Node]]:
        """Give every path in which samples end, with its node."""
        waiting: list[tuple[tuple[Place, ...], Node]] = [((), self.root)]
        while waiting:
            path, node = waiting.pop()
            if node.count:
                yield path, node
            waiting += [((*path, place), below) for place, below in node.children.items()]

    def include(self, other: Trie, room: int = NODES) -> None:
        """Add all samples of another trie to this one."""
        self.cut += other.cut
        for path, node in other.stacks():
            self.add(path, node.running, node.waiting, node.count, room)

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
        ``[cut, row, row, …]``, a row being the number of the row above (-1 for the root's), the place's
        number, microseconds running and waiting, and samples.
    """
    rows: list[Any] = [trie.cut]
    waiting = [(-1, trie.root)]
    while waiting:
        above, node = waiting.pop()
        for place, below in node.children.items():
            number = places.setdefault(place, len(places))
            rows.append([above, number, below.running // 1000, below.waiting // 1000, below.count])
            waiting.append((len(rows) - 2, below))
    return rows


def decode(rows: Sequence[Any], places: Sequence[Place]) -> Trie:
    """Return the trie that :func:`encode` was given, its times cut to microseconds.

    Raises:
        ValueError, TypeError, IndexError: that is none.
    """
    trie = Trie(cut=int(rows[0]), size=len(rows) - 1)
    made: list[Node] = []
    for above, number, running, waiting, count in rows[1:]:
        node = Node()
        node.running, node.waiting, node.count = running * 1000, waiting * 1000, count
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
