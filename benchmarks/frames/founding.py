"""The founding claim, 93.8 % less memory, on a frame like that of the claim.

The original frame is lost. This one is a reconstruction: ten thousand orders as demos have them,
with a number for each row, small whole numbers, a price, and two texts that repeat.
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
    """Return bytes before and after, as pandas counts them and each object once."""
    original = shared(frame())
    document: dict[str, Any] = {
        "before": {"true": true_bytes(original), "deep": deep_bytes(original)}
    }
    for name, tolerance in (("lossless", 0.0), ("rounded", 1e-6)):
        plan = plan_dataframe(original, "compact", float_tolerance=tolerance)
        smaller = plan.apply(original)
        document[name] = {"true": true_bytes(smaller), "deep": deep_bytes(smaller),
                          "exact": compare(original, smaller, tolerance).exact}  # fmt: skip
    return document


def shared(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with one object for equal texts, like a frame that was read from a file."""
    for name in frame.columns:
        if frame[name].dtype == object:
            texts: dict[str, str] = {}
            frame[name] = pd.Series(
                [texts.setdefault(text, text) for text in frame[name]], dtype=object
            )
    return frame
