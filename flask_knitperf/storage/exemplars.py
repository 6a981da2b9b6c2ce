"""Exemplars on disk: single requests with their details, retained beside the totals.

Per endpoint the latest ones are retained, the slowest of the last hour, and the slowest of the run.
Each is one line of text with a unique name, and files merge as a union by name. A kill between
writing, renaming and removing therefore duplicates nothing: a line that stands in two files is one
exemplar. Each worker appends to its file and compacts it once most lines are obsolete; files of
workers that ended are merged into one. An incomplete line is skipped.

The order of the lines in a file is that of the requests. The time of day that a line bears may be ahead
of later ones, and of the present, if the clock was set back in between; it is lowered then
(:func:`lowered`).

::

    <run>/details/<worker>.exemplars    per line: name, time, nanoseconds, endpoint, method, JSON
                  older.exemplars       of workers that ended
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..core.host_exceptions import raise_if_of_host
from .atomic_files import Disk
from .slices import FOLDER
from .state_dir import exclusively

LATEST = 50  # retained per endpoint: the latest
SLOWEST = 20  # and the slowest, of the last hour and of the run
HOUR_S = 3600.0
MAX_FILE_BYTES = 2 << 20  # of one file; the oldest are evicted first
MAX_LINE_BYTES = 16_384  # longer lines are dropped
OLDER = "older.exemplars"
_COMPACT_AFTER_BYTES = 1 << 18  # appended to a file before it is compacted
_CLOCK_SKEW_S = 1.0  # by which a time may be later than the next one, or than the present
_ORDER_S = 1e-6  # between times that are lowered
_FIELDS = 6
_NAME_CHARS = 40


class Exemplar(NamedTuple):
    """One request.

    Attributes:
        name: unique id.
        at: end of the request, seconds since the epoch.
        wall: its duration in nanoseconds.
        endpoint: its endpoint.
        method: its method.
        line: the whole exemplar in the format of the file.
    """

    name: str
    at: float
    wall: int
    endpoint: str
    method: str
    line: bytes

    def moved(self, at: float) -> Exemplar:
        """Return it with another end, in seconds since the epoch."""
        name, _, rest = self.line.split(b"\t", 2)
        return self._replace(at=at, line=b"\t".join((name, f"{at:.6f}".encode(), rest)))

    def document(self) -> dict[str, Any] | None:
        """Return the details of the request, ``None`` if the line is damaged."""
        try:
            details = json.loads(self.line.rsplit(b"\t", 1)[1])
        except ValueError as error:
            raise_if_of_host(error)
            return None
        return details if isinstance(details, dict) else None


def exemplar(
    name: str, at: float, wall: int, endpoint: str, method: str, document: Mapping[str, Any]
) -> Exemplar:
    """Return the exemplar of a request.

    Args:
        name: unique id without white space.
        at: end of the request, seconds since the epoch.
        wall: its duration in nanoseconds.
        endpoint: its endpoint.
        method: its method.
        document: further details, as JSON values.
    """
    text = "\t".join((
        name, f"{at:.6f}", str(wall), json.dumps(endpoint), json.dumps(method),
        json.dumps(document, separators=(",", ":")),
    ))  # fmt: skip
    return Exemplar(name, at, wall, endpoint, method, text.encode() + b"\n")


def parse(
    lines: Iterable[bytes], endpoint: str | None = None, name: str | None = None,
    damaged: list[str] | None = None,
) -> Iterator[Exemplar]:  # fmt: skip
    """Yield the exemplars in lines of a file; incomplete and damaged lines are skipped.

    Args:
        lines: with their line ends; a last line without one is still being written.
        endpoint: restrict to one endpoint.
        name: restrict to one exemplar.
        damaged: the first characters of each damaged line are appended to this list.
    """
    # JSON contains no tab, so only the field itself can match
    field = b"" if endpoint is None else b"\t" + json.dumps(endpoint).encode() + b"\t"
    begin = b"" if name is None else name.encode() + b"\t"
    for line in lines:
        if field not in line or not line.startswith(begin) or not line.endswith(b"\n"):
            continue
        fields = line.split(b"\t")
        try:
            if len(fields) != _FIELDS:
                raise ValueError
            parsed = Exemplar(
                fields[0].decode(), float(fields[1]), int(fields[2]), str(json.loads(fields[3])),
                str(json.loads(fields[4])), line,
            )  # fmt: skip
        except ValueError as error:
            raise_if_of_host(error)
            if damaged is not None:
                damaged.append(line[:_NAME_CHARS].decode(errors="replace"))
            continue
        yield parsed


def _lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file one at a time (files may be large); nothing for a missing file."""
    try:
        with open(path, "rb") as file:
            yield from file
    except FileNotFoundError:
        return


def lowered(exemplars: Sequence[Exemplar], now: float) -> list[Exemplar]:
    """Return exemplars whose times are neither later than that of the next one nor than the present.

    Args:
        exemplars: in the order in which they were recorded, which is preserved.
        now: seconds since the epoch.
    """
    bound = now
    ordered: list[Exemplar] = []
    for one in reversed(exemplars):
        if one.at > bound + _CLOCK_SKEW_S:
            bound -= _ORDER_S
            one = one.moved(bound)  # noqa: PLW2901
        bound = min(bound, one.at)
        ordered.append(one)
    return ordered[::-1]


def is_ahead(exemplars: Sequence[Exemplar], now: float) -> bool:
    """Return whether the last of some exemplars bears a time that is still to come."""
    return bool(exemplars) and exemplars[-1].at > now + _CLOCK_SKEW_S


def retain(exemplars: Iterable[Exemplar], now: float) -> list[Exemplar]:
    """Apply the retention policy; return the remaining exemplars in order of time.

    Args:
        exemplars: in any order, possibly with duplicates; those from the future are the oldest.
        now: seconds since the epoch.
    """
    known_until = now + _CLOCK_SKEW_S

    def newest_first(one: Exemplar) -> tuple[float, str]:
        return (-one.at if one.at <= known_until else 0.0), one.name

    by_pair: dict[tuple[str, str], dict[str, Exemplar]] = {}
    for one in exemplars:
        by_pair.setdefault((one.endpoint, one.method), {})[one.name] = one
    retained: list[Exemplar] = []
    for by_name in by_pair.values():
        slowest = sorted(by_name.values(), key=lambda one: (-one.wall, one.name))
        recent = [one for one in slowest if now - HOUR_S < one.at <= known_until]
        latest = sorted(by_name.values(), key=newest_first)[:LATEST]
        union = {one.name: one for one in (*slowest[:SLOWEST], *recent[:SLOWEST], *latest)}
        retained += union.values()
    retained.sort(key=newest_first)
    size, count = 0, 0
    for one in retained:
        size += len(one.line)
        if size > MAX_FILE_BYTES:
            break
        count += 1
    return retained[:count][::-1]


class ExemplarFile:
    """Exemplars of one worker, in memory and in its file.

    Args:
        path: its file, ``None`` for memory only.
        disk: file operations.

    Attributes:
        exemplars: the retained ones, and some that the next compaction evicts.
        is_complete: whether the file holds all of them.
    """

    def __init__(self, path: Path | None, disk: Disk) -> None:
        self._path = path
        self._disk = disk
        self._appended = 0
        self.is_complete = True
        self.exemplars: list[Exemplar] = []

    def add(self, fresh: list[Exemplar], now: float) -> None:
        """Add exemplars.

        Args:
            fresh: in order of time.
            now: seconds since the epoch.

        Raises:
            OSError: they are in memory only; the next call tries again.
        """
        ordered = lowered([*self.exemplars, *fresh], now)
        was_set_back = ordered != [*self.exemplars, *fresh]
        self.exemplars = ordered
        self._appended += sum(len(one.line) for one in fresh)
        if self._appended > _COMPACT_AFTER_BYTES or was_set_back or not self.is_complete:
            self.exemplars = retain(self.exemplars, now)
            self._compact()
        elif self._path is not None and fresh:
            self.is_complete = False
            self._disk.append(self._path, b"".join(one.line for one in fresh))
            self.is_complete = True

    def is_up_to_date(self, now: float) -> bool:
        """Return whether the file holds all exemplars, and none of them is from the future."""
        return self.is_complete and not is_ahead(self.exemplars, now)

    def _compact(self) -> None:
        if self._path is not None:
            self.is_complete = False
            self._disk.save(self._path, b"".join(one.line for one in self.exemplars))
            self.is_complete = True
        self._appended = 0


def open_file(run: Path | None, worker: str, disk: Disk) -> ExemplarFile:
    """Return the exemplar file of a worker.

    Raises:
        OSError: its folder cannot be created.
    """
    if run is None:
        return ExemplarFile(None, disk)
    (run / FOLDER).mkdir(mode=0o700, exist_ok=True)
    return ExemplarFile(run / FOLDER / f"{worker}.exemplars", disk)


def read(
    run: Path, now: float, endpoint: str | None = None, name: str | None = None,
    damaged: list[str] | None = None,
) -> list[Exemplar]:  # fmt: skip
    """Return the exemplars of all workers of a run, in order of time.

    Args:
        run: the run's directory.
        now: seconds since the epoch.
        endpoint: restrict to one endpoint.
        name: restrict to one exemplar.
        damaged: see :func:`parse`.
    """
    folder = run / FOLDER
    paths = sorted(folder.glob("w-*.exemplars")) if folder.is_dir() else []
    paths.append(folder / OLDER)  # last: it takes in the others and may only appear now
    lines = (one for path in paths for one in parse(_lines(path), endpoint, name, damaged))
    return lowered(retain(lines, now), now)


def select(
    exemplars: Iterable[Exemplar], begins: float, ends: float,
    endpoint: str | None = None, name: str | None = None,
) -> list[Exemplar]:  # fmt: skip
    """Return the exemplars that ended in an interval, optionally of one endpoint or name.

    Args:
        exemplars: in any order, which is preserved.
        begins: start of the interval, seconds since the epoch.
        ends: end of the interval, seconds since the epoch.
        endpoint: restrict to one endpoint.
        name: restrict to one exemplar.
    """
    return [
        one for one in exemplars
        if begins <= one.at <= ends
        and endpoint in (None, one.endpoint) and name in (None, one.name)
    ]  # fmt: skip


def merge_ended(run: Path, now: float, disk: Disk) -> int:
    """Merge the files of workers that ended into one; return their number.

    Args:
        run: the run's directory.
        now: seconds since the epoch.
        disk: file operations.

    Raises:
        OSError: for instance the disk is full; nothing has changed then.
    """
    folder = run / FOLDER
    if not folder.is_dir():
        return 0
    with exclusively(folder / "exemplars.lock") as locked:
        ended = _of_ended_workers(run) if locked else []
        if not ended and not (locked and _ends_ahead(folder / OLDER, now)):
            return 0
        paths = [*ended, folder / OLDER]
        merged = retain(
            (one for path in paths for one in lowered(list(parse(_lines(path))), now)), now
        )
        disk.save(folder / OLDER, b"".join(one.line for one in merged))
        for path in ended:
            disk.unlink(path)
        return len(ended)


def _ends_ahead(path: Path, now: float) -> bool:
    """Return whether the last exemplar of a file bears a time that is still to come."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 2 * MAX_LINE_BYTES))
            return is_ahead(list(parse(file)), now)
    except FileNotFoundError:
        return False


def _of_ended_workers(run: Path) -> list[Path]:
    """Return the files of workers without a lock file: it is removed once their totals are merged."""
    paths = (run / FOLDER).glob("w-*.exemplars")
    return sorted(
        path for path in paths if not os.path.lexists(run / f"{path.name.partition('.')[0]}.lock")
    )
