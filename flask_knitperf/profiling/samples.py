"""What was sampled lately: tries of normal and of slow requests, for each endpoint, in one slice.

A request is slow when it took longer than its endpoint's threshold; where most requests of an endpoint
do, so that this tells nothing, when it is among the slowest tenth of its latest two hundred.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from ..core.locks import Lock
from ..core.stacks import NODES, NORMAL, SLOW, Place, Trie, Tries, pack

ENDPOINTS_KEPT = 200
NODES_KEPT = 8000
"""Nodes of all tries of one worker in one slice: about 2 MB."""
_WALLS = 200
_ENOUGH_WALLS = 20


class Samples:
    """Collects the sampled stacks of requests that are over.

    Args:
        threshold_ns: an endpoint's threshold, in nanoseconds.
    """

    def __init__(self, threshold_ns: Callable[[str], float]) -> None:
        self._threshold = threshold_ns
        self._turn = Lock()
        self._tries: Tries = {}
        self._walls: dict[tuple[str, str], deque[int]] = {}
        self.dropped = 0
        self.fresh = False

    def add(
        self, pair: tuple[str, str], wall: int, stacks: Mapping[tuple[Place, ...], list[int]]
    ) -> None:
        """Fold one request's samples in.

        Args:
            pair: endpoint and method.
            wall: nanoseconds that it took.
            stacks: ``[running, waiting, count]`` by stack.
        """
        with self._turn:
            kind = SLOW if self._is_slow(pair, wall) else NORMAL
            if pair not in self._tries and len(self._tries) >= ENDPOINTS_KEPT:
                self.dropped += 1
                return
            trie = self._tries.setdefault(pair, {}).setdefault(kind, Trie())
            others = (
                sum(t.size for kinds in self._tries.values() for t in kinds.values()) - trie.size
            )
            room = min(NODES, max(0, NODES_KEPT - others))
            for path, (running, waiting, count) in stacks.items():
                trie.add(path, running, waiting, count, room)
            self.fresh = True

    def _is_slow(self, pair: tuple[str, str], wall: int) -> bool:
        walls = self._walls.get(pair)
        if walls is None:
            if len(self._walls) >= ENDPOINTS_KEPT:
                self._walls.clear()
            walls = self._walls[pair] = deque(maxlen=_WALLS)
        walls.append(wall)
        limit = self._threshold(pair[0])
        if len(walls) >= _ENOUGH_WALLS:
            ordered = sorted(walls)
            if ordered[len(ordered) // 2] > limit:
                limit = ordered[len(ordered) * 9 // 10]
        return wall > limit

    def document(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        with self._turn:
            self.fresh = False
            return {**pack(self._tries), "dropped": self.dropped}

    def begin(self) -> None:
        """Forget what was sampled: a new slice begins."""
        with self._turn:
            self._tries, self.dropped, self.fresh = {}, 0, False
