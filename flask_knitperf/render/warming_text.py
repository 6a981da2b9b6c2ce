"""Progress and outcome of ``flask knitperf cache warm`` as terminal text."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from ..core.units import count, duration, number, percent, plain
from .layout import wrap

if TYPE_CHECKING:
    from ..storage.warm_progress import Progress

_BAR = 24  # columns


def bar(progress: Collection[Progress], width: int = 80) -> str:
    """Return a bar with the share of the values that are done, of all workers."""
    done, total = sum(one.done for one in progress), sum(one.total for one in progress)
    if not total:
        return "Warming the cache: waiting for the workers"
    full = _BAR * done // total
    text = f"[{'#' * full}{'-' * (_BAR - full)}] {percent(done / total)} of {count(total, 'value')}"
    return plain(f"{text}, {count(len(progress), 'worker')}")[:width]


def outcome(
    progress: Mapping[str, Progress], failed: Mapping[str, str], alive: Collection[str],
    width: int = 80,
) -> str:  # fmt: skip
    """Return the outcome of all workers in sentences.

    Args:
        progress: by worker.
        failed: errors by worker.
        alive: all workers.
        width: of the text in columns.
    """
    rows = list(progress.values())
    ended = sum(one.ended for one in rows)
    total, warmed = sum(one.total for one in rows), sum(one.warmed for one in rows)
    lines = [f"{ended} of {count(len(alive), 'worker')} ended."]
    if total:
        took = duration(sum(one.seconds for one in rows) * 1000)
        loaded = count(warmed, "value was", "values were") if warmed else "No value was"
        lines.append(f"{loaded} loaded{f' in {took}' if warmed else ''}.")
    elif ended:
        lines.append(
            "There was nothing to load: no function has warm=True, or none was used often enough."
        )
    for name, text in (
        ("fresh", "cached already"), ("failed", "raised an error"), ("refused", "could not be cached"),
        ("left", "left for want of time or room"),
    ):  # fmt: skip
        calls = sum(getattr(one, name) for one in rows)
        if calls:
            lines.append(f"{number(calls)} {text}.")
    skipped = {name: reason for one in rows for name, reason in one.skipped.items()}
    lines += [f"{name} is not warmed: {reason}." for name, reason in sorted(skipped.items())]
    lines += [f"{worker}: {error}" for worker, error in failed.items()]
    return "\n".join(line for text in lines for line in wrap(plain(text), width))
