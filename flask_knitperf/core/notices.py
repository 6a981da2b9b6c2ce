"""Warnings that point at the line of the application, however deep in this package they are issued."""

from __future__ import annotations

import sys
import warnings
from types import FrameType

from .code_locations import is_ours
from .locks import create_lock


class MigrationWarning(FutureWarning):
    """A call written for another optimiser works, but not as it did there; issued once per message."""


_issued: set[str] = set()
_issuing = create_lock()


def warn(message: str, category: type[Warning]) -> None:
    """Issue a warning whose location is the innermost caller outside this package."""
    level = 2
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and is_ours(frame.f_code):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def warn_once(message: str) -> None:
    """Issue a :class:`MigrationWarning`, unless this process has issued the same message before.

    Args:
        message: one of a fixed set of texts, since all of them are remembered.
    """
    with _issuing:
        if message in _issued:
            return
        _issued.add(message)
    warn(message, MigrationWarning)
