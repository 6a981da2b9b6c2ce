"""State that the processes of one host share about the server, in a mapped file of the state directory.

- the generations as this host last saw them on the server,
- the invalidations that the server does not have yet,
- the time at which the host last compared its generations with those of the server.

All of it belongs to the host and not to a process: values in files outlive the process that loaded them,
an invalidation outlives the process that made it, and one process that reaches the server keeps the
others up to date. A process that dies in the middle leaves a state that only invalidates too much.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from ...core.errors import StateError
from ...core.host_exceptions import raise_if_of_host
from ...core.locks import create_lock
from ...storage.atomic_files import Disk
from ...storage.runs import prepare
from ...storage.versions import EPOCH, SLOTS

FILE = "server-versions-1"
_UNSENT = EPOCH + 1  # first word of the invalidations to be sent
_MARK = _UNSENT + SLOTS  # not 0 while there are any
_SYNCED = _MARK + 1
_EXPIRED = _SYNCED + 1
_WORDS = _EXPIRED + 1
_CONTENT = bytes(8 * _EXPIRED) + b"\1" * 8
"""Content of a new file: what the host has loaded before is to be expired once."""


class HostView:
    """The state of one host.

    Args:
        locate: returns the state directory, ``None`` without one.
        disk: file operations.
    """

    def __init__(self, locate: Callable[[], Path | None], disk: Disk | None = None) -> None:
        self._locate, self._disk = locate, disk or Disk()
        self._mapped: memoryview | None = None
        self._opening = create_lock()

    # -- generations ---------------------------------------------------------------------------------

    @property
    def words(self) -> memoryview:
        """The state by word: the generations by slot, then that of the whole at :data:`EPOCH`."""
        mapped = self._mapped
        if mapped is None:
            with self._opening:
                mapped = self._mapped = self._mapped or memoryview(self._map()).cast("Q")
        return mapped

    def generations(self) -> memoryview:
        """Return a copy of the generations, to be taken before a load."""
        return memoryview(self.words[: EPOCH + 1].tobytes()).cast("Q")

    def changed(self, words: memoryview) -> list[int]:
        """Return the slots whose generations on the server are others than those of the host."""
        known = self.words[:SLOTS].tolist()
        return [
            index
            for index, (word, own) in enumerate(zip(words[:SLOTS].tolist(), known, strict=True))
            if word != own
        ]

    def take_over(self, words: memoryview, slots: Iterable[int]) -> None:
        """Note generations of the server; everything that depends on the former ones is invalid."""
        mapped = self.words
        for index in slots:
            mapped[index] = words[index]
        mapped[EPOCH] = words[EPOCH]  # last: a process that dies before leaves them to be compared

    @property
    def is_new(self) -> bool:
        """Whether this host has never compared its generations with those of the server."""
        return self.words[EPOCH] == 0

    # -- invalidations to be sent --------------------------------------------------------------------

    @property
    def has_unsent(self) -> bool:
        """Whether the server lacks an invalidation of this host."""
        return self.words[_MARK] != 0

    def note_unsent(self, slots: Iterable[int]) -> dict[int, int]:
        """Note invalidations that the server does not have yet; return their marks."""
        words, marks = self.words, {}
        for index in slots:
            marks[index] = words[_UNSENT + index] = _random()
        words[_MARK] = _random()
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
        mark = words[_MARK]
        for index, sent in marks.items():
            if words[_UNSENT + index] == sent:
                words[_UNSENT + index] = 0
        if mark and not any(words[_UNSENT : _UNSENT + SLOTS].tolist()) and words[_MARK] == mark:
            words[_MARK] = 0
            if any(
                words[_UNSENT : _UNSENT + SLOTS].tolist()
            ):  # marked by another process meanwhile
                words[_MARK] = _random()

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
                return self._map_file(folder / FILE)
            except (OSError, ValueError, StateError) as error:  # disk full, or another owner
                raise_if_of_host(error)
        own = mmap.mmap(-1, _WORDS * 8)
        own[:] = _CONTENT
        return own

    def _map_file(self, path: Path) -> mmap.mmap:
        prepare(path.parent)
        if not path.exists():
            self._disk.create_once(path, _CONTENT)
        descriptor = os.open(path, os.O_RDWR)
        try:
            return mmap.mmap(descriptor, _WORDS * 8)  # ValueError where the file is shorter
        finally:
            os.close(descriptor)


def _random() -> int:
    return int.from_bytes(os.urandom(8), "little") | 1
