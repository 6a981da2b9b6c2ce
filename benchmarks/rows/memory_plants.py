"""The memory problems planted in ten mills are reported: notes that leak, cycles that cause GC pauses.

They show over many requests only. So the quick endpoints of each sick mill receive 14,000 requests, in
random order, by two workers of gunicorn. The notes must be suspected of a leak, the session churn must
be reported for its collections and not for a leak, and no other endpoint may be suspected.
"""

from __future__ import annotations

import random
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from demo_app import traffic
from demo_app.plants import plan
from demo_app.settings import Settings

from ..harness.client import impossible
from ..harness.demo_mill import SEEDS, served, verdicts, with_kind
from ..harness.outcome import Grid, Outcome

REQUESTS = 14_000
QUICK = ("leak", "cycles", "health", "stock", "search", "create", "cancel", "weekly", "suppliers",
         "roll", "redirect", "good_cache", "large_json", "flaky", "async", "key_mismatch")  # fmt: skip
LEAK = "LEAK_SUSPECTED"


@dataclass
class Score:
    """The report of one mill, compared with the key.

    Attributes:
        plants: verdicts that must be reported.
        reported: number of those that were.
        missed: verdicts missed, as sentences.
        blamed: healthy endpoints suspected of a leak, as sentences.
        impossible: impossible values.
        seconds: duration.
    """

    plants: int = 0
    reported: int = 0
    missed: list[str] = field(default_factory=list)
    blamed: list[str] = field(default_factory=list)
    impossible: list[str] = field(default_factory=list)
    seconds: float = 0.0


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    seeds = SEEDS[1:2] if quick else SEEDS
    scores = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            scores.append(_try(Path(folder), seed, 2_000 if quick else REQUESTS))
            print(f"   seed {seed}: {scores[-1]}", flush=True)
    plants, reported = sum(s.plants for s in scores), sum(s.reported for s in scores)
    outcome.judge("memory_plants.found", f"plants marked memory, {len(seeds)} seeds", "each",
                  f"{reported} of {plants}", reported == plants > 0)  # fmt: skip
    blamed = sum(len(s.blamed) for s in scores)
    outcome.judge("memory_plants.blamed", "leaks suspected elsewhere, churn of cycles included", "none",
                  str(blamed), not blamed)  # fmt: skip
    values = sum(len(s.impossible) for s in scores)
    outcome.judge("memory_plants.values", "impossible values in these reports", "none",
                  str(values), not values)  # fmt: skip
    lines = tuple(
        (str(seed), f"{s.reported} of {s.plants}", str(len(s.blamed)), f"{s.seconds:.0f} s")
        for seed, s in zip(seeds, scores, strict=True)
    )
    outcome.grids.append(Grid("Mills", ("seed", "reported", "blamed", "took"), lines))
    for seed, score in zip(seeds, scores, strict=True):
        sentences = score.missed + score.blamed + score.impossible
        outcome.notes += [f"seed {seed}: {sentence}" for sentence in sentences]
    return outcome


def _try(folder: Path, seed: int, requests: int) -> Score:
    """Serve one mill, send requests, and compare its report with the key."""
    start, key = time.monotonic(), plan(seed)
    settings = Settings(data=folder / f"data-{seed}", seed=seed)
    with served(folder / f"state-{seed}", settings, key, 2) as mill:
        mix = traffic.requests(key, requests, seed, only=QUICK)
        random.Random(seed).shuffle(mix)
        traffic.drive(mill.address, mix, clients=2)
        time.sleep(8.0)  # the last judgement
        document = mill.report()
    score, reported = Score(impossible=impossible(document)), verdicts(document)
    leaking = set()
    for plant in key.plants:
        expected = plant.sees.get("memory", ()) if plant.kind in QUICK else ()
        types = [row["type"] for row in reported.get(plant.endpoint, [])]
        score.plants += len(expected)
        score.reported += sum(kind in types for kind in expected)
        score.missed += [f"missed {plant.kind} ({plant.endpoint}): no {kind}; {types}"
                         for kind in expected if kind not in types]  # fmt: skip
        if LEAK in expected:
            leaking.add(plant.endpoint)
    for endpoint, rows in reported.items():
        if endpoint not in leaking and any(row["type"] == LEAK for row in rows):
            score.blamed.append(f"blamed {with_kind(key, endpoint)}: {LEAK}")
    score.seconds = time.monotonic() - start
    return score
