"""Invalidation on the server: generations by slot, as the versions of a host, in one string.

::

    number of the server's run      40 bytes
    generations of chunks           8 random bytes for each 64 slots, changed with each of theirs
    generations                     8 random bytes for each slot of :mod:`...storage.versions`

An invalidation writes new random bytes; a value is valid while the generations that were taken before
its load are still there. They are never counted, so those of a server that was flushed or restarted
cannot meet former ones. A string from another run of the server is not valid: a restored backup, or a
replica that became the primary, may lack invalidations.

Each host compares the string with its copy (:mod:`.host_view`) and moves its own versions where they
differ, so an invalidation reaches the values that its processes hold. First the versions are moved, then
the copy is: a process that dies in between invalidates twice.

A server that is full refuses to write. Removing is still possible then, and a string that is missing
invalidates everything on all hosts.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ...core.host_exceptions import raise_if_of_host
from ...storage.versions import SLOTS, Versions
from .connection import RUN_ID_BYTES, Command, Connections, ServerRefused
from .host_view import CHUNK, CHUNKS, EPOCHS, WORDS, HostView

ALL = 0
MANY = 256
"""Number of slots beyond which everything is invalidated instead."""
MANY_READ = 32
"""Number of slots beyond which the whole string is read: a query depends on each of its words."""
MANY_CHUNKS = 16
"""Number of chunks beyond which the whole string is fetched."""
KEPT_S = 172_800
"""Seconds after which the server removes the string of an application that no longer uses it."""
RENEWED_S = 3600.0
"""Seconds between two renewals of that time."""
_BYTES = RUN_ID_BYTES + 8 * WORDS


class Answer(NamedTuple):
    """Answer to a look-up.

    Attributes:
        message: the value, ``None`` if there is none.
        left_ms: milliseconds until the server removes it, negative if it does not.
        generations: of the requested slots; ``None`` if the server has none of this run.
    """

    message: bytes | None
    left_ms: int
    generations: dict[int, int] | None


class Generations:
    """Generations of one application on the server.

    Args:
        connections: to the server.
        view: the state of this host.
        versions: those of the host, which are moved.
        key: name of the string.
        clock: returns monotonic time in seconds.

    Attributes:
        key: see above.
    """

    def __init__(
        self, connections: Connections, view: HostView, versions: Versions, key: bytes,
        clock: Callable[[], float],
    ) -> None:  # fmt: skip
        self._connections, self._view, self._versions, self.key = connections, view, versions, key
        self._clock, self._renewed_at = clock, -math.inf
        self._seen: dict[int, int] = {}  # invalidations to be sent, at the latest comparison

    # -- look-ups ------------------------------------------------------------------------------------

    def look_up(self, name: bytes, slots: Sequence[int], max_bytes: int) -> Answer:
        """Return a value and current generations, in one round trip.

        Args:
            name: of the value.
            slots: those whose generations are returned.
            max_bytes: bound of the value; a larger one counts as missing.

        Raises:
            ServerUnavailable: no answer within the deadline.
            ServerRefused: the answer is an error.
        """
        run, (message, left_ms, *answers) = self._connections.run([
            ("GETRANGE", name, 0, max_bytes), ("PTTL", name), *self._reads(slots)
        ])  # fmt: skip
        if not 0 < len(message) <= max_bytes:
            message = None
        return Answer(message, left_ms, _read(run, answers, slots))

    def claim(
        self, lease: bytes, lease_ms: int, name: bytes, slots: Sequence[int], max_bytes: int
    ) -> tuple[bool, Answer]:
        """Take a lease if it is free, and look up in the same round trip; return whether it was free.

        Args:
            lease: its name.
            lease_ms: milliseconds until it ends by itself.
            name: as of :meth:`look_up`.
            slots: as of :meth:`look_up`.
            max_bytes: as of :meth:`look_up`.

        Raises:
            ServerUnavailable: no answer within the deadline.
            ServerRefused: the answer is an error.
        """
        run, (taken, message, left_ms, *answers) = self._connections.run([
            ("SET", lease, "1", "NX", "PX", lease_ms), ("GETRANGE", name, 0, max_bytes),
            ("PTTL", name), *self._reads(slots),
        ])  # fmt: skip
        if not 0 < len(message) <= max_bytes:
            message = None
        return taken is not None, Answer(message, left_ms, _read(run, answers, slots))

    def of(self, slots: Sequence[int]) -> dict[int, int]:
        """Return current generations, empty if the server has none of this run.

        Raises:
            ServerUnavailable: no answer within the deadline.
            ServerRefused: the answer is an error.
        """
        run, answers = self._connections.run(self._reads(slots))
        return _read(run, answers, slots) or {}

    def _reads(self, slots: Sequence[int]) -> list[Command]:
        """Return the commands that read the generations of slots, for :func:`_read`."""
        if len(slots) > MANY_READ:
            return [("GET", self.key)]
        return [self._header(), *map(self._word, slots)]

    # -- invalidation --------------------------------------------------------------------------------

    def push(self, marks: dict[int, int]) -> None:
        """Invalidate slots on the server, and on this host once more.

        The versions of this host were moved before, so that it does not wait for the server. What its
        other threads and processes took from the server since then may be the former value.

        Args:
            marks: those of :meth:`.HostView.note_unsent`.

        Raises:
            ServerUnavailable: no answer within the deadline.
            ServerRefused: the answer is an error.
        """
        if ALL in marks or len(marks) > MANY:
            self._take_over(self._create())
        else:
            try:
                self._move(sorted(marks))
            except ServerRefused as error:
                raise_if_of_host(error)
                # it is full: other hosts find no generations, and drop everything
                self._run([("DEL", self.key)])
        self._versions.apply(marks)
        self._view.note_sent(marks)

    def _move(self, slots: list[int]) -> None:
        chunks = sorted({EPOCHS + index // CHUNK for index in slots})
        new = {index: os.urandom(8) for index in (*slots, *chunks)}
        run, (header, *answers) = self._run([
            self._header(), *map(self._word, new),
            *(("SETRANGE", self.key, _offset(index), word) for index, word in new.items()),
        ])  # fmt: skip
        if header != run:  # it was flushed, or has generations of another run
            self._take_over(self._create())
            return
        words, former = self._view.words, answers[: len(new)]
        if all(words[index] == _number(word) for index, word in zip(new, former, strict=True)):
            # no other host has moved them since: nothing is left to be invalidated here
            self._view.take_over({index: _number(word) for index, word in new.items()})

    def _create(self) -> bytes:
        """Write new generations, so that no value on the server is valid; return the string."""
        run, _ = self._run([("EXISTS", self.key)])
        content = run + os.urandom(_BYTES - RUN_ID_BYTES)
        self._run([("SET", self.key, content, "EX", KEPT_S)])
        return content

    # -- comparison ----------------------------------------------------------------------------------

    def sync(self, *, sends_all: bool) -> None:
        """Send invalidations that the server lacks, and take over those of other hosts.

        Args:
            sends_all: whether to send all of them, as after a loss; else those that were there at the
                previous comparison too, since others are being sent by those that made them.

        Raises:
            ServerUnavailable: no answer within the deadline.
            ServerRefused: the answer is an error.
        """
        unsent = self._view.unsent()
        marks = unsent if sends_all else dict(unsent.items() & self._seen.items())
        self._seen = unsent
        if marks:
            self._versions.apply(marks)  # the process that noted them may have died before it did
            self.push(marks)
        try:
            content = self._changes()
        except ServerRefused as error:
            raise_if_of_host(error)
            if "WRONGTYPE" not in str(error):
                raise
            content = None
        if content is None:
            self._take_over(self._create())
        elif self._clock() - self._renewed_at > RENEWED_S:
            self._run([("EXPIRE", self.key, KEPT_S)])
            self._renewed_at = self._clock()

    def _changes(self) -> bytes | None:
        """Take over what has changed; return ``None`` if the server has no generations of this run."""
        run, (head,) = self._run([("GETRANGE", self.key, 0, _offset(0) - 1)])
        if len(head) != _offset(0) or head[:RUN_ID_BYTES] != run:
            return None
        chunks = self._view.changed(EPOCHS, memoryview(head[RUN_ID_BYTES:]).cast("Q"))
        if len(chunks) > MANY_CHUNKS:
            _, (content,) = self._run([("GET", self.key)])
            if content is None or len(content) != _BYTES or content[:RUN_ID_BYTES] != run:
                return None
            self._take_over(content)
        elif chunks:
            firsts = [(index - EPOCHS) * CHUNK for index in chunks]
            _, parts = self._run([
                ("GETRANGE", self.key, _offset(first), _offset(first + CHUNK) - 1) for first in firsts
            ])  # fmt: skip
            if any(len(part) != 8 * CHUNK for part in parts):  # flushed in between
                return None
            changed: dict[int, int] = {}
            for first, part in zip(firsts, parts, strict=True):
                changed |= self._view.changed(first, memoryview(part).cast("Q"))
            self._apply(changed | chunks)
        return head  # type: ignore[no-any-return]

    def _take_over(self, content: bytes) -> None:
        words = memoryview(content[RUN_ID_BYTES:]).cast("Q")
        changed = self._view.changed(0, words[CHUNKS:])
        self._apply(changed | self._view.changed(EPOCHS, words[:CHUNKS]))

    def _apply(self, changed: dict[int, int]) -> None:
        """Move the versions of this host, then take the generations over, those of chunks last."""
        slots = [index for index in changed if index < SLOTS]
        if self._view.is_new or ALL in changed or len(slots) > MANY:
            self._versions.apply((ALL,))
        elif slots:
            self._versions.apply(slots)
        self._view.take_over(changed)

    def _run(self, commands: Sequence[Command]) -> tuple[bytes, list[Any]]:
        """Run commands that other hosts wait for."""
        return self._connections.run(commands, beyond_bound=True)

    def _header(self) -> Command:
        return ("GETRANGE", self.key, 0, RUN_ID_BYTES - 1)

    def _word(self, index: int) -> Command:
        return ("GETRANGE", self.key, _offset(index), _offset(index) + 7)


def _read(run: bytes, answers: Sequence[Any], slots: Sequence[int]) -> dict[int, int] | None:
    """Return the generations of slots, ``None`` if the server has none of this run."""
    if len(slots) > MANY_READ:
        (content,) = answers
        if content is None or len(content) != _BYTES or content[:RUN_ID_BYTES] != run:
            return None
        words = memoryview(content[_offset(0) :]).cast("Q")
        return {index: words[index] for index in slots}
    header, *parts = answers
    if header != run or any(len(part) != 8 for part in parts):
        return None
    return dict(zip(slots, map(_number, parts), strict=True))


def _offset(index: int) -> int:
    """Return the place of a generation in the string."""
    word = index - EPOCHS if index >= EPOCHS else CHUNKS + index
    return RUN_ID_BYTES + 8 * word


def _number(word: bytes) -> int:
    return memoryview(word).cast("Q")[0]
