"""Ten mills, each sick in other places: every planted problem is found, and no healthy endpoint blamed.

The demo's plan is the answer key; nobody who judges sees it. For each seed the sick mill is served by
gunicorn with four workers, its own traffic is sent, and the report's verdicts are held against the key:
the types, and the cause where this part of the project can measure it. Then the repaired mill, which
must come out clean, and the sick one in threads, where the slowest endpoint runs beside quick ones.
"""

from __future__ import annotations

import re
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demo_app import traffic
from demo_app.plants import Plan, Plant, plan
from demo_app.settings import Settings

from ..harness.client import impossible
from ..harness.demo_mill import SEEDS, named, served, verdicts
from ..harness.outcome import Grid, Outcome

MEASURED = {
    "own_cpu",
    "waiting",
    "gc",
    "section",
    "early_hook",
    "gil_contention",
    "file_read",
    "sql",
}
"""Causes that this part of the project can tell; a plant with another one only has to be found."""
_SEVERE = ("CRITICAL", "WARNING")
_BESIDE = ("workbooks", "ping", "health", "stock", "suppliers", "search", "roll", "weekly")


@dataclass
class Tried:
    """One mill: what its report said, held against the key.

    Attributes:
        plants: plants that must be found.
        found: of those, how many were, with their cause.
        why_plants: plants marked *why*.
        why_found: of those, how many were, with their line or file.
        query_plants: plants marked *queries*.
        query_found: of those, how many were, with their line.
        wrong: what was missed, or blamed on a healthy endpoint.
        odd: impossible values.
        seconds: how long it took.
    """

    plants: int = 0
    found: int = 0
    why_plants: int = 0
    why_found: int = 0
    query_plants: int = 0
    query_found: int = 0
    wrong: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)
    seconds: float = 0.0


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    seeds = SEEDS[1:2] if quick else SEEDS
    results: dict[str, list[Tried]] = {"sick": [], "fixed": [], "beside": []}
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            for kind, each in results.items():
                each.append(_try(Path(folder), seed, kind, quick))
                print(f"   seed {seed}, {kind}: {each[-1]}", flush=True)
    _judge(outcome, results, len(seeds))
    lines = tuple(
        (str(seed), f"{sick.found} of {sick.plants}", str(len(sick.wrong)), str(len(fixed.wrong)),
         f"{beside.found} of {beside.plants}", str(len(beside.wrong)),
         f"{sick.seconds + fixed.seconds + beside.seconds:.0f} s")
        for seed, sick, fixed, beside in zip(seeds, *results.values(), strict=True)
    )  # fmt: skip
    heads = ("seed", "found", "wrong", "wrong when fixed", "found beside", "wrong beside", "took")
    outcome.grids.append(Grid("Mills", heads, lines))
    for kind, each in results.items():
        for seed, tried in zip(seeds, each, strict=True):
            outcome.notes += [f"seed {seed}, {kind}: {said}" for said in tried.wrong + tried.odd]
    return outcome


def _judge(outcome: Outcome, results: dict[str, list[Tried]], seeds: int) -> None:
    sick, fixed, beside = results["sick"], results["fixed"], results["beside"]
    plants, found = sum(t.plants for t in sick), sum(t.found for t in sick)
    outcome.judge("plants.found", f"plants marked foundation, {seeds} seeds", "each, with its cause",
                  f"{found} of {plants}", found == plants > 0)  # fmt: skip
    whys, told = sum(t.why_plants for t in sick), sum(t.why_found for t in sick)
    outcome.judge("plants.why", f"plants marked why, {seeds} seeds", "each, with its line or file",
                  f"{told} of {whys}", told == whys > 0)  # fmt: skip
    asked, seen = sum(t.query_plants for t in sick), sum(t.query_found for t in sick)
    outcome.judge("plants.queries", f"plants marked queries, {seeds} seeds", "each, with its line",
                  f"{seen} of {asked}", seen == asked > 0)  # fmt: skip
    for name, what, each in (
        ("healthy", "verdicts on healthy endpoints, sick mill", sick),
        ("fixed", "verdicts under DEMO_FIXED=1", fixed),
        ("beside", "verdicts on healthy endpoints beside a slow one in threads", beside),
    ):
        blamed = sum(said.startswith("blamed") for tried in each for said in tried.wrong)
        outcome.judge(f"plants.{name}", what, "none", str(blamed), not blamed)
    victims, seen = sum(t.plants for t in beside), sum(t.found for t in beside)
    outcome.judge("plants.neighbour", "what runs beside a slow one is said to be slowed by it",
                  "in every seed", f"{seen} of {victims}", seen == victims > 0)  # fmt: skip
    odd = sum(len(tried.odd) for each in results.values() for tried in each)
    outcome.judge(
        "plants.values", "impossible values in all these reports", "none", str(odd), not odd
    )


# -- one mill --------------------------------------------------------------------------------------


def _try(folder: Path, seed: int, kind: str, quick: bool) -> Tried:
    began = time.monotonic()
    laid = plan(seed)
    settings = Settings(data=folder / f"data-{seed}", seed=seed, fixed=kind == "fixed")
    with served(
        folder / f"state-{seed}-{kind}", settings, laid, 0 if kind == "beside" else 4
    ) as ask:
        if kind == "beside":
            listed = traffic.requests(laid, 150 if quick else 400, seed, least=12, only=_BESIDE)
            clients = 8
        else:
            listed = traffic.requests(laid, 900 if quick else traffic.FULL, seed,
                                      least=5 if quick else 0, stuck=kind == "sick")  # fmt: skip
            clients = 4
        answers = traffic.drive(ask.address, listed, clients=clients)
        time.sleep(2.5)
        document = ask.report()
    tried = Tried(odd=impossible(document))
    if kind == "beside":
        _against_neighbours(tried, laid, document)
    else:
        _against_key(tried, laid, document, sick=kind == "sick")
    lost = [a.request.endpoint for a in answers if not a.status and a.request.kind != "stuck"]
    if lost:
        tried.wrong.append(f"{len(lost)} requests got no answer: {sorted(set(lost))}")
    tried.seconds = time.monotonic() - began
    return tried


# -- against the key -------------------------------------------------------------------------------


def _against_key(tried: Tried, laid: Plan, document: Any, *, sick: bool) -> None:
    told = verdicts(document)
    allowed: dict[str, set[str]] = {}
    for plant in laid.plants:
        allowed[plant.endpoint] = {*plant.allowed, *(plant.verdicts if sick else ())}
        if sick and plant.part == "foundation":
            tried.plants += 1
            said = _missed(plant, told.get(plant.endpoint, []), document)
            tried.found += not said
            tried.wrong += [f"missed {plant.kind} ({plant.endpoint}): {said}"] if said else []
        for part in ("why", "queries") if sick else ():
            if part in plant.sees:
                said = _missed_part(plant, part, told.get(plant.endpoint, []))
                if part == "why":
                    tried.why_plants += 1
                    tried.why_found += not said
                else:
                    tried.query_plants += 1
                    tried.query_found += not said
                missed = f"missed {part} of {plant.kind} ({plant.endpoint}): {said}"
                tried.wrong += [missed] if said else []
    for endpoint, rows in told.items():
        for row in rows:
            if row["type"] not in allowed.get(endpoint, set()) and row["severity"] in _SEVERE:
                tried.wrong.append(f"blamed {named(laid, endpoint)}: {row['type']}: {row['text']}")


def _missed(plant: Plant, rows: list[dict[str, Any]], document: Any) -> str:
    """Return what is missing of what must be said about a plant, empty if nothing is."""
    if plant.kind == "stuck":
        killed = sum(r["killed"] for r in document["endpoints"] if r["endpoint"] == plant.endpoint)
        return "" if killed == 1 else f"{killed} were counted as killed, not 1"
    for kind in plant.sees["foundation"]:
        row = next((row for row in rows if row["type"] == kind), None)
        if row is None:
            return f"no {kind}; there are {[row['type'] for row in rows]}"
        said = _cause(plant, row)
        if said:
            return said
    return ""


_WITH_LINES = ("REPEATED_FILE_READ", "N_PLUS_ONE", "SLOW_QUERY")


def _missed_part(plant: Plant, part: str, rows: list[dict[str, Any]]) -> str:
    """Return what is missing of what one part must say about a plant."""
    lines = {"/".join(line.split("/")[-2:]) for line in plant.where}
    for kind in plant.sees[part]:
        row = next((row for row in rows if row["type"] == kind), None)
        if row is None:
            return f"no {kind}; there are {[row['type'] for row in rows]}"
        named = {cause["where"] for cause in row["why"] if cause["where"]}
        if kind in _WITH_LINES and (not named or not named <= lines):
            return f"{kind} at {named}, not at {lines}"
    return ""


def _cause(plant: Plant, row: dict[str, Any]) -> str:
    """Return what is wrong with a verdict's cause; a service's method counts as its own Python."""
    if plant.cause not in MEASURED:
        return ""
    why = [(cause["cause"], cause["share"] or 0.0, cause["detail"] or "") for cause in row["why"]]
    same = {plant.cause, "section"} if plant.cause == "own_cpu" else {plant.cause}
    if not why or why[0][0] not in same:
        return f"{row['type']} for {why[:2]}, not {plant.cause}"
    share = sum(each for cause, each, _ in why if cause in same)
    if share < plant.min_share:
        return f"{plant.cause} has {share:.0%}, not {plant.min_share:.0%}"
    named = plant.kind in ("early_hook", "service_loop")
    function = plant.function.split(".")[-1]
    if named and not any(function in detail for _, _, detail in why):
        return f"{plant.function} is not named in {why[:2]}"
    return ""


def _against_neighbours(tried: Tried, laid: Plan, document: Any) -> None:
    """Hold a report of threads against the key: who is slowed is a victim, nobody else is blamed."""
    told = verdicts(document)
    culprit = re.sub(r"[._]", " ", laid.places["workbooks"].endpoint).lower()
    for kind in _BESIDE[1:]:
        endpoint = laid.places[kind].endpoint
        rows = told.get(endpoint, [])
        for row in rows:
            if row["type"] != "SLOWED_BY":
                tried.wrong.append(f"blamed {endpoint} ({kind}): {row['type']}: {row['text']}")
        if kind == "ping":
            tried.plants += 1
            named = any(
                row["type"] == "SLOWED_BY" and culprit in row["text"].lower() for row in rows
            )
            tried.found += named
            if not named:
                tried.wrong.append(f"missed ping: it is not said to be slowed by {culprit}: {rows}")
