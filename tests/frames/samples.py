"""Values and frames that several tests use."""

from __future__ import annotations

import numpy as np
import pandas as pd

from flask_knitperf.frames.dtype_selection import LEVELS

LEVEL_NAMES = list(LEVELS)
NAN = float("nan")
TEXT = [f"yarn {n % 4}" for n in range(100)]


def distinct_texts(count: int, of: int) -> list[str]:
    return [f"value number {n % of:06d}" for n in range(count)]


def mill() -> pd.DataFrame:
    return pd.DataFrame({
        "style": TEXT, "pounds": [n * 463 for n in range(100)], "rolls": [n % 7 - 3 for n in range(100)],
        "price": [n / 3 for n in range(100)], "note": [np.nan if n % 5 else "late" for n in range(100)],
    })  # fmt: skip
