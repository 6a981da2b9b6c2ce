"""Requests that retain memory or not, and a hunt for one of them in a separate, small process."""

from __future__ import annotations

import ctypes
import pickle
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from flask_knitperf.experiments.leakhunt import python_phase
from flask_knitperf.experiments.leakhunt.verdict import PythonPhase

KEPT: list[Any] = []
REQUESTS = 90


def line_of(mark: str) -> int:
    lines = Path(__file__).read_text().splitlines()
    return next(at for at, line in enumerate(lines, 1) if line.endswith(f"# {mark}"))


def is_own(file: str) -> bool:
    return file == __file__


def ignore_progress(*_: float) -> None:
    pass


def retaining() -> int:
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
    cycle: list[Any] = [bytes(30_000)]  # garbage
    cycle.append(cycle)
    return 200


class Link:
    """Link of a chain that refers to the previous one."""

    def __init__(self, before: Link | None) -> None:
        self.before = before
        self.data = bytes(900)  # linked


def chaining() -> int:
    KEPT[:] = [Link(KEPT[0] if KEPT else None)]
    return 200


def failing() -> int:
    return 503


def allocating() -> int:
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc(3_000)  # allocated
    return 200


def in_subprocess(name: str, requests: int = REQUESTS) -> PythonPhase:
    """Run the first phase for one of them in a separate process, as the command does."""
    code = f"import {__name__} as leaking; leaking.write_python_phase({name!r}, {requests})"
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE)
    result: PythonPhase = pickle.loads(done.stdout)
    return result


def write_python_phase(name: str, requests: int) -> None:
    result = python_phase.run(globals()[name], is_own, ignore_progress, requests)
    sys.stdout.buffer.write(pickle.dumps(result))
