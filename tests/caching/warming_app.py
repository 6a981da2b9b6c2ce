"""An application with functions that are warmed, which a test starts in several processes.

It is run as a script: ``STATE`` is the state directory, ``LOG`` a file with a line for the start and the
end of each load, and the arguments are statements to be run.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from flask import Flask

from flask_knitperf import KnitPerf

app = Flask("mill")
app.config.update(KNITPERF_STATE_DIR=os.environ["STATE"], KNITPERF_CACHE_SHARE_BYTES=1000)
perf = KnitPerf(app)
client = app.test_client()
session: Any = app.extensions["knitperf"]


def note(line: str) -> None:
    with open(os.environ["LOG"], "a") as file:
        file.write(f"{line}\n")


@perf.cache.cached(warm=True, depends=())
def total(style: str) -> str:
    note(f"begin {style}")
    time.sleep(0.02)
    note(f"end {style}")
    return style


@perf.cache.cached(warm=True, depends=())
def frame(style: str) -> pd.DataFrame:
    note(f"begin {style}")
    time.sleep(0.02)
    note(f"end {style}")
    return pd.DataFrame({"style": np.arange(1000)})


app.add_url_rule("/", "index", lambda: "x")
app.add_url_rule("/total/<style>", "total", lambda style: str(total(style)))
app.add_url_rule("/frame/<style>", "frame", lambda style: str(len(frame(style))))


def use(*paths: str) -> None:
    """Request some paths three times."""
    for path in paths * 3:
        client.get(path)


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def statistics() -> Any:
    return perf.cache.get_cache_statistics()["total"]


if __name__ == "__main__":
    for statement in sys.argv[1:]:
        exec(statement)
    session.close()
