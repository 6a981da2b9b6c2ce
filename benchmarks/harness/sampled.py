"""Report on an application in this process, with its samples."""

from __future__ import annotations

import time
from typing import Any

from flask import Flask

_PUBLISHED_S = 1.2
"""Time within which the samples of ended requests are published."""


def sampled_report(app: Flask) -> dict[str, Any]:
    """Return the report on the run of an application once its samples, if any, are published."""
    if app.config.get("KNITPERF_SAMPLER"):
        time.sleep(_PUBLISHED_S)
    report: dict[str, Any] = app.extensions["knitperf"].documents.report("run")
    return report
