"""The files in ``docs/benchmarks``: one JSON file per benchmark, and the page that prints them all.

A file holds what the page prints, and the figures of the documentation; raw values are not kept.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

from .harness.machine import ROOT
from .harness.outcome import markdown
from .rows import ORDER

DOCS = ROOT / "docs" / "benchmarks"
MARKS = {True: "yes", False: "NO", None: "–"}

_PREFACE = (
    "Written by `make prove` (`python -m benchmarks`), which repeats every measurement. Each row names "
    "the commit it was measured at; `+` means uncommitted changes. Trust ratios more than absolute "
    "times: this is a shared machine. Readers of the file names alone: "
    "[Where would I change X?](newcomer.md)\n"
)

Document = dict[str, Any]
"""``name``, ``machine``, ``seconds`` (duration of the measurement), ``outcome``."""


def load(name: str) -> Document | None:
    """Return the published result of a benchmark, ``None`` if it was never measured."""
    path = DOCS / f"{name}.json"
    if not path.is_file():
        return None
    document: Document = json.loads(path.read_text(encoding="utf-8"))
    return document


def write(document: Document) -> None:
    """Write the result of a benchmark, and the index."""
    DOCS.mkdir(parents=True, exist_ok=True)
    (DOCS / f"{document['name']}.json").write_text(dump(document) + "\n", encoding="utf-8")
    write_index()


def write_index() -> None:
    """Write ``index.md`` from the published results."""
    (DOCS / "index.md").write_text(index(), encoding="utf-8")


def index() -> str:
    """Return the page of all published results."""
    documents = [document for name in ORDER if (document := load(name))]
    parts = [
        "# Benchmarks\n",
        _PREFACE,
        _machines(documents),
        "## Targets\n",
        markdown(("id", "what", "target", "measured", "ok", "commit"), [
            (row["id"], row["what"], row["target"], row["measured"], MARKS[row["ok"]],
             f"`{document['machine']['commit']}`")
            for document in documents for row in document["outcome"]["rows"]
        ]),
    ]  # fmt: skip
    return "\n".join([*parts, *(_chapter(document) for document in documents)])


def dump(value: Any, indent: str = "") -> str:
    """Return a value as JSON: innermost lists and objects on one line, all others on several."""
    items = value.values() if isinstance(value, dict) else value
    nested = isinstance(value, dict | list) and any(isinstance(i, dict | list) for i in items)
    if not nested:
        return json.dumps(value, ensure_ascii=False)
    inner = indent + " "
    if isinstance(value, dict):
        lines = [f"{inner}{json.dumps(key)}: {dump(item, inner)}" for key, item in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    return "[\n" + ",\n".join(inner + dump(item, inner) for item in value) + f"\n{indent}]"


def idea(name: str) -> str:
    """Return the docstring of a benchmark, without importing it."""
    source = Path(__file__).parent.joinpath("rows", f"{name}.py").read_text(encoding="utf-8")
    return ast.get_docstring(ast.parse(source)) or ""


def _machines(documents: list[Document]) -> str:
    lines: dict[str, None] = {}
    for document in documents:
        machine = document["machine"]
        packages = ", ".join(f"{name} {number}" for name, number in machine["packages"].items())
        lines[
            f"Machine: {machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB, "
            f"{machine['system']}. Python {machine['python']}; {packages}.\n"
        ] = None
    return "\n".join(lines)


def _chapter(document: Document) -> str:
    name, outcome = document["name"], document["outcome"]
    took = f" in {document['seconds']:,.0f} s" if document.get("seconds") else ""
    parts = [
        f"## {name.replace('_', ' ').capitalize()}\n",
        f"{idea(name)}\n",
        f"Measured at {document['machine']['at']}{took}; as JSON: [{name}.json]({name}.json).\n",
    ]
    for grid in outcome["tables"]:
        parts += [f"**{grid['title']}**\n", markdown(grid["heads"], grid["lines"])]
    parts += [f"- {note}" for note in outcome["notes"]]
    return "\n".join(parts) + "\n"
