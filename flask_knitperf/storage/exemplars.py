"""Exemplars: single requests that are kept whole, beside the totals that they are counted in.

Of each endpoint the latest ones stay, the slowest of the last hour, and the slowest of the run. Each is
one line of text with a name of its own, and files are put together as a union by name. So whatever is
killed between writing, renaming and removing, nothing doubles: a line that stands in two files is one
exemplar. A worker appends to a file of its own, and writes it anew with what stays once most of it is
old; files of workers that are gone go into one. A line that was not written to its end is left out.

::

    <run>/details/<worker>.exemplars    a line each: name, moment, nanoseconds, endpoint, method, JSON
                  older.exemplars       of workers that are gone
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .atomic_files import Disk
from .slices import FOLDER
from .state_dir import exclusively

LATEST, SLOWEST = 50, 20
"""How many of each endpoint stay."""
HOUR_S = 3600.0
MOST_BYTES = 2 << 20
"""Of one file; the oldest go first."""
LONGEST = 16_384
"""Bytes of a line; a longer one is not kept."""
OLDER = "older.exemplars"
_WORN = 1 << 18
"""Bytes that may be appended to a file before it is written anew."""
_FIELDS = 6
_NAME_CHARS = 40


class Exemplar(NamedTuple):
    """One request.

    Attributes:
        name: nobody else's.
        at: when it ended, in seconds since the epoch.
        wall: nanoseconds that it took.
        endpoint: its endpoint.
        method: its method.
        line: all of it, as it stands in a file.
    """

    name: str
    at: float
    wall: int
    endpoint: str
    method: str
    line: bytes

    def document(self) -> dict[str, Any] | None:
        """Return what is known of it, ``None`` where the line is damaged."""
        try:
            found = json.loads(self.line.rsplit(b"\t", 1)[1])
        except ValueError:
            return None
        return found if isinstance(found, dict) else None


def exemplar(
    name: str, at: float, wall: int, endpoint: str, method: str, document: Mapping[str, Any]
) -> Exemplar:
    """Return a request as an exemplar.

    Args:
        name: nobody else's, without white space.
        at: when it ended, in seconds since the epoch.
        wall: nanoseconds that it took.
        endpoint: its endpoint.
        method: its method.
        document: what else is known of it, as JSON values.
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
    """Give the exemplars in some lines; what is no whole line of one is left out.

    Args:
        lines: of a file, with their ends; a last one without is being written.
        endpoint: give those of one endpoint only.
        name: give that one only.
        damaged: the beginnings of other lines that were left out are added here.
    """
    # no tab stands in JSON, so nothing but the field itself can look like that
    field = b"" if endpoint is None else b"\t" + json.dumps(endpoint).encode() + b"\t"
    begin = b"" if name is None else name.encode() + b"\t"
    for line in lines:
        if field not in line or not line.startswith(begin) or not line.endswith(b"\n"):
            continue
        fields = line.split(b"\t")
        try:
            if len(fields) != _FIELDS:
                raise ValueError
            made = Exemplar(
                fields[0].decode(), float(fields[1]), int(fields[2]), str(json.loads(fields[3])),
                str(json.loads(fields[4])), line,
            )  # fmt: skip
        except ValueError:
            if damaged is not None:
                damaged.append(line[:_NAME_CHARS].decode(errors="replace"))
            continue
        yield made


def _lines(path: Path) -> Iterator[bytes]:
    """Give the lines of a file, one at a time, for files may be large; none where there is no file."""
    try:
        with open(path, "rb") as file:
            yield from file
    except FileNotFoundError:
        return


def kept(found: Iterable[Exemplar], now: float) -> list[Exemplar]:
    """Return those that stay, each once, in order of time.

    Args:
        found: in any order, some perhaps twice.
        now: seconds since the epoch.
    """
    by_pair: dict[tuple[str, str], dict[str, Exemplar]] = {}
    for each in found:
        by_pair.setdefault((each.endpoint, each.method), {})[each.name] = each
    chosen: list[Exemplar] = []
    for named in by_pair.values():
        ordered = sorted(named.values(), key=lambda each: (-each.wall, each.name))
        recent = [each for each in ordered if each.at > now - HOUR_S]
        latest = sorted(named.values(), key=lambda each: (-each.at, each.name))[:LATEST]
        stay = {e.name: e for e in (*ordered[:SLOWEST], *recent[:SLOWEST], *latest)}
        chosen += stay.values()
    chosen.sort(key=lambda each: (-each.at, each.name))
    size, count = 0, 0
    for each in chosen:
        size += len(each.line)
        if size > MOST_BYTES:
            break
        count += 1
    return chosen[:count][::-1]


class Shelf:
    """One worker's exemplars: in memory, and in its file.

    Args:
        path: its file, ``None`` to keep them in memory only.
        disk: changes to files.

    Attributes:
        exemplars: all of them, and some that no longer stay.
        sound: whether its file holds what it should.
    """

    def __init__(self, path: Path | None, disk: Disk) -> None:
        self._path = path
        self._disk = disk
        self._worn = 0
        self.sound = True
        self.exemplars: list[Exemplar] = []

    def add(self, fresh: list[Exemplar], now: float) -> None:
        """Keep some more.

        Args:
            fresh: in order of time.
            now: seconds since the epoch.

        Raises:
            OSError: they are in memory only, until it is tried again with the next ones.
        """
        self.exemplars += fresh
        self._worn += sum(len(each.line) for each in fresh)
        if self._worn > _WORN or not self.sound:
            self.exemplars = kept(self.exemplars, now)
            self._write_anew()
        elif self._path is not None and fresh:
            self.sound = False
            self._disk.append(self._path, b"".join(each.line for each in fresh))
            self.sound = True

    def _write_anew(self) -> None:
        if self._path is not None:
            self.sound = False
            self._disk.save(self._path, b"".join(each.line for each in self.exemplars))
            self.sound = True
        self._worn = 0


def shelf(run: Path | None, worker: str, disk: Disk) -> Shelf:
    """Return the shelf of a worker.

    Raises:
        OSError: there can be no folder for its file.
    """
    if run is None:
        return Shelf(None, disk)
    (run / FOLDER).mkdir(mode=0o700, exist_ok=True)
    return Shelf(run / FOLDER / f"{worker}.exemplars", disk)


def read(
    run: Path, now: float, endpoint: str | None = None, name: str | None = None,
    damaged: list[str] | None = None,
) -> list[Exemplar]:  # fmt: skip
    """Return the exemplars of all workers of a run, in order of time.

    Args:
        run: the run's directory.
        now: seconds since the epoch.
        endpoint: return those of one endpoint only.
        name: return that one only.
        damaged: see :func:`parse`.
    """
    folder = run / FOLDER
    paths = sorted(folder.glob("w-*.exemplars")) if folder.is_dir() else []
    paths.append(folder / OLDER)  # last, for it takes in others; it may only come now
    found = (each for path in paths for each in parse(_lines(path), endpoint, name, damaged))
    return kept(found, now)


def chosen(
    found: Iterable[Exemplar], begins: float, ends: float,
    endpoint: str | None = None, name: str | None = None,
) -> list[Exemplar]:  # fmt: skip
    """Return those that ended in a stretch of time, of one endpoint or name if one is given.

    Args:
        found: in any order, which they keep.
        begins: seconds since the epoch.
        ends: likewise.
        endpoint: return those of one endpoint only.
        name: return that one only.
    """
    return [
        each for each in found
        if begins <= each.at <= ends
        and endpoint in (None, each.endpoint) and name in (None, each.name)
    ]  # fmt: skip


def tidy(run: Path, now: float, disk: Disk) -> int:
    """Put the files of workers that are gone into one; return how many.

    Args:
        run: the run's directory.
        now: seconds since the epoch.
        disk: changes to files.

    Raises:
        OSError: the disk is full, say; everything is where it was.
    """
    folder = run / FOLDER
    if not folder.is_dir():
        return 0
    with exclusively(folder / "exemplars.lock") as mine:
        gone = _gone(run) if mine else []
        if not gone:
            return 0
        paths = [*gone, folder / OLDER]
        found = kept((each for path in paths for each in parse(_lines(path))), now)
        disk.save(folder / OLDER, b"".join(each.line for each in found))
        for path in gone:
            disk.unlink(path)
        return len(gone)


def _gone(run: Path) -> list[Path]:
    """Return the files of workers whose lock is no more (it goes when their totals are taken in)."""
    paths = (run / FOLDER).glob("w-*.exemplars")
    return sorted(
        path for path in paths if not os.path.lexists(run / f"{path.name.partition('.')[0]}.lock")
    )
