"""State that the processes of one host share about the server, in a mapped file of the state directory.

- the generations as this host last saw them on the server,
- the invalidations that the server does not have yet,
- the time at which the host last compared its generations with those of the server.

All of it belongs to the host and not to a process: values in files outlive the process that loaded them,
an invalidation outlives the process that made it, and one process that reaches the server keeps the
others up to date. Each name space has a file, since some applications have another secret in each
process. A process that dies in the middle leaves a state that only invalidates too much.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from ...core.errors import StateError
from ...core.host_exceptions import SuppressOwn, raise_if_of_host
from ...core.locks import create_lock
from ...storage.atomic_files import Disk
from ...storage.runs import prepare
from ...storage.versions import SLOTS

FILE = "server-versions-1"
KEPT_S = 172_800.0
"""Age in seconds from which the file of another name space is removed."""
CHUNK = 64
"""Slots of one chunk, of which only those are fetched that have changed."""
CHUNKS = SLOTS // CHUNK
EPOCHS = SLOTS
"""First word of the generations of whole chunks."""
WORDS = SLOTS + CHUNKS
"""Number of generations, those of chunks included."""
_UNSENT = WORDS  # first word of the invalidations to be sent
_NOTHING_UNSENT = bytes(8 * SLOTS)
_SYNCED = _UNSENT + SLOTS
_EXPIRED = _SYNCED + 1
_ALL_WORDS = _EXPIRED + 1
_CONTENT = bytes(8 * _EXPIRED) + b"\1" * 8
"""Content of a new file: what the host has loaded before is to be expired once."""


class HostView:
    """The state of one host.

    Args:
        locate: returns the state directory, ``None`` without one.
        space: the name space of the application on the server.
        disk: file operations.
    """

    def __init__(
        self, locate: Callable[[], Path | None], space: str, disk: Disk | None = None
    ) -> None:  # fmt: skip
        self._locate, self._space, self._disk = locate, space, disk or Disk()
        self._mapped: memoryview | None = None
        self._opening = create_lock()

    # -- generations ---------------------------------------------------------------------------------

    @property
    def words(self) -> memoryview:
        """The state by word: the generations by slot, then those of chunks from :data:`EPOCHS`."""
        mapped = self._mapped
        if mapped is None:
            with self._opening:
                mapped = self._mapped = self._mapped or memoryview(self._map()).cast("Q")
        return mapped

    def generations(self) -> memoryview:
        """Return a copy of the generations, to be taken before a load."""
        return memoryview(self.words[:WORDS].tobytes()).cast("Q")

    def changed(self, first: int, words: memoryview) -> dict[int, int]:
        """Return the generations of the server that are others than those of the host, by index.

        Args:
            first: index of the first one.
            words: those of the server.
        """
        known = self.words[first : first + len(words)].tolist()
        pairs = enumerate(zip(words.tolist(), known, strict=True), first)
        return {index: word for index, (word, own) in pairs if word != own}

    def take_over(self, generations: dict[int, int]) -> None:
        """Note generations of the server; everything that depends on the former ones is invalid.

        Args:
            generations: by index, those of chunks last: a process that dies before leaves them to be
                compared.
        """
        words = self.words
        for index, word in generations.items():
            words[index] = word

    @property
    def is_new(self) -> bool:
        """Whether this host has never compared its generations with those of the server."""
        return self.words[EPOCHS] == 0

    # -- invalidations to be sent --------------------------------------------------------------------

    @property
    def has_unsent(self) -> bool:
        """Whether the server lacks an invalidation of this host."""
        return self.words[_UNSENT : _UNSENT + SLOTS].tobytes() != _NOTHING_UNSENT

    def note_unsent(self, slots: Iterable[int]) -> dict[int, int]:
        """Note invalidations that the server does not have yet; return their marks."""
        words, marks = self.words, {}
        for index in slots:
            marks[index] = words[_UNSENT + index] = _random()
        return marks

    def unsent(self) -> dict[int, int]:
        """Return the marks of the invalidations that the server does not have yet, by slot."""
        if not self.has_unsent:
            return {}
        marks = self.words[_UNSENT : _UNSENT + SLOTS].tolist()
        return {index: mark for index, mark in enumerate(marks) if mark}

    def note_sent(self, marks: dict[int, int]) -> None:
        """Note that the server has some invalidations, unless they were marked again since."""
        words = self.words
        for index, mark in marks.items():
            if words[_UNSENT + index] == mark:
                words[_UNSENT + index] = 0

    # -- times ---------------------------------------------------------------------------------------

    def age(self, now: float) -> float:
        """Return the seconds since the latest comparison, infinite without one.

        Args:
            now: monotonic time in seconds.
        """
        synced = self.words[_SYNCED] / 1e9
        return now - synced if 0 < synced <= now else float("inf")

    def note_synced(self, at: float) -> None:
        """Note a comparison that was begun at a monotonic time in seconds."""
        self.words[_SYNCED] = int(at * 1e9)

    def claim_expiry(self) -> bool:
        """Return whether this process is to expire what its host loaded before the latest comparison.

        One process is, once for each time that the server is lost; two may be, which does no harm.
        """
        words = self.words
        if words[_EXPIRED] == words[_SYNCED]:
            return False
        words[_EXPIRED] = words[_SYNCED]
        return True

    # -- the file ------------------------------------------------------------------------------------

    def _map(self) -> mmap.mmap:
        folder = self._locate()
        if folder is not None:
            try:
                return self._map_file(folder / f"{FILE}-{self._space}")
            except (OSError, ValueError, StateError) as error:  # disk full, or another owner
                raise_if_of_host(error)
        own = mmap.mmap(-1, _ALL_WORDS * 8)
        own[:] = _CONTENT
        return own

    def _map_file(self, path: Path) -> mmap.mmap:
        prepare(path.parent)
        if not path.exists():
            self._remove_old(path.parent)
            self._disk.create_once(path, _CONTENT)
        descriptor = os.open(path, os.O_RDWR)
        try:
            return mmap.mmap(descriptor, _ALL_WORDS * 8)  # ValueError where the file is shorter
        finally:
            os.close(descriptor)

    def _remove_old(self, folder: Path) -> None:
        """Remove the files of name spaces that are no longer used."""
        for path in folder.glob(f"{FILE}-*"):
            with SuppressOwn(OSError):
                if time.time() - path.stat().st_mtime > KEPT_S:
                    self._disk.unlink(path)


def _random() -> int:
    return int.from_bytes(os.urandom(8), "little") | 1
