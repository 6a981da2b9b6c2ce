"""Requests that use pandas and retain memory or not; apart, so that other hunts do without pandas."""

from __future__ import annotations

import pickle
import subprocess
import sys
import weakref
from typing import Any

import pandas as pd

from flask_knitperf.experiments.leakhunt import python_phase
from flask_knitperf.experiments.leakhunt.verdict import PythonPhase

from .leaking import ignore_progress

FRAME = pd.DataFrame({"pounds": range(2_000), "style": ["CT1001", "CT2002"] * 1_000})
CACHE: dict[str, pd.DataFrame] = {}
VIEWS: list[Any] = []
LISTENERS: list[weakref.ref[Any]] = []


def clear() -> None:
    CACHE.clear()
    VIEWS.clear()
    LISTENERS.clear()


def reading() -> int:
    FRAME["pounds"].sum()
    FRAME["style"]
    return 200


def assigning() -> int:
    FRAME["copy"] = FRAME["pounds"] * 2
    return 200


def masking() -> int:
    """Select rows: libraries below keep some small blocks for each request, up to a number."""
    pounds = FRAME["pounds"]
    str(pounds[pounds > 3].sum() + pounds.iloc[3])
    FRAME.head(50).merge(FRAME.tail(50), on="style").sort_values("style", inplace=True)
    return 200


def caching() -> int:
    if "frame" not in CACHE:  # made by a request, after the objects of the application are frozen
        CACHE["frame"] = FRAME.copy()
    CACHE["frame"]["pounds"].mean()
    return 200


def retaining_views() -> int:
    VIEWS.append(FRAME["pounds"].head())
    return 200


class Listener:
    """Object that is freed at the end of its request."""


def listening() -> int:
    LISTENERS.append(weakref.ref(Listener()))
    return 200


def in_subprocess(name: str, requests: int) -> PythonPhase:
    """Run the first phase for one of them in a separate process, as the command does."""
    code = f"import {__name__} as leaking; leaking.write_python_phase({name!r}, {requests})"
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE)
    result: PythonPhase = pickle.loads(done.stdout)
    return result


def write_python_phase(name: str, requests: int) -> None:
    result = python_phase.run(
        globals()[name], lambda file: file == __file__, ignore_progress, requests
    )
    sys.stdout.buffer.write(pickle.dumps(result))
