"""SQL: every statement of a request, its fingerprint and its call site, whatever driver sent it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...storage.versions import Versions


def watches_engines() -> bool:
    """Return whether this process may watch engines, and thus pools: it imports that with the first."""
    return f"{__name__}.sqlalchemy" in sys.modules


def track_tables(versions: Versions) -> None:
    """Have the versions of written tables changed from now on, by all engines and connections."""
    from .written_tables import WRITTEN_TABLES

    if versions in WRITTEN_TABLES:
        return
    WRITTEN_TABLES.subscribe(versions)
    if watches_engines():  # one that is imported later tracks them from the start
        from . import sqlalchemy

        sqlalchemy.track_tables()
