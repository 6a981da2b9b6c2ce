"""One call of a function that is not cached, observed as if its result were loaded into the cache.

It records what forbids to cache the result: reads of the request that the key does not cover, changes of
the session, writes to a database or a file. An outer load that the call is a part of records its
dependencies as ever.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable

from ..core.host_exceptions import SuppressOwn
from . import dependencies
from .dependencies import CURRENT, RUNNING, Declared, LoadDependencies, Sources
from .file_watch import FILE_WATCH
from .load_reads import CURRENT_READS, LoadReads, Read, ReadObserver, description

_NO_WORDS = memoryview(b"")


class _CallDependencies(LoadDependencies):
    """Dependencies of a call whose result is not stored, so that it needs no versions.

    Args:
        call: the call.

    Attributes:
        call: weak reference to the call.
        has_written_files: whether the call has written to a file.
    """

    __slots__ = ("call", "has_written_files")

    def __init__(self, call: ObservedCall) -> None:
        super().__init__(Declared(), dependencies.receivers(), _NO_WORDS, [])
        self.call, self.has_written_files = weakref.ref(call), False

    def write(self, path: str, *, replaces: bool) -> None:
        """Note a file that is about to be written."""
        self.has_written_files = True
        super().write(path, replaces=replaces)

    def receive(
        self, slots: Iterable[int], sources: Sources | None, words: memoryview, expires: float
    ) -> None:  # fmt: skip
        """Ignore the versions of another value: nothing is stored under them."""


class ObservedCall:
    """Reads and changes of one call, until :meth:`end`.

    Args:
        observer: records the reads of request data.
    """

    def __init__(self, observer: ReadObserver) -> None:
        self._observer = observer
        self._dependencies = _CallDependencies(self)
        self._token = observer.begin()
        self._reads: LoadReads | None = None if self._token is None else CURRENT_READS.get()
        self._context = CURRENT.set(self._dependencies)
        FILE_WATCH.begin(self._dependencies)

    def end(self) -> None:
        """End the recording."""
        if self._dependencies.has_ended:
            return
        self._dependencies.has_ended = True
        FILE_WATCH.end(self._dependencies)
        with SuppressOwn(ValueError):  # the task of an abandoned call ends in another context
            CURRENT.reset(self._context)
        if self._token is not None:
            self._observer.end(self._token)

    @property
    def reads(self) -> dict[Read, str]:
        """Call sites of the reads of request data."""
        return {} if self._reads is None else self._reads.uncovered(())

    @property
    def routing(self) -> set[str]:
        """Names of the routing data that it read."""
        return set() if self._reads is None else self._reads.routing

    @property
    def obstacle(self) -> str:
        """The change that a call from the cache would not make, as a clause; empty without one."""
        if self._reads is not None and self._reads.effects:
            return f"it changes {description(self._reads.effects)}, which a cached result would not"
        if self._dependencies.refusal:
            return self._dependencies.refusal
        if self._dependencies.has_written_files:
            return "it writes to a file, which a call from the cache would not"
        return ""

    def __del__(self) -> None:
        dependencies = getattr(self, "_dependencies", None)
        if dependencies is not None and not dependencies.has_ended:  # a signal handler raised
            dependencies.has_ended = True
            FILE_WATCH.end(dependencies)


def end_abandoned() -> None:
    """End the recording of calls that are gone: a signal handler may raise where they end it."""
    for load in list(RUNNING):
        if isinstance(load, _CallDependencies) and load.call() is None:
            load.has_ended = True
            FILE_WATCH.end(load)
