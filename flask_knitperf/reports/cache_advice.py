"""Rows on functions as if they were cached: of the cache's document, and of the report."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..analysis.what_if import CacheOption, WhatIf, recommended, what_if
from ..core.settings import Settings
from ..storage.windows import Window
from .values import rounded

if TYPE_CHECKING:
    from .documents import cache as types

MAX_ADVICE = 3
"""Number of recommendations on the overview."""


def what_if_rows(window: Window, settings: Settings) -> list[types.WhatIfRow]:
    """Return all watched functions, recommended ones by saved time first.

    Args:
        window: the totals of all workers.
        settings: with the stale budget.
    """
    return [_row(row) for row in _judged(window, settings)]


def advice_rows(window: Window, settings: Settings) -> list[types.WhatIfRow]:
    """Return the functions that save most if they are cached.

    Args:
        window: the totals of all workers.
        settings: with the stale budget.
    """
    return [_row(row) for row in recommended(_judged(window, settings))[:MAX_ADVICE]]


def _judged(window: Window, settings: Settings) -> list[WhatIf]:
    seconds = max(0.0, window.ends - window.begins)
    return what_if(window.snapshot.readings, seconds, settings.cache_stale_budget)


def _row(row: WhatIf) -> types.WhatIfRow:
    chosen = row.chosen
    return {
        "function": row.name,
        "where": row.where or None,
        "calls": row.calls,
        "judged": row.judged,
        "time_s": rounded(row.seconds, 6),
        "options": [_option(option) for option in row.options],
        "ttl_s": None if chosen is None else _ttl(chosen),
        "saved_s": None if chosen is None else rounded(chosen.saved_s, 6),
        "decorator": None if chosen is None else chosen.decorator,
        "text": f"{row.text}.",
        "recommendation": f"{row.remedy}." if row.remedy else None,
    }


def _option(option: CacheOption) -> types.CacheOptionRow:
    low, high = option.stale_bounds or (None, None)
    return {
        "ttl_s": _ttl(option),
        "hits": option.hits,
        "saved_s": rounded(option.saved_s, 6),
        "compared": option.compared,
        "stale": option.stale,
        "stale_share": rounded(option.stale_share, 4),
        "stale_low": rounded(low, 4),
        "stale_high": rounded(high, 4),
    }


def _ttl(option: CacheOption) -> float | None:
    return None if math.isinf(option.ttl) else option.ttl
