"""Reservoir of exemplars: single requests retained with their details, without anything users sent.

Every request that the fast path did not finish (see :mod:`...recording.fastpath`) is offered here when
it ends. It is retained if it is slower than the twentieth slowest of its endpoint in the last hour, or
if none of its endpoint was retained recently. That takes a few comparisons. The details of a retained
request are buffered, and the housekeeper writes them a second later, when the sampler has added its
stacks.

An exemplar contains names of endpoints, parts, files and functions; statuses, times, durations, sizes
and numbers of rows. It contains no path, query string, header, cookie, body, argument or value.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ...core.host_exceptions import raise_if_of_host
from ...core.locks import create_lock
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
from .endpoint_series import EndpointKey, EndpointSeries, RequestFigures, endpoint_of

MIN_GAP_NS = 500_000_000
"""Time between two retained requests of an endpoint that are not among its slowest."""
MAX_CANDIDATES = 300
"""Number of requests that may wait for the housekeeper; further ones are dropped and counted."""
MAX_BUFFERED_EVENTS = 6000
"""Number of timeline events of waiting requests, about 2 MB; of further requests only sums are kept."""
SAMPLER_DELAY_NS = 1_200_000_000
"""Longest interval of the sampler, and a margin: by then the samples of a request have arrived."""
MAX_CONCURRENT = 8
"""Number of concurrent endpoints per exemplar, those with the longest overlap."""
_MAX_RECENT = 256
"""Number of recent slow requests that are checked for overlap."""
_MAX_ENDPOINTS = 2000
_MAX_STACK_NODES = 60
_MIN_EVENTS = 12
"""Number of parts that stay in a timeline as long as anything else can be left out."""
_LIBRARY_FRAMES = 3
"""Number of frames kept of a stack without application code, the innermost."""


class _Candidate(NamedTuple):
    """A request that is to be retained.

    Attributes:
        at: its end, in seconds since the epoch.
        began: its start, in nanoseconds on the recorder's clock.
        wall: its duration in nanoseconds.
        endpoint: of the request.
        method: of the request.
        status: HTTP status.
        length: bytes of the body, -1 where unknown.
        figures: further measurements.
        parts: ``[count, wall, cpu]`` by name.
        concurrent: nanoseconds of overlap by endpoint and method.
        notes: of its span.
    """

    at: float
    began: int
    wall: int
    endpoint: str
    method: str
    status: str
    length: int
    figures: RequestFigures
    parts: Mapping[str, list[int]]
    concurrent: Mapping[EndpointKey, int]
    notes: Notes


class _RecentRequest(NamedTuple):
    """A slow request that ended recently; times are nanoseconds on the recorder's clock."""

    began: int
    ended: int
    key: EndpointKey


class ExemplarReservoir:
    """Retains single requests of one application, in one process after another.

    Args:
        recorder: whose requests are retained.

    Attributes:
        dropped: number of requests that qualified but found no room.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._candidates: deque[_Candidate] = deque()
        self._buffered_events = 0
        self._recent: deque[_RecentRequest] = deque(maxlen=_MAX_RECENT)
        self._floors: dict[EndpointKey, int] = {}  # wall of the twentieth slowest, -1 below twenty
        self._retained_at: dict[EndpointKey, int] = {}
        self._lock = create_lock()
        self._file: ExemplarFile | None = None
        self._number = 0
        self.dropped = 0
        recorder.on_change.append(self._reset)

    def _reset(self) -> None:
        """Forget the exemplars of a writer that is gone."""
        self._candidates.clear()
        self._buffered_events = 0
        self._floors, self._retained_at, self._file, self._number = {}, {}, None, 0
        self.dropped = 0

    # -- in a request --------------------------------------------------------------------------------

    def bounds(self, key: EndpointKey) -> tuple[int, int]:
        """Return the two bounds of an endpoint, of which one suffices for a request to be retained.

        Returns:
            The end on the recorder's clock from which on they qualify, and the wall time above which
            they do, in nanoseconds.
        """
        return self._retained_at.get(key, -MIN_GAP_NS) + MIN_GAP_NS, self._floors.get(key, -1)

    def offer(self, span: Span, series: EndpointSeries, figures: RequestFigures) -> None:
        """Retain a request that has just ended, if it qualifies."""
        key, wall = series.key, span.wall
        ended = span.began + wall
        if wall > SLOW_NS:
            self._recent.append(_RecentRequest(span.began, ended, key))
        retained_from, retained_above = self.bounds(key)
        if wall <= retained_above and ended < retained_from:
            return
        if len(self._candidates) >= MAX_CANDIDATES:
            self.dropped += 1
            return
        if len(self._retained_at) >= _MAX_ENDPOINTS:
            self._retained_at.clear()
        self._retained_at[key] = ended
        concurrent = self._concurrent(span, ended) if span.concurrent else {}
        notes = span.ensure_notes()
        span.add_events()
        self._buffered_events += len(notes.events)
        if self._buffered_events > MAX_BUFFERED_EVENTS:
            self._buffered_events -= len(notes.events)
            notes.dropped_events += len(notes.events)
            notes.events = []
        self._candidates.append(_Candidate(
            self._recorder.clock.wall(), span.began, wall, *key, span.status[:3], span.length,
            figures, span.parts or {}, concurrent, notes,
        ))  # fmt: skip

    def _concurrent(self, span: Span, ended: int) -> dict[EndpointKey, int]:
        """Return the nanoseconds of overlap with other requests, by endpoint, the longest first.

        Counted are requests that are in flight, and slow ones that ended recently.
        """
        overlaps: dict[EndpointKey, int] = {}
        own = span.began, endpoint_of(span)
        in_flight = [
            _RecentRequest(other.began, ended, endpoint_of(other))
            for other in list(self._recorder.spans)
        ]
        for other in (*in_flight, *list(self._recent)):
            overlap = min(ended, other.ended) - max(span.began, other.began)
            if overlap > 0 and (other.began, other.key) != own:
                overlaps[other.key] = overlaps.get(other.key, 0) + overlap
        ordered = sorted(overlaps.items(), key=lambda item: (-item[1], item[0]))
        return dict(ordered[:MAX_CONCURRENT])

    # -- in the housekeeper --------------------------------------------------------------------------

    def tick(self, *, at_once: bool = False) -> None:
        """Write the buffered requests.

        Args:
            at_once: do not wait for the sampler.
        """
        recorder = self._recorder
        worker = recorder.worker
        with self._lock:
            ready = recorder.clock.monotonic_ns() - (0 if at_once else SAMPLER_DELAY_NS)
            fresh = self._encoded(worker, ready)
            if self.dropped:
                worker.dropped["single requests"] = self.dropped
            now = recorder.clock.wall()
            if not fresh and (self._file is None or self._file.is_up_to_date(now)):
                return
            try:
                if self._file is None:
                    self._file = open_file(worker.run, worker.name, recorder.disk)
                self._file.add(fresh, now)
            except OSError as error:
                raise_if_of_host(error)
                worker.degraded["requests"] = f"single requests cannot be saved: {error.strerror}"
            else:
                worker.degraded.pop("requests", None)
            if self._file is not None:
                keys = {(exemplar.endpoint, exemplar.method) for exemplar in fresh}
                self._update_floors(self._file, keys or self._floors, now)

    def _encoded(self, worker: Worker, ready: int) -> list[Exemplar]:
        """Return the candidates that ended before ``ready`` as exemplars; drop those too long."""
        fresh: list[Exemplar] = []
        while self._candidates and self._candidates[0].began + self._candidates[0].wall <= ready:
            encoded = self._encode(self._candidates.popleft(), worker)
            if len(encoded.line) <= MAX_LINE_BYTES:
                fresh.append(encoded)
            else:
                self.dropped += 1
        self._buffered_events = sum(
            len(candidate.notes.events) for candidate in list(self._candidates)
        )
        return fresh

    def _update_floors(self, file: ExemplarFile, keys: Iterable[EndpointKey], now: float) -> None:
        """Update the wall time of the twentieth slowest request in the last hour, by endpoint."""
        walls: dict[EndpointKey, list[int]] = {key: [] for key in keys}
        for retained in file.exemplars:
            its_walls = walls.get((retained.endpoint, retained.method))
            if its_walls is not None and retained.at > now - HOUR_S:
                its_walls.append(retained.wall)
        if len(self._floors) >= _MAX_ENDPOINTS:
            self._floors.clear()
        for key, its_walls in walls.items():
            self._floors[key] = sorted(its_walls)[-SLOWEST] if len(its_walls) >= SLOWEST else -1

    @property
    def exemplars(self) -> list[Exemplar]:
        """Exemplars in the memory of this process."""
        return [] if self._file is None else list(self._file.exemplars)

    def _encode(self, candidate: _Candidate, worker: Worker) -> Exemplar:
        self._number += 1
        name = f"{worker.name.rpartition('-')[2]}-{self._number}"
        document = _document(candidate, worker.identity.get("pid", 0))
        while True:
            encoded = exemplar(
                name, candidate.at, candidate.wall, candidate.endpoint, candidate.method, document
            )
            if len(encoded.line) <= MAX_LINE_BYTES or not _shorten(document):
                return encoded


def _document(candidate: _Candidate, pid: int) -> dict[str, Any]:
    """Return the details of a request as JSON values; times are whole microseconds."""
    figures, notes = candidate.figures, candidate.notes
    began, ended = candidate.began, candidate.began + candidate.wall

    def since_start(moment: int) -> int:
        return (min(max(moment, began), ended) - began) // 1000

    pauses = [
        [since_start(start), since_start(end) - since_start(start)]
        for start, end, _ in list(WATCH.latest) if end > began and start < ended
    ]  # fmt: skip
    return {
        "pid": pid,
        "status": candidate.status,
        "cpu": None if figures.cpu is None else figures.cpu // 1000,
        "ready": figures.run_queue // 1000,
        "gc": figures.gc // 1000,
        "bytes": candidate.length if candidate.length >= 0 else None,
        "rows": notes.rows or None,
        "first": figures.first,
        "disconnected": figures.disconnected,
        "streaming": since_start(notes.streaming) if notes.streaming else None,
        "parts": [[name, row[0], row[1] // 1000] for name, row in candidate.parts.items()],
        "events": [
            [event.name, since_start(event.began),
             since_start(event.ended) - since_start(event.began),
             None if event.detail is None else event.detail.as_dict()]
            for event in notes.events
        ],
        "more": notes.dropped_events,
        "pauses": pauses,
        "beside": [[*key, overlap // 1000] for key, overlap in candidate.concurrent.items()],
        "stacks": _stacks(notes.sampled, candidate.wall),
    }  # fmt: skip


def _shorten(document: dict[str, Any]) -> bool:
    """Remove the least important details of a request; return whether there were any left.

    The shorter half of the timeline goes first, down to a few parts, then the samples, then the rest.
    """
    events = document["events"]
    if len(events) > _MIN_EVENTS:
        kept = {id(event) for event in sorted(events, key=lambda row: -row[2])[: len(events) // 2]}
        document["events"] = [event for event in events if id(event) in kept]
        document["more"] += len(events) - len(kept)
        return True
    if document["stacks"] is not None:
        document["stacks"] = None
        return True
    parts = sorted(document["parts"], key=lambda row: -row[2])[: len(document["parts"]) // 2]
    if not (events or document["beside"] or document["pauses"] or document["parts"]):
        return False
    document["more"] += len(events)
    document.update(events=[], beside=[], pauses=[], parts=parts)
    return True


def _stacks(sampled: Sampled | None, wall: int) -> dict[str, Any] | None:
    """Return a request's samples as JSON values, ``None`` without any."""
    if sampled is None or not sampled.stacks:
        return None
    complete = Trie()
    complete.add_request(sampled, wall)
    trie, places = Trie(), dict[StackFrame, int]()
    for path, node in complete.calibrated(wall or None).stacks():
        trie.add(outline(path), node.running, node.waiting, node.count, _MAX_STACK_NODES)
    rows = encode(trie, places)
    return {"places": [list(place) for place in places], "rows": rows}


def outline(path: Iterable[StackFrame]) -> tuple[StackFrame, ...]:
    """Return the application's frames of a stack, and the library functions that they call."""
    stack = tuple(path)
    frames: list[StackFrame] = []
    for place in stack:
        if place.own or (frames and frames[-1].own):
            frames.append(place)
    return tuple(frames) or stack[-_LIBRARY_FRAMES:]
