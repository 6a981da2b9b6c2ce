"""JSON values that several documents share: rounded figures, points in time, the window."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, overload

from ..core.clock import NS_PER_MS, NS_PER_S
from ..core.units import MB
from ..storage.windows import Window

if TYPE_CHECKING:
    from .documents import fields

KB = 1024  # bytes
MIN_FOR_P99 = 100  # with fewer values the p99 is merely the largest one, and is left out
MAX_ROWS = 10  # of a table within a row of a document


@overload
def rounded(value: float, digits: int = 3) -> float: ...
@overload
def rounded(value: float | None, digits: int = 3) -> float | None: ...
def rounded(value: float | None, digits: int = 3) -> float | None:
    """Return a value rounded, ``None`` for ``None``."""
    return None if value is None else round(value, digits)


@overload
def as_int(value: float) -> int: ...
@overload
def as_int(value: float | None) -> int | None: ...
def as_int(value: float | None) -> int | None:
    """Return a value rounded to an integer, ``None`` for ``None``."""
    return None if value is None else round(value)


@overload
def in_ms(ns: float) -> float: ...
@overload
def in_ms(ns: float | None) -> float | None: ...
def in_ms(ns: float | None) -> float | None:
    """Return nanoseconds as milliseconds, to a microsecond."""
    return None if ns is None else round(ns / NS_PER_MS, 3)


@overload
def in_mb(size: float) -> float: ...
@overload
def in_mb(size: float | None) -> float | None: ...
def in_mb(size: float | None) -> float | None:
    """Return bytes as units of 1024 x 1024 bytes, to a tenth."""
    return None if size is None else round(size / MB, 1)


def in_s(ns: float) -> float:
    """Return nanoseconds as seconds, to a microsecond: a single query may take some of them."""
    return round(ns / NS_PER_S, 6)


def moment(seconds: float, timespec: str = "seconds") -> str:
    """Return seconds since the epoch in ISO 8601."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec=timespec)


def window_document(window: Window) -> fields.Window:
    """Return the stretch of time that a window covers."""
    return {
        "name": window.name,
        "from": moment(window.begins),
        "to": moment(window.ends),
        "run": window.run,
        "release": window.release,
    }
