"""Versions of things that have names, shared by all processes of an application.

Whoever changes a thing gives it another version; whoever remembers what was made of it compares
versions first. They lie in one file of the state directory that every process maps: a table of 8-byte
numbers, of which a name has one by its hash (two names may share one: a change of the one then passes
for a change of the other). A change writes a new random number. That is one aligned store, so it needs
no lock and none is lost: what matters is only whether a number is still the same.

The order keeps answers fresh. Who changes: change, then tell (:meth:`Versions.changed`). Who remembers:
take the versions, *then* look, and keep the answer under the versions that were taken.

Whoever wants versions first of all makes the file; until then a change is told to nobody. Other workers
find it within :data:`NOTICED_S`, so versions hold (:attr:`Versions.hold`) from then on.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

from ..core.clock import SYSTEM, Clock
from ..core.errors import StateError
from ..core.locks import Lock
from .atomic_files import Disk
from .runs import prepare

FILE = "versions"
SLOTS = 4096
NOTICED_S = 3.0
"""Seconds after which every worker knows that versions are wanted; a housekeeper looks each second."""
_SIZE = (SLOTS + 1) * 8  # behind the slots stands when the file was made


class Versions:
    """The versions of one application's things.

    Args:
        locate: returns the directory that all processes share, ``None`` where there is none.
        disk: changes to files.
        clock: time.
    """

    def __init__(
        self, locate: Callable[[], Path | None], disk: Disk | None = None, clock: Clock = SYSTEM
    ) -> None:
        self._locate, self._disk, self._clock = locate, disk or Disk(), clock
        self._slots: memoryview | None = None
        self._shared = False
        self._from = 0.0
        self._turn = Lock()

    @property
    def wanted(self) -> bool:
        """Whether anybody wants versions, in this process or another."""
        return self._slots is not None or self._exists()

    @property
    def shared(self) -> bool:
        """Whether other processes see what is changed here; without a directory they do not."""
        self._open()
        return self._shared

    @property
    def hold(self) -> bool:
        """Whether every process tells of its changes by now."""
        self._open()
        return self._clock.monotonic_ns() / 1e9 >= self._from

    def of(self, names: Iterable[str]) -> tuple[int, ...]:
        """Return what the versions of these things are now, that of everything first."""
        slots = self._open()
        return (slots[0], *(slots[_slot(name)] for name in names))

    def changed(self, names: Iterable[str]) -> None:
        """Give these things another version."""
        if self.wanted:
            slots = self._open()
            for name in names:
                slots[_slot(name)] = _new()

    def all_changed(self) -> None:
        """Give everything another version: what was changed is not known."""
        if self.wanted:
            self._open()[0] = _new()

    def _exists(self) -> bool:
        folder = self._locate()
        return folder is not None and (folder / FILE).exists()

    def _open(self) -> memoryview:
        slots = self._slots
        if slots is None:
            with self._turn:
                slots = self._slots
                if slots is None:
                    slots = self._slots = memoryview(self._map()).cast("Q")
        return slots

    def _map(self) -> mmap.mmap:
        folder = self._locate()
        if folder is not None:
            try:
                return self._map_shared(folder / FILE)
            except (OSError, ValueError, StateError):  # no room, or not what it should be
                self._shared = False
        return mmap.mmap(-1, _SIZE)

    def _map_shared(self, path: Path) -> mmap.mmap:
        prepare(path.parent)
        if not path.exists():
            self._disk.place(path, bytes(SLOTS * 8) + struct.pack("=q", int(self._clock.wall())))
        descriptor = os.open(path, os.O_RDWR)
        try:
            found = mmap.mmap(descriptor, _SIZE)  # ValueError where the file is shorter
        finally:
            os.close(descriptor)
        self._shared = True
        made = struct.unpack("=q", found[-8:])[0] + 1  # it may be a part of a second later
        age = self._clock.wall() - made
        if age < NOTICED_S:  # or the clock was set back
            self._from = self._clock.monotonic_ns() / 1e9 + min(NOTICED_S, NOTICED_S - age)
        return found


def _slot(name: str) -> int:
    """Return the place of a name, the same in every process; the first one is everything's."""
    return 1 + zlib.crc32(name.encode("utf-8", "surrogatepass")) % (SLOTS - 1)


def _new() -> int:
    return int.from_bytes(os.urandom(8), "little")
