"""One load of a value: everything that is recorded before and while the function runs.

The versions of what the value may depend on are taken first, and the reads of files, tables and request
data are recorded from then until the load ends.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from ..core.host_exceptions import raise_if_of_host
from ..storage.versions import is_being_written
from . import dependencies
from .dependencies import CHANGED, CURRENT, Declared, LoadDependencies, Problem, Sources
from .file_watch import FILE_WATCH
from .invalidation import Invalidation
from .load_reads import CURRENT_READS, CurrentRequest, LoadReads, Read, ReadObserver
from .region import Entry
from .warm_calls import Call

UNPUBLISHED = Problem("writes of tables are not published by every process yet", is_passing=True)
BEING_WRITTEN = Problem("a table was being written", is_passing=True)
LATE_SQLITE = Problem("sqlite3 was imported while the value was loaded", is_passing=True)


class Load:
    """One call of a cached function.

    Args:
        key: of the call.
        before: the entry of the key, which cannot be served.
        code: the code of the function.
        invalidation: versions of namespaces and tags.
        slots: of the versions that the value depends on.
        observer: records the reads of request data.
        vary: calls the functions whose results are in the key; returns the reads that they cover as a
            whole.
        clock: returns monotonic time in seconds.
        request: that of the call.
        declared: the option ``depends``.
        slow_path: sends hits to the slow path while it is not empty.
        tracks_tables: returns whether all writes of tables move versions from now on.
        ttl: seconds until the value expires.

    Attributes:
        epoch: the epoch before the load.
        slots: of the versions that the value depends on, the collected ones once it is settled.
        versions: those of the slots, before the load.
        generations: those of the server, before the load; ``None`` without one.
        sources: files and tables that the value depends on, once it is settled.
        was_invalidated: whether the former value was invalidated, so that no lifetime has ended.
        call: that can load the value again, ``None`` where it is not remembered.
        began: monotonic time in seconds.
    """

    def __init__(
        self, key: Hashable, before: Entry | None, code: Any, invalidation: Invalidation,
        slots: tuple[int, ...], observer: ReadObserver, vary: Callable[[], set[Read]],
        clock: Callable[[], float], request: CurrentRequest, declared: Declared,
        slow_path: list[Any], tracks_tables: Callable[[], bool], ttl: float,
    ) -> None:  # fmt: skip
        self.key, self.before, self.code, self.request = key, before, code, request
        self._vary, self._observer, self._invalidation = vary, observer, invalidation
        self.sources: Sources | None = None
        self.was_invalidated = False
        self.call: Call | None = None
        self.slots = (*slots, *declared.slots) if declared.slots else slots
        self.generations = invalidation.generations()  # before the versions
        self._known_until = invalidation.known_until(clock())
        self._tracks_tables = (declared.auto or bool(declared.tables)) and tracks_tables()
        if declared.auto:
            self.epoch, self._words = invalidation.snapshot()
            self.versions = tuple([self._words[index] for index in self.slots])
        else:
            self.epoch, self.versions = invalidation.take(self.slots)
        words = invalidation.words
        outer = dependencies.receivers()
        if outer:
            dependencies.pass_on(self.slots, None, words, clock() + ttl)
        self._dependencies = LoadDependencies(declared, outer, words, slow_path)
        self._token = observer.begin()
        self._reads = None if self._token is None else CURRENT_READS.get()
        if (
            request.is_view
        ):  # HEAD and GET have separate answers, whether or not the view reads which
            self.add_routing("method")
        self._context = CURRENT.set(self._dependencies)
        self.began = clock()
        if self._dependencies.receivers:
            FILE_WATCH.begin(self._dependencies)

    def add_routing(self, name: str) -> None:
        """Make routing data a part of the key."""
        if self._reads is not None:
            self._reads.add_routing(name)

    @property
    def expires(self) -> float:
        """Monotonic time in seconds at which the first of the values in it expires."""
        return min(self._dependencies.expires, self._known_until)

    def settle(self) -> Problem | None:
        """Take over the collected dependencies; return a reason not to cache the value."""
        collected = self._dependencies
        if collected.refusal:
            return Problem(collected.refusal)
        self.sources = collected.sources()
        added = collected.slots.difference(self.slots)
        if added:
            self.slots += tuple(added)
            self.versions += tuple([self._words[index] for index in added])
        if collected.tables and not self._tracks_tables:
            return UNPUBLISHED
        return collected.unsettled or self._moved()

    def _moved(self) -> Problem | None:
        """Return a change since the load began, ``None`` if there is none."""
        written = [
            index
            for index, version in zip(self.slots, self.versions, strict=True)
            if is_being_written(version)
        ]
        if written:
            self._invalidation.versions.settle_abandoned(written)
            return BEING_WRITTEN
        # without detection it was not begun, and what it misses is that of an earlier load
        if self._dependencies.receivers and FILE_WATCH.misses_databases():
            return LATE_SQLITE
        changed = "" if self.sources is None else self.sources.changed_file()
        return Problem(CHANGED, changed, is_passing=True) if changed else None

    def unkeyed(self) -> dict[Read, str]:
        """Return the reads of the request that the key does not cover."""
        if self._reads is None or not self._reads.call_sites:
            return {}
        covered = LoadReads()
        context = CURRENT_READS.set(covered)
        try:
            whole = self._vary()
        except Exception as error:  # the load has changed what its key is made of
            raise_if_of_host(error)
            return dict(self._reads.call_sites)
        finally:
            CURRENT_READS.reset(context)
        reads = self._reads.uncovered(covered.call_sites)
        return {read: where for read, where in reads.items() if read not in whole}

    @property
    def effects(self) -> dict[Read, str]:
        """Changes of the request's state that the load made, which a hit would not make."""
        return {} if self._reads is None else self._reads.effects

    @property
    def routing(self) -> set[str]:
        """Names of the routing data that the load read."""
        return set() if self._reads is None else self._reads.routing

    def close(self) -> None:
        """End the recording."""
        self._end_detection()
        try:
            CURRENT.reset(self._context)
        except ValueError as error:  # the task of an abandoned load ends in another context
            raise_if_of_host(error)
        if self._token is not None:
            self._observer.end(self._token)

    def _end_detection(self) -> None:
        if self._dependencies.receivers:
            FILE_WATCH.end(self._dependencies)
        self._dependencies.has_ended = True

    def __del__(self) -> None:
        dependencies = getattr(self, "_dependencies", None)
        if dependencies is not None and not dependencies.has_ended:
            self._end_detection()  # a signal handler raised before it was closed
