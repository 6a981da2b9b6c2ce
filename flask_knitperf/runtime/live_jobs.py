"""Live figures: while a page is open, one worker writes what happened in the last seconds.

A page polls every two seconds, and less often where many are open. A poll leaves a *mark*, the time of a
file in the directory of the run. While that is fresh, the housekeeper of one worker writes the figures
every two seconds, and the worker that gets a poll answers from that file: a poll costs no report.
Without polls nothing is written.

The writer is the worker that wrote last; another one takes over once its file is old. Two that begin at
once both write, and one of them stops at its next turn. No lock is left behind where a writer is killed.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..core.clock import NS_PER_MS, NS_PER_S
from ..core.host_exceptions import SuppressOwn, raise_if_of_host
from ..core.printable import printable
from ..metrics.catalogue import IN_FLIGHT
from ..metrics.columns import Columns
from ..recording.recorder import Recorder
from ..reports.values import moment
from ..storage.state_dir import Snapshot
from .memory_jobs import Schedule

if TYPE_CHECKING:
    from ..metrics.histogram import Histogram
    from ..reports.documents import Live
    from ..reports.documents.live import LiveMinute, LivePoint

INTERVAL_S = 2.0
"""Time between two writes."""
WATCHED_S = 15.0
"""Time after a poll for which figures are written."""
_MARK = "live.polled"
_FILE = "live.json"
_TAKE_OVER_S = 2.5 * INTERVAL_S
_MARK_EVERY_S = 1.0
_OPEN_S = 30.0  # after a poll a page counts as open
_MAX_PAGES = 1000  # that one worker counts
_KEPT = 150  # points in the file: five minutes
_MINUTE_S = 60.0
_SCHEMA: Literal["flask-knitperf/live/1"] = "flask-knitperf/live/1"


class _Slot(NamedTuple):
    """Requests that ended between two writes: the warm ones, and what the file has about all."""

    seconds: float
    warm: Histogram
    point: LivePoint


class _Totals(NamedTuple):
    """Requests of a run up to a time: columns of :data:`..history.totals.TOTALS`.

    Attributes:
        run: the run.
        at: the time, in seconds since the epoch.
        ns: the same on a clock that is never set.
        requests: what the run had then.
    """

    run: Path
    at: float
    ns: int
    requests: Columns


class LiveJobs:
    """Writes and reads the live figures of one application.

    Args:
        recorder: the recorder of the application.
        firing: returns the number of alerts that fire, ``None`` where that is unknown.
        release: of the application.
    """

    def __init__(
        self, recorder: Recorder, firing: Callable[[], int | None], release: str | None
    ) -> None:
        self._recorder, self._firing, self._release = recorder, firing, release
        self._slots: deque[_Slot] = deque(maxlen=_KEPT)
        self._before: _Totals | None = None
        self._marked = 0.0
        self._pages: dict[str, float] = {}  # time of the latest poll by the name of its page
        self._read: tuple[tuple[Path, int, int], Live] | None = None

    def schedule(self) -> Schedule:
        """Return the jobs of the housekeeper with their intervals in seconds."""
        return [(INTERVAL_S, self.tick)]

    # -- writing -------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Write the figures, if a page is open and no other worker does it."""
        run, now = self._recorder.worker.run, self._recorder.clock.wall()
        if run is None or not _is_watched(run, now) or self._is_led(run, now):
            self._slots.clear()
            self._before = None
            return
        snapshot = self._recorder.snapshot()
        self._add(snapshot, run, now)
        text = json.dumps(self._document(snapshot, run, now), separators=(",", ":"))
        with SuppressOwn(OSError):  # a full disk: the page states that there is no answer
            self._recorder.disk.save(run / _FILE, text.encode())

    def _is_led(self, run: Path, now: float) -> bool:
        """Return whether another worker has just written."""
        document = self._document_of(run / _FILE)
        if document is None or document["writer"] == self._recorder.worker.name:
            return False
        return abs(now - document["sequence"] / 1000) < _TAKE_OVER_S

    def _add(self, snapshot: Snapshot, run: Path, now: float) -> None:
        """Add a slot with what ended since the previous write.

        Slots begin again with the first write of a worker or a run, after a pause of more than a minute,
        and where the clock was set back.
        """
        from ..history.totals import total_columns
        from ..metrics import columns

        requests = total_columns(snapshot.columns)
        ns = self._recorder.clock.monotonic_ns()
        before, self._before = self._before, _Totals(run, now, ns, requests)
        if before is None or before.run != run or now <= before.at:
            self._slots.clear()
            return
        seconds = (ns - before.ns) / NS_PER_S
        if seconds > _MINUTE_S or (requests.count < before.requests.count).any():
            self._slots.clear()  # the process was suspended, or files of a worker are gone
            return
        self._slots.append(_slot(now, seconds, columns.subtract(requests, before.requests)))

    def _document(self, snapshot: Snapshot, run: Path, now: float) -> Live:
        assert self._before is not None
        document: Live = {
            "schema": _SCHEMA, "sequence": round(now * 1000), "at": moment(now),
            "interval_s": INTERVAL_S, "run": run.name, "release": self._release,
            "writer": self._recorder.worker.name,
            "workers": sum(bool(worker.get("alive")) for worker in snapshot.servers),
            "in_flight": _in_flight(snapshot.columns),
            "pages": len(_pages(run, now)),
            "requests": int(self._before.requests.count.sum()), "firing": self._firing(),
            "minute": _minute(_of_minute(self._slots)), "points": [],
        }  # fmt: skip
        return {**printable(document), "points": [slot.point for slot in self._slots]}

    # -- reading -------------------------------------------------------------------------------------

    def read(self, after: int = 0, page: str = "") -> Live | None:
        """Return the figures and leave a mark; ``None`` where there are none of now.

        Args:
            after: sequence number up to which the points are known.
            page: name of the page that polls, different for each.
        """
        run, now = self._recorder.worker.run, self._recorder.clock.wall()
        if run is None:
            return None
        if len(self._pages) < _MAX_PAGES or page in self._pages:
            self._pages[page[:16]] = now
        self._mark(run, now)
        document = self._document_of(run / _FILE)
        if document is None or abs(now - document["sequence"] / 1000) > WATCHED_S:
            return None  # written while an earlier page was open
        if after > document["sequence"]:
            return document
        return {
            **document,
            "points": [point for point in document["points"] if point["sequence"] > after],
        }

    def _mark(self, run: Path, now: float) -> None:
        if abs(now - self._marked) < _MARK_EVERY_S:
            return
        self._marked = now
        self._pages = {page: at for page, at in self._pages.items() if abs(now - at) < _OPEN_S}
        with SuppressOwn(OSError):  # a full disk: the page states that there is no answer
            names = json.dumps(list(self._pages)).encode()
            self._recorder.disk.save(run / f"{_MARK}-{self._recorder.worker.name}", names)
            with open(run / _MARK, "ab"):
                pass
            os.utime(run / _MARK, (now, now))

    def _document_of(self, path: Path) -> Live | None:
        """Return the figures in a file, which are kept until it changes.

        ``None`` without it, or where its content is not that of :meth:`_document`.
        """
        try:
            about = path.stat()
            version = path, about.st_mtime_ns, about.st_ino
            if self._read is None or self._read[0] != version:
                document: Any = json.loads(path.read_bytes())
                if document["schema"] != _SCHEMA:
                    return None
                self._read = version, document
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise_if_of_host(error)
            return None
        return self._read[1]


def _pages(run: Path, now: float) -> set[str]:
    """Return the names of the pages that have polled recently, at any worker."""
    names: set[str] = set()
    for path in run.glob(f"{_MARK}-*"):
        try:
            if abs(now - path.stat().st_mtime) < _OPEN_S:
                names.update(json.loads(path.read_bytes()))
            else:
                path.unlink()
        except (OSError, ValueError) as error:  # another worker has replaced or removed it
            raise_if_of_host(error)
    return names


def _is_watched(run: Path, now: float) -> bool:
    """Return whether a page has polled recently."""
    try:
        return abs(now - (run / _MARK).stat().st_mtime) < WATCHED_S
    except OSError as error:  # no page has
        raise_if_of_host(error)
        return False


def _of_minute(slots: Iterable[_Slot]) -> list[_Slot]:
    """Return the latest slots, of a minute together at most."""
    chosen: list[_Slot] = []
    seconds = 0.0
    for slot in reversed(list(slots)):
        seconds += slot.seconds
        if seconds > _MINUTE_S:
            break
        chosen.append(slot)
    return chosen


def _slot(ends: float, seconds: float, requests: Columns) -> _Slot:
    from ..history.totals import TOTALS, Outcome, Warmth
    from ..metrics.histogram import Histogram, total

    def of(row: int) -> Histogram:
        begin, end = (int(requests.row.searchsorted(row, side)) for side in ("left", "right"))
        cells = requests.bucket[begin:end].astype("int64"), requests.weight[begin:end]
        return Histogram(int(requests.count[row]), int(requests.total[row]), cells=cells)

    warm = [of(row) for row, one in enumerate(TOTALS) if one.warmth == Warmth.WARM]
    failed = [row for row, one in enumerate(TOTALS) if one.outcome == Outcome.FAILED]
    return _Slot(seconds, total(warm), {
        "at": moment(ends), "sequence": round(ends * 1000), "seconds": round(seconds, 3),
        "count": int(requests.count.sum()), "failed": int(requests.count[failed].sum()),
    })  # fmt: skip


def _minute(slots: list[_Slot]) -> LiveMinute:
    from ..metrics.histogram import total

    p50, p95 = (
        None if ns is None else round(ns / NS_PER_MS, 3)
        for ns in total([slot.warm for slot in slots]).quantiles((0.5, 0.95))
    )
    return {
        "seconds": round(sum(slot.seconds for slot in slots), 3),
        "count": sum(slot.point["count"] for slot in slots),
        "failed": sum(slot.point["failed"] for slot in slots),
        "p50_ms": p50, "p95_ms": p95,
    }  # fmt: skip


def _in_flight(columns: Columns) -> int:
    return round(sum(
        sum(values.values()) for row, values in columns.gauges.items()
        if columns.descriptors[row].key.meter == IN_FLIGHT.name
    ))  # fmt: skip
