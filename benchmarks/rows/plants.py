"""Ten mills, each sick in other places: every planted problem is reported, no healthy endpoint blamed.

The demo's plan is the answer key, which no analysis sees. For each seed the sick mill is served by
gunicorn with four workers, its traffic is sent, and the report's verdicts are compared with the key: the
types, and the cause where the extension measures it. Then the repaired mill, which must come out clean,
and the sick one in threads, where the slowest endpoint runs concurrently with quick ones.
"""

from __future__ import annotations

import re
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from demo_app import traffic
from demo_app.plants import Plan, Plant, plan
from demo_app.settings import Settings
from flask_knitperf.analysis.judged import VerdictType

from ..harness.client import impossible
from ..harness.demo_mill import SEEDS, served, verdicts, with_kind
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
"""Causes that the extension measures; a plant with another one only has to be reported."""
_SEVERE = ("CRITICAL", "WARNING")
_CONCURRENT = ("workbooks", "ping", "health", "stock", "suppliers", "search", "roll", "weekly")
"""Roles that are served in threads: the slowest one first, then quick ones."""
_WITH_LINES = (
    "REPEATED_FILE_READ", "N_PLUS_ONE", "SLOW_QUERY", "CACHE_PER_USER", "CACHE_KEY_MISMATCH",
)  # fmt: skip
_REPORTED = frozenset(get_args(VerdictType))
"""Types of verdicts that exist: a plant for a later part has another one."""


@dataclass
class Score:
    """The report of one mill, compared with the key.

    Attributes:
        plants: plants that must be reported.
        reported: number of those that were, with their cause.
        why_plants: plants marked *why*.
        why_reported: number of those that were, with their line or file.
        query_plants: plants marked *queries*.
        query_reported: number of those that were, with their line.
        cache_plants: plants marked *caching* whose verdict exists.
        cache_reported: number of those that were, with their line.
        wrong: plants missed, and verdicts on healthy endpoints, as sentences.
        impossible: impossible values.
        seconds: duration.
    """

    plants: int = 0
    reported: int = 0
    why_plants: int = 0
    why_reported: int = 0
    query_plants: int = 0
    query_reported: int = 0
    cache_plants: int = 0
    cache_reported: int = 0
    wrong: list[str] = field(default_factory=list)
    impossible: list[str] = field(default_factory=list)
    seconds: float = 0.0


def run(quick: bool = False) -> Outcome:
    """Measure."""
    outcome = Outcome()
    seeds = SEEDS[1:2] if quick else SEEDS
    scores: dict[str, list[Score]] = {"sick": [], "fixed": [], "concurrent": []}
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            for mode, column in scores.items():
                column.append(_try(Path(folder), seed, mode, quick))
                print(f"   seed {seed}, {mode}: {column[-1]}", flush=True)
    _judge(outcome, scores, len(seeds))
    lines = tuple(
        (str(seed), f"{sick.reported} of {sick.plants}", str(len(sick.wrong)),
         str(len(fixed.wrong)), f"{threads.reported} of {threads.plants}", str(len(threads.wrong)),
         f"{sick.seconds + fixed.seconds + threads.seconds:.0f} s")
        for seed, sick, fixed, threads in zip(seeds, *scores.values(), strict=True)
    )  # fmt: skip
    heads = ("seed", "reported", "wrong", "wrong when fixed", "reported in threads",
             "wrong in threads", "took")  # fmt: skip
    outcome.grids.append(Grid("Mills", heads, lines))
    for mode, column in scores.items():
        for seed, score in zip(seeds, column, strict=True):
            sentences = score.wrong + score.impossible
            outcome.notes += [f"seed {seed}, {mode}: {sentence}" for sentence in sentences]
    return outcome


def _judge(outcome: Outcome, scores: dict[str, list[Score]], seeds: int) -> None:
    sick, fixed, concurrent = scores["sick"], scores["fixed"], scores["concurrent"]
    for name, part, target, fields in (
        ("found", "foundation", "each, with its cause", ("plants", "reported")),
        ("why", "why", "each, with its line or file", ("why_plants", "why_reported")),
        ("queries", "queries", "each, with its line", ("query_plants", "query_reported")),
        ("caching", "caching", "each, with its line", ("cache_plants", "cache_reported")),
    ):
        planted, reported = (sum(getattr(score, field) for score in sick) for field in fields)
        outcome.judge(f"plants.{name}", f"plants marked {part}, {seeds} seeds", target,
                      f"{reported} of {planted}", reported == planted > 0)  # fmt: skip
    for name, what, column in (
        ("healthy", "verdicts on healthy endpoints, sick mill", sick),
        ("fixed", "verdicts under DEMO_FIXED=1", fixed),
        ("beside", "verdicts on healthy endpoints beside a slow one in threads", concurrent),
    ):
        blamed = sum(text.startswith("blamed") for score in column for text in score.wrong)
        outcome.judge(f"plants.{name}", what, "none", str(blamed), not blamed)
    victims, reported = sum(s.plants for s in concurrent), sum(s.reported for s in concurrent)
    outcome.judge("plants.neighbour", "the quick endpoint is reported as slowed by the slow one",
                  "in every seed", f"{reported} of {victims}", reported == victims > 0)  # fmt: skip
    values = sum(len(score.impossible) for column in scores.values() for score in column)
    outcome.judge(
        "plants.values", "impossible values in all these reports", "none", str(values), not values
    )


# -- one mill --------------------------------------------------------------------------------------


def _try(folder: Path, seed: int, mode: str, quick: bool) -> Score:
    """Serve one mill, send its traffic, and compare its report with the key."""
    start, key = time.monotonic(), plan(seed)
    settings = Settings(data=folder / f"data-{seed}", seed=seed, fixed=mode == "fixed")
    workers = 0 if mode == "concurrent" else 4
    with served(folder / f"state-{seed}-{mode}", settings, key, workers) as mill:
        if mode == "concurrent":
            requests = traffic.requests(key, 150 if quick else 400, seed, least=12,
                                        only=_CONCURRENT)  # fmt: skip
        else:
            requests = traffic.requests(key, 900 if quick else traffic.FULL, seed,
                                        least=5 if quick else 0, stuck=mode == "sick")  # fmt: skip
        clients = 8 if mode == "concurrent" else 4
        answers = traffic.drive(mill.address, requests, clients=clients)
        time.sleep(2.5)
        document = mill.report()
    score = Score(impossible=impossible(document))
    if mode == "concurrent":
        _compare_neighbours(score, key, document)
    else:
        _compare(score, key, document, sick=mode == "sick")
    lost = [a.request.endpoint for a in answers if not a.status and a.request.kind != "stuck"]
    if lost:
        score.wrong.append(f"{len(lost)} requests got no answer: {sorted(set(lost))}")
    score.seconds = time.monotonic() - start
    return score


# -- comparison with the key -----------------------------------------------------------------------


def _compare(score: Score, key: Plan, document: Any, *, sick: bool) -> None:
    reported = verdicts(document)
    allowed: dict[str, set[str]] = {}
    for plant in key.plants:
        allowed[plant.endpoint] = {*plant.allowed, *(plant.verdicts if sick else ())}
        if sick:
            _compare_plant(score, plant, reported.get(plant.endpoint, []), document)
    for endpoint, rows in reported.items():
        for row in rows:
            if row["type"] not in allowed.get(endpoint, set()) and row["severity"] in _SEVERE:
                name = with_kind(key, endpoint)
                score.wrong.append(f"blamed {name}: {row['type']}: {row['text']}")


def _compare_plant(score: Score, plant: Plant, rows: list[dict[str, Any]], document: Any) -> None:
    if plant.part == "foundation":
        error = _foundation_error(plant, rows, document)
        score.plants += 1
        score.reported += not error
        score.wrong += [f"missed {plant.kind} ({plant.endpoint}): {error}"] if error else []
    if "why" in plant.sees:
        error = _part_error(plant, "why", rows)
        score.why_plants += 1
        score.why_reported += not error
        score.wrong += [f"missed why of {plant.kind} ({plant.endpoint}): {error}"] if error else []
    if "queries" in plant.sees:
        error = _part_error(plant, "queries", rows)
        score.query_plants += 1
        score.query_reported += not error
        missed = f"missed queries of {plant.kind} ({plant.endpoint}): {error}"
        score.wrong += [missed] if error else []
    if "caching" in plant.sees and _REPORTED.issuperset(plant.sees["caching"]):
        error = _part_error(plant, "caching", rows)
        score.cache_plants += 1
        score.cache_reported += not error
        missed = f"missed caching of {plant.kind} ({plant.endpoint}): {error}"
        score.wrong += [missed] if error else []


def _foundation_error(plant: Plant, rows: list[dict[str, Any]], document: Any) -> str:
    """Return the first difference between a plant's verdicts and the key, empty without one."""
    if plant.kind == "stuck":
        killed = sum(r["killed"] for r in document["endpoints"] if r["endpoint"] == plant.endpoint)
        if killed != 1:
            return f"{killed} were counted as killed, not 1"
        reported = [row["type"] for row in rows]
        return "" if reported == ["REQUEST_KILLED"] else f"it is reported as {reported}"
    for kind in plant.sees["foundation"]:
        row = next((row for row in rows if row["type"] == kind), None)
        if row is None:
            return f"no {kind}; there are {[row['type'] for row in rows]}"
        error = _cause_error(plant, row)
        if error:
            return error
    return ""


def _part_error(plant: Plant, part: str, rows: list[dict[str, Any]]) -> str:
    """Return the first difference between one part's verdicts on a plant and the key."""
    lines = {"/".join(line.split("/")[-2:]) for line in plant.where}
    for kind in plant.sees[part]:
        row = next((row for row in rows if row["type"] == kind), None)
        if row is None:
            return f"no {kind}; there are {[row['type'] for row in rows]}"
        named = {cause["where"] for cause in row["why"] if cause["where"]}
        if kind in _WITH_LINES and (not named or not named <= lines):
            return f"{kind} at {named}, not at {lines}"
    return ""


def _cause_error(plant: Plant, row: dict[str, Any]) -> str:
    """Return the difference of a verdict's cause; a service's method counts as its own Python."""
    if plant.cause not in MEASURED:
        return ""
    why = [(cause["cause"], cause["share"] or 0.0, cause["detail"] or "") for cause in row["why"]]
    same = {plant.cause, "section"} if plant.cause == "own_cpu" else {plant.cause}
    if not why or why[0][0] not in same:
        return f"{row['type']} for {why[:2]}, not {plant.cause}"
    share = sum(part for cause, part, _ in why if cause in same)
    if share < plant.min_share:
        return f"{plant.cause} has {share:.0%}, not {plant.min_share:.0%}"
    named = plant.kind in ("early_hook", "service_loop")
    function = plant.function.split(".")[-1]
    if named and not any(function in detail for _, _, detail in why):
        return f"{plant.function} is not named in {why[:2]}"
    return ""


def _compare_neighbours(score: Score, key: Plan, document: Any) -> None:
    """Compare a report of threads: the quick endpoint is slowed by the slow one, no other is blamed."""
    reported = verdicts(document)
    culprit = re.sub(r"[._]", " ", key.places["workbooks"].endpoint).lower()
    for kind in _CONCURRENT[1:]:
        endpoint = key.places[kind].endpoint
        rows = reported.get(endpoint, [])
        for row in rows:
            if row["type"] != "SLOWED_BY":
                score.wrong.append(f"blamed {endpoint} ({kind}): {row['type']}: {row['text']}")
        if kind == "ping":
            score.plants += 1
            named = any(
                row["type"] == "SLOWED_BY" and culprit in row["text"].lower() for row in rows
            )
            score.reported += named
            if not named:
                score.wrong.append(
                    f"missed ping: it is not reported as slowed by {culprit}: {rows}"
                )
