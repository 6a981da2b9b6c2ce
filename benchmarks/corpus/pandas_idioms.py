"""Idioms of pandas on what a cache returns, written from the issue's text before there was a cache.

`check(get)` runs each idiom on a fresh table and on `get(builder)`, which returns what a cache returns
for that builder: to the first caller and, after the first has done with it as it likes, to a second.
Both must get the same result, error and warnings as on the fresh table; the second caller must not
change what the first one holds; and a third table must equal a fresh one in every cell, dtype, label,
name and attribute. With `clear`, which drops all that is cached, faults of one idiom do not reach the
next, and each idiom runs once more on a table that the cache dropped after it had returned it.

`get = lambda builder: builder()` has no faults; `python -m benchmarks.corpus.pandas_idioms` shows that,
and the faults of caches that are known to be bad (`CONTROLS`, by name); one of them, which pickles for
every hit, is right, so that every idiom can be met on pandas 2 and 3. For reads, pass
`builders=reads(folder)` and a `fresh` that bypasses the cache. Caches that share memory between
processes are checked the same way: `get` is then what another worker maps.

The layout of blocks is not compared, nor are warnings about it, only what it leads to: `.values` of a
frame is a view of it or a copy, and the block that comes first decides the text of an error.
"""

from __future__ import annotations

import copy
import functools
import pickle
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from . import (
    pandas_idioms_arrays,
    pandas_idioms_shapes,
    pandas_idioms_tables,
    pandas_idioms_views,
)
from .pandas_frames import BUILDERS, FRAMES, INDEXES, SERIES, Builder, reads
from .pandas_harness import IDIOMS, Idiom, Outcome, fingerprint, idiom, outcome, same

__all__ = [
    "BUILDERS", "FRAMES", "IDIOMS", "INDEXES", "SERIES", "Builder", "Idiom", "Outcome", "check",
    "fingerprint", "idiom", "outcome", "reads", "same",
]  # fmt: skip

MODULES = (pandas_idioms_tables, pandas_idioms_shapes, pandas_idioms_arrays, pandas_idioms_views)
Get = Callable[[Builder], Any]


def build(builder: Builder) -> Any:
    """Return a fresh table."""
    return builder()


def check(
    get: Get,
    *,
    fresh: Get = build,
    clear: Callable[[], None] | None = None,
    builders: Iterable[Builder] = tuple(BUILDERS.values()),
    idioms: Iterable[Idiom] = tuple(IDIOMS),
) -> list[str]:
    """Return the faults of a cache, each with its idiom, builder and first difference."""
    idioms = tuple(idioms)
    faults = []
    for builder in builders:
        untouched = fingerprint(fresh(builder))
        for case in idioms:
            if case.groups & builder.groups:
                where = f"{case.name} ({case.kind}) on {builder.name}"
                stages = _faults(case, builder, get, fresh, clear, untouched)
                faults += [f"{where}: {fault}" for fault in stages]
    return faults


def _faults(
    case: Idiom,
    builder: Builder,
    get: Get,
    fresh: Get,
    clear: Callable[[], None] | None,
    untouched: bytes,
) -> list[str]:
    """Return the faults of one idiom on one table, whose fingerprint is `untouched`."""
    if clear is not None:
        clear()
    expected = outcome(case, [fresh(builder)])
    first = outcome(case, [get(builder)])
    faults = [("first caller", same(expected, first))]
    before = fingerprint(first)
    faults.append(("second caller", same(expected, outcome(case, [get(builder)]))))
    if fingerprint(first) != before:
        faults.append(("result of the first caller, after the second", "changed"))
    third = get(builder)
    if fingerprint(third) != untouched:
        faults.append(("cached value afterwards", same(fresh(builder), third)))
    if clear is not None:
        faults.append(("dropped by the cache", same(expected, _dropped(case, builder, get, clear))))
    return [f"{stage}: {difference}" for stage, difference in faults if difference]


def _dropped(case: Idiom, builder: Builder, get: Get, clear: Callable[[], None]) -> Outcome:
    """Run an idiom on a hit that the cache drops before the idiom starts."""
    get(builder)
    box = [get(builder)]
    clear()
    return outcome(case, box)


class Cache:
    """Cache that is right or wrong by how it copies: the control of the corpus."""

    def __init__(self, keep: Callable[[Any], Any], serve: Callable[[Any], Any]) -> None:
        self.keep, self.serve = keep, serve
        self.values: dict[str, Any] = {}

    def get(self, builder: Builder) -> Any:
        """Return the value of a builder, served from the cache after the first call."""
        if builder.name not in self.values:
            self.values[builder.name] = self.keep(builder())
        return self.serve(self.values[builder.name])


def _shallow(value: Any) -> Any:
    """Copy tables without their cells, and containers item by item."""
    if isinstance(value, pd.DataFrame | pd.Series):
        return value.copy(deep=False)
    if isinstance(value, dict):
        return {key: _shallow(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_shallow(item) for item in value)
    return copy.copy(value)


RIGHT = "a pickle"
CONTROLS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "the same object": (lambda value: value, lambda value: value),
    "a shallow copy": (lambda value: value, _shallow),
    "a deep copy": (lambda value: value, copy.deepcopy),
    RIGHT: (functools.partial(pickle.dumps, protocol=5), pickle.loads),
}


def main(names: list[str]) -> int:
    """Print the faults of plain calls, of which there must be none, and those of control caches."""
    with tempfile.TemporaryDirectory() as folder:
        builders = [*BUILDERS.values(), *reads(Path(folder))]
        plain = check(build, clear=lambda: None, builders=builders)
    print(f"pandas {pd.__version__}, {len(IDIOMS)} idioms, {len(builders)} builders")
    print(f"plain calls: {len(plain)} faults", *plain, sep="\n")
    wrong = bool(plain)
    for name in names or ["the same object"]:
        cache = Cache(*CONTROLS[name])
        faults = check(cache.get, clear=cache.values.clear)
        wrong |= bool(faults) == (name == RIGHT)
        idioms = {fault.partition(" on ")[0]: fault for fault in reversed(faults)}
        print(f"{name}: {len(faults)} faults in {len(idioms)} idioms", *idioms.values(), sep="\n  ")
    return wrong


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
