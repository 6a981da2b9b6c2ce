"""The heat map of a chart: how many requests of each slot took how long, as a picture and a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..core.units import count, duration
from . import Values
from .chart import Box, TimeAxis, chart, decades, grid, logarithmic, row
from .png import SHADES, data_url, shades_png

if TYPE_CHECKING:
    from ..reports.documents.charts import DeployRow, Heat

_MIN_MS, _MIN_RATIO = 0.001, 1.1


def heatmap(
    heat: Heat, starts: Sequence[int], plot: Box, axis: TimeAxis, deploys: Sequence[DeployRow],
    limit_ms: float | None = None,
) -> Values | None:  # fmt: skip
    """Return the values of a heat map, ``None`` without requests.

    Args:
        heat: requests by point and band.
        starts: start of each point, in seconds since the epoch.
        plot: box of the chart.
        axis: its axis of time.
        deploys: that it marks.
        limit_ms: threshold, drawn as a line.
    """
    upper = [max(_MIN_MS, ms) for ms in heat["upper_ms"]]
    if not upper:
        return None
    ratio = max(_MIN_RATIO, upper[-1] / upper[-2]) if len(upper) > 1 else _MIN_RATIO
    low, high = upper[0] / ratio, upper[-1]
    y = logarithmic(plot, low, high)
    inside = limit_ms is not None and low < limit_ms < high
    return chart(
        plot, axis, name="heat",
        label=f"Requests by response time, from {duration(low)} to {duration(high)} on a log scale",
        grid=grid(decades(low, high), y), deploys=axis.deploys(deploys),
        limit={"y": y(limit_ms), "text": duration(limit_ms)} if inside and limit_ms else None,
        image=_image(heat, starts, plot, axis), head=("requests", "most in", "slowest in"),
        rows=[
            row(at, _cells(upper, counts, ratio))
            for at, counts in zip(starts, heat["counts"], strict=True)
        ],
    )  # fmt: skip


def _image(heat: Heat, starts: Sequence[int], plot: Box, axis: TimeAxis) -> Values:
    """Return the picture, which covers the slots of the axis."""
    slot = axis.slot
    first, last = int(axis.begins // slot), -int(-axis.ends // slot)
    bands = len(heat["upper_ms"])
    numbers = {n for counts in heat["counts"] for n in counts}
    most = max(numbers, default=0)
    shades = {n: _shade(n, most) for n in numbers}
    pixels = [bytearray(last - first) for _ in range(bands)]
    for at, counts in zip(starts, heat["counts"], strict=True):
        for band, n in enumerate(counts):
            if first <= at // slot < last:
                pixels[bands - 1 - band][at // slot - first] = shades[n]
    left = axis.x(first * slot)
    return {
        "href": data_url(shades_png([bytes(line) for line in pixels])), "x": left,
        "width": round(axis.x(last * slot) - left, 1), "y": plot.top,
        "height": plot.bottom - plot.top,
    }  # fmt: skip


def _shade(n: int, most: int) -> int:
    """Return the shade of a number of requests; a single one is visible."""
    if not n:
        return 0
    share = math.log1p(n) / math.log1p(most)
    return max(2, round(share * (SHADES - 1)))


def _cells(upper: Sequence[float], counts: Sequence[int], ratio: float) -> list[str]:
    filled = [band for band, n in enumerate(counts) if n]
    if not filled:
        return [count(0, "request"), "", ""]
    largest = max(filled, key=lambda band: counts[band])
    return [
        count(sum(counts), "request"), _band(upper[largest], ratio), _band(upper[filled[-1]], ratio)
    ]  # fmt: skip


def _band(upper: float, ratio: float) -> str:
    return f"{duration(upper / ratio)} to {duration(upper)}"
