"""What the report of a sick mill calls avoidable, against what repairing it really saved.

The sick mill is asked a list of requests and then for its report; what that calls avoidable is the
prediction, made before anything was repaired. The repaired mill is asked the same list. What its answers
took less, as the client saw it, is what was saved.
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
_BESIDE = ("health", "stock", "search")
WITHIN = 0.25


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome, lines = Outcome(), []
    ratios: list[float] = []
    missing: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in (0,) if quick else (0, 1, 2):
            laid = plan(seed)
            settings = Settings(data=Path(folder) / f"mill-{seed}", seed=seed)
            generate(settings.data, settings.scale, seed)
            listed = traffic.requests(
                laid, 40 if quick else 160, seed, least=8 if quick else 24, only=(*KINDS, *_BESIDE)
            )
            found = compare.run(settings, serve.Serving(gunicorn=True, workers=2), listed, 1)
            savings = found.savings()
            for kind in KINDS:
                endpoint = laid.places[kind].endpoint
                if endpoint not in savings:
                    missing.append(f"seed {seed}: nothing was predicted for {endpoint}")
                    continue
                told, saved = savings[endpoint]
                ratios.append(told / saved)
                lines.append(
                    (str(seed), endpoint, f"{told:.2f}", f"{saved:.2f}", f"{told / saved:.2f}")
                )
            missing += found.differences()
    worst = max(ratios, key=lambda ratio: abs(ratio - 1), default=0.0)
    outcome.judge(
        "savings", "saving predicted from the sick run against the saving measured", "within ± 25 %",
        f"worst {worst:.2f} of {len(ratios)}", not missing and abs(worst - 1) <= WITHIN,
    )  # fmt: skip
    heads = ("seed", "endpoint", "predicted s", "saved s", "ratio")
    outcome.grids.append(Grid("Savings", heads, tuple(lines)))
    outcome.notes += missing
    outcome.details = {"ratios": [round(ratio, 3) for ratio in ratios]}
    return outcome
