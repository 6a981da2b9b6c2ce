"""What was sampled lately: tries of normal and of slow requests, for each endpoint, in one slice.

A request is slow when it took longer than its endpoint's threshold, or than the p99 of its endpoint's
latest requests, if that is far from what is usual. Where most requests of an endpoint are beyond the
threshold, so that this tells nothing, the slowest tenth of the latest ones is slow.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any

from ...core.locks import Lock
from ...metrics.stack_trie import NODES, NORMAL, SLOW, Sampled, Trie, Tries, pack

ENDPOINTS_KEPT = 200
NODES_KEPT = 8000
"""Nodes of all tries of one worker in one slice: about 2 MB."""
_WALLS = 400
_ENOUGH_WALLS = 20
_ENOUGH_FOR_P99 = 100
_AS_BEFORE = 20
"""For so many requests a limit stays as it is."""
_FAR = 2.0
"""Of the median: a p99 below that is no other way of being served."""


class _Walls:
    """How long the latest requests of one endpoint took, and what is slow for it."""

    __slots__ = ("_left", "_limit", "_walls")

    def __init__(self) -> None:
        self._walls: deque[int] = deque(maxlen=_WALLS)
        self._limit: float | None = None
        self._left = 0

    def limit(self, wall: int, threshold: float) -> float:
        """Take one more in, and return beyond what a request is slow; looked up anew now and then."""
        self._walls.append(wall)
        self._left -= 1
        if self._left <= 0:
            self._left = _AS_BEFORE if len(self._walls) >= _ENOUGH_FOR_P99 else 1
            self._limit = self._own(threshold)
        return threshold if self._limit is None else self._limit

    def _own(self, threshold: float) -> float | None:
        size = len(self._walls)
        if size < _ENOUGH_WALLS:
            return None
        ordered = sorted(self._walls)
        usual = ordered[size // 2]
        if usual > threshold:
            return ordered[size * 9 // 10]
        if size < _ENOUGH_FOR_P99:
            return None
        return min(threshold, max(ordered[math.ceil(0.99 * size) - 1], _FAR * usual))


class Samples:
    """Collects the sampled stacks of requests that are over.

    Args:
        threshold_ns: an endpoint's threshold, in nanoseconds.
    """

    def __init__(self, threshold_ns: Callable[[str], float]) -> None:
        self._threshold = threshold_ns
        self._turn = Lock()
        self._tries: Tries = {}
        self._walls: dict[tuple[str, str], _Walls] = {}
        self.dropped = 0
        self.fresh = False

    def add(self, pair: tuple[str, str], wall: int, request: Sampled) -> None:
        """Fold one request's samples in.

        Args:
            pair: endpoint and method.
            wall: nanoseconds that it took.
            request: its samples.
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
            trie.take(request, wall, room)
            self.fresh = True

    def _is_slow(self, pair: tuple[str, str], wall: int) -> bool:
        walls = self._walls.get(pair)
        if walls is None:
            if len(self._walls) >= ENDPOINTS_KEPT:
                self._walls.clear()
            walls = self._walls[pair] = _Walls()
        return wall > walls.limit(wall, self._threshold(pair[0]))

    def document(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        with self._turn:
            self.fresh = False
            return {**pack(self._tries), "dropped": self.dropped}

    def begin(self) -> None:
        """Forget what was sampled: a new slice begins."""
        with self._turn:
            self._tries, self.dropped, self.fresh = {}, 0, False
