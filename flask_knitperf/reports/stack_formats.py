"""Sampled stacks in the file formats of other tools."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..metrics.stack_trie import StackFrame, Trie

if TYPE_CHECKING:
    from .documents.speedscope import SpeedscopeFile, SpeedscopeFrame


def collapsed(trie: Trie) -> str:
    """Return stacks in the collapsed format, one per line: frames joined by ``;``, microseconds."""
    lines = [
        ";".join(frame.shown().replace(";", ":").replace(" ", "_") for frame in path)
        + f" {(node.running + node.waiting) // 1000}"
        for path, node in trie.stacks() if path
    ]  # fmt: skip
    return "\n".join(sorted(lines)) + "\n"


def speedscope(trie: Trie, name: str) -> SpeedscopeFile:
    """Return stacks as a speedscope document.

    Args:
        trie: the stacks.
        name: of the profile.
    """
    numbers: dict[StackFrame, int] = {}
    samples, weights = [], []
    for path, node in sorted(trie.stacks(), key=lambda stack: [f.shown() for f in stack[0]]):
        if path:
            samples.append([numbers.setdefault(frame, len(numbers)) for frame in path])
            weights.append((node.running + node.waiting) // 1000)
    return {
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "name": name,
        "exporter": "flask_knitperf",
        "shared": {"frames": [_frame(frame) for frame in numbers]},
        "profiles": [{
            "type": "sampled", "name": name, "unit": "microseconds", "startValue": 0,
            "endValue": sum(weights), "samples": samples, "weights": weights,
        }],
    }  # fmt: skip


def _frame(frame: StackFrame) -> SpeedscopeFrame:
    row: SpeedscopeFrame = {"name": frame.function, "file": frame.file}
    if frame.own:
        row["line"] = frame.line
    return row
