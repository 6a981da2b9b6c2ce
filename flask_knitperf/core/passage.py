"""Former path of :mod:`flask_knitperf.recording.fastpath`, which the documentation of 0.1 named."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    fastpath = import_module("flask_knitperf.recording.fastpath")
    value = getattr(fastpath, name)
    warnings.warn(
        f"import {name} from flask_knitperf.recording.fastpath; this path goes with the next release",
        DeprecationWarning,
        stacklevel=2,
    )
    return value
