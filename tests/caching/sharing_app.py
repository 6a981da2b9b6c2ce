"""An application with a cached function, which a test starts in several processes.

It is run as a script: ``STATE`` is the state directory, ``LOG`` a file with a line for each load, and
the arguments are statements to be run.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import numpy as np
import pandas as pd
from flask import Flask

from flask_knitperf import KnitPerf

SHARE_BYTES = 1000
app = Flask("mill")
app.config.update(KNITPERF_STATE_DIR=os.environ["STATE"], KNITPERF_CACHE_SHARE_BYTES=SHARE_BYTES)
app.config.update(json.loads(os.environ.get("CONFIG", "{}")))
perf = KnitPerf(app)


def note(line: Any) -> None:
    with open(os.environ["LOG"], "a") as file:
        file.write(f"{line}\n")


@perf.cache.cached(tags=["orders"])
def frame(seed: int, seconds: float = 0.0, rows: int = 1000) -> pd.DataFrame:
    note(seed)
    time.sleep(seconds)
    return pd.DataFrame({"seed": np.full(rows, seed), "text": ["knit"] * rows})


@perf.cache.cached(ttl=0.5)
def short_lived(seed: int) -> pd.DataFrame:
    note(seed)
    return pd.DataFrame({"seed": np.full(1000, seed)})


@perf.cache.cached(share=True)
def small(seed: int) -> int:
    note(seed)
    return seed


@perf.cache.cached(share=False)
def private(seed: int) -> pd.DataFrame:
    note(seed)
    return pd.DataFrame({"seed": np.full(1000, seed)})


@perf.cache.cached
def of_file(path: str) -> pd.DataFrame:
    note("file")
    with open(path) as file:
        return pd.DataFrame({"seed": np.full(1000, int(file.read()))})


class Order:
    def __init__(self) -> None:
        self.lines = list(range(1000))


@perf.cache.cached
def order(seed: int) -> Order:
    note(seed)
    return Order()


@perf.cache.cached
async def awaited(seed: int) -> pd.DataFrame:
    note(seed)
    return pd.DataFrame({"seed": np.full(1000, seed)})


def total() -> Any:
    return perf.cache.get_cache_statistics()["total"]


if __name__ == "__main__":
    with app.app_context():
        for statement in sys.argv[1:]:
            exec(statement)
