"""The functions of the script of the pages, without a browser."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from flask_knitperf.core import units
from flask_knitperf.render.chart import time_text

NODE = shutil.which("node")
SCRIPT = Path(__file__).with_name("script")
pytestmark = pytest.mark.skipif(NODE is None, reason="there is no Node.js on this machine")
COMPARED = """
import {{ script }} from "./module.mjs";
const {{ durationText, rateText, timeText }} = script;
const {{ amounts, times }} = {inputs};
console.log(JSON.stringify({{
  durations: amounts.map(durationText), rates: amounts.map(rateText),
  times: times.map(([at, form]) => timeText(at, form)),
}}));
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    assert NODE is not None
    return subprocess.run(
        [NODE, *arguments], cwd=SCRIPT, capture_output=True, encoding="utf-8", timeout=120,
        env={**os.environ, "TZ": "UTC"}, check=False,
    )  # fmt: skip


def test_its_functions_pass_their_tests() -> None:
    files = sorted(path.name for path in SCRIPT.glob("*.test.mjs"))
    ran = run("--test", *files)
    assert files and ran.returncode == 0, ran.stdout + ran.stderr


def test_it_prints_figures_and_times_as_the_server_does() -> None:
    amounts = [digit * 10.0**power for power in range(-6, 8) for digit in (0, 1, 1.37, 4.21, 9.97)]
    forms = [(at, form) for at in (0, 1_700_006_400, 1_709_597_105)
             for form in ("second", "time", "day", "full")]  # fmt: skip
    inputs = json.dumps({"amounts": amounts, "times": forms})
    ran = run("--input-type=module", "--eval", COMPARED.format(inputs=inputs))
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {
        "durations": [units.duration(ms) for ms in amounts],
        "rates": [units.rate(per_second, "request") for per_second in amounts],
        "times": [time_text(at, form) for at, form in forms],
    }
