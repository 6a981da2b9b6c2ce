"""``python -m benchmarks [--quick] [NAME …]``: measure, print a table, write ``docs/benchmarks``.

A quick run only shows that a benchmark still works; its figures mean nothing and are not written.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import sys
import time
import traceback
from pathlib import Path

from . import figures, newcomer, results
from .harness import machine
from .harness.outcome import Outcome, Row, plain
from .rows import ORDER


def main(words: list[str] | None = None) -> int:
    """Run the command line; return 0 if every target was met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(ORDER))
    parser.add_argument("--quick", action="store_true", help="a small size; nothing is written")
    parser.add_argument("--list", action="store_true", help="print names, last durations and ideas")
    parser.add_argument(
        "--publish", action="store_true", help="write index, README and docs from earlier results"
    )
    options = parser.parse_args(words)
    unknown = [name for name in options.names if name not in ORDER]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}; there are {', '.join(ORDER)}")
    names = [name for name in ORDER if name in options.names or not options.names]
    if options.list:
        _print_list(names)
        return 0
    if options.publish:
        results.write_index()
        newcomer.write()
        figures.write()
        return 0
    return _run(names, options.quick)


def _run(names: list[str], quick: bool) -> int:
    if quick:
        print("Quick run: small sizes, so figures mean nothing. Nothing is written.\n")
    rows: list[Row] = []
    for name in names:
        about, start = machine.describe(), time.monotonic()
        outcome = _measure(name, quick)
        seconds = round(time.monotonic() - start)
        print(f"   ({seconds} s)\n", flush=True)
        rows += outcome.rows
        if not quick and outcome.rows:
            results.write({"name": name, "machine": about, "seconds": seconds,
                           "outcome": outcome.document()})  # fmt: skip
            figures.write()
    _print_rows(rows)
    if quick:
        print("\nQuick run: figures mean nothing.")
    return 1 if any(row.ok is False for row in rows) else 0


def _measure(name: str, quick: bool) -> Outcome:
    print(f"== {name}", flush=True)
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
    return outcome


def _print_list(names: list[str]) -> None:
    documents = {name: results.load(name) for name in names}
    seconds = {name: (document or {}).get("seconds") for name, document in documents.items()}
    lines = [
        (name, "–" if seconds[name] is None else f"{seconds[name]:,} s",
         results.idea(name).split("\n")[0])
        for name in names
    ]  # fmt: skip
    print("\n".join(plain(("name", "took", "idea"), lines)))
    if any(seconds.values()):
        total = sum(value or 0 for value in seconds.values())
        missing = sum(value is None for value in seconds.values())
        print(f"\n{total / 60:,.0f} minutes" + f", {missing} durations unknown" * bool(missing))


def _print_rows(rows: list[Row]) -> None:
    """Print the judged rows within 98 columns."""
    commit = machine.commit()
    lines = []
    for row in rows:
        cells = [_wrap(row.id, 21), _wrap(row.what, 25), _wrap(row.target, 15),
                 _wrap(row.measured, 19), [results.MARKS[row.ok]], [commit[:8]]]  # fmt: skip
        lines += [list(line) for line in itertools.zip_longest(*cells, fillvalue="")]
    print("\n".join(plain(("id", "what", "target", "measured", "ok", "commit"), lines, " ")))


def _wrap(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        rest = word
        while len(rest) > width:
            lines[-1], rest = rest[:width], rest[width:]
            lines.append("")
        lines[-1] = f"{lines[-1]} {rest}".strip()
    return lines


if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))
    raise SystemExit(main())
