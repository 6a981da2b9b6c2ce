"""Numbers for the instances whose methods are cached, so that values live no longer than their instance.

An instance is its own key: by identity, whatever its class thinks of equality. The address of an object
is given to another one as soon as it is gone, so each instance has a number that is never used again. It
is held weakly. The callback of a weak reference runs in any thread, within a garbage collection too, so
it takes no lock: it releases the address and leaves the number in a queue.
"""

from __future__ import annotations

import itertools
import weakref
from collections import deque
from typing import Any

from ..core.host_exceptions import raise_if_of_host


class InstanceNumbers:
    """Number of each living instance.

    Attributes:
        by_id: number by the address of an instance that is alive.
        gone: numbers of instances that were freed, to be taken out.
    """

    def __init__(self) -> None:
        self.by_id: dict[int, int] = {}
        self.gone: deque[int] = deque()
        self._references: dict[int, weakref.ref[Any]] = {}
        self._next = itertools.count(1)

    def number(self, instance: Any) -> int | None:
        """Return the number of an instance, ``None`` if it cannot be referenced weakly."""
        address = id(instance)
        number = self.by_id.get(address)
        if number is not None:
            return number
        number = next(self._next)

        def release(reference: Any, address: int = address, number: int = number) -> None:
            if self._references.get(address) is reference:
                self.by_id.pop(address, None)
                self._references.pop(address, None)
            self.gone.append(number)

        try:
            reference = weakref.ref(instance, release)
        except TypeError as error:  # a text, a number, or an instance without __weakref__
            raise_if_of_host(error)
            return None
        self._references[address] = reference
        return self.by_id.setdefault(address, number)
