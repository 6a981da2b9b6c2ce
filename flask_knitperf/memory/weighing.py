"""What single requests leave behind: weighed between the begin of one and the begin of the next.

That is done only while a worker's memory grows. The young garbage is collected, what is allocated is
read, the request runs, and at the begin of the next one the same is done again: by then body,
environment and locals are gone, and what is left of them was kept by somebody. A pair counts where
nothing else ran beside it and nothing was promoted to the old generation meanwhile, since garbage that
grew old would look as if it were kept.

First one request in eight is weighed, whatever it asks for: the *survey*. Then it is known which
endpoints leave something, and their requests are weighed all, told by their paths: the *focus*. What
an endpoint keeps is the mean of the middle half of its pairs, so that neither a cache that is filled
once nor the housekeeper between two readings moves it. But what nearly every request adds and one in
forty takes away (a buffer that is emptied at times) is no leak, so the plain mean of all pairs, less
twice its standard error, must be a good part of that; hence so many pairs. What requests of nearly all
endpoints leave alike belongs to the server, or to us, and to no endpoint; it is taken off.
"""

from __future__ import annotations

import gc
import math
import random
import re
import statistics
import sys
from array import array
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from ..core.gcwatch import WATCH
from ..core.span import Span
from .allocated import Used, allocated

EVERY, LATER = 8, 64
"""One request in so many is weighed in the survey, and once the focus is done."""
SURVEY, WHOLE = 240, 1_500
"""Pairs that the survey takes, and all together, before few are weighed."""
NOTICED = 6
"""Pairs of an endpoint after which the survey knows whether it leaves something."""
ENOUGH, _PAIRS = 80, 200
"""Pairs of an endpoint without which nobody is accused, and those that are kept, the latest."""
LEAST = 128
"""Bytes per request below which nothing is said: a counter that outgrew its last size, and the like."""
LASTING = 0.5
"""Share of the usual amount that the mean of all pairs must surely have."""
NEVER = sys.maxsize
_SEVERAL = 4
"""Endpoints without which nothing is taken for what all leave."""
_ENDPOINTS = 500
_VARIES = re.compile(r"[^/]*\d[^/]*")

Key = tuple[str, str]
"""An endpoint and a method."""


class Left(NamedTuple):
    """What requests of one endpoint leave behind.

    Attributes:
        large: bytes of large blocks per request, 0.0 where they leave none nearly each time.
        small: bytes of small objects, likewise.
        pairs: how many were weighed.
    """

    large: float
    small: float
    pairs: int


class Weigher:
    """Weighs requests of one worker while it is asked to.

    Args:
        name: returns endpoint and method of a span.
        wake: has the next request looked at.
        read: returns the bytes that are allocated, ``None`` where nobody knows.

    Attributes:
        due: the turn of a request from which on the next one is looked at; :data:`NEVER` while nobody
            asks.
        held: the request that is being weighed. We may keep nothing of it, not for a while either: that
            would look as if it were left behind.
    """

    def __init__(
        self, name: Callable[[Span], Key], wake: Callable[[], None],
        read: Callable[[], Used | None] = allocated,
    ) -> None:  # fmt: skip
        self.due = NEVER
        self._name, self._wake, self._read = name, wake, read
        self._clear()

    def start(self) -> None:
        """Weigh from the next request on."""
        if self.due == NEVER:
            self.due = 0
            self._wake()

    def stop(self) -> None:
        """Weigh no more; forget what was weighed."""
        self.due = NEVER
        self._clear()

    def _clear(self) -> None:
        self.held: Span | None = None
        self._first = array("q", (0, 0, 0, 0))  # its turn, large, small, promotions: no new objects
        self._pairs: dict[Key, deque[Used]] = {}
        self._paths: dict[str, Key] = {}
        self._shape = ""
        self._taken = self._next = 0
        self._same, self._alike_at = Used(0, 0), SURVEY
        self._rng = random.Random(1)  # noqa: S311

    def look(self, span: Span, turn: int, *, alone: bool) -> None:
        """Take a reading before a request begins, if it is one for that.

        Args:
            span: the request.
            turn: its number in this worker.
            alone: whether nothing else is in flight.
        """
        if self.held is not None:
            self._second(turn, alone)
        if alone and self.due != NEVER and self._chosen(span, turn):
            self._begin(span, turn)
        self._wait(turn)

    def _chosen(self, span: Span, turn: int) -> bool:
        """Return whether a request is to be weighed."""
        if turn >= self._next:
            return True
        name = self._paths.get(_shape(span))
        return name is not None and self._noticed(name)

    def _noticed(self, name: Key) -> bool:
        """Return whether the focus is on an endpoint: it leaves something, and more is to be known."""
        if not SURVEY <= self._taken < WHOLE:
            return False
        pairs = self._pairs.get(name, ())
        if not NOTICED <= len(pairs) < _PAIRS:
            return False
        usual = self._alike()
        return any(
            statistics.median(one[heap] for one in pairs) - usual[heap] >= LEAST for heap in (0, 1)
        )

    def _alike(self) -> Used:
        """Return what requests of nearly all endpoints leave: a quarter of the endpoints leave no more.

        It is worked out when the survey ends, and now and then after that.
        """
        if self._taken >= self._alike_at:
            self._alike_at = self._taken + ENOUGH
            known = [pairs for pairs in list(self._pairs.values()) if len(pairs) >= NOTICED]
            if len(known) >= _SEVERAL:
                self._same = Used(*(
                    max(0, sorted(
                        round(statistics.median(one[heap] for one in list(pairs))) for pairs in known
                    )[len(known) // 4])
                    for heap in (0, 1)
                ))  # fmt: skip
        return self._same

    def _begin(self, span: Span, turn: int) -> None:
        """Take the first reading of a pair."""
        self._shape = _shape(span)  # what is kept for the second reading must be there at the first
        now = self._weighed()
        if now is None:
            self.due = NEVER
            return
        first = self._first
        first[0], first[1], first[2], first[3] = turn, now.large, now.small, _promotions()
        self.held = span
        often = EVERY if self._taken < SURVEY else LATER
        self._next = turn + self._rng.randrange(1, 2 * often)  # no step that a batch may keep to

    def _second(self, turn: int, alone: bool) -> None:
        """Take the second reading of a pair, if nothing came between."""
        before, self.held = self.held, None
        if before is None:  # another thread was quicker
            return
        endpoint, method = self._name(before)
        whole = before.ended and alone and turn == self._first[0] + 1
        del before  # with it goes the environment of the request
        if not whole or _promotions() != self._first[3]:
            return
        now = self._weighed()
        if now is not None:
            left = Used(now.large - self._first[1], now.small - self._first[2])
            self._keep((endpoint, method), self._shape, left)

    def _wait(self, turn: int) -> None:
        """Say which request is looked at next."""
        if self.due == NEVER:  # it was stopped meanwhile
            return
        focus = SURVEY <= self._taken < WHOLE
        self.due = turn + 1 if self.held is not None or focus else max(turn + 1, self._next)

    def _weighed(self) -> Used | None:
        gc.collect(1)
        return self._read()

    def _keep(self, name: Key, shape: str, left: Used) -> None:
        self._taken += 1
        pairs = self._pairs.get(name)
        if pairs is None:
            if len(self._pairs) >= _ENDPOINTS:
                return
            pairs = self._pairs[name] = deque(maxlen=_PAIRS)
        pairs.append(left)
        if len(self._paths) < _ENDPOINTS:
            self._paths[shape] = name

    def left(self) -> dict[Key, Left]:
        """Return what requests leave behind, of the endpoints that were weighed often enough."""
        same = self._alike()
        return {
            name: Left(
                _usual([one.large - same.large for one in pairs]),
                _usual([one.small - same.small for one in pairs]), len(pairs),
            )
            for name, pairs in list(self._pairs.items()) if len(pairs) >= ENOUGH
        }  # fmt: skip

    @property
    def weighs(self) -> bool:
        """Whether requests could be weighed so far; where they never run alone they could not."""
        return self._taken > 0


def _usual(values: list[int]) -> float:
    """Return what is usually left, 0.0 where a quarter leaves next to nothing or it does not last."""
    values.sort()
    count = len(values)
    skip = count // 4
    if values[skip] < LEAST:
        return 0.0
    middle = values[skip : count - skip]
    usual = sum(middle) / len(middle)
    error = statistics.stdev(values) / math.sqrt(count)
    return usual if statistics.mean(values) - 2 * error >= LASTING * usual else 0.0


def _shape(span: Span) -> str:
    """Return the path of a request with all that has a digit in it left open."""
    return _VARIES.sub("*", str(span.environ.get("PATH_INFO", ""))[:200])


def _promotions() -> int:
    """Return how many collections moved objects to the old generation so far."""
    pauses: Any = WATCH.pauses
    return int(pauses[1][0] + pauses[2][0])
