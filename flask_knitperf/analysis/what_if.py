"""Savings of functions if they were cached: the TTL that saves most within the stale budget, if any.

Figures are those of the window: calls that would have hit, and the time that they took. Each worker
caches for itself, so does the prediction; that of values shared by the workers of a host is higher. A
stale share has the interval of Wilson (1927) at 95 %, and is judged by its upper end.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ..core.clock import NS_PER_S
from ..core.intervals import wilson_interval
from ..metrics.catalogue import WHAT_IF_OBSTACLE, WhatIfObstacle
from ..metrics.instruments import OTHER
from ..metrics.readings import Readings
from ..metrics.readings.rows import TtlReading, WhatIfReading
from .phrases import count, percent, period

MIN_CALLS = 20
"""Number of judged calls below which a function is not judged."""
MIN_COMPARED = 30
"""Number of independent comparisons below which a stale share is not judged."""
MIN_SAVED_SHARE = 0.01
"""Share of a function's time that caching has to save."""
MIN_SAVED_PER_HOUR_S = 1.0
"""Seconds per hour that caching has to save."""
MAX_REFUSED_SHARE = 0.1
"""Share of calls whose results cannot be cached, above which a function is not recommended."""
_HOUR_S = 3600.0
_VERDICTS = (
    WhatIfObstacle.UNKEYED, WhatIfObstacle.READS, WhatIfObstacle.CHANGES, WhatIfObstacle.NOTHING,
    WhatIfObstacle.REFUSED, WhatIfObstacle.UNCOMPARED,
)  # fmt: skip
"""Obstacles in the order in which one of them is the reason."""
_TEXTS = {
    WhatIfObstacle.UNKEYED: "an argument has no key",
    WhatIfObstacle.READS: "it reads data of the request that is not in its key",
    WhatIfObstacle.CHANGES: "it changes something, which a call from the cache would not",
    WhatIfObstacle.NOTHING: "all of its results are None",
    WhatIfObstacle.REFUSED: "its results cannot be cached",
    WhatIfObstacle.UNCOMPARED: "its results cannot be compared",
}
"""Reasons without their detail, which only the most expensive functions have."""


@dataclass(frozen=True, slots=True)
class CacheOption:
    """One function in a cache with one TTL.

    Attributes:
        ttl: in seconds, infinite without one.
        hits: calls that would have hit.
        saved_s: seconds that they took.
        compared: hits whose answer was compared with the one from the cache.
        stale: those of them whose answer was another one.
        independent: number of independent comparisons.
    """

    ttl: float
    hits: int
    saved_s: float
    compared: int
    stale: int
    independent: float

    @property
    def stale_share(self) -> float | None:
        """Share of the hits that would have been stale, ``None`` where none was compared."""
        return self.stale / self.compared if self.compared else None

    @property
    def stale_bounds(self) -> tuple[float, float] | None:
        """Interval of that share, ``None`` where none was compared."""
        share = self.stale_share
        return None if share is None else wilson_interval(share, self.independent)

    @property
    def decorator(self) -> str:
        """The decorator to paste."""
        return "@perf.cache.cached" + ("" if math.isinf(self.ttl) else f"(ttl={self.ttl:g})")


@dataclass(frozen=True, slots=True)
class WhatIf:
    """A function as if it were cached.

    Attributes:
        name: of the function.
        where: its ``file:line``, empty for builtins.
        calls: number of all calls.
        judged: number of those that were looked up.
        seconds: that all calls took, without those that had no key.
        window_s: seconds of the window.
        options: by TTL, the shortest first.
        chosen: the option that saves most within the stale budget, ``None`` if none is recommended.
        reason: why none is, a clause; empty where one is.
        remedy: what would allow it, a sentence without a full stop; empty where unknown.
    """

    name: str
    where: str
    calls: int
    judged: int
    seconds: float
    window_s: float
    options: tuple[CacheOption, ...]
    chosen: CacheOption | None = None
    reason: str = ""
    remedy: str = ""

    @property
    def text(self) -> str:
        """The recommendation, or why there is none; a sentence without a full stop."""
        option = self.chosen
        if option is None:
            return f"{self.name} is not recommended: {self.reason}"
        ttl = "without a TTL" if math.isinf(option.ttl) else f"with a TTL of {period(option.ttl)}"
        return (
            f"Cache {self.name}: {percent(option.hits / self.calls)} of {count(self.calls, 'call')} in "
            f"{period(self.window_s)} would have hit {ttl}, {_stale_text(option)}; saves "
            f"{self._saved_text(option)}"
        )

    def _saved_text(self, option: CacheOption) -> str:
        if self.window_s <= _HOUR_S:  # a rate per hour would extrapolate
            return f"{_amount(option.saved_s)} of {_amount(self.seconds)} s"
        hours = self.window_s / _HOUR_S
        return f"{_amount(option.saved_s / hours)} of {_amount(self.seconds / hours)} s per hour"


Texts = dict[str, tuple[str, str]]
"""Reason and remedy of the obstacles of one function, by kind."""


def what_if(readings: Readings, window_s: float, stale_budget: float) -> list[WhatIf]:
    """Return all watched functions: recommended ones by saved time, then others by their time.

    The time of a function contains that of the functions that it calls, so the savings of two of them
    may be the same seconds.

    Args:
        readings: of the window.
        window_s: seconds of the window.
        stale_budget: share of the hits that may be stale.
    """
    texts: dict[tuple[str, str], Texts] = {}
    for note in sorted(readings.notes(WHAT_IF_OBSTACLE), key=lambda note: (note.weight, note.key)):
        key = note.key
        texts.setdefault((key.name, key.where), {})[key.kind] = key.reason, key.remedy
    rows = [
        _judge(row, texts.get((row.name, row.where), {}), max(window_s, 1.0), stale_budget)
        for row in readings.watched_functions
        if row.name != OTHER
    ]
    return sorted(rows, key=lambda row: (-_saved(row), -row.seconds, row.name, row.where))


def _saved(row: WhatIf) -> float:
    return 0.0 if row.chosen is None else row.chosen.saved_s


def recommended(rows: Iterable[WhatIf]) -> list[WhatIf]:
    """Return those that are to be cached."""
    return [row for row in rows if row.chosen is not None]


def _judge(reading: WhatIfReading, texts: Texts, window_s: float, stale_budget: float) -> WhatIf:
    calls = reading.judged.count + reading.beyond.count + reading.unkeyed
    seconds = (reading.judged.total + reading.beyond.total) / NS_PER_S
    options = tuple(_option(ttl, reading.by_ttl[ttl]) for ttl in sorted(reading.by_ttl))
    row = WhatIf(
        reading.name, reading.where, calls, reading.judged.count, seconds, window_s, options
    )
    for kind in _VERDICTS:
        allowed = MAX_REFUSED_SHARE * calls if kind is WhatIfObstacle.REFUSED else 0
        if reading.hindered.get(kind, 0) > allowed:
            reason, remedy = texts.get(kind, (_TEXTS[kind], ""))
            return replace(row, reason=reason, remedy=remedy)
    chosen, reason = _choose(row, stale_budget)
    return replace(row, chosen=chosen, reason=reason)


def _option(ttl: float, row: TtlReading) -> CacheOption:
    compared, weight = row.compared.count, row.compared.total
    return CacheOption(
        ttl, row.hits.count, row.hits.total / NS_PER_S, compared, row.stale,
        compared**2 / max(weight, compared) if compared else 0.0,
    )  # fmt: skip


def _choose(row: WhatIf, stale_budget: float) -> tuple[CacheOption | None, str]:
    """Return the option that saves most within the stale budget, else why there is none."""
    if row.judged < MIN_CALLS:
        return None, f"it was called only {count(row.judged, 'time')}"
    least_s = max(MIN_SAVED_SHARE * row.seconds, MIN_SAVED_PER_HOUR_S * row.window_s / _HOUR_S)
    worthy = [option for option in row.options if option.saved_s >= least_s]
    if not worthy:
        best = max((option.hits for option in row.options), default=0)
        if best < MIN_SAVED_SHARE * row.judged:
            return None, "its calls have new arguments nearly each time"
        return None, "too little time would be saved"
    known = [option for option in worthy if option.independent >= MIN_COMPARED]
    if not known:
        return None, "too few of its results were compared to know how many would be stale"
    fresh = [option for option in known if _upper(option) <= stale_budget]
    if not fresh:
        best_option = min(known, key=_upper)
        ttl = "for ever" if math.isinf(best_option.ttl) else f"for {period(best_option.ttl)}"
        return None, f"of answers kept {ttl}, {_stale_text(best_option)}"
    return max(fresh, key=lambda option: (option.saved_s, -option.ttl)), ""


def _upper(option: CacheOption) -> float:
    bounds = option.stale_bounds
    return 1.0 if bounds is None else bounds[1]


def _stale_text(option: CacheOption) -> str:
    bounds, share = option.stale_bounds, option.stale_share
    if bounds is None or share is None:
        return "an unknown share of them stale"
    if not option.stale:
        return f"at most {percent(bounds[1])} of them stale"
    return f"{percent(share)} of them stale ({percent(bounds[0])} to {percent(bounds[1])})"


def _amount(seconds: float) -> str:
    """Return seconds without their unit: ``22,041``, ``3.1``."""
    if seconds >= 100:
        return f"{seconds:,.0f}"
    return f"{seconds:,.1f}" if seconds >= 1 else f"{seconds:.2g}"
