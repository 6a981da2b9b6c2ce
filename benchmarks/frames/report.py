"""Rows and tables of what was measured of frames: means, what was lost, the bound, time and memory."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from ..harness.outcome import Grid, Outcome

Document = dict[str, Any]
POOR = 0.75
COMPACT, TOLERANT = "compact", "compact, 1e-6"
TARGETS = {
    "3": {COMPACT: 2.8, TOLERANT: 3.5, "pack": 4.0},
    "2": {COMPACT: 3.5, TOLERANT: 3.5, "pack": 4.0},
}
SHARE = 0.93
CPU = 1.49
PEAK = 1.10


def mean(values: Iterable[float]) -> float:
    """Return the geometric mean, NaN of nothing."""
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def tables(outcome: Outcome, pandas: str, found: Document) -> Document:
    """Judge the tables of one pandas, and return their figures."""
    every = found["tables"]
    chosen = [table for table in every if table["chosen"]]
    levels = list(every[0]["levels"])
    _judge_exact(outcome, pandas, every, levels)
    means = _means(outcome, pandas, every, levels)
    _judge_means(outcome, pandas, means)
    peers = _peers(outcome, pandas, chosen, found["peers"])
    share = _bound(outcome, pandas, chosen)
    return {"versions": found["versions"], "means": means, "peers": peers, "bound": share,
            "left_out": found["left_out"], "tables": [_line(table) for table in chosen]}  # fmt: skip


def _judge_exact(outcome: Outcome, pandas: str, every: list[Document], levels: list[str]) -> None:
    counts: Counter[str] = Counter()
    for table in every:
        for level in levels:
            made = table["levels"][level]
            if "error" in made:
                counts["errors"] += 1
                outcome.notes.append(f"pandas {pandas}, {_name(table)}, {level}: {made['error']}")
                continue
            for key in ("cells", "empty", "rows", "kinds"):
                counts[key] += made[key]
            if not made["exact"]:
                outcome.notes.append(f"pandas {pandas}, {_name(table)}, {level}: {made['where']}")
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
    found: dict[str, dict[str, Document]] = {}
    for level in levels:
        found[level] = {}
        for name, belongs in sets.items():
            held = [table for table in every if belongs(table)]
            found[level][name] = {"tables": len(held), **{
                key: round(mean(_ratio(table, table["levels"][level], key) for table in held), 3)
                for key in ("true", "deep")
            }}  # fmt: skip
    heads = ("level", *(f"{held['tables']:,} tables, {how}" for held in found[levels[0]].values()
                        for how in ("true", "as counted")))  # fmt: skip
    lines = tuple(
        (level, *(f"{held[key]:.2f}" for held in found[level].values() for key in ("true", "deep")))
        for level in levels
    )
    title = (
        f"How many times smaller, pandas {pandas}: tables of 1,000 rows, the mix, all of 100 rows"
    )
    outcome.grids.append(Grid(title, heads, lines))
    return found


def _judge_means(outcome: Outcome, pandas: str, means: dict[str, dict[str, Document]]) -> None:
    """Judge the means over the chosen tables; of pandas 2, where texts are objects, as it counts too."""
    for level, least in TARGETS[pandas].items():
        if level not in means:
            continue
        chosen, many, some = (means[level][name] for name in ("chosen", "mix", "100"))
        for key in ("true", "deep") if pandas == "2" else ("true",):
            counted = ", as pandas counts" if key == "deep" else ""
            outcome.judge(
                f"frames.{level.replace(', ', '-')}.{pandas}{'.deep' * (key == 'deep')}",
                f"{level}: times smaller{counted}, {chosen['tables']} tables, pandas {pandas}",
                f"≥ {least:g}",
                f"{chosen[key]:.2f}; the mix {many[key]:.2f}, all of 100 rows {some[key]:.2f}",
                chosen[key] >= least,
            )  # fmt: skip


def _ratio(table: Document, made: Document, key: str) -> float:
    """Return how many times smaller a table became; 1 where that failed."""
    return 1.0 if made.get("error") or not made[key] else table[key] / made[key]


# -- peers -----------------------------------------------------------------------------------------


def _peers(
    outcome: Outcome, pandas: str, chosen: list[Document], versions: dict[str, str]
) -> dict[str, Document]:
    found = {name: _peer(chosen, name, number) for name, number in versions.items()}
    ours = mean(_ratio(table, table["levels"][COMPACT], "true") for table in chosen)
    whole = {name: each for name, each in found.items() if not each["lossy"]}
    behind = [name for name, each in whole.items()
              if each["ratio"] >= each["compact_there"] or each["ratio_all"] >= ours]  # fmt: skip
    told = ", ".join(f"{name} {each['ratio']:.2f} ({each['compact_there']:.2f})"
                     for name, each in whole.items())  # fmt: skip
    outcome.judge(
        f"frames.ahead.{pandas}",
        "compact is ahead of each peer that lost no value, on the tables on which that did not fail, "
        f"pandas {pandas}",
        "all", f"all but {', '.join(behind)}: {told}" if behind else f"all: {told}", not behind,
    )  # fmt: skip
    outcome.grids.append(Grid(
        f"Side by side, {len(chosen)} tables, pandas {pandas}: times smaller where it did not fail, and "
        "over all, a failure being 1",
        ("what", "version", "failed", "lossy", "kinds changed", "smaller", "over all", "CPU s"),
        tuple((name, each["version"], str(each["failed"]), str(each["lossy"]), str(each["kinds"]),
               f"{each['ratio']:.2f}", f"{each['ratio_all']:.2f}", f"{each['seconds']:.1f}")
              for name, each in found.items()),
    ))  # fmt: skip
    return found


def _peer(chosen: list[Document], name: str, number: str) -> Document:
    tried = [(table, table["peers"][name]) for table in chosen]
    survived = [(table, made) for table, made in tried if not made["error"]]
    return {
        "version": number, "failed": len(tried) - len(survived),
        "errors": Counter(made["error"] for _, made in tried if made["error"]),
        "lossy": sum(made["lossy"] for _, made in survived),
        "kinds": sum(bool(made["kinds"] or made["empty"]) for _, made in survived),
        "ratio": round(mean(_ratio(*pair, "true") for pair in survived), 3),
        "ratio_deep": round(mean(_ratio(*pair, "deep") for pair in survived), 3),
        "ratio_all": round(mean(_ratio(*pair, "true") for pair in tried), 3),
        "compact_there": round(
            mean(_ratio(table, table["levels"][COMPACT], "true") for table, _ in survived), 3
        ),
        "seconds": round(sum(made["seconds"] for _, made in tried), 2),
    }  # fmt: skip


# -- the bound -------------------------------------------------------------------------------------


def _bound(outcome: Outcome, pandas: str, chosen: list[Document]) -> Document:
    public = [table for table in chosen if table["source"] != "mill"]
    mill = [table for table in chosen if table["source"] == "mill"]
    share, own = (mean(table["bound"]["share"] for table in each) for each in (public, mill))
    reached = mean(table["true"] / table["bound"]["bytes"] for table in chosen)
    target, ok = (f"≥ {SHARE}", share >= SHARE) if pandas == "3" else ("–", None)
    outcome.judge(
        f"frames.bound.{pandas}",
        f"share of the lossless bound that compact reaches, {len(public)} public tables, "
        f"pandas {pandas}",
        target, f"{share:.3f}; the mill's {own:.3f}; the bound itself is {reached:.2f} times smaller",
        ok,
    )  # fmt: skip
    poor = sorted((each for each in chosen if each["bound"]["share"] < POOR),
                  key=lambda table: table["bound"]["share"])  # fmt: skip
    if poor:
        outcome.grids.append(Grid(
            f"Tables below {POOR} of the bound, pandas {pandas}, and the column that loses most",
            ("table", "share", "column", "bytes", "could be", "as", "why not"),
            tuple(_explained(table) for table in poor),
        ))  # fmt: skip
    return {"public": round(share, 4), "mill": round(own, 4), "ratio": round(reached, 3),
            "poor": [{"table": _name(table), "share": round(table["bound"]["share"], 3),
                      "lost": table["bound"]["lost"]} for table in poor]}  # fmt: skip


def _explained(table: Document) -> tuple[str, ...]:
    lost = table["bound"]["lost"][0]
    return (_name(table), f"{table['bound']['share']:.2f}", lost["column"], f"{lost['taken']:,}",
            f"{lost['least']:,}", lost["means"], lost["reason"])  # fmt: skip


def _name(table: Document) -> str:
    return f"{table['source']}/{table['name']}"


def _line(table: Document) -> Document:
    """Return what is published of a table."""
    return {
        "table": _name(table), "rows": table["rows"], "columns": table["columns"],
        "true": table["true"], "deep": table["deep"], "bound": table["bound"]["bytes"],
        "levels": {name: [made.get("true"), made.get("deep")] for name, made in table["levels"].items()},
    }  # fmt: skip


# -- the rest --------------------------------------------------------------------------------------


def odd(outcome: Outcome, pandas: str, found: Document) -> None:
    """Judge the odd frames."""
    wrong = {f"{name}, {level}": said for name, levels in found["frames"].items()
             for level, said in levels.items() if said}  # fmt: skip
    count = sum(len(levels) for levels in found["frames"].values())
    outcome.judge(f"frames.odd.{pandas}",
                  f"{len(found['frames'])} odd frames, each level: wrong or raised, pandas {pandas}",
                  "0", f"{len(wrong)} of {count}", not wrong)  # fmt: skip
    outcome.notes += [f"pandas {pandas}, {name}: {said}" for name, said in wrong.items()]


def speed(outcome: Outcome, pandas: str, cpu: Document, peaks: list[Document]) -> None:
    """Judge time and memory of a million rows."""
    took = {name: statistics.median(times) for name, times in cpu["ms"].items()}
    outcome.judge(
        f"frames.cpu.{pandas}",
        "1 M rows × 20 columns, compact: plan, apply and verify, in CPU time of "
        f"to_numeric(downcast) in turn, pandas {pandas}",
        f"≤ {CPU} ×", f"{cpu['ratio']:.2f} ×: {took[COMPACT]:.0f} ms beside {took['to_numeric']:.0f}, "
        f"klib {took['klib']:.0f}",
        cpu["ratio"] <= CPU,
    )  # fmt: skip
    title = f"CPU time of 1 M rows × 20 columns ({cpu['bytes'] / 1e6:.0f} MB), pandas {pandas}"
    outcome.grids.append(Grid(title, ("what", "ms"), tuple(
        (name, f"{each:.0f}") for name, each in took.items()
    )))  # fmt: skip
    middle = sorted(peaks, key=lambda each: each["peak"] / each["after"])[len(peaks) // 2]
    share = middle["peak"] / middle["after"]
    outcome.judge(
        f"frames.peak.{pandas}",
        f"extra memory at its peak over the new frame's size, compact, pandas {pandas}",
        f"≤ {PEAK:.2f}", f"{share:.2f}: {middle['peak'] / 1e6:.0f} MB, new frame "
        f"{middle['after'] / 1e6:.0f} MB, of which {middle['own'] / 1e6:.0f} MB its own",
        share <= PEAK,
    )  # fmt: skip


def founding(outcome: Outcome, found: dict[str, Document]) -> None:
    """Tell what becomes of the founding frame."""
    lines = []
    for pandas, each in found.items():
        for key, how in (("deep", "as pandas counts"), ("true", "each text once")):
            before = each["before"][key]
            lines.append((
                pandas, how, f"{before / 1e6:.2f} MB",
                *(f"{each[name][key] / 1e6:.2f} MB ({1 - each[name][key] / before:.1%} less)"
                  for name in ("lossless", "rounded")),
            ))  # fmt: skip
    heads = ("pandas", "bytes", "before", "compact", "with floats rounded to 1e-6")
    title = "The founding claim, 93.8 % less, on a reconstructed frame of 10,000 rows"
    outcome.grids.append(Grid(title, heads, tuple(lines)))
