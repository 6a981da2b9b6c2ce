"""Shared version numbers for cache invalidation.

A writer bumps the version of a key; a reader compares before it uses a cached value. The versions are
a table of 8-byte numbers in one file of the state directory that every process maps; a key has a slot
by its hash (a hash collision causes a spurious invalidation, never a missed one). Bumping writes a new
random number: one aligned store, which needs no lock, and no bump is lost because readers only compare
for equality.

Bumping writes the *epoch* last, one more number: while it has not moved, no version has, so a reader
that remembers the epoch of its latest comparison needs no other.

A new file begins with random numbers too: if the former one was lost, and with it what was bumped, no
version of it is valid any more.

The order of operations keeps values fresh. Writer: change the data, then bump its version
(:meth:`Versions.changed`). Reader: take the versions, *then* load, and store the value under the
versions that were taken.

A change that becomes visible at an unknown moment, such as a commit, is enclosed in two bumps
(:meth:`Versions.begin_writing`, :meth:`Versions.end_writing`). The first makes the version odd, which
makes former values invalid and keeps new ones out (:func:`is_being_written`), so a writer that is killed
in between leaves nothing behind that is out of date. Two processes that write under one key at the same
time are not distinguished: a value that is loaded after the first has ended may be out of date from the
change of the second until its last bump.

The first subscriber creates the file; before that, writers publish nothing. Other workers notice the
file within :data:`NOTICED_S`, after which versions are reliable (:attr:`Versions.hold`).
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
import weakref
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from ..core.clock import SYSTEM, Clock
from ..core.errors import StateError
from ..core.host_exceptions import raise_if_of_host
from ..core.locks import create_lock, create_reentrant_lock
from .atomic_files import Disk
from .runs import prepare

FILE = "versions-3"
SLOTS = 4096
EPOCH = SLOTS
EVERY_KEY = "*"
"""In place of a key: all of them, by the global version."""
NOTICED_S = 3.0  # until every worker has noticed the file; housekeepers check once a second
ABANDONED_S = 30.0
"""Seconds after which a change that was begun counts as ended: its writer was killed."""
_SIZE = (SLOTS + 2) * 8  # the slots, the epoch, then the time at which the file was created


class OtherHosts(Protocol):
    """Publishes bumps to other hosts. Its methods never raise."""

    def announce(self, slots: tuple[int, ...]) -> dict[int, int]:
        """Note bumps that are about to be made; return their marks."""

    def publish(self, marks: dict[int, int]) -> None:
        """Publish bumps that were made."""


class Versions:
    """Versions of one application's keys.

    Args:
        locate: returns the directory that all processes share, ``None`` without one.
        disk: file operations.
        clock: time.

    Attributes:
        other_hosts: publishes bumps to other hosts, ``None`` without any.
    """

    def __init__(
        self, locate: Callable[[], Path | None], disk: Disk | None = None, clock: Clock = SYSTEM
    ) -> None:
        self._locate, self._disk, self._clock = locate, disk or Disk(), clock
        self._slots: memoryview | None = None
        self._shared = False
        self._from = 0.0
        self._opening = create_lock()
        self.other_hosts: OtherHosts | None = None
        # guards the two below; reentrant, since a finalizer may end a change
        self._writing = create_reentrant_lock()
        self._writers: Counter[int] = Counter()  # changes of this process that were begun, by slot
        self._abandoned: dict[int, tuple[int, float]] = {}  # odd version and when it was first seen
        _ALL.add(self)

    @property
    def subscribed(self) -> bool:
        """Whether any process reads versions."""
        return self._slots is not None or self.other_hosts is not None or self._exists()

    @property
    def shared(self) -> bool:
        """Whether other processes see bumps of this one; ``False`` without a directory."""
        self._open()
        return self._shared

    @property
    def hold(self) -> bool:
        """Whether every process publishes its changes by now."""
        self._open()
        return self._clock.monotonic_ns() / 1e9 >= self._from

    def of(self, names: Iterable[str]) -> tuple[int, ...]:
        """Return the current versions: the global one first, then one for each key."""
        slots = self._open()
        return (slots[0], *(slots[slot(name)] for name in names))

    @property
    def words(self) -> memoryview:
        """The versions by slot, then the epoch at :data:`EPOCH`, as 8-byte numbers."""
        return self._open()

    def changed(self, names: Iterable[str]) -> None:
        """Bump the versions of some keys."""
        if self.subscribed:
            self._bump(map(slot, names))

    def all_changed(self) -> None:
        """Bump the global version: the changed keys are unknown."""
        if self.subscribed:
            self._bump((0,))

    def bump(self, names: Iterable[str]) -> None:
        """Bump the versions of some keys, whether or not any process subscribed."""
        self._bump(map(slot, names))

    def bump_all(self) -> None:
        """Bump the global version, whether or not any process subscribed."""
        self._bump((0,))

    def begin_writing(self, names: Iterable[str]) -> None:
        """Make the versions of some keys odd until :meth:`end_writing`.

        Args:
            names: of the keys; :data:`EVERY_KEY` stands for the global version.
        """
        if not self.subscribed:
            return
        slots = self._slots_of(names)
        if self.other_hosts is not None:  # should this process be killed, another one publishes it
            self.other_hosts.announce(slots)
        self._write(slots, 1)

    def end_writing(self, names: Iterable[str]) -> None:
        """Bump the versions of some keys, even ones again unless another thread writes, too.

        Args:
            names: as those of :meth:`begin_writing`.
        """
        if not self.subscribed:
            return
        slots, others = self._slots_of(names), self.other_hosts
        marks = {} if others is None else others.announce(slots)
        self._write(slots, -1)
        if others is not None:
            others.publish(marks)

    def settle_abandoned(self, slots: Iterable[int]) -> None:
        """Make versions even that are odd for too long, since their writers were killed.

        Args:
            slots: that a reader has seen to be written.
        """
        words, now = self._open(), self._clock.monotonic_ns() / 1e9
        settled = []
        with self._writing:
            for index in slots:
                version = words[index]
                seen, since = self._abandoned.pop(index, (0, now))
                if not is_being_written(version) or self._writers[index]:
                    continue
                if seen != version:
                    since = now
                if now - since < ABANDONED_S:
                    self._abandoned[index] = version, since
                else:
                    settled.append(index)
        if settled:
            self._bump(settled)

    def _write(self, slots: Iterable[int], change: int) -> None:
        words = self._open()
        with self._writing:
            for index in slots:
                self._writers[index] = count = max(self._writers[index] + change, 0)
                words[index] = _new() | (1 if count else 0)
                if not count:
                    del self._writers[index]
        words[EPOCH] = _new()

    @staticmethod
    def _slots_of(names: Iterable[str]) -> tuple[int, ...]:
        return tuple({slot(name) for name in names})

    def _forget_writers(self) -> None:
        """In a forked child: the threads that write are the parent's."""
        self._writers.clear()
        self._abandoned.clear()

    def _bump(self, slots: Iterable[int]) -> None:
        others = self.other_hosts
        if others is None:
            self.apply(slots)
            return
        slots = tuple(slots)
        # before the bump: no value of the server is taken from then until they are published
        marks = others.announce(slots)
        self.apply(slots)
        others.publish(marks)

    def apply(self, slots: Iterable[int]) -> None:
        """Bump the versions of some slots on this host alone."""
        words = self._open()
        writers = self._writers
        for index in slots:
            words[index] = _new() | (index in writers)
        words[EPOCH] = _new()

    def _exists(self) -> bool:
        folder = self._locate()
        return folder is not None and (folder / FILE).exists()

    def _open(self) -> memoryview:
        slots = self._slots
        if slots is None:
            with self._opening:
                slots = self._slots
                if slots is None:
                    slots = self._slots = memoryview(self._map()).cast("Q")
        return slots

    def _map(self) -> mmap.mmap:
        folder = self._locate()
        if folder is not None:
            try:
                return self._map_shared(folder / FILE)
            except (
                OSError,
                ValueError,
                StateError,
            ) as error:  # disk full, or a file of another size or owner
                raise_if_of_host(error)
                self._shared = False
        own = mmap.mmap(-1, _SIZE)
        own[:] = _random(SLOTS + 2)  # no value of another process is valid under these
        return own

    def _map_shared(self, path: Path) -> mmap.mmap:
        prepare(path.parent)
        if not path.exists():
            self._disk.create_once(
                path, _random(SLOTS + 1) + struct.pack("=q", int(self._clock.wall()))
            )
        descriptor = os.open(path, os.O_RDWR)
        try:
            mapping = mmap.mmap(descriptor, _SIZE)  # ValueError where the file is shorter
        finally:
            os.close(descriptor)
        self._shared = True
        created = struct.unpack("=q", mapping[-8:])[0] + 1  # rounded up to a whole second
        age = self._clock.wall() - created
        if age < NOTICED_S:  # or the clock was set back
            self._from = self._clock.monotonic_ns() / 1e9 + min(NOTICED_S, NOTICED_S - age)
        return mapping


def slot(name: str) -> int:
    """Return the slot of a key, the same in every process; slot 0 is the global version."""
    if name == EVERY_KEY:
        return 0
    return 1 + zlib.crc32(name.encode("utf-8", "surrogatepass")) % (SLOTS - 1)


def is_being_written(version: int) -> bool:
    """Return whether a change under a version was begun and has not ended."""
    return bool(version & 1)


def _new() -> int:
    """Return a random even number."""
    return int.from_bytes(os.urandom(8), "little") & ~1


def _random(count: int) -> bytes:
    """Return random even numbers of 8 bytes."""
    content = bytearray(os.urandom(count * 8))
    lowest = 0 if sys.byteorder == "little" else 7
    content[lowest::8] = bytes(byte & 0xFE for byte in content[lowest::8])
    return bytes(content)


_ALL: weakref.WeakSet[Versions] = weakref.WeakSet()


def _after_fork() -> None:
    for versions in list(_ALL):
        versions._forget_writers()


if hasattr(os, "register_at_fork"):  # pragma: no branch (Windows)
    os.register_at_fork(after_in_child=_after_fork)
