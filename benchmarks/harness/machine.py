"""Provenance of a measurement: machine, interpreter, packages and commit."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = (
    "flask", "werkzeug", "pandas", "numpy", "gunicorn", "waitress", "prometheus-flask-exporter",
    "psutil",
)  # fmt: skip


def describe() -> dict[str, Any]:
    """Return processor, memory, system, interpreter, packages, commit and time."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1024**3, 1),
        "system": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: number for name in _PACKAGES if (number := _version(name))},
        "commit": commit(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def commit() -> str:
    """Return the short commit, followed by ``+`` if the package has uncommitted changes."""
    name = _git("rev-parse", "--short=10", "HEAD") or "unknown"
    return name + ("+" if _git("status", "--porcelain", "--", "flask_knitperf") else "")


def _git(*words: str) -> str:
    try:
        process = subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return process.stdout.strip()


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or "unknown"
    for line in text.splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
