"""What is planted in the memory of ten mills is found: the notes that leak, the cycles that pause.

It shows over many requests only. So the quick endpoints of each sick mill are asked 14,000 times, in a
random order, of two workers of gunicorn. The notes must be suspected to leak, the session churn must be
told for its collections and not for a leak, and nobody else may be suspected.
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
from ..harness.demo_mill import SEEDS, named, served, verdicts
from ..harness.outcome import Grid, Outcome

REQUESTS = 14_000
QUICK = ("leak", "cycles", "health", "stock", "search", "create", "cancel", "weekly", "suppliers",
         "roll", "redirect", "good_cache", "large_json", "flaky", "async", "key_mismatch")  # fmt: skip
LEAK = "LEAK_SUSPECTED"


@dataclass
class Tried:
    """One mill: what its report said, held against the key.

    Attributes:
        plants: that must be found.
        found: of those, how many were.
        missed: what was not said, and of whom.
        blamed: who was suspected of a leak and has none.
        odd: impossible values.
        seconds: how long it took.
    """

    plants: int = 0
    found: int = 0
    missed: list[str] = field(default_factory=list)
    blamed: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)
    seconds: float = 0.0


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    seeds = SEEDS[1:2] if quick else SEEDS
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            results.append(_try(Path(folder), seed, 2_000 if quick else REQUESTS))
            print(f"   seed {seed}: {results[-1]}", flush=True)
    plants, found = sum(t.plants for t in results), sum(t.found for t in results)
    outcome.judge("memory_plants.found", f"plants marked memory, {len(seeds)} seeds", "each",
                  f"{found} of {plants}", found == plants > 0)  # fmt: skip
    blamed = sum(len(t.blamed) for t in results)
    outcome.judge("memory_plants.blamed", "leaks suspected elsewhere, churn of cycles included", "none",
                  str(blamed), not blamed)  # fmt: skip
    odd = sum(len(t.odd) for t in results)
    outcome.judge(
        "memory_plants.values", "impossible values in these reports", "none", str(odd), not odd
    )
    lines = tuple(
        (str(seed), f"{t.found} of {t.plants}", str(len(t.blamed)), f"{t.seconds:.0f} s")
        for seed, t in zip(seeds, results, strict=True)
    )
    outcome.grids.append(Grid("Mills", ("seed", "found", "blamed", "took"), lines))
    for seed, tried in zip(seeds, results, strict=True):
        outcome.notes += [
            f"seed {seed}: {said}" for said in tried.missed + tried.blamed + tried.odd
        ]
    return outcome


def _try(folder: Path, seed: int, requests: int) -> Tried:
    """Serve one mill, ask it, and hold its report against the key."""
    began, laid = time.monotonic(), plan(seed)
    settings = Settings(data=folder / f"data-{seed}", seed=seed)
    with served(folder / f"state-{seed}", settings, laid, 2) as ask:
        listed = traffic.requests(laid, requests, seed, only=QUICK)
        random.Random(seed).shuffle(listed)
        traffic.drive(ask.address, listed, clients=2)
        time.sleep(8.0)  # the last judgement
        document = ask.report()
    tried, told = Tried(odd=impossible(document)), verdicts(document)
    leaking = set()
    for plant in laid.plants:
        wanted = plant.sees.get("memory", ()) if plant.kind in QUICK else ()
        said = [row["type"] for row in told.get(plant.endpoint, [])]
        tried.plants += len(wanted)
        tried.found += sum(kind in said for kind in wanted)
        tried.missed += [f"missed {plant.kind} ({plant.endpoint}): no {kind}; {said}"
                         for kind in wanted if kind not in said]  # fmt: skip
        if LEAK in wanted:
            leaking.add(plant.endpoint)
    for endpoint, rows in told.items():
        if endpoint not in leaking and any(row["type"] == LEAK for row in rows):
            tried.blamed.append(f"blamed {named(laid, endpoint)}: {LEAK}")
    tried.seconds = time.monotonic() - began
    return tried
