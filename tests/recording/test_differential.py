"""The same requests on the fast path in C, in Python, and all on the slow path have the same totals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flask_knitperf.recording import fastpath

SEED = 3
ROOT = Path(__file__).parents[2]


def start(how: str, **environ: str) -> subprocess.Popen[str]:
    """Start a program that serves the requests."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.recording.differential", how, str(SEED)],
        cwd=ROOT, env={**os.environ, **environ}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def read(program: subprocess.Popen[str]) -> dict[str, Any]:
    output, _ = program.communicate()
    assert program.returncode == 0
    result: dict[str, Any] = json.loads(output)
    return result


@pytest.mark.skipif(not fastpath.COMPILED, reason="_speedups.c was not built on this machine")
def test_every_path_records_the_same_of_the_same_requests() -> None:
    programs = start("fast"), start("fast", KNITPERF_PURE_PYTHON="1"), start("slow")
    in_c, in_python, slow = map(read, programs)
    assert in_c.pop("compiled") and not in_python.pop("compiled") and slow.pop("compiled")
    assert slow["failures"] == {} and slow["in flight"] == 0 and len(slow["totals"]) > 100
    assert slow["costs"] == slow["timed"] > 10
    assert slow.pop("slow") == slow["started"] > 1000
    assert in_c.pop("slow") == in_python.pop("slow") < slow["started"] / 2
    for key, value in slow["totals"].items():
        assert in_c["totals"].get(key) == value, key
        assert in_python["totals"].get(key) == value, key
    assert in_c == slow and in_python == slow
