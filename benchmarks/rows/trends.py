"""Steps in the daily p95 of an endpoint: those that are found, and those that are not there.

Series of 90 days are drawn: a level with normal noise, with a step of ten percent on a random day or
without one. The noisier ones have spikes: on one day of ten the value is up to three times as high.
"""

from __future__ import annotations

import random

from flask_knitperf.core.steps import steps

from ..harness.outcome import Grid, Outcome

DAYS = 90
STEP = 1.1
NOISES = ((0.03, 0.0), (0.08, 0.1))
"""Noise of a series, and the share of its days with a spike."""
MIN_FOUND, MAX_FALSE = 0.95, 0.02
TOLERANCE = 3
"""Days by which a step may be placed wrongly."""


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome, size, lines = Outcome(), 50 if quick else 2000, []
    generator = random.Random(1)
    seen_share, false_shares = 0.0, []
    for noise, spikes in NOISES:
        seen = false = 0
        for _ in range(size):
            day = generator.randrange(30, DAYS - 8)
            seen += _is_seen(_series(generator, noise, spikes, day), day)
            false += bool(steps(_series(generator, noise, spikes, DAYS)))
        false_shares.append(false / size)
        seen_share = seen_share or seen / size
        lines.append((f"{noise:.0%}", f"{spikes:.0%}", f"{seen / size:.1%}", f"{false / size:.2%}"))
    outcome.judge(
        "trends.found", f"steps of ten percent in {size:,} series of 90 days, noise 3 %",
        f"≥ {MIN_FOUND:.0%}", f"{seen_share:.1%}", seen_share >= MIN_FOUND,
    )  # fmt: skip
    outcome.judge(
        "trends.false", "series without a step that have one, noise 3 %; 8 % with spikes",
        f"≤ {MAX_FALSE:.0%}", ", ".join(f"{share:.2%}" for share in false_shares),
        max(false_shares) <= MAX_FALSE,
    )  # fmt: skip
    outcome.grids.append(
        Grid("Steps of ten percent", ("noise", "days with spikes", "found", "false"), tuple(lines))
    )
    return outcome


def _series(generator: random.Random, noise: float, spikes: float, step: int) -> list[float]:
    """Return daily values, higher from a day on."""
    values = []
    for day in range(DAYS):
        value = 200.0 * (STEP if day >= step else 1.0) * max(0.1, generator.gauss(1.0, noise))
        if generator.random() < spikes:
            value *= generator.uniform(1.2, 3.0)
        values.append(value)
    return values


def _is_seen(values: list[float], day: int) -> bool:
    return any(abs(step.day - day) <= TOLERANCE and step.change > 0 for step in steps(values))
