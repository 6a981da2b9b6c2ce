"""Requests that keep, or do not keep, something; and hunting one in a process that holds little else."""

from __future__ import annotations

import ctypes
import pickle
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from flask_knitperf.experiments.leakhunt.python_phase import traced
from flask_knitperf.experiments.leakhunt.verdict import Traced

KEPT: list[Any] = []
REQUESTS = 90


def line_of(mark: str) -> int:
    lines = Path(__file__).read_text().splitlines()
    return next(at for at, line in enumerate(lines, 1) if line.endswith(f"# {mark}"))


def is_own(file: str) -> bool:
    return file == __file__


def tell(*_: float) -> None:
    pass


def keeping() -> int:
    KEPT.append({"lot": "x" * (1_000 + len(KEPT) % 7)})  # kept
    return 200


@lru_cache(maxsize=70)
def priced(number: int) -> str:
    return f"{number:2000}"


def filling() -> int:
    KEPT[:] = [len(KEPT) and KEPT[0] + 1]
    priced(KEPT[0])
    return 200


def cycling() -> int:
    cycle: list[Any] = [bytes(30_000)]  # waits
    cycle.append(cycle)
    return 200


class Link:
    """One of a chain, of which each holds the one before."""

    def __init__(self, before: Link | None) -> None:
        self.before = before
        self.data = bytes(900)  # linked


def chaining() -> int:
    KEPT[:] = [Link(KEPT[0] if KEPT else None)]
    return 200


def failing() -> int:
    return 503


def taking() -> int:
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc(3_000)  # taken
    return 200


def apart(name: str, requests: int = REQUESTS) -> Traced:
    """Hunt one of them in a process of its own, as the command does."""
    code = f"import {__name__} as found; found.tell_traced({name!r}, {requests})"
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE)
    found: Traced = pickle.loads(done.stdout)
    return found


def tell_traced(name: str, requests: int) -> None:
    sys.stdout.buffer.write(pickle.dumps(traced(globals()[name], is_own, tell, requests)))
