"""Retained bytes per request: the difference between readings at the start of request n and n+2.

Requests are measured only while a worker's memory grows. The young garbage is collected, the allocated
bytes are read, the request runs, then another one, and the same is done again: by then the body, the
environment and the locals of the first request are gone, and what remains is retained. The request in
between is needed because a server keeps something of the latest request until the next one (its buffers,
an exception), which is present at both readings. A pair of readings counts only if nothing ran
concurrently and no object was promoted to the old generation meanwhile, since garbage that was promoted
would look retained.

First comes the *survey*: one request in five, whatever its endpoint. It shows which endpoints retain
anything; then comes the *focus*: every request to those, recognised by its path. Where no endpoint
retains anything, and after the focus, measuring is *sparse*: one request in 64, and none within 50 ms of
the latest, so that it costs a busy worker as little as an idle one. Bytes that a housekeeper job retains
between two readings are subtracted. :mod:`.retention_estimate` turns the pairs into bytes per request.
"""

from __future__ import annotations

import gc
import random
import re
import sys
import time
from array import array
from collections import deque
from collections.abc import Callable
from typing import Any

from ...recording.gc_pauses import WATCH
from ...recording.span import Span
from ..requests.endpoint_series import EndpointKey
from .allocators import AllocatedBytes, allocated_bytes
from .retention_estimate import (
    MIN_SURVEY_PAIRS,
    Pair,
    Retained,
    estimates,
    first_request_bytes,
    retaining,
)

SURVEY_STRIDE = 5
"""One request in this many is measured in the survey, on average."""
SPARSE_STRIDE = 64
"""One request in this many is measured while nothing is in focus, on average."""
SPARSE_GAP_NS = 50_000_000
"""Shortest time between two measured requests while nothing is in focus."""
SURVEY_PAIRS = 160
"""Number of pairs in the survey."""
FOCUS_PAIRS = 2_500
"""Number of pairs, of all endpoints, at which the focus is done."""
_MAX_PAIRS = 240
"""Number of pairs kept per endpoint, the latest."""
NEVER = sys.maxsize
"""Number of a request that never comes."""
_MAX_ENDPOINTS = 500
_VARIABLE_SEGMENT = re.compile(r"[^/]*\d[^/]*")


_NO_PAIRS: deque[Pair] = deque()


class RetainedBytesMeter:
    """Measures single requests of one worker, from :meth:`start` to :meth:`stop`.

    Args:
        key_of: returns endpoint and method of a span.
        wake: has :meth:`before_request` called before the next request.
        idle_number: returns the number of the latest request, ``None`` while one is in flight.
        read: returns the allocated bytes, ``None`` where they are not published.
        monotonic_ns: clock for the gaps of sparse measuring.

    Attributes:
        due: number of the request from which on :meth:`before_request` is to be called;
            :data:`NEVER` while nothing is measured.
        measured: the request being measured. Nothing of it may be stored, not for a moment either: that
            would look retained.
    """

    def __init__(
        self, key_of: Callable[[Span], EndpointKey], wake: Callable[[], None],
        idle_number: Callable[[], int | None] = lambda: None,
        read: Callable[[], AllocatedBytes | None] = allocated_bytes,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:  # fmt: skip
        self.due = NEVER
        self._monotonic_ns = monotonic_ns
        self._key_of, self._wake = key_of, wake
        self._idle_number, self._read = idle_number, read
        self._job_running = False
        self._clear()

    def start(self) -> None:
        """Measure from the next request on."""
        if self.due == NEVER:
            self.due = 0
            self._wake()

    def stop(self) -> None:
        """Stop measuring, and forget the pairs."""
        self.due = NEVER
        self._clear()

    def _clear(self) -> None:
        self.measured: Span | None = None
        self._first_key: EndpointKey | None = None  # of the first request, once that has ended
        # Arrays, so that a reading creates no objects: number, large, small, promotions
        self._first_reading = array("q", (0, 0, 0, 0))
        self._job_bytes = array("q", (0, 0))  # retained by our jobs meanwhile: large, small
        self._invalid = False
        self._pairs: dict[EndpointKey, deque[Pair]] = {}
        self._path_keys: dict[str, EndpointKey] = {}
        self._path = ""
        self._pairs_taken = self._next_number = 0
        self._sparse = False  # nothing is in focus
        self._focus = set[EndpointKey]()
        self._measured_at = array("q", (0,))
        self._rng = random.Random(1)  # noqa: S311

    def before_request(self, span: Span, number: int, *, solo: bool) -> None:
        """Take a reading before a request starts, if one is due.

        Args:
            span: the request.
            number: its number in this worker.
            solo: whether nothing else is in flight.
        """
        if self.measured is not None:
            self._continue(span, number, solo)
        if self.measured is None and self.due != NEVER:
            free = solo and not self._job_running
            if free and self._selected(span, number):
                self._begin(span, number)
            elif number >= self._next_number:  # a job may run for hundreds of requests
                self._next_number = self._later(number)
        self._schedule(number)

    def invalidate(self) -> None:
        """Discard the pair being measured: something else was served."""
        self._invalid = True

    def wrap_job(self, job: Callable[[], object]) -> object:
        """Run a housekeeper job, and subtract the bytes that it retains from the pair in progress.

        The pair is discarded if a request ran meanwhile, since the two cannot be separated then.
        """
        if self.due == NEVER:
            return job()
        self._job_running, number = True, self._idle_number()
        before = None if number is None or self.measured is None else self._read()
        try:
            return job()
        finally:
            after = None if before is None or self._idle_number() != number else self._read()
            if before is None or after is None:
                self._invalid = True
            else:
                self._job_bytes[0] += after.large - before.large
                self._job_bytes[1] += after.small - before.small
            self._job_running = False

    def _selected(self, span: Span, number: int) -> bool:
        """Return whether a request is to be measured."""
        if number >= self._next_number:
            rested = self._monotonic_ns() - self._measured_at[0] >= SPARSE_GAP_NS
            return rested or not self._sparse
        key = self._path_keys.get(_path_pattern(span))
        return key is not None and self._in_focus(key)

    def _later(self, number: int) -> int:
        """Return the number of the next request to measure; a fixed step may keep step with a batch."""
        stride = SURVEY_STRIDE if self._pairs_taken < SURVEY_PAIRS else SPARSE_STRIDE
        return number + self._rng.randrange(1, 2 * stride)

    def _in_focus(self, key: EndpointKey) -> bool:
        """Return whether every request of an endpoint is measured."""
        if not SURVEY_PAIRS <= self._pairs_taken < FOCUS_PAIRS:
            return False
        pairs = len(self._pairs.get(key, _NO_PAIRS))
        is_too_rare_for_the_survey = pairs < MIN_SURVEY_PAIRS
        return is_too_rare_for_the_survey or (key in self._focus and pairs < _MAX_PAIRS)

    def _begin(self, span: Span, number: int) -> None:
        """Take the first reading of a pair."""
        self._path = _path_pattern(span)  # allocated before the first reading, not between the two
        now = self._collect_and_read()
        if now is None:
            self.due = NEVER
            return
        self._invalid, self._job_bytes[0], self._job_bytes[1] = False, 0, 0
        first = self._first_reading
        first[0], first[1], first[2], first[3] = number, now.large, now.small, _promotions()
        self.measured, self._first_key = span, None
        self._measured_at[0] = self._monotonic_ns()
        self._next_number = self._later(number)

    def _continue(self, span: Span, number: int, solo: bool) -> None:
        """Go on to the request in between, or take the second reading; discard a disturbed pair."""
        before, self.measured = self.measured, None
        if before is None:  # another thread came first
            return
        key, first_key = self._key_of(before), self._first_key
        # In one expression: an int held by a local would be part of the second reading
        undisturbed = (
            before.ended
            and solo
            and number == self._first_reading[0] + (1 if first_key is None else 2)
        )
        del before  # frees the environment of the request before the reading
        if not undisturbed:
            return
        if first_key is None:
            self.measured, self._first_key = span, key
            return
        if self._invalid or self._job_running or _promotions() != self._first_reading[3]:
            return
        now, first, job = self._collect_and_read(), self._first_reading, self._job_bytes
        if now is not None:
            requests = 2 if key == first_key else 1
            retained = AllocatedBytes(
                (now.large - first[1] - job[0]) // requests,
                (now.small - first[2] - job[1]) // requests,
            )
            self._store(first_key, self._path, Pair(retained, None if requests == 2 else key))

    def _schedule(self, number: int) -> None:
        """Set the number of the next request to look at."""
        if self.due == NEVER:  # stopped meanwhile
            return
        next_request = number + 1
        focus = self._pairs_taken >= SURVEY_PAIRS and not self._sparse
        watch_all = self.measured is not None or focus
        self.due = next_request if watch_all else max(next_request, self._next_number)

    def _collect_and_read(self) -> AllocatedBytes | None:
        gc.collect(1)
        return self._read()

    def _store(self, key: EndpointKey, path: str, pair: Pair) -> None:
        self._pairs_taken += 1
        pairs = self._pairs.get(key)
        if pairs is None:
            if len(self._pairs) >= _MAX_ENDPOINTS:
                return
            pairs = self._pairs[key] = deque(maxlen=_MAX_PAIRS)
        pairs.append(pair)
        if len(self._path_keys) < _MAX_ENDPOINTS:
            self._path_keys[path] = key
        if self._pairs_taken == SURVEY_PAIRS:
            self._sparse = True  # until the review

    def review(self) -> dict[EndpointKey, Retained]:
        """Return the retained bytes per request of each endpoint with enough pairs, and set the focus.

        Takes some milliseconds; called by the housekeeper.
        """
        # other threads append meanwhile
        pairs = {key: list(pairs.copy()) for key, pairs in self._pairs.copy().items()}
        first_bytes = first_request_bytes(pairs)
        self._focus = retaining(first_bytes)
        if self._pairs_taken >= SURVEY_PAIRS:
            self._sparse = not any(map(self._in_focus, pairs))
        return estimates(pairs, first_bytes)

    @property
    def has_measured(self) -> bool:
        """Whether any pair was completed; where requests never run solo none is."""
        return self._pairs_taken > 0


def _path_pattern(span: Span) -> str:
    """Return the path of a request, with ``*`` for each segment that contains a digit."""
    return _VARIABLE_SEGMENT.sub("*", str(span.environ.get("PATH_INFO", ""))[:200])


def _promotions() -> int:
    """Return the number of collections so far that promoted objects to the old generation."""
    pauses: Any = WATCH.pauses
    return int(pauses[1][0] + pauses[2][0])
