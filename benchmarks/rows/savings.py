"""Avoidable time that the report of a sick mill predicts, against the saving of the repair.

The sick mill answers a list of requests; the avoidable time in its report is the prediction, made before
any repair. The repaired mill answers the same list. The difference of the response times at the client
is the saving.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from demo_app import compare, serve, traffic
from demo_app.mill import generate
from demo_app.plants import plan
from demo_app.settings import Settings

from ..harness.outcome import Grid, Outcome

KINDS = ("workbooks", "reread")
_BACKGROUND = ("health", "stock", "search")
WITHIN = 0.25


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome, lines = Outcome(), []
    ratios: list[float] = []
    missing: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in (0,) if quick else (0, 1, 2):
            key = plan(seed)
            settings = Settings(data=Path(folder) / f"mill-{seed}", seed=seed)
            generate(settings.data, settings.scale, seed)
            requests = traffic.requests(
                key,
                40 if quick else 160,
                seed,
                least=8 if quick else 24,
                only=(*KINDS, *_BACKGROUND),
            )
            comparison = compare.run(settings, serve.Serving(gunicorn=True, workers=2), requests, 1)
            savings = comparison.savings()
            for kind in KINDS:
                endpoint = key.places[kind].endpoint
                if endpoint not in savings:
                    missing.append(f"seed {seed}: no prediction for {endpoint}")
                    continue
                predicted, saved = savings[endpoint]
                ratio = predicted / saved
                ratios.append(ratio)
                lines.append(
                    (str(seed), endpoint, f"{predicted:.2f}", f"{saved:.2f}", f"{ratio:.2f}")
                )
            missing += comparison.differences()
    worst = max(ratios, key=lambda ratio: abs(ratio - 1), default=0.0)
    outcome.judge(
        "savings", "saving predicted from the sick run against the saving measured", "within ± 25 %",
        f"worst {worst:.2f} of {len(ratios)}", not missing and abs(worst - 1) <= WITHIN,
    )  # fmt: skip
    heads = ("seed", "endpoint", "predicted s", "saved s", "ratio")
    outcome.grids.append(Grid("Savings", heads, tuple(lines)))
    outcome.notes += missing
    return outcome
