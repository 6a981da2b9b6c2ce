"""Traps for caches of functions: keys, values, errors, recursion, threads, forks, coroutines, expiry.

The traps are by an author who had not seen the cache, and were committed before it ran on them
(`corpus/cache_traps`). Each runs in a separate process. Other caches run on the same traps; where one
lacks an option, or refuses an argument, the trap is not counted against it.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pandas as pd

from flask_knitperf import CacheOptimizer

from ..corpus.cache_traps import TRAPS
from ..corpus.cache_traps import run as run_trap
from ..harness.outcome import Grid, Outcome

QUICK_TRAPS = 40
LIMIT_S = 60.0
VERDICTS = ("right", "wrong", "poisoned", "hanging", "refused")


def run(quick: bool = False) -> Outcome:
    """Measure."""
    logging.getLogger("flask_knitperf").setLevel(logging.CRITICAL)
    outcome = Outcome()
    assert pd.__version__  # imported before the traps fork
    traps = TRAPS[:QUICK_TRAPS] if quick else TRAPS
    lines = []
    for name, cached in {"flask_knitperf": _ours(), **_peers()}.items():
        verdicts = {trap.name: run_trap(trap, cached, LIMIT_S) for trap in traps}
        count = Counter(verdict.partition(":")[0] for verdict in verdicts.values())
        lines.append((name, *(str(count[verdict]) for verdict in VERDICTS)))
        if name == "flask_knitperf":
            _judge(outcome, verdicts, count)
    outcome.grids.append(Grid(f"{len(traps)} traps", ("cache", *VERDICTS), tuple(lines)))
    return outcome


def _judge(outcome: Outcome, verdicts: dict[str, str], count: Counter[str]) -> None:
    for verdict in VERDICTS[1:4]:
        outcome.judge(f"cache_traps.{verdict}", f"traps of {len(verdicts)} with this verdict", "0",
                      str(count[verdict]), count[verdict] == 0)  # fmt: skip
    outcome.notes += [
        f"{name}: {verdict}" for name, verdict in verdicts.items() if verdict != "right"
    ]


def _ours() -> Callable[..., Any]:
    optimizer = CacheOptimizer()

    def cached(
        function: Callable[..., Any], *, ttl: float | None = None,
        key: Callable[..., Any] | None = None, ignore: tuple[str, ...] = (),
        errors: tuple[type[Exception], ...] = (),
    ) -> Any:  # fmt: skip
        return optimizer.cached(function, ttl=ttl, key=key, ignore=ignore, errors=errors)

    return cached


def _peers() -> dict[str, Callable[..., Any]]:
    import cachetools
    import cachetools.keys

    def lru(function: Callable[..., Any], **options: Any) -> Any:
        _refuse(options)
        return functools.lru_cache(4096)(function)

    def timed(
        function: Callable[..., Any], *, ttl: float | None = None,
        key: Callable[..., Any] | None = None, **options: Any,
    ) -> Any:  # fmt: skip
        _refuse(options)
        cache: Any = cachetools.TTLCache(4096, ttl or 600.0)
        return cachetools.cached(cache, key or cachetools.keys.hashkey, threading.Lock())(function)

    return {"functools.lru_cache": lru, "cachetools TTLCache + Lock": timed}


def _refuse(options: dict[str, Any]) -> None:
    chosen = [name for name, value in options.items() if value]
    if chosen:
        raise TypeError(f"there is no option {', '.join(chosen)}")
