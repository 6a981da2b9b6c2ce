"""The founding claim, 93.8 % less memory, on a frame such as it was made for.

The frame of the claim is not kept. This one is a reconstruction: ten thousand orders as demonstrations
make them, with a number for each row, small whole numbers, a price, and two texts that repeat.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from flask_knitperf.frames import plan_dataframe

from .comparison import compare
from .sizes import deep_bytes, true_bytes

ROWS = 10_000


def frame() -> pd.DataFrame:
    """Return the reconstruction."""
    draw = np.random.default_rng(938)
    return pd.DataFrame({
        "order": np.arange(ROWS),
        "quantity": draw.integers(1, 100, ROWS),
        "price": draw.uniform(1, 100, ROWS),
        "status": draw.choice(["open", "shipped", "closed"], ROWS).tolist(),
        "yarn": draw.choice(["cotton", "wool", "silk", "linen"], ROWS).tolist(),
    })  # fmt: skip


def measure() -> dict[str, Any]:
    """Return bytes before and after, as pandas counts and as they are."""
    given = shared(frame())
    found: dict[str, Any] = {"before": {"true": true_bytes(given), "deep": deep_bytes(given)}}
    for name, tolerance in (("lossless", 0.0), ("rounded", 1e-6)):
        plan = plan_dataframe(given, "compact", float_tolerance=tolerance)
        made = plan.apply(given)
        found[name] = {"true": true_bytes(made), "deep": deep_bytes(made),
                       "exact": compare(given, made, tolerance).exact}  # fmt: skip
    return found


def shared(given: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with one object for equal texts, as a file is read and a list is written."""
    for name in given.columns:
        if given[name].dtype == object:
            once: dict[str, str] = {}
            given[name] = pd.Series(
                [once.setdefault(each, each) for each in given[name]], dtype=object
            )
    return given
