"""Thirty changes, each located by a reader who sees the list of the package's file names alone.

``docs/benchmarks/newcomer.json`` holds the tasks, and for each tree the right files (several if a change
has more than one home) and the first guess of a reader who had never seen the code; ``null`` if it was
not measured. The trees hold the same modules under other names and in other places. ``python -m
benchmarks --publish`` writes the page. ``moved_since`` lists files of the final tree that have another
name now.
"""

from __future__ import annotations

import json
from typing import Any

from . import results
from .harness.outcome import markdown

MIN_RIGHT = 27
"""Right first guesses, of thirty, in the final tree."""

Tree = dict[str, Any]
"""``name``, ``commit``, ``files``, ``target`` and ``answers``: ``n``, ``right``, ``guess``."""


def load() -> dict[str, Any]:
    """Return the tasks and the trees."""
    data: dict[str, Any] = json.loads((results.DOCS / "newcomer.json").read_text(encoding="utf-8"))
    return data


def write() -> None:
    """Write the page."""
    (results.DOCS / "newcomer.md").write_text(page(), encoding="utf-8")


def page() -> str:
    """Return the page from the data."""
    data = load()
    trees: list[Tree] = data["trees"]
    heads = ("tree", "commit", "files", "right at the first guess", "target")
    parts = [
        "---\norphan: true\n---\n\n# Where would I change X?\n",
        f"{__doc__}\n",
        markdown(heads, [
            (tree["name"], f"`{tree['commit']}`" if tree["commit"] else "–",
             str(tree["files"] or "–"), score(tree), f"≥ {MIN_RIGHT}" if tree["target"] else "–")
            for tree in trees
        ]),
    ]  # fmt: skip
    parts += [f"Since then `{old}` became `{new}`.\n" for old, new in data["moved_since"].items()]
    for row in data["tasks"]:
        lines = [_line(tree, row["n"] - 1) for tree in trees]
        parts += [
            f"**{row['n']}.** {row['task']}\n",
            markdown(("tree", "right", "guess", ""), lines),
        ]
    return "\n".join(parts)


def score(tree: Tree) -> str:
    """Return the number of right guesses as text."""
    guesses = [answer for answer in tree["answers"] if answer["guess"] is not None]
    if not guesses:
        return "not measured"
    return f"{sum(a['guess'] in a['right'] for a in guesses)} of {len(tree['answers'])}"


def _line(tree: Tree, position: int) -> tuple[str, str, str, str]:
    answer = tree["answers"][position]
    right = " or ".join(f"`{path}`" for path in answer["right"])
    if answer["guess"] is None:
        return tree["name"], right, "–", results.MARKS[None]
    ok = answer["guess"] in answer["right"]
    return tree["name"], right, f"`{answer['guess']}`", results.MARKS[ok]
