"""Check of the traps: a cache that never caches passes, and three known caches fail as they must."""

from __future__ import annotations

import functools
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from . import TRAPS, Trap, run

QUICK_SECONDS = 12.0  # time limit in this check; the traps declare longer ones
SIZE = 4096


def _refuse(**options: Any) -> None:
    """Raise for options that were passed and are not supported."""
    passed = [name for name, value in options.items() if value]
    if passed:
        raise TypeError(f"no option {', '.join(passed)}")


def never(
    function: Callable[..., Any],
    *,
    ttl: float | None = None,
    key: Callable[..., Any] | None = None,
    ignore: tuple[str, ...] = (),
    errors: tuple[type[BaseException], ...] = (),
) -> Callable[..., Any]:
    """No cache: the function itself, with any option."""
    return function


def lru(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """``functools.lru_cache``."""
    _refuse(**options)
    return functools.lru_cache(SIZE)(function)


def by_repr(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """A dict by the text of the arguments, and by the qualified name of the function."""
    _refuse(**options)
    name = f"{function.__module__} {getattr(function, '__qualname__', type(function).__name__)}"

    @functools.wraps(function)
    def served(*args: Any, **kwargs: Any) -> Any:
        key = f"{name} {args!r} {sorted(kwargs.items())!r}"
        if key not in _BY_REPR:
            _BY_REPR[key] = function(*args, **kwargs)
        return _BY_REPR[key]

    return served


_BY_REPR: dict[str, Any] = {}


def ttl_cache(
    function: Callable[..., Any],
    *,
    ttl: float | None = None,
    key: Callable[..., Any] | None = None,
    **options: Any,
) -> Callable[..., Any]:
    """``cachetools.cached`` with a ``TTLCache`` and a lock."""
    import cachetools
    import cachetools.keys

    _refuse(**options)
    cache: Any = cachetools.TTLCache(SIZE, ttl or 600.0)
    return cachetools.cached(cache, key or cachetools.keys.hashkey, threading.Lock())(function)


CACHES = {"never": never, "lru_cache": lru, "repr": by_repr, "TTLCache": ttl_cache}

EXPECTED: dict[str, dict[str, str]] = {
    "lru_cache": {
        "int_bool_float_complex": "wrong",
        "signed_zero": "wrong",
        "decimal_forms": "wrong",
        "named_tuple_and_tuple": "wrong",
        "datetime_and_timestamp": "wrong",
        "instant_in_two_zones": "wrong",
        "fold": "wrong",
        "list_and_tuple": "refused",
        "frame_one_number": "refused",
        "first_caller_changes_a_list": "poisoned",
        "generators": "wrong",
        "instances_are_not_kept_alive": "wrong",
        "spellings_of_one_call": "wrong",
        "one_load_for_twenty_threads": "wrong",
        "awaited_twice": "wrong",
        "expired_value_is_not_served": "refused",
    },
    "repr": {
        "array_one_cell": "wrong",
        "series_one_cell": "wrong",
        "frame_one_number": "wrong",
        "methods_of_short_lived_instances": "wrong",
        "function_redefined_with_another_constant": "wrong",
        "object_with_a_constant_text": "wrong",
        "frame_changed_by_assignment": "poisoned",
        "returned_argument": "poisoned",
    },
    "TTLCache": {
        "int_bool_float_complex": "wrong",
        "instant_in_two_zones": "wrong",
        "first_caller_changes_a_list": "poisoned",
        "forks_while_threads_write": "hanging",
        "signal_handler_that_calls_the_cache": "hanging",
        "expired_value_is_not_served": "right",
        "key_by_a_function": "wrong",
        "error_is_not_remembered": "right",
    },
}
"""Verdicts that were measured before, by cache and trap: the traps must reach them."""


def _complaints(name: str, verdicts: dict[str, str]) -> list[str]:
    if name == "never":
        return [
            f"{trap.name}: {verdicts[trap.name]}"
            for trap in TRAPS
            if trap.name in verdicts
            and (verdicts[trap.name] == "right") == (trap.counts_loads or trap.expects_refusal)
        ]
    return [
        f"{trap}: {verdicts[trap]} instead of {verdict}"
        for trap, verdict in EXPECTED[name].items()
        if trap in verdicts and not verdicts[trap].startswith(verdict)
    ]


def main(words: list[str]) -> int:
    """Run the traps, or those whose name or kind contains a word; return 1 if one misbehaves."""
    import numpy as np
    import pandas as pd

    print(f"Python {sys.version.split()[0]}, pandas {pd.__version__}, NumPy {np.__version__}")
    names = [name for name in CACHES if name in words] or list(CACHES)
    words = [word for word in words if word not in CACHES]
    traps: list[Trap] = [
        trap
        for trap in TRAPS
        if not words or any(word in trap.name or word == trap.kind for word in words)
    ]
    complaints: list[str] = []
    for name in names:
        start = time.monotonic()
        verdicts = {trap.name: run(trap, CACHES[name], QUICK_SECONDS) for trap in traps}
        counts = Counter(verdict.partition(":")[0] for verdict in verdicts.values())
        print(f"\n{name}: {len(traps)} traps, {dict(counts)}, {time.monotonic() - start:.0f} s")
        if name != "never" or words:
            for trap in traps:
                print(f"  {trap.kind}: {trap.name}: {verdicts[trap.name][:150]}")
        complaints += [f"{name}: {complaint}" for complaint in _complaints(name, verdicts)]
    print("", *complaints, f"{len(complaints)} complaints", sep="\n")
    return bool(complaints)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
