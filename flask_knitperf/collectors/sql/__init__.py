"""SQL: every statement of a request, its fingerprint and its call site, whatever driver sent it."""

from __future__ import annotations

import sys


def watches_engines() -> bool:
    """Return whether this process may watch engines, and thus pools: it imports that with the first."""
    return f"{__name__}.sqlalchemy" in sys.modules
