"""Lists of weak references that pandas prunes only when they are long.

Each column access appends a weak reference to a list of the frame's block. pandas removes those to freed
objects once the list is longer than its ``clear_counter``, which is 500 and more (class
``BlockValuesRefs`` of ``pandas._libs.internals``). Until then the list of a frame that lives long grows
with each request, as a leak does. So a hunt prunes these lists before it reads memory.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import Any


class PandasReferences:
    """Lists of weak references of the frames in memory.

    Create it after the application is loaded and before :func:`gc.freeze`, which hides the existing
    objects from the collector.

    Attributes:
        old: owners of such lists that exist at that time.
    """

    def __init__(self) -> None:
        self.old = _owners()

    def prune(self) -> None:
        """Remove the references to freed objects from all lists."""
        for owners in (self.old, _owners()):
            for owner in owners:
                owner.has_reference()  # the public method that prunes

    def pruned(self, read: Callable[[], float]) -> Callable[[], float]:
        """Return a gauge that prunes the lists before ``read`` is called."""

        def prune_and_read() -> float:
            self.prune()
            return read()

        return prune_and_read


def _owners() -> list[Any]:
    module = sys.modules.get("pandas._libs.internals")
    cls = None if module is None else getattr(module, "BlockValuesRefs", None)
    if cls is None or not hasattr(cls, "has_reference"):  # pandas is not loaded, or another version
        return []
    return [value for value in gc.get_objects() if type(value) is cls]
