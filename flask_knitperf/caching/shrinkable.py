"""Base class of this package's caches: the housekeeper shrinks them without their modules."""

from __future__ import annotations

from abc import ABC, abstractmethod


class Shrinkable(ABC):
    """A cache that releases a part of its values when memory is short.

    Attributes:
        currsize: bytes of all entries, ``None`` where they are not counted.
    """

    currsize: int | None = None

    @abstractmethod
    def shrink(self, kept: float) -> int:
        """Release values until a share of them remains, 0 to 1; return the number released."""
