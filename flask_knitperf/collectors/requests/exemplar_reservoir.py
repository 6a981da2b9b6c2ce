"""Which single requests are kept whole, and what of them: never anything that a user sent.

When a request ends that did not take the shortest way (see :mod:`...recording.fastpath`), it is offered
here: if it is slower than the twentieth slowest of its endpoint in the last hour, or none of its
endpoint was kept lately. That is a handful of comparisons; what is known of a request that is kept goes
into a list, and the housekeeper makes a line of it a second later, when the sampler has handed in its
stacks too.

What is kept: names of endpoints, parts, files and functions; statuses, moments, durations, sizes and
numbers of rows. No path, query, header, cookie, body, argument or value.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ...core.locks import Lock
from ...metrics.stack_trie import Sampled, StackFrame, Trie, encode
from ...recording.fastpath import SLOW_NS
from ...recording.gc_pauses import WATCH
from ...recording.recorder import Recorder
from ...recording.span import Notes, Span
from ...storage.exemplars import (
    HOUR_S,
    MAX_LINE_BYTES,
    SLOWEST,
    Exemplar,
    ExemplarFile,
    exemplar,
    open_file,
)
from ...storage.writer import Worker
from .endpoint_series import Figures, Line, endpoint_of

APART_NS = 500_000_000
"""Of one endpoint, requests that are not among its slowest are kept this far apart."""
OFFERS = 300
"""Requests that may wait for the housekeeper; more are left out and counted."""
EVENTS_WAITING = 6000
"""Parts of all of those that are kept one by one, about 2 MB; of later requests only their sums are."""
RIPE_NS = 1_200_000_000
"""The sampler's slowest turn, and a little more."""
NEIGHBOURS = 8
_LATELY = 256
_PAIRS = 2000
_NODES = 60
_LIBRARY_TOP = 3


class _Offer(NamedTuple):
    """A request that is to be kept."""

    at: float
    began: int
    wall: int
    endpoint: str
    method: str
    status: str
    length: int
    figures: Figures
    parts: Mapping[str, list[int]]
    beside: Mapping[tuple[str, str], int]
    notes: Notes


class ExemplarReservoir:
    """Keeps single requests of one application in one process after another.

    Args:
        recorder: whose requests they are.

    Attributes:
        dropped: requests that were to be kept and found no room.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._offers: deque[_Offer] = deque()
        self._events = 0
        self._lately: deque[tuple[int, int, tuple[str, str]]] = deque(maxlen=_LATELY)
        self._floors: dict[tuple[str, str], int] = {}
        self._kept_at: dict[tuple[str, str], int] = {}
        self._turn = Lock()
        self._file: ExemplarFile | None = None
        self._number = 0
        self.dropped = 0
        recorder.on_change.append(self._anew)

    def _anew(self) -> None:
        """Forget what belonged to a writer that is gone."""
        self._offers.clear()
        self._events = 0
        self._floors, self._kept_at, self._file, self._number = {}, {}, None, 0
        self.dropped = 0

    # -- in a request --------------------------------------------------------------------------------

    def ended(self, span: Span, line: Line, figures: Figures) -> None:
        """Keep a request that has just ended, if it is worth it."""
        pair, wall = line.labels, span.wall
        ended = span.began + wall
        if wall > SLOW_NS:
            self._lately.append((span.began, ended, pair))
        if wall <= self._floors.get(pair, -1) and ended - self._kept_at.get(pair, 0) < APART_NS:
            return
        if len(self._offers) >= OFFERS:
            self.dropped += 1
            return
        if len(self._kept_at) >= _PAIRS:
            self._kept_at.clear()
        self._kept_at[pair] = ended
        beside = self._beside(span, ended) if span.concurrent else {}
        notes = span.ensure_notes()
        span.add_events()
        self._events += len(notes.events)
        if self._events > EVENTS_WAITING:
            self._events -= len(notes.events)
            notes.dropped_events += len(notes.events)
            notes.events = []
        self._offers.append(_Offer(
            self._recorder.clock.wall(), span.began, wall, *pair, span.status[:3], span.length,
            figures, span.parts or {}, beside, notes,
        ))  # fmt: skip

    def _beside(self, span: Span, ended: int) -> dict[tuple[str, str], int]:
        """Return for how long requests of which endpoints ran at the same time, in nanoseconds.

        Those that run still, and the slower ones that ended lately.
        """
        found: dict[tuple[str, str], int] = {}
        own = span.began, endpoint_of(span)
        flying = [(other.began, ended, endpoint_of(other)) for other in list(self._recorder.spans)]
        for began, until, pair in (*flying, *list(self._lately)):
            overlap = min(ended, until) - max(span.began, began)
            if overlap > 0 and (began, pair) != own:
                found[pair] = found.get(pair, 0) + overlap
        most = sorted(found.items(), key=lambda item: (-item[1], item[0]))[:NEIGHBOURS]
        return dict(most)

    # -- the housekeeper's side ------------------------------------------------------------------------

    def turn(self, *, at_once: bool = False) -> None:
        """Write down what was offered.

        Args:
            at_once: do not wait for the sampler.
        """
        recorder = self._recorder
        worker = recorder.worker
        with self._turn:
            ripe = recorder.clock.monotonic_ns() - (0 if at_once else RIPE_NS)
            fresh: list[Exemplar] = []
            while self._offers and self._offers[0].began + self._offers[0].wall <= ripe:
                made = self._made(self._offers.popleft(), worker)
                if len(made.line) <= MAX_LINE_BYTES:
                    fresh.append(made)
                else:
                    self.dropped += 1
            self._events = sum(len(offer.notes.events) for offer in list(self._offers))
            if self.dropped:
                worker.dropped["single requests"] = self.dropped
            if not fresh and (self._file is None or self._file.is_complete):
                return
            now = recorder.clock.wall()
            try:
                if self._file is None:
                    self._file = open_file(worker.run, worker.name, recorder.disk)
                self._file.add(fresh, now)
            except OSError as error:
                worker.degraded["requests"] = f"single requests cannot be saved: {error.strerror}"
            else:
                worker.degraded.pop("requests", None)
            if self._file is not None:
                self._look(self._file, {(each.endpoint, each.method) for each in fresh}, now)

    def _look(self, own: ExemplarFile, pairs: Iterable[tuple[str, str]], now: float) -> None:
        """Find out how slow a request of some endpoints must be to be among the slowest."""
        walls: dict[tuple[str, str], list[int]] = {pair: [] for pair in pairs}
        for each in own.exemplars:
            found = walls.get((each.endpoint, each.method))
            if found is not None and each.at > now - HOUR_S:
                found.append(each.wall)
        if len(self._floors) >= _PAIRS:
            self._floors.clear()
        for pair, those in walls.items():
            self._floors[pair] = sorted(those)[-SLOWEST] if len(those) >= SLOWEST else -1

    @property
    def held(self) -> list[Exemplar]:
        """What this process keeps in memory."""
        return [] if self._file is None else list(self._file.exemplars)

    def _made(self, offer: _Offer, worker: Worker) -> Exemplar:
        self._number += 1
        name = f"{worker.name.rpartition('-')[2]}-{self._number}"
        return exemplar(name, offer.at, offer.wall, offer.endpoint, offer.method,
                        _document(offer, worker.identity.get("pid", 0)))  # fmt: skip


def _document(offer: _Offer, pid: int) -> dict[str, Any]:
    """Return all that is known of a request but its name; times are whole microseconds."""
    figures, notes = offer.figures, offer.notes
    began, ended = offer.began, offer.began + offer.wall

    def since(moment: int) -> int:
        return (min(max(moment, began), ended) - began) // 1000

    pauses = [
        [since(start), since(end) - since(start)]
        for start, end, _ in list(WATCH.latest) if end > began and start < ended
    ]  # fmt: skip
    return {
        "pid": pid,
        "status": offer.status,
        "cpu": None if figures.cpu is None else figures.cpu // 1000,
        "ready": figures.ready // 1000,
        "gc": figures.gc // 1000,
        "bytes": offer.length if offer.length >= 0 else None,
        "rows": notes.rows or None,
        "first": figures.first,
        "disconnected": figures.disconnected,
        "streaming": since(notes.streaming) if notes.streaming else None,
        "parts": [[name, row[0], row[1] // 1000] for name, row in offer.parts.items()],
        "events": [
            [event.name, since(event.began), since(event.ended) - since(event.began),
             None if event.detail is None else event.detail.as_dict()]
            for event in notes.events
        ],
        "more": notes.dropped_events,
        "pauses": pauses,
        "beside": [[*pair, overlap // 1000] for pair, overlap in offer.beside.items()],
        "stacks": _stacks(notes.sampled, offer.wall),
    }  # fmt: skip


def _stacks(sampled: Sampled | None, wall: int) -> dict[str, Any] | None:
    """Return a request's samples as JSON values: own code, and what it calls."""
    if sampled is None or not sampled.stacks:
        return None
    whole = Trie()
    whole.add_request(sampled, wall)
    trie, places = Trie(), dict[StackFrame, int]()
    for path, node in whole.calibrated(wall or None).stacks():
        trie.add(outline(path), node.running, node.waiting, node.count, _NODES)
    rows = encode(trie, places)
    return {"places": [list(place) for place in places], "rows": rows}


def outline(path: Iterable[StackFrame]) -> tuple[StackFrame, ...]:
    """Return a stack without what libraries do among themselves."""
    whole = tuple(path)
    made: list[StackFrame] = []
    for place in whole:
        if place.own or (made and made[-1].own):
            made.append(place)
    return tuple(made) or whole[-_LIBRARY_TOP:]
