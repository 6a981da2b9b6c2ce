"""Explanation of a call of a cached function: its key, its value, why the latest look-up missed."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import TypedDict

from ..core.host_exceptions import SuppressOwn
from .options import Options
from .region import Entry, Region

MAX_EXPLAINED = 500
"""Number of keys of a function whose latest miss is remembered."""


class Explanation(TypedDict):
    """State of one call of a cached function, in this process.

    Attributes:
        namespace: of the function.
        key: the key, as a text; content that is not plain text or a whole number is a digest.
        cached: whether a call would be answered from the cache now.
        shared: whether other processes of the host find its value.
        last_miss: why the latest look-up missed, ``None`` if none is remembered.
        refused: why the latest result of the function was not cached, ``None`` if it was.
        age_s: seconds since the value was cached.
        expires_in_s: seconds until it expires, ``None`` if it does not.
        bytes: estimated bytes of the value.
        load_s: seconds that its load took.
        depends_on: everything whose change invalidates it or makes another key.
    """

    namespace: str
    key: str
    cached: bool
    shared: bool
    last_miss: str | None
    refused: str | None
    age_s: float | None
    expires_in_s: float | None
    bytes: int | None
    load_s: float | None
    depends_on: list[str]


class Misses:
    """Reasons for which the latest look-ups of a function missed, by key."""

    def __init__(self) -> None:
        self._reasons: dict[Hashable, str] = {}  # oldest first

    def __len__(self) -> int:
        return len(self._reasons)

    def reason(self, key: Hashable) -> str | None:
        """Return why the latest look-up of a key missed, ``None`` if none is remembered."""
        return self._reasons.get(key)

    def note(self, key: Hashable, reason: str) -> None:
        """Remember why a look-up missed, of the latest :data:`MAX_EXPLAINED` keys."""
        reasons = self._reasons
        reasons.pop(key, None)
        reasons[key] = reason
        if len(reasons) > MAX_EXPLAINED:
            with SuppressOwn(KeyError, RuntimeError, StopIteration):  # another thread does the same
                del reasons[next(iter(reasons))]


def explanation(
    key: Hashable, entry: Entry | None, region: Region, options: Options, *,
    is_valid: bool, now: float, last_miss: str | None, refused: str,
) -> Explanation:  # fmt: skip
    """Return the state of a call.

    Args:
        key: of its entry.
        entry: of the key, ``None`` if there is none.
        region: of the function.
        options: of the function.
        is_valid: whether nothing that the entry depends on has changed.
        now: monotonic time in seconds.
        last_miss: why the latest look-up missed.
        refused: why the latest result of the function was not cached.
    """
    forever = entry is None or entry.expires == math.inf
    return {
        "namespace": options.namespace,
        "key": printable_key(key),
        "cached": is_valid and entry is not None and now < entry.expires,
        "shared": entry is not None and entry.is_shared,
        "last_miss": last_miss,
        "refused": refused or None,
        "age_s": None if entry is None else now - entry.born,
        "expires_in_s": None if forever or entry is None else entry.expires - now,
        "bytes": None if entry is None else entry.size,
        "load_s": None if entry is None else entry.cost,
        "depends_on": [
            f"namespace {options.namespace}", *(f"tag {tag}" for tag in options.tags),
            *(f"request.{name}" for name in region.routing), *options.depends.names(),
            *(() if entry is None or entry.sources is None else entry.sources.names()),
        ],
    }  # fmt: skip


def printable_key(key: Hashable) -> str:
    """Return a key as a text, digests in hexadecimal."""
    if isinstance(key, tuple):
        parts = [printable_key(part) for part in key if part is not ...]
        return ", ".join(parts) if ... in key else f"({', '.join(parts)})"
    return key.hex() if isinstance(key, bytes) else repr(key)
