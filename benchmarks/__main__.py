"""``python -m benchmarks [--quick] [NAME …]``: measure, print a table, write ``docs/benchmarks``.

Every module of ``rows`` that :data:`ORDER` names has ``run(quick) -> Outcome``. A quick run only shows
that a benchmark still works; its figures mean nothing and are not written down.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import itertools
import json
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from .harness import machine
from .harness.outcome import Outcome, Row, markdown, plain

ORDER = (
    "overhead", "peers", "accuracy", "exact", "kill", "deploy", "report_time", "startup", "plants",
    "bad_input", "strangers", "memory", "evidence", "file_reads", "savings", "hot_lines",
    "flame_difference", "sampler", "queries", "queries_exact", "literals", "pool_size",
    "databases", "query_secrets", "n_plus_one", "frames", "leaks", "memory_plants", "leakhunt",
    "live_frames", "stress",
)  # fmt: skip
DOCS = machine.ROOT / "docs" / "benchmarks"
_PREFACE = (
    "Written by `make prove` (`python -m benchmarks`), which measures every figure anew. Each row names "
    "the commit it was measured at; `+` means that the code differed from it. Trust ratios more than "
    "absolute times: this is a shared machine.\n"
)
_MARKS = {True: "yes", False: "NO", None: "–"}


def main(words: list[str] | None = None) -> int:
    """Run what is asked for; return 0 when every target was met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(ORDER))
    parser.add_argument("--quick", action="store_true", help="a small size; nothing is written")
    asked = parser.parse_args(words)
    unknown = [name for name in asked.names if name not in ORDER]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}; there are {', '.join(ORDER)}")
    names = [name for name in ORDER if name in asked.names or not asked.names]
    if asked.quick:
        print("Quick run: small sizes, so figures mean nothing. Nothing is written.\n")
    rows = []
    for name in names:
        document = _measure(name, asked.quick)
        rows += [Row(**row) for row in document["outcome"]["rows"]]
        if not asked.quick:
            DOCS.mkdir(parents=True, exist_ok=True)
            text = json.dumps(document, indent=1, ensure_ascii=False)
            (DOCS / f"{name}.json").write_text(text + "\n", encoding="utf-8")
            write_index()
    _print(rows)
    if asked.quick:
        print("\nQuick run: figures mean nothing.")
    return 1 if any(row.ok is False for row in rows) else 0


def _measure(name: str, quick: bool) -> dict[str, Any]:
    print(f"== {name}", flush=True)
    about = machine.describe()
    began = time.monotonic()
    try:
        outcome: Outcome = importlib.import_module(f"{__package__}.rows.{name}").run(quick)
    except Exception as error:
        traceback.print_exc()
        outcome = Outcome()
        outcome.judge(
            name, "the benchmark itself", "runs", f"{type(error).__name__}: {error}", False
        )
    for grid in outcome.grids:
        print(f"\n{grid.title}")
        print("\n".join("  " + line for line in plain(grid.heads, grid.lines)))
    for note in outcome.notes:
        print(f"  {note}")
    print(f"   ({time.monotonic() - began:.0f} s)\n", flush=True)
    return {"name": name, "machine": about, "outcome": outcome.document()}


def _print(rows: list[Row]) -> None:
    """Print the judged rows within 98 columns."""
    commit = machine.commit()
    lines = []
    for row in rows:
        cells = [_wrap(row.id, 21), _wrap(row.what, 25), _wrap(row.target, 15),
                 _wrap(row.measured, 19), [_MARKS[row.ok]], [commit[:8]]]  # fmt: skip
        lines += [list(line) for line in itertools.zip_longest(*cells, fillvalue="")]
    print("\n".join(plain(("id", "what", "target", "measured", "ok", "commit"), lines, " ")))


def _wrap(text: str, width: int) -> list[str]:
    made = [""]
    for word in text.split():
        if made[-1] and len(made[-1]) + 1 + len(word) > width:
            made.append("")
        rest = word
        while len(rest) > width:
            made[-1], rest = rest[:width], rest[width:]
            made.append("")
        made[-1] = f"{made[-1]} {rest}".strip()
    return made


def write_index() -> None:
    """Write ``index.md`` from the results that are there."""
    found = [
        json.loads(path.read_text(encoding="utf-8"))
        for name in ORDER if (path := DOCS / f"{name}.json").is_file()
    ]  # fmt: skip
    text = [
        "# Benchmarks\n",
        _PREFACE,
        _machines(found),
        "## Targets\n",
        markdown(("id", "what", "target", "measured", "ok", "commit"), [
            (row["id"], row["what"], row["target"], row["measured"], _MARKS[row["ok"]],
             f"`{each['machine']['commit']}`")
            for each in found for row in each["outcome"]["rows"]
        ]),
    ]  # fmt: skip
    text += [_chapter(each) for each in found]
    (DOCS / "index.md").write_text("\n".join(text), encoding="utf-8")


def _machines(found: list[dict[str, Any]]) -> str:
    lines = []
    for about in {json.dumps({k: v for k, v in each["machine"].items() if k not in ("at", "commit")})
                  for each in found}:  # fmt: skip
        said = json.loads(about)
        packages = ", ".join(f"{name} {number}" for name, number in said["packages"].items())
        lines.append(
            f"Machine: {said['processor']}, {said['cores']} cores, {said['memory_gb']} GB, "
            f"{said['system']}. Python {said['python']}; {packages}.\n"
        )
    return "\n".join(lines)


def _chapter(each: dict[str, Any]) -> str:
    outcome = each["outcome"]
    source = (
        Path(__file__).parent.joinpath("rows", f"{each['name']}.py").read_text(encoding="utf-8")
    )
    idea = ast.get_docstring(ast.parse(source)) or ""
    parts = [
        f"## {each['name'].replace('_', ' ').capitalize()}\n",
        f"{idea}\n",
    ]
    file = f"{each['name']}.json"
    parts.append(f"Measured at {each['machine']['at']}; all values: [{file}]({file}).\n")
    for grid in outcome["tables"]:
        parts += [f"**{grid['title']}**\n", markdown(grid["heads"], grid["lines"])]
    parts += [f"- {note}" for note in outcome["notes"]]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))
    raise SystemExit(main())
