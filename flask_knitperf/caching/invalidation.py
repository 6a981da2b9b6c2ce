"""Invalidation that reaches every process before it returns, by shared version numbers.

An entry stores the versions of its dependencies (everything, its namespace, its key, its tags), taken
before its load. Invalidating bumps a version; see :mod:`..storage.versions`. A hit compares only the
epoch, which every bump moves; if it has moved, the entry's own versions are compared.

The versions belong to an application's state directory, and a function may be cached before there is an
application. Until then, and in a forked child, the wrappers compare with an epoch that no entry has, so
that the next call finds the right versions.
"""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Protocol

from ..storage.versions import EPOCH, Versions, slot

if TYPE_CHECKING:
    from .region import Entry
    from .server.level import ServerLevel

ALL = 0
"""Slot of the version that every entry depends on."""
_UNKNOWN = memoryview(bytes(8 * EPOCH) + b"\xff" * 8).cast("Q")
"""Versions with an epoch that no entry has."""


class Subscriber(Protocol):
    """Code that compares epochs by itself."""

    def use(self, words: memoryview) -> None:
        """Compare epochs in ``words`` from now on."""


def namespace_slot(namespace: str) -> int:
    """Return the slot of a namespace's version."""
    return slot(f"namespace:{namespace}")


def tag_slot(tag: str) -> int:
    """Return the slot of a tag's version."""
    return slot(f"tag:{tag}")


def key_slot(namespace: str, key: Hashable) -> int:
    """Return the slot of a key's version."""
    return slot(_key_name(namespace, key))


def _key_name(namespace: str, key: Hashable) -> str:
    return f"key:{namespace}:{key!r}"  # plain values and digests: the same text in every process


class Invalidation:
    """Versions of namespaces, keys and tags.

    Args:
        locate: returns the versions of the current application, ``None`` without one.
        server: returns the server by which it invalidates on other hosts, ``None`` without one.
    """

    def __init__(
        self, locate: Callable[[], Versions | None] = lambda: None,
        server: Callable[[], ServerLevel | None] = lambda: None,
    ) -> None:  # fmt: skip
        self._server = server
        self._locate, self._own = locate, Versions(lambda: None)
        self._words, self._located = _UNKNOWN, self._own
        self._subscribers: weakref.WeakSet[Subscriber] = weakref.WeakSet()
        _ALL.add(self)

    @property
    def words(self) -> memoryview:
        """The versions as they are compared at present."""
        return self._words

    def subscribe(self, subscriber: Subscriber) -> None:
        """Inform an object, held weakly, whenever other versions have to be compared."""
        self._subscribers.add(subscriber)
        subscriber.use(self._words)

    def forget(self) -> None:
        """Locate the versions again at the next call: there is an application, or another process."""
        self._use(_UNKNOWN)

    def take(self, slots: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
        """Return the epoch and the versions of some slots, to be taken before a load."""
        words = self._current()
        epoch = words[EPOCH]  # first: a bump in between moves it again
        return epoch, tuple([words[index] for index in slots])

    def snapshot(self) -> tuple[int, memoryview]:
        """Return the epoch and a copy of all versions, to be taken before a load."""
        words = self._current()
        epoch = words[EPOCH]  # first: a bump in between moves it again
        return epoch, memoryview(words.tobytes()).cast("Q")

    def generations(self) -> memoryview | None:
        """Return the generations of the server, to be taken before a load and before the versions.

        They are ``None`` without a server.
        """
        server = self._server()
        return None if server is None else server.generations()

    def known_until(self, now: float) -> float:
        """Return the time at which a value that is loaded now expires, infinite if it does not.

        While the server is lost, invalidations by other hosts do not arrive.

        Args:
            now: monotonic time in seconds.
        """
        server = self._server()
        return math.inf if server is None else server.known_until(now)

    def is_valid(self, entry: Entry) -> bool:
        """Return whether nothing that an entry depends on was invalidated since its load."""
        words = self._words
        if words is _UNKNOWN:
            words = self._current()
        epoch = words[EPOCH]  # first: a bump in between moves it again
        for index, version in zip(entry.slots, entry.versions, strict=True):
            if words[index] != version:
                return False
        entry.epoch = epoch
        return True

    def namespace(self, name: str) -> None:
        """Invalidate the entries of a namespace in all processes."""
        self._versions().bump([f"namespace:{name}"])

    def tags(self, tags: Iterable[str]) -> None:
        """Invalidate the entries with any of some tags in all processes."""
        self._versions().bump([f"tag:{tag}" for tag in tags])

    def key(self, namespace: str, key: Hashable) -> None:
        """Invalidate the value of a key in all processes."""
        self._versions().bump([_key_name(namespace, key)])

    def all(self) -> None:
        """Invalidate all entries in all processes."""
        self._versions().bump_all()

    @property
    def versions(self) -> Versions:
        """The versions that are compared at present."""
        self._current()
        return self._located

    def _versions(self) -> Versions:
        return self._locate() or self._own

    def _current(self) -> memoryview:
        words = self._words
        if words is _UNKNOWN:
            self._located = self._versions()
            words = self._located.words
            self._use(words)
        return words

    def _use(self, words: memoryview) -> None:
        self._words = words
        for subscriber in list(self._subscribers):
            subscriber.use(words)


_ALL: weakref.WeakSet[Invalidation] = weakref.WeakSet()


def _after_fork() -> None:
    for invalidation in list(_ALL):
        invalidation.forget()


if hasattr(os, "register_at_fork"):  # pragma: no branch (Windows)
    os.register_at_fork(after_in_child=_after_fork)
