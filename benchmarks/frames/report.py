"""Rows and tables from the measurements of frames: means, losses, the bound, time and memory."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from ..harness.outcome import Grid, Outcome

Document = dict[str, Any]
POOR = 0.75
"""Tables below this share of the bound are listed."""
COMPACT = "compact"
TOLERANT = "compact, 1e-6"
TARGETS = {
    "3": {COMPACT: 2.8, TOLERANT: 3.5, "pack": 4.0},
    "2": {COMPACT: 3.5, TOLERANT: 3.5, "pack": 4.0},
}
MIN_SHARE = 0.93
"""Share of the bound that has to be reached."""
MAX_CPU = 1.49
"""CPU time as a multiple of ``to_numeric(downcast)``."""
MAX_PEAK = 1.10
"""Extra memory as a multiple of the new frame's size."""


def mean(values: Iterable[float]) -> float:
    """Return the geometric mean, NaN of nothing."""
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def tables(outcome: Outcome, pandas: str, document: Document) -> Document:
    """Judge the tables of one pandas; return the mean ratios over the chosen tables by level."""
    every = document["tables"]
    chosen = [table for table in every if table["chosen"]]
    levels = list(every[0]["levels"])
    _judge_exact(outcome, pandas, every, levels)
    means = _means(outcome, pandas, every, levels)
    _judge_means(outcome, pandas, means)
    _peers(outcome, pandas, chosen, document["peers"])
    _bound(outcome, pandas, chosen)
    return {
        level: {"tables": sets["chosen"]["tables"], "ratio": sets["chosen"]["true"]}
        for level, sets in means.items()
    }


def _judge_exact(outcome: Outcome, pandas: str, every: list[Document], levels: list[str]) -> None:
    counts: Counter[str] = Counter()
    for table in every:
        for level in levels:
            result = table["levels"][level]
            if "error" in result:
                counts["errors"] += 1
                outcome.notes.append(f"pandas {pandas}, {_name(table)}, {level}: {result['error']}")
                continue
            for key in ("cells", "empty", "rows", "kinds"):
                counts[key] += result[key]
            if not result["exact"]:
                outcome.notes.append(f"pandas {pandas}, {_name(table)}, {level}: {result['where']}")
    lost = counts["cells"] + counts["empty"]
    outcome.judge(
        f"frames.exact.{pandas}",
        f"lossy cells, changed rows, changed kinds, errors: {len(every):,} tables, "
        f"{len(levels)} levels, pandas {pandas}",
        "0, 0, 0, 0", f"{lost}, {counts['rows']}, {counts['kinds']}, {counts['errors']}",
        not (lost or counts["rows"] or counts["kinds"] or counts["errors"]),
    )  # fmt: skip


def _means(
    outcome: Outcome, pandas: str, every: list[Document], levels: list[str]
) -> dict[str, dict[str, Document]]:
    """Return the mean ratios of each level over each set of tables, true and deep."""
    sets: dict[str, Callable[[Document], bool]] = {
        "chosen": lambda table: table["chosen"],
        "mix": lambda table: table["mixed"],
        "100": lambda table: True,
    }
    means: dict[str, dict[str, Document]] = {}
    for level in levels:
        means[level] = {}
        for name, belongs in sets.items():
            members = [table for table in every if belongs(table)]
            means[level][name] = {"tables": len(members), **{
                key: round(mean(_ratio(table, table["levels"][level], key) for table in members), 3)
                for key in ("true", "deep")
            }}  # fmt: skip
    heads = ("level", *(f"{one['tables']:,} tables, {way}" for one in means[levels[0]].values()
                        for way in ("true", "as counted")))  # fmt: skip
    lines = tuple(
        (level, *(f"{one[key]:.2f}" for one in means[level].values() for key in ("true", "deep")))
        for level in levels
    )
    title = f"Times smaller, pandas {pandas}: tables of 1,000 rows, the mix, all of 100 rows"
    outcome.grids.append(Grid(title, heads, lines))
    return means


def _judge_means(outcome: Outcome, pandas: str, means: dict[str, dict[str, Document]]) -> None:
    """Judge the means over the chosen tables; with pandas 2 also by its count, as texts are objects."""
    for level, minimum in TARGETS[pandas].items():
        if level not in means:
            continue
        chosen, mix, long = (means[level][name] for name in ("chosen", "mix", "100"))
        for key in ("true", "deep") if pandas == "2" else ("true",):
            counted = ", as pandas counts" if key == "deep" else ""
            outcome.judge(
                f"frames.{level.replace(', ', '-')}.{pandas}{'.deep' * (key == 'deep')}",
                f"{level}: times smaller{counted}, {chosen['tables']} tables, pandas {pandas}",
                f"≥ {minimum:g}",
                f"{chosen[key]:.2f}; the mix {mix[key]:.2f}, all of 100 rows {long[key]:.2f}",
                chosen[key] >= minimum,
            )  # fmt: skip


def _ratio(table: Document, result: Document, key: str) -> float:
    """Return the ratio of bytes before and after, 1 after a failure."""
    return 1.0 if result.get("error") or not result[key] else table[key] / result[key]


# -- peers -----------------------------------------------------------------------------------------


def _peers(outcome: Outcome, pandas: str, chosen: list[Document], versions: dict[str, str]) -> None:
    peers = {name: _peer(chosen, name, number) for name, number in versions.items()}
    ours = mean(_ratio(table, table["levels"][COMPACT], "true") for table in chosen)
    lossless = {name: peer for name, peer in peers.items() if not peer["lossy"]}
    ahead = [name for name, peer in lossless.items()
             if peer["ratio"] >= peer["compact_there"] or peer["ratio_all"] >= ours]  # fmt: skip
    ratios = ", ".join(f"{name} {peer['ratio']:.2f} ({peer['compact_there']:.2f})"
                       for name, peer in lossless.items())  # fmt: skip
    outcome.judge(
        f"frames.ahead.{pandas}",
        "compact is ahead of each lossless peer, on the tables on which that did not fail, "
        f"pandas {pandas}",
        "all", f"all but {', '.join(ahead)}: {ratios}" if ahead else f"all: {ratios}", not ahead,
    )  # fmt: skip
    outcome.grids.append(Grid(
        f"Side by side, {len(chosen)} tables, pandas {pandas}: times smaller without failures, and "
        "over all with 1 for a failure",
        ("package", "version", "failed", "lossy", "kinds changed", "smaller", "over all", "CPU s"),
        tuple((name, peer["version"], str(peer["failed"]), str(peer["lossy"]), str(peer["kinds"]),
               f"{peer['ratio']:.2f}", f"{peer['ratio_all']:.2f}", f"{peer['seconds']:.1f}")
              for name, peer in peers.items()),
    ))  # fmt: skip


def _peer(chosen: list[Document], name: str, number: str) -> Document:
    results = [(table, table["peers"][name]) for table in chosen]
    succeeded = [(table, result) for table, result in results if not result["error"]]
    return {
        "version": number, "failed": len(results) - len(succeeded),
        "lossy": sum(result["lossy"] for _, result in succeeded),
        "kinds": sum(bool(result["kinds"] or result["empty"]) for _, result in succeeded),
        "ratio": round(mean(_ratio(*pair, "true") for pair in succeeded), 3),
        "ratio_all": round(mean(_ratio(*pair, "true") for pair in results), 3),
        "compact_there": round(
            mean(_ratio(table, table["levels"][COMPACT], "true") for table, _ in succeeded), 3
        ),
        "seconds": round(sum(result["seconds"] for _, result in results), 2),
    }  # fmt: skip


# -- the bound -------------------------------------------------------------------------------------


def _bound(outcome: Outcome, pandas: str, chosen: list[Document]) -> None:
    public = [table for table in chosen if table["source"] != "mill"]
    mill = [table for table in chosen if table["source"] == "mill"]
    share, of_mill = (mean(table["bound"]["share"] for table in part) for part in (public, mill))
    reached = mean(table["true"] / table["bound"]["bytes"] for table in chosen)
    target, ok = (f"≥ {MIN_SHARE}", share >= MIN_SHARE) if pandas == "3" else ("–", None)
    outcome.judge(
        f"frames.bound.{pandas}",
        f"share of the lossless bound that compact reaches, {len(public)} public tables, "
        f"pandas {pandas}",
        target, f"{share:.3f}; the mill's {of_mill:.3f}; "
        f"the bound itself is {reached:.2f} times smaller", ok,
    )  # fmt: skip
    poor = sorted((table for table in chosen if table["bound"]["share"] < POOR),
                  key=lambda table: table["bound"]["share"])  # fmt: skip
    if poor:
        outcome.grids.append(Grid(
            f"Tables below {POOR} of the bound, pandas {pandas}, and the column that loses most",
            ("table", "share", "column", "bytes", "bound", "as", "reason"),
            tuple(_explained(table) for table in poor),
        ))  # fmt: skip


def _explained(table: Document) -> tuple[str, ...]:
    lost = table["bound"]["lost"][0]
    return (_name(table), f"{table['bound']['share']:.2f}", lost["column"], f"{lost['taken']:,}",
            f"{lost['bound']:,}", lost["encoding"], lost["reason"])  # fmt: skip


def _name(table: Document) -> str:
    return f"{table['source']}/{table['name']}"


# -- the rest --------------------------------------------------------------------------------------


def odd(outcome: Outcome, pandas: str, document: Document) -> None:
    """Judge the odd frames."""
    errors = {f"{name}, {level}": error for name, levels in document["frames"].items()
              for level, error in levels.items() if error}  # fmt: skip
    count = sum(len(levels) for levels in document["frames"].values())
    outcome.judge(f"frames.odd.{pandas}",
                  f"{len(document['frames'])} odd frames, each level: wrong or raised, pandas {pandas}",
                  "0", f"{len(errors)} of {count}", not errors)  # fmt: skip
    outcome.notes += [f"pandas {pandas}, {name}: {error}" for name, error in errors.items()]


def speed(outcome: Outcome, pandas: str, cpu: Document, peaks: list[Document]) -> None:
    """Judge time and memory of a million rows."""
    ms = {name: statistics.median(times) for name, times in cpu["ms"].items()}
    outcome.judge(
        f"frames.cpu.{pandas}",
        "1 M rows × 20 columns, compact: plan, apply and verify, in CPU time of "
        f"to_numeric(downcast) in turn, pandas {pandas}",
        f"≤ {MAX_CPU} ×", f"{cpu['ratio']:.2f} ×: {ms[COMPACT]:.0f} ms beside {ms['to_numeric']:.0f}, "
        f"klib {ms['klib']:.0f}",
        cpu["ratio"] <= MAX_CPU,
    )  # fmt: skip
    title = f"CPU time of 1 M rows × 20 columns ({cpu['bytes'] / 1e6:.0f} MB), pandas {pandas}"
    outcome.grids.append(Grid(title, ("what", "ms"), tuple(
        (name, f"{value:.0f}") for name, value in ms.items()
    )))  # fmt: skip
    middle = sorted(peaks, key=lambda peak: peak["peak"] / peak["after"])[len(peaks) // 2]
    share = middle["peak"] / middle["after"]
    outcome.judge(
        f"frames.peak.{pandas}",
        f"extra memory at its peak over the new frame's size, compact, pandas {pandas}",
        f"≤ {MAX_PEAK:.2f}", f"{share:.2f}: {middle['peak'] / 1e6:.0f} MB, new frame "
        f"{middle['after'] / 1e6:.0f} MB, of which {middle['own'] / 1e6:.0f} MB not shared",
        share <= MAX_PEAK,
    )  # fmt: skip


def founding(outcome: Outcome, documents: dict[str, Document]) -> None:
    """Add the table of the founding claim's frame, by pandas."""
    lines = []
    for pandas, sizes in documents.items():
        for key, way in (("deep", "as pandas counts"), ("true", "each text once")):
            before = sizes["before"][key]
            lines.append((
                pandas, way, f"{before / 1e6:.2f} MB",
                *(f"{sizes[name][key] / 1e6:.2f} MB ({1 - sizes[name][key] / before:.1%} less)"
                  for name in ("lossless", "rounded")),
            ))  # fmt: skip
    heads = ("pandas", "bytes", "before", "compact", "with floats rounded to 1e-6")
    title = "The founding claim, 93.8 % less, on a reconstructed frame of 10,000 rows"
    outcome.grids.append(Grid(title, heads, tuple(lines)))
