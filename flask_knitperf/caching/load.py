"""One load of a value: everything that is recorded before and while the function runs.

The versions of what the value depends on are taken first, and the reads of request data are recorded
from then until the load ends.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from ..core.host_exceptions import raise_if_of_host
from .invalidation import Invalidation
from .load_reads import CURRENT_READS, NO_REQUEST, CurrentRequest, LoadReads, Read, ReadObserver
from .region import Entry


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

    Attributes:
        epoch: the epoch before the load.
        versions: those of the slots, before the load.
        began: monotonic time in seconds.
    """

    def __init__(
        self, key: Hashable, before: Entry | None, code: Any, invalidation: Invalidation,
        slots: tuple[int, ...], observer: ReadObserver, vary: Callable[[], set[Read]],
        clock: Callable[[], float], request: CurrentRequest = NO_REQUEST,
    ) -> None:  # fmt: skip
        self.key, self.before, self.code, self.request = key, before, code, request
        self._vary, self._observer = vary, observer
        self.epoch, self.versions = invalidation.take(slots)
        self._token = observer.begin()
        self._reads = None if self._token is None else CURRENT_READS.get()
        if (
            request.is_view
        ):  # HEAD and GET have separate answers, whether or not the view reads which
            self.add_routing("method")
        self.began = clock()

    def add_routing(self, name: str) -> None:
        """Make routing data a part of the key."""
        if self._reads is not None:
            self._reads.add_routing(name)

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
        if self._token is not None:
            self._observer.end(self._token)
