"""What single requests leave behind: weighed from the begin of one to the begin of the next but one.

That is done only while a worker's memory grows. The young garbage is collected, what is allocated is
read, the request runs, then another one, and the same is done again: by then body, environment and
locals are gone, and what is left was kept by somebody. The request in between is there because a server
keeps something of the latest one until the next (its buffers, an exception): of that as much is there at
the first reading as at the second. A pair of readings counts where nothing else ran beside it and
nothing was promoted to the old generation meanwhile, since garbage that grew old would look as if it
were kept.

First one request in five is weighed, whatever it asks for: the *survey*. Then it is known which
endpoints leave something, and their requests are weighed all, told by their paths: the *focus*. What
an endpoint keeps is the mean of the middle half of its pairs, so that neither a cache that is filled
once nor the housekeeper between two readings moves it. But what nearly every request adds and one in
forty takes away (a buffer that is emptied at times) is no leak, so the plain mean of all pairs, less
twice its standard error, must be a good part of that; hence so many pairs. There a pair says nothing
whose request in between empties such a buffer now and then. What requests of nearly all endpoints
leave alike belongs to the server, or to us, and to no endpoint; it is taken off, and so is what a job
of ours leaves between two readings.
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
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from ...recording.gc_pauses import WATCH
from ...recording.span import Span
from .allocators import Used, allocated

EVERY, LATER = 5, 64
"""One request in so many is weighed in the survey, and once the focus is done."""
SURVEY, WHOLE = 160, 2_500
"""Pairs that the survey takes, and all together, before few are weighed."""
NOTICED = 6
"""Pairs of an endpoint after which the survey knows whether it leaves something."""
ENOUGH, _PAIRS = 160, 240
"""Pairs of an endpoint without which nobody is accused, and those that are kept, the latest. What is
emptied by one request in forty is seen by then, but once in a hundred times; pandas drops small objects
by hundreds at a time."""
LEAST = 128
"""Bytes per request below which nothing is said: a counter that outgrew its last size, and the like."""
LASTING = 0.5
"""Share of the usual amount that the mean of all pairs must surely have."""
JUMP, _JUMPS = 8, 2
"""A request in between jumps if so many of its own pairs differ from their usual amount by so many times
what is asked about."""
NEVER = sys.maxsize
_ROUNDS = 8
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


class _Pair(NamedTuple):
    """What lay between two readings.

    Attributes:
        left: bytes that the requests left behind, half of it where both were of one endpoint.
        after: the endpoint of the request in between, ``None`` where both were of one.
    """

    left: Used
    after: Key | None


class RetainedBytesMeter:
    """Weighs requests of one worker while it is asked to.

    Args:
        name: returns endpoint and method of a span.
        wake: has the next request looked at.
        quiet: returns the number of the latest request, ``None`` while one is in flight.
        read: returns the bytes that are allocated, ``None`` where nobody knows.

    Attributes:
        due: the turn of a request from which on the next one is looked at; :data:`NEVER` while nobody
            asks.
        held: the request that is being weighed. We may keep nothing of it, not for a while either: that
            would look as if it were left behind.
    """

    def __init__(
        self, name: Callable[[Span], Key], wake: Callable[[], None],
        quiet: Callable[[], int | None] = lambda: None,
        read: Callable[[], Used | None] = allocated,
    ) -> None:  # fmt: skip
        self.due = NEVER
        self._name, self._wake, self._quiet, self._read = name, wake, quiet, read
        self._beside = False  # a job of ours runs
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
        self._weighing: Key | None = None  # the first request's name, once it has ended
        self._first = array("q", (0, 0, 0, 0))  # its turn, large, small, promotions: no new objects
        self._aside = array("q", (0, 0))  # what jobs of ours left meanwhile: large, small
        self._spoilt = False
        self._pairs: dict[Key, deque[_Pair]] = {}
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
            self._ended(span, turn, alone)
        free = self.held is None and alone and not self._beside
        if free and self.due != NEVER and self._chosen(span, turn):
            self._begin(span, turn)
        self._wait(turn)

    def spoil(self) -> None:
        """Have the pair that is being weighed not count: something else was served."""
        self._spoilt = True

    def beside(self, job: Callable[[], object]) -> object:
        """Run a job of ours, and take off what it leaves.

        A pair does not count if a request ran meanwhile, for then nobody can tell them apart.
        """
        if self.due == NEVER:
            return job()
        self._beside, turn = True, self._quiet()
        before = None if turn is None or self.held is None else self._read()
        try:
            return job()
        finally:
            after = None if before is None or self._quiet() != turn else self._read()
            if before is None or after is None:
                self._spoilt = True
            else:
                self._aside[0] += after.large - before.large
                self._aside[1] += after.small - before.small
            self._beside = False

    def _chosen(self, span: Span, turn: int) -> bool:
        """Return whether a request is to be weighed."""
        if turn >= self._next:
            return True
        name = self._paths.get(_shape(span))
        return name is not None and self._noticed(name)

    def _noticed(self, name: Key) -> bool:
        """Return whether the focus is on an endpoint: what it leaves is to be known better."""
        if not SURVEY <= self._taken < WHOLE:
            return False
        pairs = self._pairs.get(name, ())
        if len(pairs) < NOTICED:
            return True  # the survey met it too seldom
        if len(pairs) >= _PAIRS:
            return False
        usual = self._alike()
        return any(
            statistics.median(one.left[heap] for one in pairs) - usual[heap] >= LEAST
            for heap in (0, 1)
        )

    def _alike(self) -> Used:
        """Return what requests of nearly all endpoints leave: a quarter of the endpoints leave no more.

        It is worked out when the survey ends, and now and then after that.
        """
        if self._taken >= self._alike_at:
            self._alike_at = self._taken + ENOUGH
            known = [pairs for pairs in list(self._pairs.values()) if len(pairs) >= NOTICED]
            if len(known) >= _SEVERAL:
                self._same = Used(*(_quarter(known, heap) for heap in (0, 1)))
        return self._same

    def _begin(self, span: Span, turn: int) -> None:
        """Take the first reading of a pair."""
        self._shape = _shape(span)  # what is kept for the second reading must be there at the first
        now = self._weighed()
        if now is None:
            self.due = NEVER
            return
        self._spoilt, self._aside[0], self._aside[1] = False, 0, 0
        first = self._first
        first[0], first[1], first[2], first[3] = turn, now.large, now.small, _promotions()
        self.held, self._weighing = span, None
        often = EVERY if self._taken < SURVEY else LATER
        self._next = turn + self._rng.randrange(1, 2 * often)  # no step that a batch may keep to

    def _ended(self, span: Span, turn: int, alone: bool) -> None:
        """Go on to the request in between, or take the second reading, if nothing came between."""
        before, self.held = self.held, None
        if before is None:  # another thread was quicker
            return
        name, first = self._name(before), self._weighing
        whole = before.ended and alone and turn == self._first[0] + (1 if first is None else 2)
        del before  # with it goes the environment of the request
        if not whole:
            return
        if first is None:
            self.held, self._weighing = span, name
            return
        if self._spoilt or self._beside or _promotions() != self._first[3]:
            return
        now, was, ours = self._weighed(), self._first, self._aside
        if now is not None:
            times = 2 if name == first else 1
            left = Used(
                (now.large - was[1] - ours[0]) // times, (now.small - was[2] - ours[1]) // times
            )
            self._keep(first, self._shape, _Pair(left, None if times == 2 else name))

    def _wait(self, turn: int) -> None:
        """Say which request is looked at next."""
        if self.due == NEVER:  # it was stopped meanwhile
            return
        focus = SURVEY <= self._taken < WHOLE
        self.due = turn + 1 if self.held is not None or focus else max(turn + 1, self._next)

    def _weighed(self) -> Used | None:
        gc.collect(1)
        return self._read()

    def _keep(self, name: Key, shape: str, pair: _Pair) -> None:
        self._taken += 1
        pairs = self._pairs.get(name)
        if pairs is None:
            if len(self._pairs) >= _ENDPOINTS:
                return
            pairs = self._pairs[name] = deque(maxlen=_PAIRS)
        pairs.append(pair)
        if len(self._paths) < _ENDPOINTS:
            self._paths[shape] = name

    def left(self) -> dict[Key, Left]:
        """Return what requests leave behind, of the endpoints that were weighed often enough."""
        same, pairs = self._alike(), {name: list(each) for name, each in list(self._pairs.items())}
        large, small = (_own(pairs, heap, same[heap]) for heap in (0, 1))
        return {
            name: Left(_usual(name, large, pairs), _usual(name, small, pairs), len(each))
            for name, each in pairs.items() if len(each) >= ENOUGH
        }  # fmt: skip

    @property
    def weighs(self) -> bool:
        """Whether requests could be weighed so far; where they never run alone they could not."""
        return self._taken > 0


def _quarter(known: Sequence[Collection[_Pair]], heap: int) -> int:
    """Return what pairs of a quarter of the endpoints do not usually pass, in bytes of one heap."""
    usual = sorted(statistics.median([one.left[heap] for one in list(pairs)]) for pairs in known)
    return max(0, round(usual[len(known) // 4]))


def _own(pairs: Mapping[Key, Sequence[_Pair]], heap: int, same: int) -> dict[Key, list[float]]:
    """Return what the first request of each pair left of one heap, by endpoint.

    From each pair is taken off what the request in between usually leaves. That is not known to begin
    with, and the same holds for its own pairs, so it is worked out in a few rounds.

    Args:
        pairs: by the endpoint of the first request.
        heap: which of both.
        same: bytes that every request leaves.
    """
    usual: dict[Key | None, float] = dict.fromkeys((None, *pairs), 0.0)
    own: dict[Key, list[float]] = {}
    for _ in range(_ROUNDS):
        own = {
            name: [one.left[heap] - same - usual.get(one.after, 0.0) for one in each]
            for name, each in pairs.items()
        }
        for name, values in own.items():
            usual[name] = (usual[name] + max(0.0, _middle(values))) / 2
    return own


def _middle(values: Sequence[float]) -> float:
    """Return the mean of the middle half."""
    skip = len(values) // 4
    middle = sorted(values)[skip : len(values) - skip]
    return sum(middle) / len(middle)


def _usual(
    name: Key, own: Mapping[Key, Sequence[float]], pairs: Mapping[Key, Sequence[_Pair]]
) -> float:
    """Return what is usually left, 0.0 where a quarter leaves next to nothing or it does not last.

    Args:
        name: of whose requests.
        own: what the first request of each pair left, by endpoint.
        pairs: those pairs.
    """
    values = own[name]
    if sorted(values)[len(values) // 4] < LEAST:
        return 0.0
    usual = _middle(values)
    seen = _calm(name, own, pairs, usual)
    error = statistics.stdev(seen) / math.sqrt(len(seen))
    return usual if statistics.mean(seen) - 2 * error >= LASTING * usual else 0.0


def _calm(
    name: Key,
    own: Mapping[Key, Sequence[float]],
    pairs: Mapping[Key, Sequence[_Pair]],
    usual: float,
) -> list[float]:
    """Return what requests of an endpoint left in all pairs that tell: as the first and in between.

    A pair whose other request jumps tells nothing, unless most are such.
    """
    between: list[float] = []
    jumping = set[Key]()
    for other, each in own.items():
        if other == name:
            continue
        with_it = [one.after == name for one in pairs[other]]
        rest = [left for left, its in zip(each, with_it, strict=True) if not its]
        if _jumps(rest, JUMP * usual):
            jumping.add(other)
        elif len(rest) >= NOTICED:
            middle = _middle(rest)
            between += [
                left - middle + usual for left, its in zip(each, with_it, strict=True) if its
            ]
    first = [
        left for left, one in zip(own[name], pairs[name], strict=True) if one.after not in jumping
    ]
    return [*first, *between] if 2 * len(first) >= len(own[name]) else list(own[name])


def _jumps(values: Sequence[float], least: float) -> bool:
    """Return whether what requests leave is now and then far from what they usually do."""
    if not values:
        return False
    middle = _middle(values)
    return sum(abs(each - middle) > least for each in values) >= _JUMPS


def _shape(span: Span) -> str:
    """Return the path of a request with all that has a digit in it left open."""
    return _VARIES.sub("*", str(span.environ.get("PATH_INFO", ""))[:200])


def _promotions() -> int:
    """Return how many collections moved objects to the old generation so far."""
    pauses: Any = WATCH.pauses
    return int(pauses[1][0] + pauses[2][0])
