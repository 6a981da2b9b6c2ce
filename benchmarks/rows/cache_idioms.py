"""Frames from the cache behave as fresh ones: idioms of pandas on what a hit returns.

The idioms are by an author who had not seen the cache, and were committed before it ran on them
(`corpus/pandas_idioms`). Each runs on a fresh frame and on hits, twice in a row and once on a frame that
the cache has dropped; results, errors and warnings must be the same, and the cached value unchanged.

Two kinds are apart. `array`: a bare array is taken, then the frame is written to; on pandas 3 the array
of a hit does not change, where that of a frame which shares nothing does. `force`: the code writes past
the protection of pandas 3 (`.array`, flags, bases); a hit refuses that where a fresh frame allows it.
"""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from typing import Any

import pandas as pd
from flask import Flask

from flask_knitperf import CacheOptimizer, KnitPerf

from ..corpus import pandas_idioms as corpus
from ..harness.outcome import Grid, Outcome

QUICK_BUILDERS = 3
KINDS = ("common", "array", "force")


def run(quick: bool = False) -> Outcome:
    """Measure."""
    logging.getLogger("flask_knitperf").setLevel(logging.CRITICAL)
    outcome = Outcome()
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        app = Flask("mill")
        app.config.update(KNITPERF_STATE_DIR=folder, KNITPERF_CACHE_SHARED_MAX_MB=1000)
        perf = KnitPerf(app)
        with app.app_context():
            for name, optimizer in (("heap", CacheOptimizer(max_mb=1000)), ("shared", perf.cache)):
                lines += _judge(outcome, name, optimizer, quick)
        app.extensions["knitperf"].close()
    heads = ("where", "kind", "idioms", "different on a hit")
    outcome.grids.append(Grid("Idioms by kind", heads, tuple(lines)))
    return outcome


def _judge(
    outcome: Outcome, where: str, optimizer: CacheOptimizer, quick: bool
) -> list[tuple[str, ...]]:
    loads: dict[str, Any] = {}
    mapped: list[int] = []

    def get(builder: Any) -> Any:
        load = loads.get(builder.name)
        if load is None:
            load = loads[builder.name] = optimizer.cached(
                namespace=builder.name, share=where == "shared"
            )(builder.build)
            load()
            mapped.append(
                optimizer.get_cache_statistics()["namespaces"][builder.name]["mapped_bytes"]
            )
        return load()

    builders = list(corpus.BUILDERS.values())[: QUICK_BUILDERS if quick else None]
    faults = corpus.check(get, clear=optimizer.clear, builders=builders)
    kinds = {idiom.name: idiom.kind for idiom in corpus.IDIOMS}
    failed = {fault.partition(" ")[0] for fault in faults}
    poisoned = [fault for fault in faults if "cached value" in fault]
    count = Counter(kinds[name] for name in failed)
    total = Counter(kinds.values())
    outcome.judge(f"cache_idioms.{where}",
                  f"idioms with another result on a hit, {where}, pandas {pd.__version__}",
                  "0", f"{count['common']} of {total['common']}", count["common"] == 0)  # fmt: skip
    outcome.judge(f"cache_idioms.{where}_unchanged", f"idioms that change a cached value, {where}",
                  "0", str(len(poisoned)), not poisoned)  # fmt: skip
    if where == "shared":
        number = sum(size > 0 for size in mapped)
        outcome.judge("cache_idioms.mapped", "frames that were mapped, of those that were shared",
                      "half", f"{number} of {len(mapped)}", 2 * number > len(mapped))  # fmt: skip
    outcome.notes += sorted(
        f"{where}: {fault}" for fault in faults if kinds[fault.partition(" ")[0]] == "common"
    )
    return [(where, kind, str(total[kind]), str(count[kind])) for kind in KINDS]
